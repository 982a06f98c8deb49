"""Content identity: equal content has the same hash in every form, and different content has different hashes."""

from __future__ import annotations

import hashlib
import json
import struct
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from metering.intake.json_values import canonical_number
from tests.property.test_paths_agree import any_records, facts, typed_records
from tests.support.examples import examples
from tests.support.reading import SENT_AT_S, Desk, message, record
from tests.support.stage import admission

# A change to any of these needs a new version of the hash, because markers with the old version live for 50 days.
_KNOWN: dict[str, tuple[list[object], str]] = {
    "good": ([record()], "ea1f2f3e444fd2016f8306ff46b35fda17b556626f1bd51acf449740c2f7541a"),
    "two": (
        [record(), record(bytes=1, usage_type="X", start=0, end=SENT_AT_S)],
        "75dce9bd86513a9ca38fb3984c71262abffa7aa511b4de558f57a7971ea63c90",
    ),
    "bad": (
        [record(), {"bytes": 1.5, "start": "x", "from": [1]}, None, record(resource_id="\ud800")],
        "a60640b7d412a5f1ba3818abed4ff6891cf9d3a13f11d0b9297945d2ce66d89f",
    ),
}


def hash_of(records: list[Any], **changes: object) -> str:
    return str(Desk().read(message(records, **changes)).content_hash)


def by_the_book(records: list[dict[str, Any]]) -> str:
    """Second implementation of version 1, as specified in `metering.intake.records`, for strings, None and integers."""
    streams = [b""] * 8
    heads: list[bytes] = []

    def value(text: str | None, kind: int = 1) -> bytes:
        data = b"" if text is None else text.encode()
        return bytes([0 if text is None else kind]) + struct.pack("<I", len(data)) + data

    for position, each in enumerate(records):
        names = ("account_id", "service", "direction", "from", "to", "usage_type")
        head = b"".join(value(each.get(name)) for name in names)
        if head not in heads:
            heads.append(head)
            streams[0] += head
        streams[1] += struct.pack("<I", heads.index(head))
        resource_id = (each["resource_id"] or "").encode()
        streams[2] += struct.pack("<I", len(resource_id))
        streams[3] += resource_id
        if each["resource_id"] is None:
            streams[7] += struct.pack("<IB", position, 0) + value(None)
        for column, name, scale in ((1, "bytes", 1), (2, "start", 10**6), (3, "end", 10**6)):
            number = each[name]
            in_range = number is not None and (column == 1 or -62135596800 <= number <= 253402300799)
            streams[3 + column] += struct.pack("<q", number * scale if in_range else 0)
            if not in_range:
                text = None if number is None else canonical_number(str(number))
                streams[7] += struct.pack("<IB", position, column) + value(text, 2)
    whole = b"".join(hashlib.sha256(stream).digest() for stream in streams)
    return hashlib.sha256(b"metering.content/1\n" + struct.pack("<Q", len(records)) + whole).hexdigest()


@examples(100)
@given(st.lists(typed_records(), min_size=1, max_size=8))
def test_the_hash_is_what_its_specification_says(records: list[dict[str, Any]]) -> None:
    assert hash_of(records) == by_the_book(records)


@pytest.mark.parametrize("name", _KNOWN)
def test_the_hash_of_version_1_never_changes(name: str) -> None:
    records, expected = _KNOWN[name]
    assert hash_of(records) == expected


@examples(60)
@given(st.lists(typed_records(), min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_how_a_record_is_written_does_not_change_its_identity(records: list[dict[str, Any]], random: Any) -> None:
    desk = Desk()
    plain = facts(desk.read(message(records)))

    def rewritten(each: dict[str, Any]) -> str:
        pairs = list(each.items())
        random.shuffle(pairs)
        return "{ " + " ,\n".join(f"{escaped(name)} : {other(name, value)}" for name, value in pairs) + "}"

    def other(name: str, value: Any) -> str:
        if name == "bytes" and isinstance(value, int):
            return str(random.choice([str(value), f"{value}.0", f"{value}e0", f"{value}.000E+0"]))
        return escaped(value) if isinstance(value, str) else json.dumps(value)

    def escaped(text: str) -> str:
        return '"' + "".join(f"\\u{ord(c):04X}" if ord(c) < 0x10000 else json.dumps(c)[1:-1] for c in text) + '"'

    array = "[" + ",".join(map(rewritten, records)) + "]"
    body = json.dumps(message(records)).replace(json.dumps(records), array)
    assert facts(desk.read(body)) == plain


@pytest.mark.parametrize(("field", "one", "other"), [
    ("start", "2026-11-24T13:00:00Z", 1_795_525_200),
    ("start", "2026-11-24T13:00:00Z", "2026-11-24t15:00:00.0000009+02:00"),
    ("end", 1_795_525_500, 1795525500.0),
    ("bytes", 1000, 1e3),
    ("usage_type", None, ...),
    ("unknown", 1, {"a": []}),
])  # fmt: skip
def test_a_value_can_be_written_in_more_than_one_way(field: str, one: object, other: object) -> None:
    assert hash_of([record(**{field: one})]) == hash_of([record(**{field: other})])


@pytest.mark.parametrize(("field", "one", "other"), [
    ("account_id", "123456789012", 123456789012),
    ("account_id", "", None),
    ("bytes", 1, "1"),
    ("bytes", 2**63, 2**63 + 1),
    ("bytes", 1, True),
    ("bytes", 1.5, 1.25),
    ("start", "2026-11-24T13:00:00Z", "2026-11-24T13:00:00.000001Z"),
    ("start", "nonsense", "other nonsense"),
    ("resource_id", "\ud800", "\ud801"),
    ("resource_id", "\ud800", '"\\ud800"'),
    ("to", ["a", 1], ["a", 2]),
])  # fmt: skip
def test_other_values_are_other_content(field: str, one: object, other: object) -> None:
    assert hash_of([record(**{field: one})]) != hash_of([record(**{field: other})])


@examples(100)
@given(st.lists(any_records(), min_size=2, max_size=6), st.integers(0, 5))
def test_order_and_number_of_records_are_content(records: list[Any], place: int) -> None:
    place %= len(records)
    turned = records[place:] + records[:place]
    texts = [json.dumps(each, sort_keys=True) for each in records]
    assume(texts != [json.dumps(each, sort_keys=True) for each in turned])
    assume(len(set(texts)) == len(texts))
    assume(len({hash_of([each]) for each in records}) == len(records))
    assert hash_of(turned) != hash_of(records)
    assert hash_of(records[:-1]) != hash_of(records)


@examples(60)
@given(st.lists(typed_records(), min_size=1, max_size=4), st.integers(0, 3), st.data())
def test_a_change_of_any_field_is_other_content(records: list[dict[str, Any]], place: int, data: st.DataObject) -> None:
    place %= len(records)
    name = data.draw(st.sampled_from(sorted(record())))
    changed = [*records[:place], {**records[place], name: "another value"}, *records[place + 1 :]]
    assert hash_of(changed) != hash_of(records)


def test_neither_rules_nor_clock_nor_the_rest_of_the_message_are_content() -> None:
    records = [record(), record(bytes=-1), record(start=0, end=0)]
    desk = Desk()
    others: tuple[dict[str, Any], ...] = (
        {}, {"batch_id": "other", "source_id": ..., "sequence": ...}, {"record_count": 7},
    )  # fmt: skip
    answers = [desk.read(message(records, **other)) for other in others]
    rules = (admission(window_s=10**10), admission(floor_s=10**10))
    answers += [desk.read(message(records), admission=each) for each in rules]
    assert len({answer.content_hash for answer in answers}) == 1

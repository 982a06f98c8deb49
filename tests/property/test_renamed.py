"""If a message is sent under another id, only the bytes of its id change."""

from __future__ import annotations

import json
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from metering.intake.json_values import field_spans, replaced
from metering.quarantine.retries import original_of, renamed
from tests.support.reading import Desk

_SPACE = st.sampled_from(("", " ", "\n", "\t \r\n"))
_NUMBERS = st.sampled_from((
    "9007199254740993.0", "123456789012345678e0", "1e400", "-1e-400", "1E+2", "0.1", "-0", "NaN",
    "1e999999999999999999",
))  # fmt: skip
_STRINGS = st.text(max_size=8).map(json.dumps) | st.sampled_from(
    (r'"\u0062atch_id"', r'"\ud800"', '"\\\\"', r'"\""', '"}"', '"[{,:"', '"batch_id"', '"retry_of"', '"é😀"')
)
_VALUES = st.recursive(
    _NUMBERS | _STRINGS | st.sampled_from(("null", "true", "{}", "[]")),
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda each: f"[{', '.join(each)}]")
        | st.lists(st.tuples(_STRINGS, inner), max_size=3).map(lambda each: f"{{{','.join(map(':'.join, each))}}}")
    ),
    max_leaves=5,
)
_FIELDS = st.lists(st.tuples(_STRINGS, _VALUES, _SPACE), max_size=5)


def _object(fields: Sequence[tuple[str, str, str]]) -> str:
    return "{" + ",".join(f"{space}{name}{space}:{space}{value}{space}" for name, value, space in fields) + "}"


@given(fields=_FIELDS, before=_SPACE)
def test_the_spans_of_an_object_are_its_fields(fields: list[tuple[str, str, str]], before: str) -> None:
    text = before + _object(fields)
    expected = [(json.loads(name), value) for name, value, _ in fields]
    assert [(span.name, text[span.start : span.end]) for span in field_spans(text)] == expected
    assert replaced(" {}", {"a": "1"}) == ' {"a":1}', "a field of an empty object stands alone"


@given(fields=_FIELDS, place=st.integers(0, 5), again=st.booleans())
def test_only_what_is_said_of_the_id_changes(fields: list[tuple[str, str, str]], place: int, again: bool) -> None:
    ours = {"batch_id", "retry_of"}
    others = [field for field in fields if json.loads(field[0]) not in {*ours, "data", "specversion"}]
    message = [*others[:place], (r'"batch\u005fid"', '"old"', " "), *others[place:]]
    message += [('"batch_id"', '"old"', "")] if again else []
    for body in (_object(message), _object([('"specversion"', '"1.0"', ""), ('"data"', _object(message), "\n")])):
        new = renamed(body, "retry:1", retry_of="old")
        assert new is not None
        expected = body.replace('"old"', '"retry:1"')
        inner = expected.index("{", 1) if "specversion" in body else 0
        assert new == expected[: inner + 1] + '"retry_of":"old",' + expected[inner + 1 :]
        assert original_of(new, "retry:1") == "old"
        twice = renamed(new, "retry:2", retry_of=original_of(new, "retry:1"))
        assert twice == new.replace("retry:1", "retry:2")


@given(body=_VALUES)
def test_what_carries_no_id_has_none_to_change(body: str) -> None:
    assert renamed(body, "retry:1", retry_of="old") is None or "atch_id" in body
    assert original_of(body, "old") == "old" or "retry_of" in body


_RECORD = (
    '{"account_id":"123456789012","service":"AmazonEC2","resource_id":"i-é\\u0041","direction":"out",'
    '"from":"us-west-2","to":"internet","bytes":%s,"bytes":%s,"start":1795525200,"end":1795525200}'
)


@given(sizes=st.lists(st.tuples(_NUMBERS, _NUMBERS), min_size=1, max_size=3))
def test_the_content_of_a_message_is_the_same_under_another_id(sizes: list[tuple[str, str]]) -> None:
    records = ", ".join(_RECORD % pair for pair in sizes)
    body = f'{{"schema":"metering.batch/1","batch_id":"b","record_count":{len(sizes)}, "records":[{records}]}}'
    event = f'{{"specversion":"1.0","id":"1","source":"s","type":"t","data":{body}}}'
    for text in (body, event):
        new = renamed(text, "retry:1", retry_of="b")
        assert new is not None
        one, two = Desk().read(text), Desk().read(new)
        assert (two.batch_id, two.retry_of) == ("retry:1", "b")
        assert (one.content_hash, one.hash_version, one.records) == (two.content_hash, two.hash_version, two.records)
        assert getattr(one, "usage", None) == getattr(two, "usage", None)

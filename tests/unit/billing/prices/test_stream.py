"""JSON of any size is read member by member, within bounds."""

from __future__ import annotations

import io
import json
import tracemalloc
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.billing.documents import DocumentRefusedError
from metering.billing.prices import offer_files
from metering.billing.prices.offer_files import MOST_FILE_BYTES, JsonStream, Offer, read_prices
from metering.units import MIB
from tests.support.offer_files import offer

if TYPE_CHECKING:
    from pathlib import Path

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


def read(text: str) -> dict[str, object]:
    found = JsonStream(io.StringIO(text), "it")
    members = {name: found.value() for name in found.members()}
    found.end()
    return members


@given(
    members=st.dictionaries(st.text(), VALUES, max_size=6), indent=st.none() | st.integers(0, 3), size=st.integers(1, 9)
)
def test_a_text_is_read_as_a_whole_parser_reads_it_however_it_comes(
    members: dict[str, object], indent: int | None, size: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(offer_files, "CHUNK_CHARS", size)
        assert read(json.dumps(members, indent=indent)) == members


def test_a_number_at_the_end_of_a_part_goes_on_in_the_next_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offer_files, "CHUNK_CHARS", 7)
    assert read('{"a": 12345678901234567890 }') == {"a": 12345678901234567890}


@pytest.mark.parametrize(("text", "told"), [
    ('{"a": 1} {}', "something follows"),
    ('{"a": 1,}', "it is no JSON"),
    ('{"a": NaN}', "NaN is no number"),
    ('{"a" 1}', "':' is missing"),
    ('{1: 1}', "the name of a member is no text"),
    ('{"a": 1, "a": 2}', "the key 'a' stands twice"),
    ('{"a": {"b": 1, "b": 2}}', "the key 'b' stands twice"),
    ('{"a": ' + "[" * 100_000, "nested too deeply"),
    ('{"a": "' + "x" * 5_000_000, "one of its members has more than"),
])  # fmt: skip
def test_what_is_no_json_is_refused(text: str, told: str) -> None:
    with pytest.raises(DocumentRefusedError, match=told):
        read(text)


def test_an_object_of_too_many_members_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offer_files, "MOST_MEMBERS", 3)
    with pytest.raises(DocumentRefusedError, match="more than 3 members"):
        read('{"a": 1, "b": 2, "c": 3, "d": 4}')


def test_text_that_is_no_utf_8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "offer.json"
    path.write_bytes(b'{"offerCode": "\xff\xfe"}')
    with pytest.raises(DocumentRefusedError, match="UTF-8"):
        read_prices(path)


def test_a_file_above_the_limit_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "offer.json"
    with path.open("wb") as file:
        file.truncate(MOST_FILE_BYTES + 1)
    with pytest.raises(DocumentRefusedError, match="are read at most"):
        read_prices(path)


def test_what_nobody_uses_of_a_large_file_is_not_held(tmp_path: Path) -> None:
    content = offer("us-east-1")
    other = {"sku": "", "productFamily": "Storage", "attributes": {"usagetype": "TimedStorage-ByteHrs" * 100}}
    terms = content["terms"]["OnDemand"]
    terms |= {f"STORAGE{number:09d}": {"x": {"y": "z" * 1_000}} for number in range(3_000)}
    content["products"] |= {f"STORAGE{number:09d}": other for number in range(3_000)}
    path = tmp_path / "offer.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    assert path.stat().st_size > 8 * MIB
    tracemalloc.start()
    try:
        found = read_prices(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert isinstance(found, Offer)
    assert peak < 4 * MIB

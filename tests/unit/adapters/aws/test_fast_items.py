"""Items of a page that are decoded fast are those that are decoded one attribute after the other."""

from __future__ import annotations

import json
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.adapters.aws import item_attributes
from metering.adapters.aws.item_attributes import ITEM_VALUES, from_attributes, to_attributes
from metering.stores.writes import Foreign, Value

_take = item_attributes._take_items
_TEXTS = st.text(max_size=8) | st.sampled_from(["null", "true", "7", ""])
_VALUES = st.recursive(
    _TEXTS | st.booleans() | st.integers(-(10**37), 10**37) | st.frozensets(st.text(), min_size=1, max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


def taken(reply: bytes, status: int = 200) -> tuple[dict[str, object], dict[str, object]]:
    """What the decoder leaves to botocore, and what it decoded."""
    response = {"body": reply, "status_code": status}
    decoded: dict[str, object] = {}
    _take(cast("item_attributes._Response", response), decoded)
    return response, decoded


def updated(reply: bytes, status: int = 200) -> tuple[dict[str, object], dict[str, object]]:
    """The same of the reply to an update."""
    response = {"body": reply, "status_code": status}
    decoded: dict[str, object] = {}
    item_attributes._take_updated(cast("item_attributes._Response", response), decoded)
    return response, decoded


@given(st.lists(st.dictionaries(st.text(min_size=1, max_size=4), _VALUES, max_size=6), max_size=4))
def test_values_are_exactly_those_of_the_slow_way(items: list[dict[str, Value]]) -> None:
    attributes = [to_attributes(item) for item in items]
    reply = {"Items": attributes, "Count": len(items), "ScannedCount": 9, "LastEvaluatedKey": {"pk": {"S": "a"}}}
    response, decoded = taken(json.dumps(reply).encode())
    assert decoded == {item_attributes.ITEM_VALUES: [from_attributes(each) for each in attributes]}
    assert json.loads(cast("bytes", response["body"])) == {name: v for name, v in reply.items() if name != "Items"}


@pytest.mark.parametrize("text", ["1E+2", "9007199254740993.0", "-0", "12345678901234567890123456789012345678", "5E+0"])
def test_a_number_is_exact_however_it_is_written(text: str) -> None:
    _, decoded = taken(json.dumps({"Items": [{"n": {"N": text}}]}).encode())
    assert decoded[item_attributes.ITEM_VALUES] == [from_attributes({"n": {"N": text}})]


@pytest.mark.parametrize(
    "reply",
    [
        b"",
        b"[]",
        b"not JSON",
        b'{"Items": [{"pk": {"S": "a"}',
        b'{"Items": [{"pk": {"B": "YQ=="}}]}',
        b'{"Items": [{"pk": {"NULL": true}}]}',
        b'{"Items": [{"pk": {"N": 5}}]}',
        b'{"Items": [{"pk": "a"}]}',
        b'{"Items": [], "Unheard": 1}',
    ],
    ids=str,
)
def test_what_is_not_understood_is_left_to_botocore_whole(reply: bytes) -> None:
    response, decoded = taken(reply)
    assert (response["body"], decoded) == (reply, {})


def test_a_refusal_is_left_to_botocore() -> None:
    reply = b'{"Items": [{"pk": {"S": "a"}}]}'
    response, decoded = taken(reply, status=400)
    assert (response["body"], decoded) == (reply, {})


def test_a_number_that_is_no_whole_one_is_read_as_what_nobody_here_writes() -> None:
    _, decoded = taken(b'{"Items": [{"n": {"N": "1.5"}}]}')
    assert decoded == {ITEM_VALUES: [{"n": Foreign("N", "1.5")}]}


@given(st.dictionaries(st.text(min_size=1, max_size=4), _VALUES, max_size=6))
def test_an_updated_item_is_exactly_that_of_the_slow_way(item: dict[str, Value]) -> None:
    rest = {"ConsumedCapacity": {"TableName": "t", "CapacityUnits": 1.0}}
    response, decoded = updated(json.dumps({"Attributes": to_attributes(item), **rest}).encode())
    assert decoded == {item_attributes.ITEM_VALUES: [from_attributes(to_attributes(item))]}
    assert json.loads(cast("bytes", response["body"])) == rest


@pytest.mark.parametrize(
    ("reply", "status"),
    [
        (b"", 200),
        (b"{}", 200),
        (b'{"Attributes": {"pk": {"B": "YQ=="}}}', 200),
        (b'{"Attributes": {"pk": {"S": "a"}}, "Unheard": 1}', 200),
        (b'{"Attributes": {"pk": {"S": "a"}}}', 400),
    ],
    ids=str,
)
def test_an_update_that_is_not_understood_or_refused_is_left_to_botocore(reply: bytes, status: int) -> None:
    response, decoded = updated(reply, status)
    assert (response["body"], decoded) == (reply, {})

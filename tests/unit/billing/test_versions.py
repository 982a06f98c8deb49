"""Numbered documents are never replaced, and of two writers both are kept."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from metering.billing.documents import Numbered, NumberedDocuments
from metering.errors import ObjectMissingError
from tests.support.memory.clock import ManualClock
from tests.support.memory.objects import MemoryObjectStore

if TYPE_CHECKING:
    from pathlib import Path

Document = dict[str, object]


def store() -> tuple[MemoryObjectStore, NumberedDocuments]:
    objects = MemoryObjectStore(ManualClock(0))
    return objects, NumberedDocuments(objects, "prices/aws-list/")


def put(documents: NumberedDocuments, text: str) -> Numbered | None:
    return documents.append(lambda number, _newest: {"version": number, "text": text})


def test_versions_are_counted_from_one_and_the_newest_is_the_greatest_number() -> None:
    objects, documents = store()
    assert documents.newest() is None
    for number in range(1, 12):
        made = put(documents, str(number))
        assert made is not None
        assert made.number == number
    newest = documents.newest()
    assert newest is not None
    # As text, 9 would be greater than 11.
    assert (newest.number, json.loads(newest.body)["text"]) == (11, "11")
    assert documents.numbers() == list(range(1, 12))
    assert objects.keys("prices/")[0] == "prices/aws-list/1.json"


def test_the_bytes_are_canonical_and_the_digest_is_theirs() -> None:
    _, documents = store()
    made = documents.append(lambda _number, _newest: {"b": 1, "a": [1, "x"]})
    assert made is not None
    assert made.body == b'{"a":[1,"x"],"b":1}'
    assert len(made.sha256) == 64


def test_of_two_writers_at_once_the_second_one_makes_its_document_again_on_top_of_the_first() -> None:
    objects, documents = store()
    seen: list[int | None] = []

    def make(number: int, newest: Numbered | None) -> Document:
        seen.append(None if newest is None else newest.number)
        if len(seen) == 1:
            put(NumberedDocuments(objects, "prices/aws-list/"), "the other")
        return {"version": number, "text": "ours"}

    made = documents.append(make)
    assert made is not None
    assert (made.number, seen) == (2, [None, 1])
    assert [json.loads(documents.get(number).body)["text"] for number in (1, 2)] == ["the other", "ours"]


class SendingTwice(MemoryObjectStore):
    """The reply to each put is lost, and the same request is sent again: it is told that the object exists."""

    def put(self, key: str, body: bytes | Path, *, if_absent: bool) -> bool:
        super().put(key, body, if_absent=if_absent)
        return super().put(key, body, if_absent=if_absent)


def test_a_put_whose_reply_was_lost_is_not_written_twice() -> None:
    objects = SendingTwice(ManualClock(0))
    made = put(NumberedDocuments(objects, "prices/aws-list/"), "once")
    assert made is not None
    assert made.number == 1
    assert objects.keys() == ("prices/aws-list/1.json",)


def test_nothing_is_written_if_there_is_nothing_to_write() -> None:
    objects, documents = store()
    assert documents.append(lambda _number, _newest: None) is None
    put(documents, "one")
    same = documents.append(lambda _number, _newest: None)
    assert same is not None
    assert (same.number, len(objects.keys())) == (1, 1)


def test_other_objects_below_the_prefix_are_no_versions() -> None:
    objects, documents = store()
    for name in ("0.json", "01.json", "1.json.tmp", "x.json", "a/1.json"):
        objects.put(f"prices/aws-list/{name}", b"{}", if_absent=True)
    assert documents.numbers() == []
    with pytest.raises(ObjectMissingError):
        documents.get(1)

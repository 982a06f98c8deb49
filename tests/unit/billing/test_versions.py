"""Numbered documents are never replaced, and of two writers both are kept."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from metering.billing.documents import DocumentRefusedError, Numbered, NumberedDocuments, canonical, hour_of_text
from metering.billing.organization import OrganizationStore, organization_value, read_organization
from metering.errors import ObjectDamagedError, ObjectMissingError
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


# Who pays for whom: written and read back, in versions; what contradicts itself is refused with every problem.

ONE, TWO = "999988887777", "999988887778"
ACCOUNT = "111122223333"
JANUARY, JUNE = "2026-01-01T00:00:00Z", "2026-06-01T00:00:00Z"


def value(*accounts: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "payers": [{"id": ONE, "name": "Acme", "issuer": "Cloud"}, {"id": TWO, "name": "Zed", "issuer": "Cloud"}],
        "accounts": list(accounts),
        **more,
    }


def member(payer: str = ONE, begin: str = JANUARY, end: str | None = None, **more: Any) -> dict[str, Any]:
    return {"id": ACCOUNT, "payer": payer, "from": begin, "to": end, **more}


def body(content: dict[str, Any]) -> bytes:
    return json.dumps(content).encode()


def test_an_account_moves_from_one_payer_to_another_at_an_hour() -> None:
    read = read_organization(body(value(member(ONE, JANUARY, JUNE), member(TWO, JUNE, name="web"))), "it")
    june_s = hour_of_text(JUNE)
    assert [read.payer_of(ACCOUNT, june_s + offset) for offset in (-3600, 0, 3600)] == [ONE, TWO, TWO]
    assert read.payer_of(ACCOUNT, 0) == ACCOUNT
    assert read.names == {ACCOUNT: "web"}
    again = read_organization(canonical(organization_value(read)), "it")
    assert [again.payer_of(ACCOUNT, june_s + offset) for offset in (-3600, 0)] == [ONE, TWO]
    assert canonical(organization_value(again)) == canonical(organization_value(read))


@pytest.mark.parametrize(("content", "told"), [
    (value(member(ONE), member(TWO, JUNE)), "account 111122223333 has two payers, 999988887777 and 999988887778,"),
    (value(member(ONE, JUNE), member(TWO)), "has two payers"),
    (value(member(ONE), member(ONE, JUNE)), "has payer 999988887777 twice"),
    (value(member(ONE, JANUARY, JUNE), member(TWO, "2026-05-31T23:00:00Z")), "has two payers"),
    (value(member(id="11112222333")), "'11112222333' is no account id: it has 11 characters"),
    (value(member(id="11112222333x")), "is no account id"),
    (value(member(id="\uff11" * 12)), "is no account id"),
    (value(member(begin=JUNE, end=JANUARY)), "it ends at 2026-01-01T00:00:00Z, and begins at 2026-06-01T00:00:00Z"),
    (value(member(begin=JUNE, end=JUNE)), "it ends at"),
    (value(member("999988887779")), "payer 999988887779 of an account is not among the payers"),
    (value(member(begin="2026-01-01T00:30:00Z")), "no full hour"),
    (value(member(name="a"), member(begin=JUNE, name="b")), "has two names"),
    (value(payers=[{"id": ONE, "name": "A", "issuer": "B"}] * 2), "payer 999988887777 stands twice"),
    (value(payers=[{"id": "1", "name": "A", "issuer": "B"}]), "'1' is no account id"),
    (value(payers=[{"id": ONE, "name": "", "issuer": "B"}]), "name: string should have at least 1 character"),
    (value(payers=[{"id": ONE, "name": "A", "issuer": "B", "currency": "EUR"}]), "currency: input should be 'USD'"),
    (value(schema="metering.organization/2"), "schema"),
    (value(groups=[]), "groups: extra inputs are not permitted"),
    ({}, "payers: field required"),
])  # fmt: skip
def test_what_contradicts_itself_is_refused(content: dict[str, Any], told: str) -> None:
    with pytest.raises(DocumentRefusedError) as error:
        read_organization(body(content), "payers.json")
    assert told in "; ".join(error.value.problems)


def test_every_problem_is_named_at_once() -> None:
    content = value(member("999988887779"), member(id="1"), member(begin=JUNE, end=JANUARY, id="222222222222"))
    with pytest.raises(DocumentRefusedError) as error:
        read_organization(body(content), "payers.json")
    assert len(error.value.problems) == 3


def test_versions_are_kept_and_the_same_content_writes_nothing() -> None:
    objects = MemoryObjectStore(ManualClock(0))
    store = OrganizationStore(objects)
    assert (store.newest().version, store.newest().payer_of(ACCOUNT, 0)) == (0, ACCOUNT)
    one = store.put(read_organization(body(value(member())), "it"))
    same = store.put(read_organization(body(value(member())), "it"))
    two = store.put(read_organization(body(value()), "it"))
    assert (one.version, same, two.version, store.versions()) == (1, one, 2, [1, 2])
    assert store.get(1) == one
    assert store.get(0).payers == ()
    objects.put("organization/3.json", objects.get("organization/2.json"), if_absent=True)
    with pytest.raises(ObjectDamagedError, match="version 2"):
        store.newest()
    objects.put("organization/4.json", b"{}", if_absent=True)
    with pytest.raises(ObjectDamagedError):
        store.newest()

"""Price books and overrides in the bucket: immutable versions, the same content once, damage noticed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from metering.billing.documents import DocumentRefusedError
from metering.billing.prices.book import Override, PriceBook
from metering.billing.prices.store import OverrideStore, PriceStore, sample_book
from metering.errors import ObjectDamagedError, ObjectMissingError
from tests.support.memory.clock import ManualClock
from tests.support.memory.objects import MemoryObjectStore

PAYER = Override(payer="999988887777", percent_off=12_500, why="contract")


@pytest.fixture
def objects() -> MemoryObjectStore:
    return MemoryObjectStore(ManualClock(0))


def acme() -> PriceBook:
    return replace(sample_book(), name="acme", version=0, sha256="")


def test_a_book_gets_its_number_and_its_digest_when_it_is_written(objects: MemoryObjectStore) -> None:
    store = PriceStore(objects)
    assert store.newest("acme") is None
    one = store.put(acme())
    two = store.put(replace(acme(), products=acme().products[:1], allowances=()))
    assert (one.version, two.version) == (1, 2)
    assert store.newest("acme") == two
    assert store.get("acme", 1) == one
    assert one.sha256 != two.sha256
    assert one.by_sku == sample_book().by_sku
    assert objects.keys("prices/") == ("prices/acme/1.json", "prices/acme/2.json")


def test_the_same_content_again_writes_nothing(objects: MemoryObjectStore) -> None:
    store = PriceStore(objects)
    first = store.put(acme())
    assert store.put(replace(acme(), source={"kind": "elsewhere"})) == first
    assert store.versions("acme") == [1]


def test_names_are_those_of_books_and_not_of_overrides(objects: MemoryObjectStore) -> None:
    store = PriceStore(objects)
    store.put(acme())
    OverrideStore(objects).append(lambda _before: (PAYER,))
    assert store.names() == ["acme"]
    with pytest.raises(DocumentRefusedError):
        store.newest("overrides")
    with pytest.raises(DocumentRefusedError):
        store.newest("../organization")


def test_a_book_with_problems_is_never_written(objects: MemoryObjectStore) -> None:
    with pytest.raises(DocumentRefusedError, match="it has no products"):
        PriceStore(objects).put(replace(acme(), products=(), allowances=()))
    assert objects.keys() == ()


@pytest.mark.parametrize("body", [b"{}", b"", b"\x00", b'{"schema": "metering.prices/2"}'])
def test_an_object_that_is_no_book_is_damage(objects: MemoryObjectStore, body: bytes) -> None:
    objects.put("prices/acme/1.json", body, if_absent=True)
    with pytest.raises(ObjectDamagedError, match=r"prices/acme/1\.json"):
        PriceStore(objects).newest("acme")


def test_a_book_under_another_number_or_name_is_damage(objects: MemoryObjectStore) -> None:
    PriceStore(objects).put(acme())
    body = objects.get("prices/acme/1.json")
    for key in ("prices/acme/2.json", "prices/other/1.json"):
        objects.put(key, body, if_absent=True)
    with pytest.raises(ObjectDamagedError, match="version 1 of acme"):
        PriceStore(objects).get("acme", 2)
    with pytest.raises(ObjectDamagedError, match="version 1 of acme"):
        PriceStore(objects).get("other", 1)
    with pytest.raises(ObjectMissingError):
        PriceStore(objects).get("acme", 3)


def test_overrides_are_one_list_in_versions(objects: MemoryObjectStore) -> None:
    store = OverrideStore(objects)
    assert (store.newest().version, store.get(0).overrides) == (0, ())
    assert store.append(lambda _before: (PAYER,)).version == 1
    assert store.append(lambda before: before).version == 1
    other = replace(PAYER, payer="999988887778")
    assert store.append(lambda before: (*before, other)).overrides == (PAYER, other)
    assert store.get(1).overrides == (PAYER,)
    with pytest.raises(DocumentRefusedError, match="overlap"):
        store.append(lambda before: (*before, replace(PAYER, percent_off=1)))
    assert store.versions() == [1, 2]


@pytest.mark.parametrize("body", [b"{}", b'{"schema":"metering.overrides/1","version":7,"overrides":[]}'])
def test_an_object_that_holds_no_overrides_is_damage(objects: MemoryObjectStore, body: bytes) -> None:
    objects.put("prices/overrides/1.json", body, if_absent=True)
    with pytest.raises(ObjectDamagedError):
        OverrideStore(objects).newest()

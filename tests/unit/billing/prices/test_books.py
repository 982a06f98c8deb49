"""The document of a price book is written and read back; all problems of a document are named at once."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from metering.billing.documents import MOST_BYTES, DocumentRefusedError, canonical
from metering.billing.money import price_of
from metering.billing.prices.book import NotSold, Override, PriceBook, Product
from metering.billing.prices.document import book_value, problems_of, read_book
from metering.billing.prices.offer_files import Offer, read_prices
from metering.billing.prices.offers import imported
from metering.billing.prices.store import (
    OverrideStore,
    PriceStore,
    override_problems,
    overrides_value,
    read_overrides,
    sample_book,
    sample_versions,
)
from metering.billing.rating.payer_prices import find
from metering.billing.usage.months import Sold
from metering.errors import ObjectDamagedError, ObjectMissingError
from metering.units import HOUR_S
from tests.support import offer_files
from tests.support import sample_book as maker
from tests.support.memory.clock import ManualClock
from tests.support.memory.objects import MemoryObjectStore
from tests.support.priced import sold

if TYPE_CHECKING:
    from pathlib import Path


def value() -> dict[str, Any]:
    """A small book."""
    tiers = [
        {"to_gb": "10240", "price": "0.09", "rate": "AAAA1111.JRTCKXETXF.Q3Z75P77EN"},
        {"to_gb": None, "price": "0.085", "rate": "AAAA1111.JRTCKXETXF.VF6T3GAUKQ"},
    ]
    product = {
        "sku": "AAAA1111", "usage_type": "DataTransfer-Out-Bytes", "services": {"not": ["AmazonCloudFront"]},
        "transfer": "AWS Outbound", "from": "us-east-1", "to": "internet",
        "prices": [{"from": "2026-08-01T00:00:00Z", "tiers": tiers}],
    }  # fmt: skip
    allowance = {
        "id": "global", "gb": "100", "skus": ["AAAA1111"], "order": "dearest-first", "from": "2021-12-01T00:00:00Z",
        "rate": "A429C66SYZ.6YS6EN2CT7",
    }  # fmt: skip
    return {
        "schema": "metering.prices/1", "book": "acme", "version": 1, "currency": "USD", "unit_bytes": 1_073_741_824,
        "products": [product], "allowances": [allowance],
        "not_sold": [{"pattern": "C3DataTransfer-(In|Out)-Bytes", "why": "Free."}],
    }  # fmt: skip


def with_value(path: str, new: object) -> dict[str, Any]:
    made = copy.deepcopy(value())
    at: Any = made
    *names, last = [int(name) if name.isdigit() else name for name in path.split("/")]
    for name in names:
        at = at[name]
    at[last] = new
    return made


def problems(content: dict[str, Any] | bytes) -> tuple[str, ...]:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    with pytest.raises(DocumentRefusedError) as error:
        read_book(body, "book.json")
    return error.value.problems


def test_a_book_is_read_as_it_was_written(tmp_path: Path) -> None:
    offers = [read_prices(path) for path in offer_files.every_region(tmp_path)]
    book = imported(None, [each for each in offers if isinstance(each, Offer)], name="aws-list").book
    body = canonical(book_value(book))
    again = read_book(body, "it")
    assert again.by_sku == book.by_sku
    assert (again.allowances, again.not_sold, again.source) == (book.allowances, book.not_sold, book.source)
    assert canonical(book_value(again)) == body
    sample = canonical(book_value(sample_book()))
    assert canonical(book_value(read_book(sample, "it"))) == sample


TIERS = "products/0/prices/0/tiers"


@pytest.mark.parametrize(("content", "told"), [
    (with_value(f"{TIERS}/0/price", "NaN"), "'NaN' is not a price"),
    (with_value(f"{TIERS}/0/price", "1e400"), "'1e400' is not a price"),
    (with_value(f"{TIERS}/0/price", "-1"), "'-1' is not a price"),
    (with_value(f"{TIERS}/0/price", "0.12345678901"), "is not a price"),
    (with_value(f"{TIERS}/0/price", "9999999"), "a price lies outside of 0 to 1,000,000"),
    (with_value(f"{TIERS}/0/price", 0.09), "price: input should be a valid string"),
    (with_value(f"{TIERS}/0/to_gb", None), "a tier that is open is not the last one"),
    (with_value(f"{TIERS}/0/to_gb", "0"), "the tier from 0 GB ends at 0 GB"),
    (with_value(f"{TIERS}/1/to_gb", "5120"), "the tier from 10240 GB ends at 5120 GB"),
    (with_value(f"{TIERS}/1/to_gb", "20480"), "the last tier ends at 20480 GB, and has to be open"),
    (with_value(f"{TIERS}/1/rate", "AAAA1111.JRTCKXETXF.Q3Z75P77EN"), "stands twice in one list"),
    (with_value(f"{TIERS}/1/rate", "no rate"), "is no rate code"),
    (with_value(TIERS, []), "there is no tier"),
    (with_value("products/0/prices", []), "it has no prices"),
    (with_value("products/0/prices/0/from", "2026-08-01T00:00:01Z"), "no full hour"),
    (with_value("products/0/prices", value()["products"][0]["prices"] * 2), "do not follow each other in time"),
    (with_value("products", []), "it has no products"),
    (with_value("products", value()["products"] * 2), "product AAAA1111 stands twice in the book"),
    (with_value("products/0/sku", "lower-case"), "that is no SKU"),
    (with_value("products/0/services", {"only": ["A"], "not": ["B"]}), "either by `only` or by `not`"),
    (with_value("currency", "EUR"), "currency: input should be 'USD'"),
    (with_value("unit_bytes", 10**9), "unit_bytes: input should be 1073741824"),
    (with_value("schema", "metering.prices/9"), "schema: input should be 'metering.prices/1'"),
    (with_value("book", "overrides"), "'overrides' is not the name of a book"),
    (with_value("book", "../x"), "is not the name of a book"),
    (with_value("version", True), "version: input should be a valid integer"),
    (with_value("surprise", 1), "surprise: extra inputs are not permitted"),
    (with_value("allowances/0/skus", []), "it names no product"),
    (with_value("allowances/0/skus", ["AAAA1111", "ZZZZ9999"]), "products that are not in the book: ZZZZ9999"),
    (with_value("allowances/0/gb", "0"), "it gives nothing"),
    (with_value("allowances/0/to", "2021-12-01T00:00:00Z"), "it ends before it begins"),
    (with_value("allowances", [*value()["allowances"], {**value()["allowances"][0], "id": "two"}]),
     "allowances global and two apply to the same products"),
    (with_value("not_sold/0/pattern", "(a+)+b"), "is no pattern of usage types"),
    (with_value("not_sold/0/pattern", ".*" * 9), "is no pattern of usage types"),
    (with_value("not_sold/0/why", " "), "does not say why"),
    (b"{", "it is no JSON"),
    (b"\xff", "it is no JSON"),
    (b"[]", "it is no object"),
    (b'{"version": NaN}', "NaN is no number"),
    (b'{"a": 1, "a": 1}', "the key 'a' stands twice"),
    (b"[" * 200_000, "nested too deeply"),
    (b" " * (MOST_BYTES + 1), "are read at most"),
    (b'{"version": ' + b"9" * 6_000 + b"}", "it is no JSON"),
])  # fmt: skip
def test_what_is_wrong_with_a_book_is_named(content: dict[str, Any] | bytes, told: str) -> None:
    assert told in "; ".join(problems(content))


def test_every_problem_is_named_at_once() -> None:
    content = with_value(f"{TIERS}/0/to_gb", "20480")
    content["products"][0]["prices"][0]["tiers"][1] |= {"to_gb": "10240", "rate": "x"}
    content["allowances"][0]["skus"] = ["ZZZZ9999"]
    content["not_sold"][0]["why"] = ""
    assert len(problems(content)) == 5


def test_two_products_of_one_usage_type_are_refused_unless_their_services_differ() -> None:
    content = value()
    other = copy.deepcopy(content["products"][0])
    other |= {"sku": "BBBB2222", "services": {"only": ["AmazonCloudFront"]}}
    for tier in other["prices"][0]["tiers"]:
        tier["rate"] = tier["rate"].replace("AAAA1111", "BBBB2222")
    content["products"].append(other)
    assert len(read_book(json.dumps(content).encode(), "it").products) == 2
    other["services"] = {"only": ["AmazonCloudFront", "AmazonS3"]}
    assert "is two products for one service" in "; ".join(problems(content))


def test_a_rule_of_what_is_not_sold_may_name_alternatives() -> None:
    content = with_value("not_sold/0/pattern", "(Unclassified|X)-.*")
    assert read_book(json.dumps(content).encode(), "it").not_sold == (
        NotSold(pattern="(Unclassified|X)-.*", why="Free."),
    )


def test_a_long_list_of_problems_is_cut_in_the_sentence_and_kept_whole() -> None:
    many = [{**value()["products"][0], "sku": f"x{number}"} for number in range(100)]
    found = problems(with_value("products", many))
    assert len(found) > 100
    assert str(DocumentRefusedError("book.json", found)).endswith(f"and {len(found) - 40} more")


# Price books and overrides in the bucket: immutable versions, equal content stored once, damage detected.


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
    assert store.put(replace(acme(), source={"kind": "elsewhere"})) == one, "the same content again writes nothing"
    two = store.put(replace(acme(), products=acme().products[:1], allowances=()))
    assert (one.version, two.version, store.versions("acme")) == (1, 2, [1, 2])
    assert (store.get("acme", 1), store.newest("acme")) == (one, two)
    assert one.sha256 != two.sha256
    assert one.by_sku == sample_book().by_sku
    assert objects.keys("prices/") == ("prices/acme/1.json", "prices/acme/2.json")


def test_names_are_those_of_books_and_not_of_overrides(objects: MemoryObjectStore) -> None:
    store = PriceStore(objects)
    store.put(acme())
    OverrideStore(objects).append(lambda _before: (PAYER,))
    assert store.names() == ["acme"]
    for name in ("overrides", "../organization"):
        with pytest.raises(DocumentRefusedError):
            store.newest(name)


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
    for name, number in (("acme", 2), ("other", 1)):
        with pytest.raises(ObjectDamagedError, match="version 1 of acme"):
            PriceStore(objects).get(name, number)
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


# Overrides: written and read back, and refused if they contradict each other.


ACCOUNT = Override(account="111122223333", skus=frozenset({"AAAA1111"}), price=price_of("0.05"), from_s=0)


def test_overrides_are_read_as_they_were_written() -> None:
    every = (ACCOUNT, replace(PAYER, to_s=10 * HOUR_S), replace(PAYER, from_s=10 * HOUR_S, no_allowance=True))
    body = canonical(overrides_value(3, every))
    read = read_overrides(body, "it")
    assert set(read.overrides) == set(every)
    assert read.version == 3
    assert canonical(overrides_value(3, read.overrides)) == body


@pytest.mark.parametrize(("override", "told"), [
    (Override(percent_off=1), "it names one payer or one account"),
    (replace(PAYER, account="111122223333"), "it names one payer or one account"),
    (replace(PAYER, payer="99998888777"), "no account id of 12 digits"),
    (replace(PAYER, price=1), "either a price or a percentage"),
    (replace(PAYER, percent_off=None), "it changes nothing"),
    (replace(PAYER, percent_off=100_001), "a percentage lies from 0 to 100"),
    (replace(ACCOUNT, price=-1), "its price is negative"),
    (replace(PAYER, from_s=1), "full hours"),
    (replace(PAYER, to_s=0), "ends before it begins"),
])  # fmt: skip
def test_what_is_wrong_with_an_override_is_named(override: Override, told: str) -> None:
    assert told in "; ".join(override_problems([override]))


def test_two_of_one_rank_that_overlap_are_refused() -> None:
    later = replace(PAYER, from_s=10 * HOUR_S)
    assert "overlap" in override_problems([PAYER, later])[0]
    assert "overlap" in override_problems([PAYER, replace(later, skus=frozenset({"AAAA1111"}))])[0]
    assert override_problems([replace(PAYER, to_s=10 * HOUR_S), later]) == []
    assert override_problems([PAYER, replace(PAYER, payer="", account="999988887777")]) == []
    assert override_problems([replace(PAYER, skus=frozenset({"A"})), replace(PAYER, skus=frozenset({"B"}))]) == []


@pytest.mark.parametrize(("change", "told"), [
    ({"price": 0.05}, "valid string"),
    ({"price": "free"}, "'free' is not a price"),
    ({"percent_off": "120"}, "no percentage"),
    ({"from": "2026-11"}, "no full hour"),
    ({"because": "x"}, "extra inputs"),
])  # fmt: skip
def test_a_document_that_is_none_is_refused(change: dict[str, object], told: str) -> None:
    value = overrides_value(1, [PAYER])
    value["overrides"] = [{"payer": "999988887777", "from": "2026-11-01T00:00:00Z", "why": "", **change}]
    with pytest.raises(DocumentRefusedError, match=told):
        read_overrides(json.dumps(value).encode(), "it")


# The price book `sample`, compared with the bill lines that it is made from. Invoices pin a book by its digest.
FIRST_SHA256 = "41baa0a44498f470a87b0e1c059d540ebdffdeedf7ac082665d68b05b953220a"


def test_the_book_is_what_the_bill_lines_give() -> None:
    assert maker.BOOK.read_bytes() == maker.written(), "write it anew: python -m tests.support.sample_book"


def test_the_version_of_earlier_invoices_is_still_here_and_unchanged_and_no_version_has_a_problem() -> None:
    assert [problems_of(sample_book(version)) for version in sample_versions()] == [[], []]
    assert sample_versions() == [sample_book().version, 1]
    assert sample_book(1).sha256 == FIRST_SHA256
    assert sample_book(1).by_sku.items() < sample_book().by_sku.items()


def test_each_bill_line_finds_its_sku_and_the_book_has_its_rate_code() -> None:
    book = sample_book()
    free = {rate for allowance in book.allowances for rate in allowance.rate_codes.values()}
    lines = maker.bill_lines()
    assert len(lines) == 338
    for line in lines:
        product = find(book, Sold(line.service, line.usage_type))
        assert isinstance(product, Product), line
        assert product.sku == line.sku
        rates = {tier.rate_code for version in product.versions for tier in version.tiers}
        assert line.rate_code in rates | free


def test_what_is_free_elsewhere_is_not_sold_and_what_is_unknown_is_unpriced() -> None:
    unclassified = ("EUW2-Unclassified-Out-Bytes", "Unclassified-Regional-Bytes")
    for name in (*unclassified, "C3DataTransfer-In-Bytes", "xx-north-9-CloudFront-In-Bytes"):
        assert isinstance(find(sample_book(), sold(name)), NotSold)
    for unknown in (sold("EUW3-DataTransfer-Out-Bytes"), sold("DataTransfer-Out-Bytes", "AmazonCloudFront")):
        assert find(sample_book(), unknown) is None

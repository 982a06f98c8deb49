"""The document of a price book: written and read back, and every problem named at once."""

from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING, Any

import pytest

from metering.billing.documents import MOST_BYTES, DocumentRefusedError, canonical
from metering.billing.prices.book import NotSold
from metering.billing.prices.document import book_value, read_book
from metering.billing.prices.offer_files import Offer, read_prices
from metering.billing.prices.offers import imported
from metering.billing.prices.store import sample_book
from tests.support import offer_files

if TYPE_CHECKING:
    from pathlib import Path


def value() -> dict[str, Any]:
    """A small book."""
    return {
        "schema": "metering.prices/1",
        "book": "acme",
        "version": 1,
        "currency": "USD",
        "unit_bytes": 1_073_741_824,
        "products": [
            {
                "sku": "AAAA1111",
                "usage_type": "DataTransfer-Out-Bytes",
                "services": {"not": ["AmazonCloudFront"]},
                "transfer": "AWS Outbound",
                "from": "us-east-1",
                "to": "internet",
                "prices": [
                    {
                        "from": "2026-08-01T00:00:00Z",
                        "tiers": [
                            {"to_gb": "10240", "price": "0.09", "rate": "AAAA1111.JRTCKXETXF.Q3Z75P77EN"},
                            {"to_gb": None, "price": "0.085", "rate": "AAAA1111.JRTCKXETXF.VF6T3GAUKQ"},
                        ],
                    }
                ],
            },
        ],
        "allowances": [
            {
                "id": "global",
                "gb": "100",
                "skus": ["AAAA1111"],
                "order": "dearest-first",
                "from": "2021-12-01T00:00:00Z",
                "rate": "A429C66SYZ.6YS6EN2CT7",
            }
        ],
        "not_sold": [{"pattern": "C3DataTransfer-(In|Out)-Bytes", "why": "Free."}],
    }


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
    assert canonical(book_value(sample_book())) == canonical(
        book_value(read_book(canonical(book_value(sample_book())), "it"))
    )


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

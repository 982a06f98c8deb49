"""Offer files on top of the book in force: earlier prices stay, what is gone is gone, and every change is named."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from metering.billing.documents import DocumentRefusedError, hour_of_text
from metering.billing.money import price_of
from metering.billing.prices.difference import Change, Kind, difference, reprices_from
from metering.billing.prices.document import content_value
from metering.billing.prices.offer_files import Offer, read_prices
from metering.billing.prices.offers import imported
from metering.billing.rating.payer_prices import find
from metering.billing.usage.months import Sold
from metering.units import GIB
from metering.usage.totals import Service, UsageType
from tests.support.offer_files import GLOBAL_OUT, INTERNET_OUT, changed, edges, every_region, offer

if TYPE_CHECKING:
    from pathlib import Path

    from metering.billing.prices.book import PriceBook, Product

VIRGINIA, OREGON = INTERNET_OUT["us-east-1"][0], INTERNET_OUT["us-west-2"][0]
AUGUST_S, NOVEMBER_S = hour_of_text("2026-08-01T00:00:00Z"), hour_of_text("2026-11-01T00:00:00Z")
NOVEMBER = "2026-11-01T00:00:00Z"
LATER = "20261015000000"


@pytest.fixture
def book(tmp_path: Path) -> PriceBook:
    """All regions, from August on."""
    found = [read_prices(path) for path in every_region(tmp_path)]
    made = imported(None, [each for each in found if isinstance(each, Offer)], name="aws-list").book
    return replace(made, version=1)


def on_top(book: PriceBook, tmp_path: Path, *contents: dict[str, Any], **options: Any) -> PriceBook:
    offers = []
    for number, content in enumerate(contents):
        path = tmp_path / f"later-{number}.json"
        path.write_text(json.dumps(content), encoding="utf-8")
        found = read_prices(path)
        assert isinstance(found, Offer)
        offers.append(found)
    return imported(book, offers, name="aws-list", **options).book


def dearer(price: str = "0.1", *, begin: str = NOVEMBER) -> dict[str, Any]:
    """us-east-1, later, with another first price from November on."""
    content = offer("us-east-1", version=LATER)
    term = content["terms"]["OnDemand"][VIRGINIA][f"{VIRGINIA}.JRTCKXETXF"]
    term["effectiveDate"] = begin
    term["priceDimensions"][f"{VIRGINIA}.JRTCKXETXF.Q3Z75P77EN"]["pricePerUnit"]["USD"] = price
    return content


def first_price(product: Product, hour_s: int) -> int | None:
    version = product.version_at(hour_s)
    return None if version is None else version.first_price


def test_the_same_files_again_change_nothing(book: PriceBook, tmp_path: Path) -> None:
    again = on_top(book, tmp_path, *(offer(region, version=LATER) for region in INTERNET_OUT), edges(version=LATER))
    assert content_value(again) == content_value(book)
    assert difference(book, again) == []
    assert reprices_from(book, again) is None


def test_a_price_changes_from_its_hour_on_and_is_what_it_was_before(book: PriceBook, tmp_path: Path) -> None:
    after = on_top(book, tmp_path, dearer())
    product = after.by_sku[VIRGINIA]
    assert [first_price(product, hour) for hour in (AUGUST_S - 3600, NOVEMBER_S - 3600, NOVEMBER_S)] == [
        None, price_of("0.09"), price_of("0.1"),
    ]  # fmt: skip
    assert difference(book, after) == [
        Change(
            kind=Kind.CHANGED,
            subject=VIRGINIA,
            usage_type="DataTransfer-Out-Bytes",
            from_s=NOVEMBER_S,
            tier_gb="0 to 10240",
            old="0.0900000000",
            new="0.1000000000",
        )
    ]
    assert reprices_from(book, after) == NOVEMBER_S


def test_an_hour_given_by_a_person_is_when_the_change_begins(book: PriceBook, tmp_path: Path) -> None:
    after = on_top(book, tmp_path, dearer(begin="2026-08-01T00:00:00Z"), effective_s=NOVEMBER_S)
    assert reprices_from(book, after) == NOVEMBER_S
    # What is the same in both stays as it was.
    assert after.by_sku["PNUBVW4CPC8XA46W"] == book.by_sku["PNUBVW4CPC8XA46W"]
    assert after.allowances == book.allowances


def test_a_price_that_changes_where_it_held_already_reprices_from_then(book: PriceBook, tmp_path: Path) -> None:
    after = on_top(book, tmp_path, dearer(begin="2026-08-01T00:00:00Z"))
    assert len(after.by_sku[VIRGINIA].versions) == 1
    assert reprices_from(book, after) == AUGUST_S


def test_an_older_file_goes_before_what_is_known_and_does_not_replace_it(book: PriceBook, tmp_path: Path) -> None:
    after = on_top(book, tmp_path, dearer("0.11", begin="2026-01-01T00:00:00Z"))
    product = after.by_sku[VIRGINIA]
    assert [first_price(product, hour) for hour in (AUGUST_S - 3600, AUGUST_S)] == [price_of("0.11"), price_of("0.09")]
    # Nothing had a price then.
    assert reprices_from(book, after) is None


def test_versions_of_one_file_are_its_history_whatever_order_they_come_in(tmp_path: Path, book: PriceBook) -> None:
    newest = dearer("0.12", begin="2026-12-01T00:00:00Z")
    newest["version"] = "20261130000000"
    after = on_top(book, tmp_path, newest, dearer())
    prices = [version.first_price for version in after.by_sku[VIRGINIA].versions]
    assert prices == [price_of("0.09"), price_of("0.1"), price_of("0.12")]


def test_what_the_file_of_a_region_no_longer_has_is_gone_and_other_regions_stay(
    book: PriceBook, tmp_path: Path
) -> None:
    content = offer("us-east-1", version=LATER)
    for part in (content["products"], content["terms"]["OnDemand"]):
        del part["9MG5B7V4UUU2WPAV"]
    after = on_top(book, tmp_path, content)
    assert {*book.by_sku} - {*after.by_sku} == {"9MG5B7V4UUU2WPAV"}
    (gone,) = difference(book, after)
    assert (gone.kind, gone.subject, gone.usage_type, gone.new) == (
        Kind.GONE, "9MG5B7V4UUU2WPAV", "DataTransfer-In-Bytes", "",
    )  # fmt: skip
    assert find(after, Sold(Service("AmazonEC2"), UsageType("DataTransfer-In-Bytes"))) is None


def test_a_file_that_is_not_about_a_region_takes_nothing_of_it_away(book: PriceBook, tmp_path: Path) -> None:
    after = on_top(book, tmp_path, edges(version=LATER))
    assert after.by_sku.keys() == book.by_sku.keys()


def test_a_new_region_is_added_and_shares_the_allowance(book: PriceBook, tmp_path: Path) -> None:
    alone = imported(None, [offer_of(tmp_path, offer("us-east-1"))], name="aws-list").book
    after = on_top(alone, tmp_path, offer("us-west-2", version=LATER))
    assert set(after.allowances[0].skus) == {VIRGINIA, OREGON}
    assert {change.kind for change in difference(alone, after)} == {Kind.ADDED, Kind.CHANGED}
    assert reprices_from(alone, after) is None


def test_an_allowance_that_grows_holds_from_its_time_and_the_old_one_ends_there(
    book: PriceBook, tmp_path: Path
) -> None:
    content = offer("us-east-1", version=LATER)
    term = content["terms"]["OnDemand"][GLOBAL_OUT][f"{GLOBAL_OUT}.JRTCKXETXF"]
    term["effectiveDate"] = NOVEMBER
    next(iter(term["priceDimensions"].values()))["endRange"] = "200"
    after = on_top(book, tmp_path, content)
    found = {each.id: each for each in after.allowances}
    assert (found["global-internet-out"].bytes, found["global-internet-out"].to_s) == (100 * GIB, NOVEMBER_S)
    later = found["global-internet-out-from-2026-11-01"]
    assert (later.bytes, later.from_s, later.to_s) == (200 * GIB, NOVEMBER_S, None)
    assert set(later.skus) == set(book.allowances[0].skus)
    assert reprices_from(book, after) == NOVEMBER_S
    # It is the one that the next file changes.
    assert content_value(on_top(after, tmp_path, content)) == content_value(after)


def test_a_product_whose_file_takes_it_out_of_an_allowance_pays(book: PriceBook, tmp_path: Path) -> None:
    path = f"terms/OnDemand/{GLOBAL_OUT}/*/priceDimensions/*/appliesTo"
    after = on_top(book, tmp_path, changed(offer("us-east-1", version=LATER), path, [OREGON]))
    assert VIRGINIA not in after.allowances[0].skus
    assert reprices_from(book, after) == AUGUST_S


def test_problems_name_the_file_that_has_them(tmp_path: Path) -> None:
    wrong = changed(offer("us-east-1"), f"terms/OnDemand/{VIRGINIA}/*/priceDimensions/*/unit", "TB")
    paths = [tmp_path / "east.json", tmp_path / "west.json"]
    for path, content in zip(paths, (wrong, offer("us-west-2")), strict=True):
        path.write_text(json.dumps(content), encoding="utf-8")
    offers = [found for path in paths if isinstance(found := read_prices(path), Offer)]
    with pytest.raises(DocumentRefusedError) as error:
        imported(None, offers, name="aws-list")
    assert [problem.partition(":")[0] for problem in error.value.problems] == ["east.json"]


def test_everything_is_added_to_nothing(book: PriceBook) -> None:
    changes = difference(None, book)
    assert {change.kind for change in changes} == {Kind.ADDED}
    assert reprices_from(None, book) is None
    back = difference(book, replace(book, products=book.products[:1], allowances=(), not_sold=()))
    assert {change.kind for change in back} == {Kind.GONE}
    assert len(back) == len(book.products) - 1 + 2 + 3


def test_a_product_that_usage_finds_in_another_way_is_a_change(book: PriceBook) -> None:
    renamed = replace(book.by_sku[VIRGINIA], usage_type="DataTransfer-Out-ABytes")
    others = tuple(each for each in book.products if each.sku != VIRGINIA)
    (change,) = difference(book, replace(book, products=(*others, renamed)))
    assert (change.old, change.new) == ("DataTransfer-Out-Bytes", "DataTransfer-Out-ABytes")


def offer_of(tmp_path: Path, content: dict[str, Any]) -> Offer:
    path = tmp_path / "one.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    found = read_prices(path)
    assert isinstance(found, Offer)
    return found


def test_an_allowance_of_other_products_is_a_change_and_not_the_same_book_again(book: PriceBook) -> None:
    (free, *others) = book.allowances
    fewer = replace(free, skus=free.skus[:-1])
    other = replace(free, skus=free.skus[1:])
    was, now = (replace(book, allowances=(each, *others)) for each in (fewer, other))
    assert content_value(was) != content_value(now)
    (change,) = difference(was, now)
    assert change.old.endswith(free.skus[0]) or free.skus[0] in change.old
    assert free.skus[-1] in change.new
    ended, later = (replace(free, to_s=NOVEMBER_S + number * 3600) for number in (0, 1))
    (change,) = difference(*(replace(book, allowances=(each, *others)) for each in (ended, later)))
    assert (change.old[-20:], change.new[-20:]) == (NOVEMBER, "2026-11-01T01:00:00Z")


def test_a_new_allowance_and_another_service_price_what_was_used_before_anew(book: PriceBook) -> None:
    more = replace(book.allowances[0], id="more", from_s=AUGUST_S)
    assert reprices_from(book, replace(book, allowances=(*book.allowances, more))) == AUGUST_S
    product = book.by_sku[VIRGINIA]
    narrow = replace(product, services=replace(product.services, without=product.services.without | {"AmazonS3"}))
    products = tuple(narrow if each is product else each for each in book.products)
    assert reprices_from(book, replace(book, products=products)) == product.versions[0].from_s
    way = tuple(replace(each, to_location="elsewhere") if each is product else each for each in book.products)
    assert len(difference(book, replace(book, products=way))) == 1

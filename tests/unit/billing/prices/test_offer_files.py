"""AWS's offer files become products and allowances; every problem in a file is named."""

from __future__ import annotations

import io
import json
import tracemalloc
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from metering.billing.documents import DocumentRefusedError, hour_of_text
from metering.billing.money import price_of
from metering.billing.prices import offer_files as reader
from metering.billing.prices.book import NotSold, PriceBook, Product
from metering.billing.prices.difference import Change, Kind, difference, reprices_from
from metering.billing.prices.document import content_value
from metering.billing.prices.offer_files import MOST_FILE_BYTES, JsonStream, Offer, VersionIndex, read_prices
from metering.billing.prices.offers import imported
from metering.billing.rating.payer_prices import find
from metering.units import GIB, MIB
from tests.support import offer_files
from tests.support.offer_files import (
    EDGE_EU,
    EU_WEST_1,
    GLOBAL_OUT,
    INTERNET_OUT,
    changed,
    ec2,
    edges,
    offer,
    version_index,
    vpc,
    written,
)
from tests.support.priced import sold

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from metering.billing.prices.book import PriceBook

VIRGINIA = "HQEH3ZWJVT46JHRG"
DIMENSIONS = f"terms/OnDemand/{VIRGINIA}/*/priceDimensions"


def read(path: Path) -> Offer:
    found = read_prices(path)
    assert isinstance(found, Offer)
    return found


def book_of(paths: Sequence[Path], **options: Any) -> PriceBook:
    return imported(None, [read(path) for path in paths], name="aws-list", **options).book


def refused(folder: Path, content: dict[str, Any] | str) -> tuple[str, ...]:
    """Problems that are found when a file is read and imported into a price book."""
    path = folder / "us-east-1.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    with pytest.raises(DocumentRefusedError) as error:
        book_of([path])
    return error.value.problems


@pytest.fixture
def book(tmp_path: Path) -> PriceBook:
    return book_of(offer_files.every_region(tmp_path))


def product_of(book: PriceBook, usage_type: str, service: str = "AmazonEC2") -> Product:
    found = find(book, sold(usage_type, service))
    assert isinstance(found, Product), f"{usage_type} has no price"
    return found


def sku_of(book: PriceBook, service: str, usage_type: str) -> str:
    return product_of(book, usage_type, service).sku


def tiers_of(product: Product) -> list[tuple[int, int | None, int]]:
    """Begin, end (GB) and price of each tier in the first version."""
    tiers = product.versions[0].tiers
    return [(each.from_bytes // GIB, each.to_bytes and each.to_bytes // GIB, each.price) for each in tiers]


def test_tiers_are_those_of_the_ranges_in_their_order(book: PriceBook) -> None:
    tiers = book.by_sku[VIRGINIA].versions[0].tiers
    assert tiers_of(book.by_sku[VIRGINIA]) == [
        (0, 10240, price_of("0.09")), (10240, 51200, price_of("0.085")), (51200, 153600, price_of("0.07")),
        (153600, None, price_of("0.05")),
    ]  # fmt: skip
    assert [each.rate_code.rpartition(".")[2] for each in tiers] == [
        "Q3Z75P77EN", "VF6T3GAUKQ", "N9EW5UVVPA", "GPHXDESFBB",
    ]  # fmt: skip
    assert book.by_sku[VIRGINIA].versions[0].from_s == hour_of_text("2026-08-01T00:00:00Z")


def test_a_global_product_is_an_allowance_over_the_products_that_it_applies_to_and_no_price(book: PriceBook) -> None:
    internet = book.allowances[0]
    assert [(each.id, each.bytes) for each in book.allowances] == [
        ("global-internet-out", 100 * GIB),
        ("regional", GIB),
    ]
    assert set(internet.skus) == {sku for sku, _ in offer_files.INTERNET_OUT.values()}
    assert internet.rate_codes[VIRGINIA] == f"{VIRGINIA}.A429C66SYZ.6YS6EN2CT7"
    assert GLOBAL_OUT not in book.by_sku
    assert find(book, sold("Global-DataTransfer-Out-Bytes")) is None


def test_one_usage_type_is_two_products_by_its_service(book: PriceBook) -> None:
    assert sku_of(book, "AmazonEC2", "EU-DataTransfer-Out-Bytes") == EU_WEST_1
    assert sku_of(book, "AmazonS3", "EU-DataTransfer-Out-Bytes") == EU_WEST_1
    assert sku_of(book, "AmazonCloudFront", "EU-DataTransfer-Out-Bytes") == EDGE_EU
    assert EDGE_EU not in book.allowances[0].skus


def test_govcloud_is_a_pair_and_between_zones_is_a_product(book: PriceBook) -> None:
    assert sku_of(book, "AmazonEC2", "APS1-UGW1-AWS-Out-Bytes") == offer_files.GOVCLOUD_OUT
    assert sku_of(book, "AmazonEC2", "APS1-UGW1-AWS-In-Bytes") == offer_files.GOVCLOUD_IN
    assert sku_of(book, "AmazonEC2", "DataTransfer-Regional-Bytes") == "PNUBVW4CPC8XA46W"


def test_a_usage_type_is_found_as_a_whole_and_never_as_a_part(book: PriceBook) -> None:
    for name in ("APS2-DataTransfer-Out-Bytes", "DataTransfer-Out-Byte", "EUW2-APS1-UGW1-AWS-Out-Bytes"):
        assert find(book, sold(name)) is None
    assert isinstance(find(book, sold("APS2-C3DataTransfer-Out-Bytes")), NotSold)


def test_a_description_says_nothing(book: PriceBook) -> None:
    # The product names Stockholm, another price and another range.
    found = book.by_sku[offer_files.CAPE_TOWN]
    assert (found.usage_type, found.versions[0].tiers[0].price) == ("APS1-AFS1-AWS-Out-Bytes", price_of("0.09"))
    assert len(found.versions[0].tiers) == 1


def test_files_in_any_order_make_the_same_book(tmp_path: Path, book: PriceBook) -> None:
    again = book_of(offer_files.every_region(tmp_path)[::-1])
    assert (again.by_sku, again.allowances) == (book.by_sku, book.allowances)
    assert "HOURLYTHING00001" not in book.by_sku, "products of other families are ignored"


def test_of_products_of_one_usage_type_the_one_for_every_operation_counts(tmp_path: Path) -> None:
    content = offer("us-east-1")
    other = "RUNINSTANCESONLY"
    content["products"][other] = offer_files.product(other, "DataTransfer-Out-Bytes", operation="RunInstances")
    content["terms"]["OnDemand"][other] = offer_files.untiered(other, "0.01")
    made = imported(None, [read(written(tmp_path, one=content)[0])], name="aws-list")
    assert made.left_out == (other,)
    assert sku_of(made.book, "AmazonEC2", "DataTransfer-Out-Bytes") == VIRGINIA


def test_of_products_of_operations_with_the_same_prices_any_counts_and_with_others_none(tmp_path: Path) -> None:
    content = offer("us-east-1")
    names = {"INTERZONEIN00001": "InterZone-In", "INTERZONEOUT0001": "InterZone-Out"}
    for sku, operation in names.items():
        content["products"][sku] = offer_files.product(sku, "DataTransfer-Zones-Bytes", operation=operation)
        content["terms"]["OnDemand"][sku] = offer_files.untiered(sku, "0.01")
    made = imported(None, [read(written(tmp_path, one=content)[0])], name="aws-list")
    assert made.left_out == ("INTERZONEOUT0001",)
    assert sku_of(made.book, "AmazonEC2", "DataTransfer-Zones-Bytes") == "INTERZONEIN00001"
    content["terms"]["OnDemand"]["INTERZONEOUT0001"] = offer_files.untiered("INTERZONEOUT0001", "0.02")
    assert "is two products for one service" in "; ".join(refused(tmp_path, content))


def test_terms_may_come_before_products(tmp_path: Path) -> None:
    content = offer("us-east-1")
    turned = {name: content[name] for name in reversed(content)}
    assert [*turned].index("terms") < [*turned].index("products")
    one, other = written(tmp_path, one=content, other=turned)
    assert book_of([one]).by_sku == book_of([other]).by_sku


def test_an_hour_for_all_prices_replaces_those_of_the_file(tmp_path: Path) -> None:
    hour_s = hour_of_text("2026-12-01T00:00:00Z")
    made = book_of(offer_files.every_region(tmp_path), effective_s=hour_s)
    assert {version.from_s for product in made.products for version in product.versions} == {hour_s}
    assert {allowance.from_s for allowance in made.allowances} == {hour_s}


def test_a_version_index_is_known_by_what_it_has(tmp_path: Path) -> None:
    (path,) = written(tmp_path, index=version_index("20260701000000", offer_files.VERSION))
    found = read_prices(path)
    assert isinstance(found, VersionIndex)
    assert (found.code, found.current, len(found.versions)) == ("AWSDataTransfer", offer_files.VERSION, 2)


def with_dimension(number: int, name: str, value: object) -> dict[str, Any]:
    content = offer("us-east-1")
    dimensions = content["terms"]["OnDemand"][VIRGINIA][f"{VIRGINIA}.JRTCKXETXF"]["priceDimensions"]
    # The ranges are in descending order of price, so here the first range comes last.
    [*dimensions.values()][::-1][number][name] = value
    return content


@pytest.mark.parametrize(("content", "told"), [
    (with_dimension(1, "beginRange", "20480"), "there is a gap from 10240 to 20480 GB"),
    (with_dimension(1, "beginRange", "5120"), "tiers overlap from 5120 to 10240 GB"),
    (with_dimension(0, "beginRange", "1"), "the first tier begins at 1 GB, and not at 0"),
    (with_dimension(3, "endRange", "999999"), "the last tier ends at 999999 GB, and has to be open"),
    (with_dimension(0, "endRange", "Inf"), "a tier that is open is not the last one"),
    (with_dimension(0, "endRange", "NaN"), "'NaN' is no number of GB"),
    (with_dimension(0, "pricePerUnit", {"USD": "NaN"}), "'NaN' is not a price"),
    (with_dimension(0, "pricePerUnit", {"USD": "1e400"}), "'1e400' is not a price"),
    (with_dimension(0, "pricePerUnit", {"USD": "-0.09"}), "'-0.09' is not a price"),
    (with_dimension(0, "pricePerUnit", {"USD": "0.09000000001"}), "'0.09000000001' is not a price"),
    (with_dimension(0, "pricePerUnit", {"USD": 0.09}), "Expected `str`"),
    (with_dimension(0, "pricePerUnit", {"CNY": "0.9"}), "the price is in CNY, and not in USD"),
    (with_dimension(0, "pricePerUnit", {"USD": "0.1", "EUR": "0.1"}), "the price is in EUR, USD, and not in USD"),
    (with_dimension(0, "unit", "GB-Mo"), "the unit is 'GB-Mo', and not GB"),
    (with_dimension(0, "rateCode", f"{VIRGINIA}.JRTCKXETXF.VF6T3GAUKQ"), "stands twice in one list"),
    (with_dimension(0, "rateCode", "PNUBVW4CPC8XA46W.JRTCKXETXF.6YS6EN2CT7"), "stands at several products"),
    (changed(offer("us-east-1"), f"terms/OnDemand/{VIRGINIA}/*/effectiveDate", "2026-08-01T00:30:00Z"), "no full hour"),
    (changed(offer("us-east-1"), f"terms/OnDemand/{VIRGINIA}", {}), f"product {VIRGINIA}: it has no price on demand"),
    (changed(offer("us-east-1"), f"products/{VIRGINIA}/sku", "OTHER00000000000"), "it says that its SKU is OTHER"),
    (changed(offer("us-east-1"), f"terms/OnDemand/{GLOBAL_OUT}/*/priceDimensions/*/appliesTo", []),
     "appliesTo names no product"),
    (changed(offer("us-east-1"), f"terms/OnDemand/{GLOBAL_OUT}/*/priceDimensions/*/appliesTo", ["NOBODYKNOWSTHIS1"]),
     "allowances apply to 1 products that are in no file and no book, such as NOBODYKNOWSTHIS1"),
    (changed(offer("us-east-1"), f"terms/OnDemand/{GLOBAL_OUT}/*/priceDimensions/*/pricePerUnit", {"USD": "0.01"}),
     "it is not free from 0 to an end, and so no allowance"),
    (changed(offer("us-east-1"), f"products/{VIRGINIA}/attributes/usagetype", "DataTransfer-In-Bytes"),
     "usage type DataTransfer-In-Bytes is two products for one service"),
    (changed(offer("us-east-1"), "products", {}), "it has no products of the family Data Transfer"),
    (changed(offer("us-east-1"), "products", []), "it is no offer file: its products are no object"),
    (changed(offer("us-east-1"), "offerCode", "AmazonS3"), "it is the offer of AmazonS3"),
    (changed(offer("us-east-1"), "offerCode", "AmazonEC2"), "no products of the family NAT Gateway or Transit Gateway"),
    (changed(offer("us-east-1"), "version", "new"), "its version 'new' is no number"),
    ({"formatVersion": "v1.0", "offerCode": "AWSDataTransfer", "regions": {}}, "it is an index of offers"),
    ({"hello": "world"}, "it has no products and terms"),
    ("", "it is cut off"),
    ("[]", "'{' is missing"),
    ("\x00\x01", "'{' is missing"),
])  # fmt: skip
def test_what_is_wrong_with_a_file_is_named(tmp_path: Path, content: dict[str, Any] | str, told: str) -> None:
    assert told in "; ".join(refused(tmp_path, content))


def test_every_problem_is_named_at_once(tmp_path: Path) -> None:
    content = with_dimension(0, "unit", "TB")
    content = changed(content, f"terms/OnDemand/{VIRGINIA}/*/effectiveDate", "yesterday")
    content = changed(content, "terms/OnDemand/PNUBVW4CPC8XA46W/*/priceDimensions/*/pricePerUnit", {"USD": "free"})
    assert len(refused(tmp_path, content)) == 3


def test_a_file_that_is_cut_off_is_refused_wherever_it_ends(tmp_path: Path) -> None:
    text = json.dumps(edges())
    for length in range(0, len(text) - 1, 7):
        assert refused(tmp_path, text[:length])


@pytest.mark.parametrize("name", [VIRGINIA, "products", "productFamily", "beginRange", "USD"])
def test_a_key_that_stands_twice_is_refused_at_every_depth(tmp_path: Path, name: str) -> None:
    text = json.dumps(offer("us-east-1"))
    at = text.index(f'"{name}": ')
    doubled = f'{text[:at]}"{name}": null, {text[at:]}' if name != "products" else f'{text[:-1]}, "{name}": {{}}}}'
    assert f"the key '{name}' stands twice in one object" in "; ".join(refused(tmp_path, doubled))


def test_an_allowance_may_leave_out_unknown_products_if_a_person_says_so(tmp_path: Path) -> None:
    path = f"terms/OnDemand/{GLOBAL_OUT}/*/priceDimensions/*/appliesTo"
    content = changed(offer("us-east-1"), path, [VIRGINIA, "NOBODYKNOWSTHIS1"])
    made = imported(None, [read(written(tmp_path, one=content)[0])], name="aws-list", partial=True)
    assert made.unknown == ("NOBODYKNOWSTHIS1",)
    assert made.book.allowances[0].skus == (VIRGINIA,)


@pytest.fixture
def beside(tmp_path: Path) -> PriceBook:
    return book_of([*offer_files.every_region(tmp_path), *written(tmp_path / "beside", vpc=vpc(), ec2=ec2())])


@pytest.mark.parametrize(("usage_type", "price", "service"), [
    ("TransitGateway-Bytes", "0.02", "AmazonVPC"),
    ("NatGateway-Bytes", "0.045", "AmazonEC2"),
    ("RegionalNatGateway-Bytes", "0.045", "AmazonEC2"),
    ("VpcEndpoint-GWLBE-Bytes", "0.0035", "AmazonVPC"),
    ("VpcPeering-In-Bytes", "0.01", "AmazonVPC"),
    ("VpcPeering-Out-Bytes", "0.01", "AmazonVPC"),
])  # fmt: skip
def test_offers_of_vpc_and_ec2_have_what_is_billed_beside_the_transfer_without_a_prefix_of_us_east_1(
    beside: PriceBook, usage_type: str, price: str, service: str
) -> None:
    found = product_of(beside, usage_type, service)
    assert [tier.price for tier in found.versions[0].tiers] == [price_of(price)]
    assert (found.from_location, found.transfer in offer_files.NETWORK_FAMILIES) == ("us-east-1", True)


def test_interface_endpoints_have_the_tiers_of_their_region(beside: PriceBook) -> None:
    first, then = (1_048_576, price_of("0.01")), (5_242_880, price_of("0.006"))
    found = tiers_of(product_of(beside, "VpcEndpoint-Bytes", "AmazonVPC"))
    assert found == [(0, *first), (first[0], *then), (then[0], None, price_of("0.004"))]


def test_operations_that_are_free_leave_the_price_to_those_that_are_not_and_are_named(tmp_path: Path) -> None:
    made = imported(None, [read(written(tmp_path, vpc=vpc())[0])], name="aws-list")
    assert set(made.left_out) == {"TGWPEERING000001", "TGWVPN0000000001", "PEERINGINZONE001"}
    assert made.book.by_sku["TGWVPC0000000001"].usage_type == "TransitGateway-Bytes"


def test_what_an_import_does_not_read_of_these_families_or_counts_bytes_is_named(tmp_path: Path) -> None:
    made = imported(None, [read(path) for path in written(tmp_path, vpc=vpc(), ec2=ec2())], name="aws-list")
    hours = ("NatGateway-Hours", "TransitGateway-Hours", "VpcEndpoint-Hours")
    assert made.passed == tuple(sorted((*hours, "NatGateway-Prvd-Bytes", "VPCLattice-DataProcessed-Bytes")))
    assert "COMPUTE000000001" not in made.book.by_sku


def test_a_file_of_transfer_takes_nothing_away_that_is_billed_beside_it_nor_the_other_way_round(
    tmp_path: Path, beside: PriceBook
) -> None:
    later = "20261001000000"
    for content in (offer("us-east-1", version=later), vpc(version=later), ec2(version="20261002000000")):
        (path,) = written(tmp_path / "again", one=content)
        assert imported(beside, [read(path)], name="aws-list").book.by_sku.keys() == beside.by_sku.keys()
    without = vpc(version="20261003000000")
    del without["products"]["GWLBE00000000001"]
    (path,) = written(tmp_path / "again", one=without)
    gone = beside.by_sku.keys() - imported(beside, [read(path)], name="aws-list").book.by_sku.keys()
    assert gone == {"GWLBE00000000001"}


# Offer files are applied to the book in force: earlier prices stay, missing products end, and every change is listed.


OREGON = INTERNET_OUT["us-west-2"][0]
AUGUST_S, NOVEMBER_S = hour_of_text("2026-08-01T00:00:00Z"), hour_of_text("2026-11-01T00:00:00Z")
NOVEMBER = "2026-11-01T00:00:00Z"
LATER = "20261015000000"


def on_top(book: PriceBook, tmp_path: Path, *contents: dict[str, Any], **options: Any) -> PriceBook:
    paths = written(tmp_path / "later", **{f"later_{number}": content for number, content in enumerate(contents)})
    return imported(book, list(map(read, paths)), name="aws-list", **options).book


def dearer(price: str = "0.1", *, begin: str = NOVEMBER) -> dict[str, Any]:
    """A later offer file of us-east-1, with a different first-tier price from November on."""
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
    assert difference(book, after) == [Change(
        kind=Kind.CHANGED, subject=VIRGINIA, usage_type="DataTransfer-Out-Bytes", from_s=NOVEMBER_S,
        tier_gb="0 to 10240", old="0.0900000000", new="0.1000000000",
    )]  # fmt: skip
    assert reprices_from(book, after) == NOVEMBER_S


def test_an_hour_given_by_a_person_is_when_the_change_begins(book: PriceBook, tmp_path: Path) -> None:
    since_august = dearer(begin="2026-08-01T00:00:00Z")
    after = on_top(book, tmp_path, since_august)
    assert (len(after.by_sku[VIRGINIA].versions), reprices_from(book, after)) == (1, AUGUST_S)
    after = on_top(book, tmp_path, since_august, effective_s=NOVEMBER_S)
    assert reprices_from(book, after) == NOVEMBER_S
    # Products that are equal in both books stay unchanged.
    assert after.by_sku["PNUBVW4CPC8XA46W"] == book.by_sku["PNUBVW4CPC8XA46W"]
    assert after.allowances == book.allowances


def test_an_older_file_goes_before_what_is_known_and_does_not_replace_it(book: PriceBook, tmp_path: Path) -> None:
    after = on_top(book, tmp_path, dearer("0.11", begin="2026-01-01T00:00:00Z"))
    product = after.by_sku[VIRGINIA]
    assert [first_price(product, hour) for hour in (AUGUST_S - 3600, AUGUST_S)] == [price_of("0.11"), price_of("0.09")]
    # No product had a price before.
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
    assert find(after, sold("DataTransfer-In-Bytes")) is None
    # If a file is not about the region, it removes nothing from the region.
    assert on_top(book, tmp_path, edges(version=LATER)).by_sku.keys() == book.by_sku.keys()


def test_a_new_region_is_added_and_shares_the_allowance(book: PriceBook, tmp_path: Path) -> None:
    alone = imported(None, [read(written(tmp_path, one=offer("us-east-1"))[0])], name="aws-list").book
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
    # The next file changes this product.
    assert content_value(on_top(after, tmp_path, content)) == content_value(after)


def test_a_product_whose_file_takes_it_out_of_an_allowance_pays(book: PriceBook, tmp_path: Path) -> None:
    path = f"terms/OnDemand/{GLOBAL_OUT}/*/priceDimensions/*/appliesTo"
    after = on_top(book, tmp_path, changed(offer("us-east-1", version=LATER), path, [OREGON]))
    assert VIRGINIA not in after.allowances[0].skus
    assert reprices_from(book, after) == AUGUST_S


def test_problems_name_the_file_that_has_them(tmp_path: Path) -> None:
    wrong = changed(offer("us-east-1"), f"terms/OnDemand/{VIRGINIA}/*/priceDimensions/*/unit", "TB")
    offers = list(map(read, written(tmp_path, east=wrong, west=offer("us-west-2"))))
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


# JSON of any size is read one member at a time, within limits.


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


def read_json(text: str) -> dict[str, object]:
    found = JsonStream(io.StringIO(text), "it")
    members = {name: found.value() for name in found.members()}
    found.end()
    return members


@given(
    members=st.dictionaries(st.text(), VALUES, max_size=6), indent=st.none() | st.integers(0, 3), size=st.integers(1, 9)
)
@example(members={"a": 12345678901234567890}, indent=None, size=7)
def test_a_text_is_read_as_a_whole_parser_reads_it_however_it_comes(
    members: dict[str, object], indent: int | None, size: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reader, "CHUNK_CHARS", size)
        assert read_json(json.dumps(members, indent=indent)) == members


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
        read_json(text)


def test_an_object_of_too_many_members_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "MOST_MEMBERS", 3)
    with pytest.raises(DocumentRefusedError, match="more than 3 members"):
        read_json('{"a": 1, "b": 2, "c": 3, "d": 4}')


def test_text_that_is_no_utf_8_and_a_file_above_the_limit_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "offer.json"
    path.write_bytes(b'{"offerCode": "\xff\xfe"}')
    with pytest.raises(DocumentRefusedError, match="UTF-8"):
        read_prices(path)
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
    (path,) = written(tmp_path, one=content)
    assert path.stat().st_size > 8 * MIB
    tracemalloc.start()
    try:
        found = read_prices(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert isinstance(found, Offer)
    assert peak < 4 * MIB

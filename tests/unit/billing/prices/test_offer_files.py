"""Offer files of AWS become products and allowances; everything that is wrong with one is named."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from metering.billing.documents import DocumentRefusedError, hour_of_text
from metering.billing.money import price_of
from metering.billing.prices.book import NotSold, PriceBook, Product
from metering.billing.prices.offer_files import Offer, VersionIndex, read_prices
from metering.billing.prices.offers import imported
from metering.billing.rating.payer_prices import find
from metering.billing.usage.months import Sold
from metering.units import GIB
from metering.usage.totals import Service, UsageType
from tests.support import offer_files
from tests.support.offer_files import (
    EDGE_EU,
    EU_WEST_1,
    GLOBAL_OUT,
    changed,
    ec2,
    edges,
    offer,
    version_index,
    vpc,
    written,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

VIRGINIA = "HQEH3ZWJVT46JHRG"
DIMENSIONS = f"terms/OnDemand/{VIRGINIA}/*/priceDimensions"


def read(path: Path) -> Offer:
    found = read_prices(path)
    assert isinstance(found, Offer)
    return found


def book_of(paths: Sequence[Path], **options: Any) -> PriceBook:
    return imported(None, [read(path) for path in paths], name="aws-list", **options).book


def refused(folder: Path, content: dict[str, Any] | str) -> tuple[str, ...]:
    """Problems of a file, read and made a book of."""
    path = folder / "us-east-1.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    with pytest.raises(DocumentRefusedError) as error:
        book_of([path])
    return error.value.problems


@pytest.fixture
def book(tmp_path: Path) -> PriceBook:
    return book_of(offer_files.every_region(tmp_path))


def sku_of(book: PriceBook, service: str, usage_type: str) -> str:
    found = find(book, Sold(Service(service), UsageType(usage_type)))
    assert isinstance(found, Product), found
    return found.sku


def test_tiers_are_those_of_the_ranges_in_their_order(book: PriceBook) -> None:
    tiers = book.by_sku[VIRGINIA].versions[0].tiers
    assert [(each.from_bytes // GIB, each.to_bytes and each.to_bytes // GIB, each.price) for each in tiers] == [
        (0, 10240, price_of("0.09")),
        (10240, 51200, price_of("0.085")),
        (51200, 153600, price_of("0.07")),
        (153600, None, price_of("0.05")),
    ]
    assert [each.rate_code.rpartition(".")[2] for each in tiers] == [
        "Q3Z75P77EN", "VF6T3GAUKQ", "N9EW5UVVPA", "GPHXDESFBB",
    ]  # fmt: skip
    assert book.by_sku[VIRGINIA].versions[0].from_s == hour_of_text("2026-08-01T00:00:00Z")


def test_a_global_product_is_an_allowance_over_the_products_that_it_applies_to_and_no_price(book: PriceBook) -> None:
    internet, regional = book.allowances
    assert (internet.id, internet.bytes, regional.id, regional.bytes) == (
        "global-internet-out",
        100 * GIB,
        "regional",
        GIB,
    )
    assert set(internet.skus) == {sku for sku, _ in offer_files.INTERNET_OUT.values()}
    assert internet.rate_codes[VIRGINIA] == f"{VIRGINIA}.A429C66SYZ.6YS6EN2CT7"
    assert GLOBAL_OUT not in book.by_sku
    assert find(book, Sold(Service("AmazonEC2"), UsageType("Global-DataTransfer-Out-Bytes"))) is None


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
    assert find(book, Sold(Service("AmazonEC2"), UsageType("APS2-DataTransfer-Out-Bytes"))) is None
    assert find(book, Sold(Service("AmazonEC2"), UsageType("DataTransfer-Out-Byte"))) is None
    assert find(book, Sold(Service("AmazonEC2"), UsageType("EUW2-APS1-UGW1-AWS-Out-Bytes"))) is None
    assert isinstance(find(book, Sold(Service("AmazonEC2"), UsageType("APS2-C3DataTransfer-Out-Bytes"))), NotSold)


def test_a_description_says_nothing(book: PriceBook) -> None:
    # It names Stockholm, another price and another range.
    found = book.by_sku[offer_files.CAPE_TOWN]
    assert (found.usage_type, found.versions[0].tiers[0].price) == ("APS1-AFS1-AWS-Out-Bytes", price_of("0.09"))
    assert len(found.versions[0].tiers) == 1


def test_files_in_any_order_make_the_same_book(tmp_path: Path, book: PriceBook) -> None:
    paths = offer_files.every_region(tmp_path)
    again = book_of(paths[::-1])
    assert (again.by_sku, again.allowances) == (book.by_sku, book.allowances)


def test_products_of_other_families_and_fields_that_nobody_knows_are_ignored(book: PriceBook) -> None:
    assert "HOURLYTHING00001" not in book.by_sku


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
    # They are written from the dearest range down; the first one is the last here.
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
    value = text[at : text.index(":", at)]
    doubled = f"{text[:at]}{value}: null, {text[at:]}" if name not in {"products"} else f"{text[:-1]}, {value}: {{}}}}"
    assert f"the key '{name}' stands twice in one object" in "; ".join(refused(tmp_path, doubled))


def test_an_allowance_may_leave_out_unknown_products_if_a_person_says_so(tmp_path: Path) -> None:
    path = f"terms/OnDemand/{GLOBAL_OUT}/*/priceDimensions/*/appliesTo"
    content = changed(offer("us-east-1"), path, [VIRGINIA, "NOBODYKNOWSTHIS1"])
    made = imported(None, [read(written(tmp_path, one=content)[0])], name="aws-list", partial=True)
    assert made.unknown == ("NOBODYKNOWSTHIS1",)
    assert made.book.allowances[0].skus == (VIRGINIA,)


@pytest.fixture
def beside(tmp_path: Path) -> PriceBook:
    """What is billed beside the transfer, on top of all regions' transfer."""
    return book_of([*offer_files.every_region(tmp_path), *written(tmp_path / "beside", vpc=vpc(), ec2=ec2())])


@pytest.mark.parametrize(
    ("usage_type", "price", "service"),
    [
        ("TransitGateway-Bytes", "0.02", "AmazonVPC"),
        ("NatGateway-Bytes", "0.045", "AmazonEC2"),
        ("VpcEndpoint-GWLBE-Bytes", "0.0035", "AmazonVPC"),
        ("VpcPeering-In-Bytes", "0.01", "AmazonVPC"),
        ("VpcPeering-Out-Bytes", "0.01", "AmazonVPC"),
    ],
)
def test_offers_of_vpc_and_ec2_have_what_is_billed_beside_the_transfer_without_a_prefix_of_us_east_1(
    beside: PriceBook, usage_type: str, price: str, service: str
) -> None:
    found = find(beside, Sold(Service(service), UsageType(usage_type)))
    assert isinstance(found, Product), f"{usage_type} has no price"
    assert [tier.price for tier in found.versions[0].tiers] == [price_of(price)]
    assert (found.from_location, found.transfer in offer_files.NETWORK_FAMILIES) == ("us-east-1", True)


def test_interface_endpoints_have_the_tiers_of_their_region(beside: PriceBook) -> None:
    found = find(beside, Sold(Service("AmazonVPC"), UsageType("VpcEndpoint-Bytes")))
    assert isinstance(found, Product)
    assert [(each.from_bytes // GIB, each.to_bytes and each.to_bytes // GIB, each.price) for each in (
        found.versions[0].tiers
    )] == [
        (0, 1_048_576, price_of("0.01")),
        (1_048_576, 5_242_880, price_of("0.006")),
        (5_242_880, None, price_of("0.004")),
    ]  # fmt: skip


def test_operations_that_are_free_leave_the_price_to_those_that_are_not_and_are_named(tmp_path: Path) -> None:
    made = imported(None, [read(written(tmp_path, vpc=vpc())[0])], name="aws-list")
    assert set(made.left_out) == {"TGWPEERING000001", "TGWVPN0000000001", "PEERINGINZONE001"}
    assert made.book.by_sku["TGWVPC0000000001"].usage_type == "TransitGateway-Bytes"


def test_what_an_import_does_not_read_of_these_families_or_counts_bytes_is_named(tmp_path: Path) -> None:
    made = imported(None, [read(path) for path in written(tmp_path, vpc=vpc(), ec2=ec2())], name="aws-list")
    assert made.passed == (
        "NatGateway-Hours",
        "NatGateway-Prvd-Bytes",
        "TransitGateway-Hours",
        "VPCLattice-DataProcessed-Bytes",
        "VpcEndpoint-Hours",
    )
    assert "COMPUTE000000001" not in made.book.by_sku


def test_a_file_of_transfer_takes_nothing_away_that_is_billed_beside_it_nor_the_other_way_round(
    tmp_path: Path, beside: PriceBook
) -> None:
    for content in (
        offer("us-east-1", version="20261001000000"),
        vpc(version="20261001000000"),
        ec2(version="20261002000000"),
    ):
        (path,) = written(tmp_path / "again", one=content)
        assert imported(beside, [read(path)], name="aws-list").book.by_sku.keys() == beside.by_sku.keys()
    without = vpc(version="20261003000000")
    del without["products"]["GWLBE00000000001"]
    (path,) = written(tmp_path / "again", one=without)
    gone = beside.by_sku.keys() - imported(beside, [read(path)], name="aws-list").book.by_sku.keys()
    assert gone == {"GWLBE00000000001"}

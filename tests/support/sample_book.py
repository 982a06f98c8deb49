"""Makes the price book `sample` from real bill lines: `python -m tests.support.sample_book` writes it.

Facts that the lines lack are added here, with their source: later tiers, allowances, and what is not sold.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import NamedTuple

from metering.billing.documents import bytes_of_gb, canonical, hour_of_text
from metering.billing.money import price_of
from metering.billing.prices.book import NOT_SOLD, Allowance, PriceBook, PriceVersion, Product, Services, Tier
from metering.billing.prices.document import book_value, read_book
from metering.billing.prices.offers import FREE_RATE as FREE
from metering.replay.given import SAMPLE as RECORDS
from metering.usage.totals import Service, UsageType

LINES = RECORDS.parent
# A release with other prices increments this number.
SAMPLE_VERSION = 2
BOOK = Path("metering/billing/prices/sample/book.json")
# The month of the sample bills.
FROM_S = hour_of_text("2024-09-01T00:00:00Z")
ON_DEMAND = "JRTCKXETXF"
UNTIERED = "6YS6EN2CT7"

# AWS's price list of us-east-1, 2026-07-28. The SKU and the first two prices are the same as in the bill lines.
US_EAST_1 = (
    ("10240", "0.09", "Q3Z75P77EN"),
    ("51200", "0.085", "VF6T3GAUKQ"),
    ("153600", "0.07", "N9EW5UVVPA"),
    (None, "0.05", "GPHXDESFBB"),
)
# Both prices that occur in the bill lines. AWS has more tiers, but the lines do not show the prices of these tiers.
US_WEST_2 = (("10240", "0.09", "Q3Z75P77EN"), (None, "0.085", "VF6T3GAUKQ"))
# The bill lines of these regions are free. The first price of these regions comes from other lines of the same bills.
FIRST_PRICES = {"SAE1-DataTransfer-Out-Bytes": "0.15", "APS1-DataTransfer-Out-Bytes": "0.12"}
TIERS = {"DataTransfer-Out-Bytes": US_EAST_1, "USW2-DataTransfer-Out-Bytes": US_WEST_2}


# Charges in us-east-1 beyond the transfer itself. No available bill line has such charges. SKUs and prices come from
# secondary sources, which quoted the offers AmazonVPC and AmazonEC2 in 2025 and 2026. Rate codes of tiers are invented.
PEERING_S = hour_of_text("2025-04-01T00:00:00Z")
ENDPOINT_TIERS = (("1048576", "0.01", "Q3Z75P77EN"), ("5242880", "0.006", "VF6T3GAUKQ"), (None, "0.004", "N9EW5UVVPA"))
BESIDE = (
    ("59S5R83GFPUAGVR5", "NAT Gateway", "NatGateway-Bytes", FROM_S, ((None, "0.045", UNTIERED),)),
    ("7W9NVPG8YS74A6WC", "Transit Gateway", "TransitGateway-Bytes", FROM_S, ((None, "0.02", UNTIERED),)),
    ("DQYYEZBCWSW5XS2R", "VpcEndpoint", "VpcEndpoint-Bytes", FROM_S, ENDPOINT_TIERS),
    ("TT8R6YKCHQRWRPQH", "VPC Peering", "VpcPeering-In-Bytes", PEERING_S, ((None, "0.01", UNTIERED),)),
    ("UMGWBSQ7AD933J4M", "VPC Peering", "VpcPeering-Out-Bytes", PEERING_S, ((None, "0.01", UNTIERED),)),
    ("WJVJ7M2CHEBD98JZ", "VpcEndpoint", "VpcEndpoint-GWLBE-Bytes", FROM_S, ((None, "0.0035", UNTIERED),)),
)

Rows = tuple[tuple[str | None, str, str], ...]
"""End of a tier in GB, its price and its rate."""


class BillLine(NamedTuple):
    service: Service
    usage_type: UsageType
    price: str
    sku: str
    rate_code: str
    from_location: str
    to_location: str


def bill_lines() -> list[BillLine]:
    expected = _rows("expected_lines.csv")
    skus = _rows("sku_prices.csv")
    records = [json.loads(line) for line in RECORDS.read_text(encoding="utf-8").splitlines()]
    return [
        BillLine(
            service=Service(line["service"]),
            usage_type=UsageType(line["usage_type"]),
            price=line["list_unit_price_usd"],
            sku=sku["sku_id"],
            rate_code=sku["sku_price_id"],
            from_location=record["from"].partition("/")[0],
            to_location=record["to"].partition("/")[0],
        )
        for line, sku, record in zip(expected, skus, records, strict=True)
    ]


def made() -> PriceBook:
    lines = {line.sku: line for line in bill_lines()}
    found = [*map(_of_line, lines.values()), *(_product(*each) for each in BESIDE)]
    products = tuple(sorted(found, key=lambda each: each.sku))
    return PriceBook(
        name="sample",
        version=SAMPLE_VERSION,
        currency="USD",
        products=products,
        allowances=(
            _allowance("global-internet-out", "100", products, "DataTransfer-Out-Bytes"),
            _allowance("regional", "1", products, "DataTransfer-Regional-Bytes"),
        ),
        not_sold=NOT_SOLD,
        source={
            "kind": "bill-lines",
            "of": "FOCUS-Sample-Data, FOCUS-1.0/focus_sample.csv",
            "license": "CC BY 4.0",
            "link": "https://github.com/FinOps-Open-Cost-and-Usage-Spec/FOCUS-Sample-Data",
            "secondary": "gateways, endpoints and peering in us-east-1, as people noted them of AWS's offers in 2025 "
            "and 2026. An import of the offers AmazonVPC and AmazonEC2 replaces them.",
        },
    )


def _of_line(line: BillLine) -> Product:
    first = "Q3Z75P77EN" if line.usage_type.endswith("DataTransfer-Out-Bytes") else UNTIERED
    rows = TIERS.get(line.usage_type, ((None, FIRST_PRICES.get(line.usage_type, line.price), first),))
    return _product(line.sku, _transfer(line), line.usage_type, FROM_S, rows, line.from_location, line.to_location)


def _product(
    sku: str, transfer: str, usage_type: str, from_s: int, rows: Rows, origin: str = "us-east-1", target: str = ""
) -> Product:
    return Product(
        sku=sku,
        usage_type=usage_type,
        services=Services(without=frozenset({"AmazonCloudFront"})),
        transfer=transfer,
        from_location=origin,
        to_location=target,
        versions=(PriceVersion(from_s=from_s, tiers=_tiers_of(sku, rows)),),
    )


def _transfer(line: BillLine) -> str:
    way = "Inbound" if line.usage_type.endswith("-In-Bytes") else "Outbound"
    if line.from_location == line.to_location:
        return "IntraRegion"
    if "cloudfront" in line[-2:]:
        return f"CloudFront {way}"
    return f"AWS {way}" if "internet" in line[-2:] else f"InterRegion {way}"


def _tiers_of(sku: str, rows: Rows) -> tuple[Tier, ...]:
    begins = ("0", *(end for end, _, _ in rows if end is not None))
    return tuple(
        Tier(
            from_bytes=bytes_of_gb(begin),
            to_bytes=None if end is None else bytes_of_gb(end),
            price=price_of(tier_price),
            rate_code=f"{sku}.{ON_DEMAND}.{rate}",
        )
        for begin, (end, tier_price, rate) in zip(begins, rows, strict=True)
    )


def _allowance(name: str, gb: str, products: tuple[Product, ...], traffic: str) -> Allowance:
    skus = tuple(each.sku for each in products if each.usage_type.endswith(traffic))
    return Allowance(
        id=name,
        bytes=bytes_of_gb(gb),
        skus=skus,
        order="dearest-first",
        from_s=FROM_S,
        to_s=None,
        rate_codes={sku: f"{sku}.{FREE}" for sku in skus},
    )


def _rows(name: str) -> list[dict[str, str]]:
    with (LINES / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def written() -> bytes:
    """The price book's document, with one value per line for readable diffs."""
    body = canonical(book_value(made()))
    read_book(body, "sample")
    return json.dumps(json.loads(body), indent=1, ensure_ascii=False).encode() + b"\n"


if __name__ == "__main__":
    BOOK.write_bytes(written())

"""Acceptance by bills that AWS wrote: each line of them, through the price book that ships with the package.

The 338 lines are alone: the rest of their bills is not known. So the second test needs a fixture, which is the usage
before the first line: it takes the allowances and puts the tiers of two regions where AWS's own lines show them.
"""

from __future__ import annotations

import csv
from datetime import datetime
from pathlib import Path

import pytest

from metering.billing.invoices.composing import Tally
from metering.billing.money import (
    cents_of,
    exact_text,
    line_cost,
    price_of,
    rounded,
    usd_text,
)
from metering.billing.organization import Membership, Organization, Payer
from metering.billing.prices.book import Product
from metering.billing.prices.store import sample_book
from metering.billing.rating.lines import PriceState, RatedLine
from metering.billing.rating.payer_prices import PayerPrices, find
from metering.billing.rating.rater import rated_month
from metering.billing.usage.months import MonthUsage, Sold, UsageLine
from metering.hours import hour_label
from metering.replay.given import BilledLine, billed_lines
from metering.units import GIB, HOUR_S
from metering.usage.totals import Service, UsageType
from tests.support.month_usage import MemoryMonth
from tests.support.priced import allowance, book, gb, product

PAYER = "999999999999"
# Made-up usage of the same payer, before and beside the lines.
REST = "888888888888"
MONTH = "2024-09"
BEGIN_S = 1_725_148_800
MAY_BILL = Path(__file__).parents[2] / "support" / "may_bill.csv"
TIER_1_BYTES = 10_240 * GIB


def _epoch(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp())


def usage_of(billed: BilledLine) -> UsageLine:
    return UsageLine(*billed[:7])


LINES = billed_lines()


def test_each_of_338_lines_has_its_sku_its_rate_code_its_quantity_and_its_cost_to_the_last_digit() -> None:
    prices = sample_book()
    of_rate = {tier.rate_code: tier.price for each in prices.products for tier in each.versions[0].tiers}
    of_rate |= {code: 0 for each in prices.allowances for code in each.rate_codes.values()}
    right = 0
    for billed in LINES:
        line = usage_of(billed)
        found = find(prices, Sold(line.service, line.usage_type))
        assert isinstance(found, Product)
        assert found.sku == billed.sku
        price = of_rate[billed.rate_code]
        as_rated = RatedLine(line, PriceState.PRICED, billed.sku, billed.rate_code, price, price)
        assert (price, as_rated.quantity, as_rated.cost) == (billed.price, billed.quantity, billed.cost), billed
        right += 1
    assert right == 338
    assert usd_text(sum(each.cost for each in LINES)) == "0.3513825829"


def test_the_walk_has_337_of_338_and_the_other_one_is_where_aws_contradicts_the_order_of_time() -> None:
    rated = _rated(_the_rest_of_the_bill())
    wrong = [each for each in LINES if rated[each[:6]].rate_code != each.rate_code]
    for each in LINES:
        if each not in wrong:
            mine = rated[each[:6]]
            assert (mine.price, line_cost(each.bytes, mine.price)) == (each.price, each.cost)

    [inversion] = wrong
    # Billed at the second tier, although later lines of the day are in the first.
    assert usage_of(inversion) == UsageLine(
        _epoch("2024-09-17T12:00:00Z"),
        "614106099415",
        Service("AWSELB"),
        UsageType("USW2-DataTransfer-Out-Bytes"),
        "us-west-2",
        "internet",
        1_355,
    )
    assert (inversion.price, rated[inversion[:6]].price) == (price_of("0.085"), price_of("0.09"))
    after = [each for each in LINES if each.sku == inversion.sku and each > inversion]
    later = [each for each in after if each.price == price_of("0.09")]
    assert sorted(hour_label(each.hour_s) for each in later) == ["2024-09-17T13", "2024-09-17T17"]


def test_free_lines_lie_in_the_dearest_regions_of_the_bill() -> None:
    rated = _rated(_the_rest_of_the_bill())
    free = {each.usage_type for each in LINES if rated[each[:6]].allowance == "global-internet-out"}
    assert free == {"SAE1-DataTransfer-Out-Bytes", "APS1-DataTransfer-Out-Bytes"}


def test_alone_the_lines_lie_within_the_allowances() -> None:
    rated = _rated([])
    internet = [each for each in LINES if "AWS Outbound" in _transfer(each.sku)]
    assert {rated[each[:6]].allowance for each in internet} == {"global-internet-out"}
    assert sum(each.bytes for each in internet) < 100 * GIB
    # What is left of them are pairs of regions.
    assert usd_text(rounded(sum(each.exact for each in rated.values()))) == "0.0018380688"


def test_a_bill_of_aws_is_the_sum_of_the_cents_of_its_lines_and_so_is_an_invoice() -> None:
    tally = Tally()
    tally.add("2025-05", _may_bill())
    [lines, corrections] = tally.lines("2025-05")
    assert corrections == ()
    assert len(lines) == 18 + 2  # what is free stands on lines of its own
    assert usd_text(sum(line.cents for line in lines), decimals=2) == "3.83"
    assert usd_text(cents_of(sum(line.exact for line in lines)), decimals=2) == "3.84"


@pytest.mark.parametrize(
    ("usage", "steps", "allowed_gb", "total"),
    [
        # Amazon S3 FAQ: 31 TB from EC2 and 31 TB from S3; the first GB is free inside the first tier.
        (
            (("AmazonEC2", "31744"), ("AmazonS3", "31744")),
            (("1", "0"), ("10240", "0.09"), ("51200", "0.085"), ("153600", "0.07"), (None, "0.05")),
            "",
            "5263.27",
        ),
        # Volume discounts: Bob 8 TB, Susan 4 TB; 0.17 up to 10 TB, then 0.13.
        ((("AmazonEC2", "8192"), ("AmazonS3", "4096")), (("10240", "0.17"), (None, "0.13")), "", "2007.04"),
        # Blended rates: 95,000 GB; 0.10 up to 1,000, 0.08 up to 50,000, then 0.06.
        ((("AmazonEC2", "95000"),), (("1000", "0.10"), ("50000", "0.08"), (None, "0.06")), "", "6720.00"),
        # Sao Paulo: 500 GB at 0.15, of which 100 are free.
        ((("AmazonEC2", "500"),), ((None, "0.15"),), "100", "60.00"),
    ],
    ids=["s3-faq", "bob-and-susan", "con-bill", "sao-paulo"],
)
def test_worked_examples_of_aws_cost_what_aws_says(
    usage: tuple[tuple[str, str], ...],
    steps: tuple[tuple[str | None, str], ...],
    allowed_gb: str,
    total: str,
) -> None:
    prices = book([product("X", "X-Out", steps)], *([allowance(allowed_gb, "X")] if allowed_gb else []))
    lines = [
        UsageLine(BEGIN_S, PAYER, Service(service), UsageType("X-Out"), "x", "internet", gb(size))
        for service, size in usage
    ]
    of_payer = PayerPrices(prices, PAYER)
    month = _month(lines).of(PAYER)
    assert exact_text(sum(each.exact for each in rated_month(of_payer, month))) == total


def _rated(rest: list[UsageLine]) -> dict[tuple[object, ...], RatedLine]:
    """The line of each key and hour, rated; none of the bill's is cut."""
    usage = _month([*map(usage_of, LINES), *rest]).of(PAYER)
    found: dict[tuple[object, ...], RatedLine] = {}
    for each in rated_month(PayerPrices(sample_book(), PAYER), usage):
        assert each.line.account_id == REST or each.line[:6] not in found
        found[each.line[:6]] = each
    return found


def _the_rest_of_the_bill() -> list[UsageLine]:
    """Usage that takes the allowances, and that lets the first tier end where AWS's lines show it."""

    def used(usage_type: str, size: int, hour_s: int, peer: str) -> UsageLine:
        return UsageLine(hour_s, REST, Service("AmazonEC2"), UsageType(usage_type), "region", peer, size)

    last_s = BEGIN_S + 30 * 24 * HOUR_S - HOUR_S
    # 100 GB of a dear region at the end of the month: its earlier lines are free, and cheaper regions get nothing.
    internet = used("APS1-DataTransfer-Out-Bytes", 100 * GIB, last_s, "internet")
    # The free GB between zones goes to the first SKU, and all regions have one price.
    regional = min((each for each in LINES if "Regional" in each.usage_type), key=lambda each: each.sku)
    between = used(regional.usage_type, GIB, BEGIN_S, "zone")
    walked = []
    for usage_type, last_in_tier_1 in (
        ("USW2-DataTransfer-Out-Bytes", "2024-09-17T17:00:00Z"),
        ("DataTransfer-Out-Bytes", "2024-09-10T22:00:00Z"),
    ):
        end_s = _epoch(last_in_tier_1)
        of_region = [each for each in LINES if each.usage_type == usage_type]
        before = sum(line.bytes for line in of_region if line.hour_s <= end_s)
        walked.append(used(usage_type, TIER_1_BYTES - before, BEGIN_S, "internet"))
    return [internet, between, *walked]


def _may_bill() -> list[RatedLine]:
    """The 18 lines of May 2025 with a price, and what was free beside them, rated."""
    bill = list(csv.DictReader(MAY_BILL.read_text(encoding="utf-8").splitlines()))
    sold = [product(row["usage_type"], row["usage_type"], [(None, row["unit_price_usd"])]) for row in bill]
    internet, regional = "APS1-DataTransfer-Out-Bytes", "APS1-DataTransfer-Regional-Bytes"
    prices = book(
        [*sold, product("internet", internet, [(None, "0.12")])],
        allowance("100", "internet", name="internet"),
        allowance("1", regional, name="regional"),
    )
    sizes = {row["usage_type"]: gb(row["quantity_gb"]) for row in bill}
    sizes[regional] += gb("1")
    sizes[internet] = gb("12.429")
    usage = [
        UsageLine(BEGIN_S, PAYER, Service("AmazonEC2"), UsageType(name), "ap-southeast-1", "", size)
        for name, size in sizes.items()
    ]
    return list(rated_month(PayerPrices(prices, PAYER), _month(usage).of(PAYER)))


def _month(usage: list[UsageLine]) -> MonthUsage:
    accounts = sorted({line.account_id for line in usage})
    members = tuple(Membership(account_id, 0, None) for account_id in accounts)
    payer = Payer(payer_id=PAYER, name="Example", issuer="metering", members=members)
    region = MemoryMonth(month=MONTH, usage=tuple(usage))
    return MonthUsage(regions=[region], month=MONTH, organization=Organization(payers=(payer,)))


def _transfer(sku: str) -> str:
    return sample_book().by_sku[sku].transfer

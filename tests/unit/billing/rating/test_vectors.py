"""Cases with known results: examples of AWS's pages, lines of real bills, and corner cases of the rules.

A case's price book is us-east-1's internet egress with 100 GB free, unless stated otherwise."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

import pytest

from metering.billing.invoices.composing import Tally
from metering.billing.money import cents_of, exact_text, line_cost, price_of, quantity_of, rounded, usd_text
from metering.billing.payers import Membership, Organization, Payer
from metering.billing.prices.book import NotSold, PriceBook, Product, Services
from metering.billing.prices.store import sample_book
from metering.billing.rating.corrections import corrected
from metering.billing.rating.payer_prices import PayerPrices, PriceState, RatedLine, find
from metering.billing.rating.rater import positions, rated_month
from metering.billing.usage.months import MonthUsage, UsageLine
from metering.hours import hour_label
from metering.replay.given import BilledLine, billed_lines
from metering.units import GIB, HOUR_S
from metering.usage.totals import Service, UsageType
from tests.support.priced import (
    BEGIN_S,
    US_TIERS,
    ListedUsage,
    MemoryMonth,
    allowance,
    book,
    gb,
    paid_by,
    product,
    usd,
    used,
)

PAYER = "999999999999"
SUSAN = "222222222222"
C = "333333333333"
OUT = "DataTransfer-Out-Bytes"
US = product("US", OUT, US_TIERS)
SINGAPORE = product("APS1", "APS1-DataTransfer-Out-Bytes", [(None, "0.12")])
SAO_PAULO = product("SAE1", "SAE1-DataTransfer-Out-Bytes", [(None, "0.15")])
FREE = allowance("100", "US", "APS1", "SAE1")
BOOK = book([US, SINGAPORE, SAO_PAULO], FREE)
PAID = book([US])
TB = 1024
MAY_BILL = Path(__file__).parents[3] / "support" / "may_bill.csv"
"""Priced data-transfer lines of one whole bill of AWS, of May 2025: quantities as they are printed."""


def rated(prices: PriceBook, *lines: UsageLine) -> list[RatedLine]:
    """Rated lines of a month."""
    usage = ListedUsage(lines)
    return list(rated_month(PayerPrices(prices, PAYER), usage))


def total(lines: Iterable[RatedLine]) -> str:
    return exact_text(sum(each.exact for each in lines))


def of_account(lines: Iterable[RatedLine], account: str) -> str:
    return total(each for each in lines if each.line.account_id == account)


def parts(lines: Iterable[RatedLine]) -> list[tuple[int, int, str]]:
    """Bytes, price and allowance of each line."""
    return [(each.line.bytes, each.price, each.allowance) for each in lines]


def test_1_the_s3_faq_adds_services_of_a_region_and_has_a_free_gb_inside_the_first_tier() -> None:
    old_book = book([product("US", OUT, [("1", "0"), *US_TIERS])])
    lines = rated(old_book, used(gb(str(31 * TB)), service="AmazonEC2"), used(gb(str(31 * TB)), service="AmazonS3"))
    by_price: dict[int, int] = defaultdict(int)
    for each in lines:
        by_price[each.price] += each.exact
    found = [exact_text(by_price[price_of(price)]) for price in ("0.09", "0.085", "0.07")]
    assert found == ["921.51", "3481.60", "860.16"]
    assert total(lines) == "5263.27"


def test_2_volume_discounts_are_those_of_bob_and_susan_together_and_first_come_first_served() -> None:
    prices = book([product("US", OUT, [(str(10 * TB), "0.17"), (None, "0.13")])])
    bob, susan = used(gb(str(8 * TB))), used(gb(str(4 * TB)), 1, account=SUSAN)
    lines = rated(prices, bob, susan)
    assert total(lines) == "2007.04"
    assert (of_account(lines, bob.account_id), of_account(lines, SUSAN)) == ("1392.64", "614.40")
    assert total([*rated(prices, bob), *rated(prices, susan)]) == "2088.96"


def test_3_the_consolidated_bill_of_the_aws_page() -> None:
    prices = book([product("US", OUT, [("1000", "0.10"), ("50000", "0.08"), (None, "0.06")])])
    lines = rated(prices, used(gb("14000")), used(gb("81000"), 1, account=SUSAN))
    assert total(lines) == "6720.00"


def test_4_a_tier_ends_within_an_hour_and_the_accounts_of_the_hour_are_in_order() -> None:
    before, one, two = used(gb("10239")), used(gb("2"), 1), used(gb("2"), 1, account=SUSAN)
    costs = [usd_text(each.cost) for each in rated(PAID, two, one, before)]
    assert costs[1:] == ["0.0900000000", "0.0850000000", "0.1700000000"]


def test_5_the_byte_at_a_boundary_belongs_to_the_lower_tier() -> None:
    lines = rated(PAID, used(gb("10240") - 1), used(2, 1))
    assert parts(lines)[1:] == [(1, usd("0.09"), ""), (1, usd("0.085"), "")]
    printed = [(usd_text(each.quantity), usd_text(each.cost)) for each in lines[1:]]
    assert printed == [("0.0000000009", "0.0000000001")] * 2
    assert total(lines) == "921.600000000079162418842315673828125"


def test_6_an_allowance_goes_to_the_dearest_regions_first_whenever_their_usage_is() -> None:
    abroad = used(gb("50"), 5, usage_type=SINGAPORE.usage_type), used(gb("60"), 9, usage_type=SAO_PAULO.usage_type)
    usage = (used(gb("10")), *abroad)
    assert parts(rated(BOOK, *usage)) == [
        (gb("10"), usd("0.09"), ""), (gb("40"), 0, "free"), (gb("10"), usd("0.12"), ""), (gb("60"), 0, "free"),
    ]  # fmt: skip
    assert total(rated(BOOK, *usage)) == "2.10"
    in_time = book([US, SINGAPORE, SAO_PAULO], allowance("100", "US", "APS1", "SAE1", order="chronological"))
    assert total(rated(in_time, *usage)) == "3.00"


def test_7_the_byte_after_the_allowance_costs() -> None:
    free, paid = rated(BOOK, used(gb("100") + 1))
    assert (usd_text(free.quantity), free.exact, free.rate_code) == ("100.0000000000", 0, "US.A429C66SYZ.FREE")
    assert (paid.line.bytes, usd_text(paid.cost)) == (1, "0.0000000001")
    assert exact_text(paid.exact) == "0.00000000008381903171539306640625"
    assert cents_of(paid.exact) == 0


def test_8_and_worked_example_three_accounts_one_allowance_one_boundary() -> None:
    usage = used(gb("6000")), used(gb("4000"), 1, account=SUSAN), used(gb("2000"), 2, account=C)
    lines = rated(BOOK, *usage)
    assert [of_account(lines, each.account_id) for each in usage] == ["531.00", "360.00", "171.70"]
    assert total(lines) == "1062.70"
    cuts = positions(PayerPrices(BOOK, PAYER), ListedUsage(usage)).skus["US"]
    assert [(part.bytes, part.cut) for part in cuts.free] == [(gb("100"), (*usage[0][:6], gb("100")))]
    assert [tier.cut for tier in cuts.tiers] == [(*usage[2][:6], gb("340")), None, None]


def test_9_tiers_count_what_is_beyond_the_allowance() -> None:
    lines = rated(BOOK, used(gb("10340") + 1))
    assert [(each.line.bytes, each.price) for each in lines[1:]] == [(gb("10240"), usd("0.09")), (1, usd("0.085"))]
    assert usd_text(lines[1].cost) == "921.6000000000"


def test_10_a_new_price_keeps_the_position_and_holds_from_its_hour_on() -> None:
    cheaper = (("10240", "0.08"), ("51200", "0.075"), ("153600", "0.07"), (None, "0.05"))
    prices = book([product("US", OUT, US_TIERS, (BEGIN_S + 14 * 24 * HOUR_S, cheaper))])
    lines = rated(prices, used(gb("10000"), 14 * 24 - 1), used(gb("1000"), 14 * 24))
    assert [exact_text(each.exact) for each in lines] == ["900.00", "19.20", "57.00"]
    assert total(lines) == "976.20"


def test_11_late_usage_is_priced_as_the_continuation_of_its_month_and_moves_no_other_month() -> None:
    old = ListedUsage([used(gb("10300"))])
    found = list(corrected(PayerPrices(BOOK, PAYER), old, [used(gb("100"), 7)]))
    assert [(each.line.bytes, exact_text(each.exact)) for each in found] == [(gb("40"), "3.60"), (gb("60"), "5.10")]
    assert total(found) == "8.70"
    assert total(rated(BOOK, used(gb("50")))) == "0.00"


def test_12_13_19_totals_of_any_size_are_exact() -> None:
    lines = rated(PAID, used(10**19))
    assert usd_text(quantity_of(10**19)) == "9313225746.1547851563"
    assert total(lines) == "465665178.5077392578125"
    assert cents_of(sum(each.exact for each in lines)) == 46566517851
    assert total(rated(BOOK, used(2**63 + 1))) == "429500615.80000000004656612873077392578125"
    days = [used(140 * 10**15, 24 * day) for day in range(30)]
    assert total(rated(PAID, *days)) == "195581631.86925048828125"


@pytest.mark.parametrize(
    ("size", "price", "cost"),
    [(7_220_399, "0.085", "0.0005715843"), (12_561, "0.09", "0.0000010528"), (103_287, "0.1093", "0.0000105139")],
)
def test_14_a_line_rounds_its_quantity_first_and_then_its_cost(size: int, price: str, cost: str) -> None:
    assert usd_text(line_cost(size, price_of(price))) == cost


def test_15_bytes_between_zones_cost_on_both_sides_and_one_gb_of_them_is_free() -> None:
    regional = product("ZONES", "DataTransfer-Regional-Bytes", [(None, "0.01")])
    sides = [used(gb("1"), usage_type=regional.usage_type, account=account) for account in (SUSAN, C)]
    assert total(rated(book([regional]), *sides)) == "0.02"
    assert total(rated(book([regional], allowance("1", "ZONES")), *sides)) == "0.01"


def test_17_one_usage_type_of_two_services_is_two_products() -> None:
    out = "EU-DataTransfer-Out-Bytes"
    ireland = product("EU", out, [(None, "0.09")], services=Services(without=frozenset({"AmazonCloudFront"})))
    edge = product("EDGE", out, [(None, "0.085")], services=Services(only=frozenset({"AmazonCloudFront"})))
    usage = used(gb("1"), usage_type=out), used(gb("1"), usage_type=out, service="AmazonCloudFront")
    costs = [(each.sku, usd_text(each.cost)) for each in rated(book([ireland, edge]), *usage)]
    assert costs == [("EDGE", "0.0850000000"), ("EU", "0.0900000000")]
    assert [each.price for each in rated(book([ireland, edge], allowance("100", "EU")), *usage)] == [usd("0.085"), 0]


def test_18_no_price_is_not_a_price_of_0() -> None:
    inward = product("IN", "DataTransfer-In-Bytes", [(None, "0")])
    prices = book([inward], not_sold=(NotSold(pattern="Unclassified-.*", why="nobody knows what it is"),))
    names = ("A-New-Bytes", inward.usage_type, "Unclassified-Out-Bytes")
    unknown, free, unrated = rated(prices, *(used(gb("1"), usage_type=name) for name in names))
    assert (unknown.state, unknown.sku, unknown.rate_code) == (PriceState.UNPRICED, "", "")
    assert (free.state, free.sku, usd_text(free.cost)) == (PriceState.PRICED, "IN", "0.0000000000")
    assert unrated.state is PriceState.UNRATED


def test_20_an_account_that_moves_counts_for_each_payer_in_its_own_hours() -> None:
    moves = BEGIN_S + 5 * HOUR_S
    payers = (
        Payer(payer_id=PAYER, name="P", issuer="I", members=(Membership(SUSAN, 0, moves),)),
        Payer(payer_id="888888888888", name="Q", issuer="I", members=(Membership(SUSAN, moves, None),)),
    )
    organization = Organization(version=1, payers=payers)
    usage = [used(gb("10240"), 4, account=SUSAN), used(gb("10"), 5, account=SUSAN), used(gb("1"), 9, account=PAYER)]
    by_payer: dict[str, list[UsageLine]] = defaultdict(list)
    for line in usage:
        by_payer[organization.payer_of(line.account_id, line.hour_s)].append(line)
    totals = {payer: total(rated(PAID, *lines)) for payer, lines in by_payer.items()}
    assert totals == {PAYER: "921.685", "888888888888": "0.90"}


def test_21_a_late_dearer_region_takes_the_allowance_and_the_cheaper_one_is_adjusted() -> None:
    prices = PayerPrices(BOOK, PAYER)
    late = used(gb("100"), 8, account=SUSAN, usage_type="SAE1-DataTransfer-Out-Bytes")
    found = list(corrected(prices, ListedUsage([used(gb("100"))]), [late]))
    assert [each.sku for each in found] == ["SAE1", "US", "US"]
    assert parts(found) == [(gb("100"), 0, "free"), (-gb("100"), 0, "free"), (gb("100"), usd("0.09"), "")]
    assert total(found) == "9.00"
    # After the allowance, 400 of 500 GB remain.
    assert total(rated(BOOK, used(gb("500"), usage_type=SAO_PAULO.usage_type))) == "60.00"


# Acceptance test with AWS's own bills: each line of these bills is rated by the price book in the package. Invented
# usage of the same payer, before the lines of the bills and in addition to them.
REST = "888888888888"
MONTH = "2024-09"
BILLS_S = 1_725_148_800
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
    assert len(LINES) == 338
    for billed in LINES:
        line = usage_of(billed)
        found = find(prices, line.sold)
        assert isinstance(found, Product)
        assert found.sku == billed.sku
        price = of_rate[billed.rate_code]
        as_rated = RatedLine(line, PriceState.PRICED, billed.sku, billed.rate_code, price, price)
        assert (price, as_rated.quantity, as_rated.cost) == (billed.price, billed.quantity, billed.cost), billed
    assert usd_text(sum(each.cost for each in LINES)) == "0.3513825829"


def test_the_walk_has_337_of_338_and_the_other_one_is_where_aws_contradicts_the_order_of_time() -> None:
    rated = _rated(_the_rest_of_the_bill())
    wrong = [each for each in LINES if rated[each[:6]].rate_code != each.rate_code]
    for each in LINES:
        if each not in wrong:
            mine = rated[each[:6]]
            assert (mine.price, line_cost(each.bytes, mine.price)) == (each.price, each.cost)

    [inversion] = wrong
    # This line was billed at the second tier, although later lines of the day are in the first tier.
    what = ("614106099415", "AWSELB", "USW2-DataTransfer-Out-Bytes", "us-west-2", "internet", 1_355)
    assert usage_of(inversion) == (_epoch("2024-09-17T12:00:00Z"), *what)
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
    # The remaining lines are for pairs of regions.
    assert usd_text(rounded(sum(each.exact for each in rated.values()))) == "0.0018380688"


def test_16_a_bill_of_aws_is_the_sum_of_the_cents_of_its_lines_and_so_is_an_invoice() -> None:
    bill = list(csv.DictReader(MAY_BILL.read_text(encoding="utf-8").splitlines()))
    tally = Tally()
    tally.add("2025-05", _rated_bill(bill))
    [lines, corrections] = tally.lines("2025-05")
    assert corrections == ()
    assert len(lines) == 18 + 2  # Free bytes are on separate lines.
    assert {each.sku: usd_text(each.cents, decimals=2) for each in lines if not each.allowance} == {
        row["usage_type"]: row["billed_usd"] for row in bill
    }
    assert sum(line.cents for line in lines) == 383
    assert cents_of(sum(line.exact for line in lines)) == 384


def _rated(rest: list[UsageLine]) -> dict[tuple[object, ...], RatedLine]:
    """The rated line of each key and hour; no line of the bill is cut."""
    usage = _month([*map(usage_of, LINES), *rest]).of(PAYER)
    found: dict[tuple[object, ...], RatedLine] = {}
    for each in rated_month(PayerPrices(sample_book(), PAYER), usage):
        assert each.line.account_id == REST or each.line[:6] not in found
        found[each.line[:6]] = each
    return found


def _the_rest_of_the_bill() -> list[UsageLine]:
    """Usage that consumes the allowances, and makes the first tier end where AWS's lines end it."""

    def used(usage_type: str, size: int, hour_s: int, peer: str) -> UsageLine:
        return UsageLine(hour_s, REST, Service("AmazonEC2"), UsageType(usage_type), "region", peer, size)

    last_s = BILLS_S + 30 * 24 * HOUR_S - HOUR_S
    # 100 GB of an expensive region at the month's end: its earlier lines are free, and cheaper regions get no free GB.
    internet = used("APS1-DataTransfer-Out-Bytes", 100 * GIB, last_s, "internet")
    # The free GB between zones goes to the first SKU, and all regions have one price.
    regional = min((each for each in LINES if "Regional" in each.usage_type), key=lambda each: each.sku)
    between = used(regional.usage_type, GIB, BILLS_S, "zone")
    walked = []
    for usage_type, last_in_tier_1 in (
        ("USW2-DataTransfer-Out-Bytes", "2024-09-17T17:00:00Z"),
        ("DataTransfer-Out-Bytes", "2024-09-10T22:00:00Z"),
    ):
        end_s = _epoch(last_in_tier_1)
        of_region = [each for each in LINES if each.usage_type == usage_type]
        before = sum(line.bytes for line in of_region if line.hour_s <= end_s)
        walked.append(used(usage_type, TIER_1_BYTES - before, BILLS_S, "internet"))
    return [internet, between, *walked]


def _rated_bill(bill: list[dict[str, str]]) -> list[RatedLine]:
    """Rated lines: the 18 priced lines of May 2025, and lines for the free bytes."""
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
        UsageLine(BILLS_S, PAYER, Service("AmazonEC2"), UsageType(name), "ap-southeast-1", "", size)
        for name, size in sizes.items()
    ]
    return list(rated_month(PayerPrices(prices, PAYER), _month(usage).of(PAYER)))


def _month(usage: list[UsageLine]) -> MonthUsage:
    region = MemoryMonth(month=MONTH, usage=tuple(usage))
    organization = paid_by(PAYER, sorted({line.account_id for line in usage}))
    return MonthUsage(regions=[region], month=MONTH, organization=organization)


def _transfer(sku: str) -> str:
    return sample_book().by_sku[sku].transfer

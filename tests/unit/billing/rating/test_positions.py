"""Cuts: what is read to find them, what they say, and how they are stored."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from metering.billing.prices.book import Override
from metering.billing.rating.lines import Cut, Positions, PriceState
from metering.billing.rating.payer_prices import PayerPrices
from metering.billing.rating.positions import positions
from metering.billing.rating.rater import Rater, rated_month
from metering.billing.usage.months import Sold
from metering.errors import LedgerCorruptError
from metering.units import DAY_S, HOUR_S
from metering.usage.totals import Service, UsageType
from tests.support.priced import (
    BEGIN_S,
    US_TIERS,
    HourlyListedUsage,
    ListedUsage,
    allowance,
    book,
    gb,
    product,
    usd,
    used,
)

PAYER, ONE, TWO = "999999999999", "111111111111", "222222222222"
OUT = Sold(Service("AmazonEC2"), UsageType("DataTransfer-Out-Bytes"))
US = product("US", OUT.usage_type, US_TIERS)
PRICES = PayerPrices(book([US], allowance("100", "US")), PAYER)
PAID = PayerPrices(book([US]), PAYER)
DAILY = [used(gb("1000"), 24 * day + 5, account=name) for day in range(30) for name in (ONE, TWO)]


def days_read(usage: ListedUsage) -> list[int]:
    return [(day_s - BEGIN_S) // DAY_S for _, day_s in usage.read]


def test_only_days_with_a_cut_are_read_by_the_hour() -> None:
    usage = ListedUsage(DAILY)
    positions(PRICES, usage)
    assert days_read(usage) == [0, 5, 25]
    assert usage.streamed == 0


def test_a_boundary_at_the_end_of_a_day_is_found_without_reading_it() -> None:
    usage = ListedUsage([used(gb("10240"), 23), used(1, 24)])
    assert positions(PAID, usage).skus["US"].tiers[0].cut == Cut(BEGIN_S + DAY_S)
    assert usage.read == []
    assert [each.price for each in rated_month(PAID, usage)] == [usd("0.09"), usd("0.085")]


def test_a_usage_with_sums_of_hours_is_read_by_the_line_in_one_hour_only() -> None:
    usage = HourlyListedUsage(DAILY)
    assert positions(PRICES, usage) == positions(PRICES, ListedUsage(DAILY))
    assert usage.read == []


def test_a_day_needs_hours_if_a_cut_or_a_change_lies_inside_it() -> None:
    change = (BEGIN_S + 9 * DAY_S + HOUR_S, US_TIERS[1:])
    midnight = (BEGIN_S + 11 * DAY_S, US_TIERS[2:])
    prices = PayerPrices(
        book([product("US", OUT.usage_type, US_TIERS, change, midnight)]),
        PAYER,
        (Override(account=TWO, from_s=BEGIN_S + 13 * DAY_S + HOUR_S, to_s=BEGIN_S + 15 * DAY_S, price=0),),
    )
    rater = Rater(prices, positions(prices, ListedUsage([used(gb("9000")), used(gb("2000"), 24 * 7 + 5)])))
    needing = [day for day in range(30) if rater.needs_hours(OUT, BEGIN_S + day * DAY_S)]
    assert needing == [7, 9, 13]
    assert rater.accounts_apart(OUT) == {TWO}
    assert rater.terms_of_day(OUT, BEGIN_S, ONE).price == usd("0.09")
    assert [rater.terms_of_day(OUT, BEGIN_S + 14 * DAY_S, name).price for name in (ONE, TWO)] == [usd("0.07"), 0]


def test_terms_of_an_hour_are_none_if_a_cut_lies_in_it() -> None:
    rater = Rater(PAID, positions(PAID, ListedUsage([used(gb("10239"), 3), used(gb("2"), 4)])))
    terms = [rater.terms_of_hour(OUT, BEGIN_S + hour * HOUR_S, ONE) for hour in (3, 4, 5)]
    assert [each and each.price for each in terms] == [usd("0.09"), None, usd("0.085")]


def test_usage_of_what_nobody_sells_needs_no_hours_and_has_its_state() -> None:
    rater = Rater(PRICES, positions(PRICES, ListedUsage([])))
    unknown = Sold(Service("AmazonEC2"), UsageType("A-New-Bytes"))
    assert not rater.needs_hours(unknown, BEGIN_S)
    assert rater.terms_of_day(unknown, BEGIN_S, ONE).state is PriceState.UNPRICED


def test_usage_before_the_first_price_is_unpriced_and_takes_no_position() -> None:
    begins = replace(US, versions=(replace(US.versions[0], from_s=BEGIN_S + DAY_S),))
    prices = PayerPrices(book([begins], allowance("100", "US")), PAYER)
    lines = list(rated_month(prices, ListedUsage([used(gb("99999"), 23), used(gb("101"), 24)])))
    assert [(each.state, each.line.bytes, each.price) for each in lines] == [
        (PriceState.UNPRICED, gb("99999"), 0),
        (PriceState.PRICED, gb("100"), 0),
        (PriceState.PRICED, gb("1"), usd("0.09")),
    ]


def test_a_line_of_no_bytes_makes_no_line() -> None:
    assert list(rated_month(PRICES, ListedUsage([used(0)]))) == []


def test_an_allowance_holds_in_months_that_begin_within_its_hours() -> None:
    for from_s, to_s, price in ((BEGIN_S, None, "0"), (BEGIN_S + HOUR_S, None, "0.09"), (0, BEGIN_S, "0.09")):
        one = replace(allowance("100", "US"), from_s=from_s, to_s=to_s)
        (line,) = rated_month(PayerPrices(book([US], one), PAYER), ListedUsage([used(gb("1"), 24)]))
        assert line.price == usd(price)


def test_the_dearest_product_is_that_of_the_payers_own_prices_and_equal_ones_go_by_sku() -> None:
    eu = product("EU", "EU-DataTransfer-Out-Bytes", [(None, "0.09")])
    prices = PayerPrices(book([US, eu], allowance("100", "US", "EU")), PAYER)
    usage = ListedUsage([used(gb("100")), used(gb("100"), usage_type=eu.usage_type)])
    free = {sku: sum(each.given.values()) for sku, each in positions(prices, usage).skus.items()}
    assert free == {"EU": gb("100"), "US": 0}
    cheaper = replace(prices, overrides=(Override(payer=PAYER, skus=frozenset({"EU"}), percent_off=1),))
    assert positions(cheaper, usage).skus["US"].given == {"free": gb("100")}
    # What one account pays does not move the allowance of all.
    own = replace(prices, overrides=(Override(account=ONE, skus=frozenset({"EU"}), price=0),))
    assert positions(own, usage).skus["EU"].given == {"free": gb("100")}


def test_two_allowances_of_a_product_follow_each_other() -> None:
    prices = PayerPrices(book([US], allowance("1", "US", name="a"), allowance("2", "US", name="b")), PAYER)
    lines = rated_month(prices, ListedUsage([used(gb("4"))]))
    assert [(each.allowance, each.line.bytes) for each in lines] == [("a", gb("1")), ("b", gb("2")), ("", gb("1"))]


def test_stored_positions_are_the_same_and_damaged_ones_are_refused() -> None:
    found = positions(PRICES, ListedUsage(DAILY))
    value = json.loads(found.to_json())
    assert Positions.from_json(found.to_json()) == found
    for damaged in (
        {},
        {**value, "skus": []},
        {**value, "month": 11},
        {**value, "skus": {"US": {"free": [], "tiers": [["x", None]]}}},
        {**value, "skus": {"US": {"free": [], "tiers": [[1, None]]}}},
        {**value, "skus": {"US": {"free": [["free", "1"]], "tiers": []}}},
        {**value, "skus": {"US": {"free": [], "tiers": [["1", ["now", "", "", "", "", "", "0"]]]}}},
        {**value, "skus": {"US": {"free": [], "tiers": [["1", []]]}}},
    ):
        with pytest.raises(LedgerCorruptError):
            Positions.from_json(json.dumps(damaged).encode())


def test_positions_of_another_payer_or_book_price_nothing() -> None:
    found = positions(PRICES, ListedUsage(DAILY))
    for foreign in (replace(PRICES, payer_id=ONE), replace(PRICES, book=replace(PRICES.book, sha256="0f"))):
        with pytest.raises(ValueError, match="the positions are those of payer"):
            Rater(foreign, found)

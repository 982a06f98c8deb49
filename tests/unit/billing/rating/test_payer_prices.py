"""Prices of a payer: whose override counts, when, and how a percentage is rounded."""

from __future__ import annotations

from dataclasses import replace

import pytest

from metering.billing.money import exact_text
from metering.billing.organization import Membership, Organization, Payer
from metering.billing.prices.book import NotSold, Override, Product
from metering.billing.rating.payer_prices import PayerPrices, less_percent
from metering.billing.rating.rater import rated_month
from metering.billing.usage.months import Sold
from metering.units import DAY_S, HOUR_S
from metering.usage.totals import Service, UsageType
from tests.support.priced import BEGIN_S, US_TIERS, ListedUsage, allowance, book, exact_total, gb, product, usd, used

PAYER, ONE, TWO = "999999999999", "111111111111", "222222222222"
OUT = Sold(Service("AmazonEC2"), UsageType("DataTransfer-Out-Bytes"))
US = product("US", OUT.usage_type, US_TIERS)
OTHER = product("EU", "EU-DataTransfer-Out-Bytes", [(None, "0.09")])
BOOK = book([US, OTHER], allowance("100", "US"), not_sold=(NotSold(pattern="Unclassified-.*", why="nobody knows"),))
FIRST = US.versions[0].tiers[0]


def price(*overrides: Override, account: str = ONE, hour_s: int = BEGIN_S, sold: Product = US) -> int:
    return PayerPrices(BOOK, PAYER, overrides).price_of(sold, FIRST, account, hour_s)


def test_an_account_beats_its_payer_and_its_payer_beats_the_book() -> None:
    of_payer, of_account = Override(payer=PAYER, price=usd("0.05")), Override(account=ONE, price=usd("0.03"))
    assert price() == usd("0.09")
    assert price(of_payer) == usd("0.05")
    assert price(of_payer, of_account) == price(of_account, of_payer) == usd("0.03")
    assert price(of_payer, of_account, account=TWO) == usd("0.05")


def test_an_override_holds_for_its_products_in_its_hours_and_for_its_payer() -> None:
    day = Override(payer=PAYER, skus=frozenset({"US"}), from_s=BEGIN_S, to_s=BEGIN_S + DAY_S, price=0)
    assert price(day) == 0
    assert price(day, hour_s=BEGIN_S - HOUR_S) == price(day, hour_s=BEGIN_S + DAY_S) == usd("0.09")
    assert price(day, hour_s=BEGIN_S + DAY_S - HOUR_S) == 0
    assert price(day, sold=OTHER) == usd("0.09")
    assert price(replace(day, payer="888888888888")) == usd("0.09")


def test_an_override_that_says_nothing_of_the_price_leaves_it_to_the_next_rank() -> None:
    silent = Override(account=ONE, no_allowance=True)
    assert price(silent, Override(payer=PAYER, price=usd("0.05"))) == usd("0.05")


@pytest.mark.parametrize(
    ("before", "percent_off", "after"),
    [
        ("0.09", 12_500, "0.07875"),
        ("0.0000000001", 50_000, "0.0000000001"),
        ("0.0000000005", 50_000, "0.0000000003"),
        ("0.0000000005", 50_001, "0.0000000002"),
        ("0.09", 33_333, "0.0600003"),
        ("0.09", 100_000, "0"),
        ("0.09", 0, "0.09"),
    ],
)
def test_a_percentage_is_rounded_half_up_once(before: str, percent_off: int, after: str) -> None:
    assert less_percent(usd(before), percent_off) == usd(after)


def test_bytes_may_not_be_free_if_their_account_or_their_payer_says_so() -> None:
    for refused in (Override(payer=PAYER, no_allowance=True), Override(account=ONE, no_allowance=True)):
        prices = PayerPrices(BOOK, PAYER, (refused, Override(account=ONE, price=0)))
        assert not prices.takes_allowance(US, ONE, BEGIN_S)
    assert PayerPrices(BOOK, PAYER, (refused,)).takes_allowance(US, TWO, BEGIN_S)


def test_bytes_without_allowance_leave_it_to_others_and_take_their_place_in_the_tiers() -> None:
    usage = ListedUsage([used(gb("10200"), account=ONE), used(gb("240"), 1, account=TWO)])
    prices = PayerPrices(BOOK, PAYER, (Override(account=ONE, no_allowance=True),))
    assert [(each.line.bytes, each.price, each.allowance) for each in rated_month(prices, usage)] == [
        (gb("10200"), usd("0.09"), ""),
        (gb("100"), 0, "free"),
        (gb("40"), usd("0.09"), ""),
        (gb("100"), usd("0.085"), ""),
    ]


def test_an_account_with_its_own_price_moves_others_to_the_next_tier_so_order_matters() -> None:
    own = Override(account=ONE, price=usd("0.01"))
    prices = PayerPrices(book([US]), PAYER, (own,))
    costs = []
    for hours in ((0, 1), (1, 0)):
        usage = ListedUsage(used(gb("10240"), hour, account=name) for hour, name in zip(hours, (ONE, TWO), strict=True))
        costs.append(exact_text(exact_total(prices, usage)))
    assert costs == ["972.80", "1024.00"]


def test_an_account_with_its_own_prices_stands_in_the_tiers_of_its_payer() -> None:
    prices = PayerPrices(book([US]), PAYER, (Override(account=TWO, percent_off=50_000),))
    lines = rated_month(prices, ListedUsage([used(gb("10239"), account=ONE), used(gb("2"), 1, account=TWO)]))
    assert [(each.price, each.list_price) for each in lines][1:] == [
        (usd("0.045"), usd("0.09")),
        (usd("0.0425"), usd("0.085")),
    ]


def test_more_bytes_may_cost_less_where_prices_change_within_the_month() -> None:
    """They push later bytes, at the new prices, over a boundary."""
    new = (("10", "0.09"), (None, "0.01"))
    prices = PayerPrices(book([product("US", OUT.usage_type, [(None, "0.01")], (BEGIN_S + DAY_S, new))]), PAYER)
    later = used(gb("10"), 24)
    assert exact_text(exact_total(prices, ListedUsage([later]))) == "0.90"
    assert exact_text(exact_total(prices, ListedUsage([used(gb("10")), later]))) == "0.20"


def test_only_overrides_of_the_payer_and_of_its_accounts_are_looked_at() -> None:
    paid = Payer(payer_id=PAYER, name="P", issuer="I", members=(Membership(ONE, 0, None),))
    of_all = (
        Override(payer=PAYER, price=1),
        Override(payer=TWO, price=2),
        Override(account=ONE, price=3),
        Override(account=TWO, price=4),
        Override(account=PAYER, price=5),
    )
    prices = PayerPrices.of(BOOK, Organization(version=1, payers=(paid,)), PAYER, of_all)
    assert [each.price for each in prices.overrides] == [1, 3, 5]


def test_what_a_book_says_of_usage_is_a_product_a_rule_or_nothing() -> None:
    prices = PayerPrices(BOOK, PAYER)
    assert prices.found(OUT) == US
    assert prices.found(Sold(Service("AmazonEC2"), UsageType("Unclassified-Out-Bytes"))) == BOOK.not_sold[0]
    assert prices.found(Sold(Service("AmazonEC2"), UsageType("A-New-Bytes"))) is None

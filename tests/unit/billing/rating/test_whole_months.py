"""Sums of a month are rated without a walk, and what they do not decide is left out."""

from __future__ import annotations

from metering.billing.prices.book import NotSold, Override
from metering.billing.rating.lines import UNPRICED, UNRATED
from metering.billing.rating.payer_prices import PayerPrices
from metering.billing.rating.rater import WholeMonths, rated_month
from metering.billing.usage.months import Sold
from metering.units import DAY_S
from metering.usage.totals import Service, UsageType
from tests.support.priced import BEGIN_S, MONTH, US_TIERS, ListedUsage, allowance, book, gb, product, used

_PAYER = "111111111111"
_US = product("US", "DataTransfer-Out-Bytes", US_TIERS)
_SA = product("SA", "SAE1-DataTransfer-Out-Bytes", [(None, "0.15")])
_BOTH = (_US, _SA)


def _override(**values: int | str | bool | None) -> Override:
    fields = {
        "payer": _PAYER, "account": "", "skus": frozenset(["US"]), "from_s": 0, "to_s": None, "price": None,
        "percent_off": None, "no_allowance": False, "why": "agreed",
    }  # fmt: skip
    return Override(**{**fields, **values})  # type: ignore[arg-type]  # a test's shorthand


def test_a_byte_beyond_a_tier_has_the_price_of_the_next() -> None:
    priced = book(_BOTH, allowance("100", "US", "SA"))
    rated = WholeMonths(priced, MONTH).rated(PayerPrices(priced, _PAYER), {"US": gb("10340") + 1})
    assert [(piece.bytes, piece.terms.price, piece.terms.allowance) for piece in rated["US"]] == [
        (gb("100"), 0, "free"), (gb("10240"), 900_000_000, ""), (1, 850_000_000, ""),
    ]  # fmt: skip


def test_an_allowance_goes_to_the_dearest_product_and_then_to_the_next() -> None:
    priced = book(_BOTH, allowance("100", "US", "SA"))
    rated = WholeMonths(priced, MONTH).rated(PayerPrices(priced, _PAYER), {"US": gb("80"), "SA": gb("60")})
    assert [(piece.bytes, piece.terms.allowance) for piece in rated["SA"]] == [(gb("60"), "free")]
    assert [(piece.bytes, piece.terms.allowance) for piece in rated["US"]] == [(gb("40"), "free"), (gb("40"), "")]


def test_sums_of_a_month_cost_what_its_lines_cost() -> None:
    priced = book(_BOTH, allowance("100", "US", "SA"), allowance("7", "US", name="more"))
    prices = PayerPrices(priced, _PAYER, (_override(percent_off=12_345),))
    usage = ListedUsage([used(gb("160000")), used(gb("30"), 100, usage_type="SAE1-DataTransfer-Out-Bytes")])
    rated = WholeMonths(priced, MONTH).rated(prices, {"US": gb("160000"), "SA": gb("30")})
    found = {sku: sum(piece.bytes * piece.terms.price for piece in pieces) for sku, pieces in rated.items()}
    lines = list(rated_month(prices, usage))
    assert found == {sku: sum(each.exact for each in lines if each.sku == sku) for sku in ("US", "SA")}


def test_overrides_of_one_payer_are_not_those_of_the_next() -> None:
    priced = book(_BOTH)
    rater = WholeMonths(priced, MONTH)
    for overrides, price in (((), 900_000_000), ((_override(price=1),), 1), ((), 900_000_000)):
        rated = rater.rated(PayerPrices(priced, _PAYER, overrides), {"US": 5})
        assert [piece.terms.price for piece in rated["US"]] == [price]


def test_a_price_that_changes_within_the_month_leaves_out_what_shares_an_allowance_with_it() -> None:
    changing = product("US", "DataTransfer-Out-Bytes", US_TIERS, (BEGIN_S + DAY_S, [(None, "0.01")]))
    alone, shared = book((changing, _SA)), book((changing, _SA), allowance("100", "US", "SA"))
    totals = {"US": gb("5"), "SA": gb("5")}
    assert list(WholeMonths(alone, MONTH).rated(PayerPrices(alone, _PAYER), totals)) == ["SA"]
    assert WholeMonths(shared, MONTH).rated(PayerPrices(shared, _PAYER), totals) == {}


def test_the_earliest_bytes_of_several_products_are_unknown_unless_all_are_free() -> None:
    priced = book(_BOTH, allowance("100", "US", "SA", order="chronological"))
    rater, prices = WholeMonths(priced, MONTH), PayerPrices(priced, _PAYER)
    assert set(rater.rated(prices, {"US": gb("50"), "SA": gb("50")})) == {"US", "SA"}
    assert rater.rated(prices, {"US": gb("50"), "SA": gb("50") + 1}) == {}


def test_what_has_no_product_says_why() -> None:
    priced = book(_BOTH, not_sold=(NotSold(pattern="Unclassified-.*", why="nobody knows what it is"),))
    rater = WholeMonths(priced, MONTH)
    assert rater.found(Sold(Service("AmazonEC2"), UsageType("Unclassified-Out-Bytes"))) == UNRATED
    assert rater.found(Sold(Service("AmazonEC2"), UsageType("A-New-Bytes"))) == UNPRICED
    assert rater.found(Sold(Service("AmazonEC2"), UsageType("DataTransfer-Out-Bytes"))) is _US

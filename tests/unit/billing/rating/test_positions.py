"""Cuts in rated lines: reads to find them, meaning, storage. Corrections: late usage is rated after billed usage."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from metering.billing.money import exact_text
from metering.billing.prices.book import NotSold, Override, Product
from metering.billing.rating.corrections import corrected
from metering.billing.rating.payer_prices import (
    UNPRICED,
    UNRATED,
    Cut,
    PayerPrices,
    Positions,
    PriceState,
    RatedLine,
    less_percent,
)
from metering.billing.rating.rater import Rater, WholeMonths, positions, rated_month
from metering.errors import LedgerCorruptError
from metering.units import DAY_S, HOUR_S
from tests.support.priced import (
    BEGIN_S,
    END_S,
    MONTH,
    US_TIERS,
    HourlyListedUsage,
    ListedUsage,
    allowance,
    book,
    exact_total,
    gb,
    paid_by,
    product,
    sold,
    usd,
    used,
)

if TYPE_CHECKING:
    from metering.billing.usage.months import UsageLine

PAYER, ONE, TWO = "999999999999", "111111111111", "222222222222"
OUT = sold("DataTransfer-Out-Bytes")
US = product("US", OUT.usage_type, US_TIERS)
SAO_PAULO = product("SA", "SAE1-DataTransfer-Out-Bytes", [(None, "0.15")])
OF_BOTH = PayerPrices(book([US, SAO_PAULO], allowance("100", "US", "SA")), PAYER)
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
    own = Override(account=TWO, from_s=BEGIN_S + 13 * DAY_S + HOUR_S, to_s=BEGIN_S + 15 * DAY_S, price=0)
    prices = PayerPrices(book([product("US", OUT.usage_type, US_TIERS, change, midnight)]), PAYER, (own,))
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
    unknown = sold("A-New-Bytes")
    assert not rater.needs_hours(unknown, BEGIN_S)
    assert rater.terms_of_day(unknown, BEGIN_S, ONE).state is PriceState.UNPRICED


def test_usage_before_the_first_price_is_unpriced_and_takes_no_position() -> None:
    begins = replace(US, versions=(replace(US.versions[0], from_s=BEGIN_S + DAY_S),))
    prices = PayerPrices(book([begins], allowance("100", "US")), PAYER)
    lines = list(rated_month(prices, ListedUsage([used(gb("99999"), 23), used(gb("101"), 24)])))
    assert [(each.state, each.line.bytes, each.price) for each in lines] == [
        (PriceState.UNPRICED, gb("99999"), 0), (PriceState.PRICED, gb("100"), 0),
        (PriceState.PRICED, gb("1"), usd("0.09")),
    ]  # fmt: skip
    assert list(rated_month(prices, ListedUsage([used(0)]))) == [], "a line of no bytes makes no line"


def test_an_allowance_holds_in_months_that_begin_within_its_hours() -> None:
    for from_s, to_s, price in ((BEGIN_S, None, "0"), (BEGIN_S + HOUR_S, None, "0.09"), (0, BEGIN_S, "0.09")):
        one = replace(allowance("100", "US"), from_s=from_s, to_s=to_s)
        (line,) = rated_month(PayerPrices(book([US], one), PAYER), ListedUsage([used(gb("1"), 24)]))
        assert line.price == usd(price)


def test_the_dearest_product_is_that_of_the_payers_own_prices_and_equal_ones_go_by_sku() -> None:
    prices = PayerPrices(book([US, OTHER], allowance("100", "US", "EU")), PAYER)
    usage = ListedUsage([used(gb("100")), used(gb("100"), usage_type=OTHER.usage_type)])
    free = {sku: sum(each.given.values()) for sku, each in positions(prices, usage).skus.items()}
    assert free == {"EU": gb("100"), "US": 0}
    cheaper = replace(prices, overrides=(Override(payer=PAYER, skus=frozenset({"EU"}), percent_off=1),))
    assert positions(cheaper, usage).skus["US"].given == {"free": gb("100")}
    # The own price of one account does not move the allowance of all accounts.
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


# A payer's prices: which override applies, when it applies, and how a percentage is rounded.


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


@pytest.mark.parametrize(("before", "percent_off", "after"), [
    ("0.09", 12_500, "0.07875"),
    ("0.0000000001", 50_000, "0.0000000001"),
    ("0.0000000005", 50_000, "0.0000000003"),
    ("0.0000000005", 50_001, "0.0000000002"),
    ("0.09", 33_333, "0.0600003"),
    ("0.09", 100_000, "0"),
    ("0.09", 0, "0.09"),
])  # fmt: skip
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
    found = [(each.price, each.list_price) for each in lines]
    assert found[1:] == [(usd("0.045"), usd("0.09")), (usd("0.0425"), usd("0.085"))]


def test_more_bytes_may_cost_less_where_prices_change_within_the_month() -> None:
    """More bytes push later bytes, which have new prices, over a tier boundary."""
    new = (("10", "0.09"), (None, "0.01"))
    prices = PayerPrices(book([product("US", OUT.usage_type, [(None, "0.01")], (BEGIN_S + DAY_S, new))]), PAYER)
    later = used(gb("10"), 24)
    assert exact_text(exact_total(prices, ListedUsage([later]))) == "0.90"
    assert exact_text(exact_total(prices, ListedUsage([used(gb("10")), later]))) == "0.20"


def test_only_overrides_of_the_payer_and_of_its_accounts_are_looked_at() -> None:
    of_payers = Override(payer=PAYER, price=1), Override(payer=TWO, price=2)
    of_accounts = (Override(account=account, price=3 + number) for number, account in enumerate((ONE, TWO, PAYER)))
    prices = PayerPrices.of(BOOK, paid_by(PAYER, [ONE]), PAYER, (*of_payers, *of_accounts))
    assert [each.price for each in prices.overrides] == [1, 3, 5]


def test_what_a_book_says_of_usage_is_a_product_a_rule_or_nothing() -> None:
    prices = PayerPrices(BOOK, PAYER)
    found = [prices.found(each) for each in (OUT, sold("Unclassified-Out-Bytes"), sold("A-New-Bytes"))]
    assert found == [US, BOOK.not_sold[0], None]


# Monthly sums are rated without reading lines, and undecided lines are left out.


_BOTH = (US, SAO_PAULO)


def _whole_month(prices: PayerPrices, totals: dict[str, int]) -> dict[str, list[tuple[int, int, str]]]:
    """Bytes, price and allowance of each piece of a month's sums, by SKU."""
    rated = WholeMonths(prices.book, MONTH).rated(prices, totals)
    return {
        sku: [(each.bytes, each.terms.price, each.terms.allowance) for each in pieces] for sku, pieces in rated.items()
    }


def test_a_byte_beyond_a_tier_has_the_price_of_the_next() -> None:
    found = _whole_month(OF_BOTH, {"US": gb("10340") + 1})
    assert found == {"US": [(gb("100"), 0, "free"), (gb("10240"), 900_000_000, ""), (1, 850_000_000, "")]}


def test_an_allowance_goes_to_the_dearest_product_and_then_to_the_next() -> None:
    found = _whole_month(OF_BOTH, {"US": gb("80"), "SA": gb("60")})
    assert found["SA"] == [(gb("60"), 0, "free")]
    assert found["US"] == [(gb("40"), 0, "free"), (gb("40"), 900_000_000, "")]


def test_sums_of_a_month_cost_what_its_lines_cost() -> None:
    priced = book(_BOTH, allowance("100", "US", "SA"), allowance("7", "US", name="more"))
    own = Override(payer=PAYER, skus=frozenset(["US"]), percent_off=12_345)
    prices = PayerPrices(priced, PAYER, (own,))
    usage = ListedUsage([used(gb("160000")), used(gb("30"), 100, usage_type=SAO_PAULO.usage_type)])
    rated = _whole_month(prices, {"US": gb("160000"), "SA": gb("30")})
    found = {sku: sum(size * price for size, price, _ in pieces) for sku, pieces in rated.items()}
    lines = list(rated_month(prices, usage))
    assert found == {sku: sum(each.exact for each in lines if each.sku == sku) for sku in ("US", "SA")}


def test_overrides_of_one_payer_are_not_those_of_the_next() -> None:
    priced = book(_BOTH)
    rater, own = WholeMonths(priced, MONTH), Override(payer=PAYER, skus=frozenset(["US"]), price=1)
    for overrides, price in (((), 900_000_000), ((own,), 1), ((), 900_000_000)):
        rated = rater.rated(PayerPrices(priced, PAYER, overrides), {"US": 5})
        assert [piece.terms.price for piece in rated["US"]] == [price]


def test_a_price_that_changes_within_the_month_leaves_out_what_shares_an_allowance_with_it() -> None:
    changing = product("US", "DataTransfer-Out-Bytes", US_TIERS, (BEGIN_S + DAY_S, [(None, "0.01")]))
    alone, shared = book((changing, SAO_PAULO)), book((changing, SAO_PAULO), allowance("100", "US", "SA"))
    totals = {"US": gb("5"), "SA": gb("5")}
    assert [list(_whole_month(PayerPrices(each, PAYER), totals)) for each in (alone, shared)] == [["SA"], []]


def test_the_earliest_bytes_of_several_products_are_unknown_unless_all_are_free() -> None:
    prices = PayerPrices(book(_BOTH, allowance("100", "US", "SA", order="chronological")), PAYER)
    assert set(_whole_month(prices, {"US": gb("50"), "SA": gb("50")})) == {"US", "SA"}
    assert _whole_month(prices, {"US": gb("50"), "SA": gb("50") + 1}) == {}


def test_what_has_no_product_says_why() -> None:
    priced = book(_BOTH, not_sold=(NotSold(pattern="Unclassified-.*", why="nobody knows what it is"),))
    rater = WholeMonths(priced, MONTH)
    found = [rater.found(sold(name)) for name in ("Unclassified-Out-Bytes", "A-New-Bytes", "DataTransfer-Out-Bytes")]
    assert found == [UNRATED, UNPRICED, US]


def correction(prices: PayerPrices, old: list[UsageLine], *late: UsageLine) -> list[RatedLine]:
    """The lines of a correction. The lines' cost equals the increase of the whole month's cost."""
    found = list(corrected(prices, ListedUsage(old), late))
    after, before = exact_total(prices, ListedUsage([*old, *late])), exact_total(prices, ListedUsage(old))
    assert sum(each.exact for each in found) == after - before
    return found


def told(lines: list[RatedLine]) -> list[tuple[str, int, int, str]]:
    """Account, hour of the month, bytes in GB and price of each line."""
    found = ((each.line, exact_text(each.price * gb("1"))) for each in lines)
    return [(line.account_id, (line.hour_s - BEGIN_S) // HOUR_S, line.bytes // gb("1"), price) for line, price in found]


def test_late_usage_comes_last_whenever_it_was_and_moves_nothing() -> None:
    assert correction(OF_BOTH, [used(gb("1"))], used(0)) == []
    found = correction(OF_BOTH, [used(gb("10340"), 500)], used(gb("1"), 3, account=TWO))
    assert told(found) == [(TWO, 3, 1, "0.085")]


def test_late_usage_of_a_key_that_was_billed_is_a_line_of_its_own() -> None:
    found = correction(OF_BOTH, [used(gb("110")), used(gb("10300"), 1)], used(gb("1")), used(gb("1")))
    assert told(found) == [(ONE, 0, 2, "0.085")]


def test_an_allowance_that_a_dearer_product_takes_moves_each_tier_behind_it() -> None:
    old = [used(gb("100"), account=ONE), used(gb("10240"), 5, account=TWO), used(gb("20"), 6, account=ONE)]
    found = correction(OF_BOTH, old, used(gb("60"), 9, usage_type=SAO_PAULO.usage_type))
    assert told(found) == [
        (ONE, 9, 60, "0.00"), (ONE, 0, -60, "0.00"), (ONE, 0, 60, "0.09"), (TWO, 5, -60, "0.09"), (TWO, 5, 60, "0.085"),
    ]  # fmt: skip


def test_an_allowance_by_time_is_shared_out_by_true_time_and_inside_a_product_late_usage_comes_last() -> None:
    """The example of docs/decisions/0027."""
    prices = PayerPrices(book([US, SAO_PAULO], allowance("100", "US", "SA", order="chronological")), PAYER)
    old = [used(gb("60"), 5, account=TWO), used(gb("60"), 6, account=TWO, usage_type=SAO_PAULO.usage_type)]
    found = correction(prices, old, used(gb("50"), 2))
    assert told(found) == [(ONE, 2, 40, "0.00"), (ONE, 2, 10, "0.09"), (TWO, 6, -40, "0.00"), (TWO, 6, 40, "0.15")]


def test_late_usage_before_a_change_of_prices_moves_the_tiers_after_it() -> None:
    new = (("10240", "0.08"), ("51200", "0.075"), ("153600", "0.07"), (None, "0.05"))
    prices = PayerPrices(book([product("US", US.usage_type, US_TIERS, (BEGIN_S + DAY_S, new))]), PAYER)
    old = [used(gb("10000")), used(gb("140"), 30, account=TWO), used(gb("200"), 31, account=TWO)]
    found = correction(prices, old, used(gb("50"), 2), used(gb("1"), 40))
    assert told(found) == [(ONE, 2, 50, "0.09"), (ONE, 40, 1, "0.075"), (TWO, 31, -50, "0.08"), (TWO, 31, 50, "0.075")]


def test_where_an_account_has_its_own_price_late_usage_takes_its_place_in_time() -> None:
    own = Override(account=ONE, price=usd("0.01"))
    prices = PayerPrices(book([US]), PAYER, (own,))
    old = [used(gb("10240"), 5, account=TWO), used(gb("10"), 7, account=ONE)]
    found = correction(prices, old, used(gb("100"), 3, account=ONE))
    assert told(found) == [(ONE, 3, 100, "0.01"), (TWO, 5, -100, "0.09"), (TWO, 5, 100, "0.085")]


def test_late_usage_without_a_price_is_told_with_its_state() -> None:
    (line,) = corrected(OF_BOTH, ListedUsage([]), [used(5, usage_type="A-New-Bytes")])
    assert (line.state, line.line.bytes) == (PriceState.UNPRICED, 5)


def test_days_in_which_nothing_moved_are_not_read() -> None:
    old = ListedUsage([used(gb("100"), 24 * day) for day in range(30)])
    assert [each.price for each in corrected(OF_BOTH, old, [used(gb("1"), 3)])] == [usd("0.09")]
    assert old.read == []


def test_late_usage_of_another_month_or_of_less_than_nothing_is_refused() -> None:
    old = ListedUsage([])
    for late in (used(1, -1), used(1)._replace(hour_s=END_S)):
        with pytest.raises(ValueError, match="is no usage of 2026-11"):
            list(corrected(OF_BOTH, old, [late]))
    with pytest.raises(ValueError, match="less than 0 bytes"):
        list(corrected(OF_BOTH, old, [used(-1)]))

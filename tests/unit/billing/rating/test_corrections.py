"""Corrections: late usage at its continuation, and pairs of adjustments where it moves bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from metering.billing.money import exact_text
from metering.billing.prices.book import Override
from metering.billing.rating.corrections import corrected
from metering.billing.rating.lines import PriceState, RatedLine
from metering.billing.rating.payer_prices import PayerPrices
from metering.units import DAY_S, HOUR_S
from tests.support.priced import (
    BEGIN_S,
    END_S,
    US_TIERS,
    ListedUsage,
    allowance,
    book,
    exact_total,
    gb,
    product,
    usd,
    used,
)

if TYPE_CHECKING:
    from metering.billing.usage.months import UsageLine

PAYER, ONE, TWO = "999999999999", "111111111111", "222222222222"
US = product("US", "DataTransfer-Out-Bytes", US_TIERS)
SAO_PAULO = product("SA", "SAE1-DataTransfer-Out-Bytes", [(None, "0.15")])
PRICES = PayerPrices(book([US, SAO_PAULO], allowance("100", "US", "SA")), PAYER)


def correction(prices: PayerPrices, old: list[UsageLine], *late: UsageLine) -> list[RatedLine]:
    """The lines of a correction. The lines' cost equals the increase of the whole month's cost."""
    found = list(corrected(prices, ListedUsage(old), late))
    after, before = exact_total(prices, ListedUsage([*old, *late])), exact_total(prices, ListedUsage(old))
    assert sum(each.exact for each in found) == after - before
    return found


def told(lines: list[RatedLine]) -> list[tuple[str, int, int, str]]:
    """Account, hour of the month, bytes in GB and price of each line."""
    return [
        (
            each.line.account_id,
            (each.line.hour_s - BEGIN_S) // HOUR_S,
            each.line.bytes // gb("1"),
            exact_text(each.price * gb("1")),
        )
        for each in lines
    ]


def test_nothing_late_changes_nothing() -> None:
    assert correction(PRICES, [used(gb("1"))], used(0)) == []


def test_late_usage_comes_last_whenever_it_was_and_moves_nothing() -> None:
    found = correction(PRICES, [used(gb("10340"), 500)], used(gb("1"), 3, account=TWO))
    assert told(found) == [(TWO, 3, 1, "0.085")]


def test_late_usage_of_a_key_that_was_billed_is_a_line_of_its_own() -> None:
    found = correction(PRICES, [used(gb("110")), used(gb("10300"), 1)], used(gb("1")), used(gb("1")))
    assert told(found) == [(ONE, 0, 2, "0.085")]


def test_an_allowance_that_a_dearer_product_takes_moves_each_tier_behind_it() -> None:
    old = [used(gb("100"), account=ONE), used(gb("10240"), 5, account=TWO), used(gb("20"), 6, account=ONE)]
    found = correction(PRICES, old, used(gb("60"), 9, usage_type=SAO_PAULO.usage_type))
    assert told(found) == [
        (ONE, 9, 60, "0.00"),
        (ONE, 0, -60, "0.00"),
        (ONE, 0, 60, "0.09"),
        (TWO, 5, -60, "0.09"),
        (TWO, 5, 60, "0.085"),
    ]


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
    (line,) = corrected(PRICES, ListedUsage([]), [used(5, usage_type="A-New-Bytes")])
    assert (line.state, line.line.bytes) == (PriceState.UNPRICED, 5)


def test_days_in_which_nothing_moved_are_not_read() -> None:
    old = ListedUsage([used(gb("100"), 24 * day) for day in range(30)])
    assert [each.price for each in corrected(PRICES, old, [used(gb("1"), 3)])] == [usd("0.09")]
    assert old.read == []


def test_late_usage_of_another_month_or_of_less_than_nothing_is_refused() -> None:
    old = ListedUsage([])
    for late in (used(1, -1), used(1)._replace(hour_s=END_S)):
        with pytest.raises(ValueError, match="is no usage of 2026-11"):
            list(corrected(PRICES, old, [late]))
    with pytest.raises(ValueError, match="less than 0 bytes"):
        list(corrected(PRICES, old, [used(-1)]))

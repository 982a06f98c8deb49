"""What stands before a line."""

from __future__ import annotations

from metering.billing.rating.cuts import Cut
from metering.billing.rating.payer_prices import PayerPrices
from metering.billing.rating.positions import positions
from metering.billing.rating.standing import Standing, standing
from metering.units import HOUR_S
from tests.support.priced import BEGIN_S, US_TIERS, HourlyListedUsage, ListedUsage, allowance, book, gb, product, used

ONE, TWO = "111111111111", "222222222222"
US = product("US", "DataTransfer-Out-Bytes", US_TIERS)
PRICES = PayerPrices(book([US], allowance("100", "US")), "999999999999")
LINES = [used(gb("60")), used(gb("60"), 30, account=ONE), used(gb("5"), 30, account=TWO), used(gb("1"), 31)]


def before(usage: ListedUsage, place: Cut) -> tuple[int, ...]:
    found = standing(PRICES, usage, positions(PRICES, usage), "US", place)
    return tuple(size // gb("1") for size in (found.bytes, found.free_bytes, found.paid_bytes))


def test_a_line_stands_after_all_accounts_before_it() -> None:
    for usage in (ListedUsage(LINES), HourlyListedUsage(LINES)):
        assert before(usage, Cut(BEGIN_S)) == (0, 0, 0)
        assert before(usage, Cut(BEGIN_S + 30 * HOUR_S)) == (60, 60, 0)
        assert before(usage, Cut(*LINES[2][:6])) == (120, 100, 20)
        assert before(usage, Cut(*LINES[2][:6], gb("3"))) == (123, 100, 23)
        assert before(usage, Cut(BEGIN_S + 31 * HOUR_S)) == (125, 100, 25)
        assert before(usage, Cut(BEGIN_S + 700 * HOUR_S)) == (126, 100, 26)


def test_only_the_day_of_the_line_is_read_and_only_its_hour_if_hours_have_sums() -> None:
    usage, hourly = ListedUsage(LINES), HourlyListedUsage(LINES)
    cuts = positions(PRICES, ListedUsage(LINES))
    for each in (usage, hourly):
        standing(PRICES, each, cuts, "US", Cut(*LINES[2][:6]))
    assert (len(usage.read), hourly.read) == (1, [])


def test_nothing_stands_before_what_was_not_used() -> None:
    empty = ListedUsage([])
    assert standing(PRICES, empty, positions(PRICES, empty), "US", Cut(BEGIN_S)) == Standing(0, 0, 0)

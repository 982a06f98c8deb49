"""Laws of rating, on random months, against a slow and simple second implementation."""

from __future__ import annotations

from collections import Counter, defaultdict
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from metering.billing.money import EXACT_A_USD, cents_of
from metering.billing.prices.book import Product
from metering.billing.rating.corrections import corrected
from metering.billing.rating.payer_prices import PayerPrices, Positions, RatedLine
from metering.billing.rating.rater import Rater, positions, rated_month
from metering.hours import month_bounds_s
from metering.units import DAY_S
from tests.property.rating_histories import ACCOUNTS, PAYER, History, histories
from tests.support.examples import examples
from tests.support.priced import MONTH, HourlyListedUsage, ListedUsage
from tests.support.slow_rating import Slow, SlowPayer, slow_cents, slow_line_cost

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from random import Random

    from metering.billing.usage.months import Sold, UsageLine

_MONTH = month_bounds_s(MONTH)
_HALF_A_CENT = Fraction(1, 200)


def prices_of(history: History) -> PayerPrices:
    return PayerPrices(history.book, PAYER, history.overrides)


def slow(history: History, usage: Iterable[UsageLine]) -> list[Slow]:
    payer = SlowPayer(history.book, PAYER, history.overrides, MONTH)
    return payer.rated((line[:6], line.bytes) for line in usage)


def as_slow(line: RatedLine) -> Slow:
    """A rated line in the form of the slow implementation."""
    price, list_price = (Decimal(each).scaleb(-10) for each in (line.price, line.list_price))
    tier = (line.tier_from_bytes, line.tier_to_bytes)
    key, size = line.line[:6], line.line.bytes
    return Slow(key, size, line.state.value, line.sku, line.rate_code, price, list_price, tier, line.allowance)


def exact(lines: Iterable[RatedLine]) -> int:
    return sum(line.exact for line in lines)


def exact_usd(lines: Iterable[Slow]) -> Fraction:
    return sum((line.cost for line in lines), Fraction(0)) * EXACT_A_USD


@examples(2_000)
@given(histories())
def test_lines_totals_and_corrections_are_those_of_the_slow_implementation(history: History) -> None:
    prices, usage = prices_of(history), ListedUsage(history.usage)
    slow_lines = slow(history, history.usage)
    lines = list(rated_month(prices, usage))
    assert sorted(map(as_slow, lines)) == sorted(slow_lines)
    assert exact(lines) == exact_usd(slow_lines)
    moved = list(corrected(prices, usage, history.late))
    assert exact(moved) == exact_usd(slow(history, [*history.usage, *history.late])) - exact_usd(slow_lines)
    assert_adjusts(lines, moved, history.late)


def assert_adjusts(billed: list[RatedLine], moved: list[RatedLine], late: Iterable[UsageLine]) -> None:
    """Check that a correction has the late bytes of each key and reverses only billed bytes."""
    late_bytes: Counter[tuple[object, ...]] = Counter()
    for line in late:
        late_bytes[line[:6]] += line.bytes
    sums: Counter[tuple[object, ...]] = Counter()
    for each in moved:
        sums[each.line[:6]] += each.line.bytes
    assert +sums == +late_bytes
    left: Counter[tuple[object, ...]] = Counter()
    for each in (*billed, *moved):
        left[(each.line[:6], each[1:])] += each.line.bytes
    assert min(left.values(), default=0) >= 0


@examples(300)
@given(histories(), st.randoms(use_true_random=False))
def test_rating_again_in_any_order_from_parts_and_from_stored_cuts_gives_the_same_lines(
    history: History, random: Random
) -> None:
    prices = prices_of(history)
    parts = [part for line in history.usage for part in _halves(line)]
    random.shuffle(parts)
    usage = ListedUsage(parts)
    cuts = positions(prices, usage)
    stored = Positions.from_json(cuts.to_json())
    assert stored == cuts == positions(prices, ListedUsage(history.usage))
    lines = list(usage.lines())
    random.shuffle(lines)
    by_hour = positions(prices, HourlyListedUsage(history.usage))
    for each in (stored, by_hour):
        shuffled = sorted(map(as_slow, Rater(prices, each).rated(lines)))
        assert shuffled == sorted(slow(history, history.usage))


def _halves(line: UsageLine) -> tuple[UsageLine, UsageLine]:
    half = line.bytes // 2
    return line._replace(bytes=half), line._replace(bytes=line.bytes - half)


@examples(300)
@given(histories())
def test_accounts_priced_alone_and_days_priced_whole_add_up_to_the_walk_over_all(history: History) -> None:
    prices, usage = prices_of(history), ListedUsage(history.usage)
    rater = Rater(prices, positions(prices, usage))
    walk = slow(history, history.usage)
    for account in ACCOUNTS:
        alone = [rated for line in usage.lines() if line.account_id == account for rated in rater.rate(line)]
        assert sorted(map(as_slow, alone)) == sorted(line for line in walk if line.key[1] == account)
    by_day = list(rater.rated(_by_day(rater, usage)))
    assert _by_terms(map(as_slow, by_day)) == _by_terms(walk)


def _by_day(rater: Rater, usage: ListedUsage) -> Iterator[UsageLine]:
    """Usage lines, summed by day where daily sums suffice for rating."""
    days: Counter[tuple[object, ...]] = Counter()
    firsts: dict[tuple[object, ...], UsageLine] = {}
    for line in usage.lines():
        day_s = line.hour_s - line.hour_s % DAY_S
        if rater.needs_hours(line.sold, day_s):
            yield line
        else:
            of_day = line._replace(hour_s=day_s)
            days[of_day[:6]] += line.bytes
            firsts[of_day[:6]] = of_day
    yield from (firsts[key]._replace(bytes=size) for key, size in days.items())


def _by_terms(lines: Iterable[Slow]) -> Counter[tuple[object, ...]]:
    sums: Counter[tuple[object, ...]] = Counter()
    for line in lines:
        day_s = line.key[0] - line.key[0] % DAY_S
        sums[(day_s, line.key[1:], line[2:])] += line.bytes
    return sums


@examples(300)
@given(histories())
def test_days_are_read_by_the_hour_only_where_a_cut_or_a_change_lies_in_them(history: History) -> None:
    without = tuple(each for each in history.overrides if not each.account)
    prices, usage = PayerPrices(history.book, PAYER, without), ListedUsage(history.usage)
    cuts = positions(prices, usage)
    in_time = any(each.order == "chronological" for each in history.book.allowances)
    for sold, day_s in usage.read:
        changes = (hour_s for each in sold for hour_s in prices.changes(_product(prices, each), ""))
        changed = any(day_s < hour_s < day_s + DAY_S for hour_s in changes)
        cut = any(
            cut is not None and day_s <= cut.hour_s < day_s + DAY_S for each in cuts.skus.values() for cut in each.cuts
        )
        assert in_time or changed or cut
    assert usage.streamed == 0


def _product(prices: PayerPrices, sold: Sold) -> Product:
    found = prices.found(sold)
    assert isinstance(found, Product)
    return found


@examples(200)
@given(histories(), st.integers(0, 4))
def test_correcting_in_two_steps_costs_the_same_as_in_one(history: History, first: int) -> None:
    prices, usage = prices_of(history), ListedUsage(history.usage)
    one, two = history.late[:first], history.late[first:]
    later = ListedUsage([*history.usage, *one])
    steps = exact(corrected(prices, usage, one)) + exact(corrected(prices, later, two))
    assert steps == exact(corrected(prices, usage, history.late))


@examples(300)
@given(histories())
def test_an_allowance_is_used_up_or_all_that_may_be_free_is(history: History) -> None:
    lines = list(rated_month(prices_of(history), ListedUsage(history.usage)))
    prices = prices_of(history)
    for allowance in history.book.allowances:
        free = sum(line.line.bytes for line in lines if line.allowance == allowance.id)
        paid = any(not line.allowance and line.sku in allowance.skus and _may_be_free(prices, line) for line in lines)
        assert 0 <= free <= allowance.bytes
        assert free == allowance.bytes or not paid or allowance.from_s > _MONTH[0]


def _may_be_free(prices: PayerPrices, line: RatedLine) -> bool:
    return prices.takes_allowance(prices.book.by_sku[line.sku], line.line.account_id, line.line.hour_s)


@examples(300)
@given(histories(overrides=False, changes=False))
def test_more_bytes_never_cost_less_while_prices_stay_as_they_are(history: History) -> None:
    prices = prices_of(history)
    assert exact(corrected(prices, ListedUsage(history.usage), history.late)) >= 0
    less, more = (ListedUsage(lines) for lines in (history.usage, [*history.usage, *history.late]))
    assert exact(rated_month(prices, less)) <= exact(rated_month(prices, more))


@examples(300)
@given(histories())
def test_rounded_lines_and_invoices_stay_near_the_exact_total(history: History) -> None:
    lines = list(rated_month(prices_of(history), ListedUsage(history.usage)))
    bound = sum((1 + Fraction(line.price, 10**10)) / (2 * 10**10) for line in lines)
    assert all(line.cost == int(slow_line_cost(line.line.bytes, as_slow(line).price).scaleb(10)) for line in lines)
    l1_usd = Fraction(sum(line.cost for line in lines), 10**10)
    exact_total_usd = Fraction(exact(lines), EXACT_A_USD)
    assert abs(l1_usd - exact_total_usd) <= bound
    invoice: dict[str, list[RatedLine]] = defaultdict(list)
    for line in lines:
        invoice[line.rate_code].append(line)
    cents = [cents_of(exact(each)) for each in invoice.values()]
    assert cents == [slow_cents(as_slow(line).cost for line in each) for each in invoice.values()]
    assert abs(Fraction(sum(cents), 100) - exact_total_usd) <= len(cents) * _HALF_A_CENT

"""Costs are equal if rated by columns, line by line or by the slow implementation, for any grouping of a report."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from fractions import Fraction
from typing import cast

from hypothesis import given, settings
from hypothesis import strategies as st

from metering.billing.money import EXACT_A_USD
from metering.billing.payers import Membership, Organization, Payer
from metering.billing.rating.payer_prices import PayerPrices
from metering.billing.rating.rater import Rater, positions
from metering.billing.usage.months import MonthUsage
from metering.hours import hour_label, month_of
from metering.reports.costs.column_costs import ColumnCosts
from metering.reports.costs.rows import CostQuery, CostRows, Entry, entries_of, rows_of
from metering.reports.query import GroupColumn, UsageQuery
from metering.units import DAY_S, HOUR_S
from tests.property.rating_histories import ACCOUNTS, PAYER, History, histories
from tests.support.priced import BEGIN_S, END_S, MONTH, MemoryMonth
from tests.support.slow_rating import Slow, SlowPayer

_COLUMNS = ("account_id", "usage_type", "service", "from", "month", "day", "hour", "tier", "payer", "region")
_Sums = dict[tuple[str, ...], tuple[int, Fraction, int, int]]


def month_of_history(history: History, moves: bool) -> MonthUsage:
    """Usage of a history, split over two regions with the same keys; an account may join its payer mid-month."""
    east, west = [], []
    for number, line in enumerate(history.usage):
        part = line.bytes // 3 if number % 2 else 0
        east.append(line._replace(bytes=line.bytes - part))
        west.append(line._replace(bytes=part))
    regions = (MemoryMonth(usage=tuple(east)), MemoryMonth(region="us-west-2", usage=tuple(west)))
    joins_s = BEGIN_S + DAY_S + 13 * HOUR_S if moves else 0
    members = tuple(Membership(each, joins_s if each == ACCOUNTS[0] else 0, None) for each in ACCOUNTS)
    payer = Payer(payer_id=PAYER, name="Example", issuer="Metering", members=members)
    return MonthUsage(regions=regions, month=MONTH, organization=Organization(payers=(payer,)))


def slow_sums(history: History, usage: MonthUsage, query: CostQuery) -> _Sums:
    sums: _Sums = defaultdict(lambda: (0, Fraction(0), 0, 0))
    for payer_id in usage.payers():
        payer = SlowPayer(history.book, payer_id, history.overrides, MONTH)
        for line in payer.rated((line[:6], line.bytes) for line in usage.of(payer_id).lines()):
            hour_s, account_id, service, usage_type, from_location, _ = line.key
            if not query.covers(hour_s) or (query.usage.accounts and account_id not in query.usage.accounts):
                continue
            named = {
                "account_id": account_id, "service": service, "usage_type": usage_type, "from": from_location,
                "month": month_of(hour_s), "day": hour_label(hour_s)[:10], "hour": f"{hour_label(hour_s)}:00:00Z",
                "payer": payer_id,
            }  # fmt: skip
            values = tuple(named[column] for column in query.usage.group_by)
            sums[values] = plus(sums[values], line)
    return dict(sums)


def plus(before: tuple[int, Fraction, int, int], line: Slow) -> tuple[int, Fraction, int, int]:
    size, cost, unpriced, unrated = before
    return (
        size + line.bytes,
        cost + (line.cost if line.state == "priced" else 0),
        unpriced + line.bytes * (line.state == "unpriced"),
        unrated + line.bytes * (line.state == "unrated"),
    )


def sums_of(rows: CostRows) -> _Sums:
    return {
        row.values: (
            row.total.bytes, Fraction(row.total.exact, EXACT_A_USD), row.total.unpriced, row.total.unrated,
        )
        for row in rows.rows
    }  # fmt: skip


def by_lines(history: History, usage: MonthUsage, query: CostQuery) -> Iterable[Entry]:
    for payer_id in usage.payers():
        of, prices = usage.of(payer_id), PayerPrices(history.book, payer_id, history.overrides)
        rater = Rater(prices, positions(prices, of))
        yield from entries_of(query, history.book, of, rater)


def by_columns(history: History, usage: MonthUsage, query: CostQuery) -> CostRows:
    costs = ColumnCosts(
        query=query, usage=usage, book=history.book, payers=query.payers,
        prices_of=lambda payer_id: PayerPrices(history.book, payer_id, history.overrides),
        own_prices=frozenset(each.account for each in history.overrides if each.account),
    )  # fmt: skip
    return rows_of(costs.entries())


_UNTIMED = ("account_id", "usage_type", "service", "from", "month", "tier", "payer", "region")
# The end of a month, or an hour after which a random month may or may not have usage.
_until = st.sampled_from([END_S, BEGIN_S + 11 * DAY_S + 14 * HOUR_S, BEGIN_S + 2 * DAY_S + HOUR_S])
_ranges = st.sampled_from([(BEGIN_S, END_S), (BEGIN_S + DAY_S, END_S), (BEGIN_S + 13 * HOUR_S, BEGIN_S + 30 * HOUR_S)])


@settings(deadline=None)
@given(histories(), st.sets(st.sampled_from(_COLUMNS), max_size=4), _ranges, st.booleans(), st.booleans())
def test_columns_lines_and_the_slow_implementation_agree(
    history: History, columns: set[str], hours: tuple[int, int], moves: bool, alone: bool
) -> None:
    group_by = cast("tuple[GroupColumn, ...]", tuple(sorted(columns)))
    accounts = frozenset(ACCOUNTS[:1]) if alone else frozenset()
    query = CostQuery(usage=UsageQuery(from_s=hours[0], to_s=hours[1], group_by=group_by, accounts=accounts))
    usage = month_of_history(history, moves)
    lines, found = rows_of(by_lines(history, usage, query)), by_columns(history, usage, query)
    assert sums_of(found) == sums_of(lines)
    assert found.unpriced == lines.unpriced
    if columns.isdisjoint({"tier", "region"}):
        assert sums_of(found) == slow_sums(history, usage, query)


@settings(deadline=None)
@given(histories(), st.integers(1, 30), st.sets(st.sampled_from(_UNTIMED), max_size=4), _until)
def test_accounts_that_pay_for_themselves_agree_however_many_they_are(
    history: History, more: int, columns: set[str], until_s: int
) -> None:
    crowd = (*ACCOUNTS, *(f"{number:012}" for number in range(more)))
    lines = tuple(
        line._replace(account_id=account_id, bytes=line.bytes * (1 + number % 4))
        for line in history.usage
        for number, account_id in enumerate(crowd)
        if line.account_id != crowd[(number + 1) % len(crowd)]
    )
    usage = replace(month_of_history(history._replace(usage=lines), moves=False), organization=Organization())
    group_by = cast("tuple[GroupColumn, ...]", tuple(sorted(columns)))
    query = CostQuery(usage=UsageQuery(from_s=BEGIN_S, to_s=until_s, group_by=group_by))
    found = by_columns(history, usage, query)
    assert sums_of(found) == sums_of(rows_of(by_lines(history, usage, query)))
    if columns.isdisjoint({"tier", "region"}):
        assert sums_of(found) == slow_sums(history, usage, query)

"""What a payer's usage, or a part of it, costs: exactly (L0), from the sums of days and few hours."""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from metering.billing.rating.positions import positions
from metering.billing.rating.rater import Rater
from metering.billing.rating.regions import regions_rated
from metering.billing.usage.merged import merged
from metering.billing.usage.months import MonthUsage
from metering.billing.usage.ports import UsageLine

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from metering.billing.budgets.budget import Scope
    from metering.billing.budgets.summaries import DaySummaries, Group
    from metering.billing.day_sums.region_month import SummedMonth
    from metering.billing.organization.payers import Organization
    from metering.billing.rating.cuts import Positions
    from metering.billing.rating.payer_prices import PayerPrices
    from metering.billing.usage.merged import MergedUsage
    from metering.billing.usage.ports import Sold


@dataclass(frozen=True, kw_only=True)
class PayerMonth:
    """One payer's open month. It is the `PayerUsage` that positions are found by.

    Attributes:
        summaries: Sums of days, which say all but what happens within a day.
    """

    payer_id: str
    month: str
    regions: Sequence[SummedMonth]
    summaries: DaySummaries
    organization: Organization

    def parts(self, days: Iterable[int] | None = None) -> Iterator[tuple[SummedMonth, int, Group, Sold, int]]:
        """Region, day, group, what is sold, bytes; of some days, or of all of the month."""
        wanted = None if days is None else sorted(days)
        for region in self.regions:
            for day_s in region.days if wanted is None else wanted:
                for group, solds in self.summaries.of_payer(region, day_s, self.payer_id):
                    for sold, size in solds.items():
                        yield region, day_s, group, sold, size

    def days(self) -> Mapping[Sold, Mapping[int, int]]:
        return self._days

    def lines_of(self, sold: frozenset[Sold], day_s: int) -> Iterator[UsageLine]:
        return self._usage.lines_of(sold, day_s)

    def lines(self) -> Iterator[UsageLine]:
        return self._usage.lines()

    def hours(self, sold: frozenset[Sold], day_s: int) -> Mapping[int, int]:
        """Bytes by hour of what is sold together: of few days, whose sums of hours are kept."""
        found: dict[int, int] = {}
        for _, hour_s, _, each, size in self.hour_parts(day_s):
            if each in sold:
                found[hour_s] = found.get(hour_s, 0) + size
        return {hour_s: size for hour_s, size in found.items() if size}

    def lines_of_hour(self, sold: frozenset[Sold], hour_s: int) -> Iterator[UsageLine]:
        """Lines of one hour, in the order of rating."""
        return self.hour_lines(self.regions, sold, hour_s)

    def hour_lines(self, regions: Iterable[SummedMonth], sold: frozenset[Sold], hour_s: int) -> Iterator[UsageLine]:
        """Lines of one hour of some regions, in the order of rating."""
        accounts = self.organization.accounts_of(self.payer_id)
        lines = heapq.merge(*(region.lines_of_hour(hour_s, accounts, sold) for region in regions))
        mine = (line for line in lines if self.organization.payer_of(line.account_id, hour_s) == self.payer_id)
        return merged(mine)

    def hour_parts(self, day_s: int) -> Iterator[tuple[SummedMonth, int, Group, Sold, int]]:
        """Region, hour, group, what is sold, bytes of one day."""
        for region in self.regions:
            for hour_s, groups in self.summaries.hours_of(region, day_s).items():
                for group, solds in groups.items():
                    if group.payer_id == self.payer_id:
                        for sold, size in solds.items():
                            yield region, hour_s, group, sold, size

    @cached_property
    def _days(self) -> dict[Sold, dict[int, int]]:
        found: dict[Sold, dict[int, int]] = {}
        for _, day_s, _, sold, size in self.parts():
            by_day = found.setdefault(sold, {})
            by_day[day_s] = by_day.get(day_s, 0) + size
        return found

    @property
    def _usage(self) -> MergedUsage:
        whole = MonthUsage(regions=self.regions, month=self.month, organization=self.organization)
        return whole.of(self.payer_id)


@dataclass(frozen=True, kw_only=True)
class PayerCosts:
    """Exact costs of parts of a payer's open month."""

    usage: PayerMonth
    prices: PayerPrices

    @cached_property
    def positions(self) -> Positions:
        """Cuts of the payer's month so far."""
        return positions(self.prices, self.usage)

    def exact_of(self, scope: Scope, days: Iterable[int] | None = None) -> int:
        """Exact cost (L0) of what is in the scope, of some days or of the whole month so far.

        A day is rated by its sums, unless a tier, an allowance or a price ends within it: then its hours are read.
        """
        exact = 0
        by_hours: dict[int, set[Sold]] = {}
        for region, day_s, group, sold, size in self.usage.parts(days):
            if not in_scope(scope, region.region, group, sold):
                continue
            if self._rater.needs_hours(sold, day_s):
                by_hours.setdefault(day_s, set()).add(sold)
            else:
                line = UsageLine(day_s, group.account_id, sold.service, sold.usage_type, "", "", size)
                exact += sum(rated.exact for rated in self._rater.rate(line))
        return exact + sum(self._hours(scope, day_s, solds) for day_s, solds in by_hours.items())

    def _hours(self, scope: Scope, day_s: int, solds: set[Sold]) -> int:
        """Exact cost of a day by its hours. Lines are read only of an hour in which something begins."""
        exact = 0
        by_lines: dict[int, set[Sold]] = {}
        for region, hour_s, group, sold, size in self.usage.hour_parts(day_s):
            if sold not in solds or not in_scope(scope, region.region, group, sold):
                continue
            terms = self._rater.terms_of_hour(sold, hour_s, group.account_id)
            if terms is None:
                by_lines.setdefault(hour_s, set()).add(sold)
            else:
                exact += size * terms.price
        return exact + sum(self._lines(scope, hour_s, cut) for hour_s, cut in by_lines.items())

    def _lines(self, scope: Scope, hour_s: int, solds: set[Sold]) -> int:
        # A key in two regions is one line: a place in it counts the bytes of both.
        parts = sorted(
            (line, region.region)
            for region in self.usage.regions
            for line in self.usage.hour_lines([region], frozenset(solds), hour_s)
            if scope.account in ("", line.account_id)
        )
        return sum(rated.exact for name, rated in regions_rated(parts, self._rater) if scope.region in ("", name))

    @cached_property
    def _rater(self) -> Rater:
        return Rater(self.prices, self.positions)


def in_scope(scope: Scope, region: str, group: Group, sold: Sold) -> bool:
    """Whether the sums of a group in a region are in a scope. An account in a scope is a group of its own."""
    return (
        scope.payer in ("", group.payer_id)
        and scope.account in ("", group.account_id)
        and scope.region in ("", region)
        and scope.usage_type in ("", sold.usage_type)
    )

"""Everything that budgets of one moment are judged by: day sums of all regions, prices, payers."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

from metering.billing.budgets.costs import PayerCosts, PayerMonth
from metering.billing.budgets.profiles import HISTORY_DAYS, HourShares
from metering.billing.budgets.summaries import DaySummaries, Grouping
from metering.billing.day_sums.index import DayIndexes
from metering.billing.day_sums.region_month import SummedMonth
from metering.billing.day_sums.uncounted import reach_of
from metering.billing.rating.payer_prices import OwnedOverrides, PayerPrices
from metering.errors import ObjectMissingError, UnavailableError
from metering.hours import month_bounds_s, month_of
from metering.units import DAY_S, HOUR_S

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from metering.billing.budgets.budget import Budget
    from metering.billing.day_sums.index import DayIndex
    from metering.billing.day_sums.uncounted import Reach
    from metering.billing.organization.payers import Organization
    from metering.billing.prices.book import PriceBook
    from metering.billing.prices.overrides import Overrides
    from metering.lake.ports import TotalsReader
    from metering.stores.objects import ObjectStore


# The compactor takes hours of today within one hour of their first rows, unless it is behind.
_PUBLISHED_AFTER_S = 2 * HOUR_S


class RegionSums(Protocol):
    """Where the day sums of a region are."""

    @property
    def region(self) -> str: ...
    @property
    def objects(self) -> ObjectStore: ...
    @property
    def totals(self) -> TotalsReader: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadRegion:
    """A region with the version of its day sums that all questions of one moment see."""

    sums: RegionSums
    index: DayIndex

    @property
    def region(self) -> str:
        return self.sums.region

    def month(self, month: str) -> SummedMonth:
        """One of its months."""
        return SummedMonth(
            region=self.region,
            month=month,
            index=self.index,
            objects=self.sums.objects,
            totals=self.sums.totals,
            digest=self.index.closed.get(month, ""),
        )

    def last_whole_day(self) -> int | None:
        """The last day of which all is counted; None if nobody knows."""
        day_s = (self.index.complete_through_s // DAY_S - 1) * DAY_S
        # What came in the last hours of a day is published a while after them.
        published = self.index.counted_s >= day_s + DAY_S + _PUBLISHED_AFTER_S
        return day_s if self.index.complete_through_s and published else None


def read_regions(regions: Iterable[RegionSums]) -> tuple[list[ReadRegion], list[str]]:
    """Regions with their day sums, and the names of those that gave no answer. One without sums has no usage yet."""
    found, left_out = [], []
    for sums in regions:
        try:
            found.append(ReadRegion(sums=sums, index=DayIndexes(objects=sums.objects).newest()))
        except (UnavailableError, ObjectMissingError):
            left_out.append(sums.region)
    return found, left_out


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What usage is rated by.

    Attributes:
        book: None if no price book was ever imported: nothing has a cost then.
    """

    book: PriceBook | None
    overrides: Overrides
    organization: Organization

    def prices_of(self, payer_id: str) -> PayerPrices | None:
        """Prices of a payer and its accounts."""
        if self.book is None:
            return None
        return PayerPrices.of(self.book, self.organization, payer_id, self._owned)

    @cached_property
    def _owned(self) -> OwnedOverrides:
        return OwnedOverrides(self.overrides.overrides)


@dataclass(kw_only=True)
class OpenMonths:
    """Day sums and terms of one moment. Costs of a payer's month are found once.

    Attributes:
        objects: Bucket of the home region, where sums of days for budgets are kept.
        regions: All regions that gave an answer.
        budgets: What is asked: accounts of budgets are summed apart.
    """

    objects: ObjectStore
    regions: Sequence[ReadRegion]
    terms: Terms
    budgets: Sequence[Budget]
    _costs: dict[tuple[str, str], PayerCosts | None] = field(default_factory=dict)
    _months: dict[str, list[SummedMonth]] = field(default_factory=dict)
    _shares: dict[int, HourShares] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.summaries = DaySummaries(objects=self.objects, grouping=self._grouping())

    def months(self, month: str) -> list[SummedMonth]:
        """A month of each region."""
        if month not in self._months:
            self._months[month] = [region.month(month) for region in self.regions]
        return self._months[month]

    def is_closed(self, month: str) -> bool:
        """Whether a month is closed in every region; closed months are not evaluated."""
        return bool(self.regions) and all(month in region.index.closed for region in self.regions)

    @property
    def through_s(self) -> int:
        """Up to when all regions are counted, as far as is known; 0 if it is not."""
        return min((region.index.complete_through_s for region in self.regions if region.index.number), default=0)

    def last_whole_day(self) -> int | None:
        """The last day of which all regions have counted everything; None if there is none."""
        days = [region.last_whole_day() for region in self.regions if region.index.number]
        known = [day_s for day_s in days if day_s is not None]
        return min(known) if known and len(known) == len(days) else None

    def payers_of(self, budget: Budget, month: str) -> list[str]:
        """Payers that a budget may be about in a month, in order."""
        scope, organization = budget.scope, self.terms.organization
        if scope.account:
            first_s, after_s = month_bounds_s(month)
            hours = [first_s, *(h for h in organization.changes(scope.account) if first_s < h < after_s)]
            found = {organization.payer_of(scope.account, hour_s) for hour_s in hours}
            return sorted(found if not scope.payer else found & {scope.payer})
        if scope.payer:
            return [scope.payer]
        return sorted(self.payers(month))

    def payers(self, month: str) -> set[str]:
        """Payers with usage in a month, as far as their usage is summed."""
        return {
            group.payer_id
            for region in self.months(month)
            for day_s in region.days
            for group in self.summaries.of(region, day_s)
        }

    def costs_of(self, payer_id: str, month: str) -> PayerCosts | None:
        """Costs of a payer's month; None without a price book."""
        if (payer_id, month) not in self._costs:
            prices = self.terms.prices_of(payer_id)
            self._costs[payer_id, month] = (
                None if prices is None else PayerCosts(usage=self.usage_of(payer_id, month), prices=prices)
            )
        return self._costs[payer_id, month]

    def usage_of(self, payer_id: str, month: str) -> PayerMonth:
        """Usage of a payer's month."""
        return PayerMonth(
            payer_id=payer_id,
            month=month,
            regions=self.months(month),
            summaries=self.summaries,
            organization=self.terms.organization,
        )

    def shares(self, before_s: int) -> HourShares:
        """How bytes were spread over the hours of the days of the last four weeks before a day."""
        if before_s not in self._shares:
            shares = HourShares()
            for region in self.regions:
                for day_s in range(before_s - HISTORY_DAYS * DAY_S, before_s, DAY_S):
                    shares.add(day_s, self.summaries.everything(region.month(month_of(day_s)), day_s))
            self._shares[before_s] = shares
        return self._shares[before_s]

    @property
    def reach(self) -> Reach:
        """How far the sums of all regions go, as their billers last saw it."""
        return reach_of(region.index.reach for region in self.regions)

    def _grouping(self) -> Grouping:
        """What is summed: payers of budgets and payers of several accounts, unless a budget is about all payers."""
        organization = self.terms.organization
        named: set[str] = {payer.payer_id for payer in organization.payers if len(payer.members) > 1}
        everybody = False
        apart = {each.account for each in self.terms.overrides.overrides if each.account}
        for budget in self.budgets:
            if budget.scope.account:
                account_id = budget.scope.account
                apart.add(account_id)
                named |= {organization.payer_of(account_id, 0), account_id}
                named |= {organization.payer_of(account_id, hour_s) for hour_s in organization.changes(account_id)}
            elif budget.scope.payer:
                named.add(budget.scope.payer)
            else:
                everybody = True
        return Grouping(
            organization=organization, payers=None if everybody else frozenset(named), apart=frozenset(apart)
        )

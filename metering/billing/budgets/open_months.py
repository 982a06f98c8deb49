"""Usage, prices and payers that budgets of one moment are judged by."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, ClassVar, Protocol

from metering.billing.budgets.forecasts import HISTORY_DAYS, HourShares
from metering.billing.budgets.summaries import DaySummaries, Grouping, PayerCosts, PayerMonth
from metering.billing.day_sums.days import SummedMonth
from metering.billing.day_sums.index import DayIndex, DayIndexes, Reach, reach_of
from metering.billing.rating.lines import Positions
from metering.billing.rating.payer_prices import OwnedOverrides, PayerPrices, is_unpriced
from metering.billing.usage.months import Sold
from metering.errors import ObjectMissingError, UnavailableError
from metering.hours import month_bounds_s, month_of, rfc3339
from metering.stores.codec import AnyText, Form, StoredDocument, members_of
from metering.stores.objects import ObjectStore, positions_key
from metering.units import DAY_S, HOUR_S

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from metering.billing.budgets.budget import Budget
    from metering.billing.organization import Organization
    from metering.billing.prices.book import PriceBook
    from metering.billing.prices.store import Overrides
    from metering.lake.ports import TotalsReader
    from metering.stores.fields import Fields


# Unless it is behind, the compactor takes an hour of today within one hour of its first rows.
_PUBLISHED_AFTER_S = 2 * HOUR_S


class RegionSums(Protocol):
    """Bucket of the day sums of a region."""

    @property
    def region(self) -> str: ...
    @property
    def objects(self) -> ObjectStore: ...
    @property
    def totals(self) -> TotalsReader: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadRegion:
    """A region with one version of its day sums, for all questions of one moment."""

    sums: RegionSums
    index: DayIndex

    @property
    def region(self) -> str:
        return self.sums.region

    def month(self, month: str) -> SummedMonth:
        return SummedMonth(
            region=self.region,
            month=month,
            index=self.index,
            objects=self.sums.objects,
            totals=self.sums.totals,
            digest=self.index.closed.get(month, ""),
        )

    def last_whole_day(self) -> int | None:
        """The last day that is counted whole; None if unknown."""
        day_s = (self.index.complete_through_s // DAY_S - 1) * DAY_S
        # Usage of a day's last hours is published some time after the day ends.
        published = self.index.counted_s >= day_s + DAY_S + _PUBLISHED_AFTER_S
        return day_s if self.index.complete_through_s and published else None


def read_regions(regions: Iterable[RegionSums]) -> tuple[list[ReadRegion], list[str]]:
    """Regions with their day sums, and the names of those that gave no answer."""
    found, left_out = [], []
    for sums in regions:
        try:
            found.append(ReadRegion(sums=sums, index=DayIndexes(objects=sums.objects).newest()))
        except (UnavailableError, ObjectMissingError):
            left_out.append(sums.region)
    return found, left_out


@dataclass(frozen=True, kw_only=True)
class Terms:
    """Price book, overrides and payers that usage is rated by.

    Attributes:
        book: None if no price book was ever imported: nothing has a cost then.
    """

    book: PriceBook | None
    overrides: Overrides
    organization: Organization

    def prices_of(self, payer_id: str) -> PayerPrices | None:
        if self.book is None:
            return None
        return PayerPrices.of(self.book, self.organization, payer_id, self._owned)

    @cached_property
    def _owned(self) -> OwnedOverrides:
        return OwnedOverrides(self.overrides.overrides)


@dataclass(kw_only=True)
class OpenMonths:
    """Day sums and terms of one moment. Costs of a payer's month are found once, accounts of budgets summed apart.

    Attributes:
        objects: Bucket of the home region, with the sums of days for budgets.
        regions: All regions that gave an answer.
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
        if month not in self._months:
            self._months[month] = [region.month(month) for region in self.regions]
        return self._months[month]

    def is_closed(self, month: str) -> bool:
        return bool(self.regions) and all(month in region.index.closed for region in self.regions)

    @property
    def through_s(self) -> int:
        """Time up to which all regions are counted; 0 if unknown."""
        return min((region.index.complete_through_s for region in self.regions if region.index.number), default=0)

    def last_whole_day(self) -> int | None:
        """The last day that all regions have counted whole; None if unknown."""
        days = [region.last_whole_day() for region in self.regions if region.index.number]
        known = [day_s for day_s in days if day_s is not None]
        return min(known) if known and len(known) == len(days) else None

    def payers_of(self, budget: Budget, month: str) -> list[str]:
        """Payers that a budget may be about in a month, in order."""
        scope, organization = budget.scope, self.terms.organization
        if scope.account:
            found = organization.payers_between(scope.account, *month_bounds_s(month))
            return sorted(found if not scope.payer else found & {scope.payer})
        if scope.payer:
            return [scope.payer]
        return sorted(self.payers(month))

    def payers(self, month: str) -> set[str]:
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
        return PayerMonth(
            payer_id=payer_id,
            month=month,
            regions=self.months(month),
            summaries=self.summaries,
            organization=self.terms.organization,
        )

    def shares(self, before_s: int) -> HourShares:
        """Spread of bytes over the hours of the days of the last four weeks before a day."""
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
        """Sum payers of budgets and payers of several accounts, unless a budget is about all payers."""
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


# A month is closed 72 hours after its end; two days more are for people.
_PATIENCE_S = 5 * DAY_S


Unpriced = Mapping[str, Mapping[Sold, int]]
"""Bytes that a book does not know, by month and product."""


def unpriced_in(months: OpenMonths, names: Iterable[str]) -> Unpriced:
    """Unpriced usage of some months, over all accounts; empty without a price book."""
    book = months.terms.book
    return {} if book is None else {name: _unpriced(months, name, book) for name in names}


def _unpriced(months: OpenMonths, name: str, book: PriceBook) -> dict[Sold, int]:
    found: dict[Sold, int] = {}
    for region in months.months(name):
        for day_s in region.days:
            for hour_s, solds in months.summaries.everything(region, day_s).items():
                for sold, size in solds.items():
                    if is_unpriced(book, sold, hour_s):
                        found[sold] = found.get(sold, 0) + size
    return found


def blocked(
    months: OpenMonths, names: Iterable[str], *, left_out: Sequence[str], unpriced: Unpriced, now_s: int
) -> dict[str, str]:
    """Months that ended long enough ago to be invoiced and cannot be, each with the reason in words.

    None without a price book.
    """
    if months.terms.book is None:
        return {}
    found: dict[str, str] = {}
    for name in sorted(set(names)):
        _, after_s = month_bounds_s(name)
        if now_s >= after_s + _PATIENCE_S and any(region.days for region in months.months(name)):
            why = _reason(months, name, left_out, unpriced)
            if why:
                found[name] = why
    return found


def _reason(months: OpenMonths, name: str, left_out: Sequence[str], unpriced: Unpriced) -> str:
    still_open = [region.region for region in months.regions if name not in region.index.closed]
    if still_open:
        return f"{name} is not closed in {', '.join(still_open)}"
    if left_out:
        return f"{', '.join(left_out)} gave no answer"
    types = sorted({sold.usage_type for sold in unpriced.get(name, {})})
    return f"{name} has usage without a price, whose payers get no invoice: {', '.join(types[:5])}" if types else ""


def _book_of(fields: Fields, name: str) -> tuple[str, int, str]:
    book = fields.nested(name)
    return book.text("name"), book.whole("version"), book.any_text("sha256")


# Three runs of a biller with the longest allowed schedule.
_CURRENT_FOR_S = 6 * HOUR_S


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptPositions(StoredDocument):
    """Positions of one payer, and their inputs.

    Attributes:
        as_of: When they were found, RFC 3339.
        through: Time up to which the count of all regions was complete, RFC 3339; empty if unknown.
        book: Name, version and digest of the price book.
        overrides, organization: Versions.
        regions: Regions whose usage is in them.
        left_out: Regions that gave no answer.
    """

    SCHEMA: ClassVar[str] = "metering.positions/1"
    as_of: str
    through: AnyText
    book: Annotated[
        tuple[str, int, str], Form(_book_of, lambda book: dict(zip(("name", "version", "sha256"), book, strict=True)))
    ]
    overrides: int
    organization: int
    regions: tuple[str, ...]
    left_out: tuple[str, ...]
    positions: Positions

    def fits(self, book: PriceBook, overrides_version: int, organization_version: int) -> bool:
        """Whether they have these prices and payers, and the usage of every region."""
        now = ((book.name, book.version, book.sha256), overrides_version, organization_version)
        return now == (self.book, self.overrides, self.organization) and not self.left_out

    def is_current(self, regions: Iterable[str], now_s: int) -> bool:
        """Whether the biller has just found them, with the usage of all of these regions.

        While the biller stands still, usage goes on, and kept tiers are too low.
        """
        made_s = datetime.fromisoformat(self.as_of).timestamp()
        return now_s - made_s <= _CURRENT_FOR_S and set(regions) <= set(self.regions)

    def to_json(self) -> bytes:
        head = {"schema": self.SCHEMA, "month": self.positions.month, "payer": self.positions.payer_id}
        return json.dumps({**head, **members_of(self)}, separators=(",", ":")).encode()


def read_positions(objects: ObjectStore, month: str, payer_id: str) -> KeptPositions | None:
    """The kept positions of a payer's month; None if the biller keeps none.

    Raises:
        LedgerCorruptError: The object is something else.
    """
    key = positions_key(month, payer_id)
    try:
        return KeptPositions.from_json(objects.get(key), key)
    except ObjectMissingError:
        return None


def moment(epoch_s: int) -> str:
    """RFC 3339 of a second; empty for 0, which is unknown."""
    return rfc3339(epoch_s) if epoch_s else ""

"""Usage, prices and payers for evaluating budgets at one point in time.

For budgets, each day's usage is summed by payer, by separately counted account, and by product. The sums are stored
with the key of their day object, so that the next run reads only changed days.
"""

from __future__ import annotations

import gzip
import hashlib
import heapq
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, ClassVar, NamedTuple, Protocol

from metering.billing.budgets import forecasts
from metering.billing.day_sums.days import DayHead, DayReader, SummedMonth
from metering.billing.day_sums.index import DayIndex, DayIndexes, Reach, reach_of
from metering.billing.rating.payer_prices import OwnedOverrides, PayerPrices, Positions, is_unpriced
from metering.billing.rating.rater import Rater, positions, regions_rated
from metering.billing.usage.months import MergedUsage, MonthUsage, Sold, UsageLine, merged
from metering.errors import LedgerCorruptError, ObjectMissingError, UnavailableError
from metering.hours import date_of, month_bounds_s, month_of, rfc3339
from metering.stores.codec import AnyText, Fields, Form, StoredDocument, members_of
from metering.stores.objects import ObjectStore, positions_key, rated_summaries_key
from metering.units import DAY_S, HOUR_S
from metering.usage.totals import Service, UsageType

if TYPE_CHECKING:
    from metering.billing.budgets.budget import Budget, Scope
    from metering.billing.day_sums.now import SumsNow
    from metering.billing.owners import Owners
    from metering.billing.payers import Organization
    from metering.billing.prices import store
    from metering.billing.prices.book import PriceBook
    from metering.lake.ports import TotalsReader

_SCHEMA = "metering.budget-days/1"


class Group(NamedTuple):
    """A separately counted account, or, if the account id is empty, all other accounts of a payer."""

    payer_id: str
    account_id: str


Sums = dict[Group, dict[Sold, int]]
_EVERYBODY = Group("", "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Grouping:
    """Defines which usage is summed, and by which groups.

    Attributes:
        payers: Payers whose usage is summed; None for all payers.
        apart: Accounts that are summed separately: accounts of budgets, and accounts with their own prices.
    """

    organization: Organization
    payers: frozenset[str] | None
    apart: frozenset[str]

    @property
    def stamp(self) -> str:
        """Hash of the grouping, which changes whenever the sums of a day might change."""
        parts = [self.organization.sha256, str(self.organization.version), *sorted(self.apart), "|"]
        parts += ["*"] if self.payers is None else sorted(self.payers)
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def sums(self, region: SummedMonth, day_s: int, day: DayReader) -> Sums:
        found: Sums = {}
        solds = [Sold(kind.service, kind.usage_type) for kind in day.head.kinds]
        for account_id, places in day.accounts(self._accounts()):
            if any(day_s < hour_s < day_s + DAY_S for hour_s in self.organization.changes(account_id)):
                for line in region.hour_lines(frozenset([account_id]), day_s=day_s):
                    self._add(found, line)
                continue
            into = self._into(found, account_id, day_s)
            if into is not None:
                for place, size in places.items():
                    sold = solds[place]
                    into[sold] = into.get(sold, 0) + size
        return found

    def hours(self, region: SummedMonth, day_s: int) -> dict[int, Sums]:
        """Sums of each hour of a region's day, from the totals stored beside its lake files."""
        found: dict[int, Sums] = {}
        for line in region.parts_of_day(day_s, self._accounts()):
            self._add(found.setdefault(line.hour_s, {}), line)
        return found

    def _add(self, found: Sums, line: UsageLine) -> None:
        into = self._into(found, line.account_id, line.hour_s)
        if into is not None:
            sold = line.sold
            into[sold] = into.get(sold, 0) + line.bytes

    def _into(self, found: Sums, account_id: str, hour_s: int) -> dict[Sold, int] | None:
        payer_id = self.organization.payer_of(account_id, hour_s)
        if self.payers is not None and payer_id not in self.payers:
            return None
        return found.setdefault(Group(payer_id, account_id if account_id in self.apart else ""), {})

    def _accounts(self) -> frozenset[str] | None:
        if self.payers is None:
            return None
        return frozenset().union(*(self.organization.accounts_of(payer_id) for payer_id in self.payers))


class _Kind(StrEnum):
    """Kind of stored sums: a day by group (under the day's first second), hours by group, hours over all groups."""

    DAY = "day"
    HOURS = "hours"
    ALL = "all"


class _Kept(NamedTuple):
    """Sums of a region's day, by epoch second, with the key of their day object."""

    key: str
    sums: Mapping[int, Sums]


_Days = dict[tuple[str, str, _Kind], _Kept]
_COLUMNS = ("at", "payer", "account", "service", "usage_type", "bytes")


@dataclass(slots=True)
class DaySummaries:
    """Sums of days. Mutable: results are cached."""

    objects: ObjectStore
    grouping: Grouping
    _known: dict[str, _Days] = field(default_factory=dict)
    _changed: set[str] = field(default_factory=set)

    def of(self, region: SummedMonth, day_s: int) -> Mapping[Group, Mapping[Sold, int]]:
        return self._sums(region, day_s, _Kind.DAY).get(day_s, {})

    def of_payer(self, region: SummedMonth, day_s: int, payer_id: str) -> Iterator[tuple[Group, Mapping[Sold, int]]]:
        """Sums of one payer's groups in a day, without reading other payers' sums."""
        sums, grouping = self.of(region, day_s), self.grouping
        apart = grouping.apart & grouping.organization.accounts_of(payer_id)
        groups = (Group(payer_id, each) for each in ("", *apart))
        return ((group, sums[group]) for group in groups if group in sums)

    def hours_of(self, region: SummedMonth, day_s: int) -> Mapping[int, Mapping[Group, Mapping[Sold, int]]]:
        """Sums of each hour of a region's day, for days within which a price changes."""
        return self._sums(region, day_s, _Kind.HOURS)

    def everything(self, region: SummedMonth, day_s: int) -> Mapping[int, Mapping[Sold, int]]:
        """Bytes of each hour of a region's day, over all accounts."""
        hours = self._sums(region, day_s, _Kind.ALL)
        return {hour_s: groups[_EVERYBODY] for hour_s, groups in hours.items()}

    def keep(self) -> None:
        """Put changed sums. Lost sums are computed again."""
        for month in sorted(self._changed):
            self.objects.put(rated_summaries_key(month), self._body(month), if_absent=False)
        self._changed.clear()

    def _sums(self, region: SummedMonth, day_s: int, kind: _Kind) -> Mapping[int, Sums]:
        key = region.index.days.get(day_s)
        if key is None:
            return {}
        date = date_of(day_s)
        month = self._month(date[:7])
        kept = month.get((region.region, date, kind))
        if kept is None or kept.key != key:
            kept = _Kept(key, self._found(region, day_s, kind))
            month[region.region, date, kind] = kept
            self._changed.add(date[:7])
        return kept.sums

    def _found(self, region: SummedMonth, day_s: int, kind: _Kind) -> dict[int, Sums]:
        if kind is _Kind.HOURS:
            return self.grouping.hours(region, day_s)
        if kind is _Kind.ALL:
            return _of_everybody(region.head(day_s))
        day = region.day(day_s)
        return {} if day is None else {day_s: self.grouping.sums(region, day_s, day)}

    def _month(self, month: str) -> _Days:
        if month not in self._known:
            self._known[month] = {}
            # A lost or damaged summary is rebuilt from the days.
            with suppress(ObjectMissingError, LedgerCorruptError):
                self._known[month] = dict(self._days(month))
        return self._known[month]

    def _days(self, month: str) -> Iterator[tuple[tuple[str, str, _Kind], _Kept]]:
        key = rated_summaries_key(month)
        try:
            fields = Fields.of_json(gzip.decompress(self.objects.get(key)), key)
        except (OSError, EOFError) as error:
            raise LedgerCorruptError(f"{key}: {error}") from error
        fields.one_of("schema", (_SCHEMA,))
        if fields.text("stamp") != self.grouping.stamp:
            return
        for day in fields.objects("days"):
            sums: dict[int, Sums] = {}
            for row in day.rows("sums", _COLUMNS):
                group = Group(row.any_text("payer"), row.any_text("account"))
                into = sums.setdefault(row.whole("at"), {}).setdefault(group, {})
                into[Sold(Service(row.text("service")), UsageType(row.text("usage_type")))] = row.decimal("bytes")
            kind = day.one_of("kind", tuple(_Kind))
            yield (day.text("region"), day.text("date"), kind), _Kept(day.text("key"), sums)

    def _body(self, month: str) -> bytes:
        days = [
            {
                "region": region,
                "date": date,
                "kind": kind,
                "key": kept.key,
                "sums": [
                    [at_s, *group, *sold, str(size)]
                    for at_s, groups in kept.sums.items()
                    for group, solds in groups.items()
                    for sold, size in solds.items()
                ],
            }
            for (region, date, kind), kept in sorted(self._known[month].items(), key=lambda day: day[0])
        ]
        document = {"schema": _SCHEMA, "stamp": self.grouping.stamp, "days": days}
        return gzip.compress(json.dumps(document, separators=(",", ":")).encode(), mtime=0)


def _of_everybody(head: DayHead | None) -> dict[int, Sums]:
    found: dict[int, Sums] = {}
    for kind, sizes in () if head is None else zip(head.kinds, head.hours, strict=True):
        sold = Sold(kind.service, kind.usage_type)
        for hour, size in enumerate(sizes):
            if size and head is not None:
                into = found.setdefault(head.day_s + hour * HOUR_S, {}).setdefault(_EVERYBODY, {})
                into[sold] = into.get(sold, 0) + size
    return found


@dataclass(frozen=True, kw_only=True)
class PayerMonth:
    """One payer's open month, as a `PayerUsage`.

    Attributes:
        summaries: Sums of days.
    """

    payer_id: str
    month: str
    regions: Sequence[SummedMonth]
    summaries: DaySummaries
    organization: Organization

    def parts(self, days: Iterable[int] | None = None) -> Iterator[tuple[SummedMonth, int, Group, Sold, int]]:
        """Yield (region, day, group, product, bytes) for some days, or for the whole month."""
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

    def hours(self, sold: frozenset[Sold], day_s: int) -> Mapping[int, int]:
        """Sum of the bytes of some products, by hour."""
        found: dict[int, int] = {}
        for _, hour_s, _, each, size in self.hour_parts(day_s):
            if each in sold:
                found[hour_s] = found.get(hour_s, 0) + size
        return {hour_s: size for hour_s, size in found.items() if size}

    def lines_of_hour(self, sold: frozenset[Sold], hour_s: int) -> Iterator[UsageLine]:
        return self.hour_lines(self.regions, sold, hour_s)

    def hour_lines(self, regions: Iterable[SummedMonth], sold: frozenset[Sold], hour_s: int) -> Iterator[UsageLine]:
        """Usage lines of one hour in some regions, in the order in which they are rated."""
        accounts = self.organization.accounts_of(self.payer_id)
        lines = heapq.merge(*(region.lines_of_hour(hour_s, accounts, sold) for region in regions))
        mine = (line for line in lines if self.organization.payer_of(line.account_id, hour_s) == self.payer_id)
        return merged(mine)

    def hour_parts(self, day_s: int) -> Iterator[tuple[SummedMonth, int, Group, Sold, int]]:
        """Yield (region, hour, group, product, bytes) for one day."""
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
    """Computes exact costs of any part of a payer's open month."""

    usage: PayerMonth
    prices: PayerPrices

    @cached_property
    def positions(self) -> Positions:
        return positions(self.prices, self.usage)

    def exact_of(self, scope: Scope, days: Iterable[int] | None = None) -> int:
        """Exact cost (L0) of a scope's usage on some days, or in the whole month so far.

        A day is rated by its daily sums, or by its hours if a tier, an allowance or a price ends within the day.
        """
        exact = 0
        by_hours: dict[int, set[Sold]] = {}
        for region, day_s, group, sold, size in self.usage.parts(days):
            if not in_scope(scope, region.region, group, sold):
                continue
            if self._rater.needs_hours(sold, day_s):
                by_hours.setdefault(day_s, set()).add(sold)
            else:
                exact += size * self._rater.terms_of_day(sold, day_s, group.account_id).price
        return exact + sum(self._hours(scope, day_s, solds) for day_s, solds in by_hours.items())

    def _hours(self, scope: Scope, day_s: int, solds: set[Sold]) -> int:
        """Exact cost of a day, rated by hour; an hour that contains a cut is rated line by line."""
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
        # A usage key in two regions has one line, so an offset in the line counts the bytes of both regions.
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
    """Whether a group's sums in a region belong to a scope. An account that a scope names is its own group."""
    return (
        scope.payer in ("", group.payer_id)
        and scope.account in ("", group.account_id)
        and scope.region in ("", region)
        and scope.usage_type in ("", sold.usage_type)
    )


# Unless it is behind, the compactor compacts an hour of today within one hour of the hour's first rows.
_PUBLISHED_AFTER_S = 2 * HOUR_S


class RegionSums(Protocol):
    """A region and the bucket that holds its day sums."""

    @property
    def region(self) -> str: ...
    @property
    def objects(self) -> ObjectStore: ...
    @property
    def totals(self) -> TotalsReader: ...

    def is_current(self, index: DayIndex) -> bool:
        """Whether the sums were made from the ledger in use; also true if that ledger cannot be read from here."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadRegion:
    """A region with one fixed version of its day sums, so that all reads in one run are consistent.

    Attributes:
        now: The sums as of now, if somebody asks; the index is theirs.
    """

    sums: RegionSums
    index: DayIndex
    now: SumsNow | None = None

    @property
    def region(self) -> str:
        return self.sums.region

    def month(self, month: str) -> SummedMonth:
        return SummedMonth(
            region=self.region,
            month=month,
            index=self.index,
            objects=self.sums.objects,
            totals=self.sums.totals if self.now is None else self.now.totals,
            digest=self.index.closed.get(month, ""),
            bodies={} if self.now is None else self.now.bodies,
        )

    def last_whole_day(self) -> int | None:
        """The last completely counted day; None if unknown."""
        day_s = (self.index.complete_through_s // DAY_S - 1) * DAY_S
        # Usage of a day's last hours is published some time after the day ends.
        published = self.index.counted_s >= day_s + DAY_S + _PUBLISHED_AFTER_S
        return day_s if self.index.complete_through_s and published else None


def read_regions(regions: Iterable[RegionSums]) -> tuple[list[ReadRegion], list[str]]:
    """Regions with their day sums, and the names of regions without: no answer, or no sums since a restore (P41)."""
    found, left_out = [], []
    for sums in regions:
        try:
            index = DayIndexes(objects=sums.objects).newest()
            current = sums.is_current(index)
        except (UnavailableError, ObjectMissingError):
            current = False
        if current:
            found.append(ReadRegion(sums=sums, index=index))
        else:
            left_out.append(sums.region)
    return found, left_out


@dataclass(frozen=True, kw_only=True)
class Terms:
    """Price book, overrides and payers by which usage is rated.

    Attributes:
        book: Price book; None if no price book was ever imported, so that nothing has a cost.
        owners: Book of owners, for messages.
    """

    book: PriceBook | None
    overrides: store.Overrides
    organization: Organization
    owners: Owners | None = None

    def prices_of(self, payer_id: str) -> PayerPrices | None:
        if self.book is None:
            return None
        return PayerPrices.of(self.book, self.organization, payer_id, self._owned)

    @cached_property
    def _owned(self) -> OwnedOverrides:
        return OwnedOverrides(self.overrides.overrides)


@dataclass(kw_only=True)
class OpenMonths:
    """Day sums and terms at one point in time. A payer's month is rated once; budgets' accounts are summed separately.

    Attributes:
        objects: Bucket of the home region, which stores the daily sums for budgets.
        regions: All regions that responded.
    """

    objects: ObjectStore
    regions: Sequence[ReadRegion]
    terms: Terms
    budgets: Sequence[Budget]
    _costs: dict[tuple[str, str], PayerCosts | None] = field(default_factory=dict)
    _months: dict[str, list[SummedMonth]] = field(default_factory=dict)
    _shares: dict[int, forecasts.HourShares] = field(default_factory=dict)

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
        """The last day that all regions have counted completely; None if unknown."""
        days = [region.last_whole_day() for region in self.regions if region.index.number]
        known = [day_s for day_s in days if day_s is not None]
        return min(known) if known and len(known) == len(days) else None

    def payers_of(self, budget: Budget, month: str) -> list[str]:
        """Payers that a budget may cover in a month, sorted."""
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

    def shares(self, before_s: int) -> forecasts.HourShares:
        """Hourly shares of bytes in the four weeks before a day."""
        if before_s not in self._shares:
            shares = forecasts.HourShares()
            for region in self.regions:
                for day_s in range(before_s - forecasts.HISTORY_DAYS * DAY_S, before_s, DAY_S):
                    shares.add(day_s, self.summaries.everything(region.month(month_of(day_s)), day_s))
            self._shares[before_s] = shares
        return self._shares[before_s]

    @property
    def is_now(self) -> bool:
        """Whether the sums of every region are as of now."""
        return all(region.now for region in self.regions)

    @property
    def reach(self) -> Reach:
        """Time up to which the sums of all regions are complete, and what they lack, as recorded by their billers."""
        return reach_of(region.index.reach for region in self.regions)

    def _grouping(self) -> Grouping:
        """Choose the payers that have budgets or several accounts, or all payers if a budget covers all of them."""
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


# A month is closed 72 hours after its end. After that, people have two more days.
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
    """Months whose invoice is due but cannot be made, each with the reason.

    Empty without a price book.
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


# Three times the longest interval that the biller's schedule allows.
_CURRENT_FOR_S = 6 * HOUR_S


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptPositions(StoredDocument):
    """Stored tier positions of one payer's month, with the inputs of their computation.

    Attributes:
        as_of: Time at which the positions were computed, RFC 3339.
        through: Time up to which the count of all regions was complete, RFC 3339; empty if unknown.
        book: Name, version and digest of the price book.
        overrides, organization: Versions.
        regions: Regions whose usage the positions include.
        left_out: Regions that did not respond.
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
        """Whether the positions were computed with these prices and payers, and with the usage of every region."""
        now = ((book.name, book.version, book.sha256), overrides_version, organization_version)
        return now == (self.book, self.overrides, self.organization) and not self.left_out

    def is_current(self, regions: Iterable[str], now_s: int) -> bool:
        """Whether the biller computed the positions recently, with the usage of all these regions.

        If the biller stops while usage grows, stored positions become too low.
        """
        made_s = datetime.fromisoformat(self.as_of).timestamp()
        return now_s - made_s <= _CURRENT_FOR_S and set(regions) <= set(self.regions)

    def to_json(self) -> bytes:
        head = {"schema": self.SCHEMA, "month": self.positions.month, "payer": self.positions.payer_id}
        return json.dumps({**head, **members_of(self)}, separators=(",", ":")).encode()


def read_positions(objects: ObjectStore, month: str, payer_id: str) -> KeptPositions | None:
    """Stored positions of a payer's month; None if absent.

    Raises:
        LedgerCorruptError: The object is not a positions document.
    """
    key = positions_key(month, payer_id)
    try:
        return KeptPositions.from_json(objects.get(key), key)
    except ObjectMissingError:
        return None


def moment(epoch_s: int) -> str:
    """RFC 3339 text of an epoch second; empty for 0 (unknown)."""
    return rfc3339(epoch_s) if epoch_s else ""

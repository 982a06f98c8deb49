"""Causes of usage of one or several regions."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from metering.billing.causes.index import CauseIndexes, CausePin
from metering.billing.owners import OwnerStore
from metering.errors import ObjectMissingError, OperationFailedError, UnavailableError
from metering.hours import month_of
from metering.ledger.format_version import generations_of
from metering.ledger.usage.reading import Grain
from metering.reports.costs.rows import CostQuery
from metering.reports.costs.source import books_of
from metering.reports.owners_trial import by_rule, trial_answer
from metering.reports.query import UNCOUNTED, Meter
from metering.reports.source import naming, report_periods, report_rows
from metering.reports.usage_rows import value_functions
from metering.reports.who import Found, Known, WhoQuery, remainders, who_answer
from metering.reports.who_costs import LINE_COLUMNS, Lines
from metering.reports.who_sums import CauseSource, CauseSums
from metering.stores.objects import cause_pin_key
from metering.units import DAY_S
from metering.usage.totals import Service, UsageKey, UsageType
from metering.wiring import reports
from metering.wiring.answers.costs import BillingRegions, rating, silent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from metering.audit.freshness import Complete
    from metering.billing.owners import Owners
    from metering.billing.usage.months import HoursDone
    from metering.reports.answer import Answer, Json
    from metering.reports.costs.rows import Entry
    from metering.reports.costs.source import BookName
    from metering.reports.query import UsageQuery
    from metering.reports.who_costs import Cost
    from metering.wiring.lake import ReadableRegion

MOST_GROUPS = 1_000_000
"""Most groups of an answer, which take some hundred bytes each."""
_ATTEMPTS = 3
T = TypeVar("T")


def who_of(
    regions: Sequence[ReadableRegion],
    query: WhoQuery,
    *,
    owners: Owners,
    closed: Mapping[str, Owners] | None = None,
    now_s: int,
    complete: Complete,
    everywhere: bool = False,
    granted: frozenset[str] | None = None,
    most: int = MOST_GROUPS,
    most_rows: int | None = None,
    meter: Meter = UNCOUNTED,
    by_name: bool = False,
    prices: Prices | None = None,
) -> Answer:
    """Answer a question about causes.

    Args:
        regions: Regions to read; their causes are added up.
        query: The question.
        owners: Book that names the owners.
        closed: Books of closed months, in place of `owners`.
        now_s: Current time, epoch seconds.
        complete: Time through which the regions' counts are complete. Read this time first.
        everywhere: Whether the answer names the regions.
        granted: Accounts that the caller may see; None for all. Names of other accounts are not shown.
        most: Largest number of groups.
        most_rows: Largest number of rows of causes to read; None for no limit.
        meter: Counts what is read of usage.
        by_name: Whether the rows are in the order of their columns.
        prices: Prices of the costs, if the question asks for costs.

    Raises:
        InvalidParametersError: There are more groups, or more rows to read.
        OperationFailedError: The causes are those of a ledger before a restore.
        LedgerCorruptError: Causes have more bytes than their usage.
        UnavailableError: A region does not respond, or its causes were repeatedly replaced; the error names the region.
        ObjectDamagedError: Stored causes cannot be read.
    """

    def read() -> tuple[list[CauseSource], CauseSums, Lines | None, dict[str, Json] | None]:
        # The versions of causes are read before usage, which therefore has all that they have.
        past = [month for month in query.usage.months(now_s=now_s) if month < month_of(now_s)]
        causes = [cause_source(region, past) for region in regions]
        lines, told = (None, None) if prices is None else prices.lines(query, [each.region for each in regions])
        sums = CauseSums(
            query, owners, granted=granted, most=most, most_rows=most_rows, meter=meter, lines=lines, closed=closed
        )
        _add(causes, sums)
        return causes, sums, lines, told

    causes, sums, lines, told = _again(read)
    sources = [reports.report_source(region, meter) for region in regions]
    found, entries = Found(query), list(sums.entries())
    found.add(entries)
    if query.whole:
        costs = () if lines is None else _of_usage(query, lines)
        found.add(remainders(report_rows(sources, query.usage, now_s=now_s), entries, query, costs))
    counted = [source.index for source in causes if source.index.number]
    known = Known(
        counted_s=min((index.counted_s for index in counted), default=0),
        captured_s=min((index.captured_s for index in counted), default=0),
        since_s=max((index.from_s for index in counted), default=0),
        owners=owners.version,
        closed={month: book.version for month, book in (closed or {}).items()},
    )
    return who_answer(
        query, found, as_of_s=now_s, complete=complete, known=known,
        periods=report_periods(sources, query.usage, now_s=now_s),
        regions=[region.region for region in regions] if everywhere else (), by_name=by_name, prices=told,
    )  # fmt: skip


def trial_of(
    regions: Sequence[ReadableRegion], query: WhoQuery, *, tried: Owners, in_force: Owners, now_s: int
) -> Answer:
    """Try a book of owners: bytes that each rule takes, and what moves against the book in force.

    Raises:
        OperationFailedError, UnavailableError, ObjectDamagedError: As `who_of` does.
    """

    def read() -> tuple[list[CauseSource], list[CauseSums]]:
        causes = [cause_source(region) for region in regions]
        sums = [CauseSums(query, book, most=MOST_GROUPS) for book in (by_rule(tried), in_force)]
        _add(causes, *sums)
        return causes, sums

    causes, (ruled, owned) = _again(read)
    counted_s = min((source.index.counted_s for source in causes if source.index.number), default=0)
    return trial_answer(query, tried, in_force, ruled.entries(), owned.entries(), as_of_s=now_s, counted_s=counted_s)


def _add(causes: Iterable[CauseSource], *sums: CauseSums) -> None:
    for source in causes:
        with naming(source.region):
            for each in sums:
                each.add(source)


def _again(read: Callable[[], T]) -> T:
    """Read causes, again if objects are replaced meanwhile."""
    for _ in range(_ATTEMPTS - 1):
        with suppress(ObjectMissingError):
            return read()
    try:
        return read()
    except ObjectMissingError as error:
        detail = "the causes kept being replaced"
        raise UnavailableError("s3.GetObject", detail, may_have_applied=False) from error


def owners_of(home: ReadableRegion, version: int | None) -> Owners:
    """A version of the book of owners, which the home region has; None for the newest, which may be empty.

    Raises:
        OperationFailedError: There is no such version.
    """
    store = OwnerStore(home.objects)
    try:
        return store.newest() if version is None else store.get(version)
    except ObjectMissingError as error:
        detail = f"There is no version {version} of the book of owners."
        raise OperationFailedError(detail, "Leave it out for the newest one.") from error


@dataclass(frozen=True, kw_only=True)
class Prices:
    """Prices of an answer's costs: the regions that are rated together, and the price book. Others as in `rating`."""

    billing: BillingRegions
    book: BookName
    now_s: int
    progress: Callable[[], AbstractContextManager[HoursDone]] = silent
    most_partitions: int | None = None
    on_partitions: Callable[[int], None] = lambda _partitions: None

    def lines(self, query: WhoQuery, regions: Sequence[str]) -> tuple[Lines, dict[str, Json]]:
        """The lines of which the causes are parts, by the hour where a price changes within a day.

        Returns:
            The lines, and the answer's fields about prices.
        """
        usage = replace(query.usage, group_by=(*LINE_COLUMNS, "day"), zone=UTC)
        by_hour = replace(usage, group_by=(*LINE_COLUMNS, "hour"))
        found = Lines()
        if query.usage.grain is Grain.HOUR:
            told = self._add(by_hour, regions, partial(found.take_hours, usage.from_s - DAY_S, usage.to_s))
            return found, told
        told = self._add(usage, regions, found.add)
        if days := found.cut_days_s():
            from_s, to_s = max(days[0], usage.from_s), min(days[1], usage.to_s)
            self._add(replace(by_hour, from_s=from_s, to_s=to_s), regions, partial(found.take_hours, *days))
        return found, told

    def _add(
        self, usage: UsageQuery, regions: Sequence[str], add: Callable[[Iterable[Entry]], None]
    ) -> dict[str, Json]:
        query = CostQuery(usage=usage, regions=frozenset(regions))
        with rating(
            self.billing, query, book=self.book, now_s=self.now_s, progress=self.progress,
            most_partitions=self.most_partitions, on_partitions=self.on_partitions,
        ) as parts:  # fmt: skip
            add(parts.source.entries(parts.plans))
            return books_of(parts.plans)


def _of_usage(query: WhoQuery, lines: Lines) -> Iterator[tuple[tuple[str, ...], Cost]]:
    """Costs of lines by the columns of the question's usage."""
    by_region = {each.region: value_functions(query.usage, each.region) for each, _ in lines.costs()}
    for line, cost in lines.costs():
        key = UsageKey(
            line.begin_s, line.account_id, UsageType(line.usage_type), Service(line.service), line.from_location,
            line.to_location,
        )  # fmt: skip
        yield tuple([value(key) for value in by_region[line.region]]), cost


def closed_owners(home: ReadableRegion, usage: UsageQuery, *, now_s: int) -> dict[str, Owners]:
    """For each closed month of the range, the version of the book of owners that it was closed with.

    Raises:
        OperationFailedError: There is no such version.
    """
    pins = (pin_of(home, month) for month in usage.months(now_s=now_s) if month < month_of(now_s))
    return {pin.month: owners_of(home, pin.owners) for pin in pins if pin is not None}


def pin_of(region: ReadableRegion, month: str) -> CausePin | None:
    """The pin of a closed month's causes; None for a month without one."""
    key = cause_pin_key(month)
    try:
        return CausePin.from_json(region.objects.get(key), key)
    except ObjectMissingError:
        return None


def cause_source(region: ReadableRegion, months: Iterable[str] = ()) -> CauseSource:
    """Causes of a region, as of now; of those `months` that are closed, as they were pinned.

    Raises:
        OperationFailedError: They are those of a ledger before a restore.
        UnavailableError: The region does not respond; the error names it.
    """
    with naming(region.region):
        index = CauseIndexes(objects=region.objects).newest()
        if index.number and not index.is_of(generations_of(region.items)):
            raise OperationFailedError(
                f"The causes of {region.region} were counted before its ledger was restored.",
                "The biller counts them anew within the hour. To count them now: metering budget update",
            )
        for pin in filter(None, (pin_of(region, month) for month in months)):
            index = replace(index, days={**index.days, **pin.days}, names={**index.names, **pin.names})
        return CauseSource(region=region.region, objects=region.objects, index=index)

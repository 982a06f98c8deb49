"""Usage totals of one or several regions, and the totals' freshness: what is complete, held back and last verified."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING

from metering.audit.freshness import Complete, HeldBack, complete_of, merged
from metering.hours import hour_of, month_bounds_s, month_of, rfc3339
from metering.ledger import periods
from metering.ledger.notes import checks, watch
from metering.ledger.notes.reconciliation import RECONCILIATION_KEY, Reconciliation
from metering.reports.answer import KEEP, Answer, Cell, Json, ListedRows, copied, integer, prose, short, timed
from metering.reports.query import UNCOUNTED, Meter, ReadBudget, UsageQuery, most_hours, warnings_of
from metering.reports.source import ReportSource, begins_before_all, booked_range_s, naming, report_periods, report_rows
from metering.reports.usage_answer import MissingName, held_back_document, missing_names, usage_answer
from metering.reports.usage_rows import NotRolledUp, Seen, UsageRow
from metering.stores.writes import Table
from metering.wiring import reports

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from metering.wiring import connection
    from metering.wiring.lake import ReadableRegion


@dataclass(frozen=True, slots=True, kw_only=True)
class Everywhere:
    """The query covers all regions together, so the answer names these regions.

    Attributes:
        left_out: For each region, the parts of the service that the region lacks.
    """

    left_out: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageFound:
    """An answer, and what is printed in addition.

    Attributes:
        rows: All rows, in order, before `top` is applied.
        missing: Filter values that were not found.
        booked_s: Range of hours that have rows; None if the answer does not show the range.
        lacks: Usage that the rows lack because it is not rolled up yet.
    """

    answer: Answer
    rows: Sequence[UsageRow]
    missing: Sequence[MissingName]
    booked_s: tuple[int, int] | None
    lacks: NotRolledUp


def usage_of(
    regions: Sequence[ReadableRegion],
    query: UsageQuery,
    *,
    now_s: int,
    complete: Complete,
    named_beginning: bool = False,
    everywhere: Everywhere | None = None,
    only_own: bool = False,
    most_rows: int | None = None,
    meter: Meter = UNCOUNTED,
) -> UsageFound:
    """Answer a query about usage.

    Args:
        regions: Regions to read; the regions' totals are merged.
        query: The question.
        now_s: Current time, epoch seconds.
        complete: Time through which the regions' counts are complete. Read this time first, so that reads cover it.
        named_beginning: Whether the caller named a start; if so, a note states if all data is later.
        everywhere: Set if the query covers all regions of the stage.
        only_own: The caller may see only the query's accounts: reveal nothing about others.
        most_rows: Maximum number of rows that are summed before `top` is applied; None for no limit.
        meter: Counts everything that is read.

    Raises:
        InvalidParametersError: There are more rows.
        UnavailableError: An hour could not be read; the error names the region.
    """
    sources, seen = [reports.report_source(region, meter) for region in regions], Seen(query)
    lacks = NotRolledUp(query, seen)
    rows = report_rows(sources, query, now_s=now_s, seen=seen, lacks=lacks, most=most_rows)
    missing = _own_missing(query, seen) if only_own else missing_names(sources, query, seen)
    booked_s = None if only_own else _booked_s(sources, query, now_s, empty=not rows, named=named_beginning)
    answer = usage_answer(
        query, rows, as_of_s=now_s, complete=complete, periods=report_periods(sources, query, now_s=now_s),
        regions=() if everywhere is None else [region.region for region in regions],
        left_out={} if everywhere is None else everywhere.left_out, missing=missing, booked_s=booked_s,
        lacks=lacks, sources=seen.sources,
    )  # fmt: skip
    return UsageFound(answer=answer, rows=rows, missing=missing, booked_s=booked_s, lacks=lacks)


def final_key(regions: Sequence[ReadableRegion], query: UsageQuery, *, now_s: int) -> str | None:
    """Cache key of an answer that can never change; None if the answer can change.

    An answer never changes if it covers only closed months, because closed months are frozen. Each ledger is read once.

    Raises:
        UnavailableError: A ledger does not answer; the error names the region.
    """
    months = list(query.months(now_s=now_s))
    if query.with_corrections or not months or months[-1] >= month_of(now_s):
        return None
    parts = [str(query.from_s), str(query.to_s)]
    for region in regions:
        with naming(region.region):
            known = periods.periods_of(region.items, months)
        if any(month not in known or known[month].state != "closed" for month in months):
            return None
        parts += [f"{region.region}/{month}/{known[month].frozen_key}" for month in months]
    return " ".join(parts)


def hours_to_read(regions: Sequence[ReadableRegion], query: UsageQuery, *, now_s: int) -> list[int]:
    """The lake hours that an answer reads; an hour is repeated for each region that has rows in the hour.

    The lake is only listed; rows are not read.

    Raises:
        UnavailableError: A region does not respond; the error names the region.
    """
    return [hour_s for region in regions for hour_s in _hours_of(region, query, now_s)]


def reads_rows(regions: Sequence[ReadableRegion], query: UsageQuery, *, now_s: int) -> bool:
    """Whether an answer reads hours of the lake in any region, because no totals have what it asks for.

    Raises:
        UnavailableError: A region does not respond; the error names the region.
    """
    for region in regions:
        with naming(region.region):
            if reports.report_source(region).reads_rows(query, now_s=now_s):
                return True
    return False


def read_warnings(regions: Sequence[ReadableRegion], query: UsageQuery, *, now_s: int) -> list[str]:
    """Warnings, in full sentences, to print before a slow query.

    The HTTP API has the same limits, but counts an hour once, not once for each region.

    Raises:
        UnavailableError: A region does not respond; the error names the region.
    """
    hours = most_hours(query, now_s=now_s) * len(regions)
    if hours > ReadBudget().hours:
        hours = len(hours_to_read(regions, query, now_s=now_s))
    return list(warnings_of(query, now_s=now_s, hours=hours))


def _hours_of(region: ReadableRegion, query: UsageQuery, now_s: int) -> Sequence[int]:
    with naming(region.region):
        if not reports.report_source(region).reads_rows(query, now_s=now_s):
            return []
        states = reports.report_source(region).periods(query, now_s=now_s)
        closed = {month for month, state in states.items() if state == "closed"}
        from_s, to_s = query.from_s, query.booked_before_s(now_s=now_s)
        if not query.details:
            while from_s < to_s and month_of(from_s) in closed:
                from_s = month_bounds_s(month_of(from_s))[1]
            hours = region.view.hours(from_s=from_s, to_s=to_s) if from_s < to_s else []
            return [hour_s for hour_s in hours if month_of(hour_s) not in closed]
        # For a closed month, the rows of every hour are read, even if only a part of the month is requested.
        bounds = [month_bounds_s(month) for month in closed]
        from_s = min([hour_of(from_s), *(first_s for first_s, _ in bounds)])
        to_s = max([to_s, *(after_s for _, after_s in bounds)])
        return region.view.hours(from_s=from_s, to_s=to_s)


def _own_missing(query: UsageQuery, seen: Seen) -> list[MissingName]:
    """Filter values that were not found. Similar values are not searched: they may be another account's.

    No further read is needed: all usage of the query's accounts has been read. If the query has details, only rows that
    pass the filters were read, so other values in the range are unknown.
    """
    cut = bool(query.details)
    return [
        MissingName(parameter=parameter, value=name, elsewhere=seen.is_beside(parameter, name), cut=cut)
        for parameter, names in seen.missing().items()
        for name in names
    ]


def _booked_s(
    sources: Sequence[ReportSource], query: UsageQuery, now_s: int, *, empty: bool, named: bool
) -> tuple[int, int] | None:
    # Only a start that is stated explicitly can be before all data.
    if empty or (named and begins_before_all(sources, query)):
        return booked_range_s(sources, now_s=now_s)
    return None


def stored_completeness(regions: Sequence[ReadableRegion]) -> Complete:
    """Time through which all of the regions are complete, read only from the ledgers, without a new measurement.

    Raises:
        UnavailableError: A ledger does not answer; the error names the region.
    """
    known: dict[str, Complete] = {}
    for region in regions:
        with naming(region.region):
            known[region.region] = stored_of(region)
    return merged(known)


def measured_completeness(regions: Sequence[connection.RegionConnection]) -> Complete:
    """Time through which all regions are complete; the queues are read if the watch has not measured recently.

    Raises:
        UnavailableError: A region does not respond; the error names the region.
    """
    known: dict[str, Complete] = {}
    for region in regions:
        with naming(region.region):
            known[region.region] = reports.build_freshness(region).answer()
    return merged(known)


def in_short(complete: Complete) -> Complete:
    """Completeness as shown to outsiders: since when usage is held back, without the names of internal parts."""
    held = tuple(
        HeldBack(what="usage that is not counted yet", since_s=each.since_s, cure="Ask again later.", usual=each.usual)
        for each in complete.held_back_by
    )
    return Complete(through_s=complete.through_s, held_back_by=tuple(dict.fromkeys(held)))


def stored_of(region: ReadableRegion) -> Complete:
    """Time through which one region is complete, without a new measurement.

    Raises:
        UnavailableError: The region's ledger does not answer.
    """
    item = region.items.get(Table.LEDGER, watch.COMPLETENESS_KEY)
    if item is None:
        cure = f"metering status --region {region.region} --stage {region.stage}"
        held = HeldBack(what="the watch, which has not measured yet", since_s=None, cure=cure)
        return Complete(through_s=0, held_back_by=(held,))
    now_s = region.clock.now_ms() // 1_000
    return complete_of(watch.Completeness.from_item(item), now_s=now_s, region=region.region, stage=region.stage)


# Canaries are sent every few minutes, and each canary gets its verdict some minutes later.
_CANARIES = 20
_COLUMNS = ListedRows(
    copied("region", priority=KEEP), timed("complete_through", priority=KEEP), prose("held_back_by")
).columns
_PROVED = ListedRows(timed("reconciled"), integer("differences"), short("canary")).columns


def freshness_of(regions: Sequence[ReadableRegion], *, now_s: int, in_full: bool = True) -> Answer:
    """Freshness of regions, one row for each, from the last results of watch, reconciler and canary.

    `in_full` adds what holds completeness back, its cure and the latest checks; otherwise only since when.

    Raises:
        UnavailableError: A ledger does not answer; the error names the region.
    """
    known: dict[str, Complete] = {}
    proved: dict[str, dict[str, Json]] = {}
    for region in regions:
        with naming(region.region):
            complete = stored_of(region)
            known[region.region] = complete if in_full else in_short(complete)
            proved[region.region] = _proved(region) if in_full else {}
    whole = merged(known) if in_full else in_short(merged(known))
    return Answer(
        columns=(*_COLUMNS, *(_PROVED if in_full else ())),
        rows=[_row(name, complete, proved[name], now_s) for name, complete in known.items()],
        document={
            "as_of": rfc3339(now_s),
            **_document(whole, now_s),
            "regions": {name: {**_document(complete, now_s), **proved[name]} for name, complete in known.items()},
        },
        title="Freshness",
    )


def _document(complete: Complete, now_s: int) -> dict[str, Json]:
    return {
        "complete_through": rfc3339(min(complete.through_s, now_s)),
        "held_back_by": held_back_document(complete.held_back_by),
    }


def _row(region: str, complete: Complete, proved: Mapping[str, Json], now_s: int) -> dict[str, Cell]:
    row: dict[str, Cell] = {
        "region": region,
        "complete_through": rfc3339(min(complete.through_s, now_s)),
        "held_back_by": "; ".join(each.what for each in complete.held_back_by),
    }
    reconciliation, canary = proved.get("reconciliation"), proved.get("canary")
    if isinstance(reconciliation, dict):
        row |= {"reconciled": reconciliation["finished"], "differences": reconciliation["differences"]}
    if isinstance(canary, dict):
        row["canary"] = canary["verdict"]
    return row


def _proved(region: ReadableRegion) -> dict[str, Json]:
    return {"reconciliation": _reconciliation(region), "canary": _canary(region)}


def _reconciliation(region: ReadableRegion) -> dict[str, Json] | None:
    item = region.items.get(Table.LEDGER, RECONCILIATION_KEY)
    if item is None:
        return None
    last = Reconciliation.from_item(item)
    return {
        "finished": rfc3339(last.finished_s),
        "hours": last.hours,
        "differences": last.differences,
        "waiting": last.backlog.waiting,
        "waiting_since": None if last.backlog.since_s is None else rfc3339(last.backlog.since_s),
    }


def _canary(region: ReadableRegion) -> dict[str, Json] | None:
    """The newest canary with a verdict, and the newest good one; None if the last week has none."""
    items = region.items.query(Table.LEDGER, checks.CANARY_PK, descending=True)
    settled = [run for run in map(checks.CanaryRun.from_item, islice(items, _CANARIES)) if run.settled_s]
    if not settled:
        return None
    good = next((run for run in settled if run.verdict is checks.CanaryVerdict.GOOD), None)
    return {
        "verdict": settled[0].verdict.value,
        "settled": rfc3339(settled[0].settled_s),
        "last_good": None if good is None else rfc3339(good.slot_s),
    }

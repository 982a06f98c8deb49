"""Answers to operators about producers and the reconciler, read from the ledger."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, replace
from difflib import get_close_matches
from itertools import groupby
from typing import TYPE_CHECKING, get_args

from metering.adapters.inert import NoQueue
from metering.audit import hour_check
from metering.audit.source_keeping import SourceKeeper
from metering.hours import month_of
from metering.intake.work import Reason
from metering.ledger.notes.reconciliation import RECONCILIATION_KEY, SILENCE_S, Reconciliation, SourceFigures
from metering.ledger.periods import periods_of
from metering.onramps.reasons import FileReason, LineReason
from metering.quarantine.documents import UNVERIFIED
from metering.quarantine.entries import Entry, Kind, QuarantineEntries
from metering.reports.answer import Answer, regions_answer
from metering.reports.operators import quarantine_answer
from metering.reports.operators.sources_answer import hour_answer, last_pass_answer, sources_answer
from metering.reports.source import naming
from metering.reports.time_range import InvalidParametersError, ParameterProblem, time_range
from metering.stores.writes import Table

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from metering.wiring.lake import ReadableRegion


def source_keeper(region: ReadableRegion) -> SourceKeeper:
    """Store of the ledger's notes on a region's producers."""
    return SourceKeeper(
        items=region.items,
        clock=region.clock,
        largest_jump=region.settings.source_jump,
        life_s=region.settings.source_life_s,
    )


def sources_of(
    region: ReadableRegion, *, gaps: bool = False, silent: bool = False, silence_s: int = SILENCE_S
) -> tuple[Answer, SourceFigures]:
    """The producers of a region that number their batches, and the figures of the last scan.

    Args:
        region: The region.
        gaps: Whether to return only producers with gaps, or with a number far beyond the previous number.
        silent: Whether to return only producers that are silent.
        silence_s: Time without a batch after which a producer is silent.

    Raises:
        UnavailableError: The ledger does not answer; the error names the region.
        LedgerCorruptError: The notes in the ledger cannot be read.
    """
    with naming(region.region):
        keeper = source_keeper(region)
        figures = keeper.figures()
        silent_s = figures.scanned_ms // 1000 - silence_s
        chosen = [
            state
            for state in keeper.states()
            if (not gaps or state.missing or state.incredible) and (not silent or state.last_seen_s < silent_s)
        ]
        return sources_answer(chosen, figures, _last_pass(region), silent_s=silent_s), figures


def reconciliation_of(region: ReadableRegion, *, now_s: int) -> Answer:
    """The result of the reconciler's last pass over a region.

    Raises:
        UnavailableError: The ledger does not answer; the error names the region.
        LedgerCorruptError: The notes in the ledger cannot be read.
    """
    with naming(region.region):
        return last_pass_answer(_last_pass(region), as_of_s=now_s)


def _last_pass(region: ReadableRegion) -> Reconciliation | None:
    item = region.items.get(Table.LEDGER, RECONCILIATION_KEY)
    return None if item is None else Reconciliation.from_item(item)


def hour_of_region(region: ReadableRegion, hour_s: int, *, now_s: int) -> Answer:
    """Compare the figures of an hour without a scan.

    Raises:
        UnavailableError: The hour could not be read; the error names the region.
        LedgerCorruptError: A marker cannot be read, or a file that the hour needs is missing.
    """
    with naming(region.region):
        figures = hour_check.Figures.counted(
            items=region.items, view=region.view, clock=region.clock, marker_life_s=region.settings.marker_life_s
        )
        hour = hour_check.OneHour(figures=figures)
        month = month_of(hour_s)
        known = periods_of(region.items, [month])
        period = known[month].state if month in known else "open"
        return hour_answer(hour.look(hour_s, now_s=now_s), period=period, as_of_s=now_s)


FAR_S = 4_102_444_800
"""The year 2100: nothing was refused later."""
# A conflict is refused because of the batch that is metered under its id, so `conflict` is not a reason of the message
# itself, nor is `unverified`. The on-ramps' package defines the reasons of log files.
REASONS = tuple(dict.fromkeys((*(r.value for r in (*Reason, *LineReason, *FileReason)), "conflict", UNVERIFIED)))
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedQuery:
    """A query for entries of the quarantine.

    Attributes:
        from_s, to_s: Half-open range of the time of refusal, epoch seconds.
        reason, kind, source, sender: Value that entries must have; None for any value.
    """

    from_s: int = 0
    to_s: int = FAR_S
    reason: str | None = None
    kind: str | None = None
    source: str | None = None
    sender: str | None = None

    def takes(self, entry: Entry) -> bool:
        return (
            self.kind in {None, entry.kind}
            and (self.reason is None or self.reason in entry.reasons)
            and self.source in {None, entry.source_id}
            and self.sender in {None, entry.sender_id}
        )


def refused_query(
    *,
    now_s: int,
    start: str | None = None,
    end: str | None = None,
    reason: str | None = None,
    kind: str | None = None,
    source: str | None = None,
    sender: str | None = None,
) -> RefusedQuery:
    """Parse the parameters of a query, which are text from a command line or URL.

    Raises:
        InvalidParametersError: The reason or kind does not exist, or a text is not a time. Carries every problem.
    """
    problems = [*_reason_problems(reason), *_kind_problems(kind)]
    try:
        from_s, to_s = time_range(start, end, default_s=(0, FAR_S), now_s=now_s)
    except InvalidParametersError as error:
        raise InvalidParametersError([*problems, *error.problems]) from error
    if problems:
        raise InvalidParametersError(problems)
    return RefusedQuery(from_s=from_s, to_s=to_s, reason=reason, kind=kind, source=source, sender=sender)


def check_reason(reason: str | None) -> None:
    """Check that the reason exists.

    Raises:
        InvalidParametersError: There is not.
    """
    if problems := list(_reason_problems(reason)):
        raise InvalidParametersError(problems)


def _reason_problems(reason: str | None) -> Iterator[ParameterProblem]:
    if reason is None or reason in REASONS:
        return
    near = get_close_matches(reason, REASONS, n=3)
    advice = (f"Nearest: {', '.join(near)}. " if near else "") + f"Reasons are: {', '.join(REASONS)}."
    yield ParameterProblem(parameter="reason", value=reason, problem="is not a reason.", advice=advice)


def _kind_problems(kind: str | None) -> Iterator[ParameterProblem]:
    if kind is not None and kind not in KINDS:
        advice = f"Write {', '.join(KINDS[:-1])} or {KINDS[-1]}."
        yield ParameterProblem(parameter="kind", value=kind, problem="is not a kind.", advice=advice)


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A quarantine entry and its region."""

    region: str
    entry: Entry

    @property
    def place(self) -> tuple[int, str, str, str]:
        """Sort key of the entry: newest first, then by object key, batch and region."""
        return -self.entry.at_s, self.entry.key, self.entry.batch_id, self.region


def quarantine_of(region: ReadableRegion) -> QuarantineEntries:
    """The quarantine of a region, read-only: a retry fails before anything is sent."""
    return QuarantineEntries(
        items=region.items,
        objects=region.objects,
        queue=NoQueue(),
        clock=region.clock,
        bucket="",
        marker_life_s=region.settings.marker_life_s,
    )


def refused_in(
    regions: Sequence[ReadableRegion], query: RefusedQuery, *, after: tuple[int, str, str, str] | None = None
) -> Iterator[Refused]:
    """All entries of the query's time range, in the order of `place`; the query's other filters are ignored.

    Object keys are listed ahead, but objects are read lazily. `after` is the `place` of the last entry already read.

    Raises:
        UnavailableError: A region does not respond; the error names the region.
    """
    known = query if after is None else replace(query, to_s=min(query.to_s, 1 - after[0]))
    merged = heapq.merge(*(_ordered(region, known) for region in regions), key=lambda each: each.place)
    return (each for each in merged if after is None or each.place > after)


def _ordered(region: ReadableRegion, query: RefusedQuery) -> Iterator[Refused]:
    with naming(region.region):
        entries = quarantine_of(region).entries(from_s=query.from_s, to_s=query.to_s)
        # One object can hold records of several batches.
        for _, same in groupby(entries, key=lambda entry: (entry.at_s, entry.key)):
            for entry in sorted(same, key=lambda entry: entry.batch_id):
                yield Refused(region=region.region, entry=entry)


def refused_answer(regions: Sequence[ReadableRegion], found: Sequence[Refused], *, everywhere: bool) -> Answer:
    """Convert entries to the answer of `metering quarantine list`."""
    parts = {
        region.region: quarantine_answer.entries_answer([each.entry for each in found if each.region == region.region])
        for region in regions
    }
    if everywhere:
        return regions_answer(parts, newest="at")
    return next(iter(parts.values()))

"""A trace of a report's line down to the line's batches."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from metering.errors import OperationFailedError
from metering.intake.messages import readable_batch_id
from metering.ledger.notes.access import Role
from metering.reports import batches
from metering.reports.query import UNCOUNTED, Meter, UsageQuery
from metering.reports.source import naming, report_periods
from metering.reports.time_range import InvalidParametersError, ParameterProblem
from metering.reports.trace import Trace, Tracer, trace_answer
from metering.units import DAY_S
from metering.wiring import reports
from metering.wiring.answers.operators import quarantine_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from metering.quarantine.entries import Entry
    from metering.reports.answer import Answer
    from metering.wiring.lake import ReadableRegion


@dataclass(frozen=True, slots=True, kw_only=True)
class Traced:
    """The answer, the trace of each region, and whether all sums agree."""

    answer: Answer
    traces: Sequence[Trace]

    @property
    def equal(self) -> bool:
        return all(trace.equal for trace in self.traces)

    @property
    def unsettled(self) -> bool:
        """Whether all hours with differences still receive commits, and so may agree soon."""
        return all({h.hour_s for h in trace.hours if h.differences} <= {*trace.unsettled} for trace in self.traces)


def trace_of(
    regions: Sequence[ReadableRegion],
    query: UsageQuery,
    *,
    now_s: int,
    everywhere: bool = False,
    with_files: bool = True,
    meter: Meter = UNCOUNTED,
) -> Traced:
    """Trace a report line (a query of `TraceParameters`) in one or several regions.

    If `everywhere`, each row names its region; if `with_files`, objects are listed; `meter` counts the reads.

    Raises:
        OperationFailedError: The report line has too many batches.
        UnavailableError: An hour could not be read; the error names the region.
        LedgerCorruptError: A file that an hour needs is missing, or a marker cannot be read.
    """
    sources = [reports.report_source(region, meter) for region in regions]
    traces: list[Trace] = []
    for region, source in zip(regions, sources, strict=True):
        with naming(region.region):
            tracer = Tracer(source=source, marker_life_s=region.settings.marker_life_s)
            traces.append(tracer.trace(query, now_s=now_s))
    answer = trace_answer(
        query,
        traces,
        as_of_s=now_s,
        periods=report_periods(sources, query, now_s=now_s),
        everywhere=everywhere,
        with_files=with_files,
    )
    return Traced(answer=answer, traces=traces)


def checked_batch_id(text: str) -> str:
    """Check a batch id, and return it.

    Raises:
        InvalidParametersError: The id is malformed.
    """
    if not readable_batch_id(text):
        problem = "is not a batch id: it has 1 to 128 of A-Za-z0-9._:/-."
        raise InvalidParametersError([ParameterProblem(parameter="id", value=text, problem=problem)])
    return text


def batch_of(
    region: ReadableRegion,
    batch_id: str,
    *,
    now_s: int,
    within_s: tuple[int, int] | None = None,
    role: Role = Role.OPERATOR,
    accounts: Collection[str] = (),
    afford: Callable[[int], None] = lambda _hours: None,
    meter: Meter = UNCOUNTED,
) -> Answer | None:
    """All facts about a batch in a region; None if the region has no facts that the caller may see.

    Args:
        region: The region.
        batch_id: Id of the batch; see `checked_batch_id`.
        now_s: The time now.
        within_s: Booked hours to search for rows of the batch, if its marker may have expired.
        role: Decides which details are shown.
        accounts: The accounts that the caller may see; empty for all. If given, they limit the rows for every role.
        afford: Called with the number of hours to read; may raise to stop the read.
        meter: Called for each hour read.

    Raises:
        UnavailableError: A read failed; the error names the region.
        LedgerCorruptError: A ledger item of the batch cannot be read, or a file that an hour needs is missing.
    """
    source = reports.report_source(region, meter)
    with naming(region.region):
        hours = [] if within_s is None else source.view.hours(from_s=within_s[0], to_s=within_s[1])
        teller = batches.StoryTeller(source=source, marker_life_s=region.settings.marker_life_s, afford=afford)
        told: batches.BatchStory | None
        if accounts or role is Role.CUSTOMER:
            told, role = teller.tell_own(batch_id, accounts, now_s=now_s, within=hours), Role.CUSTOMER
        else:
            told = teller.tell(batch_id, now_s=now_s, within=hours)
            if told.known:
                told = replace(told, quarantine=_refused(region, batch_id))
    return None if told is None or not told.known else batches.story_answer(told, as_of_s=now_s, role=role)


def _refused(region: ReadableRegion, batch_id: str) -> tuple[Entry, ...]:
    try:
        return quarantine_of(region).find(batch_id)
    except OperationFailedError:
        return ()


def not_found(region: ReadableRegion, batch_id: str) -> tuple[str, str]:
    """Build the error, with advice, for a batch that was not found but may exist."""
    days = region.settings.marker_life_s // DAY_S
    return (
        f"No marker tells of batch {batch_id}.",
        f"Look whether the id is right. If it is, either it has no verdict yet, or it was decided more than {days} "
        "days ago: then its marker has expired, and its rows remain. Name a range to look for them in: from and to.",
    )

"""From a line of a report down to its batches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from metering.reports.read_budget import UNCOUNTED
from metering.reports.source import naming, report_periods
from metering.reports.trace.answer import trace_answer
from metering.reports.trace.tracing import Trace, Tracer
from metering.wiring.reports import report_source

if TYPE_CHECKING:
    from collections.abc import Sequence

    from metering.reports.answer import Answer
    from metering.reports.query import UsageQuery
    from metering.reports.read_budget import Meter
    from metering.wiring.answers.ports import ReadableRegion


@dataclass(frozen=True, slots=True, kw_only=True)
class Traced:
    """The answer, and whether everything agrees.

    Attributes:
        traces: One of each region.
    """

    answer: Answer
    traces: Sequence[Trace]

    @property
    def equal(self) -> bool:
        return all(trace.equal for trace in self.traces)

    @property
    def unsettled(self) -> bool:
        """Whether commits come in in each hour that differs, so that it may agree soon."""
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
    """Trace a line over one region or several.

    Args:
        regions: The regions to read, one after the other.
        query: The line: `TraceParameters.query`.
        now_s: The time now.
        everywhere: Rows name their region, because all regions were asked for.
        with_files: Whether objects are named.
        meter: Told of all that is read, also of what is read again.

    Raises:
        OperationFailedError: The line has too many batches.
        UnavailableError: An hour could not be read; the error names the region.
        LedgerCorruptError: A file that an hour needs is gone, or a marker cannot be read.
    """
    sources = [report_source(region, meter) for region in regions]
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

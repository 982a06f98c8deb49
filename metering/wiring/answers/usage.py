"""Totals of usage: one question about one region or several, and its answer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from metering.reports.names import MissingName, missing_names
from metering.reports.source import begins_before_all, booked_range_s, report_periods, report_rows
from metering.reports.usage_answer import usage_answer
from metering.reports.usage_rows import Seen
from metering.wiring.reports import report_source

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from metering.audit.held_back import Complete
    from metering.reports.answer import Answer
    from metering.reports.query import UsageQuery
    from metering.reports.source import ReportSource
    from metering.reports.usage_rows import UsageRow
    from metering.wiring.answers.ports import ReadableRegion


@dataclass(frozen=True, slots=True, kw_only=True)
class Everywhere:
    """Regions were asked for together: the answer names them.

    Attributes:
        left_out: Parts of the service that regions run without, by region.
    """

    left_out: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageFound:
    """An answer, and what a person is told beside it.

    Attributes:
        rows: All rows, in order, before `top` cuts them.
        missing: Names that were asked for and not found.
        booked_s: The hours that have rows at all, if the reader should be told.
    """

    answer: Answer
    rows: Sequence[UsageRow]
    missing: Sequence[MissingName]
    booked_s: tuple[int, int] | None


def usage_of(
    regions: Sequence[ReadableRegion],
    query: UsageQuery,
    *,
    now_s: int,
    complete: Complete,
    named_beginning: bool = False,
    everywhere: Everywhere | None = None,
    only_own: bool = False,
) -> UsageFound:
    """Answer a question about usage.

    Args:
        regions: Where to read; their totals are merged.
        query: The question.
        now_s: The time now, epoch seconds.
        complete: Up to when the regions' counts are complete. Find it first: rows that are read later are no fewer.
        named_beginning: The asker named a beginning, and is told if it lies before all data.
        everywhere: All regions of the stage were asked for.
        only_own: Say nothing of what other accounts have: the asker sees the accounts of the query alone.

    Raises:
        UnavailableError: An hour could not be read; the error names the region.
    """
    sources, seen = [report_source(region) for region in regions], Seen(query)
    rows = report_rows(sources, query, now_s=now_s, seen=seen)
    missing = _own_missing(seen) if only_own else missing_names(sources, query, seen)
    booked_s = None if only_own else _booked_s(sources, query, now_s, empty=not rows, named=named_beginning)
    answer = usage_answer(
        query, rows, as_of_s=now_s, complete=complete, periods=report_periods(sources, query, now_s=now_s),
        regions=() if everywhere is None else [region.region for region in regions],
        left_out={} if everywhere is None else everywhere.left_out, missing=missing, booked_s=booked_s,
    )  # fmt: skip
    return UsageFound(answer=answer, rows=rows, missing=missing, booked_s=booked_s)


def _own_missing(seen: Seen) -> list[MissingName]:
    """Names that were not found. What stands near them may be another account's, and is not looked for."""
    return [
        MissingName(parameter=parameter, value=value) for parameter, names in seen.missing().items() for value in names
    ]


def _booked_s(
    sources: Sequence[ReportSource], query: UsageQuery, now_s: int, *, empty: bool, named: bool
) -> tuple[int, int] | None:
    # Only who names a beginning can have named one before all data.
    if empty or (named and begins_before_all(sources, query)):
        return booked_range_s(sources, now_s=now_s)
    return None

"""What a question about usage costs to answer, counted before any figure is read.

The command line warns of a question that costs much; the HTTP API refuses it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

from metering.hours import month_bounds_s, month_of, rfc3339
from metering.reports.parameters import ParameterProblem
from metering.units import DAY_S, HOUR_S

if TYPE_CHECKING:
    from collections.abc import Iterator

    from metering.reports.query import UsageQuery


class Meter(Protocol):
    """Told of what is read for an answer, each time just before it is. It may raise to end the reading."""

    def hours(self, number: int = 1) -> None:
        """Hours of the lake."""
        ...

    def partitions(self, number: int = 1) -> None:
        """Partitions of the usage table, or of a closed month that stands in for one."""
        ...


class _Uncounted:
    def hours(self, number: int = 1) -> None:
        pass

    def partitions(self, number: int = 1) -> None:
        pass


UNCOUNTED: Meter = _Uncounted()
"""Of who may read as much as it wants."""

# No region has data of before.
FIRST_YEAR = 2020


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadBudget:
    """What the answer to one question may cost. docs/decisions/0035-http-api.md has the measurements.

    Attributes:
        partitions: Of the usage table: each is one account in one month.
        hours: Hours whose rows are read from the lake and staging. A closed month answers from its totals, unless the
            question asks for details.
        months: Of a range.
        first_year: No range begins before it.
    """

    partitions: int = 200
    hours: int = 168
    months: int = 13
    first_year: int = FIRST_YEAR

    def of_range(self, from_s: int, to_s: int, *, now_s: int) -> list[ParameterProblem]:
        """Why a range is too much. It is looked at before anything walks through its months or days."""
        problems: list[ParameterProblem] = []
        if from_s < _year_s(self.first_year):
            advice = f"Begin in {self.first_year} or later."
            problem = f"lies before {self.first_year}: no region has data of then."
            problems.append(_problem("from", rfc3339(from_s), problem, advice))
        end_s = _after_next_month_s(now_s)
        if to_s > end_s:
            problem = "lies after the next month: nothing is booked there yet."
            problems.append(_problem("to", rfc3339(to_s), problem, f"End with {rfc3339(end_s)} at the latest."))
        if not problems and (months := _months(from_s, to_s)) > self.months:
            problem = f"is the beginning of a range of {months} months, and {self.months} are the most at once."
            problems.append(_problem("from", rfc3339(from_s), problem, "Ask for it in several parts."))
        return problems

    def of_query(self, query: UsageQuery, *, now_s: int) -> list[ParameterProblem]:
        """Why a question reads too much of the usage table, that has a range which is not too much."""
        partitions = partitions_of(query, now_s=now_s)
        if partitions <= self.partitions:
            return []
        problem = (
            f"accounts in {partitions // len(query.accounts)} months are {partitions:,} partitions of the usage table, "
            f"and {self.partitions} are the most at once."
        )
        return [_problem("account", str(len(query.accounts)), problem, "Name fewer accounts, or a shorter range.")]

    def of_hours(self, query: UsageQuery, hours: int) -> list[ParameterProblem]:
        """Why a question reads too much of the lake, of which it would read so many hours."""
        if hours <= self.hours:
            return []
        problem = (
            f"is the beginning of a range with {hours:,} hours that have to be read from the lake, and {self.hours} "
            "are the most at once."
        )
        advice = "Ask for a shorter range" + ("." if query.details else ", or name accounts.")
        return [_problem("from", rfc3339(query.from_s), problem, advice)]


def partitions_of(query: UsageQuery, *, now_s: int) -> int:
    """Partitions of the usage table that are read for an answer: each is one account in one month."""
    if query.details or not query.accounts:
        return 0
    # Nothing is read of the future.
    last = month_of(now_s + DAY_S)
    return len(query.accounts) * sum(1 for month in query.months(now_s=now_s) if month <= last)


def most_hours(query: UsageQuery, *, now_s: int) -> int:
    """Hours of the lake that an answer reads at most, if every one of them has rows and no month is closed."""
    if query.accounts and not query.details:
        return 0
    before_s = min(query.booked_before_s(now_s=now_s), now_s + 2 * HOUR_S)
    return max(-(-(before_s - query.from_s) // HOUR_S), 0)


def warnings_of(query: UsageQuery, *, now_s: int, hours: int) -> Iterator[str]:
    """What a person is told who asks for much, before it is read; in sentences.

    Args:
        query: The question.
        now_s: The time now, epoch seconds.
        hours: Hours that are read from the lake.
    """
    partitions, budget = partitions_of(query, now_s=now_s), ReadBudget()
    if partitions > budget.partitions:
        yield (
            f"This reads {partitions:,} partitions of the usage table (accounts x months), about 92 read units each. "
            "It may take a while."
        )
    if hours > budget.hours:
        yield f"This reads {hours:,} hours from the lake. It may take a while; a report on named accounts is quick."


def _months(from_s: int, to_s: int) -> int:
    first, last = (datetime.fromtimestamp(moment_s, UTC) for moment_s in (from_s, max(to_s - 1, from_s)))
    return 12 * (last.year - first.year) + last.month - first.month + 1


def _year_s(year: int) -> int:
    return int(datetime(year, 1, 1, tzinfo=UTC).timestamp())


def _after_next_month_s(now_s: int) -> int:
    _, after_s = month_bounds_s(month_of(now_s))
    # A day of another zone may end later.
    return month_bounds_s(month_of(after_s))[1] + DAY_S


def _problem(parameter: str, value: str, problem: str, advice: str) -> ParameterProblem:
    return ParameterProblem(parameter=parameter, value=value, problem=problem, advice=advice)

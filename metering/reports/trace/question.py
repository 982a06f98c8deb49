"""Which line of a report is traced: one account, filters, and a range of whole hours."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from metering.hours import rfc3339
from metering.reports.parameters import InvalidParametersError, ParameterProblem
from metering.reports.query import UsageParameters, given_names
from metering.units import HOUR_S

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from metering.reports.query import UsageQuery

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND = timedelta(seconds=1)
_AFTER_S = (datetime(9998, 1, 1, tzinfo=UTC) - _EPOCH) // _SECOND
_WRITE = "Write its beginning, as 2026-11-24T13:00:00Z."

# With its account, these name a total of the service exactly.
KEY_COLUMNS = ("usage_type", "service", "from", "to", "hour", "corrects")


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceParameters:
    """The texts of a question about one line, as they stand on a command line or in a URL.

    Attributes:
        account: The account; it must be given, and only one.
        usage_type, service, from_location, to_location: What the line is filtered by; None for all.
        hour: One hour, in place of a range: the time of its beginning.
        start, end: Parameters `from` and `to`; see `time_range`. Default: this month, up to the end of this hour.
        last: A span that ends with the hour that runs now, such as `7d`.
    """

    account: str | None = None
    usage_type: str | None = None
    service: str | None = None
    from_location: str | None = None
    to_location: str | None = None
    hour: str | None = None
    start: str | None = None
    end: str | None = None
    last: str | None = None

    def query(self, *, now_s: int) -> UsageQuery:
        """The usage that the line is the sum of, each total of the service by itself.

        Raises:
            InvalidParametersError: No account or several, a time that is none, a filter that nothing can have, or
                a range that cuts an hour. Carries every problem found.
        """
        problems = list(self._account_problems())
        hour = None if self.hour is None else self._hour(self.hour)
        start, end = self.start, self.end
        if isinstance(hour, int):
            start, end = rfc3339(hour), rfc3339(hour + HOUR_S)
        elif hour is not None:
            problems.append(hour)
        asked = UsageParameters(
            start=start,
            end=end,
            last=self.last,
            group_by=",".join(KEY_COLUMNS),
            accounts=_given(self.account),
            usage_types=_given(self.usage_type),
            services=_given(self.service),
            from_locations=_given(self.from_location),
            to_locations=_given(self.to_location),
        )
        try:
            query = asked.query(now_s=now_s)
        except InvalidParametersError as error:
            found = self._of_hour(error.problems) if isinstance(hour, int) else error.problems
            raise InvalidParametersError([*problems, *found]) from error
        if problems:
            raise InvalidParametersError(problems)
        return query

    def _account_problems(self) -> Iterator[ParameterProblem]:
        named = given_names(_given(self.account))
        if len(named) != 1:
            problem = "names several accounts." if named else "names no account."
            yield ParameterProblem(
                parameter="account",
                value=self.account or "",
                problem=problem,
                advice="A line is of one account: name it by its 12 digits.",
            )

    def _hour(self, text: str) -> int | ParameterProblem:
        if self.start or self.end or self.last:
            return _refused(text, "cannot stand beside a range.", "Name one hour, or from and to.")
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            return _refused(text, "is not an hour.", _WRITE)
        if moment.tzinfo is None:
            return _refused(text, "is not an hour with its time zone.", _WRITE)
        begins_s = (moment - _EPOCH) // _SECOND
        if moment.microsecond or begins_s % HOUR_S:
            return _refused(text, "is not on the hour.", _WRITE)
        if not 0 <= begins_s < _AFTER_S:
            return _refused(text, "lies outside the years that a report can be about.", _WRITE)
        return begins_s

    def _of_hour(self, problems: Iterable[ParameterProblem]) -> Iterator[ParameterProblem]:
        """The problems; those of the hour were found in the range that it was asked as."""
        for each in problems:
            yield _refused(self.hour or "", each.problem, each.advice) if each.parameter in {"from", "to"} else each


def _refused(hour: str, problem: str, advice: str) -> ParameterProblem:
    return ParameterProblem(parameter="hour", value=hour, problem=problem, advice=advice)


def _given(text: str | None) -> tuple[str, ...]:
    return () if text is None else (text,)

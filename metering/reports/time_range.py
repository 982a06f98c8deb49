"""Ranges of time as people write them: RFC 3339 times, dates, or months."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from metering.hours import hour_of, month_bounds_s, rfc3339
from metering.reports.parameters import InvalidParametersError, ParameterProblem
from metering.units import DAY_S, HOUR_S, MINUTE_S

_MONTH = re.compile(r"\d{4}-\d{2}")
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND = timedelta(seconds=1)
# Labels of hours have years of four digits, and the end of a range needs a label too.
_YEARS = (1970, 9998)
# A record may start 10 minutes ahead of the clock (`intake.admission`), and clocks differ.
_AHEAD_S = 10 * MINUTE_S


def time_range(
    start: str | None, end: str | None, *, default_s: tuple[int, int], now_s: int, whole_hours: bool = False
) -> tuple[int, int]:
    """The half-open range from `start` to `end`, in epoch seconds. A month or date alone as `start` means all of it.

    Args:
        start: First time, if one was given: parameter `from`.
        end: Time after the last, if one was given: parameter `to`.
        default_s: The range if neither is given.
        now_s: The time now.
        whole_hours: Refuse a range that cuts an hour, because the answer is kept by the hour.

    Raises:
        InvalidParametersError: A text is not a time, or the range is empty, begins in the future, or cuts an hour.
    """
    start_s = _moment(start, "from") if start else default_s[0]
    end_s = _moment(end, "to") if end else _implied_end(start, start_s, default_s[1])
    if isinstance(start_s, ParameterProblem) or isinstance(end_s, ParameterProblem):
        raise InvalidParametersError([each for each in (start_s, end_s) if isinstance(each, ParameterProblem)])
    problems: list[ParameterProblem] = []
    if start and start_s > now_s + _AHEAD_S:
        problems.append(
            ParameterProblem(parameter="from", value=start, problem="lies in the future: nothing is booked there yet.")
        )
    elif end_s <= start_s:
        problems.append(_empty(start, end, start_s, end_s))
    if whole_hours:
        for text, moment_s, parameter in ((start, start_s, "from"), (end, end_s, "to")):
            if text and moment_s % HOUR_S:
                problems.append(_cuts_an_hour(text, moment_s, parameter))
    if problems:
        raise InvalidParametersError(problems)
    return start_s, end_s


def _moment(text: str, parameter: str) -> int | ParameterProblem:
    """Epoch seconds of an RFC 3339 time, or of the beginning of a date or month in UTC."""
    try:
        if _MONTH.fullmatch(text):
            return _within_years(month_bounds_s(text)[0], text, parameter)
        if _DATE.fullmatch(text):
            return _within_years(int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()), text, parameter)
        moment = datetime.fromisoformat(text)
    except ValueError:
        advice = "Write it as 2026-11-24T13:00:00Z, 2026-11-24 or 2026-11."
        return ParameterProblem(parameter=parameter, value=text, problem="is not a time.", advice=advice)
    if moment.tzinfo is None:
        return ParameterProblem(
            parameter=parameter, value=text, problem="has no time zone.", advice=f"For UTC, write {text}Z."
        )
    if moment.microsecond:
        return ParameterProblem(
            parameter=parameter, value=text, problem="has a fraction of a second.", advice="Write whole seconds."
        )
    return _within_years((moment - _EPOCH) // _SECOND, text, parameter)


def _within_years(moment_s: int, text: str, parameter: str) -> int | ParameterProblem:
    first_s, after_s = (month_bounds_s(f"{year}-01")[0] for year in (_YEARS[0], _YEARS[1] + 1))
    if first_s <= moment_s < after_s:
        return moment_s
    problem = f"lies outside the years {_YEARS[0]} to {_YEARS[1]}."
    return ParameterProblem(parameter=parameter, value=text, problem=problem)


def _implied_end(start: str | None, start_s: int | ParameterProblem, default_s: int) -> int:
    """The end of the month or date that `start` names."""
    if not start or isinstance(start_s, ParameterProblem):
        return default_s
    if _MONTH.fullmatch(start):
        return month_bounds_s(start)[1]
    return start_s + DAY_S if _DATE.fullmatch(start) else default_s


def _empty(start: str | None, end: str | None, start_s: int, end_s: int) -> ParameterProblem:
    return ParameterProblem(
        parameter="to" if end else "from",
        value=end or start or "",
        problem=f"leaves the range empty: it would begin at {rfc3339(start_s)} and end before {rfc3339(end_s)}.",
        advice="The end must be later than the beginning; it is not included itself.",
    )


def _cuts_an_hour(text: str, moment_s: int, parameter: str) -> ParameterProblem:
    before_s = hour_of(moment_s)
    return ParameterProblem(
        parameter=parameter,
        value=text,
        problem=(
            "is not on the hour, and totals are kept by the hour (UTC). "
            f"The nearest full hours are {rfc3339(before_s)} and {rfc3339(before_s + HOUR_S)}."
        ),
        advice="Rows are read to the second by a report with a detail column and by `metering query`.",
    )

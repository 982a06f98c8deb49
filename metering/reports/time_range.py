"""Ranges of time, parsed from: RFC 3339 times, dates, months, words such as `today`, and spans until now."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from difflib import get_close_matches
from functools import cache
from zoneinfo import ZoneInfo, available_timezones

from metering.errors import MeteringError
from metering.hours import hour_of, rfc3339
from metering.units import DAY_S, HOUR_S, MINUTE_S


@dataclass(frozen=True, slots=True, kw_only=True)
class ParameterProblem:
    """An invalid parameter.

    Attributes:
        parameter: Name as in a URL's query, such as `group_by`; the command's option has dashes instead of underscores.
        value: The parameter's text, or the invalid part of this text.
        problem: The end of a sentence that begins with the value: `is not a time.`
        advice: Advice in full sentences; empty if `problem` already contains the advice.
    """

    parameter: str
    value: str
    problem: str
    advice: str = ""


def refused(parameter: str, value: str, problem: str, advice: str = "") -> ParameterProblem:
    """Build a `ParameterProblem`."""
    return ParameterProblem(parameter=parameter, value=value, problem=problem, advice=advice)


def check_rows(rows: int, most: int | None) -> None:
    """Refuse an answer of more than `most` rows while the rows are produced, to limit memory use.

    Raises:
        InvalidParametersError: There are more.
    """
    if most is not None and rows > most:
        problem = f"would give more than {most:,} rows, and that many are the most that are summed at once."
        advice = "Group by fewer columns, ask for a shorter range, or read the lake with SQL: metering query."
        raise InvalidParametersError([refused("group_by", "Such a question", problem, advice)])


class InvalidParametersError(MeteringError):
    """An invalid query, with every problem found."""

    def __init__(self, problems: Sequence[ParameterProblem]) -> None:
        super().__init__(tuple(problems))
        self.problems = tuple(problems)
        for advice in dict.fromkeys(each.advice for each in problems if each.advice):
            self.add_note(advice)

    def __str__(self) -> str:
        return " ".join(f"{each.parameter} {each.value} {each.problem}" for each in self.problems)


# Help text about times, which help pages print.
TIMES_HELP = """\
--from is included, --to is not. A time is one of:
  2026-11-24T13:00:00Z     RFC 3339, with its zone
  2026-11-24               a date: its beginning; alone as --from, all of that day
  2026-11                  a month, likewise
  today, yesterday, this-month, last-month   likewise
--last 24h, 7d, 2w or 3m ends with the hour that runs now. 3m are three months. Days and months are whole ones, and the
one that runs now is the last of them.
Times are UTC. With --tz Europe/Berlin, dates, months, words and times without a zone are that zone's, and times are
shown in it. Totals are kept by the UTC hour, so a day of a zone is the sum of its hours."""

TODAY, YESTERDAY, THIS_MONTH, LAST_MONTH = "today", "yesterday", "this-month", "last-month"
WORDS = (TODAY, YESTERDAY, THIS_MONTH, LAST_MONTH)

_MONTH = re.compile(r"\d{4}-\d{2}")
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_LAST = re.compile(r"([1-9]\d{0,3})([hdwm])")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND, _DAY = timedelta(seconds=1), timedelta(days=1)
# Hour labels have four-digit years, and the exclusive end of a range also needs a label.
_YEARS = (1970, 9998)
# A record may start 10 minutes ahead of the clock (`intake.admission`), and clocks differ.
_AHEAD_S = 10 * MINUTE_S
_WRITE = "Write it as 2026-11-24T13:00:00Z, 2026-11-24, 2026-11, today, yesterday, this-month or last-month."


def time_range(
    start: str | None,
    end: str | None,
    *,
    default_s: tuple[int, int],
    now_s: int,
    whole_hours: bool = False,
    last: str | None = None,
    zone: tzinfo = UTC,
) -> tuple[int, int]:
    """The half-open range from `start` to `end`, in epoch seconds. A lone month or date as `start` means all of it.

    Args:
        start: Start of the range (parameter `from`), if given.
        end: Exclusive end of the range (parameter `to`), if given.
        default_s: The range if neither start, end nor span is given.
        now_s: The time now.
        whole_hours: Refuse a range that cuts an hour, because figures are stored by the hour.
        last: A span that ends with the current hour, such as `7d`, instead of `start` and `end`.
        zone: Time zone of dates, months, words, and times that state no zone.

    Raises:
        InvalidParametersError: A text is not a time, or the range is empty, begins in the future, or cuts an hour.
    """
    calendar = _Calendar(now_s=now_s, zone=zone)
    first: int | ParameterProblem
    after: int | ParameterProblem
    if last:
        if start or end:
            raise InvalidParametersError([refused("last", last, "cannot stand beside a beginning or an end.")])
        first, after = calendar.last(last)
    else:
        first, span_end = calendar.moment(start, "from") if start else (default_s[0], None)
        after = calendar.moment(end, "to")[0] if end else default_s[1] if span_end is None else span_end
    if isinstance(first, ParameterProblem) or isinstance(after, ParameterProblem):
        raise InvalidParametersError([each for each in (first, after) if isinstance(each, ParameterProblem)])
    given = (start, end, last)
    problems = _range_problems(given, first, after, now_s)
    if whole_hours:
        problems += _hour_problems(given, first, after)
    if problems:
        raise InvalidParametersError(problems)
    return first, after


def zone_of(name: str | None) -> tzinfo:
    """The time zone with this name, such as `Europe/Berlin`; UTC if no name is given.

    Raises:
        InvalidParametersError: The zone does not exist.
    """
    if name is None or name.upper() in {"UTC", "Z"}:
        return UTC
    known = _zones()
    if name in known:
        return ZoneInfo(name)
    if not known:
        advice = "This machine has no list of time zones. Install its package tzdata."
    else:
        by_small = {each.lower(): each for each in known}
        near = get_close_matches(name.lower(), by_small, n=3)
        advice = f"Nearest: {', '.join(by_small[each] for each in near)}." if near else "Write it as Europe/Berlin."
    raise InvalidParametersError([refused("tz", name, "is not a time zone.", advice)])


@cache
def _zones() -> frozenset[str]:
    """Names of all zones. Zones are files of the machine; reading all of them takes longer than most reports."""
    return frozenset(available_timezones())


def shown(epoch_s: int, zone: tzinfo = UTC) -> str:
    """Convert an epoch second to RFC 3339 text in a time zone: `2026-11-24T13:00:00Z`, `2026-11-24T14:00:00+01:00`."""
    return rfc3339(epoch_s) if zone is UTC else datetime.fromtimestamp(epoch_s, zone).isoformat()


def month_start_s(now_s: int, zone: tzinfo = UTC) -> int:
    """First second of the month that contains `now_s`."""
    calendar = _Calendar(now_s=now_s, zone=zone)
    return calendar.begins_s(calendar.today.replace(day=1))


def splits_an_hour(from_s: int, to_s: int, zone: tzinfo) -> bool:
    """Whether a day of the zone begins within a UTC hour, so that the zone's days are not sums of hours."""
    moments = (*range(from_s, to_s, DAY_S), to_s)
    return any(
        (datetime.fromtimestamp(moment_s, zone).utcoffset() or timedelta()) // _SECOND % HOUR_S for moment_s in moments
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Calendar:
    """Days and months of a time zone, relative to the current time."""

    now_s: int
    zone: tzinfo

    @property
    def today(self) -> date:
        return datetime.fromtimestamp(self.now_s, self.zone).date()

    def begins_s(self, day: date) -> int:
        """The first second of a day. If the clock skips midnight, the day begins with the second after the gap."""
        return (datetime(day.year, day.month, day.day, tzinfo=self.zone) - _EPOCH) // _SECOND

    def last(self, text: str) -> tuple[int | ParameterProblem, int]:
        """First second of a span such as `7d`, and the exclusive end: the second after the current hour."""
        after_s = hour_of(self.now_s) + HOUR_S
        match = _LAST.fullmatch(text)
        if match is None:
            advice = "Write it as 24h, 7d, 2w or 3m (months)."
            return refused("last", text, "is not a span of time.", advice), after_s
        number, unit = int(match[1]), match[2]
        if unit == "h":
            return _within_years(after_s - number * HOUR_S, text, "last"), after_s
        if unit == "m":
            months = self.today.year * 12 + self.today.month - number
            return self._begins(months // 12, months % 12 + 1, 1, text, "last"), after_s
        first = self.today - _DAY * (number * (7 if unit == "w" else 1) - 1)
        return self._begins(first.year, first.month, first.day, text, "last"), after_s

    def moment(self, text: str, parameter: str) -> tuple[int | ParameterProblem, int | None]:
        """Epoch seconds of a time; for a month or a day, of its start and its end."""
        try:
            span = self._span(text)
            if span is None:
                return self._instant(text, parameter), None
            first = self._begins(*span[0], text, parameter)
            return first, None if isinstance(first, ParameterProblem) else self.begins_s(date(*span[1]))
        except ValueError:
            return refused(parameter, text, "is not a time.", _WRITE), None

    def _span(self, text: str) -> tuple[tuple[int, int, int], tuple[int, int, int]] | None:
        """The first day that a date, month or word means, and the day after the last; None for other texts."""
        if _MONTH.fullmatch(text) or text in {THIS_MONTH, LAST_MONTH}:
            month = date.fromisoformat(f"{text}-01") if _MONTH.fullmatch(text) else self.today.replace(day=1)
            if text == LAST_MONTH:
                month = (month - _DAY).replace(day=1)
            after = (month.year + month.month // 12, month.month % 12 + 1, 1)
            return (month.year, month.month, 1), after
        if _DATE.fullmatch(text) or text in {TODAY, YESTERDAY}:
            day = date.fromisoformat(text) if _DATE.fullmatch(text) else self.today - _DAY * (text == YESTERDAY)
            after_day = date.fromordinal(min(day.toordinal() + 1, date.max.toordinal()))
            return (day.year, day.month, day.day), (after_day.year, after_day.month, after_day.day)
        return None

    def _begins(self, year: int, month: int, day: int, text: str, parameter: str) -> int | ParameterProblem:
        if not _YEARS[0] <= year <= _YEARS[1]:
            return _outside(text, parameter)
        return _within_years(self.begins_s(date(year, month, day)), text, parameter)

    def _instant(self, text: str, parameter: str) -> int | ParameterProblem:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            if self.zone is UTC:
                return refused(parameter, text, "has no time zone.", f"For UTC, write {text}Z.")
            moment = moment.replace(tzinfo=self.zone)
            other = moment.replace(fold=1)
            if moment.utcoffset() != other.utcoffset():
                advice = f"Write it with its offset: {moment.isoformat()} or {other.isoformat()}."
                return refused(parameter, text, f"is there twice or never in {self.zone}: clocks change.", advice)
        if moment.microsecond:
            return refused(parameter, text, "has a fraction of a second.", "Write whole seconds.")
        return _within_years((moment - _EPOCH) // _SECOND, text, parameter)


_FIRST_S, _AFTER_S = (int(datetime(year, 1, 1, tzinfo=UTC).timestamp()) for year in (_YEARS[0], _YEARS[1] + 1))


def _within_years(moment_s: int, text: str, parameter: str) -> int | ParameterProblem:
    return moment_s if _FIRST_S <= moment_s < _AFTER_S else _outside(text, parameter)


def _outside(text: str, parameter: str) -> ParameterProblem:
    return refused(parameter, text, f"lies outside the years {_YEARS[0]} to {_YEARS[1]}.")


_Given = tuple[str | None, str | None, str | None]


def _range_problems(given: _Given, start_s: int, end_s: int, now_s: int) -> list[ParameterProblem]:
    start, end, _ = given
    if start and start_s > now_s + _AHEAD_S:
        advice = f"It is {rfc3339(now_s)} now."
        return [refused("from", start, "lies in the future: nothing is booked there yet.", advice)]
    if end_s > start_s:
        return []
    return [refused(
        "to" if end else "from",
        end or start or "",
        f"leaves the range empty: it would begin at {rfc3339(start_s)} and end before {rfc3339(end_s)}.",
        "The end must be later than the beginning; it is not included itself.",
    )]  # fmt: skip


def _hour_problems(given: _Given, start_s: int, end_s: int) -> list[ParameterProblem]:
    start, end, last = given
    # Where clocks change by half an hour, a month can start on a full hour and end between two full hours.
    bounds = ((start, start_s, "from"), (end or start, end_s, "to" if end else "from"), (last, start_s, "last"))
    problems: dict[str, ParameterProblem] = {}
    for text, moment_s, parameter in bounds:
        if text and moment_s % HOUR_S:
            problems.setdefault(parameter, _cuts_an_hour(text, moment_s, parameter))
    return list(problems.values())


def _cuts_an_hour(text: str, moment_s: int, parameter: str) -> ParameterProblem:
    before_s = hour_of(moment_s)
    return refused(
        parameter,
        text,
        "is not on the hour, and totals are kept by the hour (UTC). "
        f"The nearest full hours are {rfc3339(before_s)} and {rfc3339(before_s + HOUR_S)}.",
        "Rows are read to the second by a report with a detail column and by `metering query`.",
    )

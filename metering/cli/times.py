"""Times as people type them: RFC 3339, a date, or a month; and durations such as `90s`, `10m`, `1h30m`."""

import re
import time
from datetime import UTC, datetime, timedelta

from metering.cli.failures import WrongUsageError
from metering.hours import hour_of, month_bounds_s, rfc3339
from metering.units import DAY_S, HOUR_S, MINUTE_S

_DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s?)?")
_MONTH = re.compile(r"\d{4}-\d{2}")
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND = timedelta(seconds=1)
# Hours are named by years of four digits, and the end of a range has a name too.
_YEARS = (1970, 9998)
# Records may start so far ahead of the clock (domain/admission.py), and clocks differ.
_AHEAD_S = 10 * MINUTE_S


def parse_time(text: str, option: str) -> int:
    """Epoch seconds of an RFC 3339 time, or of the beginning of a date or month (UTC).

    Raises:
        WrongUsageError: It is something else, or lies where nothing can be booked; `option` is named.
    """
    try:
        if _MONTH.fullmatch(text):
            return _within(month_bounds_s(text)[0], text, option)
        if _DATE.fullmatch(text):
            return _within(int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()), text, option)
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise _no_time(text, option) from error
    if moment.tzinfo is None:
        raise WrongUsageError(f"{option} {text}: a time needs its zone.", f"For UTC: {text}Z")
    if moment.microsecond:
        raise WrongUsageError(f"{option} {text}: parts of a second cannot be asked for.", "Write whole seconds.")
    return _within((moment - _EPOCH) // _SECOND, text, option)


def parse_range(
    start: str | None,
    end: str | None,
    *,
    default_s: tuple[int, int],
    whole_hours: bool = False,
    now_s: int | None = None,
) -> tuple[int, int]:
    """The half-open range `--from` to `--to`, in epoch seconds. A month or date as `--from` alone means all of it.

    Args:
        start: `--from`, if it was given.
        end: `--to`, if it was given.
        default_s: The range without either.
        whole_hours: What is asked for is kept by the hour: a range that cuts one is refused.
        now_s: The time; this machine's by default.

    Raises:
        WrongUsageError: One of them is no time, or the range is empty, lies in the future, or cuts an hour.
    """
    start_s = parse_time(start, "--from") if start else default_s[0]
    end_s = parse_time(end, "--to") if end else _own_end(start, default_s[1])
    if start and start_s > (int(time.time()) if now_s is None else now_s) + _AHEAD_S:
        raise WrongUsageError(f"--from {start} lies in the future: nothing is booked there yet.")
    if end_s <= start_s:
        raise WrongUsageError("The range is empty: --from must be before --to.", "--to is not included itself.")
    if whole_hours:
        for text, moment_s, option in ((start, start_s, "--from"), (end, end_s, "--to")):
            if text and moment_s % HOUR_S:
                raise _cuts_an_hour(text, moment_s, option)
    return start_s, end_s


def parse_duration(text: str, option: str) -> int:
    """Seconds of `90`, `90s`, `10m`, `1h30m` or `2d`.

    Raises:
        WrongUsageError: It is something else.
    """
    match = _DURATION.fullmatch(text.strip().lower())
    if match is None or not any(match.groups()):
        raise WrongUsageError(f"{option} {text}: not a duration.", "Write it as 90s, 10m, 1h30m or 2d.")
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return days * DAY_S + hours * HOUR_S + minutes * MINUTE_S + seconds


def _own_end(start: str | None, default_s: int) -> int:
    if start and _MONTH.fullmatch(start):
        return month_bounds_s(start)[1]
    if start and _DATE.fullmatch(start):
        return parse_time(start, "--from") + DAY_S
    return default_s


def _no_time(text: str, option: str) -> WrongUsageError:
    return WrongUsageError(f"{option} {text}: not a time.", "Write it as 2026-11-24T13:00:00Z, 2026-11-24 or 2026-11.")


def _within(moment_s: int, text: str, option: str) -> int:
    first_s, after_s = (month_bounds_s(f"{year}-01")[0] for year in (_YEARS[0], _YEARS[1] + 1))
    if not first_s <= moment_s < after_s:
        raise WrongUsageError(f"{option} {text}: the year must lie between {_YEARS[0]} and {_YEARS[1]}.")
    return moment_s


def _cuts_an_hour(text: str, moment_s: int, option: str) -> WrongUsageError:
    before_s = hour_of(moment_s)
    return WrongUsageError(
        f"{option} {text} is not on the hour, and totals are kept by the hour (UTC). "
        f"The nearest full hours are {rfc3339(before_s)} and {rfc3339(before_s + HOUR_S)}.",
        "By the second: `metering report usage --detail …`, or `metering query --from … --to …`.",
    )

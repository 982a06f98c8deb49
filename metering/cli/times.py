"""Times as people type them: RFC 3339, a date, or a month; and durations such as `90s`, `10m`, `1h30m`."""

import re
from datetime import UTC, datetime

from metering.cli.failures import WrongUsageError
from metering.domain.hours import month_bounds_s
from metering.units import DAY_S, HOUR_S, MINUTE_S

_DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s?)?")
_MONTH = re.compile(r"\d{4}-\d{2}")
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")


def parse_time(text: str, option: str) -> int:
    """Epoch seconds of an RFC 3339 time, or of the beginning of a date or month (UTC).

    Raises:
        WrongUsageError: It is something else; `option` is named.
    """
    try:
        if _MONTH.fullmatch(text):
            return month_bounds_s(text)[0]
        if _DATE.fullmatch(text):
            return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise _no_time(text, option) from error
    if moment.tzinfo is None:
        raise WrongUsageError(f"{option} {text}: a time needs its zone.", f"For UTC: {text}Z")
    return int(moment.timestamp())


def parse_range(start: str | None, end: str | None, *, default_s: tuple[int, int]) -> tuple[int, int]:
    """The half-open range `--from` to `--to`, in epoch seconds. A month or date as `--from` alone means all of it.

    Raises:
        WrongUsageError: One of them is no time, or the range is empty.
    """
    start_s = parse_time(start, "--from") if start else default_s[0]
    end_s = parse_time(end, "--to") if end else _own_end(start, default_s[1])
    if end_s <= start_s:
        raise WrongUsageError("The range is empty: --from must be before --to.", "--to is not included itself.")
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

"""Durations as people type them: `90s`, `10m`, `1h30m`."""

import re

from metering.cli.failures import WrongUsageError
from metering.units import DAY_S, HOUR_S, MINUTE_S

_DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s?)?")


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

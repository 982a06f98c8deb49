"""Questions of a Python program as the texts that a command line has: one place checks both."""

from __future__ import annotations

from datetime import date, datetime
from typing import TYPE_CHECKING, TypeAlias

from metering.reports.parameters import InvalidParametersError, ParameterProblem

if TYPE_CHECKING:
    from collections.abc import Iterable

Names: TypeAlias = "str | Iterable[str] | None"
"""One name, several with commas between them, or any number of them."""
Time: TypeAlias = "str | date | datetime | None"
"""A time as `--from` takes it, such as `2026-11` or `yesterday`; or a date, or a datetime with its zone."""


def names(given: Names) -> tuple[str, ...]:
    """Names, each once, in order."""
    texts = [given] if isinstance(given, str) else list(given or ())
    return tuple(dict.fromkeys(name.strip() for text in texts for name in text.split(",") if name.strip()))


def columns(given: Names) -> str | None:
    """Columns with commas between them; None if none were given."""
    return None if given is None else ",".join(names(given))


def time_text(parameter: str, given: Time) -> str | None:
    """A time as text.

    Raises:
        InvalidParametersError: A datetime has no zone. The zone of this machine is not taken for it.
    """
    if given is None or isinstance(given, str):
        return given
    if not isinstance(given, datetime):
        return given.isoformat()
    if given.utcoffset() is None:
        raise InvalidParametersError(
            [
                ParameterProblem(
                    parameter=parameter,
                    value=given.isoformat(),
                    problem="has no zone.",
                    advice="Give it one, as tzinfo=UTC.",
                )
            ]
        )
    return given.isoformat()

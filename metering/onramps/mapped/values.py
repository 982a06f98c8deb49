"""Values of a mapped row: each rule of a mapping makes one value of the contract from a column, or says why it cannot.

Numbers are exact: `1.5` GiB is 1,610,612,736 bytes, and a number that is no whole number of bytes is refused.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Context, Decimal, InvalidOperation
from typing import TYPE_CHECKING

from metering.intake.instants import MAX_EPOCH_S, SECOND_US, rfc3339_us
from metering.onramps.rows.tally import MAX_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Row = Callable[[str], object]
    """Value of a column of a row; None if the row has no such column."""

BYTE_UNITS = {
    "bytes": 1,
    "kB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "TiB": 2**40,
}
"""Bytes of each unit: SI prefixes count in thousands, IEC prefixes in 1,024 (IEC 80000-13)."""

DURATION_UNITS = {"us": 1, "ms": 10**3, "s": 10**6, "min": 60 * 10**6}
"""Microseconds of each unit."""

TIME_FORMATS = ("epoch_s", "epoch_ms", "rfc3339")
"""Formats with a name; every other one is a strptime pattern, which contains `%`."""

# Products of any two numbers here are exact: Decimal's usual 28 digits would round some to whole ones.
_EXACT = Context(prec=160)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_MAX_NUMBER_CHARS = 64
_MAX_EXPONENT = 40
"""Numbers beyond are out of any range here, and would take long to write out."""


def text_of(value: object) -> str:
    """A value of a column as text; empty if there is none. Lists and objects have none."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | Decimal):
        return str(value)
    return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TextRule:
    """Where a text of the record comes from.

    Attributes:
        column: Column that holds it; empty for a constant.
        constant: The value for every row.
        values: What each text of the column stands for; empty if the texts stand for themselves.
        otherwise: The value of rows whose text is not in `values`, or where there is no text; None if they are refused.
        digits: Zeros are put before the text until it has so many digits; 0 leaves it as it is.
        optional: Whether a row without a value has an empty one, instead of being refused.
    """

    column: str = ""
    constant: str = ""
    values: Mapping[str, str] = field(default_factory=dict)
    otherwise: str | None = None
    digits: int = 0
    optional: bool = False

    def of(self, row: Row) -> str:
        """The value for a row.

        Raises:
            ValueError: There is none.
        """
        if not self.column:
            return self.constant
        text = text_of(row(self.column))
        if self.digits and text.isdecimal():
            text = text.zfill(self.digits)
        if text and not self.values:
            return text
        if text in self.values:
            return self.values[text]
        if self.otherwise is not None:
            return self.otherwise
        if not text and self.optional:
            return ""
        raise ValueError(_no_value(self.column, text))


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberRule:
    """Where an exact number comes from.

    Attributes:
        column: Column that holds it; empty for a constant.
        constant: The number of every row, in small units.
        factor: Small units of one: bytes, or microseconds.
        name: Name of the unit, for messages.
    """

    column: str = ""
    constant: int = 0
    factor: int = 1
    name: str = ""

    def of(self, row: Row) -> int:
        """The number for a row, in small units, from 0 to 2^63-1.

        Raises:
            ValueError: There is none, or no whole one.
        """
        if not self.column:
            return self.constant
        text = text_of(row(self.column)).strip()
        if text.isascii() and text.isdecimal() and len(text) < _MAX_NUMBER_CHARS:
            number = int(text) * self.factor
        else:
            number = self._whole(text)
        if not 0 <= number <= MAX_BYTES:
            raise ValueError(f"{self.column} is {text[:64]} {self.name}, which is out of range")
        return number

    def _whole(self, text: str) -> int:
        if not text:
            raise ValueError(_no_value(self.column, text))
        number = _EXACT.multiply(_decimal(text), self.factor)
        if number != number.to_integral_value():
            raise ValueError(f"{self.column} is {text[:64]} {self.name}, which is not whole in the smallest unit")
        return int(number)


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeRule:
    """Where a time comes from.

    Attributes:
        column: Column that holds it.
        pattern: `epoch_s`, `epoch_ms`, `rfc3339`, or a strptime pattern; a time without an offset is UTC.
    """

    column: str
    pattern: str

    def of(self, row: Row) -> int:
        """Epoch microseconds for a row.

        Raises:
            ValueError: There are none.
        """
        text = text_of(row(self.column)).strip()
        try:
            moment_us = self._us(text)
        except (ValueError, OverflowError):
            moment_us = None
        if moment_us is None or not 0 <= moment_us <= MAX_EPOCH_S * SECOND_US:
            raise ValueError(_no_value(self.column, text, f"no time of the form {self.pattern}"))
        return moment_us

    def _us(self, text: str) -> int | None:
        if self.pattern == "rfc3339":
            return rfc3339_us(text)
        if self.pattern in TIME_FORMATS:
            return int(_EXACT.multiply(_decimal(text), SECOND_US if self.pattern == "epoch_s" else 1_000))
        moment = datetime.strptime(text, self.pattern)  # noqa: DTZ007 - an offset counts if there is one, else UTC
        return ((moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - _EPOCH) // _MICROSECOND


def _decimal(text: str) -> Decimal:
    try:
        number = Decimal(text) if len(text) <= _MAX_NUMBER_CHARS else None
    except InvalidOperation:
        number = None
    if number is None or not number.is_finite() or abs(number.adjusted()) > _MAX_EXPONENT:
        raise ValueError(f"{text[:64]!r} is no number")
    return number


def _no_value(column: str, text: str, why: str = "not a value that the mapping knows") -> str:
    return f"{column} is {text[:64]!r}, {why}" if text else f"the row has no {column}"

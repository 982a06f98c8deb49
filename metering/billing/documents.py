"""Documents of money: read strictly, written in one way, and numbered below a prefix of the bucket."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from metering.errors import OperationFailedError
from metering.hours import parse_hour, rfc3339
from metering.units import GIB, HOUR_S, MIB

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from metering.stores.objects import ObjectStore


MOST_BYTES = 16 * MIB
"""Largest document that is read. A book of all regions of AWS has less than 4 MB."""
_TOLD = 40


class DocumentRefusedError(OperationFailedError):
    """A document is refused.

    Attributes:
        problems: Every problem that was found, a sentence each.
    """

    def __init__(self, what: str, problems: Sequence[str], advice: str = "") -> None:
        told = [*problems[:_TOLD], *([f"and {len(problems) - _TOLD} more"] if len(problems) > _TOLD else [])]
        super().__init__(f"{what} is refused: {'; '.join(told)}", advice)
        self.what = what
        self.problems = tuple(problems)

    def __reduce__(self) -> tuple[object, ...]:
        return (DocumentRefusedError, (self.what, self.problems, self.advice))


def canonical(document: Mapping[str, object]) -> bytes:
    """Bytes of a document: the same content gives the same bytes, whoever writes it."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def strict_json(body: bytes, what: str, *, most_bytes: int = MOST_BYTES) -> dict[str, object]:
    """Read an object of JSON.

    Args:
        body: Its bytes.
        what: What it is, for the error: the name of a file or a key.
        most_bytes: More is not read.

    Raises:
        DocumentRefusedError: It is no JSON, names a key twice, holds NaN or Infinity, is too large or no object.
    """
    if len(body) > most_bytes:
        raise DocumentRefusedError(what, [f"it has {len(body):,} bytes, and {most_bytes:,} are read at most"])
    twice: list[str] = []
    try:
        read = json.loads(
            body,
            object_pairs_hook=lambda pairs: _once(pairs, twice),
            parse_constant=_refuse_constant,
            parse_float=Decimal,
        )
    except (ValueError, ArithmeticError) as error:
        raise DocumentRefusedError(what, [f"it is no JSON ({error})"]) from error
    except RecursionError as error:
        raise DocumentRefusedError(what, ["it is nested too deeply"]) from error
    if twice:
        named = [f"the key {key!r} stands twice in one object" for key in dict.fromkeys(twice)]
        raise DocumentRefusedError(what, named)
    if not isinstance(read, dict):
        raise DocumentRefusedError(what, ["it is no object of JSON"])
    return read


def _once(pairs: list[tuple[str, object]], twice: list[str]) -> dict[str, object]:
    made = dict(pairs)
    if len(made) != len(pairs):
        counts = Counter(key for key, _ in pairs)
        twice.extend(key for key, count in counts.items() if count > 1)
    return made


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


# Immutable documents with numbers below a prefix of the data bucket: price books, overrides, who pays for whom.
#
# A document is put once and never replaced. Whoever changes something puts the next number. If two do so at once, both
# are kept: the second one makes its document again, on top of the first one's.


_NUMBER = re.compile(r"([1-9][0-9]{0,8})\.json")


class Numbered(NamedTuple):
    """One version of a document.

    Attributes:
        number: From 1 on.
        body: Its canonical JSON.
        key: Key of its object.
    """

    number: int
    body: bytes
    key: str

    @property
    def sha256(self) -> str:
        """Hex SHA-256 of its bytes; what invoices pin."""
        return hashlib.sha256(self.body).hexdigest()


class NumberedDocuments:
    """Versions `<prefix><number>.json`.

    Args:
        objects: The data bucket of the home region.
        prefix: Ends in a slash.
    """

    def __init__(self, objects: ObjectStore, prefix: str) -> None:
        self._objects = objects
        self._prefix = prefix

    def numbers(self) -> list[int]:
        """Numbers of all versions, in order."""
        return [number for number, _ in self.listed()]

    def listed(self) -> list[tuple[int, int]]:
        """Number of each version and the second at which it was written, in order."""
        listed = ((info.key.removeprefix(self._prefix), info.modified_s) for info in self._objects.list(self._prefix))
        return sorted((int(found[1]), written_s) for name, written_s in listed if (found := _NUMBER.fullmatch(name)))

    def newest(self) -> Numbered | None:
        """The version with the greatest number; None if there is none."""
        numbers = self.numbers()
        return self.get(numbers[-1]) if numbers else None

    def get(self, number: int) -> Numbered:
        """One version.

        Raises:
            ObjectMissingError: There is none of this number.
        """
        key = self._key(number)
        return Numbered(number, self._objects.get(key), key)

    def append(self, make: Callable[[int, Numbered | None], Mapping[str, object] | None]) -> Numbered | None:
        """Put the next version.

        Args:
            make: Gets the next number and the newest version, and gives the document, or None if there is nothing
                to write. It is called again if another process was first.

        Returns:
            The version that was put, or the newest one if nothing was to write (None if there is none).
        """
        while True:
            newest = self.newest()
            number = newest.number + 1 if newest is not None else 1
            document = make(number, newest)
            if document is None:
                return newest
            made = Numbered(number, canonical(document), self._key(number))
            if self._objects.put(made.key, made.body, if_absent=True):
                return made
            # A put that was repeated after a lost reply finds its own object.
            if self._objects.get(made.key) == made.body:
                return made

    def _key(self, number: int) -> str:
        return f"{self._prefix}{number}.json"


_HOUR = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}):00:00Z")
_GB = re.compile(r"([0-9]{1,15})(?:\.([0-9]{1,30}))?")
_PERCENT = re.compile(r"([0-9]{1,3})(?:\.([0-9]{1,3}))?")
_PERCENT_UNITS = 1_000
MOST_PERCENT = 100 * _PERCENT_UNITS


def hour_of_text(text: str) -> int:
    """Full hour of `2026-08-01T00:00:00Z`.

    Raises:
        ValueError: It is none, or it lies before 1970.
    """
    found = _HOUR.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is no full hour in UTC, such as 2026-08-01T00:00:00Z")
    try:
        hour_s = parse_hour(found[1])
    except ValueError as error:
        raise ValueError(f"{text!r} is no full hour in UTC, such as 2026-08-01T00:00:00Z") from error
    if hour_s < 0:
        raise ValueError(f"{text!r} lies before 1970")
    return hour_s


def hour_text(hour_s: int) -> str:
    """Text of a full hour."""
    return rfc3339(hour_s - hour_s % HOUR_S)


def bytes_of_gb(text: str) -> int:
    """Bytes of a decimal number of GB (2^30 bytes).

    Raises:
        ValueError: It is no such number, or no whole number of bytes.
    """
    found = _GB.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is no number of GB: digits, and decimals after a point")
    part = found[2] or ""
    unit: int = 10 ** len(part)
    total, rest = divmod(int(found[1] + part) * GIB, unit)
    if rest:
        raise ValueError(f"{text} GB are no whole number of bytes")
    return total


def gb_text(total_bytes: int) -> str:
    """Bytes in GB, with all digits."""
    whole, rest = divmod(total_bytes, GIB)
    # 1 / 2^30 has 30 decimals.
    part = f"{rest * 5**30:030d}".rstrip("0") if rest else ""
    return f"{whole}.{part}" if part else str(whole)


def percent_of(text: str) -> int:
    """Thousandths of a percent of a text such as `12.5`.

    Raises:
        ValueError: It is no number from 0 to 100 with at most three decimals.
    """
    found = _PERCENT.fullmatch(text)
    units = int(found[1]) * _PERCENT_UNITS + int((found[2] or "").ljust(3, "0")) if found is not None else -1
    if not 0 <= units <= MOST_PERCENT:
        raise ValueError(f"{text!r} is no percentage from 0 to 100 with at most three decimals")
    return units


def percent_text(units: int) -> str:
    """Text of thousandths of a percent, without zeros at its end."""
    whole, part = divmod(units, _PERCENT_UNITS)
    return f"{whole}.{part:03d}".rstrip("0").rstrip(".")

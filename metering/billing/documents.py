"""Financial documents: parsed strictly, written canonically, and numbered under a prefix of the bucket."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from decimal import Decimal
from typing import TYPE_CHECKING, Generic, NamedTuple, NoReturn, Protocol, TypeVar

from metering.errors import ObjectDamagedError, OperationFailedError
from metering.hours import parse_hour, rfc3339
from metering.units import GIB, HOUR_S, MIB

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from metering.stores.objects import ObjectStore


MOST_BYTES = 16 * MIB
"""Largest document that is read. A book of all regions of AWS has less than 4 MB."""
MOST_TOLD = 40
"""Problems that an error names."""


class DocumentRefusedError(OperationFailedError):
    """A document is refused.

    Attributes:
        problems: All problems, one sentence per problem.
    """

    def __init__(self, what: str, problems: Sequence[str], advice: str = "") -> None:
        super().__init__(f"{what} is refused: {first_of(problems)}", advice)
        self.what = what
        self.problems = tuple(problems)

    def __reduce__(self) -> tuple[object, ...]:
        return (DocumentRefusedError, (self.what, self.problems, self.advice))


ACCOUNT_DIGITS = 12


def is_account_id(text: str) -> bool:
    """Whether a string is an account id."""
    return len(text) == ACCOUNT_DIGITS and text.isascii() and text.isdigit()


def problems_in(where: str, problems: Mapping[str, bool]) -> Iterator[str]:
    """The names of `problems` whose value is True, each prefixed with `where`, the position in the document."""
    return (f"{where}: {problem}" for problem, is_wrong in problems.items() if is_wrong)


def first_of(sentences: Sequence[str]) -> str:
    """The first few sentences, and the number of omitted sentences."""
    more = [f"and {len(sentences) - MOST_TOLD} more"] if len(sentences) > MOST_TOLD else []
    return "; ".join([*sentences[:MOST_TOLD], *more])


def some_of(names: Sequence[str], most: int = 5) -> str:
    """The first few names, and the number of omitted names."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def canonical(document: Mapping[str, object]) -> bytes:
    """Canonical bytes of a document; equal documents give equal bytes."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def strict_json(body: bytes, what: str, *, most_bytes: int = MOST_BYTES) -> dict[str, object]:
    """Read a JSON object strictly.

    Args:
        body: Its bytes.
        what: Name of the file or key, for error messages.
        most_bytes: Maximum size of the body.

    Raises:
        DocumentRefusedError: The body is not a JSON object, is too large, repeats a key, or holds NaN or Infinity.
    """
    if len(body) > most_bytes:
        raise DocumentRefusedError(what, [f"it has {len(body):,} bytes, and {most_bytes:,} are read at most"])
    twice: list[str] = []
    try:
        read = json.loads(
            body,
            object_pairs_hook=lambda pairs: object_of(pairs, twice),
            parse_constant=refuse_constant,
            parse_float=Decimal,
        )
    except (ValueError, ArithmeticError) as error:
        raise DocumentRefusedError(what, [f"it is no JSON ({error})"]) from error
    except RecursionError as error:
        raise DocumentRefusedError(what, ["it is nested too deeply"]) from error
    refuse_twice(what, twice)
    if not isinstance(read, dict):
        raise DocumentRefusedError(what, ["it is no object of JSON"])
    return read


def object_of(pairs: list[tuple[str, object]], twice: list[str]) -> dict[str, object]:
    """Make a JSON object; duplicate keys are collected in `twice`."""
    made = dict(pairs)
    if len(made) != len(pairs):
        counts = Counter(key for key, _ in pairs)
        twice.extend(key for key, count in counts.items() if count > 1)
    return made


def refuse_twice(what: str, twice: Sequence[str]) -> None:
    """Raise an error if there are duplicate keys."""
    if twice:
        raise DocumentRefusedError(
            what, [f"the key {key!r} stands twice in one object" for key in dict.fromkeys(twice)]
        )


def refuse_constant(name: str) -> NoReturn:
    """Refuse NaN and Infinity, which `json` accepts."""
    raise ValueError(f"{name} is no number")


class Reading:
    """Parses strings, and collects the problem of every string that is invalid."""

    def __init__(self) -> None:
        self.problems: list[str] = []

    def read(self, reader: Callable[[str], int], text: str, where: str) -> int:
        """Parse a number; if the text is invalid, add a problem at `where` and return 0."""
        try:
            return reader(text)
        except ValueError as error:
            self.problems.append(f"{where}: {error}")
            return 0


# Numbered documents: each change stores a document under the next number. If two changes are concurrent, the second
# change rebuilds its document on that of the first.


class _Versioned(Protocol):
    @property
    def version(self) -> int: ...


_Read = TypeVar("_Read", bound=_Versioned)
_NUMBER = re.compile(r"([1-9][0-9]{0,8})\.json")


class Numbered(NamedTuple):
    """One version of a document in canonical JSON; numbers begin at 1."""

    number: int
    body: bytes
    key: str

    @property
    def sha256(self) -> str:
        """Hex SHA-256 of the bytes, which invoices pin."""
        return hashlib.sha256(self.body).hexdigest()

    def read(self, reader: Callable[[bytes, str], _Read]) -> _Read:
        """Decode the body with `reader`.

        Raises:
            ObjectDamagedError: The document is invalid, or contains another version number.
        """
        try:
            read = reader(self.body, self.key)
        except DocumentRefusedError as error:
            raise ObjectDamagedError(self.key, error.reason) from error
        if read.version != self.number:
            raise ObjectDamagedError(self.key, f"it says that it is version {read.version}")
        return read


class NumberedDocuments:
    """Documents `<prefix><number>.json` in a bucket; each number is put only once. The prefix ends with a slash."""

    def __init__(self, objects: ObjectStore, prefix: str) -> None:
        self._objects = objects
        self._prefix = prefix

    def numbers(self) -> list[int]:
        return [number for number, _ in self.listed()]

    def listed(self) -> list[tuple[int, int]]:
        """Number and time (epoch seconds) of each version, in order."""
        listed = ((info.key.removeprefix(self._prefix), info.modified_s) for info in self._objects.list(self._prefix))
        return sorted((int(found[1]), written_s) for name, written_s in listed if (found := _NUMBER.fullmatch(name)))

    def newest(self) -> Numbered | None:
        numbers = self.numbers()
        return self.get(numbers[-1]) if numbers else None

    def get(self, number: int) -> Numbered:
        """One version.

        Raises:
            ObjectMissingError: There is none.
        """
        key = self._key(number)
        return Numbered(number, self._objects.get(key), key)

    def append(self, make: Callable[[int, Numbered | None], Mapping[str, object] | None]) -> Numbered | None:
        """Put the next version.

        Args:
            make: Returns the document, given the next number and the newest version; None for no change. `make` is
                called again if another process put a version first.

        Returns:
            The version that was put, or else the newest version.
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
            # After a lost reply, the retry finds the object that the first attempt wrote.
            if self._objects.get(made.key) == made.body:
                return made

    def _key(self, number: int) -> str:
        return f"{self._prefix}{number}.json"


class VersionStore(Generic[_Read]):
    """All decoded versions of a document; version 0 is the empty document."""

    def __init__(self, documents: NumberedDocuments, read: Callable[[bytes, str], _Read], empty: _Read) -> None:
        self._documents = documents
        self._read = read
        self._empty = empty

    def versions(self) -> list[int]:
        return self._documents.numbers()

    def listed(self) -> list[tuple[int, int]]:
        return self._documents.listed()

    def newest(self) -> _Read:
        """The newest version; version 0 if no version was ever put."""
        return self._of(self._documents.newest())

    def get(self, version: int) -> _Read:
        """One version.

        Raises:
            ObjectMissingError: There is none.
            ObjectDamagedError: The object is not this version.
        """
        return self._of(self._documents.get(version) if version else None)

    def _put(self, made: _Read, value: Callable[[_Read, int], Mapping[str, object]]) -> _Read:
        """Write a document as the next version, unless it equals the newest; returns the newest version.

        `value` converts a document to JSON that says a given version.

        Raises:
            DocumentRefusedError: It contradicts itself.
        """
        self._read(canonical(value(made, 0)), "the document")

        def document(number: int, newest: Numbered | None) -> Mapping[str, object] | None:
            wanted = value(made, number)
            return None if newest is not None and value(self._of(newest), number) == wanted else wanted

        return self._of(self._documents.append(document))

    def _of(self, found: Numbered | None) -> _Read:
        return self._empty if found is None else found.read(self._read)


_HOUR = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}):00:00Z")
_GB = re.compile(r"([0-9]{1,15})(?:\.([0-9]{1,30}))?")
_PERCENT = re.compile(r"([0-9]{1,3})(?:\.([0-9]{1,3}))?")
_PERCENT_UNITS = 1_000
MOST_PERCENT = 100 * _PERCENT_UNITS


def hour_of_text(text: str) -> int:
    """Full hour of `2026-08-01T00:00:00Z`.

    Raises:
        ValueError: The time is not a full hour, or is before 1970.
    """
    found = _HOUR.fullmatch(text)
    try:
        hour_s = parse_hour(found[1] if found is not None else "")
    except ValueError as error:
        raise ValueError(f"{text!r} is no full hour in UTC, such as 2026-08-01T00:00:00Z") from error
    if hour_s < 0:
        raise ValueError(f"{text!r} lies before 1970")
    return hour_s


def hour_text(hour_s: int) -> str:
    """RFC 3339 text of the hour that contains the given second."""
    return rfc3339(hour_s - hour_s % HOUR_S)


def bytes_of_gb(text: str) -> int:
    """Bytes of a decimal number of GB (2^30 bytes).

    Raises:
        ValueError: The text is not a decimal number, or not a whole number of bytes.
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
    """Bytes as a decimal text in GB, with all digits."""
    whole, rest = divmod(total_bytes, GIB)
    # 1 / 2^30 has 30 decimal places.
    part = f"{rest * 5**30:030d}".rstrip("0") if rest else ""
    return f"{whole}.{part}" if part else str(whole)


def percent_of(text: str) -> int:
    """Parse a text such as `12.5` as thousandths of a percent.

    Raises:
        ValueError: The text is not a number from 0 to 100 with at most three decimals.
    """
    found = _PERCENT.fullmatch(text)
    units = int(found[1]) * _PERCENT_UNITS + int((found[2] or "").ljust(3, "0")) if found is not None else -1
    if not 0 <= units <= MOST_PERCENT:
        raise ValueError(f"{text!r} is no percentage from 0 to 100 with at most three decimals")
    return units


def percent_text(units: int) -> str:
    """Format thousandths of a percent as a percentage, without trailing zeros."""
    whole, part = divmod(units, _PERCENT_UNITS)
    return f"{whole}.{part:03d}".rstrip("0").rstrip(".")

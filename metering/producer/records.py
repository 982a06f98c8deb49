"""Records of a Python program as JSON lines: equal records are equal bytes, so that a key can be compared."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING

import msgspec

from metering.producer.failures import Problems
from metering.units import MIB

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# The service refuses an object with a longer line as a whole (docs/contract.md).
_MAX_LINE_BYTES = MIB - 64
# Characters that a message of SQS cannot hold, in UTF-8, and what JSON writes for them. All others that it cannot hold
# are control characters, which JSON escapes anyway.
_ESCAPED = ((b"\xef\xbf\xbe", b"\\ufffe"), (b"\xef\xbf\xbf", b"\\uffff"))
_PLAIN = frozenset((str, int, bool, type(None)))
_encode = msgspec.json.Encoder(order="sorted").encode


class _RefusedValueError(ValueError):
    """A value that no record can have."""


def record_lines(records: Iterable[Mapping[str, object]]) -> Iterator[bytes]:
    """Each record as one line of JSON with its names sorted, without the line feed.

    Values are texts, whole numbers (those of numpy and Decimal as well) and times with their zone, written as RFC 3339.
    Rules of the contract are not judged here: the service judges them, and keeps what it refuses.

    Raises:
        RecordsRefusedError: Records cannot be written as JSON, or are too long. It comes after all records were looked
            at; until the first problem their lines were given out.
    """
    problems = Problems()
    for position, record in enumerate(records):
        try:
            line = _line(record)
        except (ValueError, TypeError, OverflowError) as error:
            problems.add(position, str(error) if isinstance(error, _RefusedValueError) else f"no JSON ({error})")
            continue
        if not problems.any:
            yield line
    problems.raise_any()


def _line(record: Mapping[str, object]) -> bytes:
    if not isinstance(record, Mapping):
        raise _RefusedValueError(f"a {type(record).__name__} is no record")
    plain = {}
    for name, value in record.items():
        if type(name) is not str:
            raise _RefusedValueError(f"the name {name!r} is no text")
        plain[name] = value if type(value) in _PLAIN else _plain(name, value)
    line = _encode(plain)
    if b"\xef\xbf" in line:
        for character, escape in _ESCAPED:
            line = line.replace(character, escape)
    if len(line) > _MAX_LINE_BYTES:
        raise _RefusedValueError(f"{len(line)} bytes, and a record has {_MAX_LINE_BYTES} at most")
    return line


def _plain(name: str, value: object) -> str | int:
    if isinstance(value, str):
        return str(value)
    if isinstance(value, datetime):
        if value.utcoffset() is None:
            raise _RefusedValueError(f"{name} is a time without a zone")
        return value.isoformat()
    try:
        return operator.index(value)  # type: ignore[arg-type]  # it says itself whether it is a whole number
    except TypeError:
        return _whole(name, value)


def _whole(name: str, value: object) -> int:
    """The whole number that a Decimal or a Fraction is. A float is refused: it may have been rounded already."""
    ratio = None if isinstance(value, float) else getattr(value, "as_integer_ratio", None)
    if ratio is None:
        raise _RefusedValueError(f"{name} is a {type(value).__name__}")
    numerator, denominator = ratio()
    if denominator != 1:
        raise _RefusedValueError(f"{name} is no whole number")
    return int(numerator)

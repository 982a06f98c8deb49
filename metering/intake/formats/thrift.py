"""The compact protocol of Thrift, as far as Parquet's metadata needs it, to check it before Arrow believes it."""

from __future__ import annotations

from metering.intake.reasons import Reason
from metering.intake.work import refusal

_MAX_DEPTH = 12
_MAX_VARINT_BYTES = 10
_LAST_BYTE = 0x80
_LONG_LIST = 15

# Types of fields and elements.
_TRUE, _FALSE, _BYTE, _I16, _I32, _I64, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = range(1, 13)
_INTEGERS = frozenset((_I16, _I32, _I64))

Value = int | bytes | list["Value"] | dict[int, "Value"]
Structure = dict[int, Value]
"""The fields of a structure by their number."""


class CompactReader:
    """Reads structures one after another; `position` is the first byte after the last one.

    Raises:
        IndexError: The data ends inside a structure.
        BatchRefusedError: The data is not a structure.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.position = 0

    def structure(self, depth: int = 0) -> Structure:
        """The next structure."""
        if depth > _MAX_DEPTH:
            raise broken("nested too deeply")
        fields: Structure = {}
        number = 0
        while head := self._byte():
            delta, kind = head >> 4, head & 0x0F
            number = number + delta if delta else self._signed()
            # A field that is true or false has no more bytes.
            fields[number] = int(kind == _TRUE) if kind in (_TRUE, _FALSE) else self._value(kind, depth)
        return fields

    def _value(self, kind: int, depth: int) -> Value:
        if kind in _INTEGERS:
            return self._signed()
        if kind == _BINARY:
            return self._bytes(self._unsigned())
        if kind == _STRUCT:
            return self.structure(depth + 1)
        if kind in (_LIST, _SET):
            return self._list(depth + 1)
        if kind in (_TRUE, _FALSE, _BYTE):
            return self._byte()
        if kind == _DOUBLE:
            return self._bytes(8)
        raise broken("a field of an unknown type")

    def _list(self, depth: int) -> list[Value]:
        head = self._byte()
        count, kind = head >> 4, head & 0x0F
        if count == _LONG_LIST:
            count = self._unsigned()
        if depth > _MAX_DEPTH:
            raise broken("nested too deeply")
        if count > len(self._data) - self.position:
            # Each element has at least one byte.
            raise IndexError
        return [self._value(kind, depth) for _ in range(count)]

    def _bytes(self, size: int) -> bytes:
        self.position += size
        if self.position > len(self._data):
            raise IndexError
        return self._data[self.position - size : self.position]

    def _byte(self) -> int:
        value = self._data[self.position]
        self.position += 1
        return value

    def _unsigned(self) -> int:
        value = 0
        for place in range(_MAX_VARINT_BYTES):
            byte = self._byte()
            value |= (byte & 0x7F) << (7 * place)
            if byte < _LAST_BYTE:
                return value
        raise broken("a number that is too long")

    def _signed(self) -> int:
        value = self._unsigned()
        return (value >> 1) ^ -(value & 1)


def broken(detail: str) -> Exception:
    """Refusal of a file with damaged metadata."""
    return refusal(Reason.PARQUET_UNREADABLE, f"Parquet's metadata: {detail}")


def integer(fields: Structure, number: int) -> int:
    """Value of a required field of numbers."""
    value = fields.get(number)
    if not isinstance(value, int):
        raise broken("a number is missing")
    return value


def structures(value: Value | None) -> list[Structure]:
    """The list of structures that a field has; empty if the field is absent."""
    found = [] if value is None else value
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise broken("a list of structures is missing")
    return [each for each in found if isinstance(each, dict)]

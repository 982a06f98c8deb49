"""Rows of a mapped log: a line of NDJSON or CSV, as something that has a value for each column."""

from __future__ import annotations

import csv
from decimal import Decimal
from typing import TYPE_CHECKING, Protocol, cast

import msgspec

from metering.errors import LogFileRefusedError
from metering.onramps.mapped.rules import nearest
from metering.onramps.reasons import FileReason, LineReason

if TYPE_CHECKING:
    from metering.onramps.mapped.document import Mapping
    from metering.onramps.mapped.values import Row

_BOM = "\ufeff"
_decode_json = msgspec.json.Decoder(float_hook=Decimal).decode


class Unreadable(tuple[str, str]):
    """A line that is no row: the reason, and why for people."""

    __slots__ = ()


class Rows(Protocol):
    """Makes rows of the lines of one file."""

    def row(self, number: int, line: str) -> Row | Unreadable | None:
        """The row of a line; None for a line that names columns.

        Raises:
            LogFileRefusedError: The columns that the mapping needs are not there.
        """
        ...


def rows_of(mapping: Mapping) -> Rows:
    """What makes rows of the lines of one file."""
    return _CsvRows(mapping) if mapping.format == "csv" else _JsonRows()


class _JsonRows:
    def row(self, number: int, line: str) -> Row | Unreadable | None:
        try:
            value = _decode_json(line.removeprefix(_BOM) if number == 1 else line)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            return Unreadable((LineReason.INVALID_VALUE, f"the line is no JSON: {error}"))
        if not isinstance(value, dict):
            return Unreadable((LineReason.INVALID_VALUE, "the line is no JSON object"))
        document = cast("dict[str, object]", value)
        return lambda column: _inner(document, column)


def _inner(document: dict[str, object], column: str) -> object:
    """Value of a column; `client.address` is `address` in `client`, unless there is a key with the dot."""
    if column in document or "." not in column:
        return document.get(column)
    value: object = document
    for name in column.split("."):
        if not isinstance(value, dict):
            return None
        value = cast("dict[str, object]", value).get(name)
    return value


class _CsvRows:
    def __init__(self, mapping: Mapping) -> None:
        self._mapping = mapping
        self._header: list[str] | None = None
        self._places: dict[str, int] = {}
        if mapping.columns:
            self._know(list(mapping.columns))

    def row(self, number: int, line: str) -> Row | Unreadable | None:
        try:
            fields = self._fields(line.removeprefix(_BOM) if number == 1 else line)
        except csv.Error as error:
            return Unreadable((LineReason.FIELD_COUNT, f"the line is no CSV: {error}"))
        if not self._places:
            self._take_header(fields)
            return None
        if fields == self._header:
            return None
        if len(fields) != len(self._places):
            detail = f"{len(fields)} fields, and the file has {len(self._places)} columns"
            return Unreadable((LineReason.FIELD_COUNT, detail))
        places = self._places
        return lambda column: fields[places[column]]

    def _fields(self, line: str) -> list[str]:
        return next(csv.reader([line], delimiter=self._mapping.delimiter, strict=True))

    def _take_header(self, fields: list[str]) -> None:
        missing = sorted(self._mapping.used_columns.difference(fields))
        if missing or len(set(fields)) != len(fields):
            problems = [f"no column {column!r}{nearest(column, fields)}" for column in missing]
            detail = "; ".join(problems) or "a column's name stands there twice"
            raise LogFileRefusedError(FileReason.MISSING_FIELD, f"the header of the file has {detail}")
        self._header = fields
        self._know(fields)

    def _know(self, columns: list[str]) -> None:
        self._places = {column: place for place, column in enumerate(columns)}

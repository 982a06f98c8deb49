"""Rows of a table as JSON, for evidence."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.compute as pc

from metering.hours import rfc3339
from metering.intake.formats.assembly import RAW_CHARS
from metering.intake.instants import MAX_EPOCH_S, MIN_EPOCH_S
from metering.intake.json_values import ascii_json

_WINDOW_ROWS = 256
DIGITS = {"s": 0, "ms": 3, "us": 6, "ns": 9}
"""Decimals of a second in each of Arrow's units."""


class RowTexts:
    """Rows of a table as JSON. Refused rows often lie together, so a window of rows is converted at once."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table
        self._first = 0
        self._columns: dict[str, list[str | int | None]] = {}
        self._texts: dict[str, pa.Array] = {}

    def at(self, position: int) -> str:
        """Text of the row at a position."""
        if not self._columns or not 0 <= position - self._first < _WINDOW_ROWS:
            self._first = position
            window = self._table.slice(position, _WINDOW_ROWS)
            self._columns = {name: self._window(name, window.column(name)) for name in window.column_names}
        values = {name: column[position - self._first] for name, column in self._columns.items()}
        return ascii_json(json.dumps({name: value for name, value in values.items() if value is not None}))

    def _window(self, name: str, column: pa.ChunkedArray) -> list[str | int | None]:
        if pa.types.is_dictionary(column.type):
            if name not in self._texts:
                # Texts are cut to the length of evidence before the dictionary unfolds.
                whole = self._table.column(name).unify_dictionaries().combine_chunks()
                texts = pc.utf8_slice_codeunits(whole.dictionary, 0, RAW_CHARS)
                self._texts[name] = pa.DictionaryArray.from_arrays(whole.indices, texts)
            column = self._texts[name].slice(self._first, _WINDOW_ROWS)
        elif pa.types.is_string(column.type) and (pc.max(pc.binary_length(column)).as_py() or 0) > RAW_CHARS:
            column = pc.utf8_slice_codeunits(column, 0, RAW_CHARS)
        return _plain(column)


def _plain(column: pa.ChunkedArray | pa.Array) -> list[str | int | None]:
    if not pa.types.is_timestamp(column.type):
        values: list[str | int | None] = column.to_pylist()
        return values
    digits = DIGITS[column.type.unit]
    return [None if count is None else _moment(count, digits) for count in column.cast(pa.int64()).to_pylist()]


def _moment(count: int, digits: int) -> str:
    seconds, rest = divmod(count, 10**digits)
    if not MIN_EPOCH_S <= seconds <= MAX_EPOCH_S:
        return f"{count}e-{digits} s"
    fraction = f".{rest:0{digits}d}" if rest else ""
    return rfc3339(seconds).removesuffix("Z") + fraction + "Z"

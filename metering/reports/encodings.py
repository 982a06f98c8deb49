"""Answers as bytes for programs: JSON, NDJSON, CSV and Parquet.

Byte totals are exact in every encoding: decimal strings in JSON, digits in CSV, decimal128(38, 0) in Parquet.
"""

from __future__ import annotations

import csv
import io
import json
from decimal import Decimal
from itertools import islice
from typing import TYPE_CHECKING

from metering.reports.safe_text import cell_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from metering.reports.answer import Answer, Cell, Column, Json


# Rows that are encoded at once.
_ROWS = 10_000


def json_pieces(answer: Answer) -> Iterator[bytes]:
    """One indented document: the answer's own, or its meta fields and `rows`."""
    if answer.document is not None:
        yield (json.dumps(answer.document, indent=2) + "\n").encode()
        return
    frame = json.dumps({**answer.meta, "rows": []}, indent=2)
    yield frame[: frame.rindex("[]")].encode()
    before = "["
    for rows in _parts(answer.rows):
        texts = (json.dumps(_json_row(answer.columns, row), indent=2) for row in rows)
        # No text has a line end of its own in JSON, so every line can be moved in.
        lines = ("\n    " + text.replace("\n", "\n    ") for text in texts)
        yield (before + ",".join(lines)).encode()
        before = ","
    yield b"[]\n}\n" if before == "[" else b"\n  ]\n}\n"


def ndjson_pieces(answer: Answer) -> Iterator[bytes]:
    """One JSON object a row."""
    for rows in _parts(answer.rows_and_others()):
        yield "".join(json.dumps(_json_row(answer.columns, row)) + "\n" for row in rows).encode()


def csv_pieces(answer: Answer) -> Iterator[bytes]:
    """A header line and the rows; text that a spreadsheet would run as a formula is made harmless."""
    yield _csv_lines([[column.name for column in answer.columns]])
    for rows in _parts(answer.rows_and_others()):
        yield _csv_lines([_csv_value(row.get(column.name)) for column in answer.columns] for row in rows)


def _parquet_pieces(answer: Answer) -> Iterator[bytes]:
    # Slow to import, and the only encoding that needs it.
    from metering.reports.parquet_table import parquet_pieces

    return parquet_pieces({column.name: column.kind for column in answer.columns}, answer.rows_and_others())


PIECES: dict[str, Callable[[Answer], Iterator[bytes]]] = {
    "json": json_pieces,
    "ndjson": ndjson_pieces,
    "csv": csv_pieces,
    "parquet": _parquet_pieces,
}
"""Encoder by the name that `--format` and a URL use. It gives the bytes piece by piece, so that any answer fits."""


def encoded_bytes(answer: Answer, encoding: str) -> bytes:
    """A small answer whole."""
    return b"".join(PIECES[encoding](answer))


def _parts(rows: Iterable[Mapping[str, Cell]]) -> Iterator[list[Mapping[str, Cell]]]:
    waiting = iter(rows)
    while part := list(islice(waiting, _ROWS)):
        yield part


def _csv_lines(lines: Iterable[Sequence[str]]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(lines)
    return text.getvalue().encode()


def _json_row(columns: Sequence[Column], row: Mapping[str, Cell]) -> dict[str, Json]:
    return {column.name: _json_value(column, row.get(column.name)) for column in columns}


def _json_value(column: Column, value: Cell) -> Json:
    if value is None:
        return None
    if isinstance(value, Decimal):
        return f"{value:f}"
    return str(value) if column.kind in {"bytes", "whole"} else value


def _csv_value(value: Cell) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Decimal):
        return f"{value:f}"
    return str(value) if isinstance(value, int) else cell_text(value)

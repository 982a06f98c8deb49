"""Answers as bytes for programs: JSON, NDJSON, CSV and Parquet.

Byte totals are exact in every encoding: decimal strings in JSON, digits in CSV, decimal128(38, 0) in Parquet.
"""

from __future__ import annotations

import csv
import io
import json
from decimal import Decimal
from typing import TYPE_CHECKING

from metering.reports.parquet_table import write_parquet
from metering.reports.safe_text import spreadsheet_text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from metering.reports.answer import Answer, Cell, Column, Json


def json_bytes(answer: Answer) -> bytes:
    """One indented document: the answer's own, or its meta fields and `rows`."""
    document = answer.document
    if document is None:
        document = {**answer.meta, "rows": [_json_row(answer.columns, row) for row in answer.rows]}
    return (json.dumps(document, indent=2) + "\n").encode()


def ndjson_bytes(answer: Answer) -> bytes:
    """One JSON object a row."""
    return "".join(json.dumps(_json_row(answer.columns, row)) + "\n" for row in answer.rows).encode()


def csv_bytes(answer: Answer) -> bytes:
    """A header line and the rows; text that a spreadsheet would run as a formula is made harmless."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([column.name for column in answer.columns])
    for row in answer.rows:
        writer.writerow([_csv_value(row.get(column.name)) for column in answer.columns])
    return text.getvalue().encode()


def parquet_bytes(answer: Answer) -> bytes:
    """A Parquet file of the rows."""
    buffer = io.BytesIO()
    write_parquet(buffer, {column.name: column.kind for column in answer.columns}, answer.rows)
    return buffer.getvalue()


ENCODERS: dict[str, Callable[[Answer], bytes]] = {
    "json": json_bytes,
    "ndjson": ndjson_bytes,
    "csv": csv_bytes,
    "parquet": parquet_bytes,
}
"""Encoder by the name that `--format` and a URL use."""


def _json_row(columns: Sequence[Column], row: Mapping[str, Cell]) -> dict[str, Json]:
    return {column.name: _json_value(column, row.get(column.name)) for column in columns}


def _json_value(column: Column, value: Cell) -> Json:
    if value is None:
        return None
    if isinstance(value, Decimal):
        return f"{value:f}"
    return str(value) if column.kind == "bytes" else value


def _csv_value(value: Cell) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Decimal):
        return f"{value:f}"
    return str(value) if isinstance(value, int) else spreadsheet_text(value)

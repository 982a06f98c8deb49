"""DuckDB's results as answers: exact integers, and times in RFC 3339."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from itertools import chain, count
from typing import TYPE_CHECKING

from metering.reports.answer import KEEP, USUAL, Answer, Cell, Column, TextForm
from metering.reports.sql.rows import MappedRows

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from metering.reports.sql.query import QueryResult
    from metering.reports.sql.rows import Row


# Somebody who selects this few columns needs all of them; of more, the numbers and the first of the others.
_MOST_NEEDED_COLUMNS = 6
# DuckDB's types of numbers that JSON might not hold exactly, or that are no counts.
_NUMBERS = frozenset(
    {"UHUGEINT", "UBIGINT", "UINTEGER", "USMALLINT", "UTINYINT", "SMALLINT", "TINYINT", "DOUBLE", "FLOAT"}
)


def result_answer(result: QueryResult) -> Answer:
    """DuckDB's rows, with a different name for each column. Rows are made when they are read."""
    columns = tuple(_column(name, kind) for name, kind in zip(_distinct(result.names), result.types, strict=True))
    if len(columns) <= _MOST_NEEDED_COLUMNS:
        columns = tuple(replace(column, priority=KEEP) for column in columns)

    def shape(row: Row) -> Mapping[str, Cell]:
        return {column.name: _cell(column, value) for column, value in zip(columns, row, strict=True)}

    return Answer(columns=columns, rows=MappedRows(result.rows, shape), empty="The query found no rows.")


def _distinct(names: Sequence[str]) -> Iterator[str]:
    """Names without repetition: the second `bytes` of a join becomes `bytes_2`."""
    taken: set[str] = set()
    for name in names:
        others = (f"{name}_{number}" for number in count(2))
        free = next(candidate for candidate in chain([name], others) if candidate not in taken)
        taken.add(free)
        yield free


def _column(name: str, kind: str) -> Column:
    if kind == "HUGEINT" or (kind == "BIGINT" and "bytes" in name.lower()):
        return Column(name=name, kind="whole", priority=KEEP, sized="bytes" in name.lower())
    if kind in {"BIGINT", "INTEGER"}:
        return Column(name=name, kind="integer", priority=KEEP)
    form = _text_form(kind)
    return Column(name=name, text=form, priority=KEEP if form == "number" else USUAL)


def _text_form(kind: str) -> TextForm:
    """How a value is printed that JSON has as text. Texts of the lake are ids and codes, which people copy."""
    if kind.startswith("TIMESTAMP"):
        return "time"
    return "number" if kind in _NUMBERS or kind.startswith("DECIMAL") else "copied"


def _cell(column: Column, value: object) -> Cell:
    """The value, or its digits as text where JSON might not hold it exactly."""
    if isinstance(value, int) and column.kind != "text":
        return value
    if isinstance(value, datetime) and value.tzinfo is not None:
        return value.isoformat().replace("+00:00", "Z")
    return None if value is None else str(value)

"""The mapping: a small TOML file that says what the columns of a log mean (docs/mapping.toml shows all of it).

It is checked as a whole, and every problem is said at once, in words: a key that does not exist with the nearest one
that does, a rule that lacks its column, a unit or a form of time that nobody knows.
"""

from __future__ import annotations

import hashlib
import tomllib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from metering.errors import SettingsError
from metering.onramps.mapped.rules import (
    TEXT_KEYS,
    Problems,
    nearest,
    number_rule,
    text_rule,
    time_rule,
    unknown_keys,
)
from metering.onramps.mapped.values import BYTE_UNITS, DURATION_UNITS, NumberRule, TextRule, TimeRule

if TYPE_CHECKING:
    from collections.abc import Mapping as MappingOf

FORMATS = ("ndjson", "csv")
TEXT_FIELDS = ("account", "service", "resource", "direction", "from", "to", "usage_type")
"""Fields of the record that are texts, under the names that a mapping gives them."""

_OPTIONAL = ("account", "usage_type")
_KEYS = ("format", "source", "csv", "filter", *TEXT_FIELDS, "bytes", "start", "end", "duration")
_CSV_KEYS = ("delimiter", "columns")
_FILTER_KEYS = ("column", "equals", "differs_from")


@dataclass(frozen=True, slots=True, kw_only=True)
class RowFilter:
    """Rows that are metered: those whose column has one of some values, or has none of them.

    Attributes:
        column: The column.
        values: The values.
        keep: Whether rows with these values are metered, or all the others.
    """

    column: str
    values: frozenset[str]
    keep: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Mapping:
    """What the columns of a log mean.

    Attributes:
        format: `ndjson` or `csv`.
        source: What people call the log: plans and coverage name it.
        delimiter: Between the fields of a CSV file.
        columns: Names of the columns of a CSV file that has no header line; empty if it has one.
        filters: A row is metered if all of them let it pass.
        texts: The texts of the record, by the names of `TEXT_FIELDS`.
        bytes: Its bytes.
        start: Its start.
        end: Its end; None if a duration says it, or if it is the start.
        duration: How long it took, in microseconds; None if the end stands in the row, or is the start.
        version: SHA-256 of the mapping's text, 16 hex digits: another mapping is another rule.
    """

    format: str
    source: str = ""
    delimiter: str = ","
    columns: tuple[str, ...] = ()
    filters: tuple[RowFilter, ...] = ()
    texts: MappingOf[str, TextRule] = field(default_factory=dict)
    bytes: NumberRule
    start: TimeRule
    end: TimeRule | None = None
    duration: NumberRule | None = None
    version: str = ""

    @property
    def used_columns(self) -> frozenset[str]:
        """Columns that a file must have."""
        rules = (*self.texts.values(), self.bytes, self.start, self.end, self.duration, *self.filters)
        return frozenset(rule.column for rule in rules if rule is not None and rule.column)


def parse_mapping(text: str) -> Mapping:
    """Parse and check a mapping.

    Raises:
        SettingsError: It is no TOML, or not a mapping; carries every problem.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError([f"the mapping is no TOML: {error}"]) from error
    problems = Problems()
    unknown_keys("the mapping", document, _KEYS, problems)
    delimiter, columns = _csv(document, problems)
    mapping = Mapping(
        format=_format(document, problems),
        source=_source(document, problems),
        delimiter=delimiter,
        columns=columns,
        filters=_filters(document, problems),
        texts=_texts(document, problems),
        bytes=number_rule("bytes", document.get("bytes"), BYTE_UNITS, problems) or NumberRule(),
        start=time_rule("start", document.get("start"), problems) or TimeRule(column="", pattern=""),
        end=time_rule("end", document["end"], problems) if "end" in document else None,
        duration=_duration(document, problems),
        version=hashlib.sha256(text.encode()).hexdigest()[:16],
    )
    if "end" in document and "duration" in document:
        problems.add("the mapping has both end and duration: give one of them")
    if columns:
        for column in sorted(mapping.used_columns.difference(columns)):
            problems.add(f"csv.columns has no {column!r}{nearest(column, columns)}")
    if problems.found:
        raise SettingsError(problems.found)
    return mapping


def _format(document: MappingOf[str, object], problems: Problems) -> str:
    value = document.get("format")
    if value not in FORMATS:
        problems.add(f"format is one of {', '.join(FORMATS)}, not {value!r}")
    return str(value)


def _source(document: MappingOf[str, object], problems: Problems) -> str:
    value = document.get("source", "")
    if not isinstance(value, str):
        problems.add("source is a text")
        return ""
    return value


def _csv(document: MappingOf[str, object], problems: Problems) -> tuple[str, tuple[str, ...]]:
    table = document.get("csv", {})
    if not isinstance(table, dict):
        problems.add("csv is a table")
        return ",", ()
    if table and document.get("format") != "csv":
        problems.add("csv stands in the mapping, and format is not csv")
    unknown_keys("csv", table, _CSV_KEYS, problems)
    delimiter = table.get("delimiter", ",")
    if not isinstance(delimiter, str) or len(delimiter) != 1 or delimiter in '"\r\n':
        problems.add("csv.delimiter is one character, and neither a quote nor a line end")
        delimiter = ","
    columns = table.get("columns", [])
    if not _are_texts(columns) or len(set(columns)) != len(columns):
        problems.add("csv.columns is a list of names, each of them once")
        columns = []
    return delimiter, tuple(columns)


def _filters(document: MappingOf[str, object], problems: Problems) -> tuple[RowFilter, ...]:
    tables = document.get("filter", [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        problems.add("filter is a list of tables: write [[filter]]")
        return ()
    found = []
    for number, table in enumerate(tables, 1):
        name = f"filter {number}"
        unknown_keys(name, table, _FILTER_KEYS, problems)
        ways = [way for way in ("equals", "differs_from") if way in table]
        if not isinstance(table.get("column"), str) or len(ways) != 1 or not _are_texts(table[ways[0]]):
            problems.add(f"{name} needs a column, and a list of texts as equals or differs_from")
            continue
        found.append(RowFilter(column=table["column"], values=frozenset(table[ways[0]]), keep=ways == ["equals"]))
    return tuple(found)


def _texts(document: MappingOf[str, object], problems: Problems) -> dict[str, TextRule]:
    found = {}
    for name in TEXT_FIELDS:
        if name not in document:
            if name not in _OPTIONAL:
                problems.add(f"{name} is missing: give a column, or a table with one of {', '.join(TEXT_KEYS[:2])}")
            continue
        rule = text_rule(name, document[name], problems, optional=name in _OPTIONAL)
        if rule is not None:
            found[name] = rule
    return found


def _duration(document: MappingOf[str, object], problems: Problems) -> NumberRule | None:
    if "duration" not in document:
        return None
    return number_rule("duration", document["duration"], DURATION_UNITS, problems)


def _are_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in cast("list[object]", value))

"""The mapping: a small TOML file that says what the columns of a log mean (docs/mapping.toml shows all of it).

It is checked as a whole, and every problem is said at once, in words: a key that does not exist with the nearest one
that does, a rule that lacks its column, a unit or a form of time that nobody knows.
"""

from __future__ import annotations

import hashlib
import tomllib
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Context, Decimal, InvalidOperation
from difflib import get_close_matches
from typing import TYPE_CHECKING, cast

from metering.errors import SettingsError
from metering.intake.admission import MAX_EPOCH_S, SECOND_US, rfc3339_us
from metering.onramps.rows import MAX_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from collections.abc import Mapping as AbstractMapping
    from collections.abc import Mapping as MappingOf


# Values of a mapped row: each rule of a mapping makes one value of the contract from a column, or says why it cannot.
#
# Numbers are exact: `1.5` GiB is 1,610,612,736 bytes, and a number that is no whole number of bytes is refused.


if TYPE_CHECKING:
    Row = Callable[[str], object]
    """Value of a column of a row; None if the row has no such column."""

BYTE_UNITS = {
    "bytes": 1,
    "kB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "TiB": 2**40,
}
"""Bytes of each unit: SI prefixes count in thousands, IEC prefixes in 1,024 (IEC 80000-13)."""

DURATION_UNITS = {"us": 1, "ms": 10**3, "s": 10**6, "min": 60 * 10**6}
"""Microseconds of each unit."""

TIME_FORMATS = ("epoch_s", "epoch_ms", "rfc3339")
"""Formats with a name; every other one is a strptime pattern, which contains `%`."""

# Products of any two numbers here are exact: Decimal's usual 28 digits would round some to whole ones.
_EXACT = Context(prec=160)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_MAX_NUMBER_CHARS = 64
_MAX_EXPONENT = 40
"""Numbers beyond are out of any range here, and would take long to write out."""


def text_of(value: object) -> str:
    """A value of a column as text; empty if there is none. Lists and objects have none."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | Decimal):
        return str(value)
    return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TextRule:
    """Where a text of the record comes from.

    Attributes:
        column: Column that holds it; empty for a constant.
        constant: The value for every row.
        values: What each text of the column stands for; empty if the texts stand for themselves.
        otherwise: The value of rows whose text is not in `values`, or where there is no text; None if they are refused.
        digits: Zeros are put before the text until it has so many digits; 0 leaves it as it is.
        optional: Whether a row without a value has an empty one, instead of being refused.
    """

    column: str = ""
    constant: str = ""
    values: AbstractMapping[str, str] = field(default_factory=dict)
    otherwise: str | None = None
    digits: int = 0
    optional: bool = False

    def of(self, row: Row) -> str:
        """The value for a row.

        Raises:
            ValueError: There is none.
        """
        if not self.column:
            return self.constant
        text = text_of(row(self.column))
        if self.digits and text.isdecimal():
            text = text.zfill(self.digits)
        if text and not self.values:
            return text
        if text in self.values:
            return self.values[text]
        if self.otherwise is not None:
            return self.otherwise
        if not text and self.optional:
            return ""
        raise ValueError(_no_value(self.column, text))


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberRule:
    """Where an exact number comes from.

    Attributes:
        column: Column that holds it; empty for a constant.
        constant: The number of every row, in small units.
        factor: Small units of one: bytes, or microseconds.
        name: Name of the unit, for messages.
    """

    column: str = ""
    constant: int = 0
    factor: int = 1
    name: str = ""

    def of(self, row: Row) -> int:
        """The number for a row, in small units, from 0 to 2^63-1.

        Raises:
            ValueError: There is none, or no whole one.
        """
        if not self.column:
            return self.constant
        text = text_of(row(self.column)).strip()
        if text.isascii() and text.isdecimal() and len(text) < _MAX_NUMBER_CHARS:
            number = int(text) * self.factor
        else:
            number = self._whole(text)
        if not 0 <= number <= MAX_BYTES:
            raise ValueError(f"{self.column} is {text[:64]} {self.name}, which is out of range")
        return number

    def _whole(self, text: str) -> int:
        if not text:
            raise ValueError(_no_value(self.column, text))
        number = _EXACT.multiply(_decimal(text), self.factor)
        if number != number.to_integral_value():
            raise ValueError(f"{self.column} is {text[:64]} {self.name}, which is not whole in the smallest unit")
        return int(number)


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeRule:
    """Where a time comes from.

    Attributes:
        column: Column that holds it.
        pattern: `epoch_s`, `epoch_ms`, `rfc3339`, or a strptime pattern; a time without an offset is UTC.
    """

    column: str
    pattern: str

    def of(self, row: Row) -> int:
        """Epoch microseconds for a row.

        Raises:
            ValueError: There are none.
        """
        text = text_of(row(self.column)).strip()
        try:
            moment_us = self._us(text)
        except (ValueError, OverflowError):
            moment_us = None
        if moment_us is None or not 0 <= moment_us <= MAX_EPOCH_S * SECOND_US:
            raise ValueError(_no_value(self.column, text, f"no time of the form {self.pattern}"))
        return moment_us

    def _us(self, text: str) -> int | None:
        if self.pattern == "rfc3339":
            return rfc3339_us(text)
        if self.pattern in TIME_FORMATS:
            return int(_EXACT.multiply(_decimal(text), SECOND_US if self.pattern == "epoch_s" else 1_000))
        moment = datetime.strptime(text, self.pattern)  # noqa: DTZ007 - an offset counts if there is one, else UTC
        return ((moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - _EPOCH) // _MICROSECOND


def _decimal(text: str) -> Decimal:
    try:
        number = Decimal(text) if len(text) <= _MAX_NUMBER_CHARS else None
    except InvalidOperation:
        number = None
    if number is None or not number.is_finite() or abs(number.adjusted()) > _MAX_EXPONENT:
        raise ValueError(f"{text[:64]!r} is no number")
    return number


def _no_value(column: str, text: str, why: str = "not a value that the mapping knows") -> str:
    return f"{column} is {text[:64]!r}, {why}" if text else f"the row has no {column}"


TEXT_KEYS = ("column", "constant", "values", "otherwise", "digits")
_NUMBER_KEYS = ("column", "constant", "unit")
_TIME_KEYS = ("column", "format")
_MAX_DIGITS = 64


class Problems:
    """Problems of a mapping, in the order of their discovery."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def add(self, problem: str) -> None:
        self.found.append(problem)


def nearest(name: str, names: Iterable[str]) -> str:
    """Advice for a name that does not exist: the nearest one that does, or all of them if they are few."""
    known = list(names)
    folded = {each.casefold(): each for each in known}
    close = get_close_matches(name.casefold(), folded, n=1)
    if close:
        return f": did you mean {folded[close[0]]!r}?"
    return f": there are {', '.join(known[:24])}" if known else ""


def unknown_keys(where: str, table: AbstractMapping[str, object], known: Iterable[str], problems: Problems) -> None:
    """Name the keys of a table that mean nothing."""
    known = tuple(known)
    for key in table:
        if key not in known:
            problems.add(f"{where} has no {key!r}{nearest(key, known)}")


def text_rule(name: str, value: object, problems: Problems, *, optional: bool) -> TextRule | None:
    """Rule of a text: the name of a column, or a table."""
    table = _table(name, value, TEXT_KEYS, problems)
    if table is None:
        return None
    column, constant = table.get("column", ""), table.get("constant", "")
    values, otherwise, digits = table.get("values", {}), table.get("otherwise"), table.get("digits", 0)
    before = len(problems.found)
    if not isinstance(column, str) or not isinstance(constant, str) or bool(column) == bool(constant):
        problems.add(f"{name} needs either a column or a constant, as a text")
    if not isinstance(values, dict) or not all(isinstance(each, str) for each in values.values()):
        problems.add(f"{name}.values is a table of texts")
    if otherwise is not None and not isinstance(otherwise, str):
        problems.add(f"{name}.otherwise is a text")
    if not isinstance(digits, int) or not 0 <= digits <= _MAX_DIGITS:
        problems.add(f"{name}.digits is a number from 0 to {_MAX_DIGITS}")
    if constant and len(table) > 1:
        problems.add(f"{name} is a constant, so it can have nothing else")
    if len(problems.found) > before:
        return None
    return TextRule(
        column=cast("str", column),
        constant=cast("str", constant),
        values=cast("dict[str, str]", values),
        otherwise=cast("str | None", otherwise),
        digits=cast("int", digits),
        optional=optional,
    )


def number_rule(name: str, value: object, units: AbstractMapping[str, int], problems: Problems) -> NumberRule | None:
    """Rule of a number with a unit."""
    if value is None:
        problems.add(f"{name} is missing: give a column, or a table with column and unit")
        return None
    table = _table(name, value, _NUMBER_KEYS, problems)
    if table is None:
        return None
    smallest = next(iter(units))
    column, constant, unit = table.get("column", ""), table.get("constant"), table.get("unit", smallest)
    before = len(problems.found)
    if not isinstance(column, str) or bool(column) == (constant is not None):
        problems.add(f"{name} needs either a column or a constant")
    if constant is not None and (not isinstance(constant, int) or isinstance(constant, bool) or constant < 0):
        problems.add(f"{name}.constant is a whole number, not below 0")
    if unit not in units:
        problems.add(f"{name}.unit has no {unit!r}{nearest(str(unit), units)}")
    if len(problems.found) > before:
        return None
    factor = units[cast("str", unit)]
    return NumberRule(
        column=cast("str", column), constant=cast("int", constant or 0) * factor, factor=factor, name=cast("str", unit)
    )


def time_rule(name: str, value: object, problems: Problems) -> TimeRule | None:
    """Rule of a time: a column with its form."""
    if value is None:
        problems.add(f"{name} is missing: give a table with column and format")
        return None
    table = _table(name, value, _TIME_KEYS, problems)
    if table is None:
        return None
    column, pattern = table.get("column"), table.get("format", "rfc3339")
    before = len(problems.found)
    if not isinstance(column, str) or not column:
        problems.add(f"{name} needs a column")
    if not isinstance(pattern, str) or (pattern not in TIME_FORMATS and "%" not in pattern):
        problems.add(f"{name}.format is one of {', '.join(TIME_FORMATS)} or a strptime pattern, not {pattern!r}")
    if len(problems.found) > before:
        return None
    return TimeRule(column=cast("str", column), pattern=cast("str", pattern))


def _table(name: str, value: object, keys: Iterable[str], problems: Problems) -> dict[str, object] | None:
    if isinstance(value, str):
        return {"column": value}
    if not isinstance(value, dict):
        problems.add(f"{name} is the name of a column, or a table")
        return None
    unknown_keys(name, value, keys, problems)
    return {key: each for key, each in value.items() if key in keys}


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

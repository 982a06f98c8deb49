"""The mapping: a small TOML file that defines the columns of a log (docs/mapping.toml shows every option).

All problems are reported at once, in words: an unknown key with the nearest known key, a rule that lacks its column, an
unknown unit or time format. Numbers are exact: `1.5` GiB is 1,610,612,736 bytes, and a fraction of a byte is refused.
This module also has the kind, rows and reader of logs that a mapping describes.
"""

from __future__ import annotations

import csv
import hashlib
import tomllib
from collections.abc import Callable, Iterable, Iterator
from collections.abc import Mapping as MappingOf
from datetime import UTC, datetime, timedelta
from decimal import Context, Decimal, InvalidOperation
from difflib import get_close_matches
from functools import cached_property, partial
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, ClassVar, NamedTuple, Self, TypeVar, cast

import msgspec
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictInt,
    ValidationError,
    WrapValidator,
    model_validator,
)

from metering.errors import LogFileRefusedError, SettingsError
from metering.intake.admission import HOUR_US, MAX_EPOCH_S, SECOND_US, rfc3339_us
from metering.onramps import kinds
from metering.onramps.formats.rows import MAX_BYTES, Moved, Tally, read_lines
from metering.onramps.reading import Block, FileName, ReadSettings
from metering.onramps.reasons import Classified, FileReason, LineReason, Outcome, Refused, Traffic

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

    from metering.onramps.context.store import Timeline

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

# With this precision, products of any two numbers here are exact; Decimal's default (28 digits) would round some.
_EXACT = Context(prec=160)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_MAX_NUMBER_CHARS = 64
_MAX_EXPONENT = 40
"""Numbers beyond are out of any range here, and would take long to write out."""


def text_of(value: object) -> str:
    """Column value as text; empty without a value. Lists and objects have no text."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | Decimal):
        return str(value)
    return ""


def nearest(name: str, names: Iterable[str]) -> str:
    """Advice for an unknown name: the nearest known name, or all known names if there are few."""
    known = list(names)
    folded = {each.casefold(): each for each in known}
    close = get_close_matches(name.casefold(), folded, n=1)
    if close:
        return f": did you mean {folded[close[0]]!r}?"
    return f": there are {', '.join(known[:24])}" if known else ""


def _said(problem: str) -> WrapValidator:
    """Replace the message of a type error; the new text follows the name of the rule."""

    def check(value: object, inner: Callable[[object], object]) -> object:
        try:
            return inner(value)
        except ValueError as error:
            raise ValueError(problem) from error

    return WrapValidator(check)


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _Rule(_Table):
    """Maps a column to a field of the contract; written as a table, or as the name of the column."""

    @model_validator(mode="before")
    @classmethod
    def _by_column(cls, value: object) -> object:
        if isinstance(value, str):
            return {"column": value}
        if not isinstance(value, dict):
            raise ValueError(" is the name of a column, or a table")  # noqa: TRY004 - it must become a problem
        return value


_TEXT_EITHER = " needs either a column or a constant, as a text"
_NUMBER_EITHER = " needs either a column or a constant"
_MAX_DIGITS = 64


class TextRule(_Rule):
    """Source of a text field of the record.

    Attributes:
        column: Column that holds the value; empty for a constant.
        constant: Value for every row.
        values: Value for each text of the column; empty to use the texts themselves.
        otherwise: Value for rows whose text is not in `values`, or is empty; None to refuse such rows.
        digits: Minimum number of digits, padded with leading zeros; 0 for no padding.
        optional: Whether a row without a value gets an empty value instead of being refused.
    """

    column: Annotated[str, _said(_TEXT_EITHER)] = ""
    constant: Annotated[str, _said(_TEXT_EITHER)] = ""
    values: Annotated[dict[str, str], _said(".values is a table of texts")] = {}
    otherwise: Annotated[str | None, _said(".otherwise is a text")] = None
    digits: Annotated[StrictInt, Field(ge=0, le=_MAX_DIGITS), _said(f".digits is a number from 0 to {_MAX_DIGITS}")] = 0
    optional: ClassVar[bool] = False

    @model_validator(mode="after")
    def _check(self) -> Self:
        problems = [_TEXT_EITHER] if bool(self.column) == bool(self.constant) else []
        if self.constant and len(self.model_fields_set) > 1:
            problems.append(" is a constant, so it can have nothing else")
        if problems:
            raise ValueError(*problems)
        return self

    def of(self, row: Row) -> str:
        """The value for a row.

        Raises:
            ValueError: There is none.
        """
        column = self.column
        if not column:
            return self.constant
        text = text_of(row(column))
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


class OptionalTextRule(TextRule):
    """Source of an optional text field."""

    optional = True


def _one_of(units: MappingOf[str, int]) -> BeforeValidator:
    def check(unit: object) -> object:
        if not isinstance(unit, str) or unit not in units:
            raise ValueError(f".unit has no {unit!r}{nearest(str(unit), units)}")
        return unit

    return BeforeValidator(check)


class NumberRule(_Rule):
    """Source of an exact number of bytes.

    Attributes:
        column: Column that holds the value; empty for a constant.
        constant: Number that applies to every row, in units of `unit`.
        unit: Name of the unit.
    """

    column: Annotated[str, _said(_NUMBER_EITHER)] = ""
    constant: Annotated[StrictInt | None, Field(ge=0), _said(".constant is a whole number, not below 0")] = None
    unit: Annotated[str, _one_of(BYTE_UNITS)] = "bytes"
    units: ClassVar[MappingOf[str, int]] = BYTE_UNITS

    @cached_property
    def factor(self) -> int:
        return self.units[self.unit]

    @model_validator(mode="after")
    def _check(self) -> Self:
        if bool(self.column) == (self.constant is not None):
            raise ValueError(_NUMBER_EITHER)
        return self

    def of(self, row: Row) -> int:
        """The number for a row, in the smallest unit, from 0 to 2^63-1.

        Raises:
            ValueError: The row has no number, or not a whole number.
        """
        factor = self.factor
        if not self.column:
            return (self.constant or 0) * factor
        text = text_of(row(self.column)).strip()
        if text.isascii() and text.isdecimal() and len(text) < _MAX_NUMBER_CHARS:
            number = int(text) * factor
        else:
            number = self._whole(text, factor)
        if not 0 <= number <= MAX_BYTES:
            raise ValueError(f"{self.column} is {text[:64]} {self.unit}, which is out of range")
        return number

    def _whole(self, text: str, factor: int) -> int:
        if not text:
            raise ValueError(_no_value(self.column, text))
        number = _EXACT.multiply(_decimal(text), factor)
        if number != number.to_integral_value():
            raise ValueError(f"{self.column} is {text[:64]} {self.unit}, which is not whole in the smallest unit")
        return int(number)


class DurationRule(NumberRule):
    """Source of an exact number of microseconds."""

    unit: Annotated[str, _one_of(DURATION_UNITS)] = "us"
    units = DURATION_UNITS


def _check_form(form: object) -> object:
    if not isinstance(form, str) or (form not in TIME_FORMATS and "%" not in form):
        raise ValueError(f".format is one of {', '.join(TIME_FORMATS)} or a strptime pattern, not {form!r}")
    return form


class TimeRule(_Rule):
    """Source of a time.

    Attributes:
        column: Column that holds it.
        format: `epoch_s`, `epoch_ms`, `rfc3339`, or a strptime pattern; a time without an offset is UTC.
    """

    column: Annotated[str, Field(min_length=1), _said(" needs a column")] = Field("", validate_default=True)
    format: Annotated[str, BeforeValidator(_check_form)] = "rfc3339"

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
            raise ValueError(_no_value(self.column, text, f"no time of the form {self.format}"))
        return moment_us

    def _us(self, text: str) -> int | None:
        if self.format == "rfc3339":
            return rfc3339_us(text)
        if self.format in TIME_FORMATS:
            return int(_EXACT.multiply(_decimal(text), SECOND_US if self.format == "epoch_s" else 1_000))
        moment = datetime.strptime(text, self.format)  # noqa: DTZ007 - an offset counts if there is one, else UTC
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


def _each_once(names: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(names)) != len(names):
        raise ValueError("a name comes twice")
    return names


class Csv(_Table):
    """Form of a CSV file: the delimiter, and the names of its columns in order if the file has no header."""

    delimiter: Annotated[
        str, Field(pattern=r'^[^"\r\n]$'), _said(".delimiter is one character, and neither a quote nor a line end")
    ] = ","
    columns: Annotated[
        tuple[str, ...], AfterValidator(_each_once), _said(".columns is a list of names, each of them once")
    ] = ()


class RowFilter(_Table):
    """Filter of metered rows: the column must have one of the given values, or must differ from all of them."""

    column: str
    equals: frozenset[str] | None = None
    differs_from: frozenset[str] | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.equals is None) == (self.differs_from is None):
            raise ValueError("neither or both")
        return self

    def passes(self, row: Row) -> bool:
        text = text_of(row(self.column))
        return text not in (self.differs_from or ()) if self.equals is None else text in self.equals


FORMATS = ("ndjson", "csv")


def _check_format(value: object) -> object:
    if value not in FORMATS:
        raise ValueError(f" is one of {', '.join(FORMATS)}, not {value!r}")
    return value


def _check_tables(value: object) -> object:
    if not isinstance(value, list) or not all(isinstance(table, dict) for table in value):
        raise ValueError(" is a list of tables: write [[filter]]")
    return value


class Mapping(_Table):
    """Meaning of the columns of a log.

    Attributes:
        source: Source of logs that writes such files; empty if unknown.
        csv: Form of a CSV file.
        filters: A row is metered if it passes all filters.
        end: End of the transfer; None if `duration` is given, or if the end equals the start.
        duration: Duration of the transfer; None if `end` is given, or if the transfer ended at once.
    """

    format: Annotated[str, BeforeValidator(_check_format)] = Field(None, validate_default=True)
    source: Annotated[str, _said(" is a text")] = ""
    csv: Csv = Csv()
    filters: Annotated[tuple[RowFilter, ...], BeforeValidator(_check_tables)] = Field((), alias="filter")
    account: OptionalTextRule | None = None
    service: TextRule
    resource: TextRule
    direction: TextRule
    from_: TextRule = Field(alias="from")
    to: TextRule
    usage_type: OptionalTextRule | None = None
    bytes: NumberRule
    start: TimeRule
    end: TimeRule | None = None
    duration: DurationRule | None = None

    @property
    def texts(self) -> tuple[TextRule | None, ...]:
        """Rules for the text fields of a record, in the order of `metering.onramps.reasons.Traffic`."""
        places = (self.direction, self.from_, self.to)
        return (self.account, self.service, self.resource, *places, self.usage_type)

    @property
    def used_columns(self) -> frozenset[str]:
        rules = (*self.texts, self.bytes, self.start, self.end, self.duration, *self.filters)
        return frozenset(rule.column for rule in rules if rule is not None and rule.column)


_TABLES: MappingOf[str, type[_Table]] = {
    "csv": Csv,
    "filter": RowFilter,
    "bytes": NumberRule,
    "start": TimeRule,
    "end": TimeRule,
    "duration": DurationRule,
}
_GIVE = {"bytes": "a column, or a table with column and unit", "start": "a table with column and format"}


def parse_mapping(text: str) -> Mapping:
    """Parse and check a mapping.

    Raises:
        SettingsError: The text is not TOML, or not a mapping; the error lists every problem.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError([f"the mapping is no TOML: {error}"]) from error
    mapping, problems = None, []
    if isinstance(document.get("csv"), dict) and document["csv"] and document.get("format") != "csv":
        problems.append("csv stands in the mapping, and format is not csv")
    try:
        mapping = Mapping.model_validate(document)
    except ValidationError as error:
        problems += _problems(error)
    if "end" in document and "duration" in document:
        problems.append("the mapping has both end and duration: give one of them")
    if mapping is not None and mapping.csv.columns:
        for column in sorted(mapping.used_columns.difference(mapping.csv.columns)):
            problems.append(f"csv.columns has no {column!r}{nearest(column, mapping.csv.columns)}")
    if mapping is None or problems:
        raise SettingsError(problems)
    return mapping


def _problems(error: ValidationError) -> Iterator[str]:
    """Yield problems in the order of the keys, unknown keys first."""
    names = _keys(Mapping)

    def order(details: ErrorDetails) -> tuple[int, bool]:
        name = details["loc"][0]
        return names.index(str(name)) if name in names else -1, details["type"] != "extra_forbidden"

    for details in sorted(error.errors(), key=order):
        yield from _sentences(details)


def _sentences(details: ErrorDetails) -> Iterator[str]:
    name, *below = details["loc"]
    if details["type"] == "extra_forbidden":
        table = _TABLES.get(str(name), TextRule) if below else Mapping
        key = str(details["loc"][-1])
        yield f"{_named(name, below) if below else 'the mapping'} has no {key!r}{nearest(key, _keys(table))}"
    elif name == "filter" and below:
        yield f"{_named(name, below)} needs a column, and a list of texts as equals or differs_from"
    elif details["type"] == "missing":
        yield f"{name} is missing: give {_GIVE.get(str(name), 'a column, or a table with one of column, constant')}"
    elif details["type"] == "model_type":
        yield f"{name} is a table"
    else:
        yield from (f"{name}{problem}" for problem in details["ctx"]["error"].args)


def _named(name: object, below: list[Any]) -> str:
    return f"filter {below[0] + 1}" if name == "filter" else str(name)


def _keys(table: type[_Table]) -> list[str]:
    return [field.alias or name for name, field in table.model_fields.items()]


T = TypeVar("T")
_BOM = "\ufeff"
_decode_json = msgspec.json.Decoder(float_hook=Decimal).decode


class _Problem(NamedTuple):
    """Reason why a line is not a row, or a row cannot be metered."""

    reason: LineReason
    detail: str


class _JsonRows:
    def row(self, number: int, line: str) -> Row | _Problem | None:
        try:
            value = _decode_json(line.removeprefix(_BOM) if number == 1 else line)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            return _Problem(LineReason.INVALID_VALUE, f"the line is no JSON: {error}")
        if not isinstance(value, dict):
            return _Problem(LineReason.INVALID_VALUE, "the line is no JSON object")
        document = cast("dict[str, object]", value)
        return lambda column: _inner(document, column)


def _inner(document: dict[str, object], column: str) -> object:
    """Value of a column; `client.address` is `address` in `client`, unless a key itself contains the dot."""
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
        if mapping.csv.columns:
            self._know(list(mapping.csv.columns))

    def row(self, number: int, line: str) -> Row | _Problem | None:
        try:
            fields = self._fields(line.removeprefix(_BOM) if number == 1 else line)
        except csv.Error as error:
            return _Problem(LineReason.FIELD_COUNT, f"the line is no CSV: {error}")
        if not self._places:
            self._take_header(fields)
            return None
        if fields == self._header:
            return None
        if len(fields) != len(self._places):
            detail = f"{len(fields)} fields, and the file has {len(self._places)} columns"
            return _Problem(LineReason.FIELD_COUNT, detail)
        places = self._places
        return lambda column: fields[places[column]]

    def _fields(self, line: str) -> list[str]:
        return next(csv.reader([line], delimiter=self._mapping.csv.delimiter, strict=True))

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


def read_mapped_log(
    mapping: Mapping, stream: BinaryIO, name: FileName, settings: ReadSettings, *, digest: Callable[[bytes], object]
) -> Iterator[Block[Traffic]]:
    """Read a file (`LogReader` with the mapping bound)."""
    return read_lines(stream, settings, digest, _Lines(mapping, name))


class _Lines:
    """`LineJudge` of one file."""

    def __init__(self, mapping: Mapping, name: FileName) -> None:
        self._mapping = mapping
        self._texts = [None if rule is None else rule.of for rule in mapping.texts]
        self._filters = mapping.filters
        self._account_id = name.account_id
        self._rows = _CsvRows(mapping) if mapping.format == "csv" else _JsonRows()

    def judge(self, number: int, line: str, tally: Tally[Traffic]) -> None:
        row = self._rows.row(number, line)
        if row is None:
            tally.header()
            return
        if isinstance(row, _Problem):
            tally.refuse(number, row.reason, row.detail, line)
            return
        size_bytes = _tried(LineReason.INVALID_NUMBER, self._mapping.bytes.of, row)
        stated_bytes = size_bytes if isinstance(size_bytes, int) else 0
        if self._filters and not all(each.passes(row) for each in self._filters):
            tally.rejected(stated_bytes)
            return
        times = _tried(LineReason.INVALID_TIME, self._times, row)
        traffic = _tried(LineReason.INVALID_VALUE, self._traffic, row)
        if isinstance(size_bytes, _Problem) or isinstance(times, _Problem) or isinstance(traffic, _Problem):
            problem = next(each for each in (size_bytes, times, traffic) if isinstance(each, _Problem))
            tally.refuse(number, problem.reason, problem.detail, line, stated_bytes)
            return
        tally.metered([Moved(traffic, size_bytes)], *times)

    def _traffic(self, row: Row) -> Traffic:
        values = ["" if text_of is None else text_of(row) for text_of in self._texts]
        return Traffic(values[0] or self._account_id, *values[1:])

    def _times(self, row: Row) -> tuple[int, int] | _Problem:
        """Start and end in whole seconds, rounded down."""
        end_us = start_us = self._mapping.start.of(row)
        if self._mapping.end is not None:
            end_us = self._mapping.end.of(row)
        elif self._mapping.duration is not None:
            end_us = start_us + self._mapping.duration.of(row)
        if end_us < start_us:
            return _Problem(LineReason.INVALID_TIME, "it ends before it starts")
        if end_us - start_us > HOUR_US:
            detail = f"it takes {(end_us - start_us) // SECOND_US} s: a record spans an hour at most"
            return _Problem(LineReason.SPANS_OVER_AN_HOUR, detail)
        return start_us // SECOND_US, end_us // SECOND_US


def _tried(reason: LineReason, of: Callable[[Row], T], row: Row) -> T | _Problem:
    try:
        return of(row)
    except ValueError as error:
        return _Problem(reason, str(error))


KIND = "mapped"
RULE = "mapping"
_UNKNOWN = "unknown"


def mapped_kind(text: str) -> kinds.LogKind:
    """Log kind of a mapping, which is given as TOML.

    Raises:
        SettingsError: The text is not a mapping; the error lists every problem.
    """
    mapping = parse_mapping(text)
    return kinds.LogKind(
        name=KIND,
        recognise=lambda _key: FileName(kind=KIND, identity="", source=mapping.source),
        read=partial(read_mapped_log, mapping),
        classifier=_Classifier,
        rules=f"{KIND}/{hashlib.sha256(text.encode()).hexdigest()[:16]}",
        needs_context=False,
    )


class _Classifier:
    """`Classifier` that only checks whether the mapping gave the owner of the traffic."""

    def __init__(self, _name: FileName, _timeline: Timeline) -> None:
        pass

    def outcome(self, subject: Traffic, hour_s: int) -> Outcome:
        del hour_s
        if not subject.account_id:
            detail = (
                "the row has no account: name its column in the mapping (account), or give the account: --accounts ID"
            )
            return Refused(LineReason.INVALID_ACCOUNT, detail)
        stated_unknown = _UNKNOWN in (subject.from_location, subject.to_location)
        return Classified(subject, RULE, "peer_not_stated" if stated_unknown else "")

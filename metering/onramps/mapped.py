"""Logs that a mapping describes: their kind, their rows, and their reader."""

from __future__ import annotations

import csv
import hashlib
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, TypeVar, cast

import msgspec

from metering.errors import LogFileRefusedError
from metering.intake.admission import HOUR_US, SECOND_US
from metering.onramps.kinds import LogKind
from metering.onramps.mapping import Mapping, nearest, parse_mapping
from metering.onramps.reading import Block, FileName, ReadSettings
from metering.onramps.reasons import Classified, FileReason, LineReason, Outcome, Refused, Traffic
from metering.onramps.rows import Moved, Tally, read_lines

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from metering.onramps.context.store import Timeline
    from metering.onramps.mapping import Row


T = TypeVar("T")
_BOM = "\ufeff"
_decode_json = msgspec.json.Decoder(float_hook=Decimal).decode


class _Problem(NamedTuple):
    """Why a line is no row, or a row cannot be metered."""

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
    """Read a file (`LogReader`, once its mapping is given)."""
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
        """Start and end in whole seconds, fractions cut off."""
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


def mapped_kind(text: str) -> LogKind:
    """The kind of log of a mapping, TOML.

    Raises:
        SettingsError: It is no mapping; carries every problem.
    """
    mapping = parse_mapping(text)
    return LogKind(
        name=KIND,
        recognise=lambda _key: FileName(kind=KIND, identity="", source=mapping.source),
        read=partial(read_mapped_log, mapping),
        classifier=_Classifier,
        rules=f"{KIND}/{hashlib.sha256(text.encode()).hexdigest()[:16]}",
        needs_context=False,
    )


class _Classifier:
    """`Classifier`: all that is left is whether the mapping said whose traffic it is."""

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

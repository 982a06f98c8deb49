"""The structure of an answer (typed columns, rows, further fields), and an answer's encoding for programs."""

import csv
import io
import json
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from enum import Enum
from itertools import chain, islice
from operator import attrgetter
from typing import Generic, Literal, TypedDict, TypeVar, Unpack, cast, overload

from metering.hours import rfc3339

Cell = str | int | bool | Decimal | None
Json = str | int | bool | None | Sequence["Json"] | Mapping[str, "Json"]
Kind = Literal["text", "bytes", "whole", "integer", "money", "flag", "time"]
TextForm = Literal["short", "copied", "prose", "number", "time"]

KEEP = 1
"""Priority of a column that no table leaves out."""
USUAL = 2
"""Priority of a column that goes only where the window is very narrow."""
ROOMY = 3
"""Priority of a column for windows with room for it. Greater numbers go earlier."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column of an answer.

    Attributes:
        kind: `text`; `bytes` for an exact byte total (a decimal string in JSON); `whole` for any other whole number of
            any size (likewise); `integer` for counts that JSON can hold; `money` for Decimals; `flag`; `time` for RFC
            3339 text.
        title: Heading in tables; the name if empty.
        text: Form of a text. `copied` is text that people copy (ids, keys, names of files, commands): never cut; an
            integer is not grouped. `prose` is wrapped between words. `short` is shortened in the middle in a narrow
            window. `number` and `time` are texts that contain a number or time from SQL.
        priority: Order in which a narrow table drops columns: the greatest number first; of equal numbers, the
            rightmost column first. `KEEP` never goes.
        sized: Print a size such as `19.4 PB` beside the exact number of bytes. By default, only for the kind `bytes`.
        about: Explanation, shown if a row is printed vertically.
        cents: Print an amount of money in cents, unless the table is wide. Of a text, only a number with decimals.
    """

    name: str
    kind: Kind = "text"
    title: str = ""
    text: TextForm = "short"
    priority: int = USUAL
    sized: bool | None = None
    about: str = ""
    cents: bool = False

    @property
    def heading(self) -> str:
        return self.title or self.name

    @property
    def shows_size(self) -> bool:
        return self.kind == "bytes" if self.sized is None else self.sized


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The result of a read command or request.

    A single row is printed vertically if it has more than four columns, or if the answer has its own `document` (an
    object, not a list of one).

    Attributes:
        document: The JSON form. None: `{**meta, "rows": rows}`.
        meta: Fields of the JSON document other than its rows.
        footer: Lines of plain text below the table, wrapped between words. A command in backticks, or after a colon at
            the end of a line, stays whole.
        others: One further row, the sum of the omitted rows; in JSON, this row is part of `meta`.
        empty: Text shown instead of a table without rows.
        commands: Commands to run next, each unbroken on its own line.
    """

    columns: tuple[Column, ...]
    rows: Sequence[Mapping[str, Cell]]
    document: Mapping[str, Json] | None = None
    meta: Mapping[str, Json] = field(default_factory=dict)
    title: str = ""
    footer: tuple[str, ...] = ()
    others: Mapping[str, Cell] | None = None
    empty: str = "Nothing to show."
    commands: tuple[str, ...] = ()

    def rows_and_others(self) -> Iterator[Mapping[str, Cell]]:
        """The rows, followed by the sum of omitted rows if rows were omitted."""
        yield from self.rows
        if self.others is not None:
            yield self.others


S = TypeVar("S")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Field(Generic[T]):
    """A column of an answer about objects of one type, and a function that reads the column's value from an object."""

    column: Column
    read: Callable[[T], object]


def _cell(kind: Kind, value: object) -> Cell:
    """Convert a value for a row: seconds become RFC 3339 text, an enum its value, a list comma-separated text."""
    if type(value) is int:
        return rfc3339(value) if kind == "time" else value
    if isinstance(value, list | tuple):
        return ", ".join(value)
    return cast("Cell", value.value if isinstance(value, Enum) else value)


class MappedRows(Sequence[T], Generic[S, T]):
    """Rows that are converted lazily when read, because a page shows only a few of many rows."""

    def __init__(self, rows: Sequence[S], shape: Callable[[S], T]) -> None:
        self._rows = rows
        self._shape = shape

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[T]:
        return map(self._shape, self._rows)

    @overload
    def __getitem__(self, place: int) -> T: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[T]: ...
    def __getitem__(self, place: int | slice) -> T | Sequence[T]:
        if isinstance(place, slice):
            return MappedRows(self._rows[place], self._shape)
        return self._shape(self._rows[place])


Fields = Sequence[Field[T]]


@dataclass(frozen=True, slots=True)
class Form:
    """A form of columns. A call returns fields that read the attributes with these names, or the result of `of`."""

    kind: Kind = "text"
    text: TextForm = "short"
    sized: bool | None = None
    cents: bool = False

    def __call__(
        self,
        *names: str,
        of: Callable[[T], object] | None = None,
        priority: int = USUAL,
        title: str = "",
        about: str = "",
    ) -> tuple[Field[T], ...]:
        form = Column(name="", kind=self.kind, text=self.text, sized=self.sized, cents=self.cents)
        form = replace(form, priority=priority, title=title, about=about)
        return tuple(Field(replace(form, name=name), of or attrgetter(name)) for name in names)


short, copied, prose, number = Form(), Form(text="copied"), Form(text="prose"), Form(text="number")
integer, ordinal, flag = Form(kind="integer"), Form(kind="integer", text="copied"), Form(kind="flag")
sized, exact, money, timed = Form(kind="bytes"), Form(kind="bytes", sized=False), Form(kind="money"), Form(kind="time")
cents, amount = Form(kind="money", cents=True), Form(text="number", cents=True)


class Beside(TypedDict, total=False):
    """Attributes of an answer other than its columns and rows."""

    document: Mapping[str, Json] | None
    meta: Mapping[str, Json]
    title: str
    footer: tuple[str, ...]
    others: Mapping[str, Cell] | None
    empty: str
    commands: tuple[str, ...]


class RowType(Generic[T]):
    """Columns with their values; this one list defines the table, JSON, CSV and Parquet forms."""

    def __init__(self, *groups: Fields[T]) -> None:
        self.fields = tuple(chain.from_iterable(groups))
        self._reads = [(each.column.name, each.column.kind, each.read) for each in self.fields]

    @property
    def columns(self) -> tuple[Column, ...]:
        return tuple(each.column for each in self.fields)

    def row(self, thing: T) -> dict[str, Cell]:
        """Values of one object by column name."""
        return {name: _cell(kind, read(thing)) for name, kind, read in self._reads}

    def document(self, thing: T) -> dict[str, Json]:
        """Values of one object as a JSON object."""
        return json_row(self.columns, self.row(thing))

    def answer(self, things: Iterable[T], **beside: Unpack[Beside]) -> Answer:
        """An answer with one row per object."""
        return Answer(columns=self.columns, rows=[self.row(thing) for thing in things], **beside)

    def one(self, thing: T, **beside: Unpack[Beside]) -> Answer:
        """An answer about one object; unless `document` is given, the JSON document is the object's row."""
        made = self.answer([thing], **beside)
        return made if made.document else replace(made, document=self.document(thing))


class ListedRows(RowType[Sequence[object]]):
    """A table whose rows are values in the order of its columns."""

    def row(self, thing: Sequence[object]) -> dict[str, Cell]:
        return {name: _cell(kind, value) for (name, kind, _), value in zip(self._reads, thing, strict=True)}


REGION = "region"
_REGION_COLUMN = Column(name=REGION, text="copied", priority=KEEP)
_ROWS = "rows"


def regions_answer(parts: Mapping[str, Answer], *, newest: str = "", most: int | None = None) -> Answer:
    """Concatenate the answers of regions; the first column is `region`.

    In JSON, a region's fields other than its rows are in `regions`, under the region's name. Rows are sorted by region,
    or by the time column `newest`, newest first; at most `most` remain.
    """
    columns = {column.name: column for part in parts.values() for column in part.columns if column.name != REGION}
    rows = _cut([_of(region, row) for region, part in parts.items() for row in part.rows], newest, most)
    titles = {part.title for part in parts.values()}
    documents = {region: part.document for region, part in parts.items() if part.document is not None}
    beside = {region: _beside(part) for region, part in parts.items()}
    return Answer(
        columns=(_REGION_COLUMN, *columns.values()),
        rows=rows,
        document={"regions": beside, **_document_rows(documents, newest, most)} if documents else None,
        meta={} if documents else {"regions": beside},
        title=titles.pop() if len(titles) == 1 else "",
        footer=tuple(_lines({region: part.footer for region, part in parts.items()})),
        empty=next((part.empty for part in parts.values()), ""),
        commands=tuple(dict.fromkeys(line for part in parts.values() for line in part.commands)),
    )


def _of(region: str, row: Mapping[str, Cell]) -> dict[str, Cell]:
    return {REGION: region, **{name: value for name, value in row.items() if name != REGION}}


def _beside(part: Answer) -> dict[str, Json]:
    whole = part.meta if part.document is None else part.document
    # Only a list counts as rows, because `rows` of an hour is a sum.
    return {name: value for name, value in whole.items() if name != _ROWS or not isinstance(value, list)}


def _document_rows(documents: Mapping[str, Mapping[str, Json]], newest: str, most: int | None) -> dict[str, Json]:
    """The rows of answers that have their own JSON document; empty if these documents have no rows."""
    listed = {region: part[_ROWS] for region, part in documents.items() if isinstance(part.get(_ROWS), list)}
    if not listed:
        return {}
    rows = [_of(region, row) for region, part in listed.items() for row in cast("Sequence[Mapping[str, Cell]]", part)]
    return {_ROWS: cast("Json", _cut(rows, newest, most))}


def _cut(rows: list[dict[str, Cell]], newest: str, most: int | None) -> list[dict[str, Cell]]:
    if newest:
        rows.sort(key=lambda row: str(row[newest]), reverse=True)
    return rows if most is None else rows[:most]


def _lines(footers: Mapping[str, Sequence[str]]) -> list[str]:
    """Lines below the table: a line that all regions share is printed once, any other line with its region's name."""
    common = [line for line in next(iter(footers.values()), ()) if all(line in lines for lines in footers.values())]
    own = [f"{region}: {line}" for region, lines in footers.items() for line in lines if line not in common]
    return [*own, *common]


# Untrusted text, made harmless for terminals and spreadsheets.
#
# Account ids, resource ids and refused records come from others: they can contain escape sequences that control a
# terminal, direction marks that reorder a line, and leading characters that a spreadsheet runs as a formula.


# Unicode categories that can move the cursor, hide text or reorder it: controls, formats, surrogates, private use,
# unassigned, line and paragraph separators.
_UNSAFE_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})

# Characters that Excel, LibreOffice and Google Sheets treat as the start of a formula (OWASP, CSV injection), with
# their full-width forms.
_FORMULA_START = re.compile("^\\s*[=+\\-@|%\uff1d\uff0b\uff0d\uff20]")

# Matches everything up to the last `@` before the URL's path.
_USER_OF_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://)[^\s/]*@")


def printable(text: str) -> str:
    r"""Escape every character of `text` that is neither visible nor a plain space (`\x1b`, `\u202e`)."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_shown(character) for character in text)


def spreadsheet_text(text: str) -> str:
    """Escape `text` as `printable` does, and prefix an apostrophe if the text looks like a formula."""
    shown = printable(text)
    return f"'{shown}" if _FORMULA_START.match(shown) else shown


def cell_text(text: str) -> str:
    """A cell of a CSV answer: `spreadsheet_text`; a text that begins with an apostrophe gets a second apostrophe.

    A reader who strips one leading apostrophe gets the original text (docs/contract.md).
    """
    shown = spreadsheet_text(text)
    return f"'{shown}" if text.startswith("'") else shown


def without_password(text: str) -> str:
    """A text with user and password removed from all URLs."""
    return _USER_OF_URL.sub(r"\1***@", text)


def _shown(character: str) -> str:
    if unicodedata.category(character) not in _UNSAFE_CATEGORIES:
        return character
    code = ord(character)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


# Answers as bytes for programs: JSON, NDJSON, CSV and Parquet.
#
# Byte totals are exact in every encoding: decimal strings in JSON, digits in CSV, decimal128(38, 0) in Parquet.


# Rows are encoded in portions of this size.
_ENCODINGS_ROWS = 10_000


def json_pieces(answer: Answer) -> Iterator[bytes]:
    """One indented document: the answer's `document`, or else its `meta` fields and `rows`."""
    if answer.document is not None:
        yield (json.dumps(answer.document, indent=2) + "\n").encode()
        return
    frame = json.dumps({**answer.meta, "rows": []}, indent=2)
    yield frame[: frame.rindex("[]")].encode()
    before = "["
    for rows in _parts(answer.rows):
        texts = (json.dumps(json_row(answer.columns, row), indent=2) for row in rows)
        # JSON strings contain no raw line ends, so indenting every line is safe.
        lines = ("\n    " + text.replace("\n", "\n    ") for text in texts)
        yield (before + ",".join(lines)).encode()
        before = ","
    yield b"[]\n}\n" if before == "[" else b"\n  ]\n}\n"


def ndjson_pieces(answer: Answer) -> Iterator[bytes]:
    """One JSON object per row."""
    for rows in _parts(answer.rows_and_others()):
        yield "".join(json.dumps(json_row(answer.columns, row)) + "\n" for row in rows).encode()


def csv_pieces(answer: Answer) -> Iterator[bytes]:
    """A header line and the rows; text that a spreadsheet would run as a formula is escaped."""
    yield _csv_lines([[column.name for column in answer.columns]])
    for rows in _parts(answer.rows_and_others()):
        yield _csv_lines([_csv_value(row.get(column.name)) for column in answer.columns] for row in rows)


def _parquet_pieces(answer: Answer) -> Iterator[bytes]:
    # This import is slow, and only Parquet needs it.
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
    while part := list(islice(waiting, _ENCODINGS_ROWS)):
        yield part


def _csv_lines(lines: Iterable[Sequence[str]]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(lines)
    return text.getvalue().encode()


def json_row(columns: Sequence[Column], row: Mapping[str, Cell]) -> dict[str, Json]:
    """A row as a JSON object. Totals are strings, because the range of JSON numbers is limited."""
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

"""One writer for all read commands: table, json, ndjson, csv or parquet; to stdout or to a file.

Data goes to stdout, everything else to stderr. Byte totals are exact in every format: decimal strings in JSON, digits
in CSV and tables, decimal128(38,0) in Parquet.
"""

import csv
import errno
import io
import json
import os
import stat
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO, Literal

from rich.console import Console, RenderableType
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from metering.cli.failures import CommandFailedError, WrongUsageError
from metering.cli.safety import printable, spreadsheet_text
from metering.reports.parquet_table import write_parquet
from metering.units import billed_gb

_WRONG_PLACES = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EACCES, errno.EPERM, errno.EROFS})
_WIDEST = 1_000
_WIDEST_TEXT = 60
# A narrow terminal wraps text, but not to less than this.
_READABLE_TEXT = 24

Cell = str | int | bool | Decimal | None
Json = str | int | bool | None | Sequence["Json"] | Mapping[str, "Json"]


class Format(StrEnum):
    """How a read command prints its answer."""

    TABLE = "table"
    JSON = "json"
    NDJSON = "ndjson"
    CSV = "csv"
    PARQUET = "parquet"


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column of an answer.

    Attributes:
        kind: `text`; `bytes` for an exact byte total (a decimal string in JSON); `integer` for counts that JSON can
            hold; `money` for Decimals; `flag`; `time` for RFC 3339 text.
        title: Heading in tables; the name if empty.
    """

    name: str
    kind: Literal["text", "bytes", "integer", "money", "flag", "time"] = "text"
    title: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a read command found.

    Attributes:
        columns: In the order of tables and CSV files.
        rows: Values by column name.
        document: The JSON form. None: `{**meta, "rows": rows}`.
        meta: What JSON says beside the rows.
        title: Heading of the table.
        footer: What a table says below its rows, line by line: plain text.
        chart: Drawn below the table, on terminals and in files of format table.
    """

    columns: tuple[Column, ...]
    rows: Sequence[Mapping[str, Cell]]
    document: Mapping[str, Json] | None = None
    meta: Mapping[str, Json] = field(default_factory=dict)
    title: str = ""
    footer: tuple[str, ...] = ()
    chart: RenderableType | None = None


def chosen_format(wanted: Format | None, output: Path | None, *, terminal: bool) -> Format:
    """The format asked for; else what the file's suffix says; else table on a terminal and JSON otherwise."""
    if wanted is not None:
        return wanted
    if output is not None:
        suffix = output.suffix.lstrip(".").lower()
        return Format(suffix) if suffix in {"json", "ndjson", "csv", "parquet"} else Format.JSON
    return Format.TABLE if terminal else Format.JSON


def write_answer(answer: Answer, wanted: Format | None, output: Path | None) -> None:
    """Print `answer` on stdout, or write it to `output`.

    Raises:
        WrongUsageError: Parquet for a terminal, or a place that cannot be written.
        CommandFailedError: The disk is full, or the like; then what was at `output` before is still there.
    """
    terminal = output is None and sys.stdout.isatty()
    form = chosen_format(wanted, output, terminal=terminal)
    if form is Format.PARQUET and terminal:
        raise WrongUsageError("Parquet is binary and is not printed on a terminal.", "Add --output FILE.parquet.")
    if output is None:
        _write_stdout(answer, form)
        return
    write_whole(output, _encoded(answer, form, width=120))


def write_whole(target: Path, content: bytes) -> None:
    """Make a file that holds `content`, or leave what was there: it is written beside it and renamed when it is whole.

    Raises:
        WrongUsageError: There is no such folder, or it may not be written.
        CommandFailedError: The disk is full, or the like.
    """
    try:
        if target.exists() and not target.is_file():
            # A pipe or a device has no other name to be written under.
            target.write_bytes(content)
        else:
            _replace(target.resolve(), content)
    except OSError as error:
        kind = WrongUsageError if error.errno in _WRONG_PLACES else CommandFailedError
        raise kind(f"Cannot write {target}: {error.strerror or error}.", "Name another --output.") from error


def _replace(target: Path, content: bytes) -> None:
    mode = stat.S_IMODE(target.stat().st_mode) if target.exists() else None
    beside = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        with beside.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if mode is not None:
            beside.chmod(mode)
        beside.replace(target)
    finally:
        beside.unlink(missing_ok=True)


def rendered(answer: Answer, form: Format, *, width: int = 120) -> bytes:
    """`answer` in the given format, without terminal colours."""
    return _encoded(answer, form, width=width)


def _write_stdout(answer: Answer, form: Format) -> None:
    if form is Format.TABLE:
        _print_table(answer, Console())
    elif form is Format.PARQUET:
        sys.stdout.buffer.write(_encoded(answer, form, width=120))
        sys.stdout.buffer.flush()
    else:
        sys.stdout.write(_encoded(answer, form, width=120).decode())
        sys.stdout.flush()


def _encoded(answer: Answer, form: Format, *, width: int) -> bytes:
    if form is Format.TABLE:
        text = io.StringIO()
        _print_table(answer, Console(file=text, width=width, color_system=None, force_terminal=False))
        return text.getvalue().encode()
    if form is Format.JSON:
        return (json.dumps(_document(answer), indent=2) + "\n").encode()
    if form is Format.NDJSON:
        return "".join(json.dumps(_json_row(answer.columns, row)) + "\n" for row in answer.rows).encode()
    if form is Format.CSV:
        return _csv(answer).encode()
    return _parquet(answer)


def _document(answer: Answer) -> Mapping[str, Json]:
    if answer.document is not None:
        return answer.document
    return {**answer.meta, "rows": [_json_row(answer.columns, row) for row in answer.rows]}


def _json_row(columns: Sequence[Column], row: Mapping[str, Cell]) -> dict[str, Json]:
    return {column.name: _json_value(column, row.get(column.name)) for column in columns}


def _json_value(column: Column, value: Cell) -> Json:
    if value is None:
        return None
    if isinstance(value, Decimal):
        return f"{value:f}"
    return str(value) if column.kind == "bytes" else value


def _csv(answer: Answer) -> str:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([column.name for column in answer.columns])
    for row in answer.rows:
        writer.writerow([_csv_value(row.get(column.name)) for column in answer.columns])
    return text.getvalue()


def _csv_value(value: Cell) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Decimal):
        return f"{value:f}"
    return str(value) if isinstance(value, int) else spreadsheet_text(value)


def _parquet(answer: Answer) -> bytes:
    buffer: BinaryIO = io.BytesIO()
    write_parquet(buffer, {column.name: column.kind for column in answer.columns}, answer.rows)
    buffer.seek(0)
    return buffer.read()


def _print_table(answer: Answer, console: Console) -> None:
    table = Table(title=Text(printable(answer.title)) if answer.title else None, title_justify="left")
    for column in answer.columns:
        right = column.kind in {"bytes", "integer", "money"}
        table.add_column(
            Text(column.title or column.name),
            justify="right" if right else "left",
            overflow="fold",
            no_wrap=right,
            min_width=0
            if right
            else min(_READABLE_TEXT, max((len(cell) for cell in _texts(column, answer)), default=0)),
            max_width=None if right else _WIDEST_TEXT,
        )
        if column.kind == "bytes":
            table.add_column(Text("GB"), justify="right", no_wrap=True)
    for row in answer.rows:
        table.add_row(*(text for column in answer.columns for text in _table_cells(column, row.get(column.name))))
    # A total that is cut short is worse than a line that wraps: numbers get the width they need.
    needed = Measurement.get(console, console.options.update(max_width=_WIDEST), table).minimum
    console.width = max(console.width, needed)
    console.print(table, crop=False)
    if answer.chart is not None:
        console.print(answer.chart)
    for line in answer.footer:
        console.print(Text(printable(line)))


def _texts(column: Column, answer: Answer) -> list[str]:
    return [_table_text(row.get(column.name)) for row in answer.rows]


def _table_cells(column: Column, value: Cell) -> list[Text]:
    if column.kind != "bytes":
        return [Text(_table_text(value))]
    if not isinstance(value, int):
        return [Text(_table_text(value)), Text("")]
    return [Text(f"{value:,}"), Text(f"{billed_gb(value):,.3f}")]


def _table_text(value: Cell) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Decimal):
        return f"{value:,f}"
    return f"{value:,}" if isinstance(value, int) else printable(value)

"""One writer for all commands that return data: table, JSON, NDJSON, CSV or Parquet; to stdout or to a file.

Data goes to stdout; everything else goes to stderr.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from enum import StrEnum
from typing import TYPE_CHECKING

from metering.cli.failures import CommandFailedError, WrongUsageError
from metering.reports.answer import PIECES, Answer, encoded_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from metering.cli.printing.table import Chart

# Width, in cells, of a chart that is written to a file.
_CHART_WIDTH = 120
_WRONG_PLACES = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EACCES, errno.EPERM, errno.EROFS})


class Format(StrEnum):
    """Output formats of a command that returns data."""

    TABLE = "table"
    JSON = "json"
    NDJSON = "ndjson"
    CSV = "csv"
    PARQUET = "parquet"


class PageFormat(StrEnum):
    """Output formats of a command that can also write a page for printing."""

    TABLE = "table"
    JSON = "json"
    NDJSON = "ndjson"
    CSV = "csv"
    PARQUET = "parquet"
    HTML = "html"


_UNASKED_JSON = "This is JSON, because stdout is no terminal. For a table: --format table"
# Output to a file name without a suffix, such as a device, is JSON.
_SUFFIXES = {"": Format.JSON, ".txt": Format.TABLE} | {f".{form}": form for form in Format if form is not Format.TABLE}


def check_target(output: Path, wanted: Format | None) -> None:
    """Refuse a file that cannot be written, or whose suffix names no known format.

    Raises:
        WrongUsageError: The folder does not exist, or the format is unknown.
    """
    if not output.parent.is_dir():
        raise WrongUsageError(f"Cannot write {output}: there is no folder {output.parent}.", "Name another --output.")
    if output.is_dir():
        raise WrongUsageError(f"Cannot write {output}: it is a folder.", "Name a file in it with --output.")
    if wanted is None and output.suffix.lower() not in _SUFFIXES:
        known = ", ".join(suffix for suffix in _SUFFIXES if suffix)
        raise WrongUsageError(
            f"The suffix of {output} names no format.", f"Use one of {known}; or say what to write with --format."
        )


def chosen_format(wanted: Format | None, output: Path | None, *, terminal: bool) -> Format:
    """The requested format, or that of the file's suffix; without either, a table on a terminal, otherwise JSON."""
    if wanted is not None:
        return wanted
    if output is not None:
        return _SUFFIXES.get(output.suffix.lower(), Format.JSON)
    return Format.TABLE if terminal else Format.JSON


def write_answer(
    answer: Answer,
    wanted: Format | None,
    output: Path | None,
    *,
    chart: Chart | None = None,
    wide: bool = False,
    tell: Callable[[str], None] | None = None,
) -> None:
    """Print `answer` on stdout, or write it to `output`; the chart is below the table.

    A table is fitted to the terminal. Files and `wide` tables have all columns, and their lines may have any length.
    `tell` prints a note if the answer is JSON only because stdout is not a terminal, such as a pipe to `less` or
    `grep`.

    Raises:
        WrongUsageError: Parquet was requested on a terminal, or `output` cannot be written.
        CommandFailedError: The disk is full, or a similar failure; an earlier file at `output` is unchanged.
    """
    terminal = output is None and sys.stdout.isatty()
    form = chosen_format(wanted, output, terminal=terminal)
    if form is Format.PARQUET and terminal:
        raise WrongUsageError("Parquet is binary and is not printed on a terminal.", "Add --output FILE.parquet.")
    if tell is not None and wanted is None and output is None and not terminal:
        tell(_UNASKED_JSON)
    if output is None:
        _write_stdout(answer, form, chart, wide=wide)
    else:
        write_whole(output, _pieces(answer, form, chart))


def encoded(answer: Answer, form: Format, *, width: int | None = None, chart: Chart | None = None) -> bytes:
    """Encode `answer`; a table has no terminal colours, and its width is `width` cells or what the table needs."""
    if form is not Format.TABLE:
        return encoded_bytes(answer, form.value)
    from metering.cli.printing.table import answer_lines

    lines = answer_lines(answer, width or _CHART_WIDTH, chart=chart, wide=width is None)
    return "".join(f"{line.text}\n" for line in lines).encode()


def _pieces(answer: Answer, form: Format, chart: Chart | None) -> Iterable[bytes]:
    return [encoded(answer, form, chart=chart)] if form is Format.TABLE else PIECES[form.value](answer)


def write_whole(target: Path, content: Iterable[bytes]) -> None:
    """Write a file atomically: the new file gets its name only when it is complete.

    Raises:
        WrongUsageError: The folder does not exist or is not writable.
        CommandFailedError: The disk is full, or a similar failure.
    """
    try:
        if target.exists() and not target.is_file():
            # A pipe or a device cannot be replaced by renaming.
            with target.open("wb") as file:
                file.writelines(content)
        else:
            _replace(target.resolve(), content)
    except OSError as error:
        kind = WrongUsageError if error.errno in _WRONG_PLACES else CommandFailedError
        raise kind(f"Cannot write {target}: {error.strerror or error}.", "Name another --output.") from error


def write_page(page: str, output: Path | None) -> None:
    """Print a page on stdout, or write it to `output`. Raises as `write_whole` does."""
    if output is None:
        sys.stdout.write(page)
        sys.stdout.flush()
    else:
        write_whole(output, [page.encode()])


def _replace(target: Path, content: Iterable[bytes]) -> None:
    mode = stat.S_IMODE(target.stat().st_mode) if target.exists() else None
    beside = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        with beside.open("xb") as file:
            file.writelines(content)
            file.flush()
            os.fsync(file.fileno())
        if mode is not None:
            beside.chmod(mode)
        beside.replace(target)
    finally:
        beside.unlink(missing_ok=True)


def _write_stdout(answer: Answer, form: Format, chart: Chart | None, *, wide: bool) -> None:
    if form is Format.TABLE:
        from rich.console import Console

        from metering.cli.printing.table import print_table

        print_table(answer, Console(), chart=chart, wide=wide)
        return
    for piece in PIECES[form.value](answer):
        if form is Format.PARQUET:
            sys.stdout.buffer.write(piece)
        else:
            sys.stdout.write(piece.decode())
    (sys.stdout.buffer if form is Format.PARQUET else sys.stdout).flush()

"""One writer for all read commands: table, json, ndjson, csv or parquet; to stdout or to a file.

Data goes to stdout, everything else to stderr.
"""

import errno
import io
import os
import stat
import sys
from enum import StrEnum
from pathlib import Path

from rich.console import Console, RenderableType

from metering.cli.failures import CommandFailedError, WrongUsageError
from metering.cli.table import print_table
from metering.reports.answer import Answer
from metering.reports.encodings import ENCODERS

_WRONG_PLACES = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EACCES, errno.EPERM, errno.EROFS})
# Characters in a line of a table in a file.
_FILE_WIDTH = 120


class Format(StrEnum):
    """Formats in which a read command answers."""

    TABLE = "table"
    JSON = "json"
    NDJSON = "ndjson"
    CSV = "csv"
    PARQUET = "parquet"


def chosen_format(wanted: Format | None, output: Path | None, *, terminal: bool) -> Format:
    """The format that was asked for, else the one of the file's suffix, else table on a terminal and JSON otherwise."""
    if wanted is not None:
        return wanted
    if output is not None:
        suffix = output.suffix.lstrip(".").lower()
        return Format(suffix) if suffix in ENCODERS else Format.JSON
    return Format.TABLE if terminal else Format.JSON


def write_answer(
    answer: Answer, wanted: Format | None, output: Path | None, *, chart: RenderableType | None = None
) -> None:
    """Print `answer` on stdout, or write it to `output`; a chart goes below its table.

    Raises:
        WrongUsageError: Parquet was asked for on a terminal, or the place cannot be written.
        CommandFailedError: The disk is full, or the like; a file that was at `output` before is unchanged.
    """
    terminal = output is None and sys.stdout.isatty()
    form = chosen_format(wanted, output, terminal=terminal)
    if form is Format.PARQUET and terminal:
        raise WrongUsageError("Parquet is binary and is not printed on a terminal.", "Add --output FILE.parquet.")
    if output is None:
        _write_stdout(answer, form, chart)
    else:
        write_whole(output, encoded(answer, form, chart=chart))


def encoded(answer: Answer, form: Format, *, width: int = _FILE_WIDTH, chart: RenderableType | None = None) -> bytes:
    """`answer` in a format; tables are `width` characters wide and without terminal colours."""
    if form is not Format.TABLE:
        return ENCODERS[form.value](answer)
    text = io.StringIO()
    print_table(answer, Console(file=text, width=width, color_system=None, force_terminal=False), chart=chart)
    return text.getvalue().encode()


def write_whole(target: Path, content: bytes) -> None:
    """Write a file whole, or leave the old one unchanged: the new one gets its name when it is complete.

    Raises:
        WrongUsageError: The folder does not exist or is not writable.
        CommandFailedError: The disk is full, or the like.
    """
    try:
        if target.exists() and not target.is_file():
            # A pipe or a device cannot be replaced by renaming.
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


def _write_stdout(answer: Answer, form: Format, chart: RenderableType | None) -> None:
    if form is Format.TABLE:
        print_table(answer, Console(), chart=chart)
    elif form is Format.PARQUET:
        sys.stdout.buffer.write(encoded(answer, form))
        sys.stdout.buffer.flush()
    else:
        sys.stdout.write(encoded(answer, form).decode())
        sys.stdout.flush()

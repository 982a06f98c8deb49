"""Errors of the command line: each error states what happened, and then what to do."""

from __future__ import annotations

import errno
import io
import os
import re
import signal
import sys
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, TextIO

from metering.errors import OperationFailedError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from metering.reports.time_range import InvalidParametersError


class CommandFailedError(OperationFailedError):
    """The command ends with exit code 1."""


class WrongUsageError(CommandFailedError):
    """The options or arguments are invalid; the command ends with exit code 2."""


class CommandStoppedError(CommandFailedError):
    """A person stopped the command with Ctrl-C; the command ends with exit code 130."""


def wrong_options(error: InvalidParametersError) -> WrongUsageError:
    """Restate invalid parameters in terms of the options from which they came."""
    reasons = [f"--{each.parameter.replace('_', '-')} {each.value} {each.problem}" for each in error.problems]
    advice = dict.fromkeys(each.advice for each in error.problems if each.advice)
    return WrongUsageError(" ".join(reasons), " ".join(advice))


# Tables are laid out with at least this many characters per line.
_NARROWEST = 20
_WIDEST = 10_000
_ADVICE_OF_ERRNO = {
    errno.ENOSPC: "Make room, or set TMPDIR to a folder with more of it.",
    errno.EDQUOT: "Make room, or set TMPDIR to a folder with more of it.",
    errno.EROFS: "Name a place that is writable.",
}


@contextmanager
def machine_troubles_explained() -> Iterator[None]:
    """Turn operating-system errors, such as a full disk or a missing file, into `CommandFailedError`.

    A broken pipe is raised unchanged, because it only means that the reader of stdout has closed the pipe.

    Raises:
        CommandFailedError: The operating system refused an operation.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        place = f" ({error.filename})" if error.filename else ""
        raise CommandFailedError(
            f"This machine refused an operation: {error.strerror or error}{place}.",
            _ADVICE_OF_ERRNO.get(error.errno or 0, ""),
        ) from error


def drop(stream: TextIO) -> None:
    """Discard further output of a stream: at exit, Python would try to write it again and fail again."""
    # A stream in a test has no file descriptor, and nothing to discard.
    with suppress(io.UnsupportedOperation):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def mend_streams() -> None:
    """Make all text printable in any locale, and make a closed stream fail like a full disk."""
    # Python sets a closed standard stream to None. A read-only stream fails only on the first write.
    if sys.stdout is None:
        sys.stdout = Path(os.devnull).open()  # noqa: SIM115  # it lives as long as the program
    if sys.stderr is None:
        sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115  # as above
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def mend_width() -> None:
    """Unset `COLUMNS` unless it is a valid width, because with 0 or a malformed number no table would be printed."""
    text = os.environ.get("COLUMNS", "")
    width = int(text) if re.fullmatch("[0-9]{1,6}", text) else 0
    if width == 0:
        os.environ.pop("COLUMNS", None)
    else:
        os.environ["COLUMNS"] = str(min(max(width, _NARROWEST), _WIDEST))


@contextmanager
def first_interrupt_noted() -> Iterator[Event]:
    """On the first Ctrl-C, set a flag instead of ending, so that work in progress can be completed and recorded.

    A second Ctrl-C ends the command immediately.
    """
    asked = Event()

    def note(_signal: int, _frame: FrameType | None) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()

    before = signal.signal(signal.SIGINT, note)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, before)

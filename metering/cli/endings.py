"""Errors of the machine that a command runs on, as sentences, in one place for all commands."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from metering.cli.failures import CommandFailedError

_ADVICE_OF_ERRNO = {
    errno.ENOSPC: "Make room, or set TMPDIR to a folder with more of it.",
    errno.EDQUOT: "Make room, or set TMPDIR to a folder with more of it.",
    errno.EROFS: "Name a place that is writable.",
}


@contextmanager
def machine_troubles_explained() -> Iterator[None]:
    """Turn errors of this machine, such as a full disk or a missing file, into `CommandFailedError`.

    A broken pipe passes through: it only means that the reader of stdout has gone.

    Raises:
        CommandFailedError: The machine refused an operation.
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
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())

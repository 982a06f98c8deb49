"""What the machine that a command runs on may refuse it: said in a sentence, in one place for all commands."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from metering.cli.failures import CommandFailedError

_ADVICE_OF_ERRNO = {
    errno.ENOSPC: "Make room, or set TMPDIR to a folder with more of it.",
    errno.EDQUOT: "Make room, or set TMPDIR to a folder with more of it.",
    errno.EROFS: "Name a place that can be written.",
}


@contextmanager
def machine_troubles_explained() -> Iterator[None]:
    """Say as a `CommandFailedError` what this machine does not let a command do: a full disk, a file that is not there.

    This is the one place for all commands. A broken pipe is none of it.

    Raises:
        CommandFailedError: The machine refused something.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        place = f" ({error.filename})" if error.filename else ""
        raise CommandFailedError(
            f"This machine does not let it: {error.strerror or error}{place}.",
            _ADVICE_OF_ERRNO.get(error.errno or 0, ""),
        ) from error


def drop(stream: TextIO) -> None:
    """Let nothing more be written: Python would try again at the end, and fail again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())

"""A stored file that is read from its end, such as Parquet: hashed forwards once, then read by ranges, close by."""

from __future__ import annotations

import errno
from contextlib import contextmanager
from tempfile import SpooledTemporaryFile
from typing import IO, TYPE_CHECKING, BinaryIO, cast

from metering.errors import UnavailableError
from metering.units import MIB

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_MEMORY_BYTES = 16 * MIB
_PIECE_BYTES = MIB


@contextmanager
def seekable(stream: BinaryIO, digest: Callable[[bytes], object]) -> Iterator[IO[bytes]]:
    """The file in a place where reading ranges costs nothing: in memory while it is small, else on disk.

    Ranges of a distant object would be fetched again and again, and `digest` needs all of it anyway.

    Args:
        stream: The file as stored, read once and forwards. What this function gave before is taken as it is.
        digest: Gets each piece of it, in order.

    Raises:
        UnavailableError: There is no room on the disk.
    """
    if isinstance(stream, SpooledTemporaryFile):
        # It has come out of here before, to tell which kind of log it is.
        yield cast("IO[bytes]", stream)
        return
    with SpooledTemporaryFile(max_size=_MEMORY_BYTES) as file:
        try:
            while piece := stream.read(_PIECE_BYTES):
                digest(piece)
                file.write(piece)
            file.seek(0)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            raise UnavailableError("disk.Write", "no room for a log file in the temporary folder") from error
        yield file

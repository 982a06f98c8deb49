"""Reads a log file's content in pieces, within limits; compression is detected from the content, not the name."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import TYPE_CHECKING, BinaryIO, cast

from metering.errors import BatchRefusedError, LogFileRefusedError
from metering.intake import batches
from metering.intake.formats.compression import unpacked
from metering.intake.work import CONTRACT_WORK, Reason, Work
from metering.onramps.reasons import FileReason
from metering.units import GIB, MIB

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from metering.intake import messages
    from metering.onramps import reading

# A file of any size may expand to this size, because a short file of equal lines compresses well.
FREE_GROWTH_BYTES = 16 * MIB
# Maximum number of gzip members in a file. AWS writes one; tools that concatenate files keep one each.
_MAX_MEMBERS = 1_000_000
_WORK = replace(CONTRACT_WORK, stored_bytes=1024 * GIB, members=_MAX_MEMBERS)
_MAGIC_BYTES = 4
_REASONS = {
    str(Reason.OBJECT_TRUNCATED): FileReason.TRUNCATED,
    str(Reason.OBJECT_EMPTY): FileReason.TRUNCATED,
    str(Reason.OBJECT_TOO_LARGE): FileReason.EXPANDS_TOO_FAR,
    str(Reason.TOO_SLOW): FileReason.EXPANDS_TOO_FAR,
}
_PACKINGS: tuple[tuple[bytes, messages.Compression], ...] = ((b"\x1f\x8b", "gzip"), (b"\x28\xb5\x2f\xfd", "zstd"))


class _Endless:
    """`Deadline` that never expires: here, only size is limited; callers limit the time."""

    def remaining_ms(self) -> int:
        return 1_000_000_000


UNHURRIED = batches.Allowance(until=_Endless(), final=False)


class _Rejoined(io.RawIOBase):
    def __init__(self, start: bytes, rest: BinaryIO) -> None:
        self._start = start
        self._rest = rest

    def read(self, size: int = -1, /) -> bytes:
        if not self._start:
            return self._rest.read(size)
        if 0 <= size <= len(self._start):
            start, self._start = self._start[:size], self._start[size:]
            return start
        start, self._start = self._start, b""
        return start + self._rest.read(size - len(start) if size >= 0 else -1)


def peeked(stream: BinaryIO, size: int = _MAGIC_BYTES) -> tuple[bytes, BinaryIO]:
    """The first bytes of a stream, which show the format, and a new stream of the whole content."""
    start = stream.read(size)
    return start, cast("BinaryIO", _Rejoined(start, stream))


class Pieces:
    """Decompressed content of a file, read once and forwards.

    The file's first bytes show its compression (gzip, zstd, uncompressed), because copies are often recompressed.
    `digest` gets each piece of the content, and `read_bytes` counts the bytes read of the stored file.
    """

    def __init__(self, stream: BinaryIO, settings: reading.ReadSettings, digest: Callable[[bytes], object]) -> None:
        self._stream = stream
        self._settings = settings
        self._digest = digest
        self.read_bytes = 0

    def __iter__(self) -> Iterator[bytes]:
        """Yield pieces of at most some megabytes.

        Raises:
            LogFileRefusedError: The file is truncated, is compressed incorrectly, or expands beyond the limits.
        """
        start, stream = peeked(self._stream)
        size_bytes = 0
        content = unpacked(
            stream,
            next((name for magic, name in _PACKINGS if start.startswith(magic)), "none"),
            limit_bytes=self._settings.max_text_bytes,
            work=Work(_WORK, UNHURRIED),
            seen=self._seen,
        )
        try:
            for piece in content:
                size_bytes += len(piece)
                self._check_growth(size_bytes)
                self._digest(piece)
                yield piece
        except BatchRefusedError as error:
            reason, detail = error.problems[0]
            raise LogFileRefusedError(_REASONS.get(reason, FileReason.WRONG_FORMAT), detail) from error

    def _seen(self, stored: bytes) -> None:
        self.read_bytes += len(stored)

    def _check_growth(self, size_bytes: int) -> None:
        limit = self._settings.max_expansion
        if size_bytes > max(FREE_GROWTH_BYTES, limit * self.read_bytes):
            detail = f"{self.read_bytes} stored bytes become more than {size_bytes}: a file may grow {limit} times"
            raise LogFileRefusedError(FileReason.EXPANDS_TOO_FAR, detail)

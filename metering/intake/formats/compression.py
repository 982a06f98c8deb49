"""Decompresses gzip and zstd in pieces and up to a limit, so that a small input cannot exhaust memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, cast

import zstandard
from zlib_ng import zlib_ng

from metering.intake.work import Reason, Work, refusal
from metering.units import KIB, MIB

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from metering.intake.messages import Compression

READ_BYTES = 4 * MIB
_PIECE_BYTES = 4 * MIB
# When a gzip member ends, the rest of its step is copied, so with large steps, empty members would cost quadratic time.
_GZIP_STEP_BYTES = 64 * KIB
# zstd can expand 4 bytes to 128 KiB, and its streaming call has no output limit: 1 KiB expands to at most 44 MiB.
_ZSTD_STEP_BYTES = KIB
# The largest window of the zstd command without --ultra or --long; a frame with a larger window is refused.
_ZSTD_WINDOW_BYTES = 128 * MIB
_LOOK_EVERY_BYTES = 64 * KIB
# The package's type stubs declare this name as an instance.
_GZIP_ERROR = cast("type[Exception]", zlib_ng.error)
_GZIP_MAGIC = b"\x1f\x8b"
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"


def unpacked(
    stream: BinaryIO, compression: Compression, *, limit_bytes: int, work: Work, seen: Callable[[bytes], None] | None
) -> Iterator[bytes]:
    """Content of a stream in pieces of some megabytes.

    Args:
        stream: The object as stored.
        compression: The compression that the message states.
        limit_bytes: Most bytes of content.
        work: Limits stored bytes, members, bytes that unpack to nothing, and time.
        seen: Called with all stored bytes as they are read; may be None.

    Raises:
        BatchRefusedError: The stream is too large or too costly, has another compression, or is truncated.
        OutOfTimeError: It takes too long.
        UnavailableError: The stream cannot be read now.
    """
    stored = _stored(stream, compression, work, seen)
    total = 0
    for piece in stored if compression == "none" else _PACKINGS[compression].unpack(stored, work):
        total += len(piece)
        if total > limit_bytes:
            raise refusal(Reason.OBJECT_TOO_LARGE, f"more than {limit_bytes} bytes after decompression")
        yield piece


def _stored(
    stream: BinaryIO, compression: Compression, work: Work, seen: Callable[[bytes], None] | None
) -> Iterator[bytes]:
    first = True
    while chunk := stream.read(READ_BYTES):
        work.look()
        work.store(len(chunk))
        if seen is not None:
            seen(chunk)
        if first:
            _check_magic(chunk[:4], compression)
            first = False
        yield chunk
    if first:
        raise refusal(Reason.OBJECT_EMPTY, "the object has no bytes")


def _check_magic(start: bytes, compression: Compression) -> None:
    packed = next((name for name, packing in _PACKINGS.items() if packing.begins(start)), "none")
    if packed != compression:
        raise refusal(Reason.WRONG_COMPRESSION, f"the message says {compression}, the object is {packed}")


def _is_gzip(start: bytes) -> bool:
    return start[:2] == _GZIP_MAGIC


def _is_zstd(start: bytes) -> bool:
    # A file starts with a frame, or with a skippable frame (RFC 8878, 3.1.2) as pzstd files do.
    return start == _ZSTD_MAGIC or (start[1:] == b"\x2a\x4d\x18" and start[:1] >= b"\x50" and start[:1] <= b"\x5f")


def _steps(stored: Iterator[bytes], step_bytes: int, work: Work) -> Iterator[bytes]:
    """Yield stored bytes in small steps, with regular checks of the time limit."""
    for chunk in stored:
        for offset in range(0, len(chunk), step_bytes):
            if offset % _LOOK_EVERY_BYTES == 0:
                work.look()
            yield chunk[offset : offset + step_bytes]


def _gunzip(stored: Iterator[bytes], work: Work) -> Iterator[bytes]:
    member = zlib_ng.decompressobj(wbits=31)
    begun = False
    for step in _steps(stored, _GZIP_STEP_BYTES, work):
        rest, made = step, 0
        while rest:
            if member.eof:
                work.member()
                member, begun = zlib_ng.decompressobj(wbits=31), False
            if not begun:
                # Members may follow each other (RFC 1952), and zeros after the last may pad a block, over many steps.
                rest = rest.lstrip(b"\0")
                begun = bool(rest)
                continue
            piece = _inflate(member, rest)
            rest = member.unused_data if member.eof else member.unconsumed_tail
            made += len(piece)
            if piece:
                yield piece
        work.unpack(len(step), made)
    if begun and not member.eof:
        raise refusal(Reason.OBJECT_TRUNCATED, "the gzip stream breaks off")


def _inflate(member: zlib_ng._Decompress, data: bytes) -> bytes:
    try:
        return member.decompress(data, _PIECE_BYTES)
    except _GZIP_ERROR as error:
        raise refusal(Reason.WRONG_COMPRESSION, f"no gzip: {error}") from error


def _unzstd(stored: Iterator[bytes], work: Work) -> Iterator[bytes]:
    decompressor = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW_BYTES)
    frame = decompressor.decompressobj()
    begun = False
    for step in _steps(stored, _ZSTD_STEP_BYTES, work):
        rest, made = step, 0
        while rest:
            if frame.eof:
                work.member()
                frame = decompressor.decompressobj()
            begun = True
            piece = _unpack(frame, rest)
            rest = frame.unused_data if frame.eof else b""
            made += len(piece)
            if piece:
                yield piece
        work.unpack(len(step), made)
    if begun and not frame.eof:
        raise refusal(Reason.OBJECT_TRUNCATED, "the zstd stream breaks off")


def _unpack(frame: zstandard.ZstdDecompressionObj, data: bytes) -> bytes:
    try:
        return frame.decompress(data)
    except zstandard.ZstdError as error:
        raise refusal(Reason.WRONG_COMPRESSION, f"no zstd: {error}") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class _Packing:
    """A compression: a test of a stream's first stored bytes, and a generator that unpacks the stream."""

    begins: Callable[[bytes], bool]
    unpack: Callable[[Iterator[bytes], Work], Iterator[bytes]]


_PACKINGS: dict[Compression, _Packing] = {
    "gzip": _Packing(begins=_is_gzip, unpack=_gunzip),
    "zstd": _Packing(begins=_is_zstd, unpack=_unzstd),
}

"""Reads what gzip and zstd packed, piece by piece, and never more than a limit, however small the input."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, BinaryIO

import zstandard

from metering.domain.reasons import Reason, problem
from metering.errors import BatchRefusedError
from metering.units import KIB, MIB

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from metering.domain.messages import Compression

READ_BYTES = 4 * MIB
_PIECE_BYTES = 4 * MIB
# zstd can make 128 KiB of 4 bytes, and its streaming call has no limit of its own: 1 KiB in is at most 44 MiB out.
_ZSTD_STEP_BYTES = KIB
# The largest window of the zstd command without --ultra or --long; a frame that asks for more is refused.
_ZSTD_WINDOW_BYTES = 128 * MIB
_GZIP_MAGIC = b"\x1f\x8b"
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_PARQUET_MAGIC = b"PAR1"


def unpacked(
    stream: BinaryIO, compression: Compression, *, limit_bytes: int, seen: Callable[[bytes], None] | None
) -> Iterator[bytes]:
    """The stream's content in pieces of some megabytes.

    Args:
        stream: The object as stored.
        compression: How it is packed.
        limit_bytes: Content at most.
        seen: Is handed the stored bytes as they are read, all of them; None if nobody wants them.

    Raises:
        BatchRefusedError: Too much content, wrong compression, or it breaks off.
        UnavailableError: From the stream.
    """
    stored = _stored(stream, compression, seen)
    pieces = stored if compression == "none" else _gunzip(stored) if compression == "gzip" else _unzstd(stored)
    total = 0
    for piece in pieces:
        total += len(piece)
        if total > limit_bytes:
            raise refusal(Reason.OBJECT_TOO_LARGE, f"more than {limit_bytes} bytes after decompression")
        yield piece


def refusal(reason: Reason, detail: str) -> BatchRefusedError:
    """An error with one problem."""
    return BatchRefusedError([problem(reason, detail)])


def _stored(stream: BinaryIO, compression: Compression, seen: Callable[[bytes], None] | None) -> Iterator[bytes]:
    first = True
    while chunk := stream.read(READ_BYTES):
        if seen is not None:
            seen(chunk)
        if first:
            _check_magic(chunk[:4], compression)
            first = False
        yield chunk
    if first:
        raise refusal(Reason.OBJECT_EMPTY, "the object has no bytes")


def _check_magic(start: bytes, compression: Compression) -> None:
    packed = "gzip" if start[:2] == _GZIP_MAGIC else "zstd" if _is_zstd(start) else "none"
    if packed != compression:
        raise refusal(Reason.WRONG_COMPRESSION, f"the message says {compression}, the object is {packed}")


def _is_zstd(start: bytes) -> bool:
    # A frame, or a skippable frame (RFC 8878, 3.1.2), as pzstd writes in front.
    return start == _ZSTD_MAGIC or (start[1:] == b"\x2a\x4d\x18" and start[:1] >= b"\x50" and start[:1] <= b"\x5f")


def _gunzip(stored: Iterator[bytes]) -> Iterator[bytes]:
    member = zlib.decompressobj(wbits=31)
    begun = False
    for chunk in stored:
        rest = chunk
        while rest:
            if member.eof:
                # Members may follow each other (RFC 1952); zeros may fill up a block behind the last.
                rest = rest.lstrip(b"\0")
                member, begun = zlib.decompressobj(wbits=31), False
                continue
            begun = True
            piece = _inflate(member, rest)
            rest = member.unused_data if member.eof else member.unconsumed_tail
            if piece:
                yield piece
    if begun and not member.eof:
        raise refusal(Reason.OBJECT_TRUNCATED, "the gzip stream breaks off")


def _inflate(member: zlib._Decompress, data: bytes) -> bytes:
    try:
        return member.decompress(data, _PIECE_BYTES)
    except zlib.error as error:
        raise refusal(Reason.WRONG_COMPRESSION, f"no gzip: {error}") from error


def _unzstd(stored: Iterator[bytes]) -> Iterator[bytes]:
    decompressor = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW_BYTES)
    frame = decompressor.decompressobj()
    begun = False
    for chunk in stored:
        for offset in range(0, len(chunk), _ZSTD_STEP_BYTES):
            rest = chunk[offset : offset + _ZSTD_STEP_BYTES]
            while rest:
                if frame.eof:
                    frame = decompressor.decompressobj()
                begun = True
                piece = _unpack(frame, rest)
                rest = frame.unused_data if frame.eof else b""
                if piece:
                    yield piece
    if begun and not frame.eof:
        raise refusal(Reason.OBJECT_TRUNCATED, "the zstd stream breaks off")


def _unpack(frame: zstandard.ZstdDecompressionObj, data: bytes) -> bytes:
    try:
        return frame.decompress(data)
    except zstandard.ZstdError as error:
        raise refusal(Reason.WRONG_COMPRESSION, f"no zstd: {error}") from error

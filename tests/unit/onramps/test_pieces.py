"""Packed and plain content within limits: verdicts on damage, bombs and lines without end."""

from __future__ import annotations

import gzip
import io
import tracemalloc
import zlib
from typing import TYPE_CHECKING

import pytest
import zstandard

from metering.errors import LogFileRefusedError
from metering.onramps.formats.flows.reader import read_flow_log
from metering.onramps.formats.pieces import Pieces
from metering.onramps.reading import ReadSettings
from metering.units import GIB, MIB
from tests.support.flow_logs import known_name, line, members, read, text

if TYPE_CHECKING:
    from collections.abc import Iterator

_LOG = text(*[line(bytes=str(number), dstport=str(number)) for number in range(5_000)])


@pytest.mark.parametrize(
    "stored",
    [
        _LOG,
        gzip.compress(_LOG, mtime=0),
        zstandard.compress(_LOG),
        members(_LOG, [1, 2, 3]),
        gzip.compress(_LOG, mtime=0) + bytes(512),
    ],
    ids=["plain", "gzip", "zstd", "members", "padded"],
)
def test_content_is_the_same_however_it_is_packed(stored: bytes) -> None:
    found = read(stored)
    assert found.content == _LOG
    assert found.balance.metered == 5_000
    assert found.blocks[-1].read_bytes == len(stored)


@pytest.mark.parametrize(
    ("stored", "reason"),
    [
        (gzip.compress(_LOG, mtime=0)[:-9], "truncated"),
        (gzip.compress(_LOG, mtime=0)[:11], "truncated"),
        (b"", "truncated"),
        (gzip.compress(_LOG, mtime=0) + b"trailing garbage", "wrong_format"),
        (gzip.compress(_LOG, mtime=0)[:-8] + b"\0" * 8, "wrong_format"),
        (b"\x1f\x8b and no gzip", "wrong_format"),
        (b"PAR1" + bytes(500), "truncated"),
        (b"\xff" * 500, "no_header"),
    ],
    ids=["cut at the end", "cut", "empty", "garbage behind", "wrong checksum", "no gzip", "no Parquet", "no text"],
)
def test_damage_refuses_the_whole_file(stored: bytes, reason: str) -> None:
    with pytest.raises(LogFileRefusedError) as caught:
        read(stored)
    assert caught.value.reason == reason
    assert caught.value.detail.isprintable()


def test_a_bomb_ends_early() -> None:
    bomb = gzip.compress(text() + b"0" * 64 * MIB)
    with pytest.raises(LogFileRefusedError, match=r"expands_too_far: .* a file may grow 250 times"):
        read(bomb)
    assert read(bomb, settings=ReadSettings(max_expansion=1_100)).reasons == {"line_too_long": (1, 0)}


def test_a_small_log_of_equal_lines_may_grow_far() -> None:
    content = text(*[line()] * 100_000)
    stored = gzip.compress(content)
    assert len(content) > 250 * len(stored)
    assert read(stored).balance.metered == 100_000


def test_more_text_than_the_limit_is_refused() -> None:
    with pytest.raises(LogFileRefusedError, match="expands_too_far: more than 1000 bytes"):
        read(gzip.compress(_LOG), settings=ReadSettings(max_text_bytes=1_000))


class _Endless(io.RawIOBase):
    """A log with a line of a gigabyte, and one line after it, made while it is read."""

    def __init__(self) -> None:
        self._pieces = self._made()

    @staticmethod
    def _made() -> Iterator[bytes]:
        yield text(line())
        for _ in range(GIB // (4 * MIB)):
            yield b"x" * (4 * MIB)
        yield f"\n{line()}\n".encode()

    def readable(self) -> bool:
        return True

    def read(self, _size: int = -1, /) -> bytes:
        return next(self._pieces, b"")


def test_a_line_of_a_gigabyte_is_never_held() -> None:
    stream = _Endless()
    tracemalloc.start()
    blocks = list(read_flow_log(stream, known_name(), ReadSettings()))  # type: ignore[arg-type]  # it only reads
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert sum(block.balance.metered for block in blocks) == 2
    ((number, reason, _, shown, _),) = [each for block in blocks for each in block.refused]
    assert (number, reason, len(shown)) == (3, "line_too_long", 4_096)
    assert peak_bytes < 40 * MIB


def test_a_packed_gigabyte_is_never_held() -> None:
    packer = zlib.compressobj(1, wbits=31)
    piece = b"y" * MIB
    stored = b"".join([packer.compress(piece) for _ in range(256)]) + packer.flush()
    tracemalloc.start()
    total_bytes = sum(map(len, Pieces(io.BytesIO(stored), ReadSettings(max_expansion=1_100), len)))
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert total_bytes == 256 * MIB
    assert peak_bytes < 24 * MIB

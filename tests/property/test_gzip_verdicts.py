"""gzip is unpacked as by Python's zlib: the same content, and the same verdict on damaged or truncated files."""

from __future__ import annotations

import io
import zlib

from hypothesis import given
from hypothesis import strategies as st

from metering.errors import BatchRefusedError
from metering.intake.formats.compression import unpacked
from metering.intake.work import CONTRACT_WORK, Work
from metering.onramps.formats.pieces import UNHURRIED
from metering.units import MIB

_CONTENTS = st.one_of(
    st.binary(max_size=300),
    st.integers(0, 70_000).map(lambda size: b"a" * size),
    st.lists(st.integers(0, 999), max_size=200).map(lambda numbers: str(numbers).encode()),
)
# Optional header parts by flag (RFC 1952, 2.3): none, a name, a comment, an extra field, reserved bits.
_HEADS = st.sampled_from([(0, b""), (8, b"name\0"), (16, b"comment\0"), (4, b"\x03\x00abc"), (0x20, b"")])
_STRATEGIES = st.sampled_from([zlib.Z_DEFAULT_STRATEGY, zlib.Z_HUFFMAN_ONLY, zlib.Z_RLE, zlib.Z_FIXED])


def _member(content: bytes, head: tuple[int, bytes], level: int, strategy: int) -> bytes:
    packer = zlib.compressobj(level, zlib.DEFLATED, -15, 8, strategy)
    start = b"\x1f\x8b\x08" + bytes((head[0],)) + b"\0\0\0\0\0\x03" + head[1]
    end = zlib.crc32(content).to_bytes(4, "little") + len(content).to_bytes(4, "little")
    return start + packer.compress(content) + packer.flush() + end


_MEMBERS = st.builds(_member, _CONTENTS, _HEADS, st.integers(0, 9), _STRATEGIES)


def _by_zlib(stored: bytes) -> tuple[str, bytes]:
    """Content and verdict, by the standard library."""
    made = b""
    while stored := stored.lstrip(b"\0"):
        member = zlib.decompressobj(wbits=31)
        try:
            made += member.decompress(stored)
        except zlib.error:
            return "wrong_compression", b""
        if not member.eof:
            return "object_truncated", made
        stored = member.unused_data
    return "", made


def _by_us(stored: bytes) -> tuple[str, bytes]:
    pieces: list[bytes] = []
    try:
        pieces.extend(
            unpacked(io.BytesIO(stored), "gzip", limit_bytes=64 * MIB, work=Work(CONTRACT_WORK, UNHURRIED), seen=None)
        )
    except BatchRefusedError as error:
        reason = str(error.problems[0][0])
        return reason, b"" if reason == "wrong_compression" else b"".join(pieces)
    return "", b"".join(pieces)


@given(members=st.lists(_MEMBERS, min_size=1, max_size=3), data=st.data())
def test_gzip_whole_damaged_or_cut_has_the_verdict_of_zlib(members: list[bytes], data: st.DataObject) -> None:
    stored = bytearray(b"".join(members))
    how = data.draw(st.sampled_from(["whole", "damaged", "cut", "longer"]))
    if how == "damaged":
        stored[data.draw(st.integers(2, len(stored) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    elif how == "cut":
        del stored[data.draw(st.integers(2, len(stored))) :]
    elif how == "longer":
        stored += data.draw(st.binary(max_size=9))

    assert _by_us(bytes(stored)) == _by_zlib(bytes(stored))

"""Objects read in pieces: gzip, lines and blocks give the same result wherever the pieces end."""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from metering.errors import BatchRefusedError
from metering.intake.formats import json_records
from metering.intake.formats.compression import unpacked
from metering.intake.work import CONTRACT_WORK, Work
from metering.onramps.formats.lines import LETTERS, line_blocks
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
    """Content and verdict according to the standard library."""
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


_BLOCK_BYTES = 16
_LINE_BYTES = 40


@pytest.fixture(autouse=True, scope="module")
def _small_limits() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_records, "_BLOCK_BYTES", _BLOCK_BYTES)
        patch.setattr(json_records, "MAX_LINE_BYTES", _LINE_BYTES)
        yield


@given(
    lines=st.lists(st.integers(0, _LINE_BYTES).map(lambda length: b"x" * length), max_size=12),
    ends=st.booleans(),
    cuts=st.lists(st.integers(0, 300), max_size=8),
)
def test_blocks_are_whole_lines_and_all_of_them(lines: list[bytes], ends: bool, cuts: list[int]) -> None:
    body = b"\n".join(lines) + (b"\n" if ends else b"")
    places = sorted({0, *cuts, len(body)})
    blocks = list(json_records._blocks([body[first:last] for first, last in pairwise(places)]))
    assert b"".join(blocks) == body
    assert all(block.endswith(b"\n") for block in blocks[:-1])
    # A block ends with the line that fills it, or with a line that was held too long.
    assert all(len(block) <= _BLOCK_BYTES + 2 * _LINE_BYTES for block in blocks)


@given(before=st.integers(0, 60), piece=st.integers(1, 60))
def test_a_line_that_never_ends_is_refused_while_it_is_read(before: int, piece: int) -> None:
    read = 0

    def endless() -> Iterator[bytes]:
        nonlocal read
        yield b"x\n" * before
        while True:
            read += piece
            yield b"y" * piece

    with pytest.raises(BatchRefusedError):
        list(json_records._blocks(endless()))
    assert read <= _LINE_BYTES + _BLOCK_BYTES + 2 * piece


_TEXTS = st.text(st.sampled_from("ab \n\nxXy\t\r\0é"), max_size=60).map(str.encode)


@given(pieces=st.lists(_TEXTS, max_size=12), block_bytes=st.integers(1, 40), max_line_bytes=st.integers(1, 30))
@example(pieces=[b"y\nx", b"a", b"\n"], block_bytes=3, max_line_bytes=30)
@example(pieces=[b"a\nx\n", b"bbbb"], block_bytes=5, max_line_bytes=30)
def test_no_letter_is_in_a_block_that_does_not_name_it(
    pieces: list[bytes], block_bytes: int, max_line_bytes: int
) -> None:
    whole = b"".join(pieces)
    blocks = list(line_blocks(pieces, block_bytes=block_bytes, max_line_bytes=max_line_bytes))

    for block in blocks:
        assert block.lines == block.data.count(b"\n")
        assert {letter for letter in LETTERS if letter in block.data} <= block.letters
    lines = [block.lines + block.empty for block in blocks]
    assert sum(lines) == whole.count(b"\n") + (not whole.endswith(b"\n") and whole != b"")
    assert [block.first for block in blocks] == [1 + sum(lines[:at]) for at in range(len(blocks))]


@given(
    runs=st.lists(st.tuples(st.sampled_from([b"a\n", b"bb\r\n", b"\r\n", b" \n"]), st.integers(0, 30)), max_size=8),
    block_bytes=st.integers(1, 200),
    cut=st.integers(1, 50),
)
def test_every_line_is_in_a_block_under_its_number_or_is_empty_and_counted(
    runs: list[tuple[bytes, int]], block_bytes: int, cut: int
) -> None:
    whole = b"".join(text + b"\n" * empty for text, empty in runs)
    pieces = [whole[at : at + cut] for at in range(0, len(whole), cut)]
    expected = {number: text.removesuffix(b"\r") for number, text in enumerate(whole.split(b"\n")[:-1], 1)}

    left = 0
    for block in line_blocks(pieces, block_bytes=block_bytes, max_line_bytes=100):
        lines = block.data.split(b"\n")[:-1]
        assert len(lines) == block.lines
        assert {block.number(place): text for place, text in enumerate(lines)}.items() <= expected.items()
        left += sum(map(bool, lines))
    assert left == sum(map(bool, expected.values()))

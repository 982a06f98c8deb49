"""An object gives the same lines, whatever pieces it is read in."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.errors import BatchRefusedError
from metering.intake.formats import json_records

if TYPE_CHECKING:
    from collections.abc import Iterator

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

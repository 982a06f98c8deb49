"""Blocks of lines name every letter that readers ask for, wherever the text is cut."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from metering.onramps.formats.lines import LETTERS, line_blocks

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
    assert sum(block.lines for block in blocks) == whole.count(b"\n") + (not whole.endswith(b"\n") and whole != b"")
    assert [block.first for block in blocks] == [1 + sum(b.lines for b in blocks[:at]) for at in range(len(blocks))]

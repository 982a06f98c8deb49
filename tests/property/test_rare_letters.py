"""Blocks of lines report every letter that readers ask for and number their lines, wherever the text is cut."""

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

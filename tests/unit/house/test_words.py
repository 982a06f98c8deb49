"""Sentences that are drawn for a reader."""

from __future__ import annotations

from collections import Counter

from tests import words


def test_a_draw_has_equal_parts_and_can_be_made_again() -> None:
    """The same seed draws the same sentences; another one draws others."""
    drawn = words.draw(20261129, trees=("lambdas",))
    assert Counter(kind for kind, _, _ in drawn) == {"docstring": 10, "comment": 10, "document": 10, "help": 10}
    assert words.draw(20261129, trees=("lambdas",)) == drawn
    assert words.draw(1, trees=("lambdas",)) != drawn


def test_lists_tables_and_sections_are_no_part_of_a_sentence() -> None:
    """An item of a list is a paragraph, and a row of a table is left out."""
    text = (
        "Reads each hour once, and no more. Too short.\n\n| a | b c d e f |\n- the first item of a list\n"
        "- another item of this list\n\nRaises:\n    KeyError: if an hour has no rows."
    )
    assert words.sentences(text) == [
        "Reads each hour once, and no more.",
        "the first item of a list",
        "another item of this list",
        "KeyError: if an hour has no rows.",
    ]

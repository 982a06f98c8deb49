"""Docstrings have no more of the three habits than their room is allowed; the allowance only shrinks."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from tests import words
from tests.size import read_blobs, read_tree
from tests.words import ALLOWED, ROOT, habits, habits_of_rooms, over_allowance


def test_no_room_has_more_of_a_habit_than_it_is_allowed() -> None:
    assert over_allowance(habits_of_rooms(read_tree()), json.loads(ALLOWED.read_text())) == []


def test_no_allowance_was_raised() -> None:
    path = ALLOWED.relative_to(ROOT).as_posix()
    for text in read_blobs("HEAD", [path]).values():
        now = {room: Counter(each) for room, each in json.loads(ALLOWED.read_text()).items()}
        assert over_allowance(now, json.loads(text), tight=False) == []


@pytest.mark.parametrize(
    ("docstring", "counted"),
    [
        ("What is no shard's own is the first one's.", {"clause": 1, "negated": 1}),
        ("Work that belongs to no shard is done by shard 0.", {}),
        ("One that is no text has no text and is left out.", {"clause": 1, "negated": 1}),
        ("A non-string attribute has no `stringValue`, or `what is no text`.", {}),
        ("Return what was read.\n\nThe one that it names is one of those that went on.", {"chain": 1}),
        ("The next tick resumes here, if it is there. There is no other.", {}),
        ("The tick is no longer late, and None if nothing came.", {}),
        ("Whether a file counts for the id of none, one after the other.", {"negated": 1}),
    ],
)
def test_each_habit_is_found_and_its_cure_is_not(docstring: str, counted: dict[str, int]) -> None:
    assert habits(docstring) == counted


def test_habits_are_counted_by_room() -> None:
    text = '"""What a module is for."""\n\n\ndef f() -> None:\n    """What nobody ever reads again."""\n'
    found = habits_of_rooms({"metering/lake/a/b.py": text, "tests/a.py": text, "infra/a.py": "pass\n"})
    assert found == {room: Counter(clause=2, negated=1) for room in ("metering/lake", "tests")}


def test_a_habit_more_is_found_and_slack_once_allowances_are_tight() -> None:
    allowed = {"a": {"clause": 5}, "b": {"clause": 5}}
    moved = {"a": Counter(clause=9), "b": Counter(clause=1)}
    assert over_allowance(moved, allowed, tight=False) == []
    assert over_allowance({**moved, "b": Counter(clause=2)}, allowed, tight=False) == ["all rooms: clause"]
    assert over_allowance(moved, allowed, tight=True) == [
        "a: clause",
        "b: clause, make it 1: python -m tests.words --lower",
    ]
    assert over_allowance({"a": Counter(clause=5), "b": Counter(clause=3)}, allowed, tight=True) == []


# Sentences that are drawn for a reader.


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

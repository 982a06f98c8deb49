"""Rooms stay within the budgets in their READMEs, and the table of rooms is correct; each of these checks can fail."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from tests import ROOT, words
from tests.size import (
    BEFORE,
    BESIDE,
    PAGE,
    Budget,
    Size,
    budget,
    compare,
    long_files,
    lowered,
    measure,
    measured,
    over_budget,
    raised_without_reason,
    read_blobs,
    read_revision,
    read_tree,
    readme_of,
    room_of,
    rooms,
    stale_rows,
    table,
)
from tests.support.with_each import with_each
from tests.words import ALLOWED, habits, habits_of_rooms, over_allowance

FILES = read_tree()
SIZES = {room: measure(texts) for room, texts in rooms(FILES).items()}
README = "# lake: rows become files\n\nBudget: 1,000 lines in 10 files.\n\nMore.\n"
ADDED = README.replace(" files.", " files; 120 lines in 1 file more for the filter direction.")
HERE = Size(files=10, lines=1_000, median=90, imports=80)


@with_each(SIZES)
def test_a_room_is_within_the_budget_of_its_readme(room: str) -> None:
    assert over_budget(room, SIZES[room], readme_of(room).read_text()) == []


@with_each(SIZES)
def test_a_file_over_800_lines_has_its_reason_in_the_readme(room: str) -> None:
    assert long_files(room, FILES, readme_of(room).read_text()) == []


@pytest.mark.parametrize("revision", ["HEAD", "HEAD~1"])
def test_no_budget_was_raised_without_a_reason(revision: str) -> None:
    before = read_blobs(revision, [f"{room}/README.md" for room in SIZES])
    now = {path: (ROOT / path).read_text() for path in before}
    raised = [path for path, text in before.items() if raised_without_reason(text, now[path])]
    assert raised == [], "say what the lines are for: Budget: …; 120 lines in 1 file more for …."


def test_the_table_of_rooms_is_the_one_that_the_command_writes() -> None:
    assert stale_rows(PAGE.read_text(), table(SIZES)) == [], "make size WRITE=1 writes it"


def test_a_room_that_grew_is_told_what_to_write() -> None:
    assert over_budget("metering/lake", Size(files=11, lines=1_030, median=90, imports=0), README, tight=False) == [
        "metering/lake/README.md: add what it grew for to its line Budget: …; 30 lines in 1 files more for …."
    ]
    assert over_budget("metering/lake", Size(files=11, lines=1_120, median=90, imports=0), ADDED) == []
    assert len(over_budget("metering/lake", Size(files=11, lines=1_121, median=90, imports=0), ADDED)) == 1
    assert len(over_budget("metering/lake", Size(files=12, lines=1_120, median=90, imports=0), ADDED)) == 1


@pytest.mark.parametrize(
    "line", ["", "Budget: 1,000 lines.", "Budget: 1,000 lines in 10 files; 120 lines in 1 file more for it."]
)
def test_a_budget_in_another_form_or_with_a_reason_of_a_word_is_none(line: str) -> None:
    assert budget(line) is None
    assert len(over_budget("metering/lake", HERE, line)) == 1


def test_a_budget_with_slack_is_found_once_budgets_are_tight() -> None:
    small = Size(files=10, lines=960, median=90, imports=0)
    assert over_budget("metering/lake", small, README, tight=False) == []
    assert over_budget("metering/lake", small, README, tight=True) == [
        "metering/lake became smaller than its budget: make size WRITE=1"
    ]
    assert over_budget("metering/lake", HERE, README, tight=True) == []


def test_a_budget_is_lowered_and_never_raised() -> None:
    assert budget(lowered(README, Size(files=9, lines=800, median=90, imports=0))) == Budget(
        lines=800, files=9, base_lines=800, additions=""
    )
    assert lowered(README, Size(files=9, lines=1_001, median=90, imports=0)) == README
    assert "Budget: 880 lines in 9 files; 120 lines in 1 file more for the filter direction.\n" in lowered(ADDED, HERE)


def test_a_budget_that_was_raised_needs_an_addition() -> None:
    assert raised_without_reason(README, README.replace("1,000", "1,001"))
    assert not raised_without_reason(README, ADDED)
    # Additions with a reason may become part of the figure.
    assert not raised_without_reason(ADDED, README.replace("1,000", "1,120"))


def test_a_file_of_801_lines_is_found_unless_its_room_says_why() -> None:
    files = {"metering/lake/a.py": "pass\n" * 800, "metering/lake/b.py": "pass\n" * 801, "tests/c.py": "pass\n" * 801}
    assert long_files("metering/lake", files, README) == ["metering/lake/b.py"]
    assert long_files("metering/lake", files, README + "Over 800 lines: `b.py`, because it is one table.\n") == []


def test_a_row_of_the_table_that_is_missing_too_much_or_wrong_is_found() -> None:
    written = table(SIZES)
    page = f"<!-- make size WRITE=1 -->\n{written}<!-- end -->\n"
    assert stale_rows(page, written, tight=True) == []
    room, size = next(iter(SIZES.items()))
    others = {name: each for name, each in SIZES.items() if name != room}
    row = f"[{room}](../{room}/README.md)"
    assert stale_rows(page, table(others), tight=False) == [row]
    assert stale_rows(page.replace(written, table(others)), written, tight=False) == [row]
    assert stale_rows(page.replace(f"{row} | ", f"{row} | Not "), written, tight=False) == [row]
    grown = table({**SIZES, room: Size(files=size.files, lines=size.lines * 2, median=size.median, imports=0)})
    assert stale_rows(page, grown, tight=False) == []
    assert stale_rows(page, grown, tight=True) == [row]


def test_sizes_count_as_they_say() -> None:
    text = "import a\nfrom b import (\n    c,\n)\n\n\ndef f() -> None:\n    import d\n"
    assert measure([text, "1\n"], imports=True) == Size(files=2, lines=9, median=8, imports=5)
    paths = ("metering/lake/a/b.py", "metering/units.py", "tests/unit/a.py")
    assert [room_of(path) for path in paths] == ["metering/lake", "metering", "tests"]


@pytest.mark.long
def test_the_sizes_kept_of_the_earlier_revision_are_its_own() -> None:
    if not (files := read_revision(BESIDE)):
        pytest.skip(f"this clone lacks {BESIDE}")
    assert measured(files) == BEFORE


def test_the_table_beside_a_revision_has_gone_rooms_and_totals_at_its_end() -> None:
    shown = compare({"b": HERE, "b, whole": HERE}, {"a": HERE}, "then").splitlines()
    assert [line.split("|")[0].strip() for line in shown[2:]] == ["a", "b", "b, whole"]
    assert shown[2].endswith("|-100.0%")


# The docstrings of a room have no more of the three habits than the room's allowance, which only shrinks.


def test_no_room_has_more_of_a_habit_than_it_is_allowed() -> None:
    assert over_allowance(habits_of_rooms(read_tree()), json.loads(ALLOWED.read_text())) == []


def test_no_allowance_was_raised() -> None:
    path = ALLOWED.relative_to(ROOT).as_posix()
    for text in read_blobs("HEAD", [path]).values():
        now = {room: Counter(each) for room, each in json.loads(ALLOWED.read_text()).items()}
        assert over_allowance(now, json.loads(text), tight=False) == []


@pytest.mark.parametrize(("docstring", "counted"), [
    ("What is no shard's own is the first one's.", {"clause": 1, "negated": 1}),
    ("Work that belongs to no shard is done by shard 0.", {}),
    ("One that is no text has no text and is left out.", {"clause": 1, "negated": 1}),
    ("A non-string attribute has no `stringValue`, or `what is no text`.", {}),
    ("Return what was read.\n\nThe one that it names is one of those that went on.", {"chain": 1}),
    ("The next tick resumes here, if it is there. There is no other.", {}),
    ("The tick is no longer late, and None if nothing came.", {}),
    ("Whether a file counts for the id of none, one after the other.", {"negated": 1}),
])  # fmt: skip
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
    lower = "b: clause, make it 1: python -m tests.words --lower"
    assert over_allowance(moved, allowed, tight=True) == ["a: clause", lower]
    assert over_allowance({"a": Counter(clause=5), "b": Counter(clause=3)}, allowed, tight=True) == []


# Sentences drawn for a reader.


def test_a_draw_has_equal_parts_and_can_be_made_again() -> None:
    """The same seed draws the same sentences; another seed draws other sentences."""
    drawn = words.draw(20261129, trees=("lambdas",))
    assert Counter(kind for kind, _, _ in drawn) == {"docstring": 10, "comment": 10, "document": 10, "help": 10}
    assert words.draw(20261129, trees=("lambdas",)) == drawn
    assert words.draw(1, trees=("lambdas",)) != drawn


def test_lists_tables_and_sections_are_no_part_of_a_sentence() -> None:
    """A list item is a paragraph of its own, and table rows are omitted."""
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

"""Files without AWS's name: the same content is counted once, and of a file that grew only what is new."""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING

import pytest

from metering.onramps.ingest.growth import Note
from tests.support.small_logs import small_file
from tests.unit.onramps.ingest.test_taking import LINES, Stage, T

if TYPE_CHECKING:
    from metering.onramps.ingest.taking import Taken

KEY = "var/log/app.txt"
MORE = (("i-1", 11, T, T + 90), ("i-9", 5, T, T + 90))


@pytest.fixture
def stage() -> Stage:
    return Stage()


def total(stage: Stage) -> int:
    """Bytes of all batches that were sent, each id once, as the ledger counts them."""
    batches = {message["batch_id"]: stage.rows(message) for message in stage.sent()}
    return sum(int(str(row["bytes"])) for rows in batches.values() for row in rows)


def reason(taken: Taken) -> str:
    assert taken.problem is not None
    return taken.problem[0]


def test_the_content_is_the_identity_wherever_the_file_lies_and_however_it_is_packed(stage: Stage) -> None:
    stage.put(*LINES, key=KEY)
    stage.logs.put("copy.txt", gzip.compress(small_file(*LINES)), if_absent=False)
    one, other = stage.take(KEY), stage.take("copy.txt")
    assert one.plan is not None
    assert one.plan.identity.startswith("sha256:")
    assert (one.verdict, other.verdict, one.plan) == ("metered", "repeated", other.plan)
    assert total(stage) == 157


def test_a_file_that_only_grew_is_refused_without_append(stage: Stage) -> None:
    stage.put(*LINES, key=KEY)
    stage.take(KEY)
    stage.put(*LINES, *MORE, key=KEY)
    taken = stage.take(KEY)
    assert (taken.verdict, reason(taken)) == ("refused", "grew")
    assert taken.problem is not None
    assert "--append" in taken.problem[1]
    assert total(stage) == 157


def test_with_append_only_the_new_complete_lines_are_metered(stage: Stage) -> None:
    stage.put(*LINES, key=KEY)
    stage.take(KEY)
    stage.logs.put(KEY, small_file(*LINES, *MORE) + b"i-1 1000 17", if_absent=False)
    taken = stage.take(KEY, append=True)
    assert taken.verdict == "metered"
    assert taken.plan is not None
    assert taken.plan.balance.holds
    assert (taken.plan.balance.lines, taken.plan.balance.header, taken.plan.balance.metered_bytes) == (2, 0, 16)
    assert stage.take(KEY, append=True).verdict == "repeated"
    assert total(stage) == 173


def test_the_same_line_appended_twice_counts_twice(stage: Stage) -> None:
    for times in range(4):
        stage.put(*LINES, *MORE[:1] * times, key=KEY)
        stage.take(KEY, append=True)
    assert total(stage) == 157 + 33


def test_a_copy_of_the_grown_file_elsewhere_is_counted_no_more(stage: Stage) -> None:
    stage.put(*LINES, key=KEY)
    stage.take(KEY)
    stage.put(*LINES, *MORE, key=KEY)
    stage.take(KEY, append=True)
    stage.put(*LINES, *MORE, key="copy.txt")
    assert stage.take("copy.txt").verdict == "repeated"
    stage.put(*LINES, *MORE, ("i-1", 1, T, T), key="copy.txt")
    stage.take("copy.txt", append=True)
    assert total(stage) == 174


def test_a_line_that_was_not_complete_cannot_be_appended_to(stage: Stage) -> None:
    stage.logs.put(KEY, small_file(*LINES)[:-1], if_absent=False)
    stage.take(KEY)
    stage.put(*LINES, *MORE, key=KEY)
    taken = stage.take(KEY, append=True)
    assert reason(taken) == "grew"
    assert taken.problem is not None
    assert "not complete" in taken.problem[1]


def test_append_from_the_beginning_leaves_the_line_that_is_not_complete(stage: Stage) -> None:
    stage.logs.put(KEY, small_file(*LINES)[:-1], if_absent=False)
    stage.take(KEY, append=True)
    stage.put(*LINES, *MORE, key=KEY)
    stage.take(KEY, append=True)
    assert total(stage) == 173


@pytest.mark.parametrize("append", [False, True])
def test_a_file_that_changed_otherwise_is_refused_in_words(stage: Stage, append: bool) -> None:
    stage.put(*LINES, key=KEY)
    stage.take(KEY)
    stage.put(("i-1", 101, T, T + 60), *LINES[1:], *MORE, key=KEY)
    assert reason(stage.take(KEY, append=append)) == "changed_since"
    stage.put(*LINES[:1], key=KEY)
    assert reason(stage.take(KEY, append=append)) == "changed_since"
    assert total(stage) == 157


def test_a_file_of_which_nothing_was_sent_may_change(stage: Stage) -> None:
    stage.put("x", key=KEY)
    taking = stage.ingest()
    note = _note(stage)
    stage.objects.put(note.key, note.encode(), if_absent=True)
    stage.put(*LINES, key=KEY)
    assert taking.take(stage.logs, KEY).verdict == "metered"
    assert total(stage) == 157


def test_whoever_died_after_the_note_is_followed_before_what_was_appended_since(stage: Stage) -> None:
    stage.put(*LINES, key=KEY)
    died = Stage()
    died.put(*LINES, key=KEY)
    died.take(KEY)
    (key,) = died.objects.keys("plans/places/")
    note = Note.decode(died.objects.peek(key) or b"")
    unsent = Note(**{name: getattr(note, name) for name in note.__slots__ if name != "sent"}, sent=False)
    stage.objects.put(key, unsent.encode(), if_absent=True)
    stage.put(*LINES, *MORE, key=KEY)
    taken = stage.take(KEY, append=True)
    assert taken.plan is not None
    assert taken.plan.from_byte == note.until_byte
    assert total(stage) == 173


def _note(stage: Stage) -> Note:
    return Note(
        place=f"{stage.logs.place}{KEY}",
        number=0,
        from_byte=0,
        until_byte=3,
        content_sha256="0" * 64,
        after="",
        whole_lines=True,
    )

"""Files without an AWS name: equal content is counted once, and a grown or changed file is refused."""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import replace

import pytest

from metering.onramps.ingest.places import Note
from metering.onramps.ingest.planning import part_key
from metering.onramps.reading import identity_by_content
from tests.support.small_logs import plan_of, reason_of, small_file
from tests.unit.onramps.ingest.test_taking import LINES, Stage, T

KEY = "var/log/app.txt"
MORE = (("i-1", 11, T, T + 90), ("i-9", 5, T, T + 90))


@pytest.fixture
def stage() -> Stage:
    return Stage()


def total(stage: Stage) -> int:
    """Bytes of all sent batches, each id once, as the ledger counts them."""
    batches = {message["batch_id"]: stage.rows(message) for message in stage.sent()}
    return sum(row["bytes"] for rows in batches.values() for row in rows)


def test_the_content_is_the_identity_wherever_the_file_lies_and_however_it_is_packed(stage: Stage) -> None:
    stage.put(*LINES, key=KEY)
    stage.logs.put("copy.txt", gzip.compress(small_file(*LINES)), if_absent=False)
    one, other = stage.take(KEY), stage.take("copy.txt")
    assert plan_of(one).identity.startswith("sha256:")
    assert (one.verdict, other.verdict, one.plan) == ("metered", "repeated", other.plan)
    assert total(stage) == 157


def test_a_file_that_grew_is_refused_and_its_new_lines_are_taken_as_a_file_of_their_own(stage: Stage) -> None:
    stage.put(*LINES, key=KEY)
    stage.take(KEY)
    stage.put(*LINES, *MORE, key=KEY)
    taken = stage.take(KEY)
    assert taken.verdict == "refused"
    assert taken.problem == (
        "grew",
        "it has 57 more bytes than when it was taken; take its first 111 bytes once more, and the others as a file of "
        "their own",
    )
    stage.put(*LINES, key=KEY)
    stage.put(*MORE, key="rest.txt")
    assert [stage.take(key).verdict for key in (KEY, "rest.txt")] == ["repeated", "metered"]
    assert total(stage) == 157 + 16


def test_a_file_that_changed_otherwise_is_refused_in_words(stage: Stage) -> None:
    stage.put(*LINES, key=KEY)
    stage.take(KEY)
    stage.put(("i-1", 101, T, T + 60), *LINES[1:], *MORE, key=KEY)
    assert reason_of(stage.take(KEY)) == "changed_since"
    stage.put(*LINES[:1], key=KEY)
    assert reason_of(stage.take(KEY)) == "changed_since"
    assert total(stage) == 157


def test_a_file_that_was_empty_may_be_filled(stage: Stage) -> None:
    stage.logs.put(KEY, b"", if_absent=False)
    stage.take(KEY)
    stage.put(*LINES, key=KEY)
    assert [stage.take(KEY).verdict for _ in range(2)] == ["metered", "repeated"]
    assert total(stage) == 157


def test_a_file_of_which_nothing_was_sent_may_change(stage: Stage) -> None:
    begun(stage, small_file("x"))
    stage.put(*LINES, key=KEY)
    assert stage.take(KEY).verdict == "metered"
    assert total(stage) == 157


def test_a_file_that_grew_while_somebody_may_send_it_is_refused(stage: Stage) -> None:
    begun(stage, small_file(*LINES))
    stage.put(*LINES, *MORE, key=KEY)
    assert reason_of(stage.take(KEY)) == "grew"
    stage.put(*LINES, key=KEY)
    assert stage.take(KEY).verdict == "metered"
    assert total(stage) == 157


def test_what_release_0_2_0_appended_to_a_file_is_sent_again_from_its_parts(stage: Stage) -> None:
    stage.put(*LINES, key=KEY)
    stage.take(KEY)
    identity = append_as_0_2_0(stage)
    for key in (KEY, "copy.txt"):
        stage.put(*LINES, *MORE, key=key)
        taken = stage.take(key)
        assert (taken.verdict, plan_of(taken).identity, taken.messages) == ("repeated", identity, 1)
    assert total(stage) == 157 + 16


def test_what_release_0_2_0_began_to_append_and_never_planned_is_refused(stage: Stage) -> None:
    stage.put(*LINES, key=KEY)
    stage.take(KEY)
    begun(stage, small_file(*LINES, *MORE), number=1, from_byte=len(small_file(*LINES)))
    stage.put(*LINES, *MORE, key=KEY)
    assert reason_of(stage.take(KEY)) == "grew"
    stage.put(("i-1", 101, T, T + 60), key=KEY)
    assert reason_of(stage.take(KEY)) == "changed_since"
    assert total(stage) == 157


def begun(stage: Stage, content: bytes, *, number: int = 0, from_byte: int = 0, sent: bool = False) -> None:
    """Put the note that a process puts before it plans a file."""
    note = Note(
        place=f"{stage.logs.place}{KEY}",
        number=number,
        until_byte=len(content),
        content_sha256=hashlib.sha256(content).hexdigest(),
        whole_lines=True,
        from_byte=from_byte,
        sent=sent,
    )
    stage.objects.put(note.key, note.to_json(), if_absent=True)


def append_as_0_2_0(stage: Stage) -> str:
    """Store what 0.2.0 stored when it appended MORE to a file of LINES; returns the identity of the appended lines."""
    made = Stage()
    made.put(*MORE, key=KEY)
    rest = plan_of(made.take(KEY))
    before, content = small_file(*LINES), small_file(*LINES, *MORE)
    sha256 = hashlib.sha256(content).hexdigest()
    plan = replace(
        rest,
        identity=identity_by_content(sha256),
        content_sha256=sha256,
        parts=tuple(part._replace(batch_id=f"{identity_by_content(sha256)}/0") for part in rest.parts),
        from_byte=len(before),
        after=identity_by_content(hashlib.sha256(before).hexdigest()),
    )
    for old, new in zip(rest.parts, plan.parts, strict=True):
        stage.objects.put(part_key(plan.identity, new), made.objects.get(part_key(rest.identity, old)), if_absent=True)
    stage.objects.put(plan.key, plan.to_json(), if_absent=True)
    begun(stage, content, number=1, from_byte=plan.from_byte, sent=True)
    return plan.identity

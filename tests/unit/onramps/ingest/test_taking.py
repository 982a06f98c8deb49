"""A log file of any kind results in a plan, parts and messages, and in the same ones if the file arrives again."""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from metering.errors import OperationFailedError
from metering.onramps.context.document import Context
from metering.onramps.ingest.planning import part_key
from metering.onramps.ingest.taking import Note, Taken
from metering.onramps.plans import Plan
from metering.onramps.reading import FileName, identity_by_content
from metering.onramps.sources import Bills
from metering.quarantine.documents import QuarantinedLog
from metering.quarantine.entries import QuarantineEntries
from metering.reports.operators.quarantine_answer import entry_answer
from metering.units import DAY_S, HOUR_S
from tests.support.memory.items import MemoryItemStore
from tests.support.small_logs import NEEDS_CONTEXT, SMALL, Contexts, LogStage, plan_of, reason_of, small_file

if TYPE_CHECKING:
    from metering.onramps.kinds import LogKind

T = 1_796_083_200  # a full hour
KEY, REPLICA = "AWSLogs/small_1.log", "replica/small_1.log"
LINES = (("i-1", 100, T, T + 60), ("z:a", 50, T, T + 60), ("i-2", 7, T + HOUR_S, T + HOUR_S + 1))


class Stage(LogStage):
    """A stage for the small kind of log; ingests `KEY` by default."""

    def __init__(self, kind: LogKind = SMALL) -> None:
        super().__init__(kind, context=Context(sha256="a" * 64, effective_s=T), now_s=T + 2 * HOUR_S)

    def put(self, *lines: tuple[str, int, int, int] | str, key: str = KEY) -> None:
        super().put(*lines, key=key)

    def take(self, key: str = KEY, content: bytes | None = None, **options: object) -> Taken:
        return super().take(key, content, **options)

    def took_first(self) -> list[dict[str, Any]]:
        """Put a file and its replica, ingest the file, and return the messages."""
        for key in (KEY, REPLICA):
            self.put(*LINES, key=key)
        self.take()
        return self.sent()


@pytest.fixture
def stage() -> Stage:
    return Stage()


def test_a_file_becomes_one_message_that_points_to_its_sorted_records(stage: Stage) -> None:
    stage.put(*LINES)
    taken = stage.take()
    (message,) = stage.sent()
    assert (taken.verdict, taken.messages, taken.place) == ("metered", 1, f"s3://acme-logs/{KEY}")
    assert (message["schema"], message["batch_id"]) == ("metering.batch/1", "small:small_1.log/0")
    assert "source_id" not in message
    rows = stage.rows(message)
    assert message["record_count"] == len(rows) == 3
    assert [(row["resource_id"], row["to"], row["bytes"], row["start"], row["end"]) for row in rows] == [
        ("i-1", "internet", 100, T, T + 60),
        ("i-2", "internet", 7, T + HOUR_S, T + HOUR_S + 1),
        ("z:a", "us-east-1/aaaa", 50, T, T + 60),
    ]
    assert {row["usage_type"] for row in rows} == {None}


def test_a_plan_is_read_as_it_was_written(stage: Stage) -> None:
    stage.put(*LINES, "broken", ("s-1", 2**70, T, T + 1))
    plan = plan_of(stage.take())
    body = stage.objects.get(plan.key)
    assert Plan.from_json(body) == plan
    assert plan.contexts == {T: "a" * 64}
    assert plan.balance.holds
    assert plan.shadowed == (("fl-broad", 1, 2**70),)


def test_a_file_that_comes_again_sends_the_same_messages_and_puts_nothing(stage: Stage) -> None:
    stage.put(*LINES)
    stage.take()
    first, keys = stage.sent(), stage.objects.keys()
    assert stage.take().verdict == "repeated"
    assert (stage.sent(), stage.objects.keys()) == (first, keys)


def test_a_copy_elsewhere_is_the_same_file(stage: Stage) -> None:
    first = stage.took_first()
    assert stage.take(REPLICA).verdict == "repeated"
    assert stage.sent() == first


def test_a_file_that_comes_again_is_judged_by_the_contexts_of_its_plan(stage: Stage) -> None:
    first = stage.took_first()
    stage.contexts.put(Context(sha256="b" * 64, effective_s=T))
    for key in stage.objects.keys("ingest/"):
        stage.objects.remove(key)
    assert stage.take(REPLICA).verdict == "repeated"
    (again,) = stage.sent()
    assert [again] == first
    assert stage.rows(again)[2]["to"] == "us-east-1/aaaa"


def test_each_hour_is_judged_by_the_context_that_holds_then_and_the_plan_pins_those_that_judged(stage: Stage) -> None:
    versions = [(T - HOUR_S, "9"), (T, "a"), (T + HOUR_S, "b"), (T + 2 * HOUR_S, "c")]
    stage.contexts = Contexts(*((at_s, Context(sha256=name * 64, effective_s=at_s)) for at_s, name in versions))
    stage.put(("z:1", 5, T, T + 1), ("z:2", 6, T + HOUR_S, T + HOUR_S + 1))
    plan = plan_of(stage.take())
    assert plan.contexts == {T: "a" * 64, T + HOUR_S: "b" * 64}
    (message,) = stage.sent()
    assert [row["to"] for row in stage.rows(message)] == ["us-east-1/aaaa", "us-east-1/bbbb"]


def test_a_file_whose_context_is_gone_is_refused_in_words(stage: Stage) -> None:
    stage.took_first()
    stage.contexts.lost.add("a" * 64)
    taken = stage.take(REPLICA)
    assert taken.problem is not None
    assert (taken.verdict, taken.problem[0]) == ("refused", "no_context")
    assert "put that context back" in taken.problem[1]
    assert not stage.sent()


def test_other_content_under_the_same_name_goes_out_under_the_same_id(stage: Stage) -> None:
    stage.put(*LINES)
    stage.take()
    (first,) = stage.sent()
    stage.put(("i-1", 101, T, T + 60), *LINES[1:])
    taken = stage.take()
    (second,) = stage.sent()
    assert taken.verdict == "conflict"
    assert first["batch_id"] == second["batch_id"]
    assert first["location"] != second["location"]
    assert stage.rows(second)[0]["bytes"] == 101
    assert not taken.quarantine_key


@pytest.mark.parametrize(("before", "after"), [((), LINES), (LINES, ())], ids=["was empty", "is empty"])
def test_content_without_an_id_in_the_plan_is_kept_by_reference_and_never_sent(
    stage: Stage, before: tuple[tuple[str, int, int, int], ...], after: tuple[tuple[str, int, int, int], ...]
) -> None:
    stage.put(*before)
    stage.take()
    stage.sent()
    stage.put(*after)
    taken = stage.take()
    assert (taken.verdict, taken.messages, stage.sent()) == ("conflict", 0, [])
    body = stage.objects.get(taken.quarantine_key)
    assert QuarantinedLog.from_json(body).refusals == (("changed_since", 0, 0),)


def test_parts_that_are_stored_are_sent_as_they_are_stored(stage: Stage) -> None:
    (first,) = stage.took_first()
    location = first["location"]
    # Another version of pyarrow would have written different bytes, such as these.
    stage.objects.put(location["key"], b"PAR1 of another version", if_absent=False)
    stage.take(REPLICA)
    (again,) = stage.sent()
    assert again["location"] == location
    assert again["sha256"] == hashlib.sha256(b"PAR1 of another version").hexdigest()


def test_a_file_without_traffic_is_planned_and_sends_nothing(stage: Stage) -> None:
    stage.put("nodata", "nodata")
    taken = stage.take()
    assert (taken.verdict, taken.messages, stage.sent()) == ("empty", 0, [])
    assert plan_of(taken).balance.nodata == 2


def test_refused_lines_are_kept_once_with_number_text_and_reason(stage: Stage) -> None:
    stage.put(*LINES, "one two", ("x-1", 9, T, T + 1))
    stage.take()
    (key,) = stage.objects.keys("quarantine/")
    body = stage.objects.get(key)
    kept = QuarantinedLog.from_json(body, key)
    assert (kept.key, kept.kind, kept.place) == (key, "lines", f"s3://acme-logs/{KEY}")
    lines = [(line.number, line.reason, line.bytes) for line in kept.lines]
    assert lines == [(0, "invalid_value", 9), (5, "field_count", 0)]
    assert kept.lines[1].text == "one two"
    stage.take()
    assert stage.objects.keys("quarantine/") == (key,)


def test_a_file_with_an_unknown_name_is_refused_by_reference(stage: Stage) -> None:
    stage.logs.put("odd name?.log", b"whatever", if_absent=False)
    first, again = stage.take("odd name?.log"), stage.take("odd name?.log")
    assert first.verdict == "refused"
    assert reason_of(first) == "unknown_name"
    assert first == again
    assert stage.objects.keys() == (first.quarantine_key,)


def test_what_is_refused_of_log_files_is_listed_shown_and_sent_back_to_ingest(stage: Stage) -> None:
    stage.put(*LINES, "one two")
    stage.logs.put("odd.log", b"whatever", if_absent=False)
    stage.take()
    stage.take("odd.log")
    entries = QuarantineEntries(
        items=MemoryItemStore(), objects=stage.objects, queue=stage.queue, clock=stage.clock, bucket="data",
        marker_life_s=1,
    )  # fmt: skip
    found = {entry.kind: entry for entry in entries.entries()}
    assert found["lines"].batch_id == "small:small_1.log"
    assert found["lines"].reasons == {"field_count": 1}
    assert found["file"].batch_id == "s3://acme-logs/odd.log"
    assert entries.find("s3://acme-logs/odd.log") == (found["file"],)
    assert entries.find("small:small_1.log") == (found["lines"],)
    answer = entry_answer([found["lines"], found["file"]])
    assert [(row["position"], row["raw"]) for row in answer.rows] == [(5, "one two"), (None, "s3://acme-logs/odd.log")]
    for entry, why, cure in (
        (found["file"], "read again where it lies", "metering ingest s3://acme-logs/odd.log"),
        (found["lines"], "its plan holds", "metering ingest FILE --kind small"),
    ):
        with pytest.raises(OperationFailedError, match=why) as error:
            entries.retry(entry)
        assert cure in error.value.advice


def test_a_file_that_is_not_there_or_was_replaced_is_refused(stage: Stage) -> None:
    stage.put(*LINES)
    problems = [stage.take("small_9.log").problem, stage.take(etag='"other"').problem]
    assert [problem and problem[0] for problem in problems] == ["missing", "changed_while_read"]


def test_without_a_context_that_lists_flow_logs_a_flow_log_is_refused() -> None:
    stage = Stage(kind=NEEDS_CONTEXT)
    stage.put(*LINES)
    problem = stage.take().problem
    assert problem is not None
    assert problem[0] == "no_context"
    assert "--no-context fl-small" in problem[1]
    assert stage.take(without_context_flow_log="fl-other").verdict == "refused"
    assert stage.take(without_context_flow_log="fl-small").verdict == "metered"


def test_a_file_that_is_older_than_the_window_is_refused_before_it_is_planned(stage: Stage) -> None:
    stage.put(*LINES)
    stage.clock.advance_s(40 * DAY_S)
    taken = stage.ingest(window_s=35 * DAY_S).take(stage.logs, KEY)
    assert reason_of(taken) == "too_old"
    assert not stage.objects.keys("plans/")


def test_a_planned_file_that_other_rules_judge_otherwise_is_never_sent_anew(stage: Stage) -> None:
    first = stage.took_first()
    judged = SMALL.classifier

    class Elsewhere:
        def outcome(self, subject: str, hour_s: int) -> object:
            return judged(None, stage.contexts.timeline()).outcome(f"?{subject}", hour_s)  # type: ignore[arg-type]  # unused

    stage.kinds = (replace(SMALL, classifier=lambda _name, _timeline: Elsewhere(), rules="small/2"),)  # type: ignore[arg-type,return-value]  # as above
    assert stage.take(REPLICA).verdict == "repeated"
    assert stage.sent() == first
    for key in stage.objects.keys("ingest/"):
        stage.objects.remove(key)
    taken = stage.take(REPLICA)
    assert reason_of(taken) == "other_rules"
    # The service is asked for the outcome.
    for booked, verdict in ((False, "refused"), (True, "repeated")):
        ingest = stage.ingest(is_booked=lambda _batch_id, booked=booked: booked)
        assert ingest.take(stage.logs, REPLICA).verdict == verdict
    assert not stage.sent()


def test_the_only_account_that_may_be_billed_stands_in_for_a_name_without_one() -> None:
    nameless = replace(SMALL, recognise=_without_account)
    stage = Stage(kind=nameless)
    stage.put(*LINES)
    plan = plan_of(stage.take(bills=Bills.listed(["111111111111"])))
    assert plan.account_id == "111111111111"


def _without_account(key: str) -> FileName | None:
    name = SMALL.recognise(key)
    return name and replace(name, account_id="")


PLACE = "var/log/app.txt"
MORE = (("i-1", 11, T, T + 90), ("i-9", 5, T, T + 90))


def total(stage: Stage) -> int:
    """Bytes of all sent batches; each batch id is counted once, as in the ledger."""
    batches = {message["batch_id"]: stage.rows(message) for message in stage.sent()}
    return sum(row["bytes"] for rows in batches.values() for row in rows)


def test_the_content_is_the_identity_wherever_the_file_lies_and_however_it_is_packed(stage: Stage) -> None:
    stage.put(*LINES, key=PLACE)
    stage.logs.put("copy.txt", gzip.compress(small_file(*LINES)), if_absent=False)
    one, other = stage.take(PLACE), stage.take("copy.txt")
    assert plan_of(one).identity.startswith("sha256:")
    assert (one.verdict, other.verdict, one.plan) == ("metered", "repeated", other.plan)
    assert total(stage) == 157


def test_a_file_that_grew_is_refused_and_its_new_lines_are_taken_as_a_file_of_their_own(stage: Stage) -> None:
    stage.put(*LINES, key=PLACE)
    stage.take(PLACE)
    stage.put(*LINES, *MORE, key=PLACE)
    taken = stage.take(PLACE)
    assert taken.verdict == "refused"
    advice = "take its first 111 bytes once more, and the others as a file of their own"
    assert taken.problem == ("grew", f"it has 57 more bytes than when it was taken; {advice}")
    stage.put(*LINES, key=PLACE)
    stage.put(*MORE, key="rest.txt")
    assert [stage.take(key).verdict for key in (PLACE, "rest.txt")] == ["repeated", "metered"]
    assert total(stage) == 157 + 16


def test_a_file_that_changed_otherwise_is_refused_in_words(stage: Stage) -> None:
    stage.put(*LINES, key=PLACE)
    stage.take(PLACE)
    stage.put(("i-1", 101, T, T + 60), *LINES[1:], *MORE, key=PLACE)
    assert reason_of(stage.take(PLACE)) == "changed_since"
    stage.put(*LINES[:1], key=PLACE)
    assert reason_of(stage.take(PLACE)) == "changed_since"
    assert total(stage) == 157


@pytest.mark.parametrize("was", ["empty", "begun"])
def test_a_file_that_was_empty_or_of_which_nothing_was_sent_may_change(stage: Stage, was: str) -> None:
    if was == "empty":
        stage.take(PLACE, b"")
    else:
        begun(stage, small_file("x"))
    stage.put(*LINES, key=PLACE)
    assert [stage.take(PLACE).verdict for _ in range(2)] == ["metered", "repeated"]
    assert total(stage) == 157


def test_a_file_that_grew_while_somebody_may_send_it_is_refused(stage: Stage) -> None:
    begun(stage, small_file(*LINES))
    stage.put(*LINES, *MORE, key=PLACE)
    assert reason_of(stage.take(PLACE)) == "grew"
    stage.put(*LINES, key=PLACE)
    assert stage.take(PLACE).verdict == "metered"
    assert total(stage) == 157


def test_what_release_0_2_0_appended_to_a_file_is_sent_again_from_its_parts(stage: Stage) -> None:
    stage.put(*LINES, key=PLACE)
    stage.take(PLACE)
    identity = append_as_0_2_0(stage)
    for key in (PLACE, "copy.txt"):
        stage.put(*LINES, *MORE, key=key)
        taken = stage.take(key)
        assert (taken.verdict, plan_of(taken).identity, taken.messages) == ("repeated", identity, 1)
    assert total(stage) == 157 + 16


def test_what_release_0_2_0_began_to_append_and_never_planned_is_refused(stage: Stage) -> None:
    stage.put(*LINES, key=PLACE)
    stage.take(PLACE)
    begun(stage, small_file(*LINES, *MORE), number=1, from_byte=len(small_file(*LINES)))
    stage.put(*LINES, *MORE, key=PLACE)
    assert reason_of(stage.take(PLACE)) == "grew"
    stage.put(("i-1", 101, T, T + 60), key=PLACE)
    assert reason_of(stage.take(PLACE)) == "changed_since"
    assert total(stage) == 157


def begun(stage: Stage, content: bytes, *, number: int = 0, from_byte: int = 0, sent: bool = False) -> None:
    """Put the note that precedes a file's plan."""
    note = Note(
        place=f"{stage.logs.place}{PLACE}", number=number, until_byte=len(content), from_byte=from_byte, sent=sent,
        content_sha256=hashlib.sha256(content).hexdigest(), whole_lines=True,
    )  # fmt: skip
    stage.objects.put(note.key, note.to_json(), if_absent=True)


def append_as_0_2_0(stage: Stage) -> str:
    """Store what release 0.2.0 stored after MORE was appended to a file of LINES; return the identity of MORE."""
    made = Stage()
    made.put(*MORE, key=PLACE)
    rest = plan_of(made.take(PLACE))
    before, content = small_file(*LINES), small_file(*LINES, *MORE)
    sha256 = hashlib.sha256(content).hexdigest()
    plan = replace(
        rest, identity=identity_by_content(sha256), content_sha256=sha256, from_byte=len(before),
        parts=tuple(part._replace(batch_id=f"{identity_by_content(sha256)}/0") for part in rest.parts),
        after=identity_by_content(hashlib.sha256(before).hexdigest()),
    )  # fmt: skip
    for old, new in zip(rest.parts, plan.parts, strict=True):
        stage.objects.put(part_key(plan.identity, new), made.objects.get(part_key(rest.identity, old)), if_absent=True)
    stage.objects.put(plan.key, plan.to_json(), if_absent=True)
    begun(stage, content, number=1, from_byte=plan.from_byte, sent=True)
    return plan.identity

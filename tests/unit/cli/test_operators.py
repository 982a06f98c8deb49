"""The announcements of operators' commands before a change, and the audit line of each command."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import pytest

from metering.billing.freezing import PeriodNotClosableError
from metering.cli.commands.analyst import periods
from metering.cli.commands.operator import dlq, quarantine
from metering.cli.commands.operator.quarantine import list_, retry, show, show_batch
from metering.cli.commands.operator.status import audit
from metering.cli.dead_letter_reader import DeadLetterReader
from metering.cli.failures import CommandFailedError, WrongUsageError, wrong_options
from metering.cli.printing.output import Format
from metering.errors import OperationFailedError
from metering.ledger.booked_hours import totals_value
from metering.ledger.markers import marker_key
from metering.ledger.notes.deeds import DeedState
from metering.operations.dead_letters import DeadLetter, RedriveEffect
from metering.reports.time_range import InvalidParametersError
from metering.stores.queues import Delivery
from metering.stores.writes import Put, Table
from metering.usage.totals import Total
from tests.support.command_line import HereSession, OperatorSession
from tests.support.lake_world import HOUR, World, record
from tests.support.usage_items import change, usage_of
from tests.unit.audit.test_reconcile import world_with_traffic
from tests.unit.billing.test_checklist import MONTH, October
from tests.unit.operations.test_dead_letters import Setup, body
from tests.unit.reports.batches.test_story import BATCH, world_with_batch


def test_closing_a_month_says_that_it_is_for_good_and_its_figures_in_the_trail(
    capsys: pytest.CaptureFixture[str],
) -> None:
    session = OperatorSession(October().world)
    periods.period_close(session, MONTH)
    assert f"{MONTH} never changes again" in capsys.readouterr().err
    [deed] = session.trail()
    assert (deed.what, deed.subject, deed.state) == ("period close", MONTH, DeedState.OK)
    assert deed.result == "closed, 2 hours, 2 records"


def test_a_month_that_cannot_be_closed_is_refused_before_the_question_and_leaves_no_line() -> None:
    session = OperatorSession(October().world)
    with pytest.raises(PeriodNotClosableError):
        periods.period_close(session, "2026-11")
    assert session.trail() == []


def test_a_close_that_fails_leaves_a_line_that_failed() -> None:
    world = October().world
    change(world.items, usage_of(world.items, MONTH)[0], 1)
    session = OperatorSession(world)
    with pytest.raises(PeriodNotClosableError, match="differ"):
        periods.period_close(session, MONTH)
    assert [deed.state for deed in session.trail()] == [DeedState.FAILED]


def test_a_dead_letter_refuses_the_close_unless_it_is_accepted_and_the_trail_says_that_it_was() -> None:
    session = OperatorSession(October().world)
    session.here.dead_letters.send_many(["x"])
    with pytest.raises(PeriodNotClosableError, match="--accept"):
        periods.period_close(session, MONTH, accept=["freshness"])
    assert session.trail() == []
    periods.period_close(session, MONTH, accept=["freshness", "dead-letters"])
    [deed] = session.trail()
    assert "Accepted although it blocks: freshness, dead-letters." in deed.consequence


def test_nobody_closes_a_month_without_consent() -> None:
    world = October().world
    session = OperatorSession(world, agreed=False)
    with pytest.raises(WrongUsageError, match="--yes"):
        periods.period_close(session, MONTH)
    assert session.trail() == []
    assert world.jobs.closer.frozen(MONTH) is None


def test_a_rebuild_names_the_figure_that_it_repaired_to_people_to_programs_and_in_the_trail(
    capsys: pytest.CaptureFixture[str],
) -> None:
    world = world_with_traffic()
    entry = usage_of(world.items)[0]
    after = world.usage()[entry.key]
    change(world.items, entry, -3, 2)
    session = OperatorSession(world)
    # The commands use the machine's clock, but the test world has its own clock.
    periods.rebuild_usage(session, "2026-11", "2026-12")
    out, err = capsys.readouterr()
    said = f"{after.bytes - 3:,} -> {after.bytes:,} bytes, {after.records + 2:,} -> {after.records:,} records"
    assert said in err
    document = json.loads(out)
    assert document["repaired"] == 1
    [repair] = document["repairs"]
    assert (repair["bytes_before"], repair["bytes_after"]) == (str(after.bytes - 3), str(after.bytes))
    assert session.here.billing == ["on demand", "as before"]
    [deed] = session.trail()
    assert said in deed.result
    assert deed.subject == "--from 2026-11 --to 2026-12"


def refused_world() -> World:
    world = World()
    for _ in range(2):
        world.send([record(1), {**record(5), "account_id": "x"}])
    world.send([{**record(5), "account_id": "x"}])
    return world


def test_a_retry_says_how_many_entries_and_records_it_sends_and_sends_them(capsys: pytest.CaptureFixture[str]) -> None:
    session = OperatorSession(refused_world())
    quarantine.retry(session, reason="invalid_account_id")
    told = capsys.readouterr().err
    assert "3 of 3 entries, with 3 records as far as is known, go into the ingest queue again" in told
    assert len(session.here.ingest.bodies()) == 3
    [deed] = session.trail()
    assert (deed.subject, deed.result) == ("--reason invalid_account_id", "3 of 3 entries sent again")


def test_a_retry_that_is_only_tried_sends_nothing_and_leaves_no_line(capsys: pytest.CaptureFixture[str]) -> None:
    session = OperatorSession(refused_world(), agreed=False)
    quarantine.retry(session, reason="invalid_account_id", dry_run=True)
    assert len(json.loads(capsys.readouterr().out)["rows"]) == 3
    assert session.here.ingest.bodies() == []
    assert session.trail() == []


def test_what_cannot_be_sent_again_is_told_before_the_question(capsys: pytest.CaptureFixture[str]) -> None:
    session = OperatorSession(refused_world())
    with pytest.raises(CommandFailedError, match="1 of 1 could not be sent again"):
        quarantine.retry(session, name="batch-2", as_new_id=True)
    assert "Send it without --as-new-id" in capsys.readouterr().err
    assert session.trail() == []


@pytest.mark.parametrize("words", ["list", "retry"])
def test_a_reason_that_does_not_exist_is_refused_with_the_nearest_and_all_others(words: str) -> None:
    commands: dict[str, Callable[..., None]] = {"list": quarantine.list_, "retry": quarantine.retry}
    command = commands[words]
    with pytest.raises(InvalidParametersError) as refused_:
        command(OperatorSession(World()), reason="invalid_acount")
    told = wrong_options(refused_.value)
    assert str(told).startswith("--reason invalid_acount is not a reason")
    assert "Nearest: invalid_account, invalid_account_id" in told.advice
    for reason in ("too_late", "conflict", "not_json"):
        assert reason in told.advice


def test_the_audit_shows_the_newest_deed_first_or_one_command_or_family(capsys: pytest.CaptureFixture[str]) -> None:
    session = OperatorSession(October().world)
    periods.rebuild_markers(session)
    assert session.here.billing == ["on demand", "as before"]
    periods.period_close(session, MONTH)
    capsys.readouterr()
    for what, shown in ((None, ["period close", "rebuild markers"]), ("period", ["period close"]), ("dlq", [])):
        audit(session, what=what)
        assert [row["what"] for row in json.loads(capsys.readouterr().out)["rows"]] == shown
    audit(session, limit=1)
    out, err = capsys.readouterr()
    assert [row["what"] for row in json.loads(out)["rows"]] == ["period close"]
    assert "There are more than 1." in err


def test_a_deed_that_was_killed_is_shown_as_begun_without_an_end(capsys: pytest.CaptureFixture[str]) -> None:
    session = OperatorSession(World())
    hands = session.deed(what="dlq redrive", subject="", consequence="")
    hands.__enter__()
    capsys.readouterr()
    audit(session)
    [row] = json.loads(capsys.readouterr().out)["rows"]
    assert (row["state"], row["result"], row["ended"]) == ("begun", "begun, no end", None)


# `metering quarantine` and `batch show`: only requested entries are retried, and a batch's history is shown.


def sent(session: OperatorSession) -> list[str]:
    """Sources of the messages that a retry sent."""
    return [json.loads(message.delivery.body)["source_id"] for message in session.here.ingest.receive(10)]


def with_conflicts() -> World:
    """Two sources, each of which has sent different content under an id used before."""
    world = World()
    for source in ("right", "wrong"):
        for size in (1, 2):
            world._sent = {"right": 0, "wrong": 1}[source]
            world.send([record(size)], source=source)
    return world


def test_a_retry_of_one_source_leaves_the_conflicts_of_others() -> None:
    session = OperatorSession(with_conflicts())
    retry(session, None, "conflict", source="right", as_new_id=True)
    assert sent(session) == ["right"]


def test_a_retry_of_one_sender_takes_that_senders_alone(capsys: pytest.CaptureFixture[str]) -> None:
    session = OperatorSession(with_conflicts())
    retry(session, None, "conflict", sender="somebody else", as_new_id=True)
    assert sent(session) == []
    retry(session, None, "conflict", sender="sender", as_new_id=True, dry_run=True)
    rows = [json.loads(part)["rows"] for part in capsys.readouterr().out.replace("}\n{", "}\0{").split("\0")]
    assert [len(each) for each in rows] == [0, 2]


def test_the_list_shows_the_source_and_chooses_by_it(capsys: pytest.CaptureFixture[str]) -> None:
    list_(OperatorSession(with_conflicts()), kind="conflict", source="wrong", limit=10)
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [(row["batch_id"], row["source"]) for row in rows] == [("batch-1", "wrong")]


@pytest.mark.parametrize("option", ["source", "sender", "start", "end"])
def test_what_chooses_among_batches_is_refused_beside_a_named_one(option: str) -> None:
    session = OperatorSession(with_conflicts())
    with pytest.raises(WrongUsageError, match="named already"):
        retry(session, "batch-0", **{option: "x"})  # type: ignore[arg-type]  # each is a text
    assert sent(session) == []


def deliver(world: World, *bodies: str) -> None:
    """Deliver messages unchanged, each in a separate invocation."""
    for number, text in enumerate(bodies):
        delivery = Delivery(
            message_id=f"n{number}", body=text, sent_at_ms=world.clock.now_ms(), receive_count=1, sender_id="sender"
        )
        assert not world.aggregator.handle([delivery], world.deadline()).retry


def batch(size: float, batch_id: str = "q-1") -> str:
    records = [{**record(1), "bytes": size}]
    return json.dumps({"schema": "metering.batch/1", "batch_id": batch_id, "record_count": 1, "records": records})


def shown(world: World, name: str, capsys: pytest.CaptureFixture[str]) -> str:
    """Output of `quarantine show` for an entry, even if the command fails."""
    capsys.readouterr()
    session = OperatorSession(world, form=Format.TABLE)
    session.wide = True
    try:
        show(session, name)
    except OperationFailedError as error:
        return f"{error.reason} {error.advice}"
    return " ".join(capsys.readouterr().out.split())


def test_a_batch_that_was_corrected_and_sent_again_is_still_shown_with_what_became_of_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    world = World()
    deliver(world, batch(12.5), batch(13))
    list_(OperatorSession(world), limit=10)
    assert json.loads(capsys.readouterr().out)["rows"][0]["became"] == "metered as q-1"
    told = shown(world, "q-1", capsys)
    assert "nothing in quarantine" not in told
    assert "q-1: metered as q-1" in told
    assert "12.5" in told


def test_every_content_of_an_id_that_was_refused_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    world = World()
    deliver(world, batch(12.5), batch(14.5), batch(13), batch(15.5, "q-2"))
    told = shown(world, "q-1", capsys)
    assert "12.5" in told
    assert "14.5" in told
    assert "q-2" not in told


def test_an_id_that_nobody_sent_is_looked_for_in_no_object(capsys: pytest.CaptureFixture[str]) -> None:
    world = World()
    deliver(world, batch(12.5))
    calls: list[str] = []
    world.objects.on_call = calls.append
    assert "There is nothing in quarantine for q-9." in shown(world, "q-9", capsys)
    world.objects.on_call = lambda _call: None
    assert "objects.get" not in calls


def test_a_refused_number_is_told_as_it_was_sent(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message once read: not of its type: '125e-1'."""
    monkeypatch.setenv("COLUMNS", "400")
    world = World()
    deliver(world, batch(12.5))
    told = shown(world, "q-1", capsys)
    assert "not of its type: '12.5'" in told


def test_an_entry_without_an_id_shows_the_key_that_show_needs(capsys: pytest.CaptureFixture[str]) -> None:
    world = World()
    deliver(world, "no JSON")
    [info] = world.objects.list("quarantine/")
    session = OperatorSession(world)
    session.form = Format.TABLE
    capsys.readouterr()
    list_(session, limit=10)
    assert info.key in "".join(capsys.readouterr().out.split())
    assert "no JSON" in shown(world, info.key, capsys)


def test_a_batch_is_shown_by_its_id(capsys: pytest.CaptureFixture[str]) -> None:
    show_batch(HereSession(world_with_batch()), BATCH)
    found = json.loads(capsys.readouterr().out)
    assert (found["verdict"], found["proof"]["equal"]) == ("accepted", True)


def test_a_batch_without_a_marker_is_not_unknown_and_a_range_finds_its_rows(capsys: pytest.CaptureFixture[str]) -> None:
    world = world_with_batch()
    world.items.remove(Table.LEDGER, marker_key(BATCH))
    with pytest.raises(CommandFailedError) as raised:
        show_batch(HereSession(world), BATCH)
    assert "decided more than 50 days ago" in raised.value.advice
    assert "--from and --to" in raised.value.advice
    show_batch(HereSession(world), BATCH, start="2026-11")
    assert json.loads(capsys.readouterr().out)["marker"] == "expired"


def test_a_marker_that_differs_from_the_rows_fails_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    world = world_with_batch()
    item = world.items.get(Table.LEDGER, marker_key(BATCH))
    assert item is not None
    world.items.put(Put(table=Table.LEDGER, item={**item, "hours": totals_value({HOUR: Total(1, 1)})}))
    with pytest.raises(CommandFailedError, match="not equal"):
        show_batch(HereSession(world), BATCH)
    assert json.loads(capsys.readouterr().out)["proof"]["equal"] is False


def test_what_is_no_batch_id_is_refused() -> None:
    with pytest.raises(InvalidParametersError):
        show_batch(HereSession(world_with_batch()), "no batch")


# Dead letters: a reader that hangs or dies does not end the command, and events of log files return to their own queue.


def test_events_of_log_files_go_back_into_their_own_queue(capsys: pytest.CaptureFixture[str]) -> None:
    session = OperatorSession(World(), log_sources=True)
    onramp = session.here.onramp
    assert onramp is not None
    onramp.dead.send_many(["an event", "another one"])
    session.here.dead_letters.send_many(["a batch"])
    session.here.clock.advance_s(60)
    dlq.redrive(session, by_hand=True, log_files=True)
    answer: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert (answer["waiting"], answer["moved"], answer["kept"]) == (2, 2, 0)
    assert onramp.events.depth().visible == 2
    assert onramp.dead.depth().total == 0
    assert session.here.dead_letters.depth().visible == 1
    assert session.here.ingest.depth().total == 0


def test_a_region_without_log_sources_says_so() -> None:
    with pytest.raises(CommandFailedError, match="eu-west-1 has no log sources"):
        dlq.redrive(OperatorSession(World()), log_files=True)


def test_dead_letters_of_log_files_are_listed_apart_from_those_of_batches(capsys: pytest.CaptureFixture[str]) -> None:
    session = OperatorSession(World(), log_sources=True)
    onramp = session.here.onramp
    assert onramp is not None
    detail = {"bucket": {"name": "acme-logs"}, "object": {"key": "AWSLogs/a.gz", "etag": "e"}}
    event = json.dumps({"source": "aws.s3", "detail-type": "Object Created", "detail": detail})
    onramp.dead.send_many([event])
    session.here.dead_letters.send_many(["a batch"])
    dlq.list_(session, log_files=True)
    [row] = json.loads(capsys.readouterr().out)["rows"]
    assert row["file"] == "s3://acme-logs/AWSLogs/a.gz"
    assert row["why"] == "It lies in no log source of this region any more, so a redrive would refuse it."
    assert onramp.dead.depth().visible == 1


def test_a_region_without_log_sources_has_no_dead_log_files(capsys: pytest.CaptureFixture[str]) -> None:
    dlq.list_(OperatorSession(World()), log_files=True)
    assert json.loads(capsys.readouterr().out)["rows"] == []


def test_a_deep_look_at_log_files_is_no_command() -> None:
    with pytest.raises(WrongUsageError, match="--deep reads batches"):
        dlq.list_(OperatorSession(World(), log_sources=True), deep=True, log_files=True)


# A child process that answers as its message says, or misbehaves if its message says so.
_CHILD = """
import json, os, sys, time
for line in sys.stdin:
    delivery = json.loads(line)
    if "hang" in delivery["message_id"]:
        time.sleep(60)
    if "die" in delivery["message_id"]:
        os._exit(1)
    if "starve" in delivery["message_id"]:
        raise MemoryError
    if "fail" in delivery["message_id"]:
        raise KeyError("our own mistake")
    answer = json.loads(sys.argv[1]) | {"message_id": delivery["message_id"]}
    print(json.dumps(answer), flush=True)
"""


def look(*message_ids: str) -> dict[str, DeadLetter]:
    setup = Setup()
    for message_id in message_ids:
        setup.dead.put_dead(message_id, body(), 1_700_000_000_000, 5, "AIDA1")
    known = setup.letters.glance(letter_of(message_ids[0]))
    answer = json.dumps(asdict(replace(known, effect=RedriveEffect.METER)))
    with DeadLetterReader([sys.executable, "-c", _CHILD, answer], setup.letters, timeout_s=2) as reader:
        found = setup.letters.letters(limit=100, look=reader.look)
    return {letter.message_id: letter for letter in found}


def letter_of(message_id: str) -> Delivery:
    return Delivery(message_id=message_id, body=body(), sent_at_ms=0, receive_count=5, sender_id="s")


def test_a_letter_that_hangs_or_kills_its_reader_is_named_and_the_others_are_read() -> None:
    began_s = time.monotonic()
    found = look("first", "hang", "second", "die", "third")
    assert time.monotonic() - began_s < 10
    assert {name: letter.effect for name, letter in found.items()} == {
        "first": "meter", "hang": "unknown", "second": "meter", "die": "unknown", "third": "meter",
    }  # fmt: skip
    assert "more than 20 s or 1536 MiB" in found["hang"].why
    assert found["hang"].batch_id == "a"


def test_a_reader_that_fails_says_why_and_is_not_called_slow() -> None:
    found = look("fail", "starve")
    assert found["fail"].why == "Reading it here failed: KeyError: 'our own mistake'"
    assert "MiB" in found["starve"].why
    assert {letter.effect for letter in found.values()} == {"unknown"}


def test_a_reader_may_take_so_much_memory_and_no_more() -> None:
    code = (
        "from metering.cli.dead_letter_reader import limit_memory; limit_memory(256 * 2**20); "
        "small = bytearray(64 * 2**20); large = bytearray(512 * 2**20)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "MemoryError" in done.stderr

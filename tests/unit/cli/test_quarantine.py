"""`metering quarantine` and `batch show`: retries of only the requested batches, and the story of a batch."""

from __future__ import annotations

import json

import pytest

from metering.cli.commands.operator.quarantine import list_, retry, show, show_batch
from metering.cli.failures import CommandFailedError, WrongUsageError
from metering.cli.printing.output import Format
from metering.errors import OperationFailedError
from metering.ledger.booked_hours import totals_value
from metering.ledger.markers import marker_key
from metering.reports.time_range import InvalidParametersError
from metering.stores.queues import Delivery
from metering.stores.writes import Put, Table
from metering.usage.totals import Total
from tests.support.command_line import HereSession, OperatorSession
from tests.support.lake_world import HOUR, World, record
from tests.unit.reports.batches.test_story import BATCH, world_with_batch


def sent(session: OperatorSession) -> list[str]:
    """Sources of the messages that were sent again."""
    return [json.loads(message.delivery.body)["source_id"] for message in session.here.ingest.receive(10)]


def with_conflicts() -> World:
    """Two sources, each with other content under an id that it had used before."""
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
    """Deliver messages unchanged, one invocation each."""
    for number, body in enumerate(bodies):
        delivery = Delivery(
            message_id=f"n{number}", body=body, sent_at_ms=world.clock.now_ms(), receive_count=1, sender_id="sender"
        )
        assert not world.aggregator.handle([delivery], world.deadline()).retry


def batch(size: float, batch_id: str = "q-1") -> str:
    records = [{**record(1), "bytes": size}]
    return json.dumps({"schema": "metering.batch/1", "batch_id": batch_id, "record_count": 1, "records": records})


def shown(world: World, name: str, capsys: pytest.CaptureFixture[str]) -> str:
    """Output of `quarantine show` for an entry, even if it fails."""
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
    """H-D4: `list` had it, and `show` said that nothing was in quarantine for it."""
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
    """The message once said: not of its type: '125e-1'."""
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


def test_a_batch_without_a_marker_is_not_called_unknown_and_a_range_finds_its_rows(
    capsys: pytest.CaptureFixture[str],
) -> None:
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

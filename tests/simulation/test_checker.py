"""The checker finds each kind of damage, and passes histories with registered producers."""

from __future__ import annotations

import marshal
from typing import TYPE_CHECKING

import pytest

from metering.ledger.booked_hours import Published, pointer_key
from metering.ledger.commits import Waiting
from metering.ledger.markers import marker_key
from metering.ledger.periods import FrozenMonth, FrozenRows
from metering.stores.objects import summary_key
from metering.stores.writes import Delete, Key, Put, Table, Update
from metering.usage.totals import Total
from tests.simulation.checks.checker import check, lake_rows
from tests.simulation.checks.watch import ViolationError
from tests.simulation.history import History, run_history
from tests.simulation.region.faults import ScriptedFaults
from tests.simulation.scenario import Scenario
from tests.simulation.sent.senders import Senders, SentBy, sent_by
from tests.support.memory.frozen import encode_usage
from tests.support.usage_items import change, lose, usage_of

if TYPE_CHECKING:
    from tests.simulation.region.world import World
    from tests.simulation.sent.traffic import SentContent

# The check on the senders of registered producers can fail.

# The first seeds whose stage checks senders.
JUDGED = [seed for seed in range(100) if Senders(seed).judged][:12]


def test_about_a_third_of_all_histories_judge_senders() -> None:
    assert 0.25 < sum(Senders(seed).judged for seed in range(1_000)) / 1_000 < 0.35


@pytest.mark.parametrize("seed", JUDGED)
def test_no_foreign_sender_loses_doubles_or_takes_anything(seed: int) -> None:
    outcome = run_history(seed)
    assert outcome.violation == ""
    assert outcome.histogram["sent by a foreign sender"] > 0


@pytest.fixture
def world() -> World:
    history = History(JUDGED[0], dropped_faults=(), dropped_batches=())
    assert not history.run()
    return history.world


def refused(world: World) -> tuple[SentContent, SentBy]:
    """A content that only a forbidden sender sent."""
    return next(
        (content, sender)
        for content in world.contents.values()
        for sender in world.queue.senders.get(content.name, {})
        if content.name.endswith(".forged") and not world.senders.may_send(content, sender)
    )


def test_a_refusal_that_is_gone_is_lost(world: World) -> None:
    content, sender = refused(world)
    world.objects.remove(world.senders.refusal_key(content, sender))
    assert any(content.name in each and "no refusal" in each for each in check(world, lake_rows(world)).lost)
    with pytest.raises(ViolationError, match="I4"):
        world.watch.acknowledged(content, sender)


def test_a_forgery_that_is_accepted_is_unexpected(world: World) -> None:
    content, _ = refused(world)
    world.watch.accepted[content.batch_id] = (content.content_hash, "commit", 0)
    assert any("nobody who sent it may" in each for each in check(world, lake_rows(world)).unexpected)


@pytest.mark.parametrize("verdict", ["accepted", "rejected"])
def test_a_marker_of_a_foreign_sender_is_seen_at_once(world: World, verdict: str) -> None:
    content, sender = refused(world)
    item = {**marker_key(content.batch_id)._asdict(), "verdict": verdict, "sender": f"{sender.role}:x"}
    with pytest.raises(ViolationError, match="made a marker"):
        world.watch.written(Put(table=Table.LEDGER, item=item))


def test_of_operators_alone_what_they_state_counts() -> None:
    assert sent_by("S1:x", "S2:x") == SentBy("S1", retried=False)
    assert sent_by("operator", "S2:x") == SentBy("S2", retried=False)
    assert sent_by("operator", "retry S2:x") == SentBy("S2", retried=True)
    assert sent_by("operator", "") == SentBy("operator", retried=False)


# The checker can fail: it finds each kind of damage to a sound region, and names it correctly.


@pytest.fixture
def world_of_checker() -> World:
    scenario = Scenario("worker", ScriptedFaults("subject", {}))
    scenario.run()
    assert not check(scenario.world, lake_rows(scenario.world))
    return scenario.world


def test_bytes_counted_twice_are_doubled(world_of_checker: World) -> None:
    change(world_of_checker.items, usage_of(world_of_checker.items)[0], 1)

    assert check(world_of_checker, lake_rows(world_of_checker)).doubled


def test_a_usage_item_that_is_gone_is_lost(world_of_checker: World) -> None:
    lose(world_of_checker.items, usage_of(world_of_checker.items)[0])

    assert check(world_of_checker, lake_rows(world_of_checker)).lost


def test_a_lake_file_that_is_gone_is_lost(world_of_checker: World) -> None:
    world_of_checker.objects.remove(world_of_checker.objects.keys("lake/")[0])

    assert check(world_of_checker, lake_rows(world_of_checker)).lost


def test_a_row_that_is_there_twice_is_doubled(world_of_checker: World) -> None:
    rows = lake_rows(world_of_checker)

    assert check(world_of_checker, [*rows, rows[0]]).doubled


def test_a_row_with_other_bytes_is_unexpected(world_of_checker: World) -> None:
    rows = lake_rows(world_of_checker)

    assert check(world_of_checker, [rows[0]._replace(bytes=rows[0].bytes + 1), *rows[1:]]).unexpected


def test_a_row_in_another_hour_is_unexpected(world_of_checker: World) -> None:
    rows = lake_rows(world_of_checker)

    assert check(world_of_checker, [rows[0]._replace(booked_s=rows[0].booked_s + 3600), *rows[1:]]).unexpected


def test_a_marker_that_does_not_say_what_its_rows_do_is_unexpected(world_of_checker: World) -> None:
    world_of_checker.items.update(Update(table=Table.LEDGER, key=marker_key("b5"), set={"hours": {}}))

    assert any("marker of b5" in each for each in check(world_of_checker, lake_rows(world_of_checker)).unexpected)


def test_a_marker_that_is_made_anew_although_none_was_lost_is_seen_at_once(world_of_checker: World) -> None:
    with pytest.raises(ViolationError, match="made anew"):
        world_of_checker.watch.written(
            Put(table=Table.LEDGER, item={**marker_key("b5")._asdict(), "verdict": "accepted"})
        )


def test_a_batch_without_a_verdict_is_lost(world_of_checker: World) -> None:
    del world_of_checker.watch.accepted["b5"]

    findings = check(world_of_checker, [row for row in lake_rows(world_of_checker) if row.batch_id != "b5"])

    assert any("b5.0: no verdict" in each for each in findings.lost)


def test_an_acknowledgement_without_a_verdict_is_seen_at_once(world_of_checker: World) -> None:
    del world_of_checker.watch.accepted["b5"]
    world_of_checker.items.remove(Table.LEDGER, marker_key("b5"))

    with pytest.raises(ViolationError, match="I4"):
        world_of_checker.watch.acknowledged(world_of_checker.contents["b5.0"])


def test_a_published_hour_that_vanishes_is_seen_at_once(world_of_checker: World) -> None:
    published = next(
        item for item in world_of_checker.items.everything(Table.LEDGER) if str(item["sk"]).startswith("1#")
    )
    delete = Delete(table=Table.LEDGER, key=Key(str(published["pk"]), str(published["sk"])))
    world_of_checker.items.delete(delete)

    with pytest.raises(ViolationError, match="I3/I5"):
        world_of_checker.watch.written(delete)


def test_a_write_to_a_closed_month_is_seen_at_once(world_of_checker: World) -> None:
    world_of_checker.watch.frozen.add("2026-11")

    with pytest.raises(ViolationError, match="I6"):
        world_of_checker.watch.written(Update(table=Table.USAGE, key=Key("A#1#2026-11", "x"), add={"bytes": 1}))


def test_a_file_that_is_published_without_its_totals_is_seen_at_once(world_of_checker: World) -> None:
    published = next(
        item for item in world_of_checker.items.everything(Table.LEDGER) if str(item["sk"]).startswith("1#")
    )
    [file, *_] = Published.from_item(published).files
    kept = world_of_checker.objects.peek(summary_key(file.key))
    assert kept is not None
    world_of_checker.objects.put(summary_key(file.key), encode_usage([]), if_absent=False)
    with pytest.raises(ViolationError, match="not of its file's rows"):
        world_of_checker.watch.written(Put(table=Table.LEDGER, item=published))
    world_of_checker.objects.remove(summary_key(file.key))
    with pytest.raises(ViolationError, match="without its totals"):
        world_of_checker.watch.written(Put(table=Table.LEDGER, item=published))
    world_of_checker.objects.put(summary_key(file.key), kept, if_absent=True)


def test_a_manifest_that_names_what_is_not_there_is_seen_at_once(world_of_checker: World) -> None:
    rows = FrozenRows(key="closed/2026-09/accounts.parquet", rows=0, digest="0")
    closed = FrozenMonth(month="2026-09", hours=(), accounts=rows, days=rows)
    world_of_checker.objects.put("closed/2026-09.json", closed.to_json(), if_absent=True)
    with pytest.raises(ViolationError, match=r"names closed/2026-09/accounts\.parquet"):
        world_of_checker.watch.put_object("closed/2026-09.json")
    world_of_checker.objects.put(rows.key, b"", if_absent=True)
    world_of_checker.watch.put_object("closed/2026-09.json")
    world_of_checker.watch.frozen.add("2026-09")
    with pytest.raises(ViolationError, match="I6"):
        world_of_checker.watch.put_object(rows.key)


def test_a_second_acceptance_is_seen_at_once(world_of_checker: World) -> None:
    marker = {**marker_key("b5")._asdict(), "verdict": "accepted", "hash": "h", "commit_id": "c"}

    with pytest.raises(ViolationError, match="accepted twice"):
        world_of_checker.watch.written(Put(table=Table.LEDGER, item=marker))


def test_a_commit_of_rows_that_are_visible_already_is_seen_at_once(world_of_checker: World) -> None:
    row = lake_rows(world_of_checker)[0]
    key = "staging/2026-12-01/again.parquet"
    world_of_checker.objects.put(key, marshal.dumps([tuple(row)]), if_absent=True)
    waiting = Waiting(
        shard=0,
        commit_id="again",
        totals={row.booked_s: Total(row.bytes, 1)},
        staging_key=key,
        created_at_ms=0,
        sent_at_ms=0,
    )

    with pytest.raises(ViolationError, match="committed again"):
        world_of_checker.watch.written(Put(table=Table.LEDGER, item=waiting.to_item()))


def test_a_commit_that_leaves_the_waiting_list_for_nowhere_is_seen_at_once(world_of_checker: World) -> None:
    row = lake_rows(world_of_checker)[0]._replace(resource_id="b9.0/0", batch_id="b9")
    key = "staging/2026-12-01/unplaced.parquet"
    world_of_checker.objects.put(key, marshal.dumps([tuple(row)]), if_absent=True)
    waiting = Waiting(
        shard=0,
        commit_id="unplaced",
        totals={row.booked_s: Total(row.bytes, 1)},
        staging_key=key,
        created_at_ms=0,
        sent_at_ms=0,
    )
    world_of_checker.watch.written(Put(table=Table.LEDGER, item=waiting.to_item()))

    with pytest.raises(ViolationError, match="lost"):
        world_of_checker.watch.written(Delete(table=Table.LEDGER, key=waiting.key))


def test_a_pointer_to_rows_that_are_visible_already_is_seen_at_once(world_of_checker: World) -> None:
    row = lake_rows(world_of_checker)[0]
    world_of_checker.objects.put("staging/again.parquet", marshal.dumps([tuple(row)]), if_absent=True)
    item = {**pointer_key(row.booked_s, "again")._asdict(), "staging": "staging/again.parquet"}
    world_of_checker.items.put(Put(table=Table.LEDGER, item=item))

    with pytest.raises(ViolationError, match="I3"):
        world_of_checker.watch.written(Put(table=Table.LEDGER, item=item))

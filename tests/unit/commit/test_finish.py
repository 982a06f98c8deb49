"""The finisher and the sweep."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from metering.commit.finisher import Finisher
from metering.ledger.waiting_commits import waiting_commits

from metering.adapters.memory.clock import DeadlineAt
from metering.commit.verdicts import Verdict
from metering.errors import LedgerCorruptError, TransactionCanceledError, UnavailableError
from metering.hours import hour_label
from metering.ledger.commits import CommitRecord
from metering.ledger.notes.completeness import Completeness
from metering.stores.bucket import wal_key
from metering.stores.writes import Key, Put, Table, Update
from tests.support.small_world import NOW_S, SETTINGS, KilledError, SmallWorld, deliveries, delivery, rows_of

if TYPE_CHECKING:
    from metering.adapters.memory.clock import DeadlineAt

NO_REPLY = UnavailableError("dynamodb.TransactWriteItems", "timeout")


@pytest.fixture
def world() -> SmallWorld:
    """A world with one wide commit of four chunks, left open after its first."""
    world = SmallWorld()
    world.calls.before = dict.fromkeys(range(4, 100), NO_REPLY)
    assert world.handle(*deliveries(20, keys=16)).counts == {Verdict.ACCEPTED: 20}
    world.calls.before.clear()
    (commit,) = world.commits()
    assert (commit.state, commit.next_chunk, commit.chunks) == ("open", 1, 4)
    return world


def _finish(world: SmallWorld) -> None:
    (commit,) = world.commits()
    _finisher(world).finish(commit.commit_id)


def _finisher(world: SmallWorld) -> Finisher:
    return Finisher(items=world.items, objects=world.objects, retrier=world.parts().retrier())


def _soon(world: SmallWorld, left_ms: int = 50_000) -> DeadlineAt:
    return world.parts().deadline(left_ms)


def test_batches_of_an_open_commit_are_accepted_and_their_copies_duplicates(world: SmallWorld) -> None:
    assert world.metrics.counts["CommitsLeftOpen"] == 1
    assert world.handle(*deliveries(20, keys=16)).counts == {Verdict.DUPLICATE: 20}


def test_any_process_finishes_an_open_commit(world: SmallWorld) -> None:
    _finish(world)
    world.assert_exact()


def test_finishing_again_changes_nothing(world: SmallWorld) -> None:
    _finish(world)
    before = world.usage()
    _finish(world)
    assert world.usage() == before


def test_two_finishers_in_turns_apply_each_chunk_once(world: SmallWorld) -> None:
    turns = 0
    inside = False

    def overtake(name: str) -> None:
        nonlocal turns, inside
        if inside:
            return world.calls.on_call(name)
        if name == "items.transact":
            inside, turns = True, turns + 1
            # Another finisher looks, takes one chunk, and dies at the next.
            world.calls.before = {len(world.calls.names) + 3: KilledError()}
            with suppress(KilledError):
                _finish(world)
            inside = False
            world.calls.before = {}
        return None

    world.items.on_call = overtake
    _finish(world)
    assert turns >= 2
    world.assert_exact()


def test_a_lost_reply_of_a_chunk_does_not_apply_it_twice(world: SmallWorld) -> None:
    world.calls.names.clear()
    world.calls.after[2] = NO_REPLY
    _finish(world)
    assert world.calls.names[:3] == ["items.get", "objects.get", "items.transact"]
    world.assert_exact()


def test_a_conflict_of_a_chunk_is_tried_again(world: SmallWorld) -> None:
    world.calls.names.clear()
    world.calls.before[2] = TransactionCanceledError([("TransactionConflict", None)])
    _finish(world)
    world.assert_exact()


def test_a_finisher_that_gets_nowhere_gives_up(world: SmallWorld) -> None:
    world.calls.refuse["items.transact"] = NO_REPLY
    with pytest.raises(UnavailableError):
        _finish(world)


def test_an_open_commit_whose_write_ahead_object_is_gone_needs_somebody(world: SmallWorld) -> None:
    world.objects.remove(wal_key(world.commits()[0].staging_key))
    with pytest.raises(LedgerCorruptError):
        _finish(world)
    result = world.parts().sweeper().sweep(_soon(world))
    assert result.corrupt == (world.commits()[0].commit_id,)
    assert world.metrics.counts["LedgerCorrupt"] == 1


def test_the_sweep_names_a_commit_that_it_cannot_read_and_finishes_the_others(world: SmallWorld) -> None:
    (left,) = world.commits()
    world.items.update(Update(table=Table.LEDGER, key=left.key, set={"state": "opened"}))
    pending = next(item for item in world.stored("P#"))
    key = Key(str(pending["pk"]), str(pending["sk"]))
    world.items.update(Update(table=Table.LEDGER, key=key, set={"wide": "yes"}))
    result = world.parts().sweeper().sweep(_soon(world))
    assert (result.corrupt, result.left) == ((left.commit_id,), ())
    world.items.update(Update(table=Table.LEDGER, key=left.key, set={"state": "open"}))
    assert world.parts().sweeper().sweep(_soon(world)).finished == 1


def test_a_write_ahead_object_of_another_commit_is_not_applied(world: SmallWorld) -> None:
    key = wal_key(world.commits()[0].staging_key)
    body = world.objects.peek(key)
    assert body is not None
    world.objects.put(key, body.replace(world.commits()[0].commit_id.encode(), b"f" * 32), if_absent=False)
    with pytest.raises(LedgerCorruptError):
        _finish(world)


def test_a_finisher_that_comes_days_late_finds_nothing_to_do(world: SmallWorld) -> None:
    (commit,) = world.commits()

    def cleaned_meanwhile(name: str) -> None:
        if name == "objects.get":
            world.objects.remove(wal_key(commit.staging_key))
            applied = CommitRecord(commit_id=commit.commit_id, state="applied", expires_at_s=NOW_S)
            world.items.put(Put(table=Table.LEDGER, item=applied.to_item()))

    world.objects.on_call = cleaned_meanwhile
    _finish(world)


def test_a_commit_that_never_opened_or_was_fenced_off_is_left_alone(world: SmallWorld) -> None:
    finisher = _finisher(world)
    finisher.finish("none")
    world.items.put(Put(table=Table.LEDGER, item=CommitRecord(commit_id="fenced", state="aborted").to_item()))
    finisher.finish("fenced")
    assert {commit.state for commit in world.commits()} == {"open", "aborted"}


def test_the_sweep_finishes_what_workers_left_and_then_reads_it_no_more(world: SmallWorld) -> None:
    sweeper = world.parts().sweeper()
    assert sweeper.sweep(_soon(world)).finished == 1
    world.assert_exact()
    sweeper.sweep(_soon(world))
    world.calls.names.clear()
    result = sweeper.sweep(_soon(world))
    assert (result.finished, result.left, result.complete) == (0, (), True)
    assert "items.get_many" not in world.calls.names


def test_a_sweep_stops_when_time_runs_short_and_says_so(world: SmallWorld) -> None:
    result = world.parts().sweeper().sweep(_soon(world, SETTINGS.reserve_ms - 1))
    assert (result.complete, len(result.left)) == (False, 1)


def test_a_sweep_leaves_what_it_cannot_finish_to_the_next(world: SmallWorld) -> None:
    world.calls.refuse["items.transact"] = NO_REPLY
    result = world.parts().sweeper().sweep(_soon(world))
    assert (result.finished, len(result.left)) == (0, 1)


def _watch_finds_it(world: SmallWorld) -> None:
    waiting = waiting_commits(world.items, world.settings.shards)
    known = Completeness(through_s=0, open=waiting.oldest_open)
    world.items.put(Put(table=Table.LEDGER, item=known.to_item()))


def test_the_sweep_of_each_minute_finishes_what_the_watch_found_and_lists_nothing(world: SmallWorld) -> None:
    sweeper = world.parts().sweeper()
    assert sweeper.sweep_known(_soon(world)).finished == 0
    _watch_finds_it(world)
    world.calls.names.clear()
    assert sweeper.sweep_known(_soon(world)).finished == 1
    assert "items.query" not in world.calls.names
    world.assert_exact()
    world.calls.names.clear()
    result = sweeper.sweep_known(_soon(world))
    assert (result.finished, result.complete) == (0, True)
    assert world.calls.names == ["items.get"]


def test_what_the_watch_found_open_may_be_finished_by_others_meanwhile(world: SmallWorld) -> None:
    _watch_finds_it(world)
    _finish(world)
    assert world.parts().sweeper().sweep_known(_soon(world)).finished == 0
    world.assert_exact()


def test_pointers_of_more_hours_than_fit_are_written_ahead() -> None:
    world = SmallWorld()
    rows = [row for hour in range(240) for row in rows_of(1, start_s=NOW_S - hour * 3_600)]
    assert world.handle(delivery({"batch_id": "b1", "rows": rows})).counts == {Verdict.ACCEPTED: 1}
    (commit,) = world.commits()
    assert (commit.state, commit.chunks) == ("applied", 3)
    assert {str(item["pk"]) for item in world.stored("H#")} == {f"H#{hour_label(hour_s)}" for hour_s in commit.hours}
    world.assert_exact()

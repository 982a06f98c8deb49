"""A restore that is killed at any call and repeated, joined or refused ends with one open ledger, decided once."""

from __future__ import annotations

import itertools

import pytest

from metering.errors import OperationFailedError
from metering.ledger.format_version import FORMAT_KEY
from metering.restore.claim import Request
from metering.restore.ports import Outcome
from metering.restore.steps import DEPLOY, FINISH, Step
from metering.stores.writes import Delete, Put, Table
from metering.units import DAY_S
from tests.unit.restore.world import (
    ADA,
    BATCH,
    BEN,
    DECISION,
    NEW,
    NOTHING,
    NOW_S,
    OLD,
    OLD_USAGE,
    OUTCOME,
    T_S,
    TIME,
    TIMEOUT_S,
    KilledError,
    World,
)


def ended(world: World, outcome: Outcome, *, generation: int = 2) -> None:
    """Check that the new ledger is open and has what was accepted, and that the old one is closed."""
    new = world.format_of(f"metering-dev-ledger-{generation}")
    assert new is not None
    assert (new.number, new.generation, new.state, new.usage_generation) == (3, generation, "open", 4)
    assert world.tables.items[NEW].peek(Table.LEDGER, BATCH) is not None
    assert world.is_fenced
    assert world.is_decided
    assert world.tables.fit >= {NEW}
    assert outcome == OUTCOME


def test_a_restore_takes_the_steps_in_order() -> None:
    world = World()
    ended(world, world.restore())
    assert world.said == list(Step)
    assert world.tables.restored == [(OLD, NEW, T_S)]
    # Functions that had begun before the stop have ended before the old ledger is closed and anything is decided.
    assert world.fence.waited_s is not None
    assert world.fence.waited_s >= TIMEOUT_S


@pytest.mark.parametrize("request_", [TIME, NOTHING, Request(kind="copy", to_s=T_S, copy_of="copy")])
def test_a_restore_that_is_killed_at_any_call_and_repeated_ends_the_same(request_: Request) -> None:
    for call in itertools.count(1):
        world = World()
        if request_.kind == "copy":
            world.tables.copy(OLD, "copy")
        world.calls, world.kill_at = 0, call
        try:
            world.restore(request_)
        except KilledError:
            world.restore(request_, BEN)
            ended(world, world.restore(request_, ADA))
        else:
            break
    assert call > 20


def test_of_two_operators_the_second_joins_wherever_the_first_is() -> None:
    for call in itertools.count(1):
        world = World()
        first = world.restorer(world.claim())
        world.calls, world.kill_at = 0, call
        try:
            first.run()
        except KilledError:
            ended(world, world.restore(TIME, BEN))
            # The first operator's process was only slow: what it does late changes nothing.
            before = {name: list(items.scan(Table.LEDGER)) for name, items in world.tables.items.items()}
            ended(world, first.run())
            assert {name: list(items.scan(Table.LEDGER)) for name, items in world.tables.items.items()} == before
            assert first.claim.who == ADA
        else:
            break
    assert call > 20


def test_a_step_that_another_operator_ends_meanwhile_is_not_an_error() -> None:
    world = World()
    late = world.restorer(world.claim())
    object.__setattr__(late.ledger, "decide", lambda: ended(world, world.restore(TIME, BEN)))
    ended(world, late.run())


def test_another_request_is_refused_with_the_command_of_the_one_under_way() -> None:
    world = World()
    world.claim()
    for other in (NOTHING, Request(kind="time", to_s=T_S - 60)):
        with pytest.raises(OperationFailedError, match=f"was begun on .* by {ADA}, and it has not ended") as refused:
            world.restores.asked(other, BEN)
        assert refused.value.advice.endswith("metering restore --to 2026-11-30T01:00:00Z --stage dev")


def test_of_two_requests_at_once_the_first_that_is_stored_counts() -> None:
    world = World()
    ours, theirs = world.restores.asked(TIME, ADA), world.restores.asked(NOTHING, BEN)
    assert world.claims.put(theirs) == theirs
    with pytest.raises(OperationFailedError, match="with --from-nothing was begun"):
        world.claims.put(ours)
    assert world.claims.put(theirs) == theirs


def test_nothing_is_decided_behind_a_fence_that_leaks_and_the_next_run_fences_again() -> None:
    world = World()
    world.fence.leaks = True
    with pytest.raises(OperationFailedError, match=f"Functions may still write table {OLD}"):
        world.restore()
    assert not world.is_decided
    assert world.claims.ended(world.claim(), Step.FENCE) is None
    world.fence.leaks = False
    ended(world, world.restore())


def test_a_fence_that_a_deployment_has_opened_is_closed_again() -> None:
    world = World()
    claim = world.claim()
    world.restorer(claim)._do(Step.TABLE)
    restorer = world.restorer(claim)
    restorer._do(Step.FENCE)
    restorer._end(Step.FENCE, Outcome())
    world.fence.denied.clear()
    ended(world, world.restore())


@pytest.mark.parametrize("lost", ["format", "table", "generation"])
def test_a_ledger_that_is_damaged_or_gone_is_fenced_as_far_as_it_is_there(lost: str) -> None:
    world = World()
    old = world.tables.items[OLD]
    if lost == "table":
        del world.tables.items[OLD]
    elif lost == "format":
        old.delete(Delete(table=Table.LEDGER, key=FORMAT_KEY))
    else:
        old.put(Put(table=Table.LEDGER, item={**FORMAT_KEY._asdict(), "number": "two", "generation": "one"}))
    world.objects.put(DECISION, b"all", if_absent=True)
    claim = world.claim(NOTHING)
    restorer = world.restorer(claim)
    object.__setattr__(restorer.ledger, "decide", lambda: None)
    assert restorer.run() == OUTCOME
    if lost != "table":
        item = old.peek(Table.LEDGER, FORMAT_KEY)
        assert item is not None
        assert item["state"] == "fenced"
        assert OLD in world.fence.denied


@pytest.mark.parametrize("request_", [TIME, NOTHING])
def test_a_restored_ledger_keeps_the_identity_of_dropped_objects(request_: Request) -> None:
    world = World()
    world.drop_identity = "checksum"
    world.restore(request_)
    found = world.format_of(NEW)
    assert found is not None
    assert (found.state, found.drop_identity) == ("open", "checksum")


def test_a_dictionary_that_cannot_be_read_takes_a_new_usage_table() -> None:
    world = World()
    world.has_kinds = False
    claim = world.claim(NOTHING)
    assert (claim.usage_table, claim.usage_generation, claim.old_usage_table) == ("metering-dev-usage-5", 5, OLD_USAGE)
    world.restorer(claim).run()
    assert world.tables.fit == {NEW, "metering-dev-usage-5"}
    found = world.format_of(NEW)
    assert found is not None
    assert found.usage_generation == 5


@pytest.mark.parametrize(("request_", "said"), [
    (Request(kind="time", to_s=NOW_S + 1), "is in the future"),
    (Request(kind="time", to_s=NOW_S - 10), "to times from 2026-11-21T07:00:00Z to 2026-11-30T06:55:00Z, and"),
    (Request(kind="time", to_s=NOW_S - 10 * DAY_S), "and 2026-11-20T07:00:00Z is not one of them"),
    (Request(kind="copy", to_s=T_S, copy_of="copy"), "Table copy does not exist"),
])  # fmt: skip
def test_a_time_that_cannot_be_restored_is_refused_before_anything_is_stored(request_: Request, said: str) -> None:
    world = World()
    with pytest.raises(OperationFailedError, match=said):
        world.claim(request_)
    assert world.claims.every() == []


def test_an_emulator_wants_a_copy_and_a_table_without_recovery_what_s3_has() -> None:
    world = World()
    world.tables.windows.clear()
    with pytest.raises(OperationFailedError, match="no point-in-time recovery, or it is gone") as refused:
        world.claim()
    assert "metering restore --from-nothing" in refused.value.advice
    world.emulated = True
    with pytest.raises(OperationFailedError, match="An emulator does not restore a table") as refused:
        world.claim()
    assert "--from-copy" in refused.value.advice


def test_the_next_step_is_shown_and_the_trail_is_in_the_ledger_that_can_be_written() -> None:
    world = World()
    claim = world.claim()
    assert world.restores.step(claim) == Step.TABLE
    assert world.restores.trail(claim) is world.tables.items[OLD]
    restorer = world.restorer(claim)
    object.__setattr__(restorer.ledger, "decide", lambda: (_ for _ in ()).throw(OperationFailedError("no")))
    with pytest.raises(OperationFailedError):
        restorer.run()
    assert world.restores.step(claim) == Step.DECIDE
    assert world.restores.trail(claim) is None
    world.restore()
    assert world.restores.trail(claim) is world.tables.items[NEW]
    assert world.restores.step(claim) == DEPLOY
    world.deploy()
    assert world.restores.step(claim) == FINISH
    world.restores.finish(claim, ADA)
    assert world.restores.step(claim) == ""


def test_the_end_of_a_restore_drops_the_old_ledger_and_keeps_what_is_in_use() -> None:
    world = World()
    world.restore()
    with pytest.raises(OperationFailedError, match="has not ended"):
        world.restores.unfinished()
    world.deploy()
    [claim] = world.restores.unfinished()
    world.restores.finish(claim, ADA)
    world.restores.finish(claim, BEN)
    assert set(world.tables.items) == {NEW, OLD_USAGE}
    assert world.restores.unfinished() == []


def test_the_same_request_again_is_the_same_restore_until_that_is_finished() -> None:
    world = World()
    world.restore(NOTHING)
    world.deploy()
    assert world.restores.asked(NOTHING, BEN).generation == 2
    world.tables.windows[NEW] = T_S, NOW_S
    with pytest.raises(OperationFailedError, match=r"was opened at .*, and is not whole before"):
        world.restores.asked(TIME, BEN)
    world.restores.finish(world.claim(NOTHING), ADA)
    next_ = world.claim(NOTHING, BEN)
    assert (next_.generation, next_.old_table, next_.new_table) == (3, NEW, "metering-dev-ledger-3")


@pytest.mark.parametrize("deployed", [True, False])
@pytest.mark.parametrize("first", [TIME, NOTHING])
def test_a_restored_ledger_whose_table_is_gone_is_restored_from_nothing(first: Request, *, deployed: bool) -> None:
    world = World()
    world.restore(first)
    if deployed:
        world.deploy()
    del world.tables.items[NEW]
    claim = world.claim(NOTHING)
    assert (claim.generation, claim.new_table) == (3, "metering-dev-ledger-3")
    assert world.claim(NOTHING, BEN) == claim
    with pytest.raises(OperationFailedError, match="with --from-nothing was begun"):
        world.claim(TIME)


def test_a_ledger_whose_claims_are_lost_still_gets_the_next_generation() -> None:
    world = World()
    world.restore()
    world.deploy()
    for claim in world.claims.every():
        world.objects.delete([f"ledger/{claim.generation}.json"])
    assert world.restores.asked(NOTHING, ADA).generation == 3


def test_a_wait_for_functions_that_was_killed_goes_on_and_is_not_begun_anew() -> None:
    world = World()
    world.kill_on = "fence.deny"
    with pytest.raises(KilledError):
        world.restore()
    world.kill_on = ""
    before_ms = world.clock.now_ms()
    ended(world, world.restore())
    assert world.clock.now_ms() - before_ms < TIMEOUT_S * 1000

"""Kills and lost replies at each call of an invocation."""

from collections.abc import Callable, Sequence

import pytest

from metering.commit.deduplication import Verdict
from metering.errors import UnavailableError
from metering.hours import parse_hour
from metering.ledger.periods import Period
from metering.stores.queues import Delivery
from metering.stores.writes import Put, Table
from tests.support.memory.clock import DeadlineAt
from tests.support.small_world import NOW_S, KilledError, SmallWorld, batch, deliveries, delivery, rows_of

NO_REPLY = UnavailableError("aws", "timeout")


def _mixed() -> Sequence[Delivery]:
    """Duplicates, a conflict, refused records and batches, a late batch of a closed month, a multi-batch message."""
    october = parse_hour("2026-10-30T07")
    return [
        *deliveries(4, keys=2),
        delivery(batch(1, keys=2), message="copy of b1"),
        delivery(batch(2, size=999), message="other b2", sender="mallory"),
        delivery(batch(3, size=7), message="other b3"),
        delivery({"batch_id": "b20", "rows": [*rows_of(20), *rows_of(20, size=-5)]}),
        delivery({"batch_id": "b21", "refuse": "why"}),
        delivery(batch(22, start_s=october)),
        delivery(batch(23), {"batch_id": "b24", "refuse": "why"}, message="two"),
        delivery(message="junk", body="no json"),
    ]


def _two_commits() -> Sequence[Delivery]:
    return deliveries(101)


def _many_hours() -> Sequence[Delivery]:
    rows = [row for hour in range(150) for row in rows_of(1, start_s=NOW_S - hour * 3_600)]
    return [delivery({"batch_id": "b1", "rows": rows})]


def _prepared() -> SmallWorld:
    world = SmallWorld()
    world.handle(delivery(batch(3, keys=2), message="earlier b3"))
    world.items.put(Put(table=Table.LEDGER, item=Period(month="2026-10", state="closed").to_item()))
    world.calls.names.clear()
    return world


def _recover(world: SmallWorld, messages: Sequence[Delivery]) -> None:
    """The queue's later deliveries."""
    world.calls.before.clear()
    world.calls.after.clear()
    again = world.handle(*messages)
    assert again.retry == ()
    assert set(again.counts) <= set(Verdict) - {Verdict.PUT_BACK}


def _expected(messages: Sequence[Delivery]) -> SmallWorld:
    world = _prepared()
    world.handle(*messages)
    world.assert_exact()
    return world


def _same_verdicts(world: SmallWorld, expected: SmallWorld) -> None:
    world.assert_exact()
    assert world.usage() == expected.usage()
    verdicts = {(item["pk"], item["sk"], item.get("verdict"), item.get("hash")) for item in expected.stored("B#")}
    assert {(item["pk"], item["sk"], item.get("verdict"), item.get("hash")) for item in world.stored("B#")} == verdicts
    assert set(expected.objects.keys("quarantine/batches/")) <= set(world.objects.keys("quarantine/batches/"))


Messages = Callable[[], Sequence[Delivery]]
MESSAGES = pytest.mark.parametrize("messages", [_mixed, _two_commits, _many_hours])


@MESSAGES
@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_kill_at_any_call_loses_and_doubles_nothing(messages: Messages, moment: str) -> None:
    expected = _expected(messages())
    for number in range(len(expected.calls.names)):
        world = _prepared()
        faults = world.calls.before if moment == "before" else world.calls.after
        faults[number] = KilledError()
        if moment == "before":
            with pytest.raises(KilledError):
                world.handle(*messages())
        else:
            _handle_killed(world, messages())
        _recover(world, messages())
        _same_verdicts(world, expected)


@MESSAGES
def test_a_lost_reply_of_any_call_loses_nothing_and_doubles_nothing(messages: Messages) -> None:
    expected = _expected(messages())
    for number in range(len(expected.calls.names)):
        world = _prepared()
        world.calls.after[number] = NO_REPLY
        result = world.handle(*messages())
        assert result.retry == ()
        _same_verdicts(world, expected)


@MESSAGES
@pytest.mark.parametrize("moment", ["before", "after"])
def test_trouble_from_any_call_on_ends_well_in_the_end(messages: Messages, moment: str) -> None:
    expected = _expected(messages())
    for number in range(len(expected.calls.names)):
        world = _prepared()
        faults = world.calls.before if moment == "before" else world.calls.after
        faults |= dict.fromkeys(range(number, number + 300), NO_REPLY)
        world.handle(*messages())
        _recover(world, messages())
        _same_verdicts(world, expected)


def test_two_workers_with_the_same_messages_count_them_once() -> None:
    world = SmallWorld()
    other = world.worker()
    messages = list(deliveries(30, keys=5))
    started = False

    def overlap(name: str) -> None:
        nonlocal started
        # The second worker runs completely between the first worker's object and the first worker's transaction.
        if name == "items.transact" and not started:
            started = True
            other.handle(messages[10:], DeadlineAt(clock=world.clock, at_ms=world.clock.now_ms() + 50_000))

    world.items.on_call = overlap
    result = world.handle(*messages)
    assert result.counts == {Verdict.ACCEPTED: 10, Verdict.DUPLICATE: 20}
    world.assert_exact()


def _handle_killed(world: SmallWorld, messages: Sequence[Delivery]) -> None:
    # Reads have no reply hook, so the worker is not killed there.
    try:
        world.handle(*messages)
    except KilledError:
        return

"""`verify` with traffic: a commit, roll-up or compaction between any two calls of `verify` raises no false alarm."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from operator import methodcaller

import pytest

from metering.audit.verification import SentBatch, SentBatches, Verification
from metering.ledger.markers import marker_key
from metering.stores.writes import Delete, Table
from metering.units import DAY_S, HOUR_S
from metering.usage.totals import Total, UsageKey
from tests.simulation.region import jobs
from tests.simulation.scenario import NOW_MS, content_of
from tests.simulation.stories import Between, compact, meter, play, roll_up, world_of
from tests.support.memory.queues import MemoryQueue

NOW_S = NOW_MS // 1000
# More hours than a transaction has actions, so that a commit is placed in two transactions.
_MANY_HOURS = 110
_NEVER = 10**6
# Calls of the last check that all is at rest (depth, shards, pending): work that begins between them counts as later.
_LAST_LOOK = 3


class _Meanwhile(Between):
    """Runs events before calls with given numbers, and records the names of all calls."""

    def __init__(self) -> None:
        super().__init__()
        self.at: dict[int, Callable[[], object]] = {}
        self.names: list[str] = []

    def happen(self, call: str) -> None:
        self.names.append(call)
        self.at.get(self.calls, lambda: None)()


class Region:
    """A region at rest with two batches, one in the lake and one in staging, and concurrent events."""

    def __init__(self) -> None:
        self.meanwhile = _Meanwhile()
        hours = [content_of("hours", 0, [NOW_S - hour * HOUR_S for hour in range(_MANY_HOURS) for _ in range(3)])]
        contents = [content_of(f"b{n}", 0, [NOW_S, NOW_S - HOUR_S]) for n in range(6)]
        self.world = world_of((*contents, *hours), self.meanwhile)
        self.ingest = MemoryQueue(self.world, name="ingest")
        self.sent = SentBatches()

    def play(self, story: Callable[[], Verification]) -> Verification:
        return play(self.world, story)

    def meter(self, *names: str) -> None:
        meter(self.world, *names)

    def committed(self, *names: str) -> None:
        self.meter(*names)
        self.roll_up()

    def compacted(self, *names: str) -> None:
        self.meter(*names)
        self.compact()

    def compact(self) -> None:
        self.roll_up()
        compact(self.world)

    def roll_up(self) -> None:
        roll_up(self.world, "roll-up")

    def verify(self, *, manifest: bool = False) -> Verification:
        verifier = jobs.verifier(self.world.process("first"), self.ingest)
        return verifier.verify(from_s=0, to_s=NOW_S + DAY_S, sent=self.sent if manifest else None)

    def prepared(self) -> None:
        self.meter("b0.0")
        self.compact()
        self.meter("b1.0")
        self.roll_up()


def beside(happens: Mapping[int, Callable[[Region], object]], number: int) -> tuple[Verification, int]:
    """Verify; each action in `happens` runs its number of calls after call `number`."""
    region = Region()

    def story() -> Verification:
        region.prepared()
        region.meanwhile.at = {number + later: partial(thing, region) for later, thing in happens.items()}
        return region.verify()

    return region.play(story), region.meanwhile.calls


def must_be_quiet(found: Verification) -> None:
    assert (found.lost, found.doubled, found.differences, found.unexpected) == ((), (), (), ()), found


@pytest.mark.parametrize(
    "happens",
    [
        {0: lambda region: region.committed("b2.0")},
        {0: lambda region: region.compacted("b2.0", "b3.0")},
        {0: lambda region: region.committed("b2.0"), 4: Region.compact},
    ],
    ids=["commit", "commits-compacted", "compacted-later"],
)
def test_what_is_committed_between_any_two_calls_is_neither_lost_nor_counted_twice(
    happens: dict[int, Callable[[Region], object]],
) -> None:
    number = 1
    while True:
        found, calls = beside(happens, number)
        if calls < number:
            break
        must_be_quiet(found)
        assert found.stable or number + max(happens) > calls - _LAST_LOOK, "it was at rest before and after"
        number += 1
    assert number > 40


@pytest.mark.parametrize("hours", [1, _MANY_HOURS])
@pytest.mark.parametrize("rolled_up_after", [3, 40, 400, _NEVER])
def test_a_commit_that_waits_for_a_while_is_no_difference(hours: int, rolled_up_after: int) -> None:
    number = 1
    while number < 60:
        name = "b2.0" if hours == 1 else "hours.0"
        happens: dict[int, Callable[[Region], object]] = {0: methodcaller("meter", name)}
        happens[rolled_up_after] = Region.roll_up
        found, calls = beside(happens, number)
        must_be_quiet(found)
        if rolled_up_after == _NEVER and number <= calls - _LAST_LOOK:
            assert not found.stable, "it waits at the end"
        number += 4


def test_what_comes_into_the_queue_between_any_two_calls_is_not_settled() -> None:
    number = 1
    while True:
        found, calls = beside({0: lambda region: region.ingest.send_many(["x"])}, number)
        if calls < number:
            break
        must_be_quiet(found)
        assert not found.stable or number > calls - _LAST_LOOK
        number += 1


def test_a_batch_of_a_manifest_that_is_decided_between_any_two_calls_is_not_lost() -> None:
    number = 1
    while True:
        region = Region()

        def story(region: Region = region, number: int = number) -> Verification:
            region.prepared()
            region.sent = SentBatches.collect(
                SentBatch(batch_id=f"b{n}", records=2, metered=2, totals=totals_of(region, f"b{n}.0")) for n in range(3)
            )
            region.meanwhile.at = {number: lambda: region.meter("b2.0")}
            return region.verify(manifest=True)

        found = region.play(story)
        if region.meanwhile.calls < number:
            break
        looked_again = _second_look(region.meanwhile.names)
        must_be_quiet(found) if number <= looked_again or found.accepted == 3 else _must_be_lost(found)
        number += 1
    assert number > 40


def test_a_batch_of_a_manifest_that_is_decided_before_the_second_look_is_not_lost() -> None:
    region = Region()

    def later() -> None:
        """Meter batch `b2` while `verify` waits after its first look."""
        region.world.scheduler.at(region.world.now_ms() + 500, lambda: region.meter("b2.0"))

    def story() -> Verification:
        region.prepared()
        region.sent = SentBatches.collect(
            SentBatch(batch_id=f"b{n}", records=2, metered=2, totals=totals_of(region, f"b{n}.0")) for n in range(3)
        )
        region.meanwhile.at = {3: later}
        return region.verify(manifest=True)

    found = region.play(story)
    must_be_quiet(found)
    assert found.accepted == 3


def _second_look(names: list[str]) -> int:
    """Number of the first call of the second look, after all markers were read once."""
    first = names.index("items.get_many")
    return first + next(n for n, name in enumerate(names[first:]) if name != "items.get_many")


def _must_be_lost(found: Verification) -> None:
    """Check that the second look reports the batch as lost: it was sent later than the manifest says."""
    assert (found.lost, found.doubled, found.differences) == (("b2",), (), ())


def totals_of(region: Region, name: str) -> dict[UsageKey, Total]:
    return {row.usage_key: Total(row.bytes, 1) for row in region.world.contents[name].rows}


@pytest.mark.parametrize("number", range(1, 60, 6))
def test_what_is_really_wrong_is_named_whatever_goes_on_beside(number: int) -> None:
    region = Region()

    def story() -> Verification:
        region.prepared()
        region.world.items.delete(Delete(table=Table.LEDGER, key=marker_key("b1")))
        region.meanwhile.at = {number: lambda: region.meter("b2.0")}
        return region.verify()

    found = region.play(story)
    assert found.doubled == ("b1",)
    assert {difference.batch_id for difference in found.differences} == {"b1"}
    assert not found.passed

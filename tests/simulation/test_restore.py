"""The ledger is restored to a time between any two calls of a job, and adopts what S3 has since then (P41)."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest

from metering.errors import GenerationError, OperationFailedError
from metering.ledger.format_version import remember_format
from metering.ledger.markers import Marker, is_marker
from metering.stores.writes import Table
from tests.simulation.region import jobs
from tests.simulation.region.faults import HOUR_MS, Fault
from tests.simulation.region.scheduler import KilledError
from tests.simulation.scenario import NOW_MS, content_of
from tests.simulation.stories import Between, compact, meter, play, roll_up, visible, world_of
from tests.support.memory.rows import decode_rows, encode_rows, plain_usage
from tests.support.written_down import forget_markers

if TYPE_CHECKING:
    from collections.abc import Callable

    from metering.stores.writes import Item

_SHARDS = 2
_SETTINGS = jobs.settings(_SHARDS, 200)


class _Moment(Between):
    """Kills the process `dying` at call `dies_in` of that process."""

    dies_in = 0

    def fault(self, process: str, _call: str, choices: tuple[Fault, ...]) -> Fault | None:
        self.dies_in -= process == "dying"
        if process != "dying" or self.dies_in:
            return None
        return Fault.KILLED_AFTER if Fault.KILLED_AFTER in choices else Fault.KILLED_BEFORE


class _Region:
    """A region whose ledger is restored from a backup."""

    def __init__(self, number: int) -> None:
        self.moment = _Moment(number)
        starts = [NOW_MS // 1000, NOW_MS // 1000 - 3600]
        contents = [content_of(f"b{n}", 0, starts) for n in range(6)]
        contents.append(content_of("b4", 1, starts))
        # Kinds that were numbered in the lost time, and kinds numbered after that time.
        contents += [content_of("lost", 0, starts * 2, kinds=4), content_of("after", 0, starts * 3, kinds=6)]
        self.world = world_of(contents, self.moment, 5)
        self.backup: list[Item] = []
        self.accepted: dict[str, Marker] = {}
        self.moment.then = self.back_up
        remember_format(self.world.items, written_by="test", usage_generation=2, drop_identity="etag")

    def back_up(self) -> None:
        self.backup = list(self.world.items.everything(Table.LEDGER))
        self.since_ms = self.world.now_ms()

    def restore(self) -> None:
        """Restore the ledger from the backup."""
        self.accepted = self.markers()
        self.world.restore_ledger(self.backup, generation=2)

    def markers(self) -> dict[str, Marker]:
        items = filter(is_marker, self.world.items.everything(Table.LEDGER))
        return {each.batch_id: each for each in map(Marker.from_item, items) if each.verdict == "accepted"}

    def meter(self, *names: str) -> None:
        meter(self.world, *names, settings=_SETTINGS)

    def roll_up(self, name: str = "roll-up") -> None:
        roll_up(self.world, name, settings=_SETTINGS)

    def compact(self, name: str = "compactor") -> None:
        compact(self.world, name, shards=_SHARDS)

    def clean(self) -> None:
        process = self.world.process("cleaner")
        jobs.cleaner(process, shards=_SHARDS, wait_s=-1).run(jobs.deadline(process, HOUR_MS))
        jobs.rollup_cleaner(process, shards=_SHARDS, wait_s=-1).run(jobs.deadline(process, HOUR_MS))

    def orphans(self) -> None:
        process = self.world.process("orphans")
        jobs.orphan_cleaner(process, age_s=-1).run(jobs.deadline(process, HOUR_MS), whole=True)

    def made_fit(self, dies_in: int) -> None:
        """Restore: kill the command at a call, then run it to completion."""
        self.moment.dies_in = dies_in
        dying = self.world.process("dying")
        how = {"generation": 2, "since_ms": self.since_ms, "shards": _SHARDS}
        try:
            jobs.restoration(dying, _SETTINGS, **how).run()
        except KilledError:
            jobs.restoration(self.world.process("restorer"), _SETTINGS, **how).run()

    def must_be_sound(self, *, hashless: bool = False) -> None:
        """Check that every batch ever accepted is accepted with the same facts, and that all are counted once."""
        markers = self.markers()
        for batch_id, marker in self.accepted.items():
            if hashless and markers[batch_id].content_hash is None:
                assert markers[batch_id].hours == marker.hours
                continue
            facts = (marker.content_hash, marker.hours, marker.sender_id, marker.source_id, marker.sequence)
            now = markers[batch_id]
            assert (now.content_hash, now.hours, now.sender_id, now.source_id, now.sequence) == facts
        hashes = {marker.content_hash for marker in (*self.accepted.values(), *markers.values())}
        sent = [row for each in self.world.contents.values() if each.content_hash in hashes for row in each.rows]
        assert sorted(visible(self.world, shards=_SHARDS)) == sorted(sent)
        assert self.world.usage() == plain_usage(sent)


def _between(job: Callable[[_Region], None], number: int) -> _Moment:
    region = _Region(number)

    def story() -> None:
        region.meter("b0.0", "b1.0")
        region.roll_up()
        region.compact()
        region.meter("b2.0", "b3.0")
        job(region)
        # The restore loses everything after this point.
        region.meter("b4.0", "lost.0")
        region.roll_up()
        region.compact()
        if number % 3:
            region.clean()
        region.meter("b4.1", "b5.0")
        if number % 2:
            region.roll_up()
        if region.backup:
            region.restore()
            region.made_fit(dies_in=7 * number % 60)
            region.roll_up()
            region.must_be_sound()
            region.meter("after.0", "b5.0", "b4.1")
            region.roll_up()
            region.must_be_sound()
            region.compact()
            region.clean()
            region.orphans()
            region.must_be_sound()
            assert not region.world.objects.keys("staging/")

    play(region.world, story, limit_ms=24 * HOUR_MS)
    return region.moment


def _accepted(region: _Region) -> None:
    meter(region.world, "b3.0", by="first", settings=_SETTINGS)


def _rolled_up(region: _Region) -> None:
    region.roll_up("first")


def _compacted(region: _Region) -> None:
    region.roll_up()
    region.compact("first")


def _cleaned(region: _Region) -> None:
    region.roll_up()
    region.compact()
    process = region.world.process("first")
    jobs.cleaner(process, shards=_SHARDS, wait_s=-1).run(jobs.deadline(process, HOUR_MS))


def _late(region: _Region, number: int, *, nothing: bool, unwritten: bool) -> int:
    """Restore with two people: one is late from call `number` on, until the other one has opened the ledger."""
    world, moment = region.world, region.moment
    region.meter("b0.0", "b1.0")
    region.roll_up()
    region.compact()
    region.meter("b2.0", "b3.0")
    region.back_up()
    region.meter("b4.0", "lost.0")
    region.roll_up()
    region.compact()
    region.meter("b4.1", "b5.0")
    if unwritten:
        forget_markers(world.objects, lambda body: encode_rows(decode_rows(body)))
    if nothing:
        region.backup, region.since_ms = [], 0
    region.restore()
    how = {"generation": 2, "since_ms": region.since_ms, "shards": _SHARDS}

    def other() -> None:
        jobs.restoration(world.process("other"), _SETTINGS, **how).run()
        # The ledger is open, and goes on.
        region.roll_up()
        region.meter("after.0", "b5.0")
        region.roll_up()
        region.compact()
        region.clean()

    moment.calls, moment.number, moment.then = 0, number, other
    try:
        jobs.restoration(world.process("first"), _SETTINGS, **how).run()
    except GenerationError:
        # Nothing is carried into an open ledger.
        assert moment.calls >= number
    except OperationFailedError as error:
        assert "Another restorer" in str(error)  # noqa: PT017  # it may also end well
    if moment.calls >= number:
        region.must_be_sound(hashless=unwritten)
        region.orphans()
        region.must_be_sound(hashless=unwritten)
    return moment.calls


@pytest.mark.parametrize(("nothing", "unwritten"), [(False, False), (True, False), (False, True)])
@pytest.mark.parametrize("first", range(1, 14, 3))
def test_a_restorer_that_is_late_from_any_call_on_changes_nothing(first: int, nothing: bool, unwritten: bool) -> None:
    number = first
    while True:
        region = _Region(0)
        story = partial(_late, region, number, nothing=nothing, unwritten=unwritten)
        if play(region.world, story, limit_ms=24 * HOUR_MS) < number:
            break
        number += 13
    assert number > first


@pytest.mark.parametrize("job", [_accepted, _rolled_up, _compacted, _cleaned])
def test_a_ledger_of_a_moment_between_any_two_calls_of_a_job_has_all_that_was_accepted_before_and_since(
    job: Callable[[_Region], None],
) -> None:
    number = 1
    while _between(job, number).calls >= number:
        number += 1
    assert number > 3

"""The ledger is restored to a time between any two calls of a job, and then made consistent again (P41)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from metering.ledger.format_version import remember_format
from metering.stores.writes import Key, Put, Table
from tests.simulation.region import jobs
from tests.simulation.region.faults import HOUR_MS, Fault
from tests.simulation.region.scheduler import KilledError
from tests.simulation.scenario import NOW_MS, content_of
from tests.simulation.stories import Between, compact, meter, play, roll_up, visible, world_of
from tests.support.memory.rows import plain_usage

if TYPE_CHECKING:
    from collections.abc import Callable

    from metering.settings import Settings
    from metering.stores.writes import Delete, Item, Update

_SHARDS = 2
_BEFORE = jobs.settings(_SHARDS, 200)
_AFTER = jobs.settings(_SHARDS, 200, usage_generation=3)


class _Moment(Between):
    """Kills the process `dying` at call `dies_in` of that process."""

    dies_in = 0

    def fault(self, process: str, _call: str, choices: tuple[Fault, ...]) -> Fault | None:
        self.dies_in -= process == "dying"
        if process != "dying" or self.dies_in:
            return None
        return Fault.KILLED_AFTER if Fault.KILLED_AFTER in choices else Fault.KILLED_BEFORE


class _Blind:
    """A watch that ignores all writes, because a restore makes rows invisible on purpose."""

    def written(self, action: Put | Update | Delete) -> None:
        """Nothing."""

    def put_object(self, key: str) -> None:
        """Nothing."""


class _Region:
    """A region whose ledger is restored from a backup."""

    def __init__(self, number: int) -> None:
        self.moment = _Moment(number)
        starts = [NOW_MS // 1000, NOW_MS // 1000 - 3600]
        contents = [content_of(f"b{n}", 0, starts) for n in range(6)]
        # Kinds that were numbered in the lost time, and kinds numbered after that time.
        contents += [content_of("lost", 0, starts * 2, kinds=4), content_of("after", 0, starts * 3, kinds=6)]
        self.world = world_of(contents, self.moment, 5)
        self.backup: list[Item] = []
        self.objects: dict[str, bytes] = {}
        self.moment.then = self.back_up
        remember_format(self.world.items, written_by="test", usage_generation=2)

    def back_up(self) -> None:
        self.backup = list(self.world.items.everything(Table.LEDGER))
        self.objects = {key: self.world.objects.peek(key) or b"" for key in self.world.objects.keys("staging/")}

    def restore(self) -> None:
        """Restore the ledger from the backup, empty the usage table, and restore staging objects deleted since."""
        for item in list(self.world.items.everything(Table.LEDGER)):
            self.world.items.remove(Table.LEDGER, Key(str(item["pk"]), str(item["sk"])))
        for item in list(self.world.items.everything(Table.USAGE)):
            self.world.items.remove(Table.USAGE, Key(str(item["pk"]), str(item["sk"])))
        for item in self.backup:
            self.world.items.put(Put(table=Table.LEDGER, item=item))
        for key, body in self.objects.items():
            self.world.objects.put(key, body, if_absent=True)
        self.world.watch = _Blind()  # type: ignore[assignment]  # it follows nothing

    def meter(self, *names: str, settings: Settings = _BEFORE) -> None:
        meter(self.world, *names, settings=settings)

    def roll_up(self, name: str = "roll-up", settings: Settings = _BEFORE) -> None:
        roll_up(self.world, name, settings=settings)

    def compact(self, name: str = "compactor") -> None:
        compact(self.world, name, shards=_SHARDS)

    def clean(self) -> None:
        process = self.world.process("cleaner")
        jobs.cleaner(process, shards=_SHARDS, wait_s=-1).run(jobs.deadline(process, HOUR_MS))
        jobs.rollup_cleaner(process, shards=_SHARDS, wait_s=-1).run(jobs.deadline(process, HOUR_MS))

    def made_fit(self, dies_in: int) -> None:
        """Run the command after a restore: kill it at a call, then run it to completion."""
        self.moment.dies_in = dies_in
        dying = self.world.process("dying")
        try:
            jobs.after_restore(dying, _AFTER, shards=_SHARDS).run()
        except KilledError:
            jobs.after_restore(self.world.process("restorer"), _AFTER, shards=_SHARDS).run()

    def must_be_sound(self) -> None:
        """Check that rows and usage equal the contents of all batches in the ledger, each counted once."""
        batches = {str(i["pk"])[2:] for i in self.world.items.everything(Table.LEDGER) if str(i["pk"])[:2] == "B#"}
        sent = [row for content in self.world.contents.values() for row in content.rows if row.batch_id in batches]
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
        region.clean()
        if region.backup:
            region.restore()
            region.made_fit(dies_in=7 * number % 60)
            region.roll_up(settings=_AFTER)
            region.must_be_sound()
            region.meter("b5.0", "after.0", settings=_AFTER)
            region.roll_up(settings=_AFTER)
            region.must_be_sound()
            region.compact()
            region.clean()
            region.must_be_sound()

    play(region.world, story, limit_ms=24 * HOUR_MS)
    return region.moment


def _rolled_up(region: _Region) -> None:
    region.roll_up("first")


def _compacted(region: _Region) -> None:
    region.roll_up()
    region.compact("first")


@pytest.mark.parametrize("job", [_rolled_up, _compacted])
def test_a_ledger_of_a_moment_between_any_two_calls_of_a_job_counts_all_that_it_knows_once(
    job: Callable[[_Region], None],
) -> None:
    number = 1
    while _between(job, number).calls >= number:
        number += 1
    assert number > 30

"""Fourteen days of the real worker and compactor: late data makes few files, for however long it arrives."""

import statistics
from collections.abc import Iterable, Iterator
from dataclasses import replace

import pytest

from metering.lake.view import LakeView
from metering.stores.queues import Delivery
from metering.units import DAY_S, HOUR_S
from tests.support.lake_world import HOUR, NOW_S, World, load_batches
from tests.support.memory.rows import PlainLake, PlainRecord, plain_body
from tests.support.stage import compaction

DAYS = 14
START_S = NOW_S - NOW_S % DAY_S
# Ages of late rows that arrive on other days. Each hour gets rows every hour of its own day, then every half day for 14
# days, and then until day 33: as at full scale, the policy's waits reduce these to fewer files.
LATER_S = (*range(DAY_S, 14 * DAY_S + 1, 12 * HOUR_S), *range(15 * DAY_S, 34 * DAY_S, 2 * DAY_S))
# 2 % are late.
ON_TIME_ROWS = 49 * (12 + len(LATER_S)) // 4 * 4
# At 50 million rows an hour, the rows of an hour fill four files of 12 million.
FILE_ROWS = ON_TIME_ROWS * 12 // 50
# One row in this test represents this many rows at full scale.
ROWS_OF_A_ROW = 50_000_000 // ON_TIME_ROWS


class Service:
    """The worker and the compactor over in-memory stores, with rows that are not Parquet."""

    def __init__(self) -> None:
        world = World(now_s=START_S)
        self.world, self.clock = world, world.clock
        self.aggregator = world.parts().plain_worker()
        policy = compaction(file_rows=FILE_ROWS)
        self.compactor = replace(world.jobs.compactor_of(policy), writer=PlainLake(world.objects))
        self.view = LakeView(items=world.items, objects=world.objects, reader=PlainLake(world.objects), shards=1)
        self.sent = 0

    def send(self, starts_s: Iterable[int]) -> None:
        """Run one invocation with one batch whose rows start at `starts_s`."""
        rows = [PlainRecord("a", "t", "f", "i", 1, s) for s in starts_s]
        self.sent += 1
        delivery = Delivery(
            message_id=f"m{self.sent}",
            body=plain_body({"batch_id": f"b{self.sent}", "rows": rows}),
            sent_at_ms=self.clock.now_ms(),
            receive_count=1,
            sender_id="sender",
        )
        assert not self.aggregator.handle([delivery], self.world.deadline()).retry
        self.world.roll_up(plain=True)

    def compact(self) -> None:
        assert self.compactor.run(self.world.deadline()).finished


def late_starts(hour_s: int) -> Iterator[int]:
    """Starts of the late rows that arrive in an hour."""
    yield from range(hour_s - hour_s % DAY_S, hour_s, HOUR_S)
    yield from (hour_s - late_s for late_s in LATER_S)


def parquet_bytes(rows: int) -> int:
    """Size of a file of `rows` rows that the real codec and writer make from batches like those of `make load`."""
    world = World()
    for batch in load_batches(rows):
        world.send(batch)
    world.compact_all()
    [file] = world.files(HOUR - HOUR_S)
    assert file.rows == rows
    return len(world.objects.get(file.key))


@pytest.mark.long
def test_fourteen_days_with_two_percent_late_over_35_days_make_at_most_forty_files_an_hour(
    capsys: pytest.CaptureFixture[str],
) -> None:
    service = Service()
    for hour_s in range(START_S, START_S + DAYS * DAY_S, HOUR_S):
        service.clock.advance_s(HOUR_S)
        for _ in range(4):
            service.send([hour_s] * (ON_TIME_ROWS // 4))
        # Rows that arrive right after a run wait longest: no other order gives more files.
        service.compact()
        service.send(late_starts(hour_s))
    hours = {hour_s: service.world.files(hour_s) for hour_s in service.view.hours()}
    most = max(len(files) for files in hours.values())
    rows = [file.rows for hour_s, files in hours.items() if hour_s >= START_S for file in files]
    full = sum(number for number in rows if number >= FILE_ROWS)
    median = statistics.median_low(rows) * ROWS_OF_A_ROW
    with capsys.disabled():
        print(
            f"files an hour at most {most}; median file {median:,} rows = {parquet_bytes(median):,} bytes of Parquet; "
            f"{100 * full // sum(rows)} % of the rows are in files of {FILE_ROWS * ROWS_OF_A_ROW:,} or more"
        )
    assert most <= 40

"""An in-memory region: the production worker, codec and lake jobs over in-memory stores."""

from __future__ import annotations

import json
import random
import time
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from metering.hours import hour_of, rfc3339
from metering.lake.parquet.reader import ParquetStagedUsage
from metering.ledger.booked_hours import LakeFile, Published
from metering.ledger.format_version import remember_format
from metering.ledger.usage.reading import UsageReading
from metering.replay.records import RecordGenerator, Records
from metering.replay.scenarios import SCENARIOS
from metering.replay.synthesis import account_id
from metering.reports.source import ReportSource
from metering.rollup.as_of_now import UsageNow
from metering.stores.queues import Delivery
from metering.stores.writes import Table
from metering.units import HOUR_S
from metering.version import package_version
from tests.support.memory.frozen import merge
from tests.support.region import MemoryRegion
from tests.support.stage import settings as stage_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from metering.lake.compactor import Compactor
    from metering.reports.sql.query import LakeQuery
    from metering.usage.totals import Total, UsageKey
    from metering.wiring.jobs import LakeJobs


def record_dicts(records: Records) -> list[Mapping[str, str | int]]:
    """Each record as a mapping of its fields."""
    columns = records.columns()
    return [{name: values[place] for name, values in columns.items()} for place in range(len(records.rows))]


NOW_S = int(datetime(2026, 11, 24, 13, 30, tzinfo=UTC).timestamp())
HOUR = hour_of(NOW_S)
ACCOUNT = "123456789012"


def record(
    size: int, *, start_s: int = NOW_S, account: str = ACCOUNT, resource: str = "i-0abc", to: str = "internet"
) -> dict[str, str | int]:
    """A record as a producer writes it."""
    return {
        "account_id": account,
        "service": "AmazonEC2",
        "resource_id": resource,
        "direction": "out",
        "from": "us-east-1/use1-az2",
        "to": to,
        "bytes": size,
        "start": rfc3339(start_s),
        "end": rfc3339(start_s),
    }


def load_batches(rows: int) -> Iterator[list[dict[str, str | int]]]:
    """Batches of records of the last full hour, like those of `make load`."""
    chance, load = random.Random(14), SCENARIOS["load"]
    generator = RecordGenerator(
        [account_id(14, number) for number in range(load.accounts)],
        accounts_per_batch=load.accounts_per_batch,
        keys_per_batch=load.keys_per_batch,
        mean_bits=load.mean_bits,
    )
    for sent in range(0, rows, load.records_per_batch):
        drawn = record_dicts(generator.draw(chance, min(load.records_per_batch, rows - sent), [HOUR - HOUR_S]))
        yield [{name: value for name, value in record.items() if value != ""} for record in drawn]


class World(MemoryRegion):
    """An in-memory region that sends batches and runs jobs. `settings` are changed by keyword."""

    def __init__(self, *, now_s: int = NOW_S, **settings: int) -> None:
        super().__init__(now_s=now_s, settings=stage_settings(**settings), seed=7)
        # The function writes the ledger's format at its start, so a scan of the ledger returns that item.
        remember_format(
            self.items,
            written_by=package_version(),
            usage_generation=self.settings.usage_generation,
            drop_identity="etag",
        )
        self.jobs = self.make_jobs()
        self.aggregator = self.parts().worker()
        self._sent = 0

    def make_jobs(self) -> LakeJobs:
        """The lake jobs, as in another process on the same stores."""
        return self.parts().jobs()

    def frozen_usage(self, month: str) -> dict[UsageKey, Total]:
        closed, reader = self.jobs.closer.frozen(month), self.jobs.frozen_files
        assert closed is not None
        return dict(entry for hour in closed.hours for entry in reader.hour(closed, hour.hour_s))

    def source(self) -> ReportSource:
        return ReportSource(
            region="us-east-1",
            items=self.items,
            objects=self.objects,
            view=self.jobs.view,
            frozen=self.jobs.frozen_files,
            as_of_now=UsageNow(
                reading=UsageReading(self.items),
                objects=self.objects,
                staged=ParquetStagedUsage(self.objects),
                shards=self.settings.shards,
            ),
        )

    @property
    def lake(self) -> LakeQuery:
        from metering.reports.sql.query import LakeQuery, RegionLake

        return LakeQuery(lakes=[RegionLake(region="us-east-1", view=self.jobs.view, objects=self.objects)])

    def ask(self, sql: str, **limits: float) -> list[tuple[object, ...]]:
        """Result rows of an SQL statement; `limits` can set the range and the timeout."""
        return list(self.lake.run(sql, **limits).rows)  # type: ignore[arg-type]  # its limits

    def send(self, *batches: Sequence[dict[str, str | int]], source: str = "", rolled_up: bool = True) -> list[str]:
        """Run one invocation with these batches; return their ids. If not `rolled_up`, commits wait."""
        deliveries = []
        ids = []
        for records in batches:
            number, self._sent = self._sent, self._sent + 1
            ids.append(f"batch-{number}")
            body: dict[str, object] = {
                "schema": "metering.batch/1",
                "batch_id": ids[-1],
                "record_count": len(records),
                "records": records,
            }
            if source:
                body |= {"source_id": source, "sequence": number}
            deliveries.append(
                Delivery(
                    message_id=f"m{number}",
                    body=json.dumps(body),
                    sent_at_ms=self.clock.now_ms(),
                    receive_count=1,
                    sender_id="sender",
                )
            )
        assert not self.aggregator.handle(deliveries, self.deadline()).retry
        if rolled_up:
            self.roll_up()
        return ids

    def dies_after(self, calls: int, run: Callable[[], object], counted: Collection[str] = ()) -> bool:
        """Run `run`, and kill it at the next store call after `calls` store calls; return False if it completed before.

        If `counted` is not empty, only calls with these names are counted.
        """
        left = calls

        def die(call: str) -> None:
            nonlocal left
            if counted and call not in counted:
                return
            if left == 0:
                raise KeyboardInterrupt
            left -= 1

        self.items.on_call = self.objects.on_call = die
        try:
            run()
        except KeyboardInterrupt:
            return True
        finally:
            self.items.on_call = self.objects.on_call = lambda _call: None
        return False

    def eager_compactor(self) -> Compactor:
        """A compactor to which every hour is due."""
        return self.jobs.compactor_of(self.jobs.policy.everything())

    def compact_all(self) -> int:
        """Compact regardless of the policy; returns the number of runs."""
        return self.eager_compactor().run(self.deadline(10_000)).runs

    def visible(self) -> dict[UsageKey, Total]:
        return merge(self.jobs.view.hour_usage(hour_s) for hour_s in self.jobs.view.hours())

    def files(self, hour_s: int) -> list[LakeFile]:
        return [
            file
            for item in self.items.query(Table.LEDGER, f"H#{rfc3339(hour_s)[:13]}", sk_from="1#", sk_to="1$")
            for file in Published.from_item(item).files
        ]


W = TypeVar("W", bound=World)


def dying(make: Callable[[], W], work: Callable[[W], object], *, least: int = 0, step: int = 1) -> Iterator[W]:
    """Yield worlds whose process was killed at its first call, at a later call and so on; in the last, it completed.

    Args:
        make: Makes a world.
        work: The work that the process does in the world.
        least: The number of calls of a completed process must exceed this.
        step: Increase of the number of calls before the kill, from one world to the next.
    """
    calls, died = 0, True
    while died:
        world = make()
        died = world.dies_after(calls, partial(work, world))
        yield world
        calls += step * died
    assert calls > least


def slow_lake(*, hours: int, files: int) -> World:
    """A world with `hours` hours of `files` lake files each."""
    world = World()
    for _ in range(files):
        world.send([record(1, start_s=HOUR - number * HOUR_S) for number in range(hours)])
        world.compact_all()
    assert len(world.objects.keys("lake/")) == hours * files
    return world


def ask_again_and_again(world: World, *, times: int, read_s: float) -> None:
    """Repeat a query over slow reads, and check that each one succeeds with the right result."""
    world.objects.on_call = lambda call: time.sleep(read_s) if call.startswith("objects.open") else None
    files = len(world.objects.keys("lake/"))
    for _ in range(times):
        result = world.lake.run("SELECT sum(bytes), count(*) FROM transfers", timeout_s=60)
        assert list(result.rows) == [(files, files)]

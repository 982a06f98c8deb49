"""A region for tests: in-memory stores, and production code over the ports of a process."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from metering.commit.aggregator import Aggregator
from metering.lake.parquet.reader import ParquetStagedUsage
from metering.ledger.markers import Marker, marker_key
from metering.ledger.usage.kinds import REGION_KINDS
from metering.quarantine.entries import QuarantineEntries
from metering.stores.clock import Alerts, Clock, Entropy, Metrics, Retrier
from metering.stores.writes import DYNAMODB_LIMITS, ActionLimits, ItemStore, Table
from metering.units import DAY_S
from metering.usage.totals import Total, UsageKey, add_totals
from metering.wiring.aggregator import build_aggregator
from metering.wiring.lake import build_rollup
from tests.support.memory.clock import DeadlineAt, ManualClock, MemoryAlerts, MemoryMetrics, SeededEntropy
from tests.support.memory.items import MemoryItemStore
from tests.support.memory.objects import MemoryObjectStore
from tests.support.memory.rows import PlainBatchReader, PlainLake, PlainRowCodec
from tests.support.usage_items import usage_of

if TYPE_CHECKING:
    from metering.intake.batches import BatchReader
    from metering.lake.ports import RowCodec, StagedUsage
    from metering.rollup.rollup import Rollup, RollupPolicy, RollupResult
    from metering.settings import Settings
    from metering.stores.objects import ObjectStore
    from metering.stores.queues import Queue
    from metering.wiring.jobs import LakeJobs


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """Builds production use cases over the ports of one process of a region."""

    items: ItemStore
    objects: ObjectStore
    clock: Clock
    entropy: Entropy
    metrics: Metrics
    alerts: Alerts
    settings: Settings
    limits: ActionLimits = DYNAMODB_LIMITS
    region_kinds: int = REGION_KINDS

    def worker(self) -> Aggregator:
        """The worker as deployed: it reads records as in the contract and writes Parquet."""
        return build_aggregator(self, self.metrics)

    def plain_worker(self) -> Aggregator:
        """A worker for the messages and rows of `tests.support.memory.rows`."""
        return self.worker_of(PlainBatchReader(self.objects), PlainRowCodec())

    def worker_of(self, reader: BatchReader, codec: RowCodec) -> Aggregator:
        """A worker with a reader and a codec of the test."""
        return Aggregator(
            items=self.items,
            objects=self.objects,
            reader=reader,
            codec=codec,
            clock=self.clock,
            entropy=self.entropy,
            metrics=self.metrics,
            settings=self.settings,
            alerts=self.alerts,
            limits=self.limits,
        )

    def rollup(self) -> Rollup:
        """The roll-up as deployed, which reads Parquet."""
        return self.rollup_of(ParquetStagedUsage(self.objects))

    def plain_rollup(self) -> Rollup:
        """A roll-up for the rows of `tests.support.memory.rows`."""
        return self.rollup_of(PlainLake(self.objects))

    def rollup_of(self, staged: StagedUsage, policy: RollupPolicy | None = None) -> Rollup:
        """A roll-up with a reader, and optionally a policy, of the test."""
        made = build_rollup(self, self.metrics, staged=staged, limits=self.limits, region_kinds=self.region_kinds)
        return made if policy is None else replace(made, policy=policy)

    def jobs(self) -> LakeJobs:
        from metering.wiring.jobs import lake_jobs

        return lake_jobs(self, self.metrics)

    def retrier(self) -> Retrier:
        return Retrier(clock=self.clock, entropy=self.entropy, attempts=self.settings.attempts)

    def deadline(self, time_ms: int) -> DeadlineAt:
        return DeadlineAt(clock=self.clock, at_ms=self.clock.now_ms() + time_ms)


class MemoryStores:
    """The state that all processes of an in-memory region share."""

    def __init__(self, clock: Clock) -> None:
        self.items = MemoryItemStore()
        self.objects = MemoryObjectStore(clock)
        self.metrics = MemoryMetrics()
        self.alerts = MemoryAlerts()

    def usage(self) -> dict[UsageKey, Total]:
        """Contents of the usage table, by usage key. Usage that waits for its roll-up is not included."""
        totals: dict[UsageKey, Total] = {}
        for entry in usage_of(self.items):
            add_totals(totals, {entry.key: entry.total})
        return totals


class MemoryRegion(MemoryStores):
    """An in-memory region under one manual clock."""

    def __init__(self, *, now_s: int, settings: Settings, seed: int = 1) -> None:
        self.clock = ManualClock(now_s * 1000)
        super().__init__(self.clock)
        self.entropy = SeededEntropy(seed)
        self.settings = settings

    def parts(self) -> Parts:
        """The use cases, as in another process of the region."""
        return Parts(
            items=self.items,
            objects=self.objects,
            clock=self.clock,
            entropy=self.entropy,
            metrics=self.metrics,
            alerts=self.alerts,
            settings=self.settings,
        )

    def deadline(self, time_s: int = 900) -> DeadlineAt:
        return self.parts().deadline(time_s * 1000)

    def marker(self, batch_id: str) -> Marker:
        item = self.items.peek(Table.LEDGER, marker_key(batch_id))
        assert item is not None, batch_id
        return Marker.from_item(item)

    def roll_up(self, *, plain: bool = False) -> RollupResult:
        """Roll up all waiting commits; with `plain`, the rows are those of `tests.support.memory.rows`."""
        parts = self.parts()
        result = (parts.plain_rollup() if plain else parts.rollup()).run(self.deadline(10_000))
        assert result.finished
        return result


def quarantine_of(world: Any, queue: Queue) -> QuarantineEntries:
    """The quarantine of a world that has `items`, `objects` and a `clock`."""
    return QuarantineEntries(
        items=world.items,
        objects=world.objects,
        queue=queue,
        clock=world.clock,
        bucket="data",
        marker_life_s=50 * DAY_S,
    )

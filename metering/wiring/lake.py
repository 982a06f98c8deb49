"""Consistent view of the lake, for who reads rows, and the roll-up, which reads what is staged for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from metering.lake.parquet.reader import ParquetLakeReader, ParquetStagedUsage
from metering.lake.view import LakeView
from metering.ledger.usage.kinds import KindNumbers
from metering.rollup.rollup import Rollup, RollupPolicy
from metering.rollup.tick import RollupTick
from metering.stores.retrying import Retrier
from metering.stores.writes import DYNAMODB_LIMITS
from metering.units import MINUTE_S

if TYPE_CHECKING:
    from metering.lake.ports import StagedUsage
    from metering.stores.items import ItemStore
    from metering.stores.objects import ObjectStore
    from metering.stores.telemetry import Metrics
    from metering.stores.writes import ActionLimits
    from metering.wiring.ports import ServicePorts


def lake_view(items: ItemStore, objects: ObjectStore, *, shards: int) -> LakeView:
    """Build the view of a region's lake over its Parquet files."""
    return LakeView(items=items, objects=objects, reader=ParquetLakeReader(objects), shards=shards)


def build_rollup(
    ports: ServicePorts,
    metrics: Metrics,
    *,
    threads: int = 1,
    staged: StagedUsage | None = None,
    limits: ActionLimits = DYNAMODB_LIMITS,
) -> Rollup:
    """Build the roll-up of a region.

    Args:
        ports: Stores, clock, alerts and settings of the region.
        metrics: Gets the counts.
        threads: Calls that are made side by side. More than one only over stores that threads may share.
        staged: Sums staging objects; by default those of Parquet.
        limits: Actions of a transaction.
    """
    settings = ports.settings
    retrier = Retrier(clock=ports.clock, entropy=ports.entropy, attempts=settings.attempts)
    return Rollup(
        items=ports.items,
        objects=ports.objects,
        staged=ParquetStagedUsage(ports.objects) if staged is None else staged,
        numbers=KindNumbers(
            ports.items,
            retrier=retrier,
            cap=settings.kinds_per_account,
            generation=settings.usage_generation,
            actions=limits.transaction,
        ),
        clock=ports.clock,
        entropy=ports.entropy,
        retrier=retrier,
        metrics=metrics,
        alerts=ports.alerts,
        policy=RollupPolicy.of(settings),
        limits=limits,
        shards=settings.shards,
        generation=settings.usage_generation,
        threads=threads,
    )


def rollup_tick(ports: ServicePorts, rollup: Rollup) -> RollupTick:
    """One tick of the roll-up function, which runs each minute."""
    return RollupTick(rollup=rollup, clock=ports.clock, every_s=ports.settings.rollup_every_s, tick_s=MINUTE_S)

"""Ports on which the service is built, the consistent view of the lake, and the roll-up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from metering.lake.parquet.reader import ParquetLakeReader, ParquetStagedUsage
from metering.lake.view import LakeLife, LakeView
from metering.ledger.usage.kinds import REGION_KINDS, KindNames, KindNumbers
from metering.rollup.rollup import Rollup, RollupPolicy, RollupTick
from metering.stores.clock import Alerts, Clock, Entropy, Metrics, Retrier
from metering.stores.writes import DYNAMODB_LIMITS, ActionLimits, ItemStore
from metering.units import MINUTE_S

if TYPE_CHECKING:
    from metering.lake.ports import StagedUsage
    from metering.settings import Policy, Settings
    from metering.stores.objects import ObjectStore


class ServicePorts(Protocol):
    """Stores, clock, alerts and settings of one region: of a function, of a command, or of a test."""

    @property
    def items(self) -> ItemStore: ...
    @property
    def objects(self) -> ObjectStore: ...
    @property
    def clock(self) -> Clock: ...
    @property
    def entropy(self) -> Entropy: ...
    @property
    def alerts(self) -> Alerts: ...
    @property
    def settings(self) -> Settings: ...


def lake_view(
    items: ItemStore,
    objects: ObjectStore,
    *,
    shards: int,
    life_s: int = 0,
    clock: Clock | None = None,
    kept_bytes: int = 0,
) -> LakeView:
    """Build the view of a region's lake over its Parquet files, which S3 deletes after `life_s` (0: never)."""
    life = LakeLife(life_s=life_s, clock=clock, objects=objects) if life_s and clock is not None else None
    return LakeView(
        items=items, objects=objects, reader=ParquetLakeReader(objects, kept_bytes=kept_bytes), shards=shards, life=life
    )


def build_rollup(
    ports: ServicePorts,
    metrics: Metrics,
    *,
    threads: int = 1,
    staged: StagedUsage | None = None,
    limits: ActionLimits = DYNAMODB_LIMITS,
    region_kinds: int = REGION_KINDS,
) -> Rollup:
    """Build the roll-up of a region. Staging objects are summed by `staged`; default: Parquet.

    The roll-up makes `threads` parallel calls; if there are several threads, the stores must be thread-safe.
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
            region_cap=region_kinds,
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
    """Build one tick of the roll-up function, which runs each minute."""
    return RollupTick(rollup=rollup, clock=ports.clock, every_s=ports.settings.rollup_every_s, tick_s=MINUTE_S)


class ReadableRegion(Protocol):
    """Stores and settings of one region, for reading."""

    @property
    def region(self) -> str: ...
    @property
    def stage(self) -> str: ...
    @property
    def items(self) -> ItemStore: ...
    @property
    def kind_names(self) -> KindNames: ...
    @property
    def objects(self) -> ObjectStore: ...
    @property
    def view(self) -> LakeView: ...
    @property
    def clock(self) -> Clock: ...
    @property
    def settings(self) -> Policy: ...

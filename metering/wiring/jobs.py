"""Jobs over the lake of one region, for functions and commands."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from metering.audit import drops, hour_check, incremental, rebuild, reconciler_tick, source_keeping
from metering.audit.reconciler import Reconciler
from metering.billing.closer import PeriodCloser
from metering.billing.day_sums.days import AccountCheck
from metering.intake.dropped import DropIds
from metering.lake import plan
from metering.lake.cleaner import Cleaner, OrphanCleaner, quarantine_age_s
from metering.lake.compactor import Compactor
from metering.lake.parquet import frozen_months, reader
from metering.lake.parquet.writer import ParquetLakeWriter
from metering.ledger.notes.reconciliation import silence_of
from metering.ledger.usage.reading import UsageReading
from metering.rollup.cleaner import RollupCleaner
from metering.stores.clock import Alerts, Clock, Entropy, Metrics, Retrier
from metering.units import MIB
from metering.wiring.lake import ServicePorts, build_rollup, lake_view

if TYPE_CHECKING:
    from metering.lake.view import LakeView
    from metering.rollup.rollup import Rollup
    from metering.settings import Settings
    from metering.stores import writes
    from metering.stores.objects import ObjectStore


@dataclass(frozen=True)
class LakeJobs:
    """Jobs of one region, each created on first use.

    Attributes:
        threads: Number of a job's parallel calls. If there are several threads, stores must be thread-safe.
        eventual: The tables of `items`, with eventually consistent reads, for first looks of the quick pass.
    """

    items: writes.ItemStore
    objects: ObjectStore
    clock: Clock
    entropy: Entropy
    metrics: Metrics
    alerts: Alerts
    settings: Settings
    threads: int = 1
    eventual: writes.ItemStore | None = None

    @cached_property
    def view(self) -> LakeView:
        return lake_view(
            self.items,
            self.objects,
            shards=self.settings.shards,
            life_s=self.settings.lake_life_s,
            clock=self.clock,
        )

    @cached_property
    def policy(self) -> plan.CompactionPolicy:
        return plan.CompactionPolicy.of(self.settings)

    @cached_property
    def compactor(self) -> Compactor:
        return self.compactor_of(self.policy)

    def compactor_of(self, policy: plan.CompactionPolicy) -> Compactor:
        """Build a compactor whose `policy` decides which hours are due."""
        return Compactor(
            items=self.items,
            objects=self.objects,
            writer=ParquetLakeWriter(self.objects),
            clock=self.clock,
            entropy=self.entropy,
            retrier=self._retrier,
            metrics=self.metrics,
            alerts=self.alerts,
            policy=policy,
            shards=self.settings.shards,
            threads=self.threads,
        )

    @cached_property
    def rollup(self) -> Rollup:
        return build_rollup(self, self.metrics, threads=self.threads)

    @cached_property
    def rollup_cleaner(self) -> RollupCleaner:
        return RollupCleaner(
            items=self.items,
            objects=self.objects,
            clock=self.clock,
            retrier=self._retrier,
            shards=self.settings.shards,
            run_life_s=self.settings.marker_life_s,
            threads=self.threads,
        )

    @cached_property
    def cleaner(self) -> Cleaner:
        return Cleaner(
            items=self.items,
            objects=self.objects,
            clock=self.clock,
            retrier=self._retrier,
            metrics=self.metrics,
            alerts=self.alerts,
            shards=self.settings.shards,
            wait_s=self.settings.clean_wait_s,
            commit_life_s=self.settings.marker_life_s,
            threads=self.threads,
        )

    @cached_property
    def orphans(self) -> OrphanCleaner:
        return OrphanCleaner(
            items=self.items,
            objects=self.objects,
            clock=self.clock,
            retrier=self._retrier,
            metrics=self.metrics,
            quarantine_age_s=quarantine_age_s(self.settings.marker_life_s),
            threads=self.threads,
        )

    @cached_property
    def usage_reading(self) -> UsageReading:
        return UsageReading(self.items, self.rollup.numbers.names)

    @cached_property
    def figures(self) -> hour_check.Figures:
        return hour_check.Figures(
            items=self.items,
            usage=self.usage_reading,
            view=self.view,
            totals=self.totals,
            clock=self.clock,
            marker_life_s=self.settings.marker_life_s,
            threads=self.threads,
        )

    @cached_property
    def reconciler(self) -> Reconciler:
        return Reconciler(
            figures=self.figures,
            memory_bytes=self.settings.scan_memory_mb * MIB,
            metrics=self.metrics,
            alerts=self.alerts,
            derived=self.account_check,
        )

    @cached_property
    def account_check(self) -> AccountCheck:
        return AccountCheck(items=self.items, objects=self.objects, reader=self.view.reader)

    @cached_property
    def reconciler_state(self) -> reconciler_tick.ReconcilerState:
        return reconciler_tick.ReconcilerState(items=self.items, clock=self.clock, keeper=self.source_keeper)

    @cached_property
    def source_keeper(self) -> source_keeping.SourceKeeper:
        return source_keeping.SourceKeeper(
            items=self.items,
            clock=self.clock,
            largest_jump=self.settings.source_jump,
            life_s=self.settings.source_life_s,
            silence_s=silence_of(self.settings.scan_every_s),
        )

    @cached_property
    def drop_check(self) -> drops.DropCheck:
        return drops.DropCheck(
            items=self.items,
            objects=self.objects,
            clock=self.clock,
            drops=self.drop_ids,
            threads=self.threads,
        )

    @cached_property
    def drop_ids(self) -> DropIds:
        return DropIds(objects=self.objects, bucket=self.settings.data_bucket, identity=self.settings.drop_identity)

    @cached_property
    def reconcile_tick(self) -> reconciler_tick.ReconcileTick:
        return reconciler_tick.ReconcileTick(
            reconciler=self.reconciler,
            checker=incremental.IncrementalCheck(reconciler=self.reconciler, eventual=self.eventual),
            state=self.reconciler_state,
            clock=self.clock,
            window_s=self.settings.window_s,
            scan_every_s=self.settings.scan_every_s,
        )

    @cached_property
    def rebuilder(self) -> rebuild.Rebuilder:
        return rebuild.Rebuilder(
            reconciler=self.reconciler,
            retrier=self._retrier,
            metrics=self.metrics,
            frozen=self.frozen_files,
            numbers=self.rollup.numbers,
            staged=reader.ParquetStagedUsage(self.objects),
        )

    @cached_property
    def frozen_files(self) -> frozen_months.ParquetFrozenFiles:
        return frozen_months.ParquetFrozenFiles(self.objects)

    @cached_property
    def totals(self) -> reader.ParquetTotals:
        return reader.ParquetTotals(self.objects, self.view.reader)

    @cached_property
    def closer(self) -> PeriodCloser:
        return PeriodCloser(
            items=self.items,
            objects=self.objects,
            view=self.view,
            reader=self.view.reader,
            files=self.frozen_files,
            rollup=self.rollup,
            compactor=self.compactor,
            reconciler=self.reconciler,
            clock=self.clock,
            retrier=self._retrier,
            alerts=self.alerts,
            shards=self.settings.shards,
        )

    @cached_property
    def _retrier(self) -> Retrier:
        return Retrier(clock=self.clock, entropy=self.entropy, attempts=self.settings.attempts)


def lake_jobs(
    ports: ServicePorts, metrics: Metrics, *, threads: int = 1, eventual: writes.ItemStore | None = None
) -> LakeJobs:
    """Build the lake's jobs of a region; `threads` and `eventual` as in `LakeJobs`."""
    return LakeJobs(
        items=ports.items,
        objects=ports.objects,
        clock=ports.clock,
        entropy=ports.entropy,
        metrics=metrics,
        alerts=ports.alerts,
        settings=ports.settings,
        threads=threads,
        eventual=eventual,
    )

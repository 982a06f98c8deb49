"""Reconciler, verification and close of a month, over a computed region."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from load_tests.scale.bench import Bench, Result, expect
from load_tests.scale.items import BLOCKS_A_SOURCE, source_id
from load_tests.scale.region import ROUNDS, Region
from load_tests.scale.templates import Templates
from metering.audit.sequences import SourceSightings
from metering.audit.verifier import Verifier
from metering.ledger.notes.reconciliation import WorkList
from metering.stores.clock import CALLS_AT_ONCE
from metering.units import DAY_S, HOUR_S, MIB
from tests.support.memory.queues import MemoryQueue

if TYPE_CHECKING:
    from pathlib import Path

# A prime larger than the number of a source's sequence numbers in a day.
_SPREAD = 7_919


def prepare_files(region: Region, folder: Path) -> None:
    """Write an hour's files, and their totals."""
    Templates(folder).write(region, rows=True, totals=True)


def prepare_totals(region: Region, folder: Path) -> None:
    """Write the totals of an hour's files, for a job that reads no rows."""
    Templates(folder).write(region, rows=False, totals=True)


def quick_pass(region: Region, folder: Path) -> Result:
    """Compare the result of one compactor run: an hour, and late files of earlier days."""
    bench = Bench(region, folder)
    checker = bench.jobs.reconcile_tick.checker
    checker.keep(replace(WorkList(), runs={0: region.newest_run - 1}, scanned_s=bench.clock.now_ms() // 1_000))
    found: list[object] = []

    def work() -> None:
        result = checker.run(bench.deadline())
        expect(all_compared=result.left == 0, nothing_differs=not result.different, hours=result.hours > 0)
        found.append(result)

    run = bench.step(work)
    return bench.result("quick-pass", run=run)


def quick_pass_of_usage(region: Region, folder: Path) -> Result:
    """Compare the usage of all hours of a region whose files were already compared."""
    bench = Bench(region, folder)
    checker = bench.jobs.reconcile_tick.checker
    now_s = bench.clock.now_ms() // 1_000
    hours = dict.fromkeys(range(region.begin_s, region.end_s, HOUR_S), now_s)
    checker.keep(replace(WorkList(), runs={0: region.newest_run}, hours=hours, scanned_s=now_s))

    def work() -> None:
        result = checker.run(bench.deadline())
        expect(all_compared=result.left == 0, nothing_differs=not result.different, hours=result.hours == len(hours))

    return bench.result("quick-pass", run=bench.step(work))


def scan(region: Region, folder: Path) -> Result:
    """Compare all hours of the window with both tables."""
    bench = Bench(region, folder)
    reconciler, now_s = bench.jobs.reconciler, bench.clock.now_ms() // 1_000

    def work() -> None:
        result = reconciler.run(from_s=now_s - bench.settings.window_s - DAY_S, to_s=now_s + DAY_S)
        expect(nothing_differs=not result.different, stable=not result.unstable, hours=len(result.checks) > 0)

    return bench.result("scan", run=bench.step(work))


def scan_after_a_day(region: Region, folder: Path) -> Result:
    """The same, with one day of batches' numbers in memory: a scan keeps the numbers of a day."""
    numbers = {source_id(source): SourceSightings() for source in range(region.blocks // BLOCKS_A_SOURCE)}
    per_source = ROUNDS * BLOCKS_A_SOURCE * (25 - region.hours)
    for sightings in numbers.values():
        for number in range(per_source):
            # The order is scrambled, as in a table scan.
            sightings.add(number * _SPREAD % per_source, region.begin_s * 1_000 + number)
    found = scan(region, folder)
    expect(kept=sum(map(len, numbers.values())) == per_source * len(numbers))
    return found


def verify(region: Region, folder: Path) -> Result:
    """Prove everything that has markers: each batch against its rows, each key against its usage."""
    bench = Bench(region, folder)
    verifier = Verifier(
        items=bench.items,
        objects=bench.objects,
        view=bench.jobs.view,
        ingest=MemoryQueue(bench.clock),
        dead_letters=MemoryQueue(bench.clock),
        clock=bench.clock,
        bucket="data",
        marker_life_s=bench.settings.marker_life_s,
        threads=CALLS_AT_ONCE,
        memory_bytes=bench.settings.scan_memory_mb * MIB,
    )

    def work() -> None:
        found = verifier.verify(from_s=region.begin_s, to_s=region.end_s)
        expect(settled=found.stable, none_lost=not found.lost, none_doubled=not found.doubled, sent=found.sent > 0)

    return bench.result("verify", run=bench.step(work))


def close(region: Region, month: str, folder: Path) -> Result:
    """Close a month whose commits are placed and published."""
    bench = Bench(region, folder, after_s=4 * DAY_S)
    closer = bench.jobs.closer

    def work() -> None:
        frozen = closer.close(month, bench.deadline())
        expect(hours=len(frozen.hours) > 0, total=frozen.total.records > 0)

    return bench.result("close", run=bench.step(work))

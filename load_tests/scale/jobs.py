"""The production jobs, and how often each runs in a day at its own scale."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

from load_tests.scale import restoring
from load_tests.scale.bench import Bench, Result, expect
from load_tests.scale.items import BLOCKS_A_SOURCE, source_id
from load_tests.scale.region import LATE_DAYS, MARKER_DAYS, ROUNDS, TARGET_ACCOUNTS, Region, account_id
from load_tests.scale.templates import Staging, Templates
from metering.audit.census_state import SHARE_OF_CELLS
from metering.audit.freshness import Freshness
from metering.audit.sequences import SourceSightings
from metering.audit.verifier import Verifier
from metering.fleet.stage import TUNABLES, StageConfig
from metering.hours import hour_of, month_bounds_s
from metering.intake.dropped import DropIds
from metering.ledger.commits import CommitRecord, waiting_in
from metering.ledger.markers import Marker, conflict_seen_item
from metering.ledger.notes.checks import CANARY_BYTES, CanaryRun, CanaryVerdict, canary_batch_id, slot_of
from metering.ledger.notes.lake import lake_figures
from metering.ledger.notes.reconciliation import WorkList
from metering.ledger.usage.reading import UsageReading
from metering.operations.canary import Canary
from metering.operations.watch import Watch
from metering.stores.clock import CALLS_AT_ONCE, ROLLUP_CALLS_AT_ONCE
from metering.stores.objects import staging_key
from metering.stores.queues import Redelivery
from metering.stores.writes import Put, Table
from metering.units import DAY_S, HOUR_S, MIB, MINUTE_S
from metering.usage.totals import Total
from tests.support.memory.queues import MemoryQueue

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

# The watch reads at most this many notes of a kind.
_NOTES = 2_000
_CANARY_EVERY_S = 5 * MINUTE_S


class QueueFigures:
    """`QueueFacts` of a queue that is never empty."""

    def oldest_age_s(self) -> int | None:
        return 30

    def longest_retention_s(self) -> int:
        return 14 * DAY_S

    def redelivery(self) -> Redelivery:
        return Redelivery(visibility_s=420, max_receives=7)


class NoGauges:
    """`Gauges` that nobody reads."""

    def publish(self, figures: Mapping[str, int]) -> None:
        del figures


def fill_notes(bench: Bench) -> None:
    """Write the notes that the watch would find from other jobs and bad producers."""
    now_s = bench.clock.now_ms() // 1_000
    for number in range(_NOTES):
        bench.items.put(Put(table=Table.LEDGER, item=conflict_seen_item(f"{number:032d}", "0" * 64, now_s - number)))
    for run in _canary_runs(now_s):
        bench.items.put(Put(table=Table.LEDGER, item=run.to_item()))


def freshness_of(bench: Bench) -> Freshness:
    """Time up to which a region's reports are complete; its queue is not empty."""
    ingest = MemoryQueue(bench.clock)
    ingest.send_many(["{}"])
    return Freshness(
        items=bench.items,
        ingest=ingest,
        dead=MemoryQueue(bench.clock),
        queue_facts=QueueFigures(),
        clock=bench.clock,
        region="us-east-1",
        stage="prod",
        shards=bench.settings.shards,
        window_s=bench.settings.window_s,
    )


def watch_of(bench: Bench) -> Watch:
    """The watch of a region."""
    freshness = freshness_of(bench)
    return Watch(
        items=bench.items,
        ingest=freshness.ingest,
        dead=freshness.dead,
        queue_facts=QueueFigures(),
        gauges=NoGauges(),
        clock=bench.clock,
        freshness=freshness,
        shards=bench.settings.shards,
        window_s=bench.settings.window_s,
        marker_life_s=bench.settings.marker_life_s,
    )


def canary_of(bench: Bench) -> Canary:
    """The canary of a region, with its runs of the last two hours and the outcome of their batches."""
    now_s = bench.clock.now_ms() // 1_000
    for run in _canary_runs(now_s):
        bench.items.put(Put(table=Table.LEDGER, item=run.to_item()))
        hour_s = hour_of(run.slot_s)
        commit_id = f"canary{run.slot_s:026d}"
        commit = CommitRecord(
            commit_id=commit_id,
            state="committed",
            hours=(hour_s,),
            staging_key=staging_key(commit_id, hour_s),
            rows=1,
            bytes=CANARY_BYTES,
        )
        marker = Marker(
            batch_id=canary_batch_id(run.slot_s),
            verdict="accepted",
            content_hash="0" * 64,
            hash_version=1,
            commit_id=commit_id,
            source_id="",
            sequence=None,
            sender_id="",
            records=1,
            metered=1,
            refused=0,
            hours={hour_s: Total(CANARY_BYTES, 1)},
            decided_at_ms=now_s * 1_000,
            expires_at_s=now_s + 50 * DAY_S,
        )
        bench.items.put(Put(table=Table.LEDGER, item=marker.to_item()))
        bench.items.put(Put(table=Table.LEDGER, item=commit.to_item()))
    view = bench.jobs.view
    return Canary(
        items=bench.items,
        usage=UsageReading(bench.items),
        queue=MemoryQueue(bench.clock),
        view=view,
        clock=bench.clock,
        region="us-east-1",
        rollup_every_s=bench.settings.rollup_every_s,
    )


def _canary_runs(now_s: int) -> list[CanaryRun]:
    """Successful runs of the last two hours; their pointers are cleaned up, so each lookup reads the hour's files."""
    slots = [slot_of(now_s - ago_s) for ago_s in range(_CANARY_EVERY_S, 2 * HOUR_S, _CANARY_EVERY_S)]
    return [
        CanaryRun(slot_s=slot_s, sent_s=slot_s, verdict=CanaryVerdict.GOOD, settled_s=slot_s + MINUTE_S)
        for slot_s in slots
    ]


# A prime larger than the number of a source's sequence numbers in a day.
_SPREAD = 7_919


def prepare_files(region: Region, folder: Path) -> None:
    """Write an hour's lake files, and their totals."""
    Templates(folder).write(region, rows=True, totals=True)


def prepare_totals(region: Region, folder: Path) -> None:
    """Write only the totals of an hour's lake files, for a job that reads no rows."""
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

    return bench.result("quick-pass", run=bench.step(work))


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


def scan_after_a_week(region: Region, folder: Path) -> Result:
    """Run `scan` with a week of sequence numbers in memory: a scan keeps those that no earlier scan saw."""
    numbers = {source_id(source): SourceSightings() for source in range(region.blocks // BLOCKS_A_SOURCE)}
    per_source = ROUNDS * BLOCKS_A_SOURCE * (7 * 24 + 1 - region.hours)
    for sightings in numbers.values():
        for number in range(per_source):
            # The order is scrambled, as in a table scan.
            sightings.add(number * _SPREAD % per_source, region.begin_s * 1_000 + number)
    found = scan(region, folder)
    expect(kept=sum(map(len, numbers.values())) == per_source * len(numbers))
    return found


def verify(region: Region, folder: Path) -> Result:
    """Verify everything that has markers: each batch against its rows, each usage key against its usage."""
    bench = Bench(region, folder)
    verifier = Verifier(
        items=bench.items,
        objects=bench.objects,
        view=bench.jobs.view,
        ingest=MemoryQueue(bench.clock),
        dead_letters=MemoryQueue(bench.clock),
        clock=bench.clock,
        drops=DropIds(objects=bench.objects, bucket="data"),
        marker_life_s=bench.settings.marker_life_s,
        threads=CALLS_AT_ONCE,
        memory_bytes=bench.settings.scan_memory_mb * MIB,
    )

    def work() -> None:
        found = verifier.verify(from_s=region.begin_s, to_s=region.end_s)
        expect(settled=found.stable, none_lost=not found.lost, none_doubled=not found.doubled, sent=found.sent > 0)

    return bench.result("verify", run=bench.step(work))


def close(region: Region, folder: Path) -> Result:
    """Close the month of `_END_S`, whose commits are already placed and published."""
    bench = Bench(region, folder, after_s=4 * DAY_S)
    closer = bench.jobs.closer

    def work() -> None:
        frozen = closer.close("2026-09", bench.deadline())
        expect(hours=len(frozen.hours) > 0, total=frozen.total.records > 0)

    return bench.result("close", run=bench.step(work))


T = TypeVar("T")

_PROD = StageConfig.load("prod")
_END_S = month_bounds_s("2026-09")[1]
# Limit on the memory of a census's cells.
CELLS_MIB = TUNABLES["scan_memory_mb"] // SHARE_OF_CELLS
# Average number of pending commits at the target, each with only a late pair left (scale.py of the design).
_PENDING = 66_000
# Intervals of the roll-up, that of `prod` and the shortest at which the function ends between two runs, with the time
# within which a run has to roll up what came in that time. A run that takes longer than its interval is followed by the
# next one at once, which takes what came meanwhile; within half a minute, usage is visible in a minute.
_ROLLUPS = ((TUNABLES["rollup_every_s"], MINUTE_S // 2), (MINUTE_S, MINUTE_S))


@dataclass(frozen=True, slots=True)
class Size:
    """Size of a region: its number of accounts, and its hours of history."""

    accounts: int
    hours: int


_HISTORY_HOURS = (LATE_DAYS + 2) * 24
# Jobs that work on one hour: a hundredth and a tenth of the target. Jobs that read whole tables, with a thousandth and
# a hundredth of the target.
HOURLY = (Size(TARGET_ACCOUNTS // 100, _HISTORY_HOURS), Size(TARGET_ACCOUNTS // 10, _HISTORY_HOURS))
# A lake file is full when it has a quarter of the rows of one hour at target. Beyond that, its memory stays constant.
FULL_FILES = (*HOURLY, Size(TARGET_ACCOUNTS // 4, _HISTORY_HOURS))
# If a job takes only seconds at three times the target, this is measured instead of projected.
UP_TO_NEEDED = (*HOURLY, Size(TARGET_ACCOUNTS * 3, _HISTORY_HOURS))
WHOLE = (Size(TARGET_ACCOUNTS // 1_000, MARKER_DAYS * 24), Size(TARGET_ACCOUNTS // 100, MARKER_DAYS * 24))
# Parts of jobs whose memory depends on an hour or a list: measured at full size if no files with rows are needed; else
# in an hour with one full file, and in one with four.
AS_NEEDED = (Size(TARGET_ACCOUNTS, 4), Size(TARGET_ACCOUNTS * 3, 4))
HOUR_OF_FULL_FILES = (Size(TARGET_ACCOUNTS // 4, 4), Size(TARGET_ACCOUNTS, 4))
# The gate runs every job once, with a thousandth of the accounts and a tenth of the history.
GATE = Size(TARGET_ACCOUNTS // 1_000, MARKER_DAYS * 24 // 10)
GATE_HOURS = Size(TARGET_ACCOUNTS // 1_000, 4)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """The part of a job whose memory grows with the region's size, measured separately.

    Attributes:
        says: What it is.
        prepare, run: As of a job.
        sizes: Sizes of the regions in which the part is measured.
        besides_mib: Memory of the rest of the job, which does not depend on the region's size. None means that this is
            the whole job's memory in the largest measured region, where all other parts were at their limits.
    """

    says: str
    prepare: Callable[[Size, Path], None]
    run: Callable[[Size, Path], Result]
    sizes: tuple[Size, ...]
    besides_mib: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A job of the service.

    Attributes:
        prepare: Writes the templates of the region's files, in a separate, unmeasured process.
        run: Measures the steps of the job in a region.
        a_day: Number of times that each step runs in a day, or within `within_s`.
        within_s: Time limit for all these runs together.
        says: What that time is.
        memory_mb: Memory of the job's function; None for a command, which has a whole core.
        sizes: Sizes of the measured regions in ascending order; at least two.
        part: The part whose memory grows with the region; None if it is measured with the job.
        needed: Multiple of the target load at which the job must still be within its time limit.
    """

    name: str
    prepare: Callable[[Size, Path], None]
    run: Callable[[Size, Path], Result]
    a_day: Mapping[str, float]
    within_s: float
    says: str
    memory_mb: int | None
    sizes: tuple[Size, ...] = HOURLY
    part: Part | None = None
    needed: float = 3.0


def _recent(size: Size) -> Region:
    """A region with the history of a size, ending some hours before the end of a month."""
    return Region(size.accounts, _END_S - size.hours * HOUR_S, _END_S - 10 * HOUR_S)


def _hour_staged(size: Size, *, waiting: bool = False, commits: int = 0) -> Staging:
    region = _recent(size)
    undue = 0 if waiting else _PENDING * size.accounts // TARGET_ACCOUNTS
    return Staging(region, commits or region.commits_an_hour, waiting=waiting, undue=undue)


def _nothing(_size: Size, _folder: Path) -> None:
    """Prepare nothing."""


# Compactor and cleaner: the commits of one hour, and the late pairs of these commits.


def _prepare_compactor(size: Size, folder: Path) -> None:
    Templates(folder).write_staging(_hour_staged(size))


def _compactor(size: Size, folder: Path) -> Result:
    staging = _hour_staged(size)
    bench = Bench(staging.region, folder, staging=staging)
    # Late pairs are due together with the hour itself: a day has as many of them.
    compactor = bench.jobs.compactor_of(replace(bench.jobs.policy, wait_older_s=HOUR_S))
    hour = bench.step(lambda: compactor.run(bench.deadline()))
    idle = bench.step(lambda: compactor.run(bench.deadline()))
    bench.clock.advance_s(2 * HOUR_S)
    clean = bench.step(lambda: bench.jobs.cleaner.run(bench.deadline()))
    expect(nothing_left=not any(True for _ in bench.objects.list("staging/")))
    return bench.result("compactor", hour=hour, idle=idle, clean=clean)


def _list_pending(size: Size, folder: Path) -> Result:
    """List the pending rows that are not yet due."""
    staging = _hour_staged(Size(size.accounts, _HISTORY_HOURS))
    bench = Bench(staging.region, folder, staging=staging)
    nothing_due = replace(bench.jobs.policy, wait_today_s=DAY_S, wait_older_s=DAY_S, file_rows=1 << 60)
    compactor = bench.jobs.compactor_of(nothing_due)
    idle = bench.step(lambda: compactor.run(bench.deadline()))
    expect(listed=lake_figures(bench.items)[0].commits == len(staging.ids) + staging.undue)
    return bench.result("compactor", idle=idle)


# Roll-up: the commits of some seconds, which must be rolled up within that time.


def _waiting_for(within_s: int) -> Callable[[Size], Staging]:
    def staging(size: Size) -> Staging:
        commits = max(1, round(_recent(size).commits_an_hour * within_s / HOUR_S))
        return _hour_staged(size, waiting=True, commits=commits)

    return staging


def _rollup(name: str, staging: Staging, folder: Path) -> Result:
    bench = Bench(staging.region, folder, staging=staging)
    rollup = replace(bench.jobs.rollup, threads=ROLLUP_CALLS_AT_ONCE)
    # A process caches its accounts' dictionaries: only its first run reads them.
    accounts = range(staging.region.accounts)
    cold = bench.step(lambda: [rollup.numbers.names.read(account_id(each)) for each in accounts])
    run = bench.step(lambda: rollup.run(bench.deadline()))
    expect(nothing_waits=not list(waiting_in(bench.items, 0)))
    return bench.result(name, run=run, cold=cold)


def _rollup_job(every_s: int, within_s: int) -> Job:
    name, waiting = f"rollup-{every_s}", _waiting_for(within_s)
    return Job(
        name=name,
        prepare=lambda size, folder: Templates(folder).write_staging(waiting(size)),
        run=lambda size, folder: _rollup(name, waiting(size), folder),
        a_day={"run": 1},
        within_s=within_s,
        says=f"what comes in {within_s} s, in {within_s} s",
        memory_mb=_PROD.rollup_memory_mb,
        sizes=UP_TO_NEEDED,
    )


# Orphans: all objects in the staging area.


def _orphans(size: Size, folder: Path) -> Result:
    region = _recent(size)
    staging = Staging(region, 1, waiting=False)
    kept = _PENDING * size.accounts // TARGET_ACCOUNTS + 2 * region.commits_an_hour
    bench = Bench(region, folder, staging=staging, kept=kept)
    orphans = bench.jobs.orphans
    whole = bench.step(lambda: orphans.run(bench.deadline()))
    return bench.result("orphans", whole=whole, idle=bench.step(lambda: orphans.run(bench.deadline())))


# Watch: one minute, with the messages and commits that wait at that moment.


def _watch(size: Size, folder: Path) -> Result:
    staging = _hour_staged(size, waiting=True, commits=max(1, round(_recent(size).commits_an_hour / 60)))
    bench = Bench(staging.region, folder, staging=staging)
    fill_notes(bench)
    watch = watch_of(bench)
    first = bench.step(watch.run)
    return bench.result("watch", run=bench.step(watch.run), first=first)


# Canary: a run whose batch is waiting, and the runs of two hours that are checked again.


def _prepare_canary(size: Size, folder: Path) -> None:
    Templates(folder).write(_recent(size), rows=True, totals=False)


def _canary(size: Size, folder: Path) -> Result:
    staging = _hour_staged(size, waiting=True, commits=1)
    bench = Bench(staging.region, folder, staging=staging, after_s=HOUR_S // 2)
    canary = canary_of(bench)
    return bench.result("canary", run=bench.step(lambda: canary.run(bench.deadline())))


# Jobs that read whole tables, and jobs that compare an hour.


def _whole(size: Size) -> Region:
    return Region(size.accounts, _END_S - size.hours * HOUR_S, _END_S)


def _in(region: Callable[[Size], Region], work: Callable[[Region, Path], T]) -> Callable[[Size, Path], T]:
    """Some work in a region of the given size."""
    return lambda size, folder: work(region(size), folder)


# Restore: two hours that the ledger does not know.


def _lost(size: Size) -> restoring.Lost:
    return restoring.Lost(_recent(size), _PENDING * size.accounts // TARGET_ACCOUNTS)


def _prepare_restore(size: Size, folder: Path) -> None:
    restoring.prepare(_lost(size), folder)


def _restore(size: Size, folder: Path) -> Result:
    return restoring.run(_lost(size), folder)


JOBS: dict[str, Job] = {
    job.name: job
    for job in (
        Job(
            name="compactor",
            prepare=_prepare_compactor,
            run=_compactor,
            a_day={"hour": 24, "idle": 288 + 191 - 24, "clean": 24},
            within_s=DAY_S,
            says="one chain, all day",
            memory_mb=_PROD.job_memory_mb,
            sizes=FULL_FILES,
            part=Part(says="list of what is pending", prepare=_nothing, run=_list_pending, sizes=AS_NEEDED),
        ),
        *(_rollup_job(every_s, within_s) for every_s, within_s in _ROLLUPS),
        Job(
            name="watch",
            prepare=_nothing,
            run=_watch,
            a_day={"run": 1},
            within_s=60,
            says="a run, in its minute",
            memory_mb=_PROD.small_job_memory_mb,
        ),
        Job(
            name="canary",
            prepare=_prepare_canary,
            run=_canary,
            a_day={"run": 1},
            within_s=4 * 60,
            says="a run, in its four minutes",
            memory_mb=_PROD.small_job_memory_mb,
        ),
        Job(
            name="orphans",
            prepare=_nothing,
            run=_orphans,
            a_day={"whole": 1},
            within_s=840,
            says="the daily pass, in one tick",
            memory_mb=_PROD.job_memory_mb,
        ),
        Job(
            name="quick-pass",
            prepare=_in(_recent, prepare_files),
            run=_in(_recent, quick_pass),
            a_day={"run": 24},
            within_s=96 * 720,
            says="a day's runs, in a day's ticks",
            memory_mb=_PROD.job_memory_mb,
            sizes=FULL_FILES,
            part=Part(
                says="usage of four hours",
                prepare=_in(_whole, prepare_totals),
                run=_in(_whole, quick_pass_of_usage),
                sizes=AS_NEEDED,
            ),
        ),
        Job(
            name="scan",
            prepare=_in(_whole, prepare_totals),
            run=_in(_whole, scan),
            a_day={"run": 1},
            within_s=96 * 420,
            says="paced over its day: half of a day's ticks",
            memory_mb=_PROD.job_memory_mb,
            sizes=WHOLE,
            part=Part(
                says="four hours, and a week's numbers of batches",
                prepare=_in(_whole, prepare_totals),
                run=_in(_whole, scan_after_a_week),
                sizes=AS_NEEDED,
                besides_mib=CELLS_MIB,
            ),
        ),
        Job(
            name="verify",
            prepare=_in(_whole, prepare_files),
            run=_in(_whole, verify),
            a_day={"run": 1},
            within_s=DAY_S,
            says="50 days of batches, in a day",
            memory_mb=None,
            sizes=WHOLE,
            part=Part(
                says="four hours",
                prepare=_in(_whole, prepare_files),
                run=_in(_whole, verify),
                sizes=HOUR_OF_FULL_FILES,
                besides_mib=CELLS_MIB,
            ),
        ),
        Job(
            name="close",
            prepare=_in(_whole, prepare_files),
            run=_in(_whole, close),
            a_day={"run": 1},
            within_s=DAY_S,
            says="a month, in a day",
            memory_mb=None,
            sizes=WHOLE,
            part=Part(
                says="four hours",
                prepare=_in(_whole, prepare_files),
                run=_in(_whole, close),
                sizes=HOUR_OF_FULL_FILES,
                besides_mib=CELLS_MIB,
            ),
        ),
        Job(
            name="restore",
            prepare=_prepare_restore,
            run=_restore,
            a_day={"decide": 1, "files": 2, "commits": 1, "copies": 1, "usage": 1},
            within_s=2 * HOUR_S,
            says="two lost hours, in two hours",
            memory_mb=None,
            # It is not regular work: a region that grows needs only more time for it.
            needed=1.0,
        ),
    )
}

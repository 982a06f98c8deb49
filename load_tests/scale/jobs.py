"""The jobs, and each job's daily work at its own scale."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from load_tests.scale import audit_jobs
from load_tests.scale.bench import Bench, Result, expect
from load_tests.scale.region import LATE_DAYS, MARKER_DAYS, TARGET_ACCOUNTS, Region, account_id
from load_tests.scale.small_jobs import canary_of, fill_notes, watch_of
from load_tests.scale.staging import Staging
from load_tests.scale.templates import Templates
from metering.audit.census_state import SHARE_OF_CELLS
from metering.fleet.stage import TUNABLES, StageConfig
from metering.hours import month_bounds_s
from metering.ledger.commits import waiting_in
from metering.ledger.notes.lake import lake_figures
from metering.units import DAY_S, HOUR_S

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

_PROD = StageConfig.load("prod")
_END_S = month_bounds_s("2026-09")[1]
# Memory limit of a census's cells.
CELLS_MIB = TUNABLES["scan_memory_mb"] // SHARE_OF_CELLS
# Average number of pending commits at the target, each with only a late pair left (scale.py of the design).
_PENDING = 66_000
# A run takes the commits that arrived during the previous run: within half a minute, usage is visible in a minute.
_ROLLUP_RUN_S = 30


@dataclass(frozen=True, slots=True)
class Size:
    """Size of a region: its number of accounts, and its hours of history."""

    accounts: int
    hours: int


_HISTORY_HOURS = (LATE_DAYS + 2) * 24
# A hundredth and a tenth of the target for jobs that work on one hour; a thousandth and a hundredth for jobs that read
# whole tables.
HOURLY = (Size(TARGET_ACCOUNTS // 100, _HISTORY_HOURS), Size(TARGET_ACCOUNTS // 10, _HISTORY_HOURS))
# A full lake file has the rows of a quarter of the target's hour: beyond that, its part in memory stays constant.
FULL_FILES = (*HOURLY, Size(TARGET_ACCOUNTS // 4, _HISTORY_HOURS))
# If three times the target takes only seconds, it is measured and not projected.
UP_TO_NEEDED = (*HOURLY, Size(TARGET_ACCOUNTS * 3, _HISTORY_HOURS))
WHOLE = (Size(TARGET_ACCOUNTS // 1_000, MARKER_DAYS * 24), Size(TARGET_ACCOUNTS // 100, MARKER_DAYS * 24))
# Parts of jobs whose memory depends on an hour or a list: measured at full size where no files with rows are needed;
# else in an hour of one full file, and of four.
AS_NEEDED = (Size(TARGET_ACCOUNTS, 4), Size(TARGET_ACCOUNTS * 3, 4))
HOUR_OF_FULL_FILES = (Size(TARGET_ACCOUNTS // 4, 4), Size(TARGET_ACCOUNTS, 4))
# A thousandth of the accounts, and a tenth of the history: the gate runs every job once.
GATE = Size(TARGET_ACCOUNTS // 1_000, MARKER_DAYS * 24 // 10)
GATE_HOURS = Size(TARGET_ACCOUNTS // 1_000, 4)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """The part of a job whose memory grows with its region, measured separately.

    Attributes:
        says: What it is.
        prepare, run: As of a job.
        sizes: Sizes of the regions that it is measured in.
        besides_mib: Memory of the rest of the job, which is independent of the region's size. None means the whole
            job's memory in the largest measured region, where everything else was at its own limit.
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
        within_s: Time limit for all of them together.
        says: What that time is.
        memory_mb: Memory of its function; None for a command, which has a whole core.
        sizes: Sizes of the measured regions, smaller ones first; at least two.
        part: The part that takes more memory in a larger region; None if it is measured with the whole.
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


def _recent(size: Size) -> Region:
    """A region with the history of a size, ending some hours before the end of a month."""
    return Region(size.accounts, _END_S - size.hours * HOUR_S, _END_S - 10 * HOUR_S)


def _hour_staged(size: Size, *, waiting: bool = False, commits: int = 0) -> Staging:
    region = _recent(size)
    undue = 0 if waiting else _PENDING * size.accounts // TARGET_ACCOUNTS
    return Staging(region, commits or region.commits_an_hour, waiting=waiting, undue=undue)


def _nothing(_size: Size, _folder: Path) -> None:
    """Prepare nothing."""


# Compactor and cleaner: the commits of an hour, and their late pairs.


def _prepare_compactor(size: Size, folder: Path) -> None:
    Templates(folder).write_staging(_hour_staged(size))


def _compactor(size: Size, folder: Path) -> Result:
    staging = _hour_staged(size)
    bench = Bench(staging.region, folder, staging=staging)
    # Late pairs are due together with the hour itself: a day has as many.
    compactor = bench.jobs.compactor_of(replace(bench.jobs.policy, wait_older_s=HOUR_S))
    hour = bench.step(lambda: compactor.run(bench.deadline()))
    idle = bench.step(lambda: compactor.run(bench.deadline()))
    bench.clock.advance_s(2 * HOUR_S)
    clean = bench.step(lambda: bench.jobs.cleaner.run(bench.deadline()))
    expect(nothing_left=not any(True for _ in bench.objects.list("staging/")))
    return bench.result("compactor", hour=hour, idle=idle, clean=clean)


def _list_pending(size: Size, folder: Path) -> Result:
    """List pending rows that are not due."""
    staging = _hour_staged(Size(size.accounts, _HISTORY_HOURS))
    bench = Bench(staging.region, folder, staging=staging)
    nothing_due = replace(bench.jobs.policy, wait_today_s=DAY_S, wait_older_s=DAY_S, file_rows=1 << 60)
    compactor = bench.jobs.compactor_of(nothing_due)
    idle = bench.step(lambda: compactor.run(bench.deadline()))
    expect(listed=lake_figures(bench.items)[0].commits == len(staging.ids) + staging.undue)
    return bench.result("compactor", idle=idle)


# Roll-up: the commits of half a minute.


def _rollup_commits(size: Size) -> int:
    return max(1, round(_recent(size).commits_an_hour * _ROLLUP_RUN_S / HOUR_S))


def _prepare_rollup(size: Size, folder: Path) -> None:
    Templates(folder).write_staging(_hour_staged(size, waiting=True, commits=_rollup_commits(size)))


def _rollup(size: Size, folder: Path) -> Result:
    staging = _hour_staged(size, waiting=True, commits=_rollup_commits(size))
    bench = Bench(staging.region, folder, staging=staging)
    rollup = bench.jobs.rollup
    # A process caches its accounts' dictionaries: only its first run reads them.
    cold = bench.step(lambda: [rollup.numbers.names.read(account_id(each)) for each in range(size.accounts)])
    run = bench.step(lambda: rollup.run(bench.deadline()))
    expect(nothing_waits=not list(waiting_in(bench.items, 0)))
    return bench.result("rollup", run=run, cold=cold)


# Orphans: all objects in staging.


def _orphans(size: Size, folder: Path) -> Result:
    region = _recent(size)
    staging = Staging(region, 1, waiting=False)
    kept = _PENDING * size.accounts // TARGET_ACCOUNTS + 2 * region.commits_an_hour
    bench = Bench(region, folder, staging=staging, kept=kept)
    orphans = bench.jobs.orphans
    whole = bench.step(lambda: orphans.run(bench.deadline()))
    idle = bench.step(lambda: orphans.run(bench.deadline()))
    return bench.result("orphans", whole=whole, idle=idle)


# Watch: one minute, with the messages and commits that wait at that moment.


def _watch(size: Size, folder: Path) -> Result:
    commits = max(1, round(_recent(size).commits_an_hour / 60))
    staging = _hour_staged(size, waiting=True, commits=commits)
    bench = Bench(staging.region, folder, staging=staging)
    fill_notes(bench)
    watch = watch_of(bench)
    first = bench.step(watch.run)
    run = bench.step(watch.run)
    return bench.result("watch", run=run, first=first)


# Canary: a run whose batch waits, and the runs of two hours that are checked again.


def _prepare_canary(size: Size, folder: Path) -> None:
    Templates(folder).write(_recent(size), rows=True, totals=False)


def _canary(size: Size, folder: Path) -> Result:
    staging = _hour_staged(size, waiting=True, commits=1)
    bench = Bench(staging.region, folder, staging=staging, after_s=HOUR_S // 2)
    canary = canary_of(bench)
    run = bench.step(lambda: canary.run(bench.deadline()))
    return bench.result("canary", run=run)


# Jobs that read whole tables, and jobs that compare an hour.


def _whole(size: Size) -> Region:
    return Region(size.accounts, _END_S - size.hours * HOUR_S, _END_S)


def _prepare_files(size: Size, folder: Path) -> None:
    audit_jobs.prepare_files(_whole(size), folder)


def _prepare_totals(size: Size, folder: Path) -> None:
    audit_jobs.prepare_totals(_whole(size), folder)


def _verify(size: Size, folder: Path) -> Result:
    return audit_jobs.verify(_whole(size), folder)


def _close(size: Size, folder: Path) -> Result:
    return audit_jobs.close(_whole(size), "2026-09", folder)


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
        Job(
            name="rollup",
            prepare=_prepare_rollup,
            run=_rollup,
            a_day={"run": 1},
            within_s=_ROLLUP_RUN_S,
            says="what comes in half a minute, in half a minute",
            memory_mb=_PROD.rollup_memory_mb,
            sizes=UP_TO_NEEDED,
        ),
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
            prepare=lambda size, folder: audit_jobs.prepare_files(_recent(size), folder),
            run=lambda size, folder: audit_jobs.quick_pass(_recent(size), folder),
            a_day={"run": 24},
            within_s=96 * 720,
            says="a day's runs, in a day's ticks",
            memory_mb=_PROD.job_memory_mb,
            sizes=FULL_FILES,
            part=Part(
                says="usage of four hours",
                prepare=_prepare_totals,
                run=lambda size, folder: audit_jobs.quick_pass_of_usage(_whole(size), folder),
                sizes=AS_NEEDED,
            ),
        ),
        Job(
            name="scan",
            prepare=_prepare_totals,
            run=lambda size, folder: audit_jobs.scan(_whole(size), folder),
            a_day={"run": 1},
            within_s=96 * 420,
            says="a day's scan, in half of a day's ticks",
            memory_mb=_PROD.job_memory_mb,
            sizes=WHOLE,
            part=Part(
                says="four hours, and a day's numbers of batches",
                prepare=_prepare_totals,
                run=lambda size, folder: audit_jobs.scan_after_a_day(_whole(size), folder),
                sizes=AS_NEEDED,
                besides_mib=CELLS_MIB,
            ),
        ),
        Job(
            name="verify",
            prepare=_prepare_files,
            run=_verify,
            a_day={"run": 1},
            within_s=DAY_S,
            says="50 days of batches, in a day",
            memory_mb=None,
            sizes=WHOLE,
            part=Part(
                says="four hours", prepare=_prepare_files, run=_verify, sizes=HOUR_OF_FULL_FILES, besides_mib=CELLS_MIB
            ),
        ),
        Job(
            name="close",
            prepare=_prepare_files,
            run=_close,
            a_day={"run": 1},
            within_s=DAY_S,
            says="a month, in a day",
            memory_mb=None,
            sizes=WHOLE,
            part=Part(
                says="four hours", prepare=_prepare_files, run=_close, sizes=HOUR_OF_FULL_FILES, besides_mib=CELLS_MIB
            ),
        ),
    )
}

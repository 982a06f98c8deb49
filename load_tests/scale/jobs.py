"""The jobs, and what each does in a day at its own size."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from load_tests.scale.bench import Bench, Result
from load_tests.scale.region import LATE_DAYS, TARGET_ACCOUNTS, Region, account_id
from load_tests.scale.staging import Staging
from load_tests.scale.templates import Templates
from metering.hours import month_bounds_s
from metering.stores.writes import Table
from metering.units import DAY_S, HOUR_S, KIB

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_END_S = month_bounds_s("2026-09")[1]
# Pending commits of the target on an average moment, of which only a late pair is left (scale.py of the design).
_PENDING = 66_000
# Seconds between two runs of the roll-up.
_ROLLUP_EVERY_S = 15


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A job of the service.

    Attributes:
        prepare: Writes what the region's files are made of; in a process of its own, so that it is not measured.
        run: Measures the steps of the job in a region.
        a_day: Times that each step is done in a day, or in a `within_s`.
        within_s: The time that all of them may take.
        says: What that time is.
        memory_mb: Of its function; None for a command, which has a whole core.
        accounts: Accounts of the regions that it is measured in.
    """

    name: str
    prepare: Callable[[int, Path], None]
    run: Callable[[int, Path], Result]
    a_day: Mapping[str, float]
    within_s: float
    says: str
    memory_mb: int | None
    accounts: tuple[int, ...] = (TARGET_ACCOUNTS // 100, TARGET_ACCOUNTS // 10)


def _recent(accounts: int, days: int = LATE_DAYS + 2) -> Region:
    """A region with so many days of history."""
    return Region(accounts, _END_S - days * DAY_S, _END_S - 10 * HOUR_S)


def _hour_staged(accounts: int, *, waiting: bool = False, commits: int = 0) -> Staging:
    region = _recent(accounts)
    undue = 0 if waiting else _PENDING * accounts // TARGET_ACCOUNTS
    return Staging(region, commits or region.commits_an_hour, waiting=waiting, undue=undue)


def _nothing(_accounts: int, _folder: Path) -> None:
    """Prepare nothing."""


# Compactor and cleaner: an hour's commits, and their late pairs.


def _prepare_compactor(accounts: int, folder: Path) -> None:
    Templates(folder).write_staging(_hour_staged(accounts))


def _compactor(accounts: int, folder: Path) -> Result:
    staging = _hour_staged(accounts)
    bench = Bench(staging.region, folder, staging=staging)
    # Late pairs are due with the hour itself: a day has as many.
    compactor = bench.jobs.compactor_of(replace(bench.jobs.policy, wait_older_s=HOUR_S))
    hour = bench.step(lambda: compactor.run(bench.deadline()))
    idle = bench.step(lambda: compactor.run(bench.deadline()))
    bench.clock.advance_s(2 * HOUR_S)
    clean = bench.step(lambda: bench.jobs.cleaner.run(bench.deadline()))
    assert not any(True for _ in bench.objects.list("staging/")), "the cleaner left something"
    return bench.result("compactor", hour=hour, idle=idle, clean=clean)


# Roll-up: what comes in fifteen seconds.


def _rollup_commits(accounts: int) -> int:
    return max(1, round(_recent(accounts).commits_an_hour * _ROLLUP_EVERY_S / HOUR_S))


def _prepare_rollup(accounts: int, folder: Path) -> None:
    Templates(folder).write_staging(_hour_staged(accounts, waiting=True, commits=_rollup_commits(accounts)))


def _rollup(accounts: int, folder: Path) -> Result:
    staging = _hour_staged(accounts, waiting=True, commits=_rollup_commits(accounts))
    bench = Bench(staging.region, folder, staging=staging)
    rollup = bench.jobs.rollup
    # A process keeps the dictionaries of its accounts: its first run reads them, the next ones do not.
    cold = bench.step(lambda: [rollup.numbers.names.read(account_id(each)) for each in range(accounts)])
    run = bench.step(lambda: rollup.run(bench.deadline()))
    assert not list(bench.items.query(Table.LEDGER, "U#0")), "the roll-up left something"
    return bench.result("rollup", run=run, cold=cold)


# Orphans: everything that is in staging.


def _orphans(accounts: int, folder: Path) -> Result:
    region = _recent(accounts)
    staging = Staging(region, 1, waiting=False)
    kept = (_PENDING + 2 * TARGET_ACCOUNTS // accounts * region.commits_an_hour) * accounts // TARGET_ACCOUNTS
    bench = Bench(region, folder, staging=staging, kept=kept)
    orphans = bench.jobs.orphans
    whole = bench.step(lambda: orphans.run(bench.deadline()))
    idle = bench.step(lambda: orphans.run(bench.deadline()))
    return bench.result("orphans", whole=whole, idle=idle)


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
            memory_mb=2_048,
        ),
        Job(
            name="rollup",
            prepare=_prepare_rollup,
            run=_rollup,
            a_day={"run": 1},
            within_s=_ROLLUP_EVERY_S,
            says="what comes in 15 s, in 15 s",
            memory_mb=KIB,
        ),
        Job(
            name="orphans",
            prepare=_nothing,
            run=_orphans,
            a_day={"whole": 1},
            within_s=840,
            says="the daily pass, in one tick",
            memory_mb=2_048,
        ),
    )
}

"""Projects measurements at some sizes to the multiple of the target at which a job exceeds its time limit."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import log
from typing import TYPE_CHECKING

from load_tests.scale.region import TARGET_ACCOUNTS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from load_tests.scale.bench import Result
    from load_tests.scale.jobs import Job
    from load_tests.scale.reports import Reports, Whole

# Memory size at which a function gets a whole core (Lambda developer guide).
_CORE_MB = 1_769
# If a job grows faster than its region by more than this, it is named, because a straight line would underestimate it.
_STEEP = 1.15
MOST_MEMORY_MIB = 1_024
_ENDLESS = 1_000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Projection:
    """Projection of measurements to the target and beyond.

    Attributes:
        measured_s: Seconds at each size.
        target_s: Seconds at the target.
        multiple: Multiple of the target at which the job reaches its time limit.
        slope: Exponent of the time's growth between the last two sizes; 1 is proportional, 0 is constant.
        memory_mib: Peak memory of the job at each of its sizes, then of its part at the part's sizes.
        memory_at_needed_mib: Memory at the multiple that the job needs; measured if one of the sizes is that large.
    """

    job: Job
    measured_s: tuple[float, ...]
    target_s: float
    multiple: float
    slope: float
    memory_mib: tuple[int, ...]
    memory_at_needed_mib: int

    @property
    def problems(self) -> list[str]:
        """Limits that the job misses; empty if the job meets all limits."""
        found = []
        if self.multiple < self.job.needed:
            found.append(f"{self.job.name}: only {self.multiple:.1f} times the target ({self.job.says})")
        if self.memory_at_needed_mib > MOST_MEMORY_MIB:
            found.append(f"{self.job.name}: {self.memory_at_needed_mib} MiB at {self.job.needed:g} times the target")
        if self.slope > _STEEP:
            found.append(f"{self.job.name}: grows faster than its region (exponent {self.slope:.2f})")
        return found


def seconds(job: Job, result: Result) -> float:
    """Time of all steps of a job, on its function's CPU."""
    core = 1.0 if job.memory_mb is None else min(1.0, job.memory_mb / _CORE_MB)
    return sum(
        times * ((result.steps[name].cpu_s + result.steps[name].sdk_s) / core + result.steps[name].waited_s)
        for name, times in job.a_day.items()
    )


def project(job: Job, *results: Result, part: Sequence[Result] = ()) -> Projection:
    """Fit a straight line through the last two measurements, which are ordered by size.

    Resources with their own limits (threads, rows of a file, commits of a run) grow only up to these limits, so
    measurements below a limit do not predict larger sizes.

    Args:
        job: The job.
        results: Of its sizes.
        part: Measurements of the job's part: memory is projected from these, and the job's other memory is added.
    """
    *_, small, large = results
    low_s, high_s = seconds(job, small), seconds(job, large)
    each_s = (high_s - low_s) / (large.share - small.share)
    base_s = low_s - each_s * small.share
    multiple = _ENDLESS if each_s <= 0 else min(_ENDLESS, (job.within_s - base_s) / each_s)
    slope = log(high_s / low_s) / log(large.share / small.share)
    return Projection(
        job=job,
        measured_s=tuple(seconds(job, result) for result in results),
        target_s=base_s + each_s,
        multiple=multiple,
        slope=slope,
        memory_mib=tuple(result.memory_mib for result in (*results, *part)),
        memory_at_needed_mib=_memory_at_needed(job, results, part),
    )


def _memory_at_needed(job: Job, results: Sequence[Result], part: Sequence[Result]) -> int:
    if job.part is None:
        return _grown(results[-1], results, job.needed)
    if job.part.besides_mib is None:
        return _grown(results[-1], part, job.needed)
    return _grown(part[-1], part, job.needed) + job.part.besides_mib


def _grown(largest: Result, line: Sequence[Result], needed: float) -> int:
    """Memory at a multiple of the target: the largest region's, extrapolated on the line through two measurements.

    If the largest region is at least that large, its memory is returned unchanged.
    """
    *_, small, large = line
    each_mib = max(0.0, (large.memory_mib - small.memory_mib) / (large.share - small.share))
    return round(largest.memory_mib + each_mib * max(0.0, needed - largest.share))


HEADER = (
    "| job | measured at | seconds | at the target | it may take | times the target | growth | MiB | MiB at 3 x |",
    "|---|---|---:|---:|---|---:|---:|---:|---:|",
)


def line(found: Projection) -> str:
    """One line of the table."""
    job = found.job
    sizes = _listed([_share(size.accounts / TARGET_ACCOUNTS) for size in job.sizes])
    if job.part is not None:
        sizes += f"; {job.part.says} at "
        sizes += _listed([_share(size.accounts / TARGET_ACCOUNTS) for size in job.part.sizes])
    took = _listed([_figure(value) for value in found.measured_s])
    multiple = "over 1,000" if found.multiple >= _ENDLESS else _figure(found.multiple)
    memory = _listed([f"{value:,}" for value in found.memory_mib])
    return (
        f"| {job.name} | {sizes} | {took} | {_figure(found.target_s)} s | {_figure(job.within_s)} s: {job.says} "
        f"| {multiple} | {found.slope:.2f} | {memory} | {found.memory_at_needed_mib:,} |"
    )


def _share(share: float) -> str:
    """A size as a share of the target: 1/10, 3/10, 3 x."""
    exact = Fraction(share).limit_denominator(1_000)
    return f"{exact.numerator} x" if exact.denominator == 1 else f"{exact.numerator}/{exact.denominator:,}"


def _listed(texts: Sequence[str]) -> str:
    *others, last = texts
    return f"{', '.join(others)} and {last}"


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 1 else f"{value:.2f}"


# The report of a closed month may take this many times as long.
MOST_TIMES = 2.0
REPORTS_HEADER = (
    "| an account's month, by | accounts | open, p95 | closed, p95 | times as long |",
    "|---|---:|---:|---:|---:|",
)


def report_line(found: Reports, accounts: int) -> str:
    """A line of the table of reports."""
    return (
        f"| {found.group_by.replace(',', ', ')} | {accounts:,} | {found.open_ms:.0f} ms | {found.closed_ms:.0f} ms "
        f"| {found.times:.2f} |"
    )


WHOLE_HEADER = (
    "| all accounts together | accounts | s | s, at most | calls | read units |",
    "|---|---:|---:|---:|---:|---:|",
)


def whole_line(found: Whole, accounts: int) -> str:
    """A line of the table of reports over all accounts."""
    return (
        f"| {found.question} | {accounts:,} | {found.seconds:.2f} | {found.most_s:.0f} | {found.calls:,} "
        f"| {found.units:,} |"
    )

"""Run many histories in several processes, and sum their figures."""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

from tests.simulation.history import History, Outcome, run_history
from tests.simulation.region.faults import Fault

_BATCHES = 25


def shortest(seed: int, *, restores: bool = False) -> tuple[frozenset[int], frozenset[int], Outcome]:
    """Numbers of faults and of batches that can be dropped while a violation remains, and the outcome without them."""
    outcome = run_history(seed, restores=restores)
    if not outcome.violation:
        return frozenset(), frozenset(), outcome
    faults: frozenset[int] = frozenset()
    batches: frozenset[int] = frozenset()

    kind = outcome.violation.partition(":")[0]
    again = partial(run_history, seed, restores=restores)

    def fails(dropped_faults: frozenset[int], dropped_batches: frozenset[int]) -> bool:
        found = again(dropped_faults=dropped_faults, dropped_batches=dropped_batches).violation
        # A history without any batch may fail in another way.
        return found.partition(":")[0] == kind

    # Without a fault, the rest runs differently, so the numbers to choose from change after each success.
    for _ in range(3):
        batches = _drop(batches, range(_BATCHES), partial(fails, faults))
        happened = [n for n, _ in again(dropped_faults=faults, dropped_batches=batches).faults]
        faults = _drop(faults, happened, partial(fails, dropped_batches=batches))
    outcome = again(dropped_faults=faults, dropped_batches=batches)
    return faults, batches, outcome


def describe(
    seed: int, faults: frozenset[int], batches: frozenset[int], outcome: Outcome, *, restores: bool = False
) -> Iterator[str]:
    """Description of a failing history."""
    yield f"seed {seed}: {outcome.violation}"
    history = History(seed, dropped_faults=faults, dropped_batches=batches)
    for sending in history.traffic.sendings:
        content = history.traffic.contents[sending.content]
        rows = ", ".join(f"{row.usage_type} {row.bytes} at {row.start_s}" for row in content.rows)
        yield f"  epoch {sending.epoch}, after {sending.after_ms} ms: {sending.sender_id} sends {content.name}: {rows}"
    for number, fault in outcome.faults:
        yield f"  fault {number}: {fault}"
    forced = ', "restores": true' if restores else ""
    dropped = f'"dropped_faults": {sorted(faults)}, "dropped_batches": {sorted(batches)}'
    yield f'  keep as: {{"seed": {seed}, {dropped}{forced}}}'


def _drop(
    dropped: frozenset[int], numbers: range | list[int], fails: Callable[[frozenset[int]], bool]
) -> frozenset[int]:
    left = [number for number in numbers if number not in dropped]
    size = len(left)
    while size:
        start = 0
        while start < len(left):
            part = frozenset(left[start : start + size])
            if fails(dropped | part):
                dropped |= part
                left = [number for number in left if number not in part]
            else:
                start += size
        size //= 2
    return dropped


_CHUNK = 50
# Events that must have occurred in each run of useful size.
EXPECTED = (
    *(str(fault) for fault in Fault),
    "killed at the time limit",
    "delivered again",
    "delivered while in flight",
    "delivered again after its deletion",
    "delivered out of order",
    "moved to the dead-letter queue",
    "redriven from the dead-letter queue",
    "copy sent by the producer",
    "other content under the same id",
    "late record",
    "replay after weeks",
    "deleted by TTL",
    "deleted by a lifecycle rule",
    "hours read while they changed",
    "wrong clock",
    "rolled up by a clock that is days wrong",
    "reconciled while workers went on",
    "new files reconciled while workers went on",
    "usage items lost, to be rebuilt",
    "usage items written by hand, to be mended",
    "markers lost, to be rebuilt",
    "months closed",
    "number of shards changed",
    "sent by a foreign sender",
    "usage read as of now",
    "repaired while workers went on",
    "throttled for a while",
    "ledger restored",
    "ledger restored from nothing",
    "ledger restored from a torn moment",
    "ledger restored to before a restore",
    "restorer killed",
    "restorer came too late",
)


@dataclass(slots=True)
class Summary:
    histories: int = 0
    batches: int = 0
    commits: int = 0
    recovered: int = 0
    failed: list[int] = field(default_factory=list)
    histogram: Counter[str] = field(default_factory=Counter)

    def add(self, other: Summary) -> None:
        self.histories += other.histories
        self.batches += other.batches
        self.commits += other.commits
        self.recovered += other.recovered
        self.failed += other.failed
        self.histogram.update(other.histogram)


def run_chunk(seeds: Sequence[int], *, restores: bool = False) -> Summary:
    # Imported modules are never garbage. A history leaves few cycles, so one collection at its end suffices.
    gc.freeze()
    gc.disable()
    summary = Summary()
    for seed in seeds:
        outcome = run_history(seed, restores=restores)
        summary.histories += 1
        summary.batches += outcome.batches
        summary.commits += outcome.commits
        summary.recovered += outcome.findings.recovered
        summary.histogram.update({str(name): count for name, count in outcome.histogram.items()})
        if outcome.violation:
            summary.failed.append(seed)
        gc.collect()
    gc.enable()
    gc.unfreeze()
    return summary


def run_seeds(first: int, count: int, workers: int, *, restores: bool = False) -> Summary:
    chunks = [range(start, min(start + _CHUNK, first + count)) for start in range(first, first + count, _CHUNK)]
    summary = Summary()
    if workers == 1:
        for chunk in chunks:
            summary.add(run_chunk(chunk, restores=restores))
        return summary
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        for done, part in enumerate(pool.imap_unordered(partial(run_chunk, restores=restores), chunks), start=1):
            summary.add(part)
            if done % 20 == 0:
                sys.stderr.write(f"{summary.histories} histories, {len(summary.failed)} failed\n")
    return summary


def report(summary: Summary, seconds: float) -> Iterable[str]:
    yield f"{summary.histories} histories in {seconds:.0f} s: {summary.histories / seconds:.0f} a second"
    yield f"{summary.batches} batches sent, {summary.commits} commits, {summary.recovered} contents recovered"
    yield "what happened:"
    for name in sorted({*EXPECTED, *summary.histogram}, key=lambda name: (-summary.histogram[name], name)):
        yield f"  {summary.histogram[name]:>9} {name}"
    missing = [name for name in EXPECTED if not summary.histogram[name]]
    if missing:
        yield f"never happened: {', '.join(missing)}"
    yield f"violations: {len(summary.failed)}"


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.simulation", description="Random histories with faults; exit 1 on any violation."
    )
    parser.add_argument("--seeds", type=int, default=20_000, help="number of histories")
    parser.add_argument("--first", type=int, default=0, help="first seed")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--restores", action="store_true", help="restore the ledger in each history")
    parser.add_argument("--seed", type=int, help="only this history, made as short as it gets if it fails")
    options = parser.parse_args()
    if options.seed is not None:
        return _explain(options.seed, restores=options.restores)
    began = time.monotonic()
    summary = run_seeds(options.first, options.seeds, options.jobs, restores=options.restores)
    for line in report(summary, time.monotonic() - began):
        sys.stdout.write(f"{line}\n")
    for seed in summary.failed[:3]:
        _explain(seed, restores=options.restores)
    missing = [name for name in EXPECTED if not summary.histogram[name]]
    return 1 if summary.failed or (missing and summary.histories >= 1000) else 0


def _explain(seed: int, *, restores: bool) -> int:
    outcome = run_history(seed, restores=restores)
    if not outcome.violation:
        sys.stdout.write(f"seed {seed}: no violation, {outcome.batches} batches, {len(outcome.faults)} faults\n")
        return 0
    for line in describe(seed, *shortest(seed, restores=restores), restores=restores):
        sys.stdout.write(f"{line}\n")
    return 1

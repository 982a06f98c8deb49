"""Each fault at each call of each job: a run is recorded, then repeated with one fault at one call.

Kill matrix: the process is killed before or after a call, and restarted. Lost-reply matrix: the call or its reply is
lost, the call is applied later, or the SDK sends it twice. At the end, the region must be as without the fault.
"""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Iterable, Iterator

from tests.simulation.checks.watch import ViolationError
from tests.simulation.region.faults import Fault, ScriptedFaults
from tests.simulation.scenario import SUBJECT, Scenario

_PROCESSES = 2
JOBS = (
    "worker",
    "rollup",
    "blocks",
    "redrive",
    "retry",
    "rebuild",
    "markers",
    "reader",
    "now",
    "compactor",
    "reconciler",
    "quick pass",
    "biller",
    "restorer",
    "cleaner",
    "plans",
    "orphans",
    "closer",
    "issuer",
    "creditor",
)


def calls_of(job: str) -> list[tuple[str, tuple[Fault, ...]]]:
    """The calls of a job without faults, each with its possible faults."""
    faults = ScriptedFaults(SUBJECT, {})
    Scenario(job, faults).run()
    return faults.calls


def cells(job: str) -> Iterator[tuple[int, str, Fault]]:
    """Every call of a job with every fault."""
    for number, (call, choices) in enumerate(calls_of(job)):
        for fault in dict.fromkeys(choices):
            yield number, call, fault


def failures(job: str, chosen: Iterable[tuple[int, str, Fault]]) -> list[str]:
    """Problems of the chosen cells (one fault at one call), one text per cell."""
    kept = Scenario(job, ScriptedFaults(SUBJECT, {})).kept()
    return [found for cell in chosen if (found := _failure(job, kept, *cell))]


def _failure(job: str, kept: bytes, number: int, call: str, fault: Fault) -> str:
    scenario = Scenario.again(kept, {number: fault})
    try:
        scenario.run()
        wrong = "" if scenario.faults.histogram[fault] else "the call was not made, so that nothing happened"
    except ViolationError as error:
        wrong = str(error)
    finally:
        scenario.world.end()
    return f"{job}, call {number} ({call}), {fault}: {wrong}" if wrong else ""


def _whole(job: str) -> tuple[str, int, list[str]]:
    """Run all cells of a job; return their number and problems."""
    tried = list(cells(job))
    return job, len(tried), failures(job, tried)


def main() -> int:
    """Run every cell of every job, in two processes; returns 0 if none fails."""
    failed = 0
    # The longest jobs come first, so that neither process is idle at the end.
    jobs = sorted(JOBS, key=lambda job: -len(calls_of(job)))
    with multiprocessing.get_context("spawn").Pool(_PROCESSES) as pool:
        for job, tried, found in pool.imap_unordered(_whole, jobs):
            failed += len(found)
            sys.stdout.write("\n".join([f"{job}: {tried} cells, {len(found)} fail", *found, ""]))
            sys.stdout.flush()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

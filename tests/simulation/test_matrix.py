from __future__ import annotations

import pytest

from tests.simulation import matrix
from tests.simulation.faults import Fault
from tests.simulation.watch import ViolationError

_KILLS = (Fault.KILLED_BEFORE, Fault.KILLED_AFTER)


def _failures(job: str, *, kills: bool) -> list[str]:
    failures = []
    for number, call, fault in matrix.cells(job):
        if (fault in _KILLS) is kills:
            try:
                matrix.run_cell(job, number, fault)
            except ViolationError as error:
                failures.append(f"{job}, call {number} ({call}), {fault}: {error}")
    return failures


@pytest.mark.parametrize("job", matrix.JOBS)
def test_a_kill_at_any_call_of_any_job_changes_nothing(job: str) -> None:
    assert _failures(job, kills=True) == []


@pytest.mark.parametrize("job", matrix.JOBS)
def test_a_lost_late_or_repeated_call_of_any_job_changes_nothing(job: str) -> None:
    assert _failures(job, kills=False) == []


def test_every_job_has_calls_to_fail_at() -> None:
    calls = {job: len(matrix.calls_of(job)) for job in matrix.JOBS}

    assert min(calls.values()) >= 10

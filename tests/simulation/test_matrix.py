from __future__ import annotations

import pytest

from tests.simulation import matrix
from tests.simulation.faults import Fault

_KILLS = (Fault.KILLED_BEFORE, Fault.KILLED_AFTER)
# These make the most calls. Here every so many-th cell; `make matrix` runs all. The cells of a call are its two kills,
# or its 3 to 8 other faults, in a fixed order: with these strides each fault has its turn.
_STRIDES = {
    "rebuild": 29,
    "markers": 7,
    "reader": 5,
    "compactor": 5,
    "reconciler": 13,
    "quick pass": 13,
    "closer": 11,
}


def _failures(job: str, *, kills: bool) -> list[str]:
    cells = [cell for cell in matrix.cells(job) if (cell[2] in _KILLS) is kills]
    return [found for cell in cells[:: _STRIDES.get(job, 1)] if (found := matrix.failure(job, *cell))]


@pytest.mark.parametrize("job", matrix.JOBS)
def test_a_kill_at_any_call_of_any_job_changes_nothing(job: str) -> None:
    assert _failures(job, kills=True) == []


@pytest.mark.parametrize("job", matrix.JOBS)
def test_a_lost_late_or_repeated_call_of_any_job_changes_nothing(job: str) -> None:
    assert _failures(job, kills=False) == []


def test_every_job_has_calls_to_fail_at() -> None:
    calls = {job: len(matrix.calls_of(job)) for job in matrix.JOBS}

    assert min(calls.values()) >= 7

from __future__ import annotations

import pytest

from metering.stores.writes import Table
from tests.simulation import matrix
from tests.simulation.region.faults import Fault, ScriptedFaults
from tests.simulation.scenario import NOW_MS, SUBJECT, Scenario

_KILLS = (Fault.KILLED_BEFORE, Fault.KILLED_AFTER)
# Jobs with the most calls. The test runs one in this many cells; `make matrix` runs all cells. A call has two cells for
# kills, or 3 to 8 cells for other faults, in a fixed order. With these strides, each fault is tried.
_STRIDES = {
    "worker": 5,
    "rebuild": 61,
    "rollup": 11,
    "blocks": 37,
    "markers": 19,
    "reader": 11,
    "now": 11,
    "compactor": 23,
    "reconciler": 41,
    "quick pass": 29,
    "biller": 11,
    "restorer": 199,
    "orphans": 5,
    "redrive": 5,
    "cleaner": 5,
    "closer": 23,
    "issuer": 11,
    "creditor": 3,
    "retry": 5,
}


def _failures(job: str, *, kills: bool) -> list[str]:
    cells = [cell for cell in matrix.cells(job) if (cell[2] in _KILLS) is kills]
    return matrix.failures(job, cells[:: _STRIDES.get(job, 1)])


@pytest.mark.parametrize("job", matrix.JOBS)
def test_a_kill_at_any_call_of_any_job_changes_nothing(job: str) -> None:
    assert _failures(job, kills=True) == []


@pytest.mark.parametrize("job", matrix.JOBS)
def test_a_lost_late_or_repeated_call_of_any_job_changes_nothing(job: str) -> None:
    assert _failures(job, kills=False) == []


def test_every_job_has_calls_to_fail_at() -> None:
    calls = {job: len(matrix.calls_of(job)) for job in matrix.JOBS}

    assert min(calls.values()) >= 7


@pytest.mark.parametrize("job", matrix.JOBS)
def test_what_begins_where_the_region_was_kept_is_the_rest_of_the_whole(job: str) -> None:
    number, _, fault = next(cell for cell in matrix.cells(job) if cell[2] is Fault.KILLED_AFTER)
    script = {number: fault}
    whole = Scenario(job, ScriptedFaults(SUBJECT, script))
    whole.run()
    rest = Scenario.again(Scenario(job, ScriptedFaults(SUBJECT, {})).kept(), script)
    rest.run()

    assert rest.faults.calls == whole.faults.calls
    assert rest.faults.histogram == whole.faults.histogram
    assert rest.world.now_ms() == whole.world.now_ms()
    for table in Table:
        assert list(rest.world.items.everything(table)) == list(whole.world.items.everything(table))


def test_a_region_in_which_something_is_still_to_happen_is_not_kept() -> None:
    scenario = Scenario("worker", ScriptedFaults(SUBJECT, {}))
    scenario.world.scheduler.at(NOW_MS + 1, lambda: None)

    with pytest.raises(ValueError, match="nothing is to happen"):
        scenario.kept()

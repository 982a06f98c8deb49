"""Kills and lost replies at each call of each job, random histories, and the small model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from metering.stores.writes import Table
from tests.simulation import matrix
from tests.simulation.history import run_history
from tests.simulation.model.histories import Course, History
from tests.simulation.model.rules import Setting
from tests.simulation.model.world import BrokenError
from tests.simulation.region.faults import Fault, ScriptedFaults
from tests.simulation.runs import EXPECTED, run_chunk, run_seeds
from tests.simulation.scenario import NOW_MS, SUBJECT, Scenario

_KILLS = (Fault.KILLED_BEFORE, Fault.KILLED_AFTER)
# These make the most calls. Here every so many-th cell; `make matrix` runs all. The cells of a call are its two kills,
# or its 3 to 8 other faults, in a fixed order: with these strides each fault has its turn.
_STRIDES = {
    "rebuild": 29,
    "rollup": 5,
    "blocks": 19,
    "markers": 7,
    "reader": 5,
    "now": 5,
    "compactor": 11,
    "reconciler": 23,
    "quick pass": 13,
    "biller": 5,
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


_SMOKE_SEEDS = 400
_CHUNK = 50
# Enough that nearly every kind of fault happens.
_SMALL_RUN = 150
_REGRESSIONS = json.loads((Path(__file__).parent / "regressions.json").read_text())


@pytest.mark.parametrize("first", range(_SMALL_RUN, _SMOKE_SEEDS, _CHUNK))
def test_no_history_loses_or_doubles_anything(first: int) -> None:
    summary = run_chunk(range(first, first + _CHUNK))

    assert summary.failed == []
    assert summary.batches >= 20 * _CHUNK


def test_no_history_of_a_small_run_does_and_nearly_every_kind_of_fault_happens_in_it() -> None:
    summary = run_chunk(range(_SMALL_RUN))

    assert summary.failed == []
    assert summary.batches >= 20 * _SMALL_RUN
    assert [name for name in EXPECTED if not summary.histogram[name]] == []


def test_one_seed_is_one_history() -> None:
    first, second = run_history(11), run_history(11)

    assert first.faults == second.faults
    assert first.histogram == second.histogram
    assert first.commits == second.commits


@pytest.mark.parametrize("kept", _REGRESSIONS, ids=lambda kept: str(kept["seed"]))
def test_histories_that_failed_once_do_not_fail_again(kept: dict[str, object]) -> None:
    outcome = run_history(
        int(str(kept["seed"])),
        dropped_faults=kept.get("dropped_faults", []),  # type: ignore[arg-type]  # numbers
        dropped_batches=kept.get("dropped_batches", []),  # type: ignore[arg-type]  # numbers
    )

    assert outcome.violation == ""


def test_histories_run_in_several_processes() -> None:
    summary = run_seeds(0, 2, 2)

    assert (summary.histories, summary.failed) == (2, [])


# Random histories of the small model: the rules of docs/protocol.md hold in it, and each of them is needed.

_SEEDS = 30


def broken(setting: Setting, course: Course, seeds: int) -> str | None:
    """The first promise that a history breaks, or None."""
    for seed in range(seeds):
        try:
            History(seed, setting, course).play()
        except BrokenError as error:
            return f"seed {seed}: {error}"
    return None


@pytest.mark.parametrize("shards", [2, 3])
@pytest.mark.parametrize(
    "course",
    [
        Course(),
        Course(lost=1),
        Course(lost=2),
        Course(restored=True),
        Course(restored=True, lost=1),
        Course(spoilt=1),
        Course(spoilt=4),
        Course(spoilt=2, lost=1),
    ],
    ids=["traffic", "a loss", "two losses", "a restore", "a restore and a loss", "a hand", "hands", "a hand, a loss"],
)
def test_reports_comparisons_repairs_and_restores_are_exact(shards: int, course: Course) -> None:
    assert broken(Setting(shards=shards, cap=3), course, _SEEDS) is None


@pytest.mark.parametrize(
    ("rule", "course"),
    [
        ("P28 second look", Course()),
        ("P28 asks the item's number", Course()),
        ("P37 done runs before the rows", Course()),
        ("P37 only settled items", Course()),
        ("P38 revision", Course(lost=1)),
        ("P38 sets the number", Course(lost=1)),
        ("P38 number of a done run", Course(lost=1)),
        ("P38 no plan since", Course(lost=1)),
        ("P41 compaction that was planned is finished", Course(restored=True)),
        ("P41 what waits is placed nowhere", Course(restored=True)),
        ("P41 a run above all", Course(restored=True)),
        ("P49 numbers wait for runs", Course(spoilt=3)),
        ("P49 numbers are kept", Course(spoilt=3)),
        ("P49 odd figures do not wait", Course(spoilt=3)),
        ("P45 claims if absent", Course()),
        ("P45 number and name in one transaction", Course()),
        ("P45 sure before the plan", Course()),
    ],
)
def test_a_rule_that_is_left_out_is_missed(rule: str, course: Course) -> None:
    assert broken(Setting(shards=2, cap=3, left_out=frozenset({rule})), course, 400) is not None


@pytest.mark.parametrize("shards", [2, 3])
def test_processes_that_are_set_to_different_caps_of_kinds_have_one(shards: int) -> None:
    setting = Setting(shards=shards, cap=3, raised_cap=5)

    assert broken(setting, Course(), _SEEDS) is None
    assert broken(setting, Course(lost=1), _SEEDS) is None


def test_a_cap_of_kinds_that_rises_puts_a_kind_into_two_items() -> None:
    setting = Setting(shards=2, cap=3, raised_cap=5, left_out=frozenset({"P45 the cap is one"}))

    assert broken(setting, Course(), 100) is not None

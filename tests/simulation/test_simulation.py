from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.simulation.history import run_history
from tests.simulation.runs import EXPECTED, run_chunk, run_seeds

_SMOKE_SEEDS = 400
_CHUNK = 50
# The number of seeds is large enough that nearly every kind of fault occurs.
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
        restores=bool(kept.get("restores")),
    )

    assert outcome.violation == ""


def test_histories_run_in_several_processes() -> None:
    summary = run_seeds(0, 2, 2)

    assert (summary.histories, summary.failed) == (2, [])

"""Random histories of the small model show that the rules of docs/protocol.md hold and that each rule is needed."""

from __future__ import annotations

import pytest

from tests.simulation.model.histories import Course, History
from tests.simulation.model.rules import Setting
from tests.simulation.model.world import BrokenError

_SEEDS = 30


def broken(setting: Setting, course: Course, seeds: int) -> str | None:
    """The first rule violation in a history, or None."""
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

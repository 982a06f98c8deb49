"""Random histories of the small model show that the rules of docs/protocol.md hold and that each rule is needed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.simulation.model import region, restore, restorer
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
        Course(spoilt=1),
        Course(spoilt=4),
        Course(spoilt=2, lost=1),
    ],
    ids=["traffic", "a loss", "two losses", "a hand", "hands", "a hand, a loss"],
)
def test_reports_comparisons_and_repairs_are_exact(shards: int, course: Course) -> None:
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
        ("P49 numbers wait for runs", Course(spoilt=5)),
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


_QUICK = [name for name, scenario in restore.SCENARIOS.items() if scenario.is_quick]
_SLOW = [name for name, scenario in restore.SCENARIOS.items() if not scenario.is_quick]


def holds(name: str) -> bool:
    """Whether every end of a restore's scenario is right; there is at least one."""
    found = restore.search(name)
    assert not found.error, "\n".join([found.error, *found.trace])
    return found.is_complete and found.ends > 0


@pytest.mark.parametrize("name", _QUICK)
def test_a_restore_counts_every_accepted_batch_once(name: str) -> None:
    assert holds(name)


@pytest.mark.long
@pytest.mark.parametrize("name", _SLOW)
def test_a_restore_counts_every_accepted_batch_once_in_larger_scenarios(name: str) -> None:
    assert holds(name)


def test_random_walks_through_larger_restores_end_well() -> None:
    found = restore.walk(range(20))

    assert not found.error, "\n".join([found.error, *found.trace])
    assert found.ends > 0


@pytest.mark.parametrize(("rule", "name"), [trap for trap in restore.TRAPS if restore.SCENARIOS[trap[1]].is_quick])
def test_a_rule_of_the_restore_that_is_left_out_is_missed(rule: str, name: str) -> None:
    assert restore.search(name, rule).error


@pytest.mark.long
@pytest.mark.parametrize(("rule", "name"), [trap for trap in restore.TRAPS if not restore.SCENARIOS[trap[1]].is_quick])
def test_a_rule_of_the_restore_that_is_left_out_is_missed_in_larger_scenarios(rule: str, name: str) -> None:
    assert restore.search(name, rule).error


def test_every_rule_of_the_restore_has_a_scenario_that_needs_it() -> None:
    rules = set(re.findall(r'keeps\("([^"]+)"\)', Path(restorer.__file__).read_text(encoding="utf-8")))

    assert rules | restore.OF_THE_WORLD.keys() == {rule for rule, _ in restore.TRAPS}


def complete(news: int, olds: int, readers: int, commits: int) -> bool:
    found = region.search(news, olds, readers, commits=commits)
    assert not found.error, "\n".join([found.error, *found.trace])
    return found.is_complete and found.ends > 0


@pytest.mark.parametrize(("news", "olds", "readers"), [(1, 1, 1), (2, 1, 0), (1, 2, 0), (2, 0, 1)])
def test_the_totals_of_the_region_have_every_commit_once_whichever_release_booked_it(
    news: int, olds: int, readers: int
) -> None:
    assert complete(news, olds, readers, 2)


@pytest.mark.long
@pytest.mark.parametrize(("news", "olds", "readers"), [(1, 1, 1), (2, 1, 0)])
def test_the_totals_of_the_region_have_more_commits_once(news: int, olds: int, readers: int) -> None:
    assert complete(news, olds, readers, 3)


@pytest.mark.parametrize("rule", region.RULES)
def test_a_rule_of_the_totals_of_the_region_that_is_left_out_is_missed(rule: str) -> None:
    assert region.search(rule=rule, news=1).error

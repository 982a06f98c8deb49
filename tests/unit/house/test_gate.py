"""The gate itself: every condition under which it must fail is tried, and it continues after a failure."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from tests import ROOT
from tests.browser.program import PACKAGE, commands, ends_without, program
from tests.conftest import ALL_CASES, pytest_collection_modifyitems
from tests.equal.__main__ import differences, facts, judged
from tests.gate import PLANS, Plan, main, make, run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PLAN = Plan(shares_s={"one": 60, "two": 30}, reserve_s={"later": 10}, promise_s=100)


def ends_with(**codes: int) -> Callable[[str], list[str]]:
    """Commands of parts: each exits with the given code, or with 0."""
    return lambda name: [sys.executable, "-c", f"raise SystemExit({codes.get(name, 0)})"]


def times(*took_s: float) -> Callable[[], float]:
    """A clock by which the parts take these times, one after the other."""
    moments = iter([moment for took in took_s for moment in (0.0, took)])
    return lambda: next(moments)


def test_a_gate_of_parts_that_pass_within_their_shares_is_green(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(PLAN, command_of=ends_with(), clock=times(60, 30)) == 0
    out = capfd.readouterr().out
    assert "2 passed, 0 failed" in out
    assert "share" not in out.split("two ")[1]


def test_one_failing_part_makes_it_red_and_the_others_still_run(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(PLAN, command_of=ends_with(one=3), clock=times(1, 1)) == 1
    out = capfd.readouterr().out
    assert "== two" in out
    assert re.search(r"^one .* FAILED with exit 3$", out, re.MULTILINE)
    assert "1 passed, 1 failed" in out


def test_a_part_over_its_share_is_named_and_the_gate_stays_green(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(PLAN, command_of=ends_with(), clock=times(60, 59.9)) == 0
    out = capfd.readouterr().out
    assert re.search(r"^two .* over its share$", out, re.MULTILINE)
    assert re.search(r"^one +1\.00 +1\.00$", out, re.MULTILINE)
    assert "the load is" in out


def test_a_part_that_takes_twice_its_share_makes_it_red(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(PLAN, command_of=ends_with(), clock=times(120, 30)) == 1
    out = capfd.readouterr().out
    assert re.search(r"^one .* TOO LATE: took twice its share$", out, re.MULTILINE)
    assert "1 passed, 1 failed" in out


def test_a_part_that_fails_and_is_too_late_counts_once_and_says_both(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(PLAN, command_of=ends_with(two=1), clock=times(1, 61)) == 1
    out = capfd.readouterr().out
    assert re.search(r"^two .* FAILED with exit 1, TOO LATE: took twice its share$", out, re.MULTILINE)
    assert "1 passed, 1 failed" in out


@pytest.mark.parametrize(
    ("plan", "problem"),
    [
        (replace(PLAN, promise_s=99), "shares and reserve add up to 1.67 minutes, 1.65 are promised"),
        (replace(PLAN, reserve_s={"later": 11}), "shares and reserve add up to 1.68 minutes, 1.67 are promised"),
        (replace(PLAN, shares_s={"one": 60, "two": 0}), "two has no share"),
        (replace(PLAN, shares_s={"one": 60, "later": 5}), "later is a part and still in the reserve"),
    ],
)
def test_a_plan_that_cannot_be_kept_is_red_before_anything_runs(
    capfd: pytest.CaptureFixture[str], plan: Plan, problem: str
) -> None:
    assert run(plan, command_of=ends_with(), clock=times(0, 0)) == 1
    out, err = capfd.readouterr()
    assert err.splitlines() == [problem]
    assert "==" not in out


def test_a_part_without_a_make_target_makes_it_red(capfd: pytest.CaptureFixture[str]) -> None:
    plan = replace(PLAN, shares_s={"no-such-part": 60})
    assert run(plan, command_of=make) == 1
    assert "FAILED with exit 2" in capfd.readouterr().out


@pytest.mark.parametrize("arguments", [[], ["chekc"], ["check", "check-long"]])
def test_a_plan_of_another_name_is_refused(capfd: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    assert main(arguments) == 2
    assert capfd.readouterr().err == "usage: python -m tests.gate {check,check-long}\n"


def test_the_gate_is_promised_in_15_minutes_with_a_reserve_for_what_comes() -> None:
    plan = PLANS["check"]
    assert plan.promise_s == 15 * 60
    assert sum(plan.shares_s.values()) + sum(plan.reserve_s.values()) == plan.promise_s
    assert sum(plan.reserve_s.values()) >= 15


@pytest.mark.parametrize("name", PLANS)
def test_each_plan_can_be_kept_and_each_part_is_a_make_target_in_its_group(name: str) -> None:
    plan = PLANS[name]
    assert plan.problems() == []
    targets = re.findall(r"^([a-z0-9-]+): .*## ", group_of(name), re.MULTILINE)
    assert sorted(targets) == sorted([name, *plan.shares_s])


def test_what_one_run_on_localstack_leaves_out_the_other_one_has() -> None:
    left_out = re.findall(r"--deselect=tests/e2e/(\w+)\.py", group_of("check-long"))
    assert left_out
    named = re.search(r"localstack\.sh -k \"(.+)\"", group_of("check-long"))
    assert named
    assert left_out == named[1].split(" or ")


def chosen_of(config_args: list[str], *, marked: bool = True) -> set[str]:
    """The remaining cases of a list of a thousand."""
    items = [
        SimpleNamespace(nodeid=f"tests/a.py::test[{number}]", get_closest_marker=lambda _: marked)
        for number in range(1_000)
    ]
    config = SimpleNamespace(args=config_args, hook=SimpleNamespace(pytest_deselected=lambda items: None))
    pytest_collection_modifyitems(cast("pytest.Config", config), cast("list[pytest.Item]", items))
    return {item.nodeid for item in items}


def test_the_gate_takes_the_same_tenth_of_a_list_of_cases_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ALL_CASES, raising=False)
    chosen = chosen_of(["tests"])
    assert chosen == chosen_of(["tests"])
    assert 70 < len(chosen) < 130
    assert len(chosen_of(["tests"], marked=False)) == 1_000


def test_all_cases_run_where_they_are_asked_for_or_one_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ALL_CASES, raising=False)
    assert len(chosen_of(["tests/a.py::test"])) == 1_000
    monkeypatch.setenv(ALL_CASES, "1")
    assert len(chosen_of(["tests"])) == 1_000
    assert f"@{ALL_CASES}=1 $(PYTEST) -q -n $(JOBS) tests/unit" in group_of("long")
    assert '-m "long or cases"' in group_of("long")


def group_of(target: str) -> str:
    """The headline under which `make help` lists a target."""
    [group] = [text for text in (ROOT / "Makefile").read_text().split("\n##@ ") if f"\n{target}: " in text]
    return group


# Answers of two revisions are compared byte by byte, and documents by their guarantees.

DOCUMENT = {
    "paths": {"/v1/usage": {"get": {"parameters": [{"name": "top", "schema": {"maximum": 50}}], "summary": "Usage"}}}
}


def _answers(folder: Path, **contents: str) -> Path:
    folder.mkdir()
    for name, text in contents.items():
        (folder / name).write_text(text)
    return folder


def test_a_changed_byte_and_a_lost_answer_are_found(tmp_path: Path) -> None:
    before = _answers(tmp_path / "before", same="1", changed="a,12\n", lost="1")
    after = _answers(tmp_path / "after", same="1", changed="a,13\n", new="1")
    found = dict(differences(before, after))
    assert found == {"changed": "at byte 3: b'a,12\\n' is b'a,13\\n'", "lost": "is gone"}
    assert judged(iter(found.items()), {"lo*": "the command went"}) == (
        [f"changed: {found['changed']}"],
        ["lost: the command went"],
    )


def test_a_document_may_say_more_and_in_other_words_but_nothing_less(tmp_path: Path) -> None:
    text = json.dumps(DOCUMENT)
    more = text.replace('"Usage"', '"Bytes"').replace('"paths": {', '"paths": {"/v1/new": {"get": {}}, ')
    less = text.replace("50", "40")
    before = _answers(tmp_path / "before", **{"openapi.json": text})
    assert not list(differences(before, _answers(tmp_path / "more", **{"openapi.json": more})))
    [(name, how)] = differences(before, _answers(tmp_path / "less", **{"openapi.json": less}))
    assert (name, how) == ("openapi.json /paths//v1/usage/get/parameters/top/schema/maximum=50", "is gone")


def test_the_place_of_a_parameter_in_its_list_says_nothing() -> None:
    one, other = ({"name": "top"}, {"name": "last"})
    assert facts([one, other]) == facts([other, one])


# The browser of the tests, its installer, and runs without a browser, which must not pass.


def machine(folder: Path, *programs: str) -> dict[str, str]:
    for name in programs:
        (folder / name).write_text("#!/bin/sh\n")
        (folder / name).chmod(0o755)
    return {"PATH": str(folder)}


def test_without_a_browser_tests_are_skipped_with_the_reason_and_red_under_ci() -> None:
    with pytest.raises(pytest.skip.Exception, match="make browser"):
        ends_without({})
    with pytest.raises(pytest.fail.Exception, match="CI is set, and there is no Chromium"):
        ends_without({"CI": "true"})


def test_the_browser_that_is_named_wins_then_the_smallest_on_the_path(tmp_path: Path) -> None:
    environ = machine(tmp_path, "google-chrome", PACKAGE)
    assert program(environ) == str(tmp_path / PACKAGE)
    assert program({**environ, "METERING_BROWSER": "/opt/chrome"}) == "/opt/chrome"
    assert program({"PATH": str(tmp_path / "nowhere")}) is None


def test_one_is_installed_only_where_nobody_must_be_asked(tmp_path: Path) -> None:
    assert commands({"PATH": str(tmp_path)}, root=True) == ()
    environ = machine(tmp_path, "apt-get")
    assert commands(environ, root=False) == ()
    assert commands(environ, root=True)[-1][:2] == ("apt-get", "install")
    assert commands(machine(tmp_path, "sudo"), root=False)[-1][:4] == ("sudo", "-n", "apt-get", "install")
    assert commands(machine(tmp_path, "chromium"), root=True) == ()

"""Tests of the gates: each failure condition makes a gate fail, and later parts run after a failure."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis.strategies import integers

from tests import ROOT
from tests.browser.program import PACKAGE, commands, ends_without, program
from tests.conftest import ALL_CASES, pytest_collection_modifyitems
from tests.equal.__main__ import differences, facts, judged
from tests.exports.make import made
from tests.gate import PLANS, Plan, main, make, run
from tests.support.examples import examples
from tests.tools import ALL, EXPORT_VALIDATORS, Tool, find_python
from tests.validators.__main__ import Judged, report
from tests.validators.__main__ import main as validate
from tests.validators.mutants import WRONG_BUNDLES, WRONG_COSTS, WrongBundle, WrongCosts
from tests.validators.offline import close_the_network
from tests.validators.tie_out import missing_line, real_bill, total, written
from tests.validators.verdicts import Bundle, read_report

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PLAN = Plan(shares_s={"one": 60, "two": 30}, reserve_s={"later": 10}, promise_s=100)


def ends_with(**codes: int) -> Callable[[str], list[str]]:
    """Commands of parts: each exits with the code given for the part, or with 0."""
    return lambda name: [sys.executable, "-c", f"raise SystemExit({codes.get(name, 0)})"]


def times(*took_s: float) -> Callable[[], float]:
    """A clock by which the parts, in order, take the given times."""
    moments = iter([moment for took in took_s for moment in (0.0, took)])
    return lambda: next(moments)


def test_a_gate_of_parts_that_pass_within_their_shares_is_green(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(PLAN, command_of=ends_with(), clock=times(60, 30)) == 0
    out = capfd.readouterr().out
    assert "2 passed, 0 failed" in out
    assert "share" not in out.split("two ")[1]


@pytest.mark.parametrize(("codes", "took_s", "code", "told"), [
    ({"one": 3}, (1, 1), 1, ["== two", "^one .* FAILED with exit 3$", "1 passed, 1 failed"]),
    ({}, (60, 59.9), 0, ["^two .* over its share$", r"^one +1\.00 +1\.00$", "the load is"]),
    ({}, (179, 30), 0, ["^one .* over its share$"]),
    ({}, (180, 30), 1, ["^one .* TOO LATE: took 3 times its share$", "1 passed, 1 failed"]),
    ({"two": 1}, (1, 91), 1, ["^two .* FAILED with exit 1, TOO LATE: took 3 times its share$", "1 passed, 1 failed"]),
], ids=["one fails", "over its share", "nearly too late", "too late", "fails and is too late"])  # fmt: skip
def test_a_part_that_fails_or_takes_thrice_its_share_makes_it_red_and_one_over_its_share_is_named(
    capfd: pytest.CaptureFixture[str], codes: dict[str, int], took_s: tuple[float, float], code: int, told: list[str]
) -> None:
    assert run(PLAN, command_of=ends_with(**codes), clock=times(*took_s)) == code
    out = capfd.readouterr().out
    assert [words for words in told if not re.search(words, out, re.MULTILINE)] == []


@pytest.mark.parametrize(("plan", "problem"), [
    (replace(PLAN, promise_s=99), "shares and reserve add up to 1.67 minutes, 1.65 are promised"),
    (replace(PLAN, reserve_s={"later": 11}), "shares and reserve add up to 1.68 minutes, 1.67 are promised"),
    (replace(PLAN, shares_s={"one": 60, "two": 0}), "two has no share"),
    (replace(PLAN, shares_s={"one": 60, "later": 5}), "later is a part and still in the reserve"),
])  # fmt: skip
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
    assert plan.promise_s == 900
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
    """Which of a thousand test cases remain selected."""
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
    assert '-m "long or cases or examples"' in group_of("long")


@pytest.mark.parametrize(("whole", "tried"), [("", 75), ("1", 300)])
def test_the_gate_tries_a_quarter_of_a_propertys_examples_and_make_long_all(
    whole: str, tried: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ALL_CASES, whole)
    numbers: list[int] = []

    @examples(300)
    @given(integers(0, 10**9))
    def collect(number: int) -> None:
        numbers.append(number)

    collect()
    assert len(numbers) == tried


def group_of(target: str) -> str:
    """The headline under which `make help` lists a target."""
    [group] = [text for text in (ROOT / "Makefile").read_text().split("\n##@ ") if f"\n{target}: " in text]
    return group


# The answers of two revisions are compared byte by byte, and their documents by what they guarantee.

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
    wrong, excused = judged(iter(found.items()), {"lo*": "the command went"})
    assert (wrong, excused) == ([f"changed: {found['changed']}"], ["lost: the command went"])


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


# The browser that the tests use, its installer, and runs without a browser, which must not pass.


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


# The gate of exports: output without a verdict does not count as a verdict, and each reason for failing is tried.

REPORT = """<testsuites name="FOCUS Validations" tests="4" failures="1">
  <testsuite name="Id"><testcase name="InvoiceId-C-004-C :: CheckValue"><failure message="m"/></testcase></testsuite>
  <testsuite name="Base"><testcase name="Tags-C-001-M :: None"><error message="m"/></testcase></testsuite>
  <testsuite name="ListCost"><testcase name="ListCost-C-001-M :: TypeDecimal"/></testsuite>
  <testsuite name="ListCost"><testcase name="ListCost-C-005-C :: None"><skipped message="m"/></testcase></testsuite>
</testsuites>"""


def test_a_rule_that_could_not_be_tried_counts_as_failed() -> None:
    found = read_report(REPORT)
    assert found.failed == {"InvoiceId-C-004-C", "Tags-C-001-M"}
    assert (found.rules, found.passed, found.skipped) == (4, 1, 1)


def test_a_bundle_is_valid_only_if_each_command_ends_with_0_and_nothing_is_found_beside_them() -> None:
    assert Bundle(codes={"bundle": 0}, found=()).is_valid
    assert not Bundle(codes={"bundle": 1}, found=()).is_valid
    assert not Bundle(codes={"bundle": 0}, found=("FDT-CROSS-030",)).is_valid


def test_one_wrong_check_or_none_at_all_makes_it_red(capsys: pytest.CaptureFixture[str]) -> None:
    right, wrong = Judged(name="one", right=True, found=""), Judged(name="two", right=False, found="nothing")
    assert report([right]) == 0
    assert report([right, wrong]) == 1
    assert "WRONG two: nothing" in capsys.readouterr().out
    assert report([]) == 1


def test_without_their_python_it_is_skipped_with_the_reason_and_red_on_ci(capsys: pytest.CaptureFixture[str]) -> None:
    def no_python(_: Tool) -> str:
        return "this machine has no Python 3.12"

    assert validate([], {}, why=no_python) == 0
    assert validate([], {"CI": "true"}, why=no_python) == 1
    assert capsys.readouterr().out == "skipped: this machine has no Python 3.12\n" * 2


def test_validators_run_without_a_network() -> None:
    with pytest.raises(OSError, match="validators run without a network"):
        close_the_network("socket.connect", ())
    close_the_network("open", ())
    hooked = "import socket, sys; from tests.validators import offline; sys.addaudithook(offline.close_the_network)"
    asks = f"{hooked}; socket.create_connection(('127.0.0.1', 9))"
    done = subprocess.run([sys.executable, "-c", asks], cwd=ROOT, check=False, capture_output=True, text=True)
    assert "validators run without a network" in done.stderr


@pytest.mark.long
def test_a_python_that_a_version_manager_keeps_off_the_path_is_found_if_it_runs(tmp_path: Path) -> None:
    lock = tmp_path / "lock.txt"
    lock.touch()
    tool = Tool(name="t", python="3.99", lock=(lock,), requirements=(lock,))
    python = tmp_path / "versions" / "3.99.1" / "bin" / "python3.99"
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\nexit 1\n")
    python.chmod(0o755)
    assert find_python(tool, {"PYENV_ROOT": str(tmp_path)}) == ""
    python.write_text("#!/bin/sh\nexit 0\n")
    assert find_python(tool, {"PYENV_ROOT": str(tmp_path)}) == str(python)


def test_versions_of_tools_are_locked_with_hashes() -> None:
    for path in (path for tool in ALL for path in tool.requirements):
        names = re.findall(r"^(\S+)==", path.read_text(), re.MULTILINE)
        assert names
        assert len(re.findall(r"--hash=sha256:[0-9a-f]{64}", path.read_text())) >= len(names)
    texts = {path.name: path.read_text() for path in EXPORT_VALIDATORS.requirements}
    assert "focus-validator==2.2.1 \\" in texts["tools.txt"]
    assert "focus-data-toolkit==0.14.1 \\" in texts["tools.txt"]
    assert re.search(r"^pyarrow==2[01]\.", texts["tools.txt"], re.MULTILINE)
    assert re.search(r"^numpy==1\.26\.", texts["tools.txt"], re.MULTILINE)


def test_a_line_missing_from_an_export_of_35_cents_is_found_although_focus_tolerates_it() -> None:
    assert total() == "0.3513825829"
    assert written(real_bill()) == ""
    found, tolerated = missing_line()
    assert "HQEH3ZWJVT46JHRG.JRTCKXETXF.VF6T3GAUKQ" in found
    assert tolerated


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exports")
    made(folder, rows=300)
    return folder


def rows_of(path: Path) -> list[tuple[str, ...]]:
    return [*map(tuple, csv.reader(path.read_text(encoding="utf-8").splitlines()))]


@pytest.mark.parametrize("mutant", WRONG_COSTS, ids=lambda mutant: mutant.name)
def test_wrong_costs_are_other_costs(mutant: WrongCosts, exports: Path, tmp_path: Path) -> None:
    costs = exports / "focus-1.2" / "CostAndUsage-00000.parquet"
    table: pa.Table = pq.read_table(mutant.write(costs, tmp_path))
    assert not table.equals(pq.read_table(costs))
    assert table.num_rows >= 300


@pytest.mark.parametrize("mutant", WRONG_BUNDLES, ids=lambda mutant: mutant.name)
def test_a_wrong_bundle_differs_in_one_file(mutant: WrongBundle, exports: Path, tmp_path: Path) -> None:
    files = exports / "focus-1.4"
    wrong = mutant.write(files, tmp_path)
    before, after = (rows_of(folder / mutant.file) for folder in (files, wrong))
    assert len(before) - len(after) in (0, 1)
    assert len(set(before) - set(after)) == 1

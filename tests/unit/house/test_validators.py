"""The gate of exports: a non-verdict is not a verdict, and each condition under which it must fail is tried."""

from __future__ import annotations

import csv
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests import ROOT
from tests.exports.make import made
from tests.tools import EXPORT_VALIDATORS, Tool, find_python
from tests.validators.__main__ import Judged, main, report
from tests.validators.mutants import WRONG_BUNDLES, WRONG_COSTS, WrongBundle, WrongCosts
from tests.validators.offline import close_the_network
from tests.validators.tie_out import missing_line, real_bill, total, written
from tests.validators.verdicts import Bundle, read_report

if TYPE_CHECKING:
    from pathlib import Path

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
    def no_python() -> str:
        return "this machine has no Python 3.12"

    assert main([], {}, why=no_python) == 0
    assert main([], {"CI": "true"}, why=no_python) == 1
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


def test_versions_of_the_validators_are_locked_with_hashes() -> None:
    texts = {path.name: path.read_text() for path in EXPORT_VALIDATORS.requirements}
    for text in texts.values():
        names = re.findall(r"^(\S+)==", text, re.MULTILINE)
        assert names
        assert len(re.findall(r"--hash=sha256:[0-9a-f]{64}", text)) >= len(names)
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

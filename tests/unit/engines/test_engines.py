"""`make engines` checks the engines' results and fails if they are wrong; here, the check runs with DuckDB."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.engines import __main__ as command
from tests.engines.__main__ import damaged, judge, questions
from tests.engines.engines import PAGE, Question, by_duckdb, find_java, statement, why_no_spark
from tests.engines.replayed import HUGE, Replayed, Sum, Totals, replayed


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Replayed:
    return replayed(tmp_path_factory.mktemp("engines") / "lake", batches=80)


def test_duckdbs_own_reader_gets_the_services_totals_and_finds_damage(
    lake: Replayed, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert judge("DuckDB", by_duckdb, lake, damaged(lake, tmp_path))
    told = capsys.readouterr().out
    assert "WRONG" not in told
    assert told.count(": found") == 4


def test_the_lake_has_what_makes_totals_hard(lake: Replayed) -> None:
    huge = [total.bytes for line, total in lake.by_hour.items() if line.account_id == HUGE]
    assert max(huge) > 2**63
    files = list((lake.folder / "lake").rglob("*.parquet"))
    assert len({file.parent for file in files}) < len(files)
    assert len(files) == len(list((lake.folder / "summaries").rglob("*.parquet")))
    assert len(lake.days) > 2


def test_an_engine_that_is_a_byte_off_is_wrong(lake: Replayed, capsys: pytest.CaptureFixture[str]) -> None:
    def off(asked: Sequence[Question]) -> list[Totals]:
        answers = by_duckdb(asked)
        line, total = next(iter(answers[-1].items()))
        answers[-1][line] = Sum(total.bytes + 1, total.records)
        return answers

    assert not judge("off", off, lake, {})
    assert capsys.readouterr().out.count("WRONG") == 1


def test_damage_that_goes_unseen_is_wrong(lake: Replayed, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def blind(asked: Sequence[Question]) -> list[Totals]:
        known = {(each.day, each.from_totals): expected for each, expected in questions(lake, lake.folder)}
        return [known[each.day, each.from_totals] for each in asked]

    assert not judge("blind", blind, lake, damaged(lake, tmp_path))
    assert capsys.readouterr().out.count("WRONG") == 4


def test_every_engine_of_the_page_has_its_statement() -> None:
    for name in ("duckdb", "duckdb totals", "spark", "spark sql", "spark totals", "athena", "trino"):
        text = statement(name, day="2026-11-01", folder=Path("/lake"))
        assert "2026-11-24" not in text
        assert "BUCKET" not in text
    assert PAGE.exists()


def test_without_a_java_spark_is_skipped_with_the_reason_and_red_where_ci_is_set(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert find_java({"PATH": str(tmp_path)}) is None
    old = tmp_path / "java"
    old.write_text("#!/bin/sh\necho 'openjdk version \"11.0.2\" 2019-01-15' >&2\n")
    old.chmod(0o755)
    assert find_java({"PATH": str(tmp_path)}) is None
    assert why_no_spark({"PATH": str(tmp_path)}) == "this machine has no Java 17 or newer"
    old.write_text("#!/bin/sh\necho 'openjdk version \"17.0.2\" 2022-01-18' >&2\n")
    assert find_java({"PATH": str(tmp_path)}) == old
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    for ci, code in (("", 0), ("1", 1)):
        monkeypatch.setenv("CI", ci)
        assert command.main(["--batches", "40"]) == code
        assert "skipped Spark: this machine has no Java 17 or newer" in capsys.readouterr().out

"""`metering export` from outside, over two regions in memory: drafts, invoices, places, and what is refused."""

from __future__ import annotations

import json
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Any

import duckdb
import pytest

from tests.support import command_line
from tests.support.lake_world import record
from tests.unit.cli import test_invoice
from tests.unit.cli.test_invoice import OTHER, PAYER

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.cli.test_invoice import Stage

stage = test_invoice.stage

MONTH = "2026-10"
ID = f"{PAYER}-{MONTH}-1"
# 100 GB are free.
BILLED = Decimal(800 * 9).scaleb(-2)
run = partial(command_line.run, "export")


def ask(*line: str) -> Any:
    result = run(*line)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def rows_of(folder: Path, columns: str) -> list[tuple[object, ...]]:
    with duckdb.connect() as connection:
        files = f"read_parquet('{folder}/CostAndUsage-*.parquet')"
        return connection.execute(f"SELECT {columns} FROM {files} GROUP BY ALL ORDER BY ALL").fetchall()  # noqa: S608


def issued(stage: Stage) -> None:
    stage.close()
    result = test_invoice.run("issue", "--month", MONTH, "--yes")
    assert result.exit_code == 0, result.output


def test_an_issued_month_of_all_regions_is_exported_and_ties_out(stage: Stage, tmp_path: Path) -> None:
    issued(stage)
    answer = ask("focus", "--month", MONTH, "--output", str(tmp_path / "october"))
    assert (answer["state"], answer["version"], answer["written"]) == ("issued", "1.4", True)
    assert [row["dataset"] for row in answer["rows"]] == ["CostAndUsage", "InvoiceDetail", "BillingPeriod"]
    (tie,) = answer["tie_out"]
    assert (tie["document"], tie["equal"], tie["document_usd"]) == (ID, True, "72.00")
    assert rows_of(tmp_path / "october", "RegionId, SubAccountId, sum(BilledCost)") == [
        ("eu-west-1", OTHER, Decimal("18.00")),
        ("us-east-1", PAYER, Decimal("54.00")),
    ]


def test_the_same_export_again_changes_nothing_and_says_so(stage: Stage, tmp_path: Path) -> None:
    issued(stage)
    line = ("cur", "--month", MONTH, "--output", str(tmp_path / "cur"))
    assert ask(*line)["written"]
    again = run(*line)
    assert again.exit_code == 0
    assert not json.loads(again.stdout)["written"]
    assert "holds this export already" in again.stderr


def test_a_draft_says_on_stderr_that_it_is_one(stage: Stage, tmp_path: Path) -> None:
    result = run("focus", "--version", "1.2", "--month", MONTH, "--output", str(tmp_path / "draft"))
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["state"] == "draft"
    assert "invoice ids are provisional" in " ".join(result.stderr.split())
    assert "eu-west-1: 2026-10 is not closed there" in " ".join(result.stderr.split())
    assert rows_of(tmp_path / "draft", "InvoiceId") == [(ID,)]


def test_lines_are_cut_into_resources_of_every_region(stage: Stage, tmp_path: Path) -> None:
    issued(stage)
    line = ("--month", MONTH, "--payer", PAYER, "--detail", "resource_id", "--output", str(tmp_path / "cut"))
    ask("focus", *line)
    assert rows_of(tmp_path / "cut", "ResourceId, ResourceType, sum(BilledCost)") == [("i-0abc", "Instance", BILLED)]


def test_files_of_csv_by_month_are_packed(stage: Stage, tmp_path: Path) -> None:
    issued(stage)
    answer = ask("focus", "--month", MONTH, "--files", "csv", "--grain", "month", "--output", str(tmp_path / "csv"))
    assert (answer["format"], answer["grain"]) == ("csv", "month")
    assert sorted(path.name for path in (tmp_path / "csv").iterdir())[0] == "BillingPeriod-00000.csv.gz"


def test_a_place_with_something_else_is_refused(stage: Stage, tmp_path: Path) -> None:
    issued(stage)
    (tmp_path / "mine.txt").write_text("mine")
    result = run("focus", "--month", MONTH, "--output", str(tmp_path))
    assert result.exit_code == 1
    assert "is not empty (mine.txt); nothing was written" in " ".join(result.stderr.split())


def test_usage_without_a_price_is_named_and_strict_writes_nothing(stage: Stage, tmp_path: Path) -> None:
    line = {**record(7, start_s=test_invoice.OCTOBER_S, account=PAYER), "usage_type": "Nobody-Sells-It"}
    stage.send(test_invoice.HOME, line)
    lax = run("focus", "--month", MONTH, "--output", str(tmp_path / "lax"))
    assert lax.exit_code == 0, lax.output
    assert "for it has no price: 7 bytes of Nobody-Sells-It" in " ".join(lax.stderr.split())
    strict = run("focus", "--month", MONTH, "--strict", "--output", str(tmp_path / "strict"))
    assert strict.exit_code == 1
    assert "Nobody-Sells-It; nothing was written" in " ".join(strict.stderr.split())
    assert not (tmp_path / "strict").exists()


@pytest.mark.parametrize("prefix", ["", "/lake/dt=2026-10-01", "/closed/", "/exports/october"])
def test_a_place_in_a_bucket_of_the_service_is_refused(stage: Stage, prefix: str) -> None:
    for region in stage.regions.values():
        result = run("focus", "--month", MONTH, "--output", f"s3://{region.names.data_bucket}{prefix}")
        assert (result.exit_code, result.stdout) == (2, "")
        assert "in the data bucket of the service" in " ".join(result.stderr.split())


def test_a_month_without_charges_is_an_error_and_no_folder(stage: Stage, tmp_path: Path) -> None:
    result = run("focus", "--month", "2026-09", "--output", str(tmp_path / "none"))
    assert result.exit_code == 1
    assert "Nobody has a charge in 2026-09." in result.stderr
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(("line", "why"), [
    (("focus", "--version", "1.3"), "There is no export of FOCUS 1.3."),
    (("focus", "--grain", "week"), "week is no grain."),
    (("focus", "--files", "xml"), "xml is no format of exports."),
    (("focus", "--detail", "bytes", "--payer", PAYER), "There is no detail bytes."),
    (("focus", "--detail", "resource_id"), "--detail reads the rows of one payer's accounts."),
    (("focus", "--payer", "12"), "12 is no account."),
    (("cur", "--month", "2026-13"), "2026-13 is not a month."),
    (("cur", "--output", "s3:///key"), "s3:///key names no bucket."),
])  # fmt: skip
def test_what_makes_no_sense_is_refused_before_anything_is_read(line: tuple[str, ...], why: str) -> None:
    name, *options = line
    given = {"--month": MONTH, "--output": "out"} | dict(zip(options[::2], options[1::2], strict=True))
    result = run(name, *(word for option in given.items() for word in option))
    assert result.exit_code == 2
    assert why in " ".join(result.stderr.split())

"""`metering ingest`: whom files bill, and what is said of lines and files that name somebody else."""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from metering.cli.app import app
from tests.support.flow_logs import line, text

if TYPE_CHECKING:
    from pathlib import Path

    from typer.testing import Result

A, B, C = "111111111111", "222222222222", "333333333333"


def dry(*words: str) -> Result:
    return CliRunner().invoke(app, ["ingest", "--dry-run", *words])


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Below the folder of A: a file of A with lines of A, B and C, and one of B."""
    monkeypatch.delenv("METERING_STAGE", raising=False)
    folder = tmp_path / "AWSLogs" / A / "vpcflowlogs"
    folder.mkdir(parents=True)
    for named, lines in ((A, ((A, 7), (B, 1_000_000), (C, 5_000_000))), (B, ((B, 30_000_000),))):
        name = f"{named}_vpcflowlogs_us-east-1_fl-0a1b_20261124T1305Z_aaaaaaaa.log.gz"
        content = text(*(line(account_id=account, bytes=str(size)) for account, size in lines))
        (folder / name).write_bytes(gzip.compress(content))
    return tmp_path


def test_a_file_bills_the_account_of_its_name_below_the_folder_of_that_account_and_nobody_else(bucket: Path) -> None:
    result = dry(str(bucket), "--format", "json")
    answer = json.loads(result.stdout)
    assert (result.exit_code, answer["balance"]["metered_bytes"]) == (1, "7")
    assert [(each["reason"], each["files"]) for each in answer["problems"]] == [("account_contradicts", 1)]
    assert answer["refused"] == [{"reason": "other_account", "lines": 2, "bytes": "6000000"}]
    assert answer["other_accounts"] == {"lines": 2, "bytes": "6000000", "billed_lines": 0, "billed_bytes": "0"}
    assert answer["balance"]["holds"]


def test_the_table_says_what_is_of_other_accounts(bucket: Path) -> None:
    said = " ".join(dry(str(bucket), "--format", "table").output.split())
    assert f"its name is of account {B}, and it lies below AWSLogs/{A}/" in said
    assert "Of other accounts than the files' names state: 2 lines with 6,000,000 bytes" in said
    assert "0 lines of them" in said


def test_accounts_that_are_listed_are_billed_and_counted_as_others(bucket: Path) -> None:
    answer = json.loads(dry(str(bucket), "--accounts", f"{A},{C}", "--format", "json").stdout)
    assert answer["balance"]["metered_bytes"] == "5000007"
    assert answer["other_accounts"]["billed_bytes"] == "5000000"
    assert [each["reason"] for each in answer["refused"]] == ["account_not_allowed"]


def test_shared_subnets_without_a_context_bill_no_more_than_the_names_account(bucket: Path) -> None:
    answer = json.loads(dry(str(bucket), "--accounts", "shared-subnets", "--format", "json").stdout)
    assert answer["balance"]["metered_bytes"] == "7"


def test_words_that_are_no_accounts_are_refused(bucket: Path) -> None:
    result = dry(str(bucket), "--accounts", "organization")
    assert result.exit_code == 2
    assert "Write 12 digits, or shared-subnets." in " ".join(result.output.split())

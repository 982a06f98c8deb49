"""`metering compare`, from the files of a bill to the exit code, compared with a region's usage."""

from __future__ import annotations

import csv
import io
import json
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import pytest
from typer.testing import CliRunner, Result

from metering.cli.app import app
from metering.cli.command import Session
from metering.hours import rfc3339
from metering.ledger.notes.money import BillCheckState, BillState, ComparedMonth
from metering.stores.writes import Put, Table
from metering.units import DAY_S, GIB, HOUR_S
from tests.cli.lively import Lively
from tests.support.bills import Line, quantity_of, write_bill
from tests.support.lake_world import ACCOUNT, HOUR, NOW_S, record

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


OUT = "DataTransfer-Out-Bytes"
YESTERDAY = HOUR - DAY_S


@pytest.fixture(autouse=True)
def region() -> Iterator[Lively]:
    """A region with usage of two days, and with usage that no bill shows."""
    lively = Lively()
    lively.world.send([record(1_000, start_s=HOUR), record(GIB + 1, start_s=YESTERDAY)])
    lively.world.send([record(50, start_s=HOUR, to="us-east-1/use1-az2"), record(7, start_s=HOUR, to="unknown")])
    lively.world.send([record(5, start_s=HOUR, account="999999999999")])
    with patch.object(Session, "region", lambda _self: lively), patch("time.time", lambda: float(NOW_S)):
        yield lively


@pytest.fixture
def bill(tmp_path: Path) -> Path:
    """AWS's bill for it."""
    lines = [Line(ACCOUNT, OUT, HOUR, quantity_of(1_000)), Line(ACCOUNT, OUT, YESTERDAY, quantity_of(GIB + 1))]
    return write_bill(tmp_path / "bill.parquet", lines, "FOCUS")


def compared(*words: object) -> Result:
    result = CliRunner().invoke(app, ["compare", *map(str, words)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def document(*words: object) -> Any:
    return json.loads(compared(*words, "--format", "json").stdout)


def test_a_bill_of_what_was_metered_is_equal_to_the_byte(bill: Path) -> None:
    result = compared(bill, "--tolerance", "0", "--format", "json")
    assert result.exit_code == 0
    answer = json.loads(result.stdout)
    rows = [(row["day"], row["billed_bytes"], row["difference_bytes"]) for row in answer["rows"]]
    assert rows == [("2026-11-23", str(GIB + 1), "0"), ("2026-11-24", "1000", "0")]
    assert (answer["beyond"], answer["exports"], answer["compared"]) == (0, ["FOCUS"], 2)
    assert answer["metered_only"] == {"C3DataTransfer-Out-Bytes": "50", "Unclassified-Out-Bytes": "7"}
    assert "All 2 rows are within what is tolerated." in result.stderr


def test_without_a_tolerance_nothing_is_judged_and_it_says_so(tmp_path: Path) -> None:
    bill = write_bill(tmp_path / "bill.csv", [Line(ACCOUNT, OUT, HOUR, "5")])
    result = compared(bill, "--format", "json")
    assert result.exit_code == 0
    answer = json.loads(result.stdout)
    assert (answer["beyond"], answer["tolerance"]) == (None, None)
    assert "Nothing was judged" in result.stderr
    [row] = answer["rows"]
    assert (row["metered_bytes"], row["difference_percent"]) == ("1000", "-100.0000")


@pytest.mark.parametrize(("tolerance", "code"), [("100%", 0), ("1%", 1), ("6GB", 0), ("1", 1)])
def test_beyond_a_tolerance_it_ends_with_1(tmp_path: Path, tolerance: str, code: int) -> None:
    bill = write_bill(tmp_path / "bill.csv", [Line(ACCOUNT, OUT, HOUR, "5")])
    assert compared(bill, "--tolerance", tolerance).exit_code == code


def test_a_line_that_cannot_be_read_is_told_and_fails_only_who_judges(tmp_path: Path) -> None:
    lines = [Line(ACCOUNT, OUT, HOUR, quantity_of(1_000)), Line(ACCOUNT, OUT, HOUR, "1,5")]
    bill = write_bill(tmp_path / "bill.csv", lines)
    assert compared(bill).exit_code == 0
    result = compared(bill, "--tolerance", "0")
    assert result.exit_code == 1
    assert "bill.csv, row 2: '1,5' is no amount" in result.stderr


def test_a_named_time_and_account_are_compared_even_where_the_bill_has_no_line(bill: Path) -> None:
    answer = document(bill, "--from", "2026-11-24", "--account", ACCOUNT)
    assert [row["day"] for row in answer["rows"]] == ["2026-11-24"]
    assert answer["left_out"] == {"other_time": 1}
    answer = document(bill, "--account", "999999999999", "--from", rfc3339(HOUR), "--to", rfc3339(HOUR + HOUR_S))
    [row] = answer["rows"]
    assert (row["account_id"], row["billed_bytes"], row["metered_bytes"]) == ("999999999999", "0", "5")


def test_what_came_late_for_a_closed_month_counts_in_its_own_day(region: Lively, tmp_path: Path) -> None:
    october_s = NOW_S - 30 * DAY_S
    region.world.send([record(100, start_s=october_s)])
    region.world.compact_all()
    region.jobs.closer.close("2026-10", region.world.deadline())
    region.world.send([record(23, start_s=october_s)])
    bill = write_bill(tmp_path / "bill.csv", [Line(ACCOUNT, OUT, october_s - october_s % HOUR_S, quantity_of(123))])
    [row] = document(bill)["rows"]
    assert (row["day"], row["metered_bytes"], row["difference_bytes"]) == ("2026-10-25", "123", "0")


def test_the_largest_differences_come_first_and_the_others_are_one_sum(bill: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(compared(bill, "--top", "1", "--format", "csv").stdout)))
    assert [row["account_id"] for row in rows] == [ACCOUNT, "1 others"]
    assert sum(int(row["billed_bytes"]) for row in rows) == GIB + 1_001


def test_months_are_compared_if_asked_for(bill: Path) -> None:
    [row] = document(bill, "--by", "month")["rows"]
    assert (row["month"], row["billed_bytes"], row["difference_bytes"]) == ("2026-11", str(GIB + 1_001), "0")


def test_the_table_says_how_it_was_rounded_and_what_was_left_out(tmp_path: Path) -> None:
    lines = [Line(ACCOUNT, OUT, HOUR, quantity_of(1_000)), Line(ACCOUNT, OUT, HOUR, "-1", kind="Refund")]
    result = compared(write_bill(tmp_path / "bill.csv", lines), "--format", "table")
    shown = " ".join(result.stdout.split())
    assert "Left out: 1 of credits, refunds, taxes, fees and other money." in shown
    assert "each line is rounded to whole bytes. That moves the sum by " in shown
    assert "No bill shows, and no difference is: C3DataTransfer-Out-Bytes 50 bytes" in shown


def test_processing_on_a_bill_is_named_with_its_bytes_and_its_money_and_is_not_left_out(tmp_path: Path) -> None:
    lines = [
        Line(ACCOUNT, "NatGateway-Bytes", HOUR, "2", usd="0.09"),
        Line(ACCOUNT, "VpcEndpoint-Bytes", HOUR, "1", usd="0.01"),
        Line(ACCOUNT, "VpcPeering-In-Bytes", HOUR, "3", usd="0.03"),
        Line(ACCOUNT, "TransitGateway-Bytes", HOUR, "4", usd="0.08"),
        Line(ACCOUNT, "NatGateway-Hours", HOUR, "1", unit="Hrs", usd="0.045"),
    ]
    bill = write_bill(tmp_path / "bill.csv", lines)
    answer = document(bill)
    assert answer["left_out"] == {"no_transfer": 1}, "lines of processing are left out as no data transfer"
    assert {each["usage_type"]: (each["bytes"], each["usd"]) for each in answer["billed_only"]} == {
        "NatGateway-Bytes": (str(2 * GIB), "0.09"),
        "TransitGateway-Bytes": (str(4 * GIB), "0.08"),
        "VpcEndpoint-Bytes": (str(GIB), "0.01"),
        "VpcPeering-In-Bytes": (str(3 * GIB), "0.03"),
    }
    assert [each["usage_type"] for each in answer["metered_here_only"]] == [OUT]
    assert answer["left_out_usage_types"] == [{"usage_type": "NatGateway-Hours", "lines": 1, "usd": "0.045"}]
    shown = " ".join(compared(bill, "--format", "table").stdout.split())
    for words in (
        "Billed there only, and no difference: NatGateway-Bytes 2,147,483,648 bytes = 2.00 GB, 0.09 USD, VpcEndpoint",
        "not metered here",
        "Billed there only, a difference: TransitGateway-Bytes",
        "Metered here only, a difference: DataTransfer-Out-Bytes 1,000 bytes",
        "No data transfer, by usage type: NatGateway-Hours (1 line, 0.045 USD).",
    ):
        assert words in shown


def test_a_file_that_says_what_a_terminal_would_obey_is_made_harmless(tmp_path: Path) -> None:
    bill = write_bill(tmp_path / "bill.csv", [Line(ACCOUNT, OUT, HOUR, "\x1b[2J"), Line("=1+1", OUT, HOUR, "1")])
    result = compared(bill, "--format", "csv")
    assert "\x1b" not in result.stdout + result.stderr
    assert "=1+1" not in result.stdout


def test_a_bill_without_data_transfer_has_nothing_to_compare(tmp_path: Path) -> None:
    result = compared(write_bill(tmp_path / "bill.csv", [Line(ACCOUNT, "BoxUsage", HOUR, "1")]), "--format", "table")
    assert result.exit_code == 0
    assert "No line of the bill and nothing metered is left to compare." in result.stdout


@pytest.mark.parametrize(("options", "words"), [
    (["--by", "week"], "--by week is not one of day, month"),
    (["--top", "0"], "--top 0 is not a number of rows"),
    (["--tolerance", "much"], "is no tolerance"),
    (["--account", "1234"], "an account has 12 digits"),
    (["--from", "yesteryear"], "is not a time"),
])  # fmt: skip
def test_wrong_options_end_with_2_and_read_nothing(bill: Path, options: list[str], words: str) -> None:
    result = compared(bill, *options)
    assert (result.exit_code, result.stdout) == (2, "")
    assert words in " ".join(result.stderr.split())


def test_a_file_that_is_no_bill_ends_with_1_and_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "notes.csv"
    path.write_text("a,b\n")
    result = compared(path)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "is no bill that is known" in result.stderr
    assert compared(tmp_path / "nowhere").exit_code == 1


@pytest.mark.parametrize(("beyond", "code"), [(0, 0), (2, 1)])
def test_without_files_the_last_comparison_is_shown_and_judged(region: Lively, beyond: int, code: int) -> None:
    month = ComparedMonth(content="c", state=BillState.COMPARED, at_s=NOW_S, rows=9, beyond=beyond, why="So it is.")
    state = BillCheckState(
        export="acme-billing/exports", first_s=NOW_S, looked_s=NOW_S, compared_s=NOW_S, state=BillState.COMPARED,
        months={"2026-11": month},
    )  # fmt: skip
    region.world.items.put(Put(table=Table.LEDGER, item=state.to_item()))
    with patch("metering.cli.commands.finance.cost.billing_home", lambda _session: region):
        result = compared()
    assert result.exit_code == code
    assert "acme-billing/exports" in result.stdout

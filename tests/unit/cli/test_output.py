"""The writer's output, in every format."""

import csv
import io
import json
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from metering.cli.app import app
from metering.cli.printing.output import Format, chosen_format, encoded
from metering.reports.answer import Answer, Cell, Column, printable, spreadsheet_text
from tests.cli.lively import Lively
from tests.cli.record import _at_one_moment

# 140 PB a day for a year: beyond 2^63 after 66 days.
YEAR_BYTES = 140 * 10**15 * 365
COLUMNS = (
    Column(name="account_id"),
    Column(name="hour", kind="time"),
    Column(name="bytes", kind="bytes"),
    Column(name="records", kind="integer"),
    Column(name="cost_usd", kind="money"),
)
ROW: dict[str, Cell] = {
    "account_id": "309352892428",
    "hour": "2026-11-24T13:00:00Z",
    "bytes": YEAR_BYTES,
    "records": 7,
    "cost_usd": Decimal("1.5000000000"),
}
ANSWER = Answer(columns=COLUMNS, rows=[ROW], meta={"as_of": "2026-11-24T14:00:00Z"})


def test_json_carries_byte_totals_as_decimal_strings_and_counts_as_numbers() -> None:
    assert json.loads(encoded(ANSWER, Format.JSON)) == {
        "as_of": "2026-11-24T14:00:00Z",
        "rows": [{**ROW, "bytes": "51100000000000000000", "cost_usd": "1.5000000000"}],
    }


def test_ndjson_is_one_row_a_line() -> None:
    lines = encoded(ANSWER, Format.NDJSON).decode().splitlines()
    assert [json.loads(line)["bytes"] for line in lines] == ["51100000000000000000"]


def test_csv_has_every_digit_of_a_total_past_2_to_the_63() -> None:
    [row] = csv.DictReader(io.StringIO(encoded(ANSWER, Format.CSV).decode()))
    assert int(row["bytes"]) == YEAR_BYTES > 2**63


def test_parquet_holds_totals_as_decimal128_38_0() -> None:
    table = pq.read_table(io.BytesIO(encoded(ANSWER, Format.PARQUET)))
    assert table.schema.field("bytes").type == pa.decimal128(38, 0)
    assert int(table["bytes"][0].as_py()) == YEAR_BYTES
    assert table["hour"][0].as_py().isoformat() == "2026-11-24T13:00:00+00:00"


def test_a_table_has_every_digit_and_the_size_beside_it_with_its_base_said_once() -> None:
    text = encoded(ANSWER, Format.TABLE, width=200).decode()
    assert "51,100,000,000,000,000,000  44.3 EB" in text
    assert text.count("2^30") == 1


def test_a_table_never_cuts_a_total_short_on_a_narrow_terminal() -> None:
    assert "51,100,000,000,000,000,000" in encoded(ANSWER, Format.TABLE, width=40).decode()


@pytest.mark.parametrize("form", [Format.TABLE, Format.CSV, Format.JSON, Format.NDJSON])
def test_no_format_of_text_lets_an_escape_sequence_through(form: Format) -> None:
    hostile = Answer(columns=(Column(name="id"),), rows=[{"id": "\x1b[2Jgone\u202e\r\n\x9b31m"}], title="\x1b]0;x\x07")
    text = encoded(hostile, form).decode()
    assert not set(text) & {"\x1b", "\x07", "\u202e", "\r", "\x9b"}


def test_rich_markup_in_data_is_printed_as_it_is() -> None:
    text = encoded(
        Answer(columns=(Column(name="id"),), rows=[{"id": "[red]x[/red] [link=http://a]b[/link]"}]), Format.TABLE
    )
    assert "[red]x[/red] [link=http://a]b[/link]" in text.decode()


@pytest.mark.parametrize("formula", ["=1+1", "+1", "-1", "@SUM(A1)", "  =1", "\t=1", "\uff1d1", "|calc", "%0"])
def test_a_formula_in_csv_starts_with_an_apostrophe_or_an_escape(formula: str) -> None:
    [row] = csv.DictReader(
        io.StringIO(encoded(Answer(columns=(Column(name="id"),), rows=[{"id": formula}]), Format.CSV).decode())
    )
    assert row["id"][0] in "'\\"


def test_a_negative_number_stays_a_number_in_csv() -> None:
    assert (
        encoded(Answer(columns=(Column(name="bytes", kind="bytes"),), rows=[{"bytes": -5}]), Format.CSV)
        == b"bytes\n-5\n"
    )


def test_json_keeps_text_exactly_as_it_is() -> None:
    hostile = '=1+1\x1b[2J"\u202e'
    answer = Answer(columns=(Column(name="id"),), rows=[{"id": hostile}])
    assert json.loads(encoded(answer, Format.JSON))["rows"][0]["id"] == hostile


def test_the_format_is_the_one_asked_for_then_the_suffix_then_table_on_a_terminal_and_json_otherwise() -> None:
    assert chosen_format(Format.CSV, Path("x.json"), terminal=True) is Format.CSV
    assert chosen_format(None, Path("x.parquet"), terminal=False) is Format.PARQUET
    assert chosen_format(None, Path("x.txt"), terminal=False) is Format.TABLE
    assert chosen_format(None, Path("/dev/stdout"), terminal=False) is Format.JSON
    assert chosen_format(None, None, terminal=True) is Format.TABLE
    assert chosen_format(None, None, terminal=False) is Format.JSON


@pytest.mark.parametrize("text", ["+1", "'+1", "''+1", "'", "'s-Hertogenbosch", "=1", " =1", "plain", "it's", ""])
def test_one_apostrophe_less_at_the_begin_of_a_csv_cell_is_the_text_and_no_two_are_alike(text: str) -> None:
    """X6: an id `'+1` and an id `+1` were written alike."""
    answer = Answer(columns=(Column(name="id"), Column(name="n")), rows=[{"id": text, "n": "1"}])
    cell = next(csv.DictReader(io.StringIO(encoded(answer, Format.CSV).decode())))["id"]
    assert cell.removeprefix("'") == text
    assert not cell.startswith(("=", "+"))


def test_visible_text_of_any_script_is_printed_unchanged() -> None:
    assert printable("Zürich 東京 i-0abc/[x]") == "Zürich 東京 i-0abc/[x]"
    assert spreadsheet_text("USW2-DataTransfer-Out-Bytes") == "USW2-DataTransfer-Out-Bytes"
    assert printable("a\U000e0041b\ud800") == "a\\U000e0041b\\ud800"


@pytest.mark.parametrize(("given", "told"), [((), 1), (("--format", "json"), 0), (("--format", "csv"), 0)])
def test_who_reads_json_because_stdout_is_no_terminal_is_told_so_once(given: tuple[str, ...], told: int) -> None:
    with _at_one_moment(Lively()):
        result = CliRunner().invoke(app, ["--endpoint", "http://127.0.0.1:9", "sources", *given])
    assert result.exit_code == 0
    assert result.stderr.count("This is JSON, because stdout is no terminal. For a table: --format table") == told
    assert not told or json.loads(result.stdout)


def test_a_file_needs_no_word_about_its_format(tmp_path: Path) -> None:
    with _at_one_moment(Lively()):
        line = ["--endpoint", "http://127.0.0.1:9", "sources", "--output", str(tmp_path / "sources.json")]
        result = CliRunner().invoke(app, line)
    assert result.exit_code == 0
    assert "This is JSON" not in result.stderr

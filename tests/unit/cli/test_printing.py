"""The writer's output in every format, and the layout of tables in narrow windows."""

from __future__ import annotations

import csv
import io
import json
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from typer.testing import CliRunner

from metering.cli.app import app
from metering.cli.printing.output import Format, chosen_format, encoded
from metering.cli.printing.table import answer_lines, bars, heading_of, shortened, wrapped
from metering.reports.answer import (
    KEEP,
    ROOMY,
    USUAL,
    Answer,
    Cell,
    Column,
    Kind,
    TextForm,
    printable,
    spreadsheet_text,
)
from tests.cli.lively import Lively
from tests.cli.record import _at_one_moment
from tests.cli.width_rule import cut, too_wide

if TYPE_CHECKING:
    from collections.abc import Sequence

KINDS: tuple[Kind, ...] = ("text", "bytes", "integer", "money", "flag", "time")
FORMS: tuple[TextForm, ...] = ("short", "copied", "prose", "number", "time")
LONG_ID = "s3:" + "0123456789abcdef" * 4


def lines_of(answer: Answer, width: int, *, wide: bool = False) -> list[str]:
    return [line.text for line in answer_lines(answer, width, wide=wide)]


def listed(columns: Sequence[Column], *rows: Sequence[Cell]) -> Answer:
    return Answer(
        columns=tuple(columns), rows=[dict(zip((column.name for column in columns), row, strict=True)) for row in rows]
    )


COMMAND = "metering quarantine retry --reason invalid_from --from 2026-11-24"
TEXTS = st.text("ab cé東_-/`", max_size=50) | st.sampled_from(
    ["", LONG_ID, "too_late (3), invalid_bytes (1)", f"Try: {COMMAND}", f"Try `{COMMAND}` now"]
)


@st.composite
def answers(draw: st.DrawFn) -> Answer:
    cells: dict[str, st.SearchStrategy[Cell]] = {
        "text": TEXTS,
        "bytes": st.integers(0, 10**28),
        "integer": st.integers(0, 10**12),
        "money": st.decimals(0, 10**6, places=6).map(Decimal),
        "flag": st.booleans(),
        "time": st.just("2026-11-24T13:30:00Z"),
    }
    kinds = draw(st.lists(st.sampled_from(KINDS), min_size=1, max_size=14))
    columns = tuple(
        Column(
            name=f"{draw(st.sampled_from(['id', 'expected_records', 'why']))}_{number}",
            kind=kind,
            text=draw(st.sampled_from(FORMS)),
            priority=draw(st.sampled_from([KEEP, USUAL, ROOMY, ROOMY + 1])),
            about=draw(st.sampled_from(["", "words of explanation"])),
        )
        for number, kind in enumerate(kinds)
    )
    number = draw(st.integers(0, 5))
    rows = [
        {column.name: draw(st.none() | cells[column.kind]) for column in columns if draw(st.integers(0, 9))}
        for _ in range(number)
    ]
    return Answer(columns=columns, rows=rows, document={} if draw(st.booleans()) else None)


@given(answers(), st.sampled_from([40, 60, 80, 120, 200]))
def test_no_line_is_wider_than_the_window_and_no_number_and_no_copied_text_is_cut(answer: Answer, width: int) -> None:
    # An SQL text is not shortened even if it is not a number, because it could be a number.
    fixed = {column.name for column in answer.columns if column.kind == "text" and column.text in {"number", "time"}}
    if not any(len(str(row.get(name) or "")) > 30 for row in answer.rows for name in fixed):
        assert too_wide(lines_of(answer, width), width, answer) == []
    assert cut(lines_of(answer, width), answer) == []


@given(answers())
def test_wide_leaves_nothing_out_and_shortens_nothing(answer: Answer) -> None:
    lines = lines_of(answer, 40, wide=True)
    assert "Not shown" not in "\n".join(lines)
    assert "…" not in "\n".join(lines)


NEEDED = Column(name="batch_id", text="copied", priority=KEEP)


def test_columns_of_low_priority_go_first_and_the_line_below_names_them() -> None:
    columns = (NEEDED, Column(name="sender", text="copied", priority=ROOMY), Column(name="key", priority=ROOMY + 1))
    row = ("edge-7f3a-000184", "AIDAEXAMPLEEXAMPLE", "quarantine/2026-11-24/abc.ndjson")
    wide, usual, narrow = (lines_of(listed(columns, row, row), width) for width in (120, 52, 40))
    assert "Not shown" not in "".join(wide)
    assert usual[0].split() == ["batch_id", "sender", "key"]
    assert narrow[0].split() == ["batch_id", "sender"]
    assert narrow[-1] == "--wide."
    assert narrow[-2].startswith("Not shown: key.")


def test_a_text_that_is_not_copied_is_shortened_in_its_middle_before_a_column_goes() -> None:
    columns = (NEEDED, Column(name="key", priority=ROOMY))
    lines = lines_of(listed(columns, *[("edge-1", "quarantine/2026-11-24/abc.ndjson")] * 2), 30)
    assert lines[3] == "edge-1    quarantine…bc.ndjson"


def test_an_id_that_is_longer_than_its_column_goes_on_in_the_next_line() -> None:
    columns = (NEEDED, Column(name="reasons", text="prose", priority=KEEP))
    lines = lines_of(listed(columns, ("edge-7f3a-000184", "too_late (3)"), (LONG_ID, "invalid_bytes (1)")), 60)
    assert [line.split() for line in lines[2:]] == [
        ["edge-7f3a-000184", "too_late", "(3)"],
        [LONG_ID[:41], "invalid_bytes", "(1)"],
        [LONG_ID[41:]],
    ]


def test_what_is_the_same_in_all_rows_is_said_once_where_it_does_not_fit() -> None:
    columns = (NEEDED, *(Column(name=f"place_{n}", text="copied") for n in range(3)))
    rows = [(f"edge-{n}", "us-east-1/use1-az2", "internet-gateway", f"place-{n}") for n in range(3)]
    lines = lines_of(listed(columns, *rows), 40)
    assert lines[:2] == ["In all rows: place_0 us-east-1/use1-az2,", "place_1 internet-gateway"]
    assert lines[2].split() == ["batch_id", "place_2"]


def test_rows_stand_upright_if_not_even_the_columns_fit_that_a_table_must_have() -> None:
    columns = tuple(Column(name=name, kind="bytes", priority=KEEP, sized=False) for name in ("expected", "found"))
    lines = lines_of(listed(columns, (10**24, 10**20), (10**25, 2)), 60)
    assert lines == [
        "expected  1,000,000,000,000,000,000,000,000", "found           100,000,000,000,000,000,000", "",
        "expected  10,000,000,000,000,000,000,000,000", "found                                      2",
    ]  # fmt: skip


def test_one_thing_stands_upright_with_its_size_and_words_of_explanation() -> None:
    columns = (
        Column(name="settled", kind="flag", about="nothing was on its way"),
        Column(name="bytes", kind="bytes"),
        Column(name="manifest", text="copied"),
    )
    row: dict[str, Cell] = {"settled": True, "bytes": 1_536_000, "manifest": "m.json"}
    assert lines_of(Answer(columns=columns, rows=[row], document={}), 80) == [
        "settled         yes  nothing was on its way",
        "bytes     1,536,000  1.46 MB",
        "manifest  m.json",
        "1 KB is 2^10 bytes, 1 MB 2^20, 1 GB 2^30, and so on.",
    ]


def test_the_last_column_stands_upright_before_it_is_left_out() -> None:
    lines = lines_of(listed([Column(name="total", text="number")], ("9" * 30,), ("1",)), 30)
    assert lines == ["total", ",".join(["999"] * 10), "", "total  1"]


def test_a_text_under_a_long_name_is_shortened_below_it() -> None:
    columns = (Column(name="a_name_of_thirty_characters_is_long"), Column(name="n", kind="integer"))
    row: dict[str, Cell] = {"a_name_of_thirty_characters_is_long": "quarantine/2026-11-24/abcdefghijklm.ndjson", "n": 1}
    lines = lines_of(Answer(columns=columns, rows=[row], document={}), 40)
    assert lines[:2] == ["a_name_of_thirty_characters_is_long", "  quarantine/2026-11-…cdefghijklm.ndjson"]


def test_explanations_are_shown_all_or_none() -> None:
    columns = (Column(name="sent", kind="integer", about="x" * 40), Column(name="lost", kind="integer", about="y"))
    row: dict[str, Cell] = {"sent": 1, "lost": 0}
    assert lines_of(Answer(columns=columns, rows=[row], document={}), 30) == ["sent  1", "lost  0"]


def test_an_empty_answer_is_a_sentence_with_its_title_and_footer() -> None:
    answer = Answer(columns=(NEEDED,), rows=[], title="Usage", empty="No usage matches.", footer=("As of now.",))
    assert lines_of(answer, 80) == ["Usage", "No usage matches.", "As of now."]


def test_a_command_to_type_next_is_whole_and_alone_on_its_line() -> None:
    line = "metering verify --manifest /a/long/path/to/a/manifest.json --wait 10m"
    footer = ("Next, or ask `metering report usage --now`:",)
    answer = Answer(columns=(NEEDED,), rows=[], commands=(line,), footer=footer)
    assert lines_of(answer, 40)[1:] == ["Next, or ask", "`metering report usage --now`:", line]


def test_a_command_at_the_end_of_a_footer_goes_to_a_line_of_its_own_and_stays_whole() -> None:
    cure = "metering dlq redrive --region ap-southeast-9 --stage production"
    answer = Answer(columns=(NEEDED,), rows=[], footer=(f"Held back by one dead letter. Cure: {cure}",))
    assert lines_of(answer, 60)[1:] == ["Held back by one dead letter. Cure:", cure]
    assert lines_of(answer, 40)[1:] == ["Held back by one dead letter. Cure:", cure]


def test_a_command_in_a_sentence_is_broken_only_if_it_fits_no_line() -> None:
    text = "Raise the quota, then: metering region add eu-west-1"
    assert wrapped(text, 40) == ["Raise the quota, then:", "metering region add eu-west-1"]
    assert wrapped(text, 24) == ["Raise the quota, then:", "metering region add", "eu-west-1"]


def test_a_number_that_is_a_name_has_no_groups() -> None:
    columns = (Column(name="pid", kind="integer", text="copied"), Column(name="n", kind="integer"))
    assert lines_of(listed(columns, (4711, 4711), (4711, 4711)), 80)[2] == "4711  4,711"


@pytest.mark.parametrize(("width", "text"), [(20, "quarantine…bc.ndjson"), (5, "qu…on"), (1, "…"), (99, None)])
def test_shortening_keeps_both_ends(width: int, text: str | None) -> None:
    key = "quarantine/2026-11-24/abc.ndjson"
    assert shortened(key, width) == (text or key)


@given(st.text("ab東é ", max_size=40), st.integers(2, 30))
def test_shortened_and_wrapped_texts_fit_in_cells_of_a_terminal(text: str, width: int) -> None:
    assert cell_len(shortened(text, width)) <= width
    assert all(cell_len(line) <= width for line in wrapped(text, width))


def test_a_chart_says_how_many_of_how_many_it_shows() -> None:
    sizes = [(f"{number:012}", number * 1024) for number in range(1, 31)]
    assert bars(sizes).lines(80)[:2] == ["The 20 largest of 30:", f"000000000030  30.0 KB  {'█' * 40}"]
    assert bars(sizes[:2]).lines(80)[0] == "All 2, largest first:"


def test_a_chart_of_times_shows_the_last_ones_in_their_order() -> None:
    sizes = [(f"2026-{number // 28 + 1:02}-{number % 28 + 1:02}", number) for number in range(60)]
    lines = bars(sizes[::-1], columns=("day",)).lines(80)
    assert lines[0] == "The last 31 of 60:"
    assert [line.split()[0] for line in lines[1:]] == [name for name, _ in sizes[29:]]
    assert bars(sizes, columns=("day", "service")).lines(80)[0] == "The 20 largest of 60:"


def test_a_chart_of_money_says_usd() -> None:
    lines = bars([("AmazonEC2", 15_000_000_000), ("AmazonS3", 499_999)], money=True).lines(60)
    assert lines[1:] == [f"AmazonEC2  1.5000 USD  {'█' * 37}", "AmazonS3   0.0000 USD"]


@pytest.mark.parametrize("width", [25, 40, 60, 200])
def test_a_chart_fits_the_window(width: int) -> None:
    sizes = [(f"{number:012} USW2-DataTransfer-Regional-Bytes", 3**number) for number in range(40)]
    assert all(cell_len(line) <= width for line in bars(sizes).lines(width))


def test_a_heading_is_never_cut() -> None:
    sql = 'metering query "SELECT from_location, sum(bytes) AS bytes FROM transfers GROUP BY ALL ORDER BY bytes DESC"'
    lines = heading_of(sql, 60)
    assert " ".join(lines[:-1]) == sql
    assert all(len(line) <= 60 for line in lines)
    assert heading_of("Proof", 20) == ["Proof " + "─" * 14]


# Output of the writer in every format.

# 140 PB a day for a year, which exceeds 2^63 after 66 days.
YEAR_BYTES = 140 * 10**15 * 365
COLUMNS = (
    Column(name="account_id"),
    Column(name="hour", kind="time"),
    Column(name="bytes", kind="bytes"),
    Column(name="records", kind="integer"),
    Column(name="cost_usd", kind="money"),
)
ROW: dict[str, Cell] = {
    "account_id": "309352892428", "hour": "2026-11-24T13:00:00Z", "bytes": YEAR_BYTES, "records": 7,
    "cost_usd": Decimal("1.5000000000"),
}  # fmt: skip
ANSWER = Answer(columns=COLUMNS, rows=[ROW], meta={"as_of": "2026-11-24T14:00:00Z"})


def named(text: str, title: str = "") -> Answer:
    return Answer(columns=(Column(name="id"),), rows=[{"id": text}], title=title)


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
    hostile = named("\x1b[2Jgone\u202e\r\n\x9b31m", title="\x1b]0;x\x07")
    text = encoded(hostile, form).decode()
    assert not set(text) & {"\x1b", "\x07", "\u202e", "\r", "\x9b"}


def test_rich_markup_in_data_is_printed_as_it_is() -> None:
    markup = "[red]x[/red] [link=http://a]b[/link]"
    assert markup in encoded(named(markup), Format.TABLE).decode()


@pytest.mark.parametrize("formula", ["=1+1", "+1", "-1", "@SUM(A1)", "  =1", "\t=1", "\uff1d1", "|calc", "%0"])
def test_a_formula_in_csv_starts_with_an_apostrophe_or_an_escape(formula: str) -> None:
    [row] = csv.DictReader(io.StringIO(encoded(named(formula), Format.CSV).decode()))
    assert row["id"][0] in "'\\"


def test_a_negative_number_stays_a_number_in_csv() -> None:
    answer = Answer(columns=(Column(name="bytes", kind="bytes"),), rows=[{"bytes": -5}])
    assert encoded(answer, Format.CSV) == b"bytes\n-5\n"


def test_json_keeps_text_exactly_as_it_is() -> None:
    hostile = '=1+1\x1b[2J"\u202e'
    assert json.loads(encoded(named(hostile), Format.JSON))["rows"][0]["id"] == hostile


def test_the_format_is_the_one_asked_for_then_the_suffix_then_table_on_a_terminal_and_json_otherwise() -> None:
    assert chosen_format(Format.CSV, Path("x.json"), terminal=True) is Format.CSV
    assert chosen_format(None, Path("x.parquet"), terminal=False) is Format.PARQUET
    assert chosen_format(None, Path("x.txt"), terminal=False) is Format.TABLE
    assert chosen_format(None, Path("/dev/stdout"), terminal=False) is Format.JSON
    assert chosen_format(None, None, terminal=True) is Format.TABLE
    assert chosen_format(None, None, terminal=False) is Format.JSON


@pytest.mark.parametrize("text", ["+1", "'+1", "''+1", "'", "'s-Hertogenbosch", "=1", " =1", "plain", "it's", ""])
def test_one_apostrophe_less_at_the_begin_of_a_csv_cell_is_the_text_and_no_two_are_alike(text: str) -> None:
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


def test_a_cost_is_printed_in_cents_and_in_a_wide_table_with_all_digits() -> None:
    columns = (Column(name="cost_usd", kind="money", cents=True), Column(name="tier"))
    for usd, cents in (("1234.5650000000", "1,234.57"), ("0E-10", "0.00"), ("0.0049", "<0.01"), ("-0.001", ">-0.01")):
        rows: list[dict[str, Cell]] = [{"cost_usd": Decimal(usd), "tier": "free"}]
        narrow, wide = (answer_lines(Answer(columns=columns, rows=rows), 80, wide=wide) for wide in (False, True))
        assert narrow[-1].text.split() == [cents, "free"]
        assert wide[-1].text.split() == [f"{Decimal(usd):,f}", "free"]

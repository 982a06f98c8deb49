"""`report usage` and `query` as people use them: correct numbers, or a message that says why a number is missing."""

from __future__ import annotations

import io
import json
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import typer

from metering.cli.command import _session
from metering.cli.commands.analyst.query import TABLE_ROWS, query
from metering.cli.commands.analyst.report import usage
from metering.cli.failures import WrongUsageError
from metering.cli.printing.output import Format
from metering.hours import hour_of, rfc3339
from metering.reports import usage_answer
from metering.reports.time_range import InvalidParametersError
from metering.units import HOUR_S
from tests.support.command_line import HereSession
from tests.support.lake_world import ACCOUNT, World, record

if TYPE_CHECKING:
    from collections.abc import Callable

    Ask = Callable[..., tuple[dict[str, Any], str]]

NOW_S = int(time.time())
OTHER = "210987654321"


@pytest.fixture(autouse=True)
def _place_and_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set no endpoint, and stop the clock: `--last 2h` uses the world's clock."""
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    monkeypatch.setattr(time, "time", lambda: float(NOW_S))


@pytest.fixture(scope="module")
def world() -> World:
    """Usage in the previous hour, in lake files and staging: 12 bytes of one account and 7 bytes of another."""
    world = World(now_s=NOW_S)
    before_s = hour_of(NOW_S) - HOUR_S
    world.send([record(5, start_s=before_s + 1_800, resource="i-1"), record(7, start_s=before_s, account=OTHER)])
    world.compact_all()
    world.send([record(7, start_s=before_s + 2_700, resource="i-2", to="cloudfront")])
    return world


@pytest.fixture
def ask(world: World, capsys: pytest.CaptureFixture[str]) -> Ask:
    def asked(at: World | None = None, **options: object) -> tuple[dict[str, Any], str]:
        capsys.readouterr()
        usage(HereSession(at or world), **options)  # type: ignore[arg-type]  # its options
        told = capsys.readouterr()
        return json.loads(told.out), " ".join(told.err.split())

    return asked


def test_what_was_found_is_not_commented(ask: Ask) -> None:
    document, told = ask(last="2h", account=[ACCOUNT])
    assert [row["bytes"] for row in document["rows"]] == ["7", "5"]
    assert told == ""
    assert not {"unknown", "booked", "others"} & document.keys()


def test_an_account_that_is_not_there_is_said_with_the_nearest(ask: Ask) -> None:
    document, told = ask(last="2h", account=["123456789013"])
    assert document["rows"] == []
    unknown = {"parameter": "account", "value": "123456789013", "nearest": [ACCOUNT], "cut": False}
    assert document["unknown"] == [unknown]
    assert f"No account 123456789013 in this range. Nearest: {ACCOUNT}." in told
    assert "No matching usage is booked from" in told


def waiting_world() -> World:
    """A region with usage of two accounts; only the usage of OTHER is rolled up."""
    world = World(now_s=NOW_S)
    world.send([record(7, account=OTHER, start_s=NOW_S - 300)])
    world.send([record(41_943_040, start_s=NOW_S - 300)], rolled_up=False)
    return world


def test_a_report_of_an_account_says_right_after_the_send_how_much_waits(ask: Ask) -> None:
    document, told = ask(waiting_world(), last="2h", account=[ACCOUNT])
    assert "other filters" not in told
    assert document.get("waiting") == {"bytes": "41943040", "records": 1, "since": rfc3339(NOW_S)}
    assert "Not in it: 41,943,040 bytes = 40.0 MB in 1 record, accepted since" in told
    assert "ask again with --now" in told


def test_a_table_says_what_waits_below_its_total(capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    usage(HereSession(waiting_world(), form=Format.TABLE), last="2h", account=[ACCOUNT])
    told = capsys.readouterr()
    words = " ".join(told.out.split())
    assert "No usage that is rolled up matches." in words
    assert "Not in it: 41,943,040 bytes = 40.0 MB in 1 record, accepted since" in words
    assert "No account" not in told.err
    assert "Not in it" not in told.err


def test_what_waits_of_other_accounts_is_not_told(ask: Ask) -> None:
    document, told = ask(waiting_world(), last="2h", account=[OTHER])
    assert [row["bytes"] for row in document["rows"]] == ["7"]
    assert "waiting" not in document
    assert "Not in it" not in told


def test_a_table_without_usage_says_it_once(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    usage(HereSession(world, form=Format.TABLE), last="2h", account=["999999999999"])
    told = capsys.readouterr()
    assert "No usage matches." in told.out
    assert "No matching usage" not in told.err


def test_one_unknown_name_among_others_is_said_beside_their_rows(ask: Ask) -> None:
    document, told = ask(last="2h", account=[ACCOUNT, "999999999999"], service=["AmazonEC2", "amazonec2"])
    assert sum(int(row["bytes"]) for row in document["rows"]) == 12
    unknown = [(each["parameter"], each["value"], each["nearest"]) for each in document["unknown"]]
    assert unknown == [("account", "999999999999", []), ("service", "amazonec2", ["AmazonEC2"])]
    assert "No service amazonec2 in this range. Nearest: AmazonEC2." in told


def test_a_name_that_only_other_rows_have_is_not_called_unknown(ask: Ask) -> None:
    document, told = ask(last="2h", account=[OTHER], usage_type=["CloudFront-Out-Bytes"])
    assert "unknown" not in document
    assert "usage type CloudFront-Out-Bytes has usage in this range, but none with the other filters." in told


def test_who_names_the_canary_without_its_account_is_told_how_to_see_it(ask: Ask) -> None:
    _, told = ask(last="2h", service=["MeteringCanary"])
    assert "The canary is left out unless its account is named: --account 000000000000." in told


def test_a_search_for_names_that_ends_early_says_so(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage_answer, "_MOST_OBJECTS", 1)
    document, told = ask(last="2h", usage_type=["nonsense"])
    assert document["unknown"][0]["cut"] is True
    assert "Only its newest hours were searched." in told


@pytest.mark.parametrize(("option", "value", "rule"), [
    ("account", "123", "12 digits"), ("account", "abcdefghijkl", "12 digits"),
    ("account", "\uff1123456789012", "12 digits"),
    ("service", "Amazon EC2", "letters and digits"), ("service", "x" * 65, "letters and digits"),
    ("usage_type", "-Bytes", "begins with a letter"), ("usage_type", "a b", "begins with a letter"),
])  # fmt: skip
def test_a_name_that_nothing_can_have_is_refused_with_its_rule(ask: Ask, option: str, value: str, rule: str) -> None:
    with pytest.raises(InvalidParametersError, match=rule):
        ask(**{option: [value]})


def test_an_empty_range_says_where_there_is_something(ask: Ask) -> None:
    before = rfc3339(hour_of(NOW_S) - HOUR_S)
    document, told = ask(start=rfc3339(hour_of(NOW_S) - 50 * HOUR_S), end=rfc3339(hour_of(NOW_S) - 40 * HOUR_S))
    assert document["booked"] == {"from": before, "to": rfc3339(hour_of(NOW_S))}
    assert f"There is usage from {before} to {rfc3339(hour_of(NOW_S))}. Try --from {before[:7]}." in told


def test_a_range_that_begins_before_all_data_says_so(ask: Ask) -> None:
    document, told = ask(last="48h")
    assert len(document["rows"]) == 2
    before = rfc3339(hour_of(NOW_S) - HOUR_S)
    assert document["booked"]["from"] == before
    assert f"Nothing is booked before {before}." in told


def test_an_empty_region_says_how_to_begin(ask: Ask) -> None:
    assert "Nothing is booked yet" in ask(World(now_s=NOW_S))[1]


def test_the_old_trap_is_closed(ask: Ask) -> None:
    """A range within an hour once returned 0 bytes with exit code 0."""
    before_s = hour_of(NOW_S) - HOUR_S
    within = {"start": rfc3339(before_s + 1_800), "end": rfc3339(before_s + 3_599)}
    with pytest.raises(InvalidParametersError, match=rfc3339(before_s)):
        ask(**within)
    document, _ = ask(**within, detail="resource_id")
    assert [(row["resource_id"], row["bytes"]) for row in document["rows"]] == [("i-2", "7"), ("i-1", "5")]


def sql(
    world: World, statement: str | None, form: Format = Format.JSON, output: Path | None = None, **options: object
) -> None:
    query(HereSession(world, form=form, output=output), sql=statement, **options)  # type: ignore[arg-type]  # its options


def test_a_query_takes_rows_to_the_second_in_any_zone(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    sql(world, "SELECT sum(bytes) AS b FROM transfers", start=rfc3339(hour_of(NOW_S) - 1_800), end=rfc3339(NOW_S))
    assert json.loads(capsys.readouterr().out)["rows"] == [{"b": "12"}]
    sql(world, "SELECT min(hour) AS h FROM usage", zone="Asia/Kolkata")
    told = capsys.readouterr()
    [row] = json.loads(told.out)["rows"]
    assert row["h"].endswith(":30:00+05:30")
    assert datetime.fromisoformat(row["h"]).timestamp() == hour_of(NOW_S) - HOUR_S
    assert "group by start_time instead" in told.err


def test_duckdbs_error_is_printed_as_duckdb_prints_it(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as ended:
        sql(world, "selct 1")
    assert ended.value.exit_code == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[1:] == ['Parser Error: syntax error at or near "selct"', "", "LINE 1: selct 1", "        ^^^^^"]


def test_only_a_wrong_name_brings_the_hint_about_names(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    for statement, near in (("SELECT byts FROM transfers", '"bytes"'), ("SELECT 1 FROM transfer", '"transfers"')):
        with pytest.raises(typer.Exit):
            sql(world, statement)
        told = capsys.readouterr().err
        assert near in told
        assert "DESCRIBE transfers" in told
    for statement in ("SELECT 1 +", "SELECT nosuch(1)", "SELECT 'x'::INTEGER", "SET threads = 1"):
        with pytest.raises(typer.Exit):
            sql(world, statement)
        assert "DESCRIBE" not in capsys.readouterr().err


def test_a_value_in_an_error_steers_no_terminal_and_forges_no_line(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(typer.Exit):
        sql(world, "SELECT ('\x1b[31mred' || chr(10) || 'Error: all is lost')::INTEGER FROM transfers")
    told = capsys.readouterr().err
    assert "\x1b" not in told
    assert not any(line.startswith("Error: all") for line in told.splitlines())


def test_several_statements_or_none_are_refused(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    for statement, said in (("SELECT 1; SELECT 2", "2 statements"), ("-- nothing", "no statement")):
        with pytest.raises(typer.Exit):
            sql(world, statement)
        assert said in capsys.readouterr().err


def test_sql_comes_from_stdin_or_a_file(
    world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("\ufeffSELECT 1 AS one".encode())))
    sql(world, "-")
    file = tmp_path / "q.sql"
    file.write_text("SELECT 2 AS two\n")
    sql(world, None, file=file)
    told = capsys.readouterr().out
    assert '"one": 1' in told
    assert '"two": 2' in told


@pytest.mark.parametrize(("content", "said"), [
    (None, "No such file"), (b"\xff\xfe", "not text in UTF-8"), (b"-" * (1024 * 1024 + 1), "longer than 1 MiB"),
    ("-é".encode() * 1024 * 1024, "longer than 1 MiB"),
])  # fmt: skip
def test_a_file_without_a_statement_is_named(world: World, tmp_path: Path, content: bytes | None, said: str) -> None:
    file = tmp_path / "q.sql"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(WrongUsageError, match=said):
        sql(world, None, file=file)


def test_a_process_without_stdin_says_so(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(WrongUsageError, match="no stdin"):
        sql(world, "-")


@pytest.mark.parametrize("places", [{"statement": None}, {"statement": "SELECT 1", "file": Path("q.sql")}])
def test_a_query_has_its_sql_from_one_place(world: World, places: dict[str, Any]) -> None:
    with pytest.raises(WrongUsageError, match=r"no SQL|given twice") as error:
        sql(world, **places)
    assert "metering query - to read stdin" in error.value.advice


def test_a_long_table_is_cut_and_says_so_and_files_are_whole(
    world: World, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    statement, size = "SELECT range AS n FROM range(34296)", 34_296
    sql(world, statement, Format.TABLE)
    told = capsys.readouterr()
    assert told.out.count("│ ") < 3 * TABLE_ROWS
    assert "1,000 of 34,296 rows; --limit 0 shows all, --output FILE.csv without --limit writes all." in told.err
    for form in (Format.CSV, Format.NDJSON):
        target = tmp_path / f"all.{form}"
        sql(world, statement, form, target)
        assert len(target.read_text().splitlines()) == size + (form is Format.CSV)
        assert capsys.readouterr().err == ""
    sql(world, statement, Format.CSV, limit=3)
    told = capsys.readouterr()
    assert told.out == "n\n0\n1\n2\n"
    assert "3 of 34,296 rows" in told.err


def test_a_table_of_everything_has_a_limit_too(world: World) -> None:
    with pytest.raises(WrongUsageError, match=r"a table has 100,000 at most"):
        sql(world, "SELECT 1 FROM range(100001)", Format.TABLE, limit=0)
    with pytest.raises(WrongUsageError, match="is not a number of rows"):
        sql(world, "SELECT 1", limit=-1)


def test_who_asks_for_the_canary_is_told_how_to_see_it(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    statement = "SELECT count(*) FROM transfers WHERE account_id = '000000000000'"
    sql(world, statement)
    assert "--with-canary shows them" in capsys.readouterr().err
    sql(world, statement, with_canary=True)
    assert capsys.readouterr().err == ""


def test_a_query_over_a_range_without_rows_says_so(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    asked: list[tuple[dict[str, Any], bool]] = [
        ({"start": "2026-01", "end": "2026-02"}, True), ({"last": "2h"}, False), ({}, False)
    ]  # fmt: skip
    for options, empty in asked:
        sql(world, "SELECT sum(bytes) FROM transfers", **options)
        assert ("Nothing is booked from" in capsys.readouterr().err) is empty


def test_a_dash_as_output_is_stdout() -> None:
    assert _session({"output": Path("-")}).output is None
    assert _session({"output": Path("x.csv")}).output == Path("x.csv")

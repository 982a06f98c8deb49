"""Every read-only command, in every format, in windows of every width."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pyarrow.parquet as pq
import pytest

from metering.cli.printing.output import Format, write_answer
from metering.reports.answer import Answer, Column, encoded_bytes
from tests.cli.recorded import load, names
from tests.cli.snapshots import WIDTHS, path_of, snapshot_of, table
from tests.cli.width_rule import cut, too_wide, unrecorded
from tests.support.command_line import commands_with, read_commands
from tests.support.with_each import with_each

if TYPE_CHECKING:
    from pathlib import Path

NAMES = names()


@pytest.mark.cases
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", NAMES)
def test_a_table_fits_the_window_and_cuts_nothing_that_is_copied_or_counted(
    name: str, width: int, capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded = load(name)
    monkeypatch.setenv("COLUMNS", str(width))
    write_answer(recorded.answer, Format.TABLE, None, chart=recorded.chart)
    lines = capsysbinary.readouterr().out.decode().splitlines()
    assert too_wide(lines, width, recorded.answer) == []
    assert cut(lines, recorded.answer) == []


@pytest.mark.cases
@pytest.mark.parametrize("form", [form for form in Format if form is not Format.TABLE])
@pytest.mark.parametrize("name", NAMES)
def test_what_programs_read_is_the_same_at_every_width_and_with_every_column_however_it_is_printed(
    name: str, form: Format, capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = load(name).answer
    bare = replace(answer, columns=tuple(Column(name=each.name, kind=each.kind) for each in answer.columns))
    for width in WIDTHS:
        monkeypatch.setenv("COLUMNS", str(width))
        write_answer(answer, form, None)
        written = capsysbinary.readouterr().out
        assert written == encoded_bytes(bare, form)
        others = answer.others is not None and form is not Format.JSON
        assert rows_of(written, form, answer) == len(answer.rows) + others


def rows_of(written: bytes, form: Format, answer: Answer) -> int:
    """Number of rows that a program parses from the output."""
    if form is Format.PARQUET:
        rows: int = pq.read_table(io.BytesIO(written)).num_rows
        return rows
    if form is Format.CSV:
        return len(list(csv.DictReader(io.StringIO(written.decode()))))
    if form is Format.NDJSON:
        return len([json.loads(line) for line in written.decode().splitlines()])
    document = json.loads(written)
    return len(document["rows"]) if answer.document is None else len(answer.rows)


@pytest.mark.cases
@pytest.mark.parametrize("name", NAMES)
def test_wide_shows_every_column_whole_in_the_window_and_in_a_file(name: str, tmp_path: Path) -> None:
    recorded = load(name)
    shown = table(recorded, 60, wide=True)
    assert "Not shown" not in shown
    assert "…" not in shown
    assert cut(shown.splitlines(), recorded.answer) == []
    if recorded.chart is None:
        write_answer(recorded.answer, Format.TABLE, tmp_path / "table.txt")
        assert (tmp_path / "table.txt").read_text() == shown


@with_each(NAMES)
def test_a_snapshot_that_a_person_has_read_shows_what_is_printed(name: str) -> None:
    assert path_of(name).read_text() == snapshot_of(name), "read the difference of: make record"


def test_no_snapshot_is_left_over() -> None:
    assert sorted(path.stem for path in path_of("any").parent.glob("*.txt")) == NAMES


def test_every_read_command_has_a_recorded_answer() -> None:
    missing = unrecorded(read_commands(), (load(name).command for name in NAMES))
    assert not missing, "add a line to tests/cli/record.py, then: make record"


def test_every_read_command_has_the_option_wide() -> None:
    # An export goes to a folder or a bucket.
    assert commands_with("--wide") == read_commands() == commands_with("--output") - {"export cur", "export focus"}


def test_an_answer_without_rows_is_told_in_words() -> None:
    empty = [name for name in NAMES if not load(name).answer.rows]
    assert len(empty) > 5
    for name in empty:
        answer = load(name).answer
        assert answer.empty in table(load(name), 80)
        assert "─" not in table(load(name), 80)
        assert answer.empty != Answer(columns=(), rows=[]).empty, f"{name} says nothing of its own"


def test_the_rule_finds_a_line_that_is_too_wide_and_excuses_what_is_copied_only_if_it_is_alone() -> None:
    long_id = "s3:" + "0" * 64
    answer = Answer(columns=(Column(name="batch_id", text="copied"), Column(name="n", kind="integer")), rows=[
        {"batch_id": long_id, "n": 1},
    ])  # fmt: skip
    assert too_wide([long_id, f"  {long_id}"], 60, answer) == []
    assert too_wide([f"{long_id}  1"], 60, answer) == [f"{long_id}  1"]
    assert too_wide(["a" * 61], 60, answer) == ["a" * 61]


def test_the_rule_finds_an_id_that_is_broken_and_a_number_that_is_cut() -> None:
    answer = Answer(
        columns=(Column(name="usage_type", text="copied"), Column(name="bytes", kind="bytes")),
        rows=[{"usage_type": "USW2-DataTransfer-Regional-Bytes", "bytes": 1_234_567}],
    )
    broken = ["USW2-DataTransfer-Regional-Byt", "s  1,234,…"]
    assert cut(broken, answer) == ["1,234,567", "USW2-DataTransfer-Regional-Bytes"]
    assert cut(["USW2-DataTransfer-Regional-Bytes  1,234,567"], answer) == []


def test_a_read_command_that_nobody_recorded_is_named() -> None:
    assert unrecorded(read_commands() | {"report nothing"}, iter(read_commands())) == {"report nothing"}


def test_a_snapshot_differs_as_soon_as_a_column_does() -> None:
    recorded = load("verify")
    columns = [replace(each, title="passt" if each.name == "passed" else "") for each in recorded.answer.columns]
    changed = replace(recorded, answer=replace(recorded.answer, columns=tuple(columns)))
    assert table(changed, 80) != table(recorded, 80)

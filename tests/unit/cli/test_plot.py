"""`--plot` and `--chart` on the command line: a report as a picture, of its own figures."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import pytest
from typer.testing import CliRunner

from metering.cli.app import app
from metering.errors import OperationFailedError
from metering.reports.pictures.drawing import DrawingUnavailableError
from metering.units import DAY_S, HOUR_S
from tests.cli.lively import Lively
from tests.support.lake_world import NOW_S, World, record

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from typer.testing import Result


@pytest.fixture(scope="module")
def region() -> Lively:
    """Three days of usage, of two usage types; nothing writes to it."""
    world = World()
    for day in range(3):
        world.send([record(1000 * 10**day, start_s=NOW_S - day * DAY_S)])
        world.send([record(7, start_s=NOW_S - day * DAY_S - HOUR_S, to="eu-west-1")])
    world.compact_all()
    return Lively(world=world)


@pytest.fixture(autouse=True)
def _connected(region: Lively) -> Iterator[None]:
    with (
        patch("metering.cli.command.connect", lambda **_place: region),
        patch("metering.cli.command.refuse_aws_for_emulated", lambda _stage, **_place: None),
        patch("time.time", lambda: NOW_S),
    ):
        yield


def run(*line: str) -> Result:
    return CliRunner().invoke(app, ["--endpoint", "http://127.0.0.1:9", "report", "usage", *line])


def told(result: Result) -> str:
    return " ".join(result.stderr.split())


def test_it_draws_the_figures_that_it_prints(tmp_path: Path) -> None:
    target = tmp_path / "november.vl.json"
    result = run("--plot", str(target), "--format", "json")
    assert result.exit_code == 0, result.output
    rows = json.loads(result.stdout)["rows"]
    bars: list[Any] = json.loads(target.read_text())["data"]["values"]

    assert {(each["time"][:10], each["series"], each["exact"]) for each in bars} == {
        (row["day"], row["usage_type"], row["bytes"]) for row in rows
    }
    assert told(result) == f"Wrote {target}: 3 bars by day, by 2 of usage_type."


def test_one_bar_is_one_bar(tmp_path: Path) -> None:
    target = tmp_path / "november.svg"
    result = run("--group-by", "month", "--plot", str(target), "--format", "json")
    assert told(result) == f"Wrote {target}: 1 bar by month."


def test_a_picture_is_written_whole_beside_the_table(tmp_path: Path) -> None:
    target = tmp_path / "n.svg"
    target.write_text("before")
    result = run("--group-by", "hour", "--plot", str(target), "--format", "table")
    assert result.exit_code == 0, result.output
    assert target.read_text().startswith("<svg")
    assert "Total: 111,021 bytes" in result.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["n.svg"]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (("--plot", "n.gif"), "Use one of .svg, .png, .pdf, .vl.json."),
        (("--plot", "nowhere/n.svg"), "it is no file in a folder that exists"),
        (("--plot", "n.svg", "--top", "3"), "--plot does not take --top"),
        (("--plot", "n.svg", "--group-by", "account_id"), "has no column of time. Group by one of hour, day and month"),
        (("--plot", "n.svg", "--group-by", "day,service,to"), "has 2 columns beside the time"),
        (("--plot", "n.svg", "--html", "n.html"), "does not take --plot"),
    ],
)
def test_what_is_no_picture_is_refused_before_anything_is_read(
    line: tuple[str, ...], words: str, region: Lively, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    read: list[str] = []
    with patch.object(region.world.items, "on_call", read.append):
        result = run(*line)
    assert (result.exit_code, result.stdout, read) == (2, "", [])
    assert words in told(result)
    assert not [*tmp_path.iterdir()]


def test_without_the_extra_it_says_what_to_install(tmp_path: Path) -> None:
    missing = DrawingUnavailableError("Not here.", "Install it: pip install 'transfer-metering[cli,plot]'.")
    assert isinstance(missing, OperationFailedError)
    with patch("metering.reports.pictures.drawing.check_drawing", side_effect=missing):
        result = run("--plot", str(tmp_path / "n.png"))
    assert (result.exit_code, result.stdout) == (2, "")
    assert "pip install 'transfer-metering[cli,plot]'" in told(result)


def test_nothing_is_no_picture(tmp_path: Path) -> None:
    target = tmp_path / "n.svg"
    result = run("--account", "999999999999", "--plot", str(target))
    assert (result.exit_code, result.stdout) == (1, "")
    assert "There is nothing to draw." in told(result)
    assert not target.exists()


def test_bars_of_times_stand_in_their_order() -> None:
    lines = run("--group-by", "day", "--chart", "--format", "table").stdout.splitlines()
    place = lines.index("All 3, in the order of time:")
    assert [line.split()[0] for line in lines[place + 1 : place + 4]] == ["2026-11-22", "2026-11-23", "2026-11-24"]

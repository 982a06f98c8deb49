"""The examples in docs/billing.md and docs/getting-started.md show what the examples' commands print for a region.

`python -m tests.cli.test_pages` updates the outputs in docs/billing.md; review the diff.
"""

from __future__ import annotations

import json
import os
import re
import runpy
import shlex
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple
from unittest.mock import patch

import pytest
from typer.testing import CliRunner

from metering.cli.app import app
from metering.cli.commands.developer.demo_stage import NEXT
from metering.fleet.settings.layers import Asked, planned
from metering.ledger.notes.watch import Completeness
from metering.operations.own_costs import STORAGE_USD_GB_MONTH
from metering.replay.given import synthetic_traffic
from metering.replay.scenarios import SCENARIOS
from metering.replay.synthesis import _LATE_DAYS
from metering.stores.queues import Delivery
from metering.stores.writes import Put, Table
from metering.units import DAY_S, GIB, HOUR_S
from tests.cli.lively import NOW, REGION, Lively, LivelyAccount, LivelyFleet
from tests.cli.record import _at_one_moment
from tests.support.lake_world import record
from tests.support.memory.frozen import merge

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "billing.md"
WIDTH = 80
# Hours counted from the first hour of 28 October 2026.
_BEGIN_S = 1_793_145_600
# Matches a command block, and the block with its output.
_STEP = re.compile(r"^```\n(metering [^\n]+)\n```\n\n```text\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Step(NamedTuple):
    line: str
    output: str


def steps(text: str) -> list[Step]:
    """Commands with shown output on a page, in order."""
    return [Step(*found) for found in _STEP.findall(text)]


def payers_of(text: str) -> str:
    """The file of payers that the page shows."""
    found = re.search(r"^```json\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert found
    assert json.loads(found[1])["payers"]
    return found[1]


class Example:
    """The region of the example's commands. Mutable."""

    def __init__(self, payers: str) -> None:
        self._region = Lively()
        self._payers = payers
        self.use("111111111111", 6_000, 0)
        self.use("222222222222", 4_000, 1)
        self.use("333333333333", 2_000, 2)

    def use(self, account: str, size_gb: int, hour: int) -> None:
        self._region.world.send([record(size_gb * GIB, start_s=_BEGIN_S + hour * HOUR_S, account=account)])

    @contextmanager
    def open(self) -> Iterator[None]:
        """A folder with the file of payers, and commands that are connected to the region."""
        # A stage with a single region: the recordings' stage has more regions.
        with patch("tests.cli.record.lively_account", _one_region):
            moment = _at_one_moment(self._region)
        with moment, tempfile.TemporaryDirectory() as folder, patch.dict(os.environ, {"COLUMNS": str(WIDTH)}):
            before = Path.cwd()
            os.chdir(folder)
            try:
                Path("payers.json").write_text(self._payers)
                yield
            finally:
                os.chdir(before)

    def type(self, line: str) -> str:
        """Run a command, expect exit 0, and return its stdout."""
        _, *words = shlex.split(line)
        form = [] if {"export", "--format", "--as-file"} & {*words} else ["--format", "table"]
        result = CliRunner().invoke(app, ["--endpoint", "http://127.0.0.1:9", *words, *form])
        if result.exit_code:
            raise SystemExit(f"{line}: exit {result.exit_code}\n{result.output}\n{result.stderr}") from result.exception
        return "".join(f"{row.rstrip()}\n" for row in result.stdout.strip("\n").splitlines())


def _one_region(region: Lively) -> LivelyAccount:
    account = LivelyAccount()
    given = planned(Asked(stage="local"), None)
    account.settings.documents[REGION] = given.config.published(given.given)
    account.outputs = NOW.outputs
    fleet = LivelyFleet(
        asked=Asked(stage="local"), home=REGION, endpoint=None, environ={}, no_pager=True, lively=region,
        account=account,
    )  # fmt: skip
    fleet.manager.add(REGION)
    return account


# Late usage arrives before this command.
_LATE = "metering invoice draft --month 2026-11"


def played(text: str) -> Iterator[Step]:
    """Each command of a page with the command's current output."""
    example = Example(payers_of(text))
    with example.open():
        for step in steps(text):
            if step.line.startswith(_LATE):
                example.use("333333333333", 100, 30)
            yield Step(step.line, example.type(step.line))


TEXT = PAGE.read_text(encoding="utf-8")


def test_each_command_of_the_example_prints_what_the_page_says() -> None:
    """If it does not: `python -m tests.cli.test_pages`, and review the diff."""
    now = list(played(TEXT))
    assert [step.line for step in now] == [step.line for step in steps(TEXT)]
    for said, found in zip(steps(TEXT), now, strict=True):
        assert said.output == found.output, said.line


def test_the_example_goes_from_payers_to_a_correction_of_an_invoice() -> None:
    lines = [step.line for step in steps(TEXT)]
    assert [line.split()[1] for line in lines] == [
        "organization", "cost", "cost", "invoice", "period", "invoice", "invoice", "invoice",
    ]  # fmt: skip
    assert "1062.70" in steps(TEXT)[3].output
    assert "8.50" in steps(TEXT)[-1].output
    assert TEXT.count("```text\n") == len(lines)


def test_the_records_of_the_page_are_the_usage_of_the_example() -> None:
    typed_records = [json.loads(line) for line in re.findall(r'^\{"account_id".+$', TEXT, re.MULTILINE)]
    sizes = (
        ("111111111111", 6_000, 0),
        ("222222222222", 4_000, 1),
        ("333333333333", 2_000, 2),
        ("333333333333", 100, 30),
    )
    made = [record(size * GIB, start_s=_BEGIN_S + hour * HOUR_S, account=account) for account, size, hour in sizes]
    for shown, used in zip(typed_records, made, strict=True):
        names = ("account_id", "service", "direction", "bytes", "from", "to", "start")
        assert [shown[name] for name in names] == [used[name] for name in names]


def test_other_figures_are_noticed() -> None:
    wrong = TEXT.replace("Total 8.50 USD", "Total 8.51 USD")
    assert [step.line for step in steps(wrong) if step not in steps(TEXT)] == [steps(TEXT)[-1].line]


# The first batch of docs/getting-started.md: its program sends the batch, and its commands show what the page says.

START = (ROOT / "docs" / "getting-started.md").read_text(encoding="utf-8")
_BLOCK = re.compile(r"^```(python)?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass
class Sent:
    """Replaces the SDK: records the messages that a program sends. Mutable."""

    bodies: list[str] = field(default_factory=list)

    def client(self, _service: str) -> SimpleNamespace:
        return SimpleNamespace(send_message=lambda *, QueueUrl, MessageBody: self.bodies.append(MessageBody))  # noqa: N803  # as the SDK names them


def first_steps() -> tuple[str, list[str]]:
    """The program on the page, and the commands that follow the program in the same step."""
    blocks = _BLOCK.findall(START.partition("## 3.")[2].partition("\n## ")[0])
    [at] = [place for place, (kind, _) in enumerate(blocks) if kind == "python"]
    return blocks[at][1], [line for _, text in blocks[at + 1 :] for line in text.splitlines()]


@pytest.fixture
def region() -> Iterator[Lively]:
    """A region without any batch, as the commands see it."""
    here = Lively()
    with _at_one_moment(here), patch.dict(os.environ, {"COLUMNS": "80", "INGEST_QUEUE_URL": "queue"}):
        yield here


def send(region: Lively, text: str, folder: Path) -> None:
    """Run the program, and let the worker process its message. The roll-up does not run."""
    sent, path = Sent(), folder / "first.py"
    path.write_text(text)
    with patch.dict(sys.modules, {"boto3": sent}):
        runpy.run_path(str(path))
    now_ms = region.world.clock.now_ms()
    deliveries = [
        Delivery(message_id=f"m{number}", body=body, sent_at_ms=now_ms, receive_count=1, sender_id="me")
        for number, body in enumerate(sent.bodies)
    ]
    assert not region.world.aggregator.handle(deliveries, region.world.deadline()).retry


def typed(line: str) -> str:
    return " ".join(Example.type(None, line).split())  # type: ignore[arg-type]  # it needs nothing of the example


def test_the_first_report_of_the_page_has_the_bytes_that_were_just_sent(region: Lively, tmp_path: Path) -> None:
    program, (report, *_) = first_steps()
    send(region, program, tmp_path)
    assert "The report says 41,943,040 bytes in one record" in " ".join(START.split())
    assert "Total: 41,943,040 bytes = 40.0 MB in 1 record" in typed(report)
    assert "Not in it: 41,943,040 bytes = 40.0 MB in 1 record" in typed(report.replace(" --now", ""))


def test_the_second_run_of_the_program_is_a_conflict_that_the_page_shows(region: Lively, tmp_path: Path) -> None:
    program, (_, *quarantine) = first_steps()
    send(region, program, tmp_path)
    with patch("time.time", lambda: region.world.clock.now_ms() / 1000 + 60):
        send(region, program, tmp_path)
    assert [line.split()[1:3] for line in quarantine] == [["quarantine", "list"], ["quarantine", "show"]]
    told = [typed(line) for line in quarantine]
    assert "batch_id first-1 kind conflict" in told[0]
    assert "first-1 differs from what is metered under its id:" in told[1]


def test_a_report_without_times_says_that_it_is_of_this_month_alone(region: Lively) -> None:
    told = typed("metering report usage")
    assert "Usage from 2026-11-01T00:00:00Z to 2026-11-24T14:00:00Z, this month so far" in told
    assert "this month so far" not in typed("metering report usage --last 35d")


def test_what_is_asked_after_a_replay_has_all_of_its_late_records() -> None:
    asked = START.partition("## 5.")[2].partition("\n## ")[0]
    [first, *_] = [line for line in asked.splitlines() if line.startswith("metering report usage")]
    [days] = re.findall(r"--last ([0-9]+)d", first) or ["0"]
    assert int(days) > _LATE_DAYS[1] + 1
    assert "this month so far" in " ".join(asked.split())


def test_what_the_demo_proposes_next_has_all_of_the_week_that_it_sends() -> None:
    lines = [line for line in NEXT if "--last" in line]
    assert len(lines) == 2
    assert all("--last 8d" in line for line in lines)


# The month of docs/getting-started.md: forecasts, budgets and unusual days of its scenario.

_MONTH = START.partition("### A month with prices")[2].partition("\n## ")[0]


def month_sent(region: Lively, batches: int) -> None:
    """Meter the scenario `month` as `replay` sends it, and compare it with the manifest."""
    scenario, world = SCENARIOS["month"], region.world
    now_ms = world.clock.now_ms()
    traffic = synthetic_traffic("month", scenario, batches, 1, now_ms // 1000, "bucket")
    shipments = list(traffic.shipments)
    for first in range(0, len(shipments), 10):
        deliveries = [
            Delivery(message_id=each.sent.batch_id, body=each.body, sent_at_ms=now_ms, receive_count=1, sender_id="me")
            for each in shipments[first : first + 10]
        ]
        assert not world.aggregator.handle(deliveries, world.deadline()).retry
    world.roll_up()
    world.compact_all()
    assert world.visible() == merge(each.sent.totals for each in shipments)
    item = Completeness(through_s=world.clock.now_ms() // 1000).to_item()
    world.items.put(Put(table=Table.LEDGER, item=item))


def test_the_month_of_the_page_has_a_forecast_a_spent_budget_and_one_unusual_day(
    region: Lively, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    # A third of the batches has the same bytes, in fewer hours.
    month_sent(region, 140)
    lines = re.findall(r"^metering (?!replay|verify).+$", _MONTH, re.MULTILINE)
    told = {line: typed(line) for line in lines}
    spent = {row["budget"]: row for row in _rows("budget", "list")}
    assert float(spent["egress"]["used_percent"]) > 100
    assert float(spent["bill"]["actual"]) > 100
    assert "egress" in told["metering budget list"]
    assert "Expected by the same day of the week" not in told["metering budget list"]
    assert "A forecast is an estimate" in told["metering budget forecast bill"]
    [row] = _rows("anomalies")
    assert (row["day"], row["account_id"], row["usage_type"]) == (
        "2026-11-21", "900100000001", "DataTransfer-Out-Bytes",
    )  # fmt: skip
    assert "900100000001" in told["metering anomalies"]
    assert "Total: " in told["metering cost --group-by day"]


def _rows(*words: str) -> list[dict[str, str]]:
    told = CliRunner().invoke(app, ["--endpoint", "http://127.0.0.1:9", *words, "--format", "json"]).stdout
    rows: list[dict[str, str]] = json.loads(told)["rows"]
    return rows


# docs/saved-reports.md: its commands, in order.

SAVED = (ROOT / "docs" / "saved-reports.md").read_text(encoding="utf-8")


def test_the_page_about_saved_reports_makes_and_shows_them(
    region: Lively, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    begin_s = region.world.clock.now_ms() // 1000 - 8 * DAY_S
    region.world.send([record(5 * GIB, start_s=begin_s)])
    region.world.items.put(Put(table=Table.LEDGER, item=Completeness(through_s=begin_s + 8 * DAY_S).to_item()))
    lines = re.findall(r"^metering .+$", SAVED, re.MULTILINE)
    told = [typed(line) for line in lines]
    [at] = [place for place, line in enumerate(lines) if line == "metering reports list"]
    assert told[at].count("made") == 2
    assert "5.00 GB" in Path("accounts.html").read_text()
    assert Path("accounts.csv").read_text().count("\n") == 2
    assert "bill" not in told[-1]


def main() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for before, now in zip(steps(text), list(played(text)), strict=True):
        block = "```\n{}\n```\n\n```text\n{}```"
        text = text.replace(block.format(*before), block.format(*now))
    PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()


# docs/removal.md: what it types takes access away, and leaves money and totals as they were.

REMOVAL = (ROOT / "docs" / "removal.md").read_text(encoding="utf-8")
_REMOVES = ("token revoke", "budget remove")
_STAYS = ("report usage", "period verify", "invoice list")


def test_removing_an_account_takes_its_token_and_budget_and_leaves_totals_and_invoices_equal() -> None:
    lines = re.findall(r"^metering (?!settings).+$", REMOVAL, re.MULTILINE)
    kept = [line for line in lines if line.split("metering ")[1].startswith(_STAYS)]
    assert len(kept) == len(_STAYS)
    example = Example(payers_of(TEXT))
    with example.open():
        for step in steps(TEXT):
            if step.line.startswith(_LATE):
                break
            example.type(step.line)
        made = re.search(
            "mtr_([0-9a-f]{16})", example.type("metering token create --role customer --account 222222222222")
        )
        assert made
        example.type("metering budget set egress --account 222222222222 --amount '1 USD' --threshold 'actual 80%'")
        before = [example.type(line) for line in kept]
        tokens = example.type("metering token list")
        for line in lines:
            example.type(line.replace("5d41402abc4b2a76", made[1]))
        assert [example.type(line) for line in kept] == before
        assert tokens != example.type("metering token list")
        assert "egress" not in example.type("metering budget list")


def test_a_year_of_rows_costs_what_the_page_says() -> None:
    # 12 million batches of 100 records, at 14 bytes a row (metering/fleet/stage.py, compact_file_rows).
    size_gb = 12 * 100 * 14 * 365 // 1_000
    usd = size_gb * STORAGE_USD_GB_MONTH["GLACIER_IR"]
    assert f"{size_gb:,} GB, which costs {usd:.0f} USD a month" in REMOVAL.replace("\n", " ")

"""The first batch of docs/getting-started.md: its program sends, and its commands print what the page says."""

from __future__ import annotations

import os
import re
import runpy
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING
from unittest.mock import patch

import pytest

from metering.cli.commands.developer.demo_stage import NEXT
from metering.replay.synthesis import _LATE_DAYS
from metering.stores.queues import Delivery
from tests.cli.billing_page import Example
from tests.cli.lively import Lively
from tests.cli.record import _at_one_moment

if TYPE_CHECKING:
    from collections.abc import Iterator

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "getting-started.md").read_text(encoding="utf-8")
_BLOCK = re.compile(r"^```(python)?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass
class Sent:
    """Replaces the SDK: records the messages that a program sends. Mutable."""

    bodies: list[str] = field(default_factory=list)

    def client(self, _service: str) -> SimpleNamespace:
        return SimpleNamespace(send_message=lambda *, QueueUrl, MessageBody: self.bodies.append(MessageBody))  # noqa: N803  # as the SDK names them


def first_steps() -> tuple[str, list[str]]:
    """The page's program, and the commands typed after it, up to the next step."""
    blocks = _BLOCK.findall(TEXT.partition("## 3.")[2].partition("\n## ")[0])
    [at] = [place for place, (kind, _) in enumerate(blocks) if kind == "python"]
    return blocks[at][1], [line for _, text in blocks[at + 1 :] for line in text.splitlines()]


@pytest.fixture
def region() -> Iterator[Lively]:
    """A region without any batch, as the commands see it."""
    here = Lively()
    with _at_one_moment(here), patch.dict(os.environ, {"COLUMNS": "80", "INGEST_QUEUE_URL": "queue"}):
        yield here


def send(region: Lively, text: str, folder: Path) -> None:
    """Run the program, and let the worker process its message. No roll-up has run since."""
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
    """H-D1: typed as written, it said 0 bytes for a minute."""
    program, (report, *_) = first_steps()
    send(region, program, tmp_path)
    assert "The report says 41,943,040 bytes in one record" in " ".join(TEXT.split())
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
    """H-D6: after a replay of 33 days it showed less than `verify`, and only its times told why."""
    assert "Usage from 2026-11-01T00:00:00Z to 2026-11-24T14:00:00Z, this month so far" in typed(
        "metering report usage"
    )
    assert "this month so far" not in typed("metering report usage --last 35d")


def test_what_is_asked_after_a_replay_has_all_of_its_late_records() -> None:
    """H-D6: the page's first report covered this month, but the replay covers 33 days."""
    asked = TEXT.partition("## 5.")[2].partition("\n## ")[0]
    [first, *_] = [line for line in asked.splitlines() if line.startswith("metering report usage")]
    [days] = re.findall(r"--last ([0-9]+)d", first) or ["0"]
    assert int(days) > _LATE_DAYS[1] + 1
    assert "this month so far" in " ".join(asked.split())


def test_what_the_demo_proposes_next_has_all_of_the_week_that_it_sends() -> None:
    """H-D6: 168 hours, counted back from this one, touch eight days, but only seven were requested."""
    lines = [line for line in NEXT if "--last" in line]
    assert len(lines) == 2
    assert all("--last 8d" in line for line in lines)

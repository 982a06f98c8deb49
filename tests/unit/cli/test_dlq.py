"""`metering dlq --log-files`: events of log files are listed, and go back into their own queue; no batch moves."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from metering.cli.command import Session
from metering.cli.commands.operator.dlq import list_, redrive
from metering.cli.failures import CommandFailedError, WrongUsageError
from metering.cli.printing.output import Format
from tests.support.lake_world import World
from tests.support.memory.queues import MemoryQueue

if TYPE_CHECKING:
    from metering.onramps.sources import LogSource
    from metering.settings import Settings
    from tests.support.memory.clock import ManualClock
    from tests.support.memory.items import MemoryItemStore
    from tests.support.memory.objects import MemoryObjectStore


@dataclass(frozen=True)
class Facts:
    def dead_letter_retention_s(self) -> int:
        return 1_209_600


@dataclass(frozen=True)
class Queues:
    events: MemoryQueue
    dead: MemoryQueue


@dataclass(frozen=True)
class Region:
    """As much of a connection as the command uses."""

    items: MemoryItemStore
    objects: MemoryObjectStore
    settings: Settings
    clock: ManualClock
    ingest: MemoryQueue
    dead_letters: MemoryQueue
    onramp: Queues | None
    region: str = "us-west-2"
    queue_facts: Facts = Facts()
    log_sources: tuple[LogSource, ...] = ()
    services: None = None

    def caller(self) -> str:
        return "arn:aws:sts::1:assumed-role/Operator/somebody"


class HereSession(Session):
    def __init__(self, *, log_sources: bool = True) -> None:
        super().__init__(endpoint=None, region=None, stage="dev", form=Format.JSON, agreed=True)
        world = World()
        queues = [MemoryQueue(world.clock) for _ in range(4)]
        onramp = Queues(events=queues[2], dead=queues[3]) if log_sources else None
        self.here = Region(world.items, world.objects, world.settings, world.clock, queues[0], queues[1], onramp)

    def region(self) -> Region:  # type: ignore[override]  # as much of it as is used
        return self.here


def test_events_of_log_files_go_back_into_their_own_queue(capsys: pytest.CaptureFixture[str]) -> None:
    session = HereSession()
    onramp = session.here.onramp
    assert onramp is not None
    onramp.dead.send_many(["an event", "another one"])
    session.here.dead_letters.send_many(["a batch"])
    session.here.clock.advance_s(60)

    redrive(session, by_hand=True, log_files=True)

    answer: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert (answer["waiting"], answer["moved"], answer["kept"]) == (2, 2, 0)
    assert onramp.events.depth().visible == 2
    assert onramp.dead.depth().total == 0
    assert session.here.dead_letters.depth().visible == 1
    assert session.here.ingest.depth().total == 0


def test_a_region_without_log_sources_says_so() -> None:
    with pytest.raises(CommandFailedError, match="us-west-2 has no log sources"):
        redrive(HereSession(log_sources=False), log_files=True)


def test_dead_letters_of_log_files_are_listed_apart_from_those_of_batches(capsys: pytest.CaptureFixture[str]) -> None:
    session = HereSession()
    onramp = session.here.onramp
    assert onramp is not None
    detail = {"bucket": {"name": "acme-logs"}, "object": {"key": "AWSLogs/a.gz", "etag": "e"}}
    event = json.dumps({"source": "aws.s3", "detail-type": "Object Created", "detail": detail})
    onramp.dead.send_many([event])
    session.here.dead_letters.send_many(["a batch"])

    list_(session, log_files=True)

    [row] = json.loads(capsys.readouterr().out)["rows"]
    assert row["file"] == "s3://acme-logs/AWSLogs/a.gz"
    assert row["why"] == "It lies in no log source of this region any more, so a redrive would refuse it."
    assert onramp.dead.depth().visible == 1


def test_a_region_without_log_sources_has_no_dead_log_files(capsys: pytest.CaptureFixture[str]) -> None:
    list_(HereSession(log_sources=False), log_files=True)
    assert json.loads(capsys.readouterr().out)["rows"] == []


def test_a_deep_look_at_log_files_is_no_command() -> None:
    with pytest.raises(WrongUsageError, match="--deep reads batches"):
        list_(HereSession(), deep=True, log_files=True)

"""`metering quarantine`: a retry takes what was asked for, and not another producer's batches."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from metering.adapters.memory.queues import MemoryQueue
from metering.cli.command import Session
from metering.cli.commands.operator.quarantine import list_, retry
from metering.cli.failures import WrongUsageError
from metering.cli.printing.output import Format
from tests.support.lake_world import World, record

if TYPE_CHECKING:
    from metering.adapters.memory.clock import ManualClock
    from metering.adapters.memory.items import MemoryItemStore
    from metering.adapters.memory.objects import MemoryObjectStore
    from metering.settings import Settings


@dataclass(frozen=True)
class Names:
    data_bucket: str = "data"


@dataclass(frozen=True)
class Region:
    """As much of a connection as the commands use."""

    items: MemoryItemStore
    objects: MemoryObjectStore
    ingest: MemoryQueue
    settings: Settings
    clock: ManualClock
    names: Names = Names()
    services: None = None
    region: str = "us-east-1"

    def caller(self) -> str:
        return "arn:aws:sts::1:assumed-role/Operator/somebody"


class HereSession(Session):
    def __init__(self, world: World) -> None:
        super().__init__(endpoint=None, region=None, stage="dev", form=Format.JSON, agreed=True)
        self.queue = MemoryQueue(world.clock)
        self._here = Region(world.items, world.objects, self.queue, world.settings, world.clock)

    def region(self) -> Region:  # type: ignore[override]  # as much of it as is used
        return self._here

    def sent(self) -> list[str]:
        """Sources of the messages that were sent again."""
        return [json.loads(message.delivery.body)["source_id"] for message in self.queue.receive(10)]


def with_conflicts() -> World:
    """Two sources, each with other content under an id that it had used before."""
    world = World()
    for source in ("right", "wrong"):
        for size in (1, 2):
            world._sent = {"right": 0, "wrong": 1}[source]
            world.send([record(size)], source=source)
    return world


def test_a_retry_of_one_source_leaves_the_conflicts_of_others() -> None:
    session = HereSession(with_conflicts())
    retry(session, None, "conflict", source="right", as_new_id=True)
    assert session.sent() == ["right"]


def test_a_retry_of_one_sender_takes_that_senders_alone(capsys: pytest.CaptureFixture[str]) -> None:
    session = HereSession(with_conflicts())
    retry(session, None, "conflict", sender="somebody else", as_new_id=True)
    assert session.sent() == []
    retry(session, None, "conflict", sender="sender", as_new_id=True, dry_run=True)
    rows = [json.loads(part)["rows"] for part in capsys.readouterr().out.replace("}\n{", "}\0{").split("\0")]
    assert [len(each) for each in rows] == [0, 2]


def test_the_list_shows_the_source_and_chooses_by_it(capsys: pytest.CaptureFixture[str]) -> None:
    list_(HereSession(with_conflicts()), kind="conflict", source="wrong", limit=10)
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [(row["batch_id"], row["source"]) for row in rows] == [("batch-1", "wrong")]


@pytest.mark.parametrize("option", ["source", "sender", "start", "end"])
def test_what_chooses_among_batches_is_refused_beside_a_named_one(option: str) -> None:
    session = HereSession(with_conflicts())
    with pytest.raises(WrongUsageError, match="named already"):
        retry(session, "batch-0", **{option: "x"})  # type: ignore[arg-type]  # each is a text
    assert session.sent() == []

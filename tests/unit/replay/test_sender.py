"""The sender: objects first, every message once more after an error, the manifest in order."""

from __future__ import annotations

import hashlib
import time
from typing import TYPE_CHECKING

import pytest

from metering.audit.verification import SentBatch
from metering.errors import UnavailableError
from metering.replay import sender as sender_module
from metering.replay.sender import Sender, SendingFailedError
from metering.replay.synthesis import Shipment, Upload
from tests.support.memory.clock import ManualClock
from tests.support.memory.objects import MemoryObjectStore
from tests.support.memory.queues import MemoryQueue

if TYPE_CHECKING:
    from collections.abc import Sequence


def shipment(name: str, size: int = 10) -> Shipment:
    return Shipment(sent=SentBatch(batch_id=name, records=1, metered=1), body=name.ljust(size, "."))


class World:
    def __init__(self) -> None:
        clock = ManualClock(0)
        self.troubles: list[str] = []
        self.queue = MemoryQueue(clock, on_call=self._on_call)
        self.objects = MemoryObjectStore(clock, on_call=self._on_call)
        self.lines: list[SentBatch] = []

    def send(self, shipments: Sequence[Shipment], rate_per_s: float | None = None) -> int:
        sender = Sender(queue=self.queue, objects=self.objects, bucket="b", threads=2, rate_per_s=rate_per_s)
        return sender.send(shipments, self.lines.extend)

    def _on_call(self, name: str) -> None:
        if name in self.troubles:
            self.troubles.remove(name)
            raise UnavailableError(name, "try again")


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sender_module, "_BACKOFF_S", 0)


def test_everything_is_sent_and_told_in_order() -> None:
    world = World()
    assert world.send([shipment(f"b{n}") for n in range(95)]) == 95
    assert [line.batch_id for line in world.lines] == [f"b{n}" for n in range(95)]
    assert world.queue.depth().total == 95


def test_messages_that_are_large_together_go_in_requests_of_their_own() -> None:
    world = World()
    world.send([shipment(f"b{n}", 600_000) for n in range(5)])
    assert world.queue.depth().total == 5


def test_what_was_not_taken_is_sent_again() -> None:
    world = World()
    world.troubles = ["queue.send_many", "objects.put", "queue.send_many"]
    pointer = Shipment(
        sent=SentBatch(batch_id="p", records=1, metered=1), body="p", upload=Upload(key="ingest/p", body=b"x")
    )
    world.send([pointer])
    assert world.queue.depth().total == 1
    assert world.objects.get("ingest/p") == b"x"


def test_a_queue_that_never_answers_ends_the_replay() -> None:
    world = World()
    world.troubles = ["queue.send_many"] * 10
    with pytest.raises(SendingFailedError, match="not known whether these were sent") as error:
        world.send([shipment("b")])
    assert (error.value.batch_ids, world.lines) == (("b",), [])


def test_after_a_failure_all_that_was_sent_is_told_and_nothing_more_is_begun() -> None:
    world = World()
    world.troubles = ["queue.send_many"] * 12
    with pytest.raises(SendingFailedError) as error:
        world.send([shipment(f"b{n:04}") for n in range(2_000)])
    told = [line.batch_id for line in world.lines]
    received = {message.delivery.body.rstrip(".") for message in world.queue.receive(10_000)}
    assert received <= {*told, *error.value.batch_ids}
    assert set(told) <= received
    assert len(told) < 2_000


def test_a_dropped_object_is_known_by_bucket_key_and_etag() -> None:
    world = World()
    world.send([Shipment(sent=SentBatch(batch_id="", records=1, metered=1), upload=Upload(key="drop/a", body=b"x"))])
    info = world.objects.head("drop/a")
    assert info is not None
    identity = hashlib.sha256(f"b\ndrop/a\n{info.etag}".replace('"', "").encode()).hexdigest()
    assert [line.batch_id for line in world.lines] == [f"s3:{identity}"]
    assert world.queue.depth().total == 0


def test_a_rate_is_kept() -> None:
    began = time.monotonic()
    World().send([shipment(f"b{n}") for n in range(30)], rate_per_s=100.0)
    assert time.monotonic() - began >= 0.2

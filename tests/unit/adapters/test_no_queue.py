"""Who reads only has no queue: a retry by it fails before anything is written."""

from __future__ import annotations

import json

import pytest

from metering.adapters.inert import NoQueue
from metering.stores.queues import Delivery, Queue
from metering.wiring.answers.operators import quarantine_of
from tests.support.here import Here
from tests.support.lake_world import World, record


def test_every_call_of_the_port_is_refused() -> None:
    queue: Queue = NoQueue()
    for call in (
        lambda: queue.send_many(["{}"]),
        lambda: queue.receive(1),
        lambda: queue.delete_many([]),
        lambda: queue.release([]),
        queue.depth,
        queue.start_redrive,
    ):
        with pytest.raises(RuntimeError, match="reads only"):
            call()


def test_a_retry_of_a_whole_batch_by_a_reader_writes_nothing() -> None:
    world = World()
    body = {"schema": "metering.batch/1", "batch_id": "refused", "record_count": 2, "records": [record(5)]}
    delivery = Delivery(
        message_id="m", body=json.dumps(body), sent_at_ms=world.clock.now_ms(), receive_count=1, sender_id="sender"
    )
    world.aggregator.handle([delivery], world.deadline())
    here = Here(world)
    entries = quarantine_of(here)  # type: ignore[arg-type]  # as much of it as is used
    [entry] = entries.find("refused")
    calls: list[str] = []
    world.items.on_call = world.objects.on_call = calls.append
    with pytest.raises(RuntimeError, match="reads only"):
        entries.retry(entry)
    assert not [call for call in calls if call.startswith(("put", "transact", "update", "delete"))]

"""The on-ramp keeps the causes of a file: after its plan, before its messages, and once."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import TYPE_CHECKING

import pyarrow.parquet as pq
import pytest

from metering.errors import UnavailableError
from metering.onramps.context.inventory import context_of
from metering.onramps.context.store import ContextStore
from metering.onramps.ingest.causes import LIFE_S, causes_key
from metering.onramps.ingest.taking import LogIngest, Taken
from metering.onramps.plans import Plan
from metering.stores.objects import CAUSE_PARTS_PREFIX, LOG_PARTS_PREFIX
from tests.support.lake_world import HOUR
from tests.support.memory.clock import ManualClock
from tests.support.memory.objects import MemoryObjectStore
from tests.support.memory.queues import MemoryQueue
from tests.support.networks.description import description
from tests.support.networks.traffic import Network, NetworkPlan
from tests.support.small_logs import LogBucket

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.networks.files import LogFile


class Stage:
    """An on-ramp with the largest file of a network."""

    def __init__(self, *, causes: bool = True) -> None:
        self.clock = ManualClock(HOUR * 1000)
        self.objects, self.queue = MemoryObjectStore(self.clock), MemoryQueue(self.clock)
        network = Network(NetworkPlan(first_s=HOUR, lines=800, slots=1, overlaps=False, style="v5"))
        main = network.inventory.vpcs["main"].id
        self.file: LogFile = next(file for file in network.files() if file.log.resource_id == main)
        context = context_of(description(network.inventory, network.flow_logs, HOUR), HOUR)
        ContextStore(self.objects).put(context)
        self.logs = LogBucket(self.clock)
        self.logs.put(self.file.key, self.file.body, if_absent=True)
        self.ingest = LogIngest(
            objects=self.objects, bucket="data", queue=self.queue, contexts=ContextStore(self.objects),
            clock=self.clock, window_s=None, causes=causes,
        )  # fmt: skip

    def take(self) -> Taken:
        return self.ingest.take(self.logs, self.file.key)

    def keys(self, prefix: str) -> list[str]:
        return [info.key for info in self.objects.list(prefix)]


def test_the_rows_of_a_batch_have_the_bytes_of_its_records() -> None:
    stage = Stage()
    plan = stage.take().plan
    assert plan is not None
    assert stage.keys(CAUSE_PARTS_PREFIX) == [causes_key(plan.identity)]
    rows = pq.read_table(io.BytesIO(stage.objects.get(causes_key(plan.identity)))).to_pylist()
    assert {row["batch"]: 0 for row in rows}.keys() == {part.batch_id for part in plan.parts}
    assert sum(row["bytes"] for row in rows) == sum(part.bytes for part in plan.parts) == plan.balance.batched_bytes
    assert {row["basis"] for row in rows} >= {"told", "seen"}
    # No row has an address of a client or a peer.
    assert not any(row["destination"][:1].isdigit() for row in rows)


def test_a_plan_without_causes_has_the_bytes_of_earlier_plans() -> None:
    plan = Stage(causes=False).take().plan
    assert plan is not None
    assert b'"causes"' not in plan.to_json()
    assert plan.causes == ""
    assert Stage(causes=False).keys(CAUSE_PARTS_PREFIX) == []
    kept = replace(plan, causes="0" * 64)
    assert Plan.from_json(kept.to_json(), kept.key) == kept


def test_a_process_that_dies_after_the_plan_has_sent_nothing_and_the_next_one_puts_the_causes_first() -> None:
    stage = Stage()
    put = stage.objects.put

    def dies(key: str, body: bytes | Path, *, if_absent: bool) -> bool:
        if key.startswith(CAUSE_PARTS_PREFIX):
            raise UnavailableError("s3.PutObject", "gone")
        return put(key, body, if_absent=if_absent)

    stage.objects.put = dies  # type: ignore[method-assign]  # a store that fails once
    with pytest.raises(UnavailableError):
        stage.take()
    assert (stage.keys(LOG_PARTS_PREFIX), stage.queue.bodies()) == ([], [])
    stage.objects.put = put  # type: ignore[method-assign]  # as before
    taken = stage.take()
    assert taken.verdict == "repeated"
    assert len(stage.keys(CAUSE_PARTS_PREFIX)) == 1


def test_a_lost_cause_part_is_put_again_within_its_life_and_later_the_file_is_only_sent_again() -> None:
    stage = Stage()
    stage.take()
    [key] = stage.keys(CAUSE_PARTS_PREFIX)
    body = stage.objects.get(key)
    stage.objects.delete([key])
    assert stage.take().verdict == "repeated"
    assert stage.objects.get(key) == body
    stage.objects.delete([key])
    stage.clock.advance_s(LIFE_S)
    assert stage.take().verdict == "repeated"
    assert stage.keys(CAUSE_PARTS_PREFIX) == []


def test_a_file_that_was_planned_without_causes_stays_without() -> None:
    stage = Stage(causes=False)
    stage.take()
    stage.ingest = replace(stage.ingest, causes=True)
    stage.objects.delete(stage.keys(LOG_PARTS_PREFIX))
    assert stage.take().verdict == "repeated"
    assert stage.keys(CAUSE_PARTS_PREFIX) == []

"""The act of the demo that meters a flow log, run on an in-memory region."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from metering.adapters.aws.runtime import SystemClock
from metering.cli.commands.developer.demo_costs import meter_log
from metering.cli.commands.developer.demo_stage import Demo
from metering.intake.dropped import DropIds
from metering.units import HOUR_S
from tests.networks.world import NetworkWorld
from tests.support.memory.clock import MemoryAlerts
from tests.support.memory.queues import MemoryQueue


@pytest.fixture
def demo() -> Iterator[Demo]:
    """A demo with an in-memory region and a worker."""
    now_s = int(time.time())
    world, ended = NetworkWorld(now_s - 3 * HOUR_S), threading.Event()
    region = SimpleNamespace(
        objects=world.objects, items=world.items, ingest=world.queue, dead_letters=MemoryQueue(world.clock),
        clock=SystemClock(), names=SimpleNamespace(data_bucket="data"), settings=world.settings, view=world.jobs.view,
        jobs=SimpleNamespace(
            drop_ids=DropIds(objects=world.objects, bucket="data", identity="etag"), policy=world.jobs.policy,
            compactor_of=world.jobs.compactor_of, view=world.jobs.view, frozen_files=world.jobs.frozen_files,
        ),
        onramp=None, emulated=False, region="us-east-1", alerts=MemoryAlerts(), kind_names=None,
        queue_facts=None,
    )  # fmt: skip

    def work() -> None:
        while not ended.wait(0.05):
            world.work()

    worker = threading.Thread(target=work)
    worker.start()
    made = Demo(region_name="us-east-1", now_s=now_s, batches=1, records_per_batch=2, seed=1)
    made.deployed = region  # type: ignore[assignment]  # what the act uses of a region
    yield made
    ended.set()
    worker.join()


def test_the_act_counts_a_flow_log_once_and_shows_what_it_cannot_say(
    demo: Demo, capsys: pytest.CaptureFixture[str]
) -> None:
    meter_log(demo)
    out = " ".join(capsys.readouterr().out.split())
    assert "USW2-DataTransfer-Regional-Bytes" in out
    assert "USW2-Unclassified-Out-Bytes" in out
    assert "1 metered, 1 repeated" in out
    assert "was not counted again" in out
    assert "metering who --path nat_gateway" in out
    assert "and are equal" in out

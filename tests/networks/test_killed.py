"""Two processes ingest a network's logs in random orders and are killed at random: the report is the same to a byte."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

import pytest

from metering.hours import hour_of
from metering.lake.parquet.reader import ParquetLakeReader
from metering.lake.view import LakeView
from metering.onramps.context.inventory import context_of
from metering.onramps.context.store import ContextStore
from metering.units import HOUR_S
from tests.integration.processes import VISIBILITY_S, Crew, queue_of, region_of
from tests.networks.killed import LogSite, aggregate, take
from tests.networks.world import NetworkWorld, differences, report_of, rows_of
from tests.support.emulated import clients_of, make_resources
from tests.support.networks.description import description
from tests.support.networks.files import replica
from tests.support.networks.traffic import SLOT_S, Network, NetworkPlan

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.networks.files import LogFile

pytestmark = pytest.mark.emulator

AT_LEAST_KILLS = 10
KILL_EVERY_S = 0.8
LIMIT_S = 150
JOBS: tuple[Callable[[LogSite], None], ...] = (take, take, aggregate)


@pytest.fixture
def site(ministack: str, tmp_path: Path) -> LogSite:
    clients = clients_of(ministack)
    name = f"network-{time.time_ns()}"
    queue_url = clients.sqs.create_queue(QueueName=name, Attributes={"VisibilityTimeout": str(VISIBILITY_S)})[
        "QueueUrl"
    ]
    clients.s3.create_bucket(Bucket=name)
    return LogSite(
        endpoint=ministack, resources=make_resources(clients), queue_url=queue_url, log_bucket=name, log_dir=tmp_path
    )


def _passes(site: LogSite) -> int:
    """Number of completed passes over all files."""
    path = site.log_dir / "passes"
    return len(set(path.read_text().split())) if path.exists() else 0


def _put(site: LogSite, network: Network, files: list[LogFile], first_s: int) -> None:
    """Put the logs, a copy of each log under another prefix, and the context."""
    clients = clients_of(site.endpoint)
    for file in files:
        clients.s3.put_object(Bucket=site.log_bucket, Key=file.key, Body=file.body)
        copy = replica(file)
        clients.s3.put_object(Bucket=site.log_bucket, Key=copy.key, Body=copy.body)
    described = description(network.inventory, network.flow_logs, first_s + HOUR_S)
    ContextStore(region_of(site).objects).put(context_of(described, hour_of(first_s)))


@pytest.fixture
def first_s() -> int:
    return int(time.time()) // SLOT_S * SLOT_S - 2 * HOUR_S


def test_processes_that_take_logs_and_are_killed_at_random_give_the_same_report(
    site: LogSite, request: pytest.FixtureRequest, first_s: int
) -> None:
    network = Network(NetworkPlan(first_s=first_s, lines=2_000, slots=3, variety=4))
    files = list(network.files())
    calm = NetworkWorld(first_s)
    calm.know_all(network)
    calm.take_all(calm.put(files))
    calm.work()
    _put(site, network, files, first_s)
    workers, chance = Crew(site, JOBS), random.Random(1)
    request.addfinalizer(workers.stop)
    for _ in range(AT_LEAST_KILLS):
        time.sleep(KILL_EVERY_S * chance.random() * 2)
        assert workers.dead() == []
        workers.kill_one(chance.randrange(len(JOBS)))
    (site.log_dir / "passes").unlink(missing_ok=True)
    queue, region = queue_of(site), region_of(site)
    ends = time.monotonic() + LIMIT_S
    # Both processes take every file once more without kills; then the queue is drained.
    while _passes(site) < JOBS.count(take) and time.monotonic() < ends:
        time.sleep(0.2)
    for number in range(JOBS.count(take)):
        assert workers.dead() == []
        workers.end(number)
    while queue.depth().total and time.monotonic() < ends:
        time.sleep(0.2)
    assert _passes(site) == JOBS.count(take)
    assert queue.depth().total == 0, "messages are left"
    region.roll_up()
    view = LakeView(items=region.items, objects=region.objects, reader=ParquetLakeReader(region.objects), shards=1)
    assert not differences(network, rows_of(view))
    # Accepted batches appear in reports after the roll-up.
    region.roll_up()
    assert report_of(region.items, first_s) == calm.report()

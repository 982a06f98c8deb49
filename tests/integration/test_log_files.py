"""Log files, with real adapters: despite each fault at each call, and killed processes, each byte counts once."""

import multiprocessing
import os
import random
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from metering.adapters.aws.inventory import AwsInventory
from metering.adapters.aws.log_buckets import S3LogStore
from metering.adapters.aws.objects import S3ObjectStore
from metering.adapters.aws.queues import SqsQueue
from metering.adapters.aws.runtime import SystemClock
from metering.adapters.aws.session import Clients
from metering.errors import UnavailableError
from metering.hours import parse_hour
from metering.onramps.context.document import Context
from metering.onramps.context.store import ContextStore, capture_context
from metering.onramps.ingest.taking import LogIngest
from metering.onramps.reading import FileName, FlowHop
from metering.onramps.reasons import Classified
from metering.onramps.rules.hop_judge import FlowClassifier
from metering.units import HOUR_S
from tests.integration.processes import Site, queue_of, region_of
from tests.support.emulated import clients_of, make_resources
from tests.support.small_logs import SMALL, Calls, DiedError, Fault, ProcessObjects, ProcessQueue, small_file

pytestmark = pytest.mark.emulator

HOUR = int(time.time()) // 3600 * 3600
LINES = (("i-1", 100, HOUR, HOUR + 60), ("z:a", 50, HOUR, HOUR + 60), ("i-2", 7, HOUR - 3600, HOUR - 3500), "broken")
BYTES = 157
FILES = 24
PROCESSES = 2
KILLS = 8
LIMIT_S = 90


@pytest.fixture
def site(ministack: str, tmp_path: Path) -> Site:
    clients = clients_of(ministack)
    queue_url = clients.sqs.create_queue(QueueName=f"logs-{time.time_ns()}")["QueueUrl"]
    return Site(endpoint=ministack, resources=make_resources(clients), queue_url=queue_url, log_dir=tmp_path)


def ingest_of(site: Site, calls: Calls) -> tuple[LogIngest, ProcessObjects]:
    """The ingest and the log bucket of an on-ramp process in the region under test."""
    clients = clients_of(site.endpoint)
    objects = S3ObjectStore(clients.s3, site.resources.bucket)
    ingest = LogIngest(
        objects=ProcessObjects(objects, calls, "objects"),  # type: ignore[arg-type]  # what the on-ramp calls
        bucket=site.resources.bucket,
        queue=ProcessQueue(SqsQueue(clients.sqs, site.queue_url), calls),  # type: ignore[arg-type]  # as above
        contexts=ContextStore(objects),
        clock=SystemClock(),
        window_s=None,
        kinds=(SMALL,),
    )
    logs = S3LogStore(clients.s3, site.resources.bucket)
    return ingest, ProcessObjects(logs, calls, "logs")  # type: ignore[arg-type]  # as above


def put_files(site: Site, number: int) -> list[str]:
    objects = S3ObjectStore(clients_of(site.endpoint).s3, site.resources.bucket)
    context = Context(sha256="", effective_s=HOUR - 7200).named()
    ContextStore(objects).put(context)
    keys = [f"logs/small_{each}.log" for each in range(number)]
    for key in keys:
        objects.put(key, small_file(*LINES), if_absent=True)
    return keys


def booked_bytes(site: Site) -> int:
    """Process all messages twice, and sum the usage table."""
    region, queue = region_of(site), queue_of(site)
    while received := queue.receive(10):
        deliveries = [message.delivery for message in received]
        assert not region.handle([*deliveries, *deliveries]).retry
        queue.delete_many([message.receipt for message in received])
    region.roll_up()
    return sum(size for size, _ in region.usage().values())


def cells(site: Site) -> Iterator[tuple[int, str, Fault]]:
    calls = Calls()
    ingest, logs = ingest_of(site, calls)
    (key,) = put_files(site, 1)
    ingest.take(logs, key)
    for number, (name, faults) in enumerate(calls.made):
        for fault in faults:
            yield number, name, fault


@pytest.mark.long
def test_a_fault_at_any_call_loses_nothing_and_doubles_nothing(site: Site) -> None:
    matrix = list(cells(site))
    keys = put_files(site, len(matrix) + 1)
    for key, (number, name, fault) in zip(keys[1:], matrix, strict=True):
        calls = Calls(at=number, fault=fault)
        ingest, logs = ingest_of(site, calls)
        with suppress(DiedError, UnavailableError):
            ingest.take(logs, key)
        assert calls.happened, (number, name, fault)
        again, logs = ingest_of(site, Calls())
        assert again.take(logs, key).verdict in {"metered", "repeated"}
        calls.apply_late()
    assert booked_bytes(site) == BYTES * len(keys)


def take_all(site: Site, keys: list[str], seed: int) -> None:
    """Ingest all files in random order, in a process that can be killed at any time."""
    ingest, logs = ingest_of(site, Calls())
    for key in random.Random(seed).sample(keys, len(keys)):
        ingest.take(logs, key)
    (site.log_dir / f"done-{seed}").touch()


@pytest.mark.long
def test_processes_that_are_killed_and_take_the_same_files_count_each_once(site: Site) -> None:
    keys = put_files(site, FILES)
    context = multiprocessing.get_context("spawn")
    chance = random.Random(7)
    killed, end = 0, time.monotonic() + LIMIT_S
    running: dict[int, Any] = {}
    # A fast machine may finish before any process is killed. A process that has finished starts again.
    while killed < KILLS or not all((site.log_dir / f"done-{seed}").exists() for seed in range(PROCESSES)):
        assert time.monotonic() < end
        for seed in range(PROCESSES):
            if seed not in running or not running[seed].is_alive():
                running[seed] = context.Process(target=take_all, args=(site, keys, seed), daemon=True)
                running[seed].start()
        time.sleep(chance.uniform(0.6, 2.0))
        victim = running[chance.randrange(PROCESSES)]
        if killed < KILLS and victim.is_alive() and victim.pid is not None:
            os.kill(victim.pid, 9)
            victim.join()
            killed += 1
    for each in running.values():
        each.join(LIMIT_S)
    assert booked_bytes(site) == BYTES * FILES


# A context is captured from an emulator's EC2, stored in its S3, and used to judge a line.

NOW_S = parse_hour("2026-11-24T13") + 1_020


def test_a_capture_of_an_emulator_judges_a_line(clients: Clients) -> None:
    ec2: Any = clients.client("ec2")
    bucket = f"contexts-{uuid.uuid4().hex}"
    clients.s3.create_bucket(Bucket=bucket)
    vpc_id = ec2.create_vpc(CidrBlock="10.77.0.0/16")["Vpc"]["VpcId"]
    subnet_id = ec2.create_subnet(VpcId=vpc_id, CidrBlock="10.77.1.0/24")["Subnet"]["SubnetId"]
    interface = ec2.create_network_interface(SubnetId=subnet_id)["NetworkInterface"]
    [log_id] = ec2.create_flow_logs(
        ResourceIds=[vpc_id],
        ResourceType="VPC",
        TrafficType="ALL",
        LogDestinationType="s3",
        LogDestination=f"arn:aws:s3:::{bucket}",
    )["FlowLogIds"]
    store = ContextStore(S3ObjectStore(clients.s3, bucket))
    region = clients.access.region
    inventory = AwsInventory(clients, regions=[region])

    first = capture_context(inventory.describe(), store, NOW_S)
    assert (first.kept, capture_context(inventory.describe(), store, NOW_S + 60).kept) == (True, False)
    assert len(list(store.names())) == 1

    name = FileName(kind="vpc-flow", identity="flow:a", account_id="123456789012", region=region, source=log_id)
    # For a version 2 line, the inventory provides direction and zone.
    line = FlowHop(
        interface_id=interface["NetworkInterfaceId"], source=interface["PrivateIpAddress"], destination="10.77.1.200"
    )
    outcome = FlowClassifier(name, store.timeline()).outcome(line, parse_hour("2026-11-24T13") + HOUR_S)
    assert isinstance(outcome, Classified)
    assert (outcome.rule, outcome.traffic.direction) == ("same_zone", "out")
    assert outcome.traffic.from_location == outcome.traffic.to_location

"""Tables, bucket and queue of one contender, and its usage totals."""

from __future__ import annotations

import time
import uuid
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from load_tests.costs import claim
from load_tests.stage import settings
from metering.adapters.aws.items import DynamoDbItemStore
from metering.adapters.aws.objects import S3ObjectStore
from metering.adapters.aws.runtime import SystemClock, SystemEntropy
from metering.ledger.commits import waiting_commits
from metering.ledger.runs import Contradictions
from metering.settings import Settings
from metering.stores.writes import Table
from metering.wiring.aggregator import build_aggregator
from metering.wiring.jobs import lake_jobs
from tests.support.emulated import clients_of, make_tables
from tests.support.memory.clock import DeadlineAt, MemoryAlerts, MemoryMetrics

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from metering.adapters.aws.session import Clients
    from metering.stores.queues import ReceivedMessage
    from metering.usage.totals import Total, UsageKey

# Messages of killed workers become visible again after this time.
VISIBILITY_S = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """Where one contender works.

    Attributes:
        markers: Table of processed messages: the ledger, or Powertools' records.
    """

    endpoint: str
    markers: str
    usage: str
    bucket: str
    queue_url: str

    def clients(self) -> Clients:
        return clients_of(self.endpoint)

    def fields(self) -> dict[str, str]:
        """The site's fields, in a form that a worker process can receive."""
        return asdict(self)


def make_site(endpoint: str, *, sort_key: bool) -> Site:
    """Make a fresh site. Powertools' table has no sort key; our tables have one."""
    clients = clients_of(endpoint)
    name = f"race-{uuid.uuid4().hex[:12]}"
    if sort_key:
        make_tables(clients, (f"{name}-markers", f"{name}-usage"), bucket=name)
    else:
        make_tables(clients, (f"{name}-usage",), bucket=name)
        clients.dynamodb.create_table(
            TableName=f"{name}-markers",
            BillingMode="PAY_PER_REQUEST",
            KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
        )
    queue_url = clients.sqs.create_queue(QueueName=name, Attributes={"VisibilityTimeout": str(VISIBILITY_S)})[
        "QueueUrl"
    ]
    return Site(endpoint=endpoint, markers=f"{name}-markers", usage=f"{name}-usage", bucket=name, queue_url=queue_url)


def naive_totals(site: Site) -> dict[str, tuple[int, int]]:
    """Bytes and records of each account in a naive usage table."""
    client = site.clients().dynamodb
    totals: dict[str, tuple[int, int]] = {}
    for page in client.get_paginator("scan").paginate(TableName=site.usage, ConsistentRead=True):
        for item in page["Items"]:
            account_id = item["pk"]["S"].partition("#")[0]
            size, records = totals.get(account_id, (0, 0))
            totals[account_id] = (size + int(item["b"]["N"]), records + int(item["r"]["N"]))
    return totals


def wrong_accounts(found: Mapping[str, tuple[int, int]], sent: Mapping[str, tuple[int, int]]) -> int:
    """Number of accounts with wrong totals."""
    return sum(found.get(account_id) != sent.get(account_id) for account_id in found.keys() | sent.keys())


def fill(site: Site, bodies: Sequence[str]) -> None:
    """Send all messages before the clock starts."""
    from metering.adapters.aws.queues import queue_at

    queue = queue_at(site.clients(), site.queue_url)
    deadline = time.monotonic() + 60
    left = list(bodies)
    while left and time.monotonic() < deadline:
        left = [left[position] for position in queue.send_many(left)]
    if left:
        raise RuntimeError("the queue does not take the messages")


class Ours:
    """Parts of one worker, or of the process that runs the jobs."""

    def __init__(self, clients: Clients, site: Site) -> None:
        self.clock, self.entropy = SystemClock(), SystemEntropy()
        self.metrics, self.alerts = MemoryMetrics(), MemoryAlerts()
        self.items = DynamoDbItemStore(clients.dynamodb, {Table.LEDGER: site.markers, Table.USAGE: site.usage})
        self.objects = S3ObjectStore(clients.s3, site.bucket)
        made = settings(ledger_table=site.markers, usage_table=site.usage, data_bucket=site.bucket)
        self.settings = Settings.model_validate({**made.model_dump(), "clean_wait_s": 0})
        self._aggregator = build_aggregator(self, self.metrics)
        self.jobs = lake_jobs(self, self.metrics, threads=16)

    def deadline(self) -> DeadlineAt:
        return DeadlineAt(clock=self.clock, at_ms=self.clock.now_ms() + 60_000)

    def handle(self, received: Sequence[ReceivedMessage]) -> set[str]:
        return set(self._aggregator.handle([each.delivery for each in received], self.deadline()).retry)

    def claim(self, usages: Iterable[Mapping[UsageKey, Total]]) -> None:
        claim(self.jobs.rollup.numbers, usages)

    def roll_up(self) -> float:
        """Roll up waiting commits; returns the CPU time."""
        began_s = time.process_time()
        self.jobs.rollup.run(self.deadline())
        return time.process_time() - began_s

    def waits(self) -> bool:
        """Whether a commit waits for the roll-up."""
        return any(True for _ in waiting_commits(self.items, self.settings.shards))

    def compact_and_clean(self) -> None:
        """Compact everything, and clean up afterwards."""
        self.jobs.compactor_of(self.jobs.policy.everything()).run(self.deadline())
        self.jobs.cleaner.run(self.deadline())

    def totals(self) -> dict[str, tuple[int, int]]:
        """Bytes and records of each account in the usage table."""
        totals: dict[str, tuple[int, int]] = {}
        for item in self.jobs.usage_reading.scan(Contradictions()):
            for _, total in self.jobs.usage_reading.totals(item):
                size, records = totals.get(item.account_id, (0, 0))
                totals[item.account_id] = (size + total.bytes, records + total.records)
        return totals

"""Tables, bucket and queue of one contender, and its usage totals."""

from __future__ import annotations

import time
import uuid
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from load_tests.wire.region import clients_of, make_tables

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from metering.adapters.aws.session import Clients

# Messages of killed workers reappear after this time.
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
        """The site as fields, for a worker process."""
        return asdict(self)


def make_site(endpoint: str, *, sort_key: bool) -> Site:
    """Make a fresh site. Powertools' table has no sort key, but ours have one."""
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

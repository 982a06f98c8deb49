"""MiniStack for tests, and a region's tables and bucket in it, created directly: one process per test session."""

from __future__ import annotations

import os
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import pytest

from metering.adapters.aws.items import DynamoDbItemStore
from metering.adapters.aws.objects import S3ObjectStore
from metering.adapters.aws.session import Access, Clients
from metering.adapters.emulator import ministack as emulator
from metering.stores.writes import Table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mypy_boto3_dynamodb.type_defs import KeySchemaElementTypeDef

REGION = "us-east-1"
# Each worker of a parallel run has its own port, outside the range that people use.
_FIRST_PORT = 4610


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """Two tables and a bucket of the test's own."""

    ledger: str
    usage: str
    bucket: str

    @property
    def tables(self) -> dict[Table, str]:
        return {Table.LEDGER: self.ledger, Table.USAGE: self.usage}


@pytest.fixture(scope="session")
def ministack() -> Iterator[str]:
    """Endpoint of a running MiniStack, or of another emulator in the environment."""
    other = os.environ.get("METERING_E2E_ENDPOINT")
    if other:
        yield other
        return
    worker = os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")
    running = emulator.start(emulator.free_port(_FIRST_PORT + int(worker)), region=REGION)
    yield running.endpoint
    emulator.stop(running.pid)


@pytest.fixture(scope="session")
def clients(ministack: str) -> Clients:
    """The project's own clients for it."""
    return clients_of(ministack)


def clients_of(endpoint: str, *, attempts: int = 4) -> Clients:
    """New clients, not shared with other tests."""
    return Clients(Access(region=REGION, endpoint_url=endpoint, access_key=("test", "test")), attempts=attempts)


def make_resources(clients: Clients) -> Resources:
    """Create new tables and a new bucket."""
    name = f"t-{uuid.uuid4().hex[:12]}"
    for table in (f"{name}-ledger", f"{name}-usage"):
        clients.dynamodb.create_table(
            TableName=table,
            BillingMode="PAY_PER_REQUEST",
            KeySchema=[_key("pk", "HASH"), _key("sk", "RANGE")],
            AttributeDefinitions=[
                {"AttributeName": "pk", "AttributeType": "S"},
                {"AttributeName": "sk", "AttributeType": "S"},
            ],
        )
    clients.s3.create_bucket(Bucket=name)
    return Resources(ledger=f"{name}-ledger", usage=f"{name}-usage", bucket=name)


def _key(name: str, kind: Literal["HASH", "RANGE"]) -> KeySchemaElementTypeDef:
    return {"AttributeName": name, "KeyType": kind}


def item_store(clients: Clients, resources: Resources) -> DynamoDbItemStore:
    """The tables as the use cases see them."""
    return DynamoDbItemStore(clients.dynamodb, resources.tables)


def object_store(clients: Clients, resources: Resources) -> S3ObjectStore:
    """The bucket as the use cases see it."""
    return S3ObjectStore(clients.s3, resources.bucket)

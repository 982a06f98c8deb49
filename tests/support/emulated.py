"""MiniStack for tests, one process per test session; tables and bucket of a region are created without a stack."""

from __future__ import annotations

import os
import uuid
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import pytest

from metering.adapters.aws.items import DynamoDbItemStore
from metering.adapters.aws.session import Access, Clients
from metering.adapters.emulator import ministack as emulator
from metering.stores.writes import Table

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from mypy_boto3_dynamodb.type_defs import KeySchemaElementTypeDef

REGION = "us-east-1"
# Each worker of a parallel run has its own port, outside the range that people use.
_FIRST_PORT = 4610


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """Names of two tables and a bucket that tests create."""

    ledger: str
    usage: str
    bucket: str

    @property
    def tables(self) -> dict[Table, str]:
        return {Table.LEDGER: self.ledger, Table.USAGE: self.usage}


@pytest.fixture(scope="session")
def ministack() -> Iterator[str]:
    """Endpoint of a running MiniStack, or of the emulator that METERING_E2E_ENDPOINT names."""
    other = os.environ.get("METERING_E2E_ENDPOINT")
    if other:
        yield other
        return
    with running_emulator(_FIRST_PORT) as running:
        yield running.endpoint


@contextmanager
def running_emulator(port: int, *, auth: bool = False, tls: bool = False) -> Iterator[emulator.Emulator]:
    """A MiniStack. Each worker of a parallel run searches from its own port, else two could find the same."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    running = emulator.start(emulator.free_port(port + worker), region=REGION, auth=auth, tls=tls)
    try:
        yield running
    finally:
        emulator.stop(running.pid)


@pytest.fixture(scope="session")
def clients(ministack: str) -> Clients:
    return clients_of(ministack)


def clients_of(endpoint: str, *, attempts: int = 4) -> Clients:
    """New clients, which no other test uses."""
    return Clients(Access(region=REGION, endpoint_url=endpoint, access_key=("test", "test")), attempts=attempts)


def make_resources(clients: Clients) -> Resources:
    name = f"t-{uuid.uuid4().hex[:12]}"
    made = Resources(ledger=f"{name}-ledger", usage=f"{name}-usage", bucket=name)
    make_tables(clients, made.tables.values(), bucket=name)
    return made


def make_tables(clients: Clients, tables: Iterable[str], *, bucket: str) -> None:
    """Create tables with the keys `pk` and `sk`, and a bucket."""
    for table in tables:
        clients.dynamodb.create_table(
            TableName=table,
            BillingMode="PAY_PER_REQUEST",
            KeySchema=[_key("pk", "HASH"), _key("sk", "RANGE")],
            AttributeDefinitions=[
                {"AttributeName": "pk", "AttributeType": "S"},
                {"AttributeName": "sk", "AttributeType": "S"},
            ],
        )
    clients.s3.create_bucket(Bucket=bucket)


def _key(name: str, kind: Literal["HASH", "RANGE"]) -> KeySchemaElementTypeDef:
    return {"AttributeName": name, "KeyType": kind}


def item_store(clients: Clients, resources: Resources) -> DynamoDbItemStore:
    return DynamoDbItemStore(clients.dynamodb, resources.tables)

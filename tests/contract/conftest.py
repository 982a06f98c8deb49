"""Each test runs on two implementations: stores in memory, and the real adapters on MiniStack."""

from __future__ import annotations

import uuid
from itertools import cycle
from typing import TYPE_CHECKING

import pytest

from metering.adapters.aws.objects import S3ObjectStore
from metering.adapters.aws.queues import SqsQueue
from metering.adapters.aws.runtime import SystemClock
from metering.units import MIB
from tests.support.emulated import Resources, clients, item_store, make_resources, ministack
from tests.support.memory.items import MemoryItemStore
from tests.support.memory.objects import MemoryObjectStore
from tests.support.memory.queues import MemoryQueue

if TYPE_CHECKING:
    from collections.abc import Callable

    from metering.adapters.aws.session import Clients
    from metering.stores.objects import ObjectStore
    from metering.stores.queues import Queue
    from metering.stores.writes import ItemStore

__all__ = ["clients", "ministack"]

BOTH = [pytest.param("memory"), pytest.param("aws", marks=pytest.mark.emulator)]
# Stores that may return empty pages before the last page, as AWS does.
STORES = [pytest.param("empty pages"), *BOTH]


def empty_pages(param: str) -> Callable[[], int]:
    """Number of empty pages before a result: cycling through 1, 0 and 2, or always 0."""
    number = cycle((1, 0, 2) if param == "empty pages" else (0,))
    return lambda: next(number)


@pytest.fixture(scope="module")
def resources(clients: Clients) -> Resources:
    return make_resources(clients)


@pytest.fixture(params=STORES)
def items(request: pytest.FixtureRequest) -> ItemStore:
    if request.param != "aws":
        return MemoryItemStore(empty_pages=empty_pages(request.param))
    if "kilobytes" in request.node.name:
        pytest.skip("MiniStack takes items of any size")
    return item_store(request.getfixturevalue("clients"), request.getfixturevalue("resources"))


@pytest.fixture(params=STORES)
def objects(request: pytest.FixtureRequest) -> ObjectStore:
    if request.param != "aws":
        return MemoryObjectStore(SystemClock(), read_ahead_bytes=16, empty_pages=empty_pages(request.param))
    clients: Clients = request.getfixturevalue("clients")
    # Parts of S3's minimum size make tests of large files quick; a short read-ahead causes many reads.
    resources: Resources = request.getfixturevalue("resources")
    return S3ObjectStore(clients.s3, resources.bucket, part_bytes=5 * MIB, read_ahead_bytes=16)


@pytest.fixture(params=BOTH)
def queue(request: pytest.FixtureRequest) -> Queue:
    if request.param == "memory":
        return MemoryQueue(SystemClock())
    clients: Clients = request.getfixturevalue("clients")
    return SqsQueue(clients.sqs, clients.sqs.create_queue(QueueName=f"q-{uuid.uuid4().hex[:12]}")["QueueUrl"])


@pytest.fixture
def pk() -> str:
    """A partition key for this test only, because the tests of a module share the tables."""
    return f"T#{uuid.uuid4().hex}"


@pytest.fixture
def prefix() -> str:
    """A key prefix for this test only, because the tests of a module share the bucket."""
    return f"t/{uuid.uuid4().hex}/"

"""The contract suites over the AWS adapters in one process: moto is right as long as there is one thread."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest
from moto import mock_aws

from metering.adapters.aws.objects import S3ObjectStore
from metering.adapters.aws.session import Access, Clients
from metering.errors import ItemTooLargeError
from metering.stores.writes import Equals, Put, Table
from metering.units import MIB
from tests.contract.test_item_store import *  # noqa: F403 - the same tests, over the fixtures below
from tests.contract.test_object_store import *  # noqa: F403
from tests.support.emulated import Resources, item_store, make_resources

if TYPE_CHECKING:
    from collections.abc import Iterator

    from metering.stores.items import ItemStore
    from metering.stores.objects import ObjectStore

Region = tuple[Clients, Resources]


@pytest.fixture(scope="module")
def region() -> Iterator[Region]:
    with mock_aws():
        clients = Clients(Access(region="us-east-1", access_key=("test", "test")))
        yield clients, make_resources(clients)


@pytest.fixture
def items(request: pytest.FixtureRequest, region: Region) -> ItemStore:
    callspec = getattr(request.node, "callspec", None)
    if callspec is not None and callspec.params.get("condition") == Equals(attribute="flag", value=1):
        pytest.skip("moto takes True for 1")
    return item_store(*region)


@pytest.fixture
def objects(request: pytest.FixtureRequest, region: Region) -> ObjectStore:
    if "thousand" in request.node.name:
        pytest.skip("a thousand objects take moto ten seconds")
    clients, resources = region
    return S3ObjectStore(clients.s3, resources.bucket, part_bytes=5 * MIB, read_ahead_bytes=16)


@pytest.fixture
def pk() -> str:
    return f"T#{uuid.uuid4().hex}"


@pytest.fixture
def prefix() -> str:
    return f"t/{uuid.uuid4().hex}/"


def test_an_item_that_is_larger_than_dynamodb_takes_is_said_so(items: ItemStore, pk: str) -> None:
    with pytest.raises(ItemTooLargeError, match="T#"):
        items.put(Put(table=Table.LEDGER, item={"pk": pk, "sk": "s", "text": "x" * 410_000}))

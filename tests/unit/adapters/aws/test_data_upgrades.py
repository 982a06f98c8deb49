"""What the deployment of a region needs of its data, and the upgrade over DynamoDB and S3 as moto has them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from moto import mock_aws

from metering.adapters.aws.dynamodb.items import DynamoDbItemStore
from metering.adapters.aws.fleet.data_upgrades import DataUpgrades
from metering.adapters.aws.s3.objects import S3ObjectStore
from metering.adapters.aws.session import Access, Clients
from metering.adapters.aws.stacks import RegionResources, stack_outputs
from metering.errors import SettingsError
from metering.fleet.stage import StageConfig
from metering.ledger.format_version import LedgerFormat
from metering.stores.writes import Put, Table
from metering.upgrade.note import UpgradeNote
from tests.support.emulated import make_resources
from tests.support.memory.items import MemoryItemStore
from tests.unit.adapters.aws.test_stage_settings import Deployed
from tests.unit.upgrade.old_region import OldRegion

if TYPE_CHECKING:
    from metering.stores.items import ItemStore

RESOURCES = RegionResources(
    stage="local",
    ingest_queue_url="",
    dead_letter_queue_url="",
    data_bucket="",
    ledger_table="ledger",
    usage_table="usage",
    page_topic_arn="",
    ticket_topic_arn="",
    usage_generation=2,
    usage_before_table="",
)
ONE = LedgerFormat(number=1, written_by="0.1.0", usage_generation=1)
TWO = LedgerFormat(number=2, written_by="0.2.0", usage_generation=2)


class Upgrades(DataUpgrades):
    """Over items in memory, and outputs that a test says."""

    def __init__(self, items: ItemStore, resources: RegionResources | None = RESOURCES, *, wanted: int = 2) -> None:
        clients = Clients(Access(region="eu-west-1"))
        super().__init__(
            lambda _region: clients,
            stage="local",
            generation_of=lambda _region: wanted,
            repair=lambda _region: pytest.fail("nothing to repair"),
            threads=1,
        )
        self.items, self.resources = items, resources

    def _items(self, region: str) -> ItemStore:
        self._resources(region)
        return self.items

    def _resources(self, region: str) -> RegionResources:
        if self.resources is None:
            raise SettingsError([f"no stack in {region}"])
        return self.resources


@pytest.mark.parametrize(
    ("found", "note", "wanted", "kept"),
    [
        (ONE, None, 2, 1),
        (ONE, UpgradeNote(out_at_ms=1), 2, 1),
        (TWO, UpgradeNote(out_at_ms=1, revisions=7), 2, 1),
        (TWO, UpgradeNote(out_at_ms=1, revisions=7, settled=True), 2, 0),
        (TWO, None, 2, 0),
        # A restore: the ledger does not go with the new table yet.
        (TWO, None, 3, 2),
        (replace(TWO, usage_generation=3), None, 3, 0),
    ],
)
def test_an_older_usage_table_stays_as_long_as_the_ledger_needs_it(
    found: LedgerFormat, note: UpgradeNote | None, wanted: int, kept: int
) -> None:
    items = MemoryItemStore()
    for each in (found, note):
        if each is not None:
            items.put(Put(table=Table.LEDGER, item=each.to_item()))
    assert Upgrades(items, wanted=wanted).usage_before("eu-west-1") == kept


def test_a_region_without_a_batch_keeps_the_table_that_its_functions_know_until_they_are_replaced() -> None:
    old = replace(RESOURCES, usage_generation=1)
    assert Upgrades(MemoryItemStore(), old).usage_before("eu-west-1") == 1
    assert Upgrades(MemoryItemStore()).usage_before("eu-west-1") == 0


def test_where_nothing_is_deployed_nothing_is_old_and_nothing_stays() -> None:
    upgrades = Upgrades(MemoryItemStore(), None)
    assert not upgrades.is_old("eu-west-1")
    assert upgrades.usage_before("eu-west-1") == 0


def test_outputs_say_which_usage_table_it_is_and_those_of_the_first_format_do_not() -> None:
    deployed = Deployed()
    assert stack_outputs(deployed.clients, "local").usage_generation == 2
    deployed.stacks["data"] |= {"UsageGeneration": "3", "UsageTableBeforeName": "old"}
    found = stack_outputs(deployed.clients, "local")
    assert (found.usage_generation, found.usage_before_table) == (3, "old")
    del deployed.stacks["data"]["UsageGeneration"]
    assert stack_outputs(deployed.clients, "local").usage_generation == 1


@pytest.mark.long
def test_a_region_of_0_1_0_is_upgraded_over_dynamodb_and_s3(monkeypatch: pytest.MonkeyPatch) -> None:
    recorded = OldRegion()
    with mock_aws():
        clients = Clients(Access(region="us-east-1", access_key=("test", "test")))
        made = make_resources(clients)
        before = make_resources(clients).usage
        resources = replace(
            RESOURCES,
            ledger_table=made.ledger,
            usage_table=made.usage,
            usage_before_table=before,
            data_bucket=made.bucket,
        )
        tables = {Table.LEDGER: made.ledger, Table.USAGE: made.usage, Table.USAGE_BEFORE: before}
        items, objects = DynamoDbItemStore(clients.dynamodb, tables), S3ObjectStore(clients.s3, made.bucket)
        for table in (Table.LEDGER, Table.USAGE_BEFORE):
            for item in recorded.items.everything(table):
                items.put(Put(table=table, item=item))
        for each in recorded.objects.list(""):
            objects.put(each.key, recorded.objects.get(each.key), if_absent=True)
        upgrades = Upgrades(items, resources)
        monkeypatch.setattr(upgrades, "_clients_of", lambda _region: clients)
        monkeypatch.setattr(upgrades, "_clock", recorded.clock)
        settings = StageConfig.load("local", {"tunables": {"shards": 2}}).published()
        monkeypatch.setattr("metering.adapters.aws.fleet.data_upgrades.read_settings", lambda *_: settings)
        told: list[str] = []

        assert upgrades.is_old("us-east-1")
        upgrades.begin("us-east-1")
        upgrades.stopped("us-east-1", worker_timeout_s=1)
        upgrades.convert("us-east-1", told.append)
        upgrades.settle("us-east-1", told.append)
        assert upgrades.is_unsettled("us-east-1")
        upgrades.forget("us-east-1")

        assert not upgrades.is_old("us-east-1")
        assert not upgrades.is_unsettled("us-east-1")
        assert "finished 2 wide commits" in told
        for item in items.scan(Table.USAGE):
            recorded.items.put(Put(table=Table.USAGE, item=item))
        for item in items.scan(Table.LEDGER):
            if str(item["pk"]).startswith("D#"):
                recorded.items.put(Put(table=Table.LEDGER, item=item))
    assert recorded.usage() == OldRegion().upgraded().usage()

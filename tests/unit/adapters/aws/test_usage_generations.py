"""Which usage table the next deployment of a region must keep, by its ledger and the outputs of its stacks."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from metering.adapters.aws.deployed_regions import DeployedRegions
from metering.adapters.aws.session import Access, Clients
from metering.adapters.aws.stacks import RegionResources, stack_outputs
from metering.errors import FormatTooNewError, FormatTooOldError, SettingsError
from metering.ledger.format_version import FORMAT_VERSION, LedgerFormat
from metering.stores.writes import Put, Table
from metering.wiring.fleet import Fleet
from tests.support.memory.items import MemoryItemStore
from tests.unit.adapters.aws.test_stage_settings import Deployed

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
)
OWN = LedgerFormat(number=FORMAT_VERSION, written_by="0.2.0", usage_generation=2)


class Regions(DeployedRegions):
    """Over items in memory, and outputs that a test says."""

    def __init__(self, found: LedgerFormat | None, resources: RegionResources | None = RESOURCES) -> None:
        super().__init__(lambda _region: Clients(Access(region="eu-west-1")), stage="local")
        self.items, self.resources = MemoryItemStore(), resources
        if found is not None:
            self.items.put(Put(table=Table.LEDGER, item=found.to_item()))

    def _tables(self, region: str) -> ItemStore:
        self._resources(region)
        return self.items

    def _resources(self, region: str) -> RegionResources:
        if self.resources is None:
            raise SettingsError([f"no stack in {region}"])
        return self.resources


def kept(regions: Regions, *, wanted: int) -> int:
    """Generation of the older table that a deployment with this setting keeps."""
    policy = SimpleNamespace(usage_generation=wanted)
    settings = SimpleNamespace(of=lambda _region: SimpleNamespace(config=SimpleNamespace(policy=lambda: policy)))
    fleet = cast("Fleet", SimpleNamespace(deployed=regions, settings=settings))
    return Fleet._usage_before(fleet, "eu-west-1")


@pytest.mark.parametrize(
    ("found", "wanted", "older"),
    [
        (OWN, 2, 0),
        # A restore: the ledger does not go with the new table yet.
        (OWN, 3, 2),
        (replace(OWN, usage_generation=3), 3, 0),
    ],
)
def test_an_older_usage_table_stays_as_long_as_the_ledger_needs_it(
    found: LedgerFormat, wanted: int, older: int
) -> None:
    assert kept(Regions(found), wanted=wanted) == older


def test_a_region_without_a_batch_keeps_the_table_that_its_functions_know_until_they_are_replaced() -> None:
    assert kept(Regions(None, replace(RESOURCES, usage_generation=1)), wanted=2) == 1
    assert kept(Regions(None), wanted=2) == 0


def test_where_nothing_is_deployed_nothing_stays() -> None:
    assert kept(Regions(None, None), wanted=2) == 0


@pytest.mark.parametrize(("number", "refusal"), [(1, FormatTooOldError), (FORMAT_VERSION + 1, FormatTooNewError)])
def test_no_deployment_is_planned_over_data_of_another_format(number: int, refusal: type[Exception]) -> None:
    with pytest.raises(refusal):
        kept(Regions(replace(OWN, number=number)), wanted=2)


def test_outputs_say_which_usage_table_it_is_and_those_of_release_0_1_0_do_not() -> None:
    deployed = Deployed()
    assert stack_outputs(deployed.clients, "local").usage_generation == 2
    deployed.stacks["data"] |= {"UsageGeneration": "3"}
    assert stack_outputs(deployed.clients, "local").usage_generation == 3
    del deployed.stacks["data"]["UsageGeneration"]
    assert stack_outputs(deployed.clients, "local").usage_generation == 1

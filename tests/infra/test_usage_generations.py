"""Each generation of the usage table is a table of its own, and the one before stays while the ledger goes with it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from aws_cdk.assertions import Template

from metering.errors import SettingsError
from metering.fleet.settings.layers import Asked, planned
from metering.fleet.stage import StageConfig
from tests.infra.support.synthesis import app_of

if TYPE_CHECKING:
    from collections.abc import Mapping

# What the functions of 0.1.0 import of their usage table. Until they are replaced, CloudFormation lets none of it go.
EXPORTS_OF_0_1_0 = {
    "metering-prod-data:ExportsOutputFnGetAttUsageTableADB4B05AArnF1E3F7F0",
    "metering-prod-data:ExportsOutputRefUsageTableADB4B05A536525C4",
}


def templates(**changes: object) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Templates of data and pipeline of stage prod."""
    _, region = app_of(StageConfig.load("prod", changes))
    return Template.from_stack(region.data).to_json(), Template.from_stack(region.pipeline).to_json()


def usage_tables(data: Mapping[str, Any]) -> list[str]:
    return sorted(
        name
        for name, each in data["Resources"].items()
        if each["Type"] == "AWS::DynamoDB::GlobalTable" and name.startswith("Usage")
    )


def test_while_an_upgrade_needs_it_the_table_of_format_1_is_there_under_the_names_that_its_functions_import() -> None:
    data, pipeline = templates(usage_before=1)

    assert usage_tables(data) == ["Usage2Table33755E2F", "UsageTableADB4B05A"]
    assert data["Resources"]["UsageTableADB4B05A"]["DeletionPolicy"].startswith("Retain")
    assert data["Outputs"]["UsageGeneration"]["Value"] == "2"
    assert data["Outputs"]["UsageTableName"]["Value"] == {"Ref": "Usage2Table33755E2F"}
    assert data["Outputs"]["UsageTableBeforeName"]["Value"] == {"Ref": "UsageTableADB4B05A"}
    exports = {each["Export"]["Name"] for each in data["Outputs"].values() if "Export" in each}
    assert exports >= EXPORTS_OF_0_1_0
    assert not any(name in json.dumps(pipeline) for name in EXPORTS_OF_0_1_0)


def test_a_new_region_has_one_usage_table_and_a_restore_puts_the_next_one_beside_it() -> None:
    new, _ = templates()
    restored, pipeline = templates(tunables={"usage_generation": 3}, usage_before=2)

    assert usage_tables(new) == ["Usage2Table33755E2F"]
    assert "UsageTableBeforeName" not in new["Outputs"]
    [third, second] = sorted(usage_tables(restored), reverse=True)
    assert (second, third[:6]) == ("Usage2Table33755E2F", "Usage3")
    assert restored["Outputs"]["UsageTableName"]["Value"] == {"Ref": third}
    aggregator = next(
        each["Properties"]["Environment"]["Variables"]
        for name, each in pipeline["Resources"].items()
        if each["Type"] == "AWS::Lambda::Function" and name.startswith("Aggregator")
    )
    assert aggregator["METERING_USAGE_GENERATION"] == "3"


def test_which_older_table_is_kept_is_nobodys_setting() -> None:
    with pytest.raises(SettingsError, match="usage_before is not a setting"):
        planned(Asked(stage="prod", options={"usage_before": 1}), None)

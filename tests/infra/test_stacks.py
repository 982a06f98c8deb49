"""Which stack holds what, and which way references go."""

from __future__ import annotations

import json
import re
from typing import Any

import grimp
import pytest

from metering.adapters.aws.probe import _CALLS, _OPTIONAL_CALLS
from metering.cli.commands.platform.deploy import _ENDS
from metering.fleet.removal import _TELLS
from tests.infra.support.synthesis import PARTS, STAGE_NAMES, synthesised

CONTRACT_OUTPUTS = {
    "IngestQueueUrl",
    "DeadLetterQueueUrl",
    "DataBucketName",
    "LedgerTableName",
    "UsageTableName",
    "PageTopicArn",
    "TicketTopicArn",
}
STATEFUL = {
    "AWS::S3::Bucket",
    "AWS::DynamoDB::GlobalTable",
    "AWS::SQS::Queue",
    "AWS::KMS::Key",
}


@pytest.mark.parametrize("stage", STAGE_NAMES)
def test_the_data_stack_has_the_contracts_outputs(stage: str) -> None:
    outputs = synthesised(stage).templates["data"]["Outputs"]

    assert set(outputs) >= CONTRACT_OUTPUTS
    assert set(outputs) >= {"ProducerRoleArn", "ReaderRoleArn", "OperatorRoleArn"}


def test_each_function_is_named_by_an_output() -> None:
    stage = synthesised("prod")
    outputs = {name for name in stage.templates["pipeline"]["Outputs"] if name.endswith("FunctionName")}

    assert "AggregatorFunctionName" in outputs
    assert len(outputs) == len(stage.resources("pipeline", "AWS::Lambda::Function"))


@pytest.mark.parametrize("stage", STAGE_NAMES)
def test_references_go_from_observability_over_pipeline_to_data(stage: str) -> None:
    for position, part in enumerate(PARTS):
        text = json.dumps(synthesised(stage).templates.get(part, {}))
        imported = set(re.findall(r'"Fn::ImportValue": "metering-[a-z]+-(\w+):', text))
        assert imported <= set(PARTS[:position])


# Kept when its stack is updated or deleted, but not when the stack's first creation fails.
KEPT = "RetainExceptOnCreate"


@pytest.mark.parametrize("stage", STAGE_NAMES)
def test_state_lives_in_the_data_stack_only(stage: str) -> None:
    for template in (each for part, each in synthesised(stage).templates.items() if part != "data"):
        kinds = {resource["Type"] for resource in template["Resources"].values()}
        assert not kinds & STATEFUL


def test_production_keeps_its_state_whatever_happens_to_the_stack() -> None:
    stage = synthesised("prod")

    assert stage.protected == {"data": True, "pipeline": False, "observability": False}
    stateful = {name: resource for name, resource in stage.all_resources().items() if resource["Type"] in STATEFUL}
    assert len(stateful) == 6
    for resource in stateful.values():
        assert (resource["DeletionPolicy"], resource["UpdateReplacePolicy"]) == (KEPT, "Retain")
    for table in stage.resources("data", "AWS::DynamoDB::GlobalTable").values():
        assert table["Properties"]["Replicas"][0]["DeletionProtectionEnabled"] is True


def test_a_failed_first_creation_of_production_leaves_nothing_behind_that_no_stack_owns() -> None:
    """`Retain` would keep what a rollback of the creation should delete, and a protected table refuses to go."""
    created = synthesised("prod", own='{"first_build": true}')

    policies = {resource["Type"]: resource.get("DeletionPolicy") for resource in created.all_resources().values()}
    assert "Retain" not in policies.values()
    assert {policies[kind] for kind in STATEFUL} == {KEPT}
    for table in created.resources("data", "AWS::DynamoDB::GlobalTable").values():
        assert table["Properties"]["Replicas"][0]["DeletionProtectionEnabled"] is False


def test_a_first_creation_differs_in_the_protection_of_its_tables_only() -> None:
    created, after = (synthesised("prod", own=own).templates for own in ('{"first_build": true}', "{}"))

    for table in (each for each in after["data"]["Resources"].values() if "GlobalTable" in each["Type"]):
        table["Properties"]["Replicas"][0]["DeletionProtectionEnabled"] = False
    try:
        assert created == after
    finally:
        synthesised.cache_clear()


def test_whatever_production_keeps_after_an_uninstall_is_told_with_the_command_that_deletes_it() -> None:
    kept = {each["Type"] for each in synthesised("prod").all_resources().values() if each.get("DeletionPolicy") == KEPT}

    assert kept >= STATEFUL
    assert {_TELLS.get(kind, kind) for kind in kept} <= set(_ENDS)


def _functions(stage: str) -> dict[str, tuple[str, dict[str, Any]]]:
    """Logical id and properties of each function, by its name."""
    found = synthesised(stage).resources("pipeline", "AWS::Lambda::Function")
    return {
        function["Properties"]["Handler"].split(".")[1]: (name, function["Properties"])
        for name, function in found.items()
    }


@pytest.mark.parametrize("stage", STAGE_NAMES)
def test_lambda_runs_no_failed_tick_again_and_keeps_none_for_later(stage: str) -> None:
    """EventBridge invokes asynchronously: by default Lambda runs what failed twice more, in a queue of six hours."""
    synth = synthesised(stage)
    configured = {
        config["Properties"]["FunctionName"]["Ref"]: config["Properties"]
        for config in synth.resources("pipeline", "AWS::Lambda::EventInvokeConfig").values()
    }
    targets = [
        target
        for rule in synth.resources("pipeline", "AWS::Events::Rule").values()
        for target in rule["Properties"]["Targets"]
    ]
    scheduled = {target["Arn"]["Fn::GetAtt"][0] for target in targets}

    assert scheduled == {name for key, (name, _) in _functions(stage).items() if key != "aggregator"}
    assert set(configured) == scheduled
    for properties in configured.values():
        assert (properties["MaximumRetryAttempts"], properties["MaximumEventAgeInSeconds"]) == (0, 60)
    for target in targets:
        assert target["RetryPolicy"] == {"MaximumEventAgeInSeconds": 60, "MaximumRetryAttempts": 0}


@pytest.mark.parametrize("stage", STAGE_NAMES)
def test_compactor_rollup_reconciler_and_biller_never_run_twice_side_by_side(stage: str) -> None:
    reserved = {
        name: properties["ReservedConcurrentExecutions"]
        for name, (_, properties) in _functions(stage).items()
        if "ReservedConcurrentExecutions" in properties
    }

    emulated = synthesised(stage).config.emulated
    assert reserved == ({} if emulated else {"compactor": 1, "rollup": 1, "reconciler": 1, "biller": 1})


def test_names_are_made_by_cloudformation_except_those_that_people_look_for() -> None:
    named = {
        name: key
        for name, resource in synthesised("prod").all_resources().items()
        for key in resource.get("Properties", {})
        if key in {"BucketName", "TableName", "QueueName", "TopicName", "FunctionName", "RoleName", "LogGroupName"}
        and resource["Type"].rpartition("::")[2] not in {"EventInvokeConfig", "EventSourceMapping", "Permission"}
    }

    assert named == {}


def test_modules_of_infra_import_towards_their_parts() -> None:
    graph = grimp.build_graph("infra", cache_dir=None)

    for component in graph.find_descendants("infra.components"):
        imported = graph.find_modules_directly_imported_by(component)
        assert not [module for module in imported if module.startswith("infra.stacks") or module == "infra.app"]
    assert not graph.find_modules_directly_imported_by("infra.stacks.data") & {
        "infra.stacks.pipeline",
        "infra.stacks.observability",
    }
    assert "infra.stacks.observability" not in graph.find_modules_directly_imported_by("infra.stacks.pipeline")


@pytest.mark.parametrize("stage", STAGE_NAMES)
def test_preflight_asks_every_service_that_the_stacks_use(stage: str) -> None:
    """Resources of IAM are global, and CloudFormation is asked for the types themselves."""
    used = {resource["Type"].split("::")[1].lower() for resource in synthesised(stage).all_resources().values()}
    asked = {call.service for call in (*_CALLS, *_OPTIONAL_CALLS.values())}

    assert used - asked == {"iam"}

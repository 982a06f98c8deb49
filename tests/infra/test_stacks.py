"""Stacks: resources, references, settings, configuration, regions, releases, reviewed snapshots."""

import copy
import json
import re
from dataclasses import replace
from typing import Any

import grimp
import pytest

from metering.adapters.aws.probe import _CALLS, _OPTIONAL_CALLS
from metering.cli.commands.platform.deploy import _ENDS
from metering.errors import SettingsError
from metering.fleet.rollout import _TELLS
from metering.fleet.settings.bases import REHEARSAL, STAGES
from metering.fleet.stage import StageConfig
from metering.settings import STANDARD_BYTES, Policy, Settings, StageSettings
from metering.units import DAY_S
from tests.infra.snapshots import ORGANISED, WITH_API, path_of, reviewed, snapshot_of
from tests.infra.support.organisation import KEY
from tests.infra.support.synthesis import PARTS, RELEASE, STAGE_NAMES, Synthesised, synthesised

CONTRACT_OUTPUTS = {
    "IngestQueueUrl", "DeadLetterQueueUrl", "DataBucketName", "LedgerTableName", "UsageTableName", "PageTopicArn",
    "TicketTopicArn",
}  # fmt: skip
STATEFUL = {"AWS::S3::Bucket", "AWS::DynamoDB::GlobalTable", "AWS::SQS::Queue", "AWS::KMS::Key"}


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


# Resources that are retained when the stack is updated or deleted, but not when its first creation fails.
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


@pytest.mark.parametrize("stage", STAGE_NAMES)
def test_no_deployment_deletes_a_ledger_that_leaves_the_stack(stage: str) -> None:
    ledger = synthesised(stage).one("data", "AWS::DynamoDB::GlobalTable", "Ledger")
    assert (ledger["DeletionPolicy"], ledger["UpdateReplacePolicy"]) == (KEPT, "Retain")


def test_a_failed_first_creation_of_production_leaves_nothing_behind_that_no_stack_owns() -> None:
    """With `Retain`, a rollback would leave resources that it should delete; a protected table refuses deletion."""
    created = synthesised("prod", own='{"first_build": true}')
    policies = {resource["Type"]: resource.get("DeletionPolicy") for resource in created.all_resources().values()}
    assert "Retain" not in policies.values()
    assert {policies[kind] for kind in STATEFUL} == {KEPT}
    for table in created.resources("data", "AWS::DynamoDB::GlobalTable").values():
        assert table["Properties"]["Replicas"][0]["DeletionProtectionEnabled"] is False


def test_a_first_creation_differs_in_the_protection_of_its_tables_and_in_notices_of_ok_only() -> None:
    created, after = (synthesised("prod", own=own).templates for own in ('{"first_build": true}', "{}"))
    for table in (each for each in after["data"]["Resources"].values() if "GlobalTable" in each["Type"]):
        table["Properties"]["Replicas"][0]["DeletionProtectionEnabled"] = False
    for alarm in (each for each in after["observability"]["Resources"].values() if "Alarm" in each["Type"]):
        alarm["Properties"].pop("OKActions")
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
    """EventBridge invokes functions asynchronously: Lambda, by default, retries a failed event twice within 6 hours."""
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
    """IAM's resources are global, so IAM is not asked; CloudFormation itself reports the types."""
    used = {resource["Type"].split("::")[1].lower() for resource in synthesised(stage).all_resources().values()}
    asked = {call.service for call in (*_CALLS, *_OPTIONAL_CALLS.values())}
    assert used - asked == {"iam"}


# The functions use the settings that the data stack published.

CHANGED = json.dumps(
    {
        "tunables": {"shards": 4, "rollup_commits": 7, "source_life_s": 90 * 86_400},
        "admission_window_s": 60 * 86_400,
        "marker_life_s": 75 * 86_400,
        "incoming_retention_days": 90,
    }
)


def published(stage: Synthesised) -> StageSettings:
    """The published settings, as commands read them."""
    parameter = stage.one("data", "AWS::SSM::Parameter")["Properties"]
    outputs = stage.templates["data"]["Outputs"]
    return StageSettings.read(parameter["Value"], sha256=outputs["SettingsSha256"]["Value"])


@pytest.mark.parametrize("overrides", ["{}", CHANGED])
@pytest.mark.parametrize("name", STAGE_NAMES)
def test_functions_and_commands_work_with_the_same_settings(name: str, overrides: str) -> None:
    stage = synthesised(name, overrides=overrides)
    document = published(stage)
    assert document.stage == name
    for function in stage.resources("pipeline", "AWS::Lambda::Function").values():
        variables = function["Properties"]["Environment"]["Variables"]
        given = {key: value if isinstance(value, str) else "made-by-the-stack" for key, value in variables.items()}
        settings = Settings.from_env(given)
        assert all(getattr(settings, field) == getattr(document.policy, field) for field in Policy.model_fields)
        assert settings.settings_sha256 == document.functions_sha256
    outputs = stage.templates["pipeline"]["Outputs"]
    assert outputs["FunctionSettingsSha256"]["Value"] == document.functions_sha256
    # Version 0.1.0 compares this value with the output of the data stack.
    assert outputs["SettingsSha256"]["Value"] == document.sha256


@pytest.mark.parametrize("name", STAGE_NAMES)
def test_what_the_queues_do_is_what_is_published_of_them(name: str) -> None:
    stage = synthesised(name)
    said = published(stage).queues
    queues = [queue["Properties"] for queue in stage.resources("data", "AWS::SQS::Queue").values()]
    [ingest] = [queue for queue in queues if "RedrivePolicy" in queue]
    [dead] = [queue for queue in queues if "RedrivePolicy" not in queue]
    assert ingest["MessageRetentionPeriod"] == said.retention_s
    assert ingest["VisibilityTimeout"] == said.visibility_s
    assert ingest["RedrivePolicy"]["maxReceiveCount"] == said.max_receives
    assert dead["MessageRetentionPeriod"] == said.dead_letter_retention_s
    config = stage.config
    assert (said.retention_s, said.visibility_s) == (config.queue_retention_s, config.visibility_s)
    assert (said.dead_letter_retention_s, said.max_receives) == (config.dead_letter_retention_s, config.max_receives)
    assert {queue["SqsManagedSseEnabled"] for queue in queues} == {True}


@pytest.mark.parametrize("name", STAGE_NAMES)
def test_the_parameter_is_a_standard_one_with_a_name_of_its_own(name: str) -> None:
    stage = synthesised(name)
    properties = stage.one("data", "AWS::SSM::Parameter")["Properties"]
    assert (properties["Type"], properties["Tier"]) == ("String", "Standard")
    assert "Name" not in properties
    assert len(properties["Value"].encode()) <= STANDARD_BYTES
    [logical_id] = stage.resources("data", "AWS::SSM::Parameter")
    assert stage.templates["data"]["Outputs"]["SettingsParameterName"]["Value"] == {"Ref": logical_id}


@pytest.mark.parametrize("name", STAGE_NAMES)
def test_readers_and_operators_may_read_that_parameter_and_nobody_may_change_it(name: str) -> None:
    stage = synthesised(name)
    [logical_id] = stage.resources("data", "AWS::SSM::Parameter")
    found = {}
    for part in ("data", "pipeline"):
        for policy in stage.policies(part).values():
            for statement in policy["Properties"]["PolicyDocument"]["Statement"]:
                actions = statement["Action"]
                actions = [actions] if isinstance(actions, str) else actions
                # The doctor asks for the version of the bootstrap, which is no setting.
                bootstrap = "cdk-bootstrap" in json.dumps(statement["Resource"])
                if any(action.startswith("ssm:") for action in actions) and not bootstrap:
                    [role] = policy["Properties"]["Roles"]
                    found[role["Ref"].rstrip("0123456789ABCDEF")] = (actions, json.dumps(statement["Resource"]))
    assert set(found) == {"RolesReader", "RolesOperator"}
    for actions, resource in found.values():
        assert actions == ["ssm:GetParameter"]
        separator = "" if stage.config.emulated else "/"
        assert f':parameter{separator}", {{"Ref": "{logical_id}"}}' in resource


def test_every_tunable_changes_the_hash() -> None:
    plain = StageConfig.load("prod").published()
    assert StageConfig.load("prod", {"tunables": {"shards": 2}}).published().sha256 != plain.sha256
    assert StageConfig.load("prod", {"max_receives": 6}).published().sha256 != plain.sha256


def test_a_deployment_publishes_what_it_was_given_and_its_base() -> None:
    pager = {"severity": "page", "protocol": "email", "endpoint": "oncall@example.com"}
    given = {"max_concurrency": 8, "subscriptions": [pager], "tunables": {"shards": 2}}
    document = published(synthesised("prod", overrides=json.dumps(given)))
    assert document.given is not None
    assert document.given.like == "prod"
    assert document.given.by_option == {"max_concurrency": 8, "subscriptions": [pager], "tunables.shards": 2}
    assert document.given.version


def test_another_subscription_touches_no_function() -> None:
    subscriptions = [{"severity": "page", "protocol": "email", "endpoint": "oncall@example.com"}]
    plain, other = synthesised("prod"), synthesised("prod", overrides=json.dumps({"subscriptions": subscriptions}))
    assert plain.templates["pipeline"]["Resources"] == other.templates["pipeline"]["Resources"]
    assert published(plain).sha256 != published(other).sha256


@pytest.mark.parametrize("stage", sorted(STAGES))
def test_every_stage_fits_together(stage: str) -> None:
    assert StageConfig.load(stage).stage == stage


def test_an_account_gets_the_figures_that_the_design_names() -> None:
    config = StageConfig.load("prod")
    assert (config.batch_size, config.batch_window_s, config.timeout_s, config.visibility_s) == (95, 15, 60, 450)
    assert (config.max_receives, config.queue_retention_s, config.dead_letter_retention_s) == (7, 4 * DAY_S, 14 * DAY_S)
    assert config.marker_life_s == 50 * DAY_S


def test_the_kill_test_stage_has_short_times() -> None:
    config = StageConfig.load("killtest")
    assert (config.timeout_s, config.visibility_s) == (15, 20)
    assert config.tunables["reserve_ms"] < config.timeout_s * 1000


@pytest.mark.parametrize(("stage", "field", "value", "word"), [
    ("prod", "visibility_s", 389, "visibility_s"),
    ("prod", "short_visibility", True, "emulated"),
    ("killtest", "visibility_s", 14, "timeout_s"),
    ("prod", "marker_life_s", 50 * DAY_S - 1, "marker_life_s"),
    ("prod", "admission_window_s", 36 * DAY_S, "marker_life_s"),
    ("prod", "dead_letter_retention_s", 4 * DAY_S - 1, "dead_letter_retention_s"),
    ("prod", "incoming_retention_days", 49, "incoming_retention_days"),
    ("prod", "batch_window_s", 0, "batch_window_s"),
    ("prod", "drop_identity", "md5", "drop_identity"),
    ("prod", "lake_archive_days", 89, "lake_archive_days"),
    ("prod", "ledger_warm_writes_per_s", 3_999, "ledger_warm_writes_per_s"),
    ("prod", "billing", "reserved", "billing"),
    ("prod", "ledger_min_writes_per_s", 199, "ledger_min_writes_per_s"),
    ("prod", "ledger_min_writes_per_s", 4_001, "must not be above ledger_max_writes_per_s"),
    ("prod", "ledger_max_reads_per_s", 199, "ledger_min_reads_per_s must not be above"),
    ("prod", "lake_retention_days", 200, "lake_retention_days"),
    ("prod", "stateful_retained", False, "stateful_retained"),
    ("prod", "tunables", {"colour": 1}, "colour"),
    ("prod", "tunables", {"window_s": 1}, "window_s"),
    ("prod", "trusted_accounts", ["12345678901"], "trusted_accounts"),
    ("prod", "max_receives", 3, "max_receives"),
    ("prod", "tunables", {"source_life_s": 50 * DAY_S}, "source_life_s"),
    ("prod", "max_concurrency", 1, "max_concurrency"),
    ("prod", "no_such_field", 1, "no_such_field"),
])  # fmt: skip
def test_what_does_not_fit_is_refused_by_name(stage: str, field: str, value: object, word: str) -> None:
    with pytest.raises(SettingsError, match=word):
        StageConfig.load(stage, {field: value})


def test_rows_of_hours_that_are_still_metered_are_there() -> None:
    given = {"admission_window_s": 269 * DAY_S, "lake_retention_days": 270}
    with pytest.raises(SettingsError, match="two days above the admission window"):
        StageConfig.load("prod", given)


def test_every_problem_is_named_at_once() -> None:
    with pytest.raises(SettingsError) as caught:
        StageConfig.load("prod", {"visibility_s": 1, "marker_life_s": DAY_S, "incoming_retention_days": 1})
    assert "visibility_s" in str(caught.value)
    assert "marker_life_s" in str(caught.value)


def test_an_unknown_stage_is_refused_with_the_known_ones() -> None:
    with pytest.raises(SettingsError, match="killtest, local, prod"):
        StageConfig.load("production")


def test_text_from_the_command_line_is_understood() -> None:
    config = StageConfig.load(
        "killtest",
        {
            "batch_window_s": "1",
            "analytics": "false",
            "tunables": '{"rollup_commits": 8}',
            "rollout": '{"deny": ["us-gov-*"]}',
            "subscriptions": '[{"severity": "page", "protocol": "email", "endpoint": "oncall@example.com"}]',
        },
    )
    assert config.batch_window_s == 1
    assert config.subscriptions[0].endpoint == "oncall@example.com"
    # A mapping changes only the entries that it names.
    of_the_base = {"rollup_every_s": 1, "rollup_blocks": 1, "scan_every_s": 0, "reserve_ms": 5_000}
    assert config.tunables == {**of_the_base, "rollup_commits": 8}
    assert (config.rollout.deny, config.rollout.bake_min) == (("us-gov-*",), 0)


def test_the_stage_decides_no_setting_that_functions_do_not_know() -> None:
    assert {"window_s", "marker_life_s", "reserve_ms"} <= set(Policy.model_fields)


# Every region gets the same stacks, and so does an invented region.

REGIONS = ("us-east-1", "eu-central-2", "cn-north-1", "us-gov-west-1", "eusc-de-east-1", "ap-southeast-9")
ACCOUNT = "123456789012"
# Matches regions, and partitions as they appear in an ARN or a domain.
REGION_LITERAL = re.compile(r"\b(?:[a-z]{2,4}(?:-[a-z]+)+-\d)\b")
PARTITION_LITERAL = re.compile(r"arn:aws|amazonaws\.com\.cn|aws-cn|aws-us-gov")


def problems_of(text: str) -> list[str]:
    """Region and partition names hard-coded in a template."""
    return REGION_LITERAL.findall(text) + PARTITION_LITERAL.findall(text)


@pytest.mark.parametrize("region", REGIONS)
def test_a_region_has_the_same_resources_as_one_that_is_left_to_the_deployment(region: str) -> None:
    there, anywhere = synthesised("prod", region, ACCOUNT), synthesised("prod")
    for part, template in there.templates.items():
        assert sorted(template["Resources"]) == sorted(anywhere.templates[part]["Resources"])
        assert sorted(template.get("Outputs", {})) == sorted(anywhere.templates[part].get("Outputs", {}))


@pytest.mark.parametrize("stage", STAGE_NAMES)
def test_no_template_names_a_region_or_a_partition(stage: str) -> None:
    for template in synthesised(stage).templates.values():
        assert problems_of(json.dumps(template)) == []


@pytest.mark.parametrize("stage", [name for name in STAGE_NAMES if STAGES[name].get("emulated")])
def test_a_function_of_an_emulated_region_shares_its_name_with_none_of_another(stage: str) -> None:
    """MiniStack stops running functions in all regions when it creates a function of the same name."""
    for function in synthesised(stage).resources("pipeline", "AWS::Lambda::Function").values():
        assert {"Ref": "AWS::Region"} in function["Properties"]["FunctionName"]["Fn::Join"][1]


@pytest.mark.parametrize("text", ["ap-southeast-9", "arn:aws:s3:::bucket", "sqs.cn-north-1.amazonaws.com.cn"])
def test_a_literal_would_be_found(text: str) -> None:
    assert problems_of(json.dumps({"Value": text}))


@pytest.mark.parametrize("stage", STAGE_NAMES)
def test_there_are_no_custom_resources(stage: str) -> None:
    kinds = {resource["Type"] for resource in synthesised(stage).all_resources().values()}
    assert not {kind for kind in kinds if kind.startswith("Custom::") or "CustomResource" in kind}
    # A custom resource would add one of the CDK's provider functions.
    everything = synthesised(stage).all_resources().values()
    functions = [resource for resource in everything if resource["Type"] == "AWS::Lambda::Function"]
    assert functions
    assert all(function["Properties"]["Handler"].startswith("lambdas.") for function in functions)


@pytest.mark.parametrize("stage", STAGE_NAMES)
def test_nothing_is_looked_up_or_reported(stage: str) -> None:
    for template in synthesised(stage).templates.values():
        assert "AWS::CDK::Metadata" not in {resource["Type"] for resource in template["Resources"].values()}
        # The only parameter is the bootstrap stack's version, which the CDK's own roles add.
        assert set(template.get("Parameters", {})) <= {"BootstrapVersion"}


# Each stack outputs its release, and whether it is a rehearsal.

PROD, TRIED = "prod", json.dumps(REHEARSAL)


@pytest.mark.parametrize("stage", STAGE_NAMES)
def test_each_stack_puts_out_version_format_and_commit(stage: str) -> None:
    for template in synthesised(stage).templates.values():
        said = {name: template["Outputs"][name]["Value"] for name in ("Version", "DataFormat", "Commit")}
        assert said == RELEASE.outputs
        assert "Rehearsal" not in template["Outputs"]


def test_no_resource_changes_with_the_version() -> None:
    for template in synthesised(PROD).templates.values():
        assert RELEASE.commit not in json.dumps(template["Resources"])


def test_a_rehearsal_says_so_in_each_stack() -> None:
    for template in synthesised(PROD, own=TRIED).templates.values():
        assert template["Outputs"]["Rehearsal"]["Value"] == "true"


def test_a_rehearsal_has_every_resource_of_the_stage_but_what_an_emulator_lacks() -> None:
    real, tried = synthesised(PROD), synthesised(PROD, own=TRIED)
    missing = set(real.all_resources()) - set(tried.all_resources())
    assert {real.all_resources()[name]["Type"] for name in missing} == {"AWS::CloudWatch::CompositeAlarm"}
    assert set(tried.all_resources()) <= set(real.all_resources())
    assert tried.protected == real.protected


def test_a_rehearsal_keeps_all_settings_of_its_stage_but_those() -> None:
    real, tried = (StageConfig.load(PROD, changes).model_dump() for changes in ({}, REHEARSAL))
    assert {name for name in real if real[name] != tried[name]} == set(REHEARSAL)


@pytest.mark.parametrize("stage", [*STAGE_NAMES, f"prod{WITH_API}", ORGANISED])
def test_a_stage_is_what_was_reviewed(stage: str) -> None:
    # Meant to differ? `python -m tests.infra.snapshots` writes the snapshots; review their diff.
    assert snapshot_of(reviewed(stage)) == path_of(stage).read_text()


def test_a_changed_property_or_protection_is_another_snapshot() -> None:
    stage = synthesised("prod")
    changed = copy.deepcopy(stage.templates)
    next(iter(changed["data"]["Resources"].values()))["DeletionPolicy"] = "Delete"
    assert snapshot_of(replace(stage, templates=changed)) != snapshot_of(stage)
    assert snapshot_of(replace(stage, protected={**stage.protected, "data": False})) != snapshot_of(stage)


def test_an_assets_hash_is_masked() -> None:
    assert "<asset>" in snapshot_of(synthesised("local"))


@pytest.mark.parametrize(("given", "words"), [
    ({"kms_key_arn": KEY, "versioned": False}, "drop_identity checksum needs versioned"),
    ({}, "drop_identity checksum is for a stage with kms_key_arn"),
])  # fmt: skip
def test_a_checksum_as_identity_needs_a_key_and_versions(given: dict[str, object], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        StageConfig.load("prod", {"drop_identity": "checksum", **given})
    StageConfig.load("prod", {"drop_identity": "checksum", "kms_key_arn": KEY})

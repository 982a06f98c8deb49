"""A deployed region as CloudFormation and CloudWatch describe it."""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from botocore.exceptions import ClientError

from metering.adapters.aws.cloudformation import CloudFormationStacks, _first_failure
from metering.adapters.aws.cloudwatch import CloudWatchFunctionLogs
from metering.adapters.aws.deployed_regions import DeployedRegions
from metering.adapters.aws.deployment import _pass_on
from metering.adapters.aws.errors import is_unknown_call, refusals_explained, translated
from metering.adapters.aws.probe import AwsAccount, has_http_apis
from metering.adapters.aws.queues import SqsQueue
from metering.adapters.aws.session import Access, Clients
from metering.adapters.aws.stacks import RegionResources, stack_outputs
from metering.errors import (
    FormatTooNewError,
    FormatTooOldError,
    MeteringError,
    OperationFailedError,
    SettingsError,
    UnavailableError,
)
from metering.fleet.ports import Release, StackResource
from metering.fleet.settings.layers import Asked
from metering.fleet.stage import StageConfig
from metering.ledger.format_version import FORMAT_VERSION, RESTORED_FORMAT, LedgerFormat
from metering.settings import GivenSettings
from metering.stores.writes import ItemStore, Put, Table
from metering.wiring.fleet import Fleet
from tests.support.memory.items import MemoryItemStore
from tests.unit.adapters.aws.stubs import OUTPUTS, Stubbed, stubbed
from tests.unit.adapters.aws.test_stage_settings import Deployed


def clients_of(**clients: Any) -> Any:
    """The clients of a region that a test needs."""
    return SimpleNamespace(**clients)


@pytest.fixture
def cloudwatch() -> Iterator[Stubbed]:
    yield from stubbed("cloudwatch")


def alarm(name: str, state: str) -> dict[str, str]:
    full = f"metering-prod-{name}"
    return {"AlarmName": full, "AlarmArn": f"arn:aws:cloudwatch:us-east-1:1:alarm:{full}", "StateValue": state}


def test_a_deployment_is_turned_back_by_what_it_breaks_and_not_by_what_was_broken_before(cloudwatch: Stubbed) -> None:
    client, stubber = cloudwatch
    states = {
        "aggregator-errors": "ALARM",
        "canary-doubled": "OK",
        "canary-late": "OK",
        "conflicts": "OK",
        "dead-letters": "INSUFFICIENT_DATA",
        "marker-life": "OK",
        "oldest-batch": "ALARM",
        "reconciliation-differences": "OK",
        "usage-waiting": "OK",
        "watch-silent": "OK",
    }
    stubber.add_response("describe_alarms", {"MetricAlarms": [alarm(name, state) for name, state in states.items()]})
    regions = DeployedRegions(lambda _: clients_of(cloudwatch=client), stage="prod")
    arns = regions.rollback_alarms("us-east-1")
    names = [arn.rpartition("alarm:metering-prod-")[2] for arn in arns]
    assert sorted(names) == ["canary-doubled", "dead-letters", "reconciliation-differences", "usage-waiting"]


def test_every_page_of_a_functions_mappings_is_read() -> None:
    [(cloudformation, stacks), (lambda_, functions)] = (next(stubbed(name)) for name in ("cloudformation", "lambda"))
    stack = {"StackName": "metering-prod-pipeline", "CreationTime": datetime(2026, 1, 1, tzinfo=UTC)}
    output = {"OutputKey": "AggregatorFunctionName", "OutputValue": "aggregator"}
    described = {**stack, "StackStatus": "CREATE_COMPLETE", "Outputs": [output]}
    regions = DeployedRegions(lambda _: clients_of(cloudformation=cloudformation, lambda_=lambda_), stage="prod")
    with stacks, functions:
        stacks.add_response("describe_stacks", {"Stacks": [described]})
        functions.add_response(
            "list_event_source_mappings", {"EventSourceMappings": [], "NextMarker": "m"}, {"FunctionName": "aggregator"}
        )
        functions.add_response(
            "list_event_source_mappings",
            {"EventSourceMappings": [{"UUID": "u" * 36, "State": "Enabled"}]},
            {"FunctionName": "aggregator", "Marker": "m"},
        )
        assert regions.intake("us-east-1") == "Enabled"


@pytest.mark.parametrize("functions_there", [("Aggregator",), ("Aggregator", "Onramp")])
def test_the_intake_of_a_region_is_that_of_batches_and_of_its_log_files(functions_there: tuple[str, ...]) -> None:
    [(cloudformation, stacks), (lambda_, functions)] = (next(stubbed(name)) for name in ("cloudformation", "lambda"))
    outputs = [{"OutputKey": f"{name}FunctionName", "OutputValue": name.lower()} for name in functions_there]
    answer = described("CREATE_COMPLETE", Outputs=outputs)
    regions = DeployedRegions(lambda _: clients_of(cloudformation=cloudformation, lambda_=lambda_), stage="prod")
    with stacks, functions:
        for _ in range(len(functions_there) + 1):
            stacks.add_response("describe_stacks", answer)
        found = [f"{name.lower():u<36}" for name in reversed(functions_there)]
        for name, uuid in zip(reversed(functions_there), found, strict=True):
            functions.add_response(
                "list_event_source_mappings",
                {"EventSourceMappings": [{"UUID": uuid, "State": "Enabled"}]},
                {"FunctionName": name.lower()},
            )
        for uuid in found:
            functions.add_response("update_event_source_mapping", {}, {"UUID": uuid, "Enabled": False})
        regions.set_intake("us-east-1", enabled=False)
        stacks.assert_no_pending_responses()
        functions.assert_no_pending_responses()


def test_the_reason_of_a_failed_deployment_is_its_own_first_one_on_whatever_page() -> None:
    client, stubber = next(stubbed("cloudformation"))
    with stubber:
        stubber.add_response(
            "describe_stack_events",
            {
                "StackEvents": [event("s", "UPDATE_ROLLBACK_COMPLETE"), event("b", "UPDATE_FAILED", "second")],
                "NextToken": "n",
            },
        )
        older = [
            event("a", "UPDATE_FAILED", "first"),
            event("s", "UPDATE_IN_PROGRESS"),
            event("c", "UPDATE_FAILED", "of an earlier deployment"),
        ]
        stubber.add_response("describe_stack_events", {"StackEvents": older}, {"StackName": "s", "NextToken": "n"})
        assert _first_failure(client, "s", "unknown") == "a (AWS::SQS::Queue): first"


def event(resource: str, status: str, reason: str = "") -> dict[str, Any]:
    return {
        "StackId": "id-of-s",
        "EventId": f"{resource}-{status}",
        "StackName": "s",
        "LogicalResourceId": resource,
        "PhysicalResourceId": f"id-of-{resource}",
        "ResourceType": "AWS::SQS::Queue",
        "ResourceStatus": status,
        "ResourceStatusReason": reason,
        "Timestamp": datetime(2026, 1, 1, tzinfo=UTC),
    }


def stacks_of(client: Any) -> CloudFormationStacks:
    return CloudFormationStacks(lambda _: clients_of(cloudformation=client))


def described(status: str, **more: Any) -> dict[str, Any]:
    stack = {"StackName": "s", "CreationTime": datetime(2026, 1, 1, tzinfo=UTC), "StackStatus": status, **more}
    return {"Stacks": [stack]}


def test_a_validation_before_the_first_resource_is_told_with_the_resource_that_it_names() -> None:
    """The stack's events say only that the validation failed."""
    client, stubber = next(stubbed("cloudformation"))
    with stubber:
        stubber.add_response("describe_stacks", described("ROLLBACK_COMPLETE"))
        events = [
            event("s", "ROLLBACK_COMPLETE"),
            event("s", "CREATE_FAILED", "Validation failed with 1 error(s). Call DescribeEvents to retrieve the list."),
            event("s", "CREATE_IN_PROGRESS"),
        ]
        stubber.add_response("describe_stack_events", {"StackEvents": events})
        invalid = {
            "EventType": "VALIDATION_ERROR",
            "LogicalResourceId": "StagingBucket",
            "ResourceType": "AWS::S3::Bucket",
            "ValidationName": "NAME_CONFLICT_VALIDATION",
            "ValidationStatus": "FAILED",
            "ValidationStatusReason": "Resource of type 'AWS::S3::Bucket' with identifier 'cdk-assets' already exists.",
        }
        stubber.add_response("describe_events", {"OperationEvents": [invalid]}, {"StackName": "s"})
        found = stacks_of(client).describe("us-east-1", "s")

    assert found is not None
    assert found.why == (
        "StagingBucket (AWS::S3::Bucket): Resource of type 'AWS::S3::Bucket' with identifier 'cdk-assets' "
        "already exists."
    )


def test_an_endpoint_without_that_call_leaves_the_reason_of_the_stack() -> None:
    client, stubber = next(stubbed("cloudformation"))
    with stubber:
        stubber.add_response("describe_stacks", described("ROLLBACK_COMPLETE"))
        events = [event("s", "CREATE_FAILED", "Validation failed."), event("s", "CREATE_IN_PROGRESS")]
        stubber.add_response("describe_stack_events", {"StackEvents": events})
        stubber.add_client_error("describe_events", "InvalidAction")
        found = stacks_of(client).describe("us-east-1", "s")
    assert found is not None
    assert found.why == "s (AWS::SQS::Queue): Validation failed."


def test_an_update_that_was_rolled_back_still_has_its_reason_for_who_asks() -> None:
    client, stubber = next(stubbed("cloudformation"))
    with stubber:
        stubber.add_response("describe_stacks", described("UPDATE_ROLLBACK_COMPLETE"))
        events = [
            event("s", "UPDATE_ROLLBACK_COMPLETE"),
            event("a", "UPDATE_FAILED", "no such key"),
            event("s", "UPDATE_IN_PROGRESS"),
        ]
        stubber.add_response("describe_stack_events", {"StackEvents": events})
        found = stacks_of(client).last_failure("us-east-1", "s")
    assert found is not None
    assert (found.status, found.why) == ("UPDATE_ROLLBACK_COMPLETE", "a (AWS::SQS::Queue): no such key")


def test_a_stack_says_its_release_and_an_old_one_says_none() -> None:
    client, stubber = next(stubbed("cloudformation"))
    outputs = [
        {"OutputKey": name, "OutputValue": value}
        for name, value in {"Version": "0.2.0", "DataFormat": "1", "Commit": "abc", "Rehearsal": "true"}.items()
    ]
    with stubber:
        stubber.add_response("describe_stacks", described("UPDATE_COMPLETE", Outputs=outputs))
        stubber.add_response("describe_stacks", described("UPDATE_COMPLETE"))
        new, old = (stacks_of(client).describe("us-east-1", "s") for _ in range(2))
    assert new is not None
    assert old is not None
    assert (new.release, new.rehearsal) == (Release(version="0.2.0", data_format=1, commit="abc"), True)
    assert (old.release, old.rehearsal) == (None, False)


def test_a_resource_that_its_stack_keeps_is_told_from_one_that_goes_with_it() -> None:
    client, stubber = next(stubbed("cloudformation"))
    kinds = {"Data": "AWS::S3::Bucket", "Queue": "AWS::SQS::Queue", "Ledger": "AWS::DynamoDB::GlobalTable"}
    template = {
        "Data": {"DeletionPolicy": "Retain"},
        "Queue": {"DeletionPolicy": "Delete"},
        "Ledger": {"DeletionPolicy": "RetainExceptOnCreate"},
    }
    listed = [
        {
            "LogicalResourceId": name,
            "PhysicalResourceId": name.lower(),
            "ResourceType": kind,
            "LastUpdatedTimestamp": datetime(2026, 1, 1, tzinfo=UTC),
            "ResourceStatus": "CREATE_COMPLETE",
        }
        for name, kind in kinds.items()
    ]
    with stubber:
        stubber.add_response("get_template", {"TemplateBody": json.dumps({"Resources": template})}, {"StackName": "s"})
        stubber.add_response("list_stack_resources", {"StackResourceSummaries": listed})
        found = stacks_of(client).resources("us-east-1", "s")

    assert [(each.name, each.retained) for each in found] == [("data", True), ("queue", False), ("ledger", True)]


def test_a_bucket_is_emptied_of_every_version_and_mark_on_every_page() -> None:
    [(cloudformation, stacks), (s3, objects)] = (next(stubbed(name)) for name in ("cloudformation", "s3"))
    outputs = [{"OutputKey": name, "OutputValue": "b"} for name in OUTPUTS]
    clients = clients_of(cloudformation=cloudformation, s3=s3, access=SimpleNamespace(region="us-east-1"))
    regions = DeployedRegions(lambda _: clients, stage="dev")
    with stacks, objects:
        stacks.add_response("describe_stacks", described("CREATE_COMPLETE", Outputs=outputs))
        for key, more in (("a", {"IsTruncated": True, "NextKeyMarker": "a", "NextVersionIdMarker": "1"}), ("c", {})):
            page = {"Versions": [{"Key": key, "VersionId": "1"}], "DeleteMarkers": [{"Key": "x", "VersionId": "2"}]}
            objects.add_response("list_object_versions", {**page, **more})
            gone = {"Objects": [{"Key": key, "VersionId": "1"}, {"Key": "x", "VersionId": "2"}]}
            objects.add_response("delete_objects", {}, {"Bucket": "b", "Delete": gone})
        assert regions.empty_bucket("us-east-1") == 4


class Answers:
    """A client that returns given answers and records requests."""

    def __init__(self, answers: dict[str, Any]) -> None:
        self.answers = answers
        self.asked: list[tuple[str, dict[str, Any]]] = []

    def __getattr__(self, name: str) -> Any:
        def call(**arguments: Any) -> Any:
            self.asked.append((name, arguments))
            answer = self.answers.get(name, {})
            return answer(arguments) if callable(answer) else answer

        return call

    def get_paginator(self, name: str) -> Any:
        return SimpleNamespace(paginate=lambda **_: [self.answers[name]])


def test_what_somebody_stopped_runs_again_and_those_that_run_alone_stay_alone() -> None:
    functions = ("aggregator", "compactor", "reconciler", "watch")
    outputs = [{"OutputKey": f"{name.capitalize()}FunctionName", "OutputValue": name} for name in functions]
    resources = [{"ResourceType": "AWS::Lambda::Function", "PhysicalResourceId": name} for name in functions]
    held = {"aggregator": 0, "compactor": 0, "reconciler": 1}
    lambda_ = Answers({
        "list_event_source_mappings": {"EventSourceMappings": []},
        "get_function_concurrency": lambda asked: (
            {"ReservedConcurrentExecutions": held[asked["FunctionName"]]} if asked["FunctionName"] in held else {}
        ),
    })  # fmt: skip
    cloudformation = Answers({
        "describe_stacks": {"Stacks": [{"Outputs": outputs}]},
        "list_stack_resources": {"StackResourceSummaries": resources},
    })  # fmt: skip
    clients = clients_of(cloudformation=cloudformation, lambda_=lambda_, events=Answers({}))

    DeployedRegions(lambda _: clients, stage="prod").start("us-east-1")

    changed = [call for call in lambda_.asked if call[0].endswith("function_concurrency") and "get" not in call[0]]
    assert changed == [
        ("delete_function_concurrency", {"FunctionName": "aggregator"}),
        ("put_function_concurrency", {"FunctionName": "compactor", "ReservedConcurrentExecutions": 1}),
    ]


def test_the_function_of_an_api_runs_again_with_what_the_stage_keeps_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    lambda_ = Answers({
        "list_event_source_mappings": {"EventSourceMappings": []},
        "get_function_concurrency": {"ReservedConcurrentExecutions": 0},
    })  # fmt: skip
    outputs = [{"OutputKey": f"{name}FunctionName", "OutputValue": name} for name in ("Aggregator", "Api")]
    cloudformation = Answers({
        "describe_stacks": {"Stacks": [{"Outputs": outputs}]},
        "list_stack_resources": {"StackResourceSummaries": []},
    })  # fmt: skip
    clients = clients_of(cloudformation=cloudformation, lambda_=lambda_, events=Answers({}))
    regions = DeployedRegions(lambda _: clients, stage="prod")
    given = GivenSettings(like="prod", by_option={"api_concurrency": 7})
    monkeypatch.setattr(regions, "given", lambda _region: given)
    regions.start("us-east-1")
    assert lambda_.asked[1] == (
        "put_function_concurrency", {"FunctionName": "Api", "ReservedConcurrentExecutions": 7},
    )  # fmt: skip


# The deployment's process: its own messages reach people, and the output of the CDK does not.


def test_bundling_of_assets_is_not_told_and_a_warning_is(capsys: pytest.CaptureFixture[str]) -> None:
    _pass_on(["Bundling asset metering-local-pipeline/Aggregator/Function/Code/Stage...\n", "[Warning] a role\n"])
    assert capsys.readouterr().err == "[Warning] a role\n"


# The usage table that a region's next deployment must keep, according to the ledger and the stacks' outputs.

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
    drop_identity="etag",
)
OWN = LedgerFormat(number=FORMAT_VERSION, written_by="0.2.0", usage_generation=2)


class Regions(DeployedRegions):
    """Deployed regions with in-memory items and with stack outputs from a test."""

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
    """Generation of the old usage table that a deployment with generation `wanted` keeps."""
    policy = SimpleNamespace(usage_generation=wanted)
    settings = SimpleNamespace(of=lambda _region: SimpleNamespace(config=SimpleNamespace(policy=lambda: policy)))
    fleet = cast("Fleet", SimpleNamespace(deployed=regions, settings=settings))
    return Fleet._usage_before(fleet, "eu-west-1")


@pytest.mark.parametrize(("found", "wanted", "older"), [
    (OWN, 2, 0),
    # During a restore, the ledger does not use the new table yet.
    (OWN, 3, 2),
    (replace(OWN, usage_generation=3), 3, 0),
])  # fmt: skip
def test_an_older_usage_table_stays_while_the_ledger_needs_it(found: LedgerFormat, wanted: int, older: int) -> None:
    assert kept(Regions(found), wanted=wanted) == older


def test_a_region_without_a_batch_keeps_the_table_that_its_functions_know_until_they_are_replaced() -> None:
    assert kept(Regions(None, replace(RESOURCES, usage_generation=1)), wanted=2) == 1
    assert kept(Regions(None), wanted=2) == 0


def test_where_nothing_is_deployed_nothing_stays() -> None:
    assert kept(Regions(None, None), wanted=2) == 0


@pytest.mark.parametrize(("number", "refusal"), [(1, FormatTooOldError), (RESTORED_FORMAT + 1, FormatTooNewError)])
def test_no_deployment_is_planned_over_data_of_another_format(number: int, refusal: type[Exception]) -> None:
    with pytest.raises(refusal):
        kept(Regions(replace(OWN, number=number)), wanted=2)


class Tables(Regions):
    """A region with a ledger and a usage table, of which `own` are the data stack's, and with restored ledgers.

    Attributes:
        own: Tables of the stack, and whether it retains them.
        restored: Formats of existing tables by name.
    """

    def __init__(self, found: RegionResources | None, *, own: dict[str, bool], **restored: LedgerFormat | None) -> None:
        super().__init__(None, found)
        self.own, self.restored = own, restored

    def _stack_resources(self, region: str) -> dict[str, StackResource]:
        del region
        return {
            name: StackResource(kind="AWS::DynamoDB::GlobalTable", name=name, retained=retained)
            for name, retained in self.own.items()
        }

    def _by_name(self, region: str) -> Any:
        del region
        return SimpleNamespace(exists=lambda name: name in self.restored)

    def _store(self, region: str, ledger: str, usage: str) -> ItemStore:
        del region, usage
        items, found = MemoryItemStore(), self.restored[ledger]
        if found is not None:
            items.put(Put(table=Table.LEDGER, item=found.to_item()))
        return items


OPEN = replace(OWN, number=RESTORED_FORMAT, generation=2)
BY_NAME = replace(RESOURCES, ledger_table="second")


@pytest.mark.parametrize(("regions", "ledger"), [
    (Tables(RESOURCES, own={"ledger": True, "usage": False}), ""),
    (Tables(RESOURCES, own={"ledger": True, "usage": False}, second=OPEN), "second"),
    (Tables(BY_NAME, own={"usage": False}), "second"),
    (Tables(BY_NAME, own={"usage": False}, third=replace(OPEN, generation=3)), "third"),
    (Tables(None, own={}), ""),
    (Tables(None, own={}, second=OPEN), "second"),
])  # fmt: skip
def test_a_deployment_keeps_the_ledger_or_takes_one_that_a_restore_completed(regions: Tables, ledger: str) -> None:
    regions.check_tables("eu-west-1", ledger=ledger, usage="")


@pytest.mark.parametrize(("regions", "ledger", "refusal"), [
    (Tables(BY_NAME, own={"usage": False}), "", "ledger_table of eu-west-1 must stay second"),
    (Tables(BY_NAME, own={"usage": False}), "third", "third, which is no ledger in eu-west-1 that a restore"),
    (Tables(BY_NAME, own={"usage": False}, first=replace(OWN, state="fenced")), "first", "first, which is no ledger"),
    (Tables(BY_NAME, own={"usage": False}, third=None), "third", "third, which is no ledger"),
    (
        Tables(RESOURCES, own={"ledger": True, "usage": False}, second=replace(OPEN, state="adopting")),
        "second", "second, which is no ledger",
    ),
    (Tables(RESOURCES, own={"ledger": False, "usage": False}, second=OPEN), "second", "would delete its ledger ledger"),
    (Tables(replace(BY_NAME, usage_table="u2"), own={}), "second", "usage_table of eu-west-1 must stay u2"),
    (Tables(None, own={}), "second", "second, which is no ledger"),
])  # fmt: skip
def test_a_deployment_that_would_take_the_ledger_away_is_refused(regions: Tables, ledger: str, refusal: str) -> None:
    with pytest.raises(SettingsError, match=refusal):
        regions.check_tables("eu-west-1", ledger=ledger, usage="")


def test_the_tables_of_a_region_are_those_of_its_outputs_that_exist() -> None:
    names = {
        "LedgerTableName": "second", "UsageTableName": "usage", "UsageTableBeforeName": "gone",
        "ExportsOutputRefLedgerTable9343E4AAB004A7A8": "first", "ExportsOutputFnGetAttLedgerTableArn": "arn",
        "DataBucketName": "bucket",
    }  # fmt: skip
    outputs = [{"OutputKey": name, "OutputValue": value} for name, value in names.items()]
    cloudformation = Answers({"describe_stacks": {"Stacks": [{"Outputs": outputs}]}})
    regions = Tables(RESOURCES, own={}, second=OPEN, usage=None, first=OWN)
    regions._clients_of = lambda _region: clients_of(cloudformation=cloudformation)
    assert regions.tables("eu-west-1") == ["first", "second", "usage"]


def test_a_deployment_reads_the_ledger_that_it_brings() -> None:
    regions = Tables(RESOURCES, own={}, ledger=OWN, second=replace(OPEN, usage_generation=3))
    regions._tables = partial(DeployedRegions._tables, regions)  # type: ignore[method-assign]  # not the fake one
    assert regions.usage_generation("eu-west-1") == 2
    regions._ledger_of = lambda _region: "second"
    assert regions.usage_generation("eu-west-1") == 3


def test_outputs_say_which_usage_table_it_is_and_those_of_release_0_1_0_do_not() -> None:
    deployed = Deployed()
    assert stack_outputs(deployed.clients, "local").usage_generation == 2
    deployed.stacks["data"] |= {"UsageGeneration": "3"}
    assert stack_outputs(deployed.clients, "local").usage_generation == 3
    del deployed.stacks["data"]["UsageGeneration"]
    assert stack_outputs(deployed.clients, "local").usage_generation == 1


# If an emulator lacks a call, the result is absence and never a failure. One function recognises these answers.

ADAPTERS = Path(__file__).parents[4] / "metering" / "adapters"
# LocalStack 2026.3 answers like this for calls that it lacks: AWS's code for internal failures, with another status.
LOCALSTACK = ("InternalFailure", "The API for service account has not yet been emulated by LocalStack.", 501)
MINISTACK = ("InvalidAction", "Unknown action", 400)
LACKING = pytest.mark.parametrize("answer", [LOCALSTACK, MINISTACK], ids=["LocalStack", "MiniStack"])
Answer = tuple[str, str, int]


def answered(service: str, operation: str, answer: Answer, ask: Callable[[Any], object], *before: Any) -> object:
    """Result of a call that gets the given error response; if the call raises an error, the error's message."""
    client, stubber = next(stubbed(service))
    with stubber:
        for name, given in before:
            stubber.add_response(name, given)
        stubber.add_client_error(operation, *answer)
        try:
            return ask(client)
        except MeteringError as error:
            return f"{type(error).__name__}: {error}"


# Call -> the adapter's operation that makes this call, and its result.
LACKED: dict[tuple[str, str], tuple[Callable[[Any], object], str]] = {
    ("account", "get_region_opt_status"): (
        lambda client: AwsAccount(client, custom_endpoint=True, answers=bool).opt_status("us-east-1"), "ENABLED",
    ),
    ("account", "list_regions"): (
        lambda client: AwsAccount(client, custom_endpoint=True, answers=bool).regions(),
        "OperationFailedError: This endpoint has no account API, so its regions cannot be listed.",
    ),
    ("cloudformation", "detect_stack_drift"): (
        lambda client: stacks_of(client).detect_drift("us-east-1", "s"), "UNKNOWN",
    ),
    ("logs", "start_query"): (
        lambda client: CloudWatchFunctionLogs(client, {"a": "/a"}).errors(["a"], from_s=0, to_s=1, limit=1),
        "OperationFailedError: This endpoint cannot search logs: it has no CloudWatch Logs Insights.",
    ),
    ("sqs", "start_message_move_task"): (
        lambda client: SqsQueue(client, "http://127.0.0.1:9/1/dead").start_redrive(), "None",
    ),
    ("apigatewayv2", "get_apis"): (
        lambda client: has_http_apis(clients_of(client=lambda _service: client)), "False",
    ),
}  # fmt: skip
BEFORE = {"sqs": [("get_queue_attributes", {"Attributes": {"QueueArn": "arn:aws:sqs:us-east-1:1:dead"}})]}


@LACKING
@pytest.mark.parametrize(("service", "operation"), LACKED)
def test_what_needs_a_lacking_call_is_absent_or_said_in_words(service: str, operation: str, answer: Answer) -> None:
    ask, expected = LACKED[service, operation]
    assert str(answered(service, operation, answer, ask, *BEFORE.get(service, []))) == expected


@LACKING
def test_an_emulator_that_protects_no_stack_deletes_one_all_the_same(answer: Answer) -> None:
    client, stubber = next(stubbed("cloudformation"))
    with stubber:
        stubber.add_response("describe_stacks", described("CREATE_COMPLETE"))
        stubber.add_client_error("update_termination_protection", *answer)
        stubber.add_response("delete_stack", {})
        try:
            stacks_of(client).delete("us-east-1", "s")
            failed = ""
        except MeteringError as error:
            failed = str(error)
    assert failed == ""


def failure(code: str, status: int) -> ClientError:
    answer: Any = {"Error": {"Code": code, "Message": "why"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(answer, "PutCompositeAlarm")


def test_a_failure_of_aws_itself_is_an_outage_and_no_missing_call() -> None:
    failed = failure("InternalFailure", 500)
    assert not is_unknown_call(failed)
    with pytest.raises(UnavailableError), translated("cloudwatch.PutCompositeAlarm"):
        raise failed


def test_a_missing_call_that_nobody_expected_is_told_by_its_name() -> None:
    with (
        pytest.raises(OperationFailedError, match=r"^This endpoint has no PutCompositeAlarm\."),
        refusals_explained(),
        translated("cloudwatch.PutCompositeAlarm"),
    ):
        raise failure("InternalFailure", 501)


def test_no_other_module_knows_the_codes_of_a_missing_call() -> None:
    codes = re.compile(r'"(InvalidAction|NotImplemented|UnknownOperation(Exception)?|InternalFailure|501)"')
    found = [path.name for path in sorted(ADAPTERS.rglob("*.py")) if codes.search(path.read_text())]
    assert found == ["errors.py"]


@pytest.mark.parametrize(("made", "held"), [
    ((), 0), (("pipeline",), 4), (("pipeline", "api"), 14), (("api",), 0)
])  # fmt: skip
def test_executions_are_held_by_what_a_region_has_and_not_by_an_api_that_it_is_without(
    made: tuple[str, ...], held: int
) -> None:
    config = StageConfig.load("prod", {"api": True})
    names = {f"metering-prod-{part}" for part in made}
    stacks = SimpleNamespace(describe=lambda _region, name: name if name in names else None)
    settings = SimpleNamespace(current=lambda _region: SimpleNamespace(config=config))
    parts = {"asked": Asked(stage="prod"), "ports": SimpleNamespace(stacks=stacks), "settings": settings}
    assert Fleet._held(cast("Fleet", SimpleNamespace(**parts)), "eu-west-1") == held

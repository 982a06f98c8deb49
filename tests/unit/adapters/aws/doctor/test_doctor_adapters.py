"""How the doctor reads AWS's responses, and cleans up its resources after a failed call."""

import json
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from io import BytesIO
from types import SimpleNamespace
from typing import Any, cast

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError, UnknownServiceError
from botocore.stub import Stubber

from metering.adapters.aws.demands import Demands
from metering.adapters.aws.doctor import AthenaEngine, AwsFacts, AwsScratch, asking
from metering.errors import MeteringError, OperationFailedError, UnavailableError
from metering.fleet.ports import RegionStacks
from metering.fleet.regions import ListedRegion, Phase, RegionState
from metering.operations.alarms import ALARMS, alarm_name
from metering.operations.doctor.bench import BuiltRegion, CannotAskError, EndlessListingError, EngineHour, RefusedError
from metering.stores.writes import Table
from metering.usage.totals import Total
from tests import ROOT
from tests.unit.adapters.aws.stubs import Stubbed, client, stubbed

NOON = datetime(2026, 11, 18, 12, tzinfo=UTC)
HOUR = 1_795_000_000 - 1_795_000_000 % 3600


def refusal(code: str, status: int = 400, message: str = "because") -> ClientError:
    answer: Any = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(answer, "CreateTable")


@pytest.mark.parametrize(("error", "kind", "words"), [
    (refusal("AccessDenied", 403), CannotAskError, "the caller may not call CreateTable"),
    (refusal("InvalidAction"), CannotAskError, "this endpoint has no CreateTable"),
    (refusal("Odd", 501), CannotAskError, "this endpoint has no CreateTable"),
    (refusal("400", 400, ""), CannotAskError, "with 400 and no words"),
    (refusal("503", 503, ""), UnavailableError, "503"),
    (refusal("ThrottlingException"), UnavailableError, "ThrottlingException"),
    (
        refusal("BadDigest", 400, "The digest\n differs"),
        RefusedError,
        "CreateTable was refused: The digest differs",
    ),
    (EndpointConnectionError(endpoint_url="https://x"), CannotAskError, "no endpoint here"),
    (UnknownServiceError(service_name="x", known_service_names=[]), CannotAskError, "the SDK cannot ask"),
    (OperationFailedError("No logs.", "Look elsewhere."), CannotAskError, "No logs."),
])  # fmt: skip
def test_an_answer_is_no_right_no_call_or_a_refusal(error: Exception, kind: type[MeteringError], words: str) -> None:
    with pytest.raises(kind) as caught, asking():
        raise error
    assert words in str(caught.value)


def facts_of(
    clients: Any = None,
    *,
    states: tuple[RegionState, ...] = (),
    listed: tuple[ListedRegion, ...] = (),
    functions: Mapping[str, str] = {},  # nobody changes it
) -> AwsFacts:
    return AwsFacts(
        clients,
        bucket="data",
        tables={Table.LEDGER: "ledger", Table.USAGE: "usage"},
        names=RegionStacks.of("prod"),
        topics={"page": "arn:aws:sns:us-east-1:123456789012:page"},
        qualifier="hnb659fds",
        functions=lambda: functions,
        logs=cast("Any", lambda: SimpleNamespace(slowest_starts_ms=lambda *, from_s: {"watch": from_s})),
        account=cast("Any", lambda: SimpleNamespace(regions=lambda: listed)),
        states=lambda: states,
    )


@pytest.fixture
def s3() -> Iterator[Stubbed]:
    yield from stubbed("s3")


def page(*keys: str, token: str = "") -> dict[str, object]:
    entries = [{"Key": key, "Size": 1, "ETag": '"e"', "LastModified": NOON} for key in keys]
    more = {"NextContinuationToken": token} if token else {}
    return {"IsTruncated": bool(token), **({"Contents": entries} if entries else {}), **more}


def test_pages_of_a_listing_are_counted_with_the_empty_ones(s3: Stubbed) -> None:
    """Deleted objects can cause empty pages before the last page; no emulator returns such pages."""
    for answer in (page(token="1"), page("a", token="2"), page(token="3"), page("b")):
        s3[1].add_response("list_objects_v2", answer)
    found = facts_of(SimpleNamespace(s3=s3[0])).pages("p/", most=10)
    assert (found.keys, found.pages, found.empty) == (("a", "b"), 4, 2)


def test_a_listing_that_does_not_end_is_given_up(s3: Stubbed) -> None:
    for _ in range(4):
        s3[1].add_response("list_objects_v2", page(token="again"))
    with pytest.raises(EndlessListingError, match="more than 3 pages"):
        facts_of(SimpleNamespace(s3=s3[0])).pages("p/", most=3)


@pytest.mark.parametrize(
    ("answer", "versioned"), [({}, False), ({"Status": "Suspended"}, False), ({"Status": "Enabled"}, True)]
)
def test_a_bucket_keeps_versions_only_if_it_says_so(s3: Stubbed, answer: dict[str, str], versioned: bool) -> None:
    s3[1].add_response("get_bucket_versioning", answer)
    assert facts_of(SimpleNamespace(s3=s3[0])).bucket_is_versioned() is versioned


def test_a_table_takes_what_it_says_and_nothing_is_made_up() -> None:
    dynamodb = client("dynamodb")
    with Stubber(dynamodb) as stubs:
        stubs.add_response("describe_table", {"Table": {"WarmThroughput": {"WriteUnitsPerSecond": 12_000}}})
        stubs.add_response("describe_table", {"Table": {}})
        facts = facts_of(SimpleNamespace(dynamodb=dynamodb))
        assert facts.writes_per_s(Table.USAGE) == 12_000
        with pytest.raises(CannotAskError, match="does not say"):
            facts.writes_per_s(Table.USAGE)
        units = {"ReadCapacityUnits": 200, "WriteCapacityUnits": 450}
        stubs.add_response("describe_table", {"Table": {"ProvisionedThroughput": units}})
        stubs.add_response("describe_table", {"Table": {}})
        assert facts.provisioned_writes_per_s(Table.LEDGER) == 450
        assert facts.provisioned_writes_per_s(Table.LEDGER) == 0


def test_restore_points_are_those_of_the_ledger() -> None:
    dynamodb = client("dynamodb")
    ends = {"EarliestRestorableDateTime": NOON, "LatestRestorableDateTime": NOON + timedelta(days=35)}
    with Stubber(dynamodb) as stubs:
        for found in ({"PointInTimeRecoveryStatus": "ENABLED", **ends}, {"PointInTimeRecoveryStatus": "DISABLED"}):
            answer = {"ContinuousBackupsStatus": "ENABLED", "PointInTimeRecoveryDescription": found}
            stubs.add_response(
                "describe_continuous_backups", {"ContinuousBackupsDescription": answer}, {"TableName": "ledger"}
            )
        stubs.add_response("describe_table", {"Table": {"TableSizeBytes": 7}}, {"TableName": "ledger"})
        facts = facts_of(SimpleNamespace(dynamodb=dynamodb, access=SimpleNamespace(custom_endpoint=False)))
        noon_s = int(NOON.timestamp())
        assert facts.restore_window() == (noon_s, noon_s + 35 * 86_400)
        assert facts.restore_window() is None
        assert facts.ledger_bytes() == 7
    with pytest.raises(CannotAskError, match="no restore points"):
        facts_of(SimpleNamespace(access=SimpleNamespace(custom_endpoint=True))).restore_window()


def test_versions_of_staging_live_as_the_shortest_rule_says(s3: Stubbed) -> None:
    def rule(days: int, prefix: str = "", status: str = "Enabled") -> dict[str, object]:
        noncurrent = {"NoncurrentVersionExpiration": {"NoncurrentDays": days}}
        return {"Status": status, "Filter": {"Prefix": prefix}, **noncurrent}

    ingest = {"Status": "Enabled", "Filter": {"Prefix": "ingest/"}, "Expiration": {"Days": 1}}
    rules = [rule(35), rule(1, "doctor/"), rule(2, status="Disabled"), ingest]
    s3[1].add_response("get_bucket_lifecycle_configuration", {"Rules": rules})
    s3[1].add_response("get_bucket_lifecycle_configuration", {"Rules": [ingest]})
    facts = facts_of(SimpleNamespace(s3=s3[0]))
    assert facts.noncurrent_days() == 35
    assert facts.noncurrent_days() is None


def test_a_function_that_works_with_another_ledger_is_named() -> None:
    tables = {"watch": {"METERING_LEDGER_TABLE": "ledger"}, "canary": {"METERING_LEDGER_TABLE": "ledger-1"}, "log": {}}

    def described(FunctionName: str) -> dict[str, object]:  # noqa: N803  # the SDK's
        return {"Environment": {"Variables": tables[FunctionName]}}

    clients = SimpleNamespace(lambda_=SimpleNamespace(get_function_configuration=described))
    assert facts_of(clients, functions={name.capitalize(): name for name in tables}).other_ledgers() == {
        "canary": "ledger-1"
    }


def test_the_quota_is_that_of_a_table_on_demand() -> None:
    asked: dict[str, str] = {}

    def quota(**arguments: str) -> dict[str, dict[str, float]]:
        asked.update(arguments)
        return {"Quota": {"Value": 40_000.0}}

    facts = facts_of(SimpleNamespace(service_quotas=SimpleNamespace(get_service_quota=quota)))
    assert facts.table_quota_per_s() == 40_000
    assert asked == {"ServiceCode": "dynamodb", "QuotaCode": "L-AB614373"}


def test_a_region_is_opted_in_if_the_account_asked_for_it() -> None:
    listed = (
        ListedRegion(name="ap-east-1", opt_status="ENABLED"),
        ListedRegion(name="eu-west-1", opt_status="ENABLED_BY_DEFAULT"),
        ListedRegion(name="us-east-1", opt_status="ENABLED_BY_DEFAULT"),
    )
    states = tuple(RegionState(region=name, phase=Phase.READY) for name in ("ap-east-1", "eu-west-1", "us-east-1"))
    clients = SimpleNamespace(access=SimpleNamespace(region="us-east-1"))
    found = facts_of(clients, states=states, listed=listed).regions()
    assert found == [
        BuiltRegion(name="ap-east-1", ready=True, opted_in=True),
        BuiltRegion(name="eu-west-1", ready=True, opted_in=False),
    ]


class Rollout:
    """CloudFormation and CodeBuild of a home region."""

    def __init__(self, builds: Mapping[str, str]) -> None:
        outputs = [{"OutputKey": "RolloutProjectName", "OutputValue": "rollout"}]
        self.cloudformation = SimpleNamespace(describe_stacks=lambda StackName: {"Stacks": [{"Outputs": outputs}]})  # noqa: N803  # the SDK's
        self.codebuild = SimpleNamespace(
            list_builds_for_project=lambda projectName: {"ids": list(builds) if projectName == "rollout" else []},  # noqa: N803  # the SDK's
            batch_get_builds=lambda ids: {
                "builds": [{"id": each, "buildStatus": builds[each]} for each in reversed(ids)]
            },
        )
        self.access = SimpleNamespace(region="us-east-1")


def test_builds_are_told_newest_first_without_one_that_still_runs() -> None:
    assert facts_of(Rollout({"3": "IN_PROGRESS", "2": "FAILED", "1": "SUCCEEDED"})).builds("rollout") == [
        "FAILED",
        "SUCCEEDED",
    ]
    assert facts_of(Rollout({})).builds("rollout") == ()
    assert facts_of(Rollout({})).project() == "rollout"


def test_a_stage_without_a_project_has_none() -> None:
    def missing(StackName: str) -> None:  # noqa: N803  # the SDK's
        answer: Any = {"Error": {"Code": "ValidationError", "Message": f"Stack {StackName} does not exist"}}
        raise ClientError(answer, "DescribeStacks")

    clients = SimpleNamespace(
        cloudformation=SimpleNamespace(describe_stacks=missing), access=SimpleNamespace(region="eu-west-1")
    )
    assert facts_of(clients).project() == ""


def test_a_function_is_asked_and_one_that_knows_no_question_says_so(lambda_: Stubbed) -> None:
    facts = facts_of(SimpleNamespace(lambda_=lambda_[0]), functions={"Compactor": "compactor-1"})
    asked = {"FunctionName": "compactor-1", "Payload": b'{"probe": "missing-key"}'}
    for answer in (b'{"probe": "404"}', b'{"runs": 0}'):
        lambda_[1].add_response("invoke", {"StatusCode": 200, "Payload": BytesIO(answer)}, asked)
    assert facts.compactor_sees() == "404"
    with pytest.raises(CannotAskError, match="knows no such question"):
        facts.compactor_sees()


def test_a_compactor_that_fails_at_the_question_is_no_answer(lambda_: Stubbed) -> None:
    facts = facts_of(SimpleNamespace(lambda_=lambda_[0]), functions={"Compactor": "compactor-1"})
    answer = {"StatusCode": 200, "FunctionError": "Unhandled", "Payload": BytesIO(b'{"errorMessage": "AccessDenied"}')}
    lambda_[1].add_response("invoke", answer)
    with pytest.raises(RefusedError, match="the compactor failed: AccessDenied"):
        facts.compactor_sees()


@pytest.fixture
def lambda_() -> Iterator[Stubbed]:
    yield from stubbed("lambda")


def test_unreserved_concurrency_is_that_of_the_account(lambda_: Stubbed) -> None:
    lambda_[1].add_response("get_account_settings", {"AccountLimit": {"UnreservedConcurrentExecutions": 50}})
    assert facts_of(SimpleNamespace(lambda_=lambda_[0])).unreserved_executions() == 50


def test_a_bootstrap_says_its_version_or_is_not_there() -> None:
    ssm = client("ssm")
    with Stubber(ssm) as stubs:
        asked = {"Name": "/cdk-bootstrap/hnb659fds/version"}
        stubs.add_response("get_parameter", {"Parameter": {"Value": "21"}}, asked)
        stubs.add_client_error("get_parameter", "ParameterNotFound", expected_params=asked)
        stubs.add_client_error("get_parameter", "AccessDeniedException", expected_params=asked)
        facts = facts_of(SimpleNamespace(ssm=ssm))
        assert facts.bootstrap_version() == 21
        assert facts.bootstrap_version() is None
        with pytest.raises(CannotAskError, match="may not call GetParameter"):
            facts.bootstrap_version()


@pytest.mark.parametrize(
    ("status", "attribute"), [("ENABLED", "expires_at"), ("ENABLING", "expires_at"), ("DISABLED", "")]
)
def test_items_expire_by_an_attribute_that_is_on(status: str, attribute: str) -> None:
    dynamodb = client("dynamodb")
    with Stubber(dynamodb) as stubs:
        answer = {"TimeToLiveStatus": status, "AttributeName": "expires_at"}
        stubs.add_response("describe_time_to_live", {"TimeToLiveDescription": answer}, {"TableName": "ledger"})
        assert facts_of(SimpleNamespace(dynamodb=dynamodb)).expiry_attribute(Table.LEDGER) == attribute


@pytest.mark.parametrize(("status", "on"), [("ENABLED", True), ("DISABLED", False)])
def test_a_table_is_restorable_if_its_recovery_is_on(status: str, on: bool) -> None:
    dynamodb = client("dynamodb")
    with Stubber(dynamodb) as stubs:
        found = {
            "ContinuousBackupsStatus": "ENABLED",
            "PointInTimeRecoveryDescription": {"PointInTimeRecoveryStatus": status},
        }
        stubs.add_response(
            "describe_continuous_backups", {"ContinuousBackupsDescription": found}, {"TableName": "usage"}
        )
        assert facts_of(SimpleNamespace(dynamodb=dynamodb)).is_restorable(Table.USAGE) is on


def as_s3_has_it(rule: Mapping[str, Any]) -> dict[str, Any]:
    """A rule of a template in S3's spelling."""
    where: dict[str, Any] = {"Prefix": rule.get("Prefix", "")}
    if "ObjectSizeGreaterThan" in rule:
        where = {"And": {**where, "ObjectSizeGreaterThan": rule["ObjectSizeGreaterThan"]}}
    found: dict[str, Any] = {"ID": rule["Id"], "Status": rule["Status"], "Filter": where}
    if "ExpirationInDays" in rule:
        found["Expiration"] = {"Days": rule["ExpirationInDays"]}
    if "ExpiredObjectDeleteMarker" in rule:
        found["Expiration"] = {"ExpiredObjectDeleteMarker": True}
    for name in ("NoncurrentVersionExpiration", "AbortIncompleteMultipartUpload"):
        if name in rule:
            found[name] = rule[name]
    if "Transitions" in rule:
        moves = rule["Transitions"]
        found["Transitions"] = [
            {"Days": each["TransitionInDays"], "StorageClass": each["StorageClass"]} for each in moves
        ]
    return found


def declared(part: str) -> dict[str, Any]:
    """The template of stage prod, as CloudFormation answers it."""
    templates: dict[str, Any] = json.loads((ROOT / "tests/infra/snapshots/prod.json").read_text())
    return {"TemplateBody": json.dumps(templates[part]["template"])}


def test_the_rules_of_the_template_and_the_same_rules_in_s3_read_alike(s3: Stubbed) -> None:
    cloudformation = client("cloudformation")
    resources = json.loads(declared("data")["TemplateBody"])["Resources"].values()
    [bucket] = [each["Properties"] for each in resources if each["Type"] == "AWS::S3::Bucket"]
    rules = [as_s3_has_it(rule) for rule in bucket["LifecycleConfiguration"]["Rules"]]
    changed = [{**rule, "Status": "Disabled"} if rule["ID"] == "markers" else rule for rule in rules]
    with Stubber(cloudformation) as stubs:
        stubs.add_response("get_template", declared("data"), {"StackName": "metering-prod-data"})
        facts = facts_of(SimpleNamespace(s3=s3[0], cloudformation=cloudformation))
        template = facts.lifecycle(declared=True)
    for answer in (rules, changed):
        s3[1].add_response("get_bucket_lifecycle_configuration", {"Rules": answer})
    assert facts.lifecycle(declared=False) == template
    found = facts.lifecycle(declared=False)
    assert {name for name in template if found[name] != template[name]} == {"markers"}
    assert template["lake-classes"] == (
        "lake/ from 131072 bytes moves to STANDARD_IA after 60 days and moves to GLACIER_IR after 180 days"
    )
    assert template["noncurrent"] == "everywhere deletes versions after 35 days and deletes markers of nothing"
    assert found["markers"] == "markers/ deletes after 51 days, and is off"


def test_the_mapping_of_the_template_and_that_of_lambda_read_alike(lambda_: Stubbed) -> None:
    cloudformation = client("cloudformation")
    facts = facts_of(
        SimpleNamespace(lambda_=lambda_[0], cloudformation=cloudformation), functions={"Aggregator": "aggregator-1"}
    )
    made = {
        "State": "Enabled", "BatchSize": 95, "MaximumBatchingWindowInSeconds": 15,
        "ScalingConfig": {"MaximumConcurrency": 20}, "FunctionResponseTypes": ["ReportBatchItemFailures"],
    }  # fmt: skip
    provisioned = {**made, "State": "Disabled", "ProvisionedPollerConfig": {"MaximumPollers": 4}}
    for found in ([made], [provisioned], []):
        lambda_[1].add_response(
            "list_event_source_mappings", {"EventSourceMappings": found}, {"FunctionName": "aggregator-1"}
        )
    with Stubber(cloudformation) as stubs:
        stubs.add_response("get_template", declared("pipeline"), {"StackName": "metering-prod-pipeline"})
        assert facts.mapping(declared=True) == facts.mapping(declared=False)
    changed = facts.mapping(declared=False)
    assert changed is not None
    assert (changed.state, changed.pollers) == ("Disabled", 4)
    assert facts.mapping(declared=False) is None


def test_the_newest_action_of_each_alarm_is_read() -> None:
    asked: list[str] = []

    def history(AlarmName: str, **arguments: object) -> dict[str, object]:  # noqa: N803  # the SDK's
        assert (arguments["HistoryItemType"], arguments["MaxRecords"]) == ("Action", 1)
        asked.append(AlarmName)
        summary = "Failed to execute action arn:x" if "dead" in AlarmName else "Successfully executed action arn:x"
        told = AlarmName in {"metering-prod-dead-letters", f"metering-prod-{ALARMS[-1].name}"}
        items = [{"AlarmName": AlarmName, "Timestamp": NOON, "HistorySummary": summary}] if told else []
        return {"AlarmHistoryItems": items}

    facts = facts_of(SimpleNamespace(cloudwatch=SimpleNamespace(describe_alarm_history=history)))
    found = {each.alarm.removeprefix("metering-prod-"): each.succeeded for each in facts.alarm_actions(since_s=HOUR)}
    assert found == {"dead-letters": False, ALARMS[-1].name: True}
    assert asked == [alarm_name("prod", spec.name) for spec in ALARMS]


def test_what_sns_could_not_deliver_is_added_up_over_days() -> None:
    cloudwatch = client("cloudwatch")
    with Stubber(cloudwatch) as stubs:
        stubs.add_response("get_metric_statistics", {"Datapoints": [{"Sum": 2.0}, {"Sum": 1.0}]})
        stubs.add_response("get_metric_statistics", {"Datapoints": []})
        facts = facts_of(SimpleNamespace(cloudwatch=cloudwatch))
        assert facts.undelivered("page", since_s=HOUR) == 3
        assert facts.undelivered("page", since_s=HOUR) == 0


class Calls:
    """Clients that record each call, and fail the call that a test names. Mutable."""

    def __init__(self, fails: str = "") -> None:
        self.made: list[str] = []
        self.tags: list[object] = []
        self._fails = fails
        for service in ("sqs", "sns", "cloudwatch", "dynamodb"):
            setattr(self, service, _Service(self))

    def call(self, name: str, arguments: Mapping[str, object]) -> dict[str, Any]:
        self.made.append(name)
        if name.startswith(("create_", "put_")):
            self.tags.append(arguments.get("tags", arguments.get("Tags")))
        if name == self._fails:
            raise refusal("AccessDenied", 403)
        return {
            "QueueUrl": f"url-{len(self.made)}",
            "SubscriptionArn": "arn:subscription",
            "Attributes": {"QueueArn": "arn:queue"},
        }


class _Service:
    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self.meta = client("dynamodb").meta

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name == "get_waiter":
            return lambda _name: SimpleNamespace(wait=lambda **_: None)
        return lambda **arguments: self._calls.call(name, arguments)


def scratch_of(calls: Any) -> AwsScratch:
    topics = {"page": "arn:page", "ticket": "arn:ticket"}
    token = "0123456789abcdef"  # no secret
    demands = Demands(tags={"team": "data"})
    return AwsScratch(calls, prefix="metering-prod-doctor", token=token, topics=topics, demands=demands)


@pytest.mark.parametrize(("fails", "left"), [
    ("create_queue", []),
    ("subscribe", ["delete_queue"]),
    ("put_metric_alarm", ["unsubscribe", "delete_queue"]),
    ("", ["delete_alarms", "unsubscribe", "delete_queue"]),
])  # fmt: skip
def test_what_was_made_for_an_alarm_goes_whichever_call_fails(fails: str, left: list[str]) -> None:
    calls = Calls(fails)
    try:
        with scratch_of(calls).alarm("page"):
            pass
    except CannotAskError:
        assert fails
    gone = [name for name in calls.made if name.startswith(("delete", "unsubscribe"))]
    assert gone == left


def test_queues_and_table_go_when_a_check_fails() -> None:
    calls = Calls()
    with pytest.raises(RefusedError), scratch_of(calls).queues():
        raise RefusedError("x")
    with pytest.raises(RefusedError), scratch_of(calls).slow_table():
        raise RefusedError("x")
    assert calls.made.count("create_queue") == calls.made.count("delete_queue") == 2
    assert calls.made[-2:] == ["create_table", "delete_table"]
    # An organisation may refuse what has no tags.
    assert calls.tags == [{"team": "data"}, {"team": "data"}, [{"Key": "team", "Value": "data"}]]


class Athena:
    """An Athena that returns one row for each query, after a delay."""

    def __init__(self, *rows: tuple[str, ...], state: str = "SUCCEEDED") -> None:
        self.queries: list[str] = []
        self._rows = list(rows)
        self._states = ["QUEUED", "RUNNING", state] * len(rows)

    def start_query_execution(self, **arguments: object) -> Mapping[str, str]:
        assert (arguments["WorkGroup"], arguments["QueryExecutionContext"]) == ("metering-prod", {"Database": "lake"})
        self.queries.append(str(arguments["QueryString"]))
        return {"QueryExecutionId": "q"}

    def get_query_execution(self, **_arguments: object) -> Any:
        return {"QueryExecution": {"Status": {"State": self._states.pop(0), "StateChangeReason": "no such table"}}}

    def get_query_results(self, **_arguments: object) -> Any:
        cells = [{"VarCharValue": value} for value in self._rows.pop(0)]
        return {"ResultSet": {"Rows": [{"Data": [{"VarCharValue": "_col0"}]}, {"Data": cells}]}}


def engine_of(athena: Athena) -> AthenaEngine:
    return AthenaEngine(athena, database="lake", workgroup="metering-prod", sleep=lambda _: None)


def test_an_hour_is_asked_by_its_partition_in_rows_and_in_the_view() -> None:
    athena = Athena(("500", "5"), ("400", "4"), ("300", "3", "0"))
    found = engine_of(athena).hour(HOUR)
    assert found == EngineHour(usage=Total(500, 5), totals=Total(400, 4), rows=Total(300, 3), strange_times=0)
    tables = [query.split(" FROM ")[1].split()[0] for query in athena.queries]
    assert tables == ["usage", "totals", "transfers"]
    assert all("WHERE dt = '2026-11-18' AND hour = '" in query for query in athena.queries)


def test_a_query_that_fails_says_why() -> None:
    with pytest.raises(RefusedError, match="FAILED: no such table"):
        engine_of(Athena(("1", "1"), state="FAILED")).hour(HOUR)

"""How the doctor reads AWS's responses, and cleans up its resources after a failed call."""

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError, UnknownServiceError
from botocore.stub import Stubber

from metering.adapters.aws.doctor import AthenaEngine, AwsFacts, AwsScratch, asking
from metering.errors import MeteringError, OperationFailedError, UnavailableError
from metering.fleet.regions import ListedRegion, Phase, RegionState
from metering.operations.doctor.bench import BuiltRegion, CannotAskError, EndlessListingError, EngineHour, RefusedError
from metering.stores.writes import Table
from metering.usage.totals import Total
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
    functions: tuple[str, ...] = (),
) -> AwsFacts:
    return AwsFacts(
        clients,
        bucket="data",
        tables={Table.LEDGER: "ledger", Table.USAGE: "usage"},
        rollout="metering-prod-rollout",
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
    assert facts_of(clients, functions=tuple(tables)).other_ledgers() == {"canary": "ledger-1"}


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
    assert facts_of(Rollout({"3": "IN_PROGRESS", "2": "FAILED", "1": "SUCCEEDED"})).builds() == ["FAILED", "SUCCEEDED"]
    assert facts_of(Rollout({})).builds() == ()


def test_a_stage_without_a_project_is_not_known() -> None:
    def missing(StackName: str) -> None:  # noqa: N803  # the SDK's
        answer: Any = {"Error": {"Code": "ValidationError", "Message": f"Stack {StackName} does not exist"}}
        raise ClientError(answer, "DescribeStacks")

    clients = SimpleNamespace(
        cloudformation=SimpleNamespace(describe_stacks=missing), access=SimpleNamespace(region="eu-west-1")
    )
    with pytest.raises(CannotAskError, match="no project here"):
        facts_of(clients).builds()


class Calls:
    """Clients that record each call, and fail the call that a test names. Mutable."""

    def __init__(self, fails: str = "") -> None:
        self.made: list[str] = []
        self._fails = fails
        for service in ("sqs", "sns", "cloudwatch", "dynamodb"):
            setattr(self, service, _Service(self))

    def call(self, name: str) -> dict[str, Any]:
        self.made.append(name)
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
        return lambda **_arguments: self._calls.call(name)


def scratch_of(calls: Any) -> AwsScratch:
    topics = {"page": "arn:page", "ticket": "arn:ticket"}
    token = "0123456789abcdef"  # no secret
    return AwsScratch(calls, prefix="metering-prod-doctor", token=token, topics=topics)


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

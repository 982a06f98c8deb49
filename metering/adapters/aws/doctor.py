"""The doctor's calls to AWS, and the only code that maps AWS errors to the doctor's errors."""

from __future__ import annotations

import json
import time
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol, cast

from botocore.exceptions import BotoCoreError, ClientError, EndpointConnectionError, WaiterError

from metering.adapters.aws import items, objects, probe, restoring, stacks
from metering.adapters.aws.demands import NOTHING, Demands
from metering.adapters.aws.errors import error_code, is_denied, is_unknown_call, unavailable
from metering.adapters.aws.queues import SqsQueue
from metering.errors import OperationFailedError, SettingsError, UnavailableError
from metering.fleet.regions import Phase, RegionState
from metering.hours import hour_label
from metering.metric_names import NAMESPACE
from metering.operations.alarms import ALARMS, alarm_name
from metering.operations.doctor import bench
from metering.operations.doctor.bench import MISSING_KEY, PROBE
from metering.stores.objects import STAGING_PREFIX
from metering.stores.writes import Table
from metering.units import DAY_S
from metering.usage.totals import Total

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from mypy_boto3_s3.type_defs import LifecycleRuleOutputTypeDef

    from metering.adapters.aws import cloudwatch, session
    from metering.fleet import ports


# Without a response body, botocore gives the HTTP status as the error code. AWS's HEAD responses have no body.
_NO_SUCH_PLACE = frozenset({"404", "UnknownService"})


@contextmanager
def asking() -> Iterator[None]:
    """Translate an SDK error that the `with` block raises.

    Raises:
        CannotAskError: The caller lacks a permission, or the endpoint does not implement the call or cannot answer it.
        RefusedError: AWS refused the call for a reason other than permissions.
        UnavailableError: It gave no answer.
    """
    try:
        yield
    except ClientError as error:
        raise _translated(error) from error
    except EndpointConnectionError as error:
        raise bench.CannotAskError(f"this service has no endpoint here: {error}") from error
    except BotoCoreError as error:
        raise bench.CannotAskError(f"the SDK cannot ask: {' '.join(str(error).split())}") from error
    except OperationFailedError as error:
        raise bench.CannotAskError(str(error)) from error


def _translated(error: ClientError) -> Exception:
    call, code = error.operation_name, error_code(error)
    if code in _NO_SUCH_PLACE or is_unknown_call(error):
        return bench.CannotAskError(f"this endpoint has no {call}")
    if code.isdecimal():
        return unavailable(call, error) or bench.CannotAskError(
            f"this endpoint answers {call} with {code} and no words"
        )
    if is_denied(error):
        return bench.CannotAskError(f"the caller may not call {call}", f"Run it with credentials that may call {call}.")
    return unavailable(call, error) or bench.RefusedError(f"{call} was refused: {_message(error)}")


def _message(error: ClientError) -> str:
    return " ".join((error.response.get("Error", {}).get("Message") or error_code(error)).split())


if TYPE_CHECKING:
    _Json = Mapping[str, object]
    _Line = Mapping[str, Sequence[Mapping[str, str]]]

_POLL_S = 1.0
_PATIENCE_S = 120.0
_WAITING = frozenset({"QUEUED", "RUNNING"})
_SUMS = "SELECT coalesce(sum(bytes), 0), coalesce(sum(records), 0) FROM {name} WHERE dt = '{dt}' AND hour = '{hour}'"
# Engines that confuse microseconds with milliseconds return times thousands of years away, or before 1971.
_ROWS = (
    "SELECT coalesce(sum(CAST(bytes AS decimal(38,0))), 0), count(*), "
    "count_if(start_time < timestamp '2000-01-01 00:00:00' OR start_time > timestamp '2200-01-01 00:00:00') "
    "FROM transfers WHERE dt = '{dt}' AND hour = '{hour}'"
)


class AthenaClient(Protocol):
    """Calls of the SDK's Athena client, which has no type stubs here."""

    def start_query_execution(self, **arguments: object) -> Mapping[str, str]: ...
    def get_query_execution(self, **arguments: object) -> Mapping[str, Mapping[str, Mapping[str, str]]]: ...
    def get_query_results(self, **arguments: object) -> Mapping[str, Mapping[str, Sequence[_Line]]]: ...


class AthenaEngine:
    """Athena over the tables of a stage."""

    def __init__(
        self, client: AthenaClient, *, database: str, workgroup: str, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._client = client
        self._database = database
        self._workgroup = workgroup
        self._sleep = sleep

    def hour(self, hour_s: int) -> bench.EngineHour:
        label = hour_label(hour_s)
        place = {"dt": label[:10], "hour": label[11:]}
        usage, totals = (self._row(_SUMS.format(name=name, **place)) for name in ("usage", "totals"))
        rows = self._row(_ROWS.format(**place))
        return bench.EngineHour(
            usage=Total(usage[0], usage[1]),
            totals=Total(totals[0], totals[1]),
            rows=Total(rows[0], rows[1]),
            strange_times=rows[2],
        )

    def _row(self, sql: str) -> list[int]:
        with asking():
            query = self._client.start_query_execution(
                QueryString=sql, QueryExecutionContext={"Database": self._database}, WorkGroup=self._workgroup
            )["QueryExecutionId"]
        self._wait(query)
        with asking():
            rows = self._client.get_query_results(QueryExecutionId=query)["ResultSet"]["Rows"]
        if len(rows) != 2:
            raise bench.RefusedError(f"Athena answered {len(rows)} lines, not a heading and a row")
        return [int(cell.get("VarCharValue", "0")) for cell in rows[1].get("Data", [])]

    def _wait(self, query: str) -> None:
        waited_s = 0.0
        while True:
            with asking():
                status = self._client.get_query_execution(QueryExecutionId=query)["QueryExecution"].get("Status", {})
            state = status.get("State", "")
            if state not in _WAITING:
                break
            if waited_s >= _PATIENCE_S:
                raise UnavailableError("athena.GetQueryExecution", f"the query took longer than {_PATIENCE_S:.0f} s")
            self._sleep(_POLL_S)
            waited_s += _POLL_S
        if state != "SUCCEEDED":
            raise bench.RefusedError(f"Athena's query ended as {state}: {status.get('StateChangeReason', 'no reason')}")


_LISTED = "after-call.s3.ListObjectsV2"
_MOST_BUILDS = 20
# Opt-in status of a region that the account has explicitly enabled (account API reference).
_OPTED_IN = "ENABLED"
# Constructs of functions, whose names begin the logical ids of their resources.
_COMPACTOR = "Compactor"
_AGGREGATOR = "Aggregator"
# Of SQS, unless a mapping says otherwise (Lambda API reference).
_BATCH_SIZE = 10
_ON = frozenset({"ENABLED", "ENABLING"})
_NO_RULES = "NoSuchLifecycleConfiguration"
# Summary of a failed action in an alarm's history (CloudWatch user guide, alarm actions).
_FAILED_ACTION = "Failed to execute action"
# Variable of the functions' environment.
_LEDGER = "METERING_LEDGER_TABLE"


class AwsFacts:
    """Facts about one stage in the region of `clients`, read with the caller's own permissions.

    Args:
        names: Names of the stage's stacks.
        topics: ARN of the topic of each severity.
        qualifier: Of the CDK bootstrap that the stacks are deployed with.
        functions: Returns the names of the stage's functions by their constructs: `Aggregator`.
        states: Returns the region states in this region's ledger.
    """

    def __init__(
        self,
        clients: session.Clients,
        *,
        bucket: str,
        tables: Mapping[Table, str],
        names: ports.RegionStacks,
        topics: Mapping[str, str],
        qualifier: str,
        functions: Callable[[], Mapping[str, str]],
        logs: Callable[[], cloudwatch.CloudWatchFunctionLogs],
        account: Callable[[], ports.Account],
        states: Callable[[], Sequence[RegionState]],
    ) -> None:
        self._clients = clients
        self._bucket = bucket
        self._tables = tables
        self._names = names
        self._topics = topics
        self._qualifier = qualifier
        self._functions = functions
        self._logs = logs
        self._account = account
        self._states = states

    def bucket_is_versioned(self) -> bool:
        with asking():
            return self._clients.s3.get_bucket_versioning(Bucket=self._bucket).get("Status") == "Enabled"

    def pages(self, prefix: str, *, most: int) -> bench.Pages:
        sizes: list[int] = []

        def count(*, parsed: Mapping[str, object], **_others: object) -> None:
            sizes.append(len(cast("Sequence[object]", parsed.get("Contents", ()))))
            if len(sizes) > most:
                raise bench.EndlessListingError(f"a listing had more than {most} pages")

        events = self._clients.s3.meta.events
        events.register(_LISTED, count, unique_id="metering-doctor-pages")
        try:
            with asking():
                keys = tuple(each.key for each in objects.S3ObjectStore(self._clients.s3, self._bucket).list(prefix))
        finally:
            events.unregister(_LISTED, count, unique_id="metering-doctor-pages")
        return bench.Pages(keys=keys, pages=len(sizes), empty=sizes.count(0))

    def writes_per_s(self, table: Table) -> int:
        with asking():
            described = self._clients.dynamodb.describe_table(TableName=self._tables[table])["Table"]
        units = described.get("WarmThroughput", {}).get("WriteUnitsPerSecond")
        # An emulator may return `WarmThroughput` without the write units.
        if not units:
            raise bench.CannotAskError("this endpoint does not say what a table takes at once")
        return units

    def provisioned_writes_per_s(self, table: Table) -> int:
        with asking():
            described = self._clients.dynamodb.describe_table(TableName=self._tables[table])["Table"]
        return described.get("ProvisionedThroughput", {}).get("WriteCapacityUnits", 0)

    def table_quota_per_s(self) -> int:
        with asking():
            answer = self._clients.service_quotas.get_service_quota(
                ServiceCode=probe.TABLE_WRITES.service, QuotaCode=probe.TABLE_WRITES.code
            )
        return int(answer["Quota"]["Value"])

    def restore_window(self) -> tuple[int, int] | None:
        if self._clients.access.custom_endpoint:
            raise bench.CannotAskError("an emulator has no restore points")
        with asking():
            return self._restorable().window(self._tables[Table.LEDGER])

    def ledger_bytes(self) -> int:
        with asking():
            return self._restorable().size(self._tables[Table.LEDGER])[1]

    def _restorable(self) -> restoring.DynamoDbTables:
        return restoring.DynamoDbTables(self._clients, like=self._tables[Table.LEDGER], retained=True)

    def noncurrent_days(self) -> int | None:
        rules = self._rules()
        return min(
            (
                rule["NoncurrentVersionExpiration"].get("NoncurrentDays", 0)
                for rule in rules
                if rule["Status"] == "Enabled"
                and "NoncurrentVersionExpiration" in rule
                and STAGING_PREFIX.startswith(rule.get("Filter", {}).get("Prefix", rule.get("Prefix", "")))
            ),
            default=None,
        )

    def other_ledgers(self) -> Mapping[str, str]:
        found: dict[str, str] = {}
        with asking():
            for name in self._functions().values():
                described = self._clients.lambda_.get_function_configuration(FunctionName=name)
                found[name] = described.get("Environment", {}).get("Variables", {}).get(_LEDGER, "")
        return {name: table for name, table in found.items() if table not in {"", self._tables[Table.LEDGER]}}

    def cold_starts_ms(self, *, since_s: int) -> Mapping[str, int]:
        with asking():
            return self._logs().slowest_starts_ms(from_s=since_s)

    def regions(self) -> Sequence[bench.BuiltRegion]:
        with asking():
            opted = {region.name for region in self._account().regions() if region.opt_status == _OPTED_IN}
            return [
                bench.BuiltRegion(name=state.region, ready=state.phase is Phase.READY, opted_in=state.region in opted)
                for state in self._states()
                if state.region != self._clients.access.region
            ]

    def project(self) -> str:
        try:
            with asking():
                return stacks.read_outputs(self._clients, self._names.rollout).get("RolloutProjectName", "")
        except SettingsError:
            return ""

    def builds(self, project: str) -> Sequence[str]:
        with asking():
            ids = self._clients.codebuild.list_builds_for_project(projectName=project).get("ids", [])[:_MOST_BUILDS]
            if not ids:
                return ()
            found = self._clients.codebuild.batch_get_builds(ids=ids).get("builds", [])
        status = {build.get("id", ""): build.get("buildStatus", "") for build in found}
        return [status[each] for each in ids if status.get(each) not in {None, "", "IN_PROGRESS"}]

    def compactor_sees(self) -> str:
        with asking():
            answer = self._clients.lambda_.invoke(
                FunctionName=self._functions()[_COMPACTOR], Payload=json.dumps({PROBE: MISSING_KEY}).encode()
            )
            told = json.loads(answer["Payload"].read())
        if "FunctionError" in answer:
            raise bench.RefusedError(f"the compactor failed: {told.get('errorMessage', 'no message')}")
        if PROBE not in told:
            raise bench.CannotAskError("the deployed compactor knows no such question", "Deploy the stage again.")
        return str(told[PROBE])

    def unreserved_executions(self) -> int:
        with asking():
            limit = self._clients.lambda_.get_account_settings()["AccountLimit"]
        return limit["UnreservedConcurrentExecutions"]

    def bootstrap_version(self) -> int | None:
        with asking():
            return stacks.made_bootstrap(self._clients, self._qualifier) or None

    def expiry_attribute(self, table: Table) -> str:
        with asking():
            answer = self._clients.dynamodb.describe_time_to_live(TableName=self._tables[table])
        found = answer["TimeToLiveDescription"]
        return found.get("AttributeName", "") if found.get("TimeToLiveStatus") in _ON else ""

    def is_restorable(self, table: Table) -> bool:
        with asking():
            answer = self._clients.dynamodb.describe_continuous_backups(TableName=self._tables[table])
        recovery = answer["ContinuousBackupsDescription"].get("PointInTimeRecoveryDescription", {})
        return recovery.get("PointInTimeRecoveryStatus") in _ON

    def lifecycle(self, *, declared: bool) -> Mapping[str, str]:
        if not declared:
            return {rule.get("ID", ""): _rule(cast("_Json", rule)) for rule in self._rules()}
        [bucket] = self._declared(self._names.data, "AWS::S3::Bucket").values()
        configuration = cast("_Json", bucket["LifecycleConfiguration"])
        return {str(rule["Id"]): _rule(rule) for rule in cast("list[_Json]", configuration["Rules"])}

    def _rules(self) -> Sequence[LifecycleRuleOutputTypeDef]:
        with asking():
            try:
                return self._clients.s3.get_bucket_lifecycle_configuration(Bucket=self._bucket).get("Rules", [])
            except ClientError as error:
                if error_code(error) != _NO_RULES:
                    raise
                return ()

    def mapping(self, *, declared: bool) -> bench.EventMapping | None:
        if declared:
            made = self._declared(self._names.pipeline, "AWS::Lambda::EventSourceMapping")
            return next((_mapping(found) for name, found in made.items() if name.startswith(_AGGREGATOR)), None)
        with asking():
            answer = self._clients.lambda_.list_event_source_mappings(FunctionName=self._functions()[_AGGREGATOR])
        found = cast("list[_Json]", answer.get("EventSourceMappings", []))
        return _mapping(found[0]) if found else None

    def _declared(self, stack: str, kind: str) -> Mapping[str, _Json]:
        """Properties of the resources of a type in the template with which a stack was deployed, by logical id."""
        with asking():
            template = self._clients.cloudformation.get_template(StackName=stack)["TemplateBody"]
        # An emulator answers with text.
        document = cast("_Json", json.loads(template) if isinstance(template, str) else template)
        made = cast("Mapping[str, _Json]", document["Resources"])
        return {name: cast("_Json", each["Properties"]) for name, each in made.items() if each["Type"] == kind}

    def alarm_actions(self, *, since_s: int) -> Sequence[bench.AlarmAction]:
        found: list[bench.AlarmAction] = []
        for spec in ALARMS:
            with asking():
                answer = self._clients.cloudwatch.describe_alarm_history(
                    AlarmName=alarm_name(self._names.stage, spec.name),
                    AlarmTypes=["MetricAlarm", "CompositeAlarm"],
                    HistoryItemType="Action",
                    StartDate=datetime.fromtimestamp(since_s, UTC),
                    EndDate=datetime.now(UTC),
                    MaxRecords=1,
                    ScanBy="TimestampDescending",
                )
            found += [
                bench.AlarmAction(
                    alarm=item.get("AlarmName", ""),
                    at_s=int(item["Timestamp"].timestamp()),
                    succeeded=not item.get("HistorySummary", "").startswith(_FAILED_ACTION),
                    text=item.get("HistorySummary", ""),
                )
                for item in answer.get("AlarmHistoryItems", [])
            ]
        return found

    def undelivered(self, severity: str, *, since_s: int) -> int:
        now_s = int(time.time())
        topic = self._topics[severity].rpartition(":")[2]
        with asking():
            answer = self._clients.cloudwatch.get_metric_statistics(
                Namespace="AWS/SNS",
                MetricName="NumberOfNotificationsFailed",
                Dimensions=[{"Name": "TopicName", "Value": topic}],
                StartTime=datetime.fromtimestamp(since_s, UTC),
                EndTime=datetime.fromtimestamp(now_s, UTC),
                Period=DAY_S,
                Statistics=["Sum"],
            )
        return round(sum(point.get("Sum", 0) for point in answer["Datapoints"]))


def _mapping(found: _Json) -> bench.EventMapping:
    """Read a mapping as CloudFormation declares it, or as Lambda answers it: both name its properties alike."""
    scaling = cast("Mapping[str, int]", found.get("ScalingConfig") or {})
    pollers = cast("Mapping[str, int]", found.get("ProvisionedPollerConfig") or {})
    return bench.EventMapping(
        # A template says only that a mapping is off.
        state=str(found.get("State", "Enabled" if found.get("Enabled", True) else "Disabled")),
        batch_size=cast("int", found.get("BatchSize", _BATCH_SIZE)),
        window_s=cast("int", found.get("MaximumBatchingWindowInSeconds", 0)),
        concurrency=scaling.get("MaximumConcurrency"),
        pollers=pollers.get("MaximumPollers"),
        partial="ReportBatchItemFailures" in cast("Sequence[str]", found.get("FunctionResponseTypes") or ()),
    )


def _rule(rule: _Json) -> str:
    """Say what a lifecycle rule does, alike for CloudFormation's spelling and for S3's."""
    given = cast("_Json", rule.get("Filter") or {})
    limits = {**rule, **given, **cast("_Json", given.get("And") or {})}
    expiry = cast("_Json", rule.get("Expiration") or {})
    noncurrent = cast("_Json", rule.get("NoncurrentVersionExpiration") or {})
    aborts = cast("_Json", rule.get("AbortIncompleteMultipartUpload") or {})
    moves = [
        (cast("int", each.get("TransitionInDays", each.get("Days", 0))), str(each["StorageClass"]))
        for each in cast("Sequence[_Json]", rule.get("Transitions") or ())
    ]
    deeds = {
        "deletes after {} days": rule.get("ExpirationInDays", expiry.get("Days")),
        "deletes versions after {} days": noncurrent.get("NoncurrentDays"),
        "ends uploads after {} days": aborts.get("DaysAfterInitiation"),
        **{f"moves to {name} after {{}} days": days for days, name in sorted(moves)},
    }
    said = [text.format(value) for text, value in deeds.items() if value is not None]
    if rule.get("ExpiredObjectDeleteMarker", expiry.get("ExpiredObjectDeleteMarker")):
        said.append("deletes markers of nothing")
    least = limits.get("ObjectSizeGreaterThan")
    where = f"{limits.get('Prefix') or 'everywhere'}" + (f" from {least} bytes" if least is not None else "")
    return f"{where} {' and '.join(said)}" + ("" if rule.get("Status") == "Enabled" else ", and is off")


_MAX_RECEIVES = 3
_VISIBILITY_S = 30
_SCRATCH_POLL_S = 5
_MOST_MESSAGES = 10
_PERIOD_S = 60


class AwsScratch:
    """Temporary resources named `<prefix>-<token>…`, such as `metering-prod-doctor-0123…`, with the stage's tags.

    Args:
        topics: ARN of the topic of each severity.
        demands: Tags and key of the resources.
    """

    def __init__(
        self,
        clients: session.Clients,
        *,
        prefix: str,
        token: str,
        topics: Mapping[str, str],
        demands: Demands = NOTHING,
    ) -> None:
        self._clients = clients
        self._demands = demands
        self._name = f"{prefix}-{token[:12]}"
        self._topics = topics

    @contextmanager
    def queues(self) -> Iterator[bench.ScratchQueues]:
        with ExitStack() as made:
            dead_url, dead_arn = self._queue(made, "dead", {})
            policy = json.dumps({"deadLetterTargetArn": dead_arn, "maxReceiveCount": _MAX_RECEIVES})
            url, _ = self._queue(made, "queue", {"RedrivePolicy": policy, "VisibilityTimeout": str(_VISIBILITY_S)})
            yield bench.ScratchQueues(
                queue=SqsQueue(self._clients.sqs, url),
                dead=SqsQueue(self._clients.sqs, dead_url),
                max_receives=_MAX_RECEIVES,
            )

    @contextmanager
    def slow_table(self) -> Iterator[items.DynamoDbItemStore]:
        client, name = self._clients.dynamodb, f"{self._name}-slow"
        with ExitStack() as made:
            with asking():
                client.create_table(
                    TableName=name,
                    KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
                    AttributeDefinitions=[
                        {"AttributeName": "pk", "AttributeType": "S"},
                        {"AttributeName": "sk", "AttributeType": "S"},
                    ],
                    BillingMode="PAY_PER_REQUEST",
                    OnDemandThroughput={"MaxReadRequestUnits": 1, "MaxWriteRequestUnits": 1},
                    **self._demands.of_table,
                )
            made.callback(_quietly, lambda: client.delete_table(TableName=name))
            try:
                with asking():
                    client.get_waiter("table_exists").wait(TableName=name)
            except WaiterError as error:
                raise bench.CannotAskError(f"a new table did not come to be: {error}") from error
            yield items.DynamoDbItemStore(client, dict.fromkeys(Table, name))

    @contextmanager
    def alarm(self, severity: str) -> Iterator[AwsAlarmPath]:
        topic, name = self._topics[severity], f"{self._name}-{severity}"
        with ExitStack() as made:
            url, arn = self._queue(made, severity, {})
            with asking():
                policy = json.dumps(_may_be_sent_by(topic, arn))
                self._clients.sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": policy})
                subscription = self._clients.sns.subscribe(
                    TopicArn=topic,
                    Protocol="sqs",
                    Endpoint=arn,
                    Attributes={"RawMessageDelivery": "true"},
                    ReturnSubscriptionArn=True,
                )["SubscriptionArn"]
            made.callback(_quietly, lambda: self._clients.sns.unsubscribe(SubscriptionArn=subscription))
            with asking():
                self._clients.cloudwatch.put_metric_alarm(
                    AlarmName=name,
                    AlarmDescription="metering doctor looks whether alarms arrive. Nothing is wrong.",
                    AlarmActions=[topic],
                    Namespace=NAMESPACE,
                    MetricName="Doctor",
                    Statistic="Maximum",
                    Period=_PERIOD_S,
                    EvaluationPeriods=1,
                    Threshold=1,
                    ComparisonOperator="GreaterThanThreshold",
                    TreatMissingData="ignore",
                    **self._demands.of_alarm,
                )
            made.callback(_quietly, lambda: self._clients.cloudwatch.delete_alarms(AlarmNames=[name]))
            yield AwsAlarmPath(self._clients, topic=topic, alarm=name, queue=SqsQueue(self._clients.sqs, url))

    def _queue(self, made: ExitStack, name: str, attributes: dict[str, str]) -> tuple[str, str]:
        client = self._clients.sqs
        with asking():
            url = client.create_queue(
                QueueName=f"{self._name}-{name}",
                Attributes={**attributes, **self._demands.of_queue},  # type: ignore[dict-item]  # the stubs want literals
                tags=self._demands.tags,
            )["QueueUrl"]
        made.callback(_quietly, lambda: client.delete_queue(QueueUrl=url))
        with asking():
            answer = client.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
        return url, answer["Attributes"]["QueueArn"]


class AwsAlarmPath:
    """`AlarmPath` over a CloudWatch alarm, an SNS topic and an SQS queue."""

    def __init__(self, clients: session.Clients, *, topic: str, alarm: str, queue: SqsQueue) -> None:
        self._clients = clients
        self._topic = topic
        self._alarm = alarm
        self._queue = queue

    def publish(self, text: str) -> None:
        with asking():
            self._clients.sns.publish(TopicArn=self._topic, Subject="metering doctor: nothing is wrong", Message=text)

    def trip(self, text: str) -> None:
        with asking():
            self._clients.cloudwatch.set_alarm_state(AlarmName=self._alarm, StateValue="ALARM", StateReason=text)

    def received(self) -> list[str]:
        found = self._queue.receive(_MOST_MESSAGES, wait_s=_SCRATCH_POLL_S)
        self._queue.delete_many([message.receipt for message in found])
        return [message.delivery.body for message in found]


def _may_be_sent_by(topic: str, queue: str) -> dict[str, object]:
    statement = {
        "Effect": "Allow",
        "Principal": {"Service": "sns.amazonaws.com"},
        "Action": "sqs:SendMessage",
        "Resource": queue,
        "Condition": {"ArnEquals": {"aws:SourceArn": topic}},
    }
    return {"Version": "2012-10-17", "Statement": [statement]}


def _quietly(delete: Callable[[], object]) -> None:
    """Run `delete`, and ignore errors: a leftover resource's name shows its origin, and only the verdict matters."""
    with suppress(ClientError, BotoCoreError):
        delete()

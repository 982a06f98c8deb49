"""Adapters of queues, alerts and figures: their requests, and their handling of partial failures."""

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ClientError
from botocore.stub import ANY, Stubber

from metering.adapters.aws.alerts import CloudWatchGauges, SnsAlerts
from metering.adapters.aws.cloudwatch import CloudWatchAlarms, CloudWatchFunctionLogs, log_groups
from metering.adapters.aws.queues import SqsQueue, SqsQueueFacts
from metering.adapters.aws.runtime import LambdaDeadline, SystemClock, SystemEntropy
from metering.adapters.aws.session import caller_arn
from metering.errors import OperationFailedError, UnavailableError
from metering.operations.logged_errors import AlarmState, Subscriber
from metering.stores.queues import Redelivery
from metering.units import MIB
from tests.unit.adapters.aws.stubs import Stubbed, client, stubbed

URL = "https://sqs.us-east-1.amazonaws.com/1/q"


@pytest.fixture
def sqs() -> Iterator[Stubbed]:
    yield from stubbed("sqs")


@pytest.fixture
def sns() -> Iterator[Stubbed]:
    yield from stubbed("sns")


@pytest.fixture
def cloudwatch() -> Iterator[Stubbed]:
    yield from stubbed("cloudwatch")


def failed(*ids: str) -> dict[str, Any]:
    return {"Successful": [], "Failed": [{"Id": one, "SenderFault": False, "Code": "InternalError"} for one in ids]}


def test_messages_that_were_not_taken_are_named_by_position(sqs: Stubbed) -> None:
    sqs[1].add_response("send_message_batch", failed("3"))
    sqs[1].add_response("send_message_batch", failed("10", "11"))
    assert SqsQueue(sqs[0], URL).send_many([str(n) for n in range(12)]) == [3, 10, 11]


def test_a_message_that_is_too_long_with_its_sender_is_not_sent_and_holds_up_no_other(sqs: Stubbed) -> None:
    # For the limit of 1 MiB, SQS counts the body plus the attribute's name, type and value.
    statement = len("metering-original-sender") + len("String") + len("AROA")
    fits, too_long = "a" * (MIB - statement), "a" * (MIB - statement + 1)
    sent = [
        {"Id": "1", "MessageBody": "short"},
        {
            "Id": "2",
            "MessageBody": fits,
            "MessageAttributes": {"metering-original-sender": {"DataType": "String", "StringValue": "AROA"}},
        },
    ]
    for entry in sent:
        sqs[1].add_response("send_message_batch", failed(), {"QueueUrl": URL, "Entries": [entry]})
    queue = SqsQueue(sqs[0], URL)
    assert queue.send_many([too_long, "short", fits], original_senders=["AROA", "", "AROA"]) == [0]


def test_messages_that_were_not_deleted_are_named_by_position(sqs: Stubbed) -> None:
    sqs[1].add_response("delete_message_batch", failed())
    sqs[1].add_response("delete_message_batch", failed("10"))
    assert SqsQueue(sqs[0], URL).delete_many([str(n) for n in range(12)]) == [10]


def with_arn(stubber: Stubber) -> None:
    stubber.add_response("get_queue_attributes", {"Attributes": {"QueueArn": "arn:aws:sqs:us-east-1:1:dead"}})


def test_a_redrive_is_left_to_the_service_where_it_can(sqs: Stubbed) -> None:
    with_arn(sqs[1])
    sqs[1].add_response(
        "start_message_move_task",
        {"TaskHandle": "task"},
        {"SourceArn": "arn:aws:sqs:us-east-1:1:dead", "MaxNumberOfMessagesPerSecond": 7},
    )
    assert SqsQueue(sqs[0], URL).start_redrive(max_per_s=7) == "task"


@pytest.mark.parametrize("code", ["InvalidAction", "UnknownOperationException", "NotImplemented"])
def test_an_endpoint_without_move_tasks_says_so(sqs: Stubbed, code: str) -> None:
    with_arn(sqs[1])
    sqs[1].add_client_error("start_message_move_task", code, "no", 400)
    assert SqsQueue(sqs[0], URL).start_redrive() is None


def test_a_throttled_redrive_is_not_taken_for_a_missing_call(sqs: Stubbed) -> None:
    with_arn(sqs[1])
    sqs[1].add_client_error("start_message_move_task", "RequestThrottled", "slow", 403)
    with pytest.raises(UnavailableError):
        SqsQueue(sqs[0], URL).start_redrive()


def test_an_alert_has_a_subject_that_mail_can_carry(sns: Stubbed) -> None:
    sent: list[dict[str, Any]] = []
    sns[0].meta.events.register("provide-client-params.sns.Publish", lambda params, **_: sent.append(params))
    sns[1].add_response("publish", {"MessageId": "1"})
    alerts = SnsAlerts(sns[0], None, page_topic_arn="arn:page", ticket_topic_arn="arn:ticket")
    alerts.send("page", "conflict\nof \N{SNOWMAN} " + "x" * 200, {"batch_id": "b\n1", "bytes": 2**70})
    [message] = sent
    assert message["TopicArn"] == "arn:page"
    assert message["Subject"].startswith("page: conflict?of ? xxx")
    assert len(message["Subject"]) == 100
    assert json.loads(message["Message"])["bytes"] == 2**70
    assert json.loads(message["Message"])["batch_id"] == "b\n1"


def test_every_page_of_a_topics_subscribers_is_read_and_unconfirmed_ones_are_told_apart(sns: Stubbed) -> None:
    page = {"Protocol": "email", "Endpoint": "a@example.com", "SubscriptionArn": "arn:aws:sns:us-east-1:1:page:1"}
    unconfirmed = {"Protocol": "sqs", "Endpoint": "q", "SubscriptionArn": "PendingConfirmation"}
    sns[1].add_response(
        "list_subscriptions_by_topic", {"Subscriptions": [page], "NextToken": "n"}, {"TopicArn": "arn:ticket"}
    )
    sns[1].add_response(
        "list_subscriptions_by_topic", {"Subscriptions": [unconfirmed]}, {"TopicArn": "arn:ticket", "NextToken": "n"}
    )
    topics = SnsAlerts(sns[0], None, page_topic_arn="arn:page", ticket_topic_arn="arn:ticket")
    assert topics.subscribers("ticket") == [
        Subscriber(protocol="email", endpoint="a@example.com", confirmed=True),
        Subscriber(protocol="sqs", endpoint="q", confirmed=False),
    ]


@pytest.mark.parametrize(("delivered", "failed", "reached"), [
    ([], [], False), ([1], [], True), ([1], [2], False), ([3], [2], True), ([2], [2], False),
], ids=["no message yet", "all arrived", "the last one failed", "it was repaired", "one of two"])  # fmt: skip
def test_a_queue_gets_alerts_once_a_message_reached_it_and_a_mailbox_once_it_is_confirmed(
    sns: Stubbed, cloudwatch: Stubbed, delivered: list[int], failed: list[int], reached: bool
) -> None:
    arn = "arn:aws:sns:us-east-1:1:page"
    found = [
        {"Protocol": protocol, "Endpoint": "e", "SubscriptionArn": f"{arn}:{protocol}"} for protocol in ("email", "sqs")
    ]
    sns[1].add_response("list_subscriptions_by_topic", {"Subscriptions": found}, {"TopicArn": arn})
    for name, hours in (("Delivered", delivered), ("Failed", failed)):
        # CloudWatch also has hours in which nothing failed.
        points = [{"Timestamp": datetime(2026, 11, 24, hour, tzinfo=UTC), "Sum": 1.0} for hour in hours]
        points.append({"Timestamp": datetime(2026, 11, 25, tzinfo=UTC), "Sum": 0.0})
        asked = {"Dimensions": [{"Name": "TopicName", "Value": "page"}], "MetricName": f"NumberOfNotifications{name}"}
        rest = dict.fromkeys(("Namespace", "StartTime", "EndTime", "Period", "Statistics"), ANY)
        cloudwatch[1].add_response("get_metric_statistics", {"Datapoints": points}, {**rest, **asked})
    topics = SnsAlerts(sns[0], cloudwatch[0], page_topic_arn=arn, ticket_topic_arn="arn:ticket")
    assert [each.alerted for each in topics.subscribers("page")] == [True, reached]


def test_every_page_of_a_stages_alarms_is_read(cloudwatch: Stubbed) -> None:
    asked = {"AlarmNamePrefix": "metering-prod-", "AlarmTypes": ["MetricAlarm"]}
    for name, token in (("conflicts", "n"), ("watch-silent", None)):
        alarm = {"AlarmName": f"metering-prod-{name}", "AlarmArn": f"arn:{name}", "StateValue": "OK"}
        answer: dict[str, Any] = {"MetricAlarms": [alarm], **({} if token is None else {"NextToken": token})}
        cloudwatch[1].add_response("describe_alarms", answer, dict(asked))
        asked["NextToken"] = "n"
    assert CloudWatchAlarms(cloudwatch[0], stage="prod").states() == [
        AlarmState(name=f"metering-prod-{name}", arn=f"arn:{name}", state="OK")
        for name in ("conflicts", "watch-silent")
    ]


def test_new_alarms_begin_well_unless_somebody_is_told_of_it(cloudwatch: Stubbed) -> None:
    new, other = ({"AlarmName": f"metering-prod-{name}", "OKActions": told} for name, told in (("a", []), ("b", ["t"])))
    asked = {"AlarmNamePrefix": "metering-prod-", "StateValue": "INSUFFICIENT_DATA"}
    cloudwatch[1].add_response("describe_alarms", {"MetricAlarms": [new, other]}, asked)
    changed = {"AlarmName": "metering-prod-a", "StateValue": "OK", "StateReason": ANY}
    cloudwatch[1].add_response("set_alarm_state", {}, changed)
    CloudWatchAlarms(cloudwatch[0], stage="prod").begin_well()
    cloudwatch[1].assert_no_pending_responses()


def test_a_caller_is_named_by_its_arn() -> None:
    sts, stubber = next(stubbed("sts"))
    with stubber:
        stubber.add_response("get_caller_identity", {"Arn": "arn:aws:iam::1:user/u"})
        assert caller_arn(sts) == "arn:aws:iam::1:user/u"


def test_figures_of_one_moment_go_in_one_request(cloudwatch: Stubbed) -> None:
    dimensions = [{"Name": "Stage", "Value": "local"}]
    cloudwatch[1].add_response(
        "put_metric_data",
        {},
        {
            "Namespace": "Metering/Watch",
            "MetricData": [
                {"MetricName": name, "Dimensions": dimensions, "Value": value, "Unit": "None"}
                for name, value in (("DeadLetters", 0), ("OpenCommits", 3))
            ],
        },
    )
    metrics = CloudWatchGauges(cloudwatch[0], namespace="Metering/Watch", dimensions={"Stage": "local"})
    metrics.publish({"DeadLetters": 0, "OpenCommits": 3})
    metrics.publish({})


def test_the_machine_gives_time_and_names() -> None:
    clock = SystemClock()
    before = clock.now_ms()
    clock.sleep_ms(2)
    clock.sleep_ms(-5)
    assert clock.now_ms() >= before + 2
    entropy = SystemEntropy()
    names = {entropy.token() for _ in range(100)}
    assert len(names) == 100
    assert all(len(name) == 32 and int(name, 16) >= 0 for name in names)
    assert {entropy.below(2) for _ in range(100)} == {0, 1}


def test_a_deadline_is_what_the_invocation_says() -> None:
    class Context:
        def get_remaining_time_in_millis(self) -> int:
            return 1234

    assert LambdaDeadline(Context()).remaining_ms() == 1234


@pytest.mark.parametrize(("policy", "receives"), [
    ('{"deadLetterTargetArn": "arn:aws:sqs:us-east-1:1:d", "maxReceiveCount": 5}', 5),
    ('{"maxReceiveCount": "7"}', 7),
    ("", None),
    (None, None),
])  # fmt: skip
def test_the_queue_itself_says_how_it_delivers_again(sqs: Stubbed, policy: str | None, receives: int | None) -> None:
    made, stubber = sqs
    attributes = {"VisibilityTimeout": "420", **({} if policy is None else {"RedrivePolicy": policy})}
    stubber.add_response(
        "get_queue_attributes",
        {"Attributes": attributes},
        {"QueueUrl": URL, "AttributeNames": ["VisibilityTimeout", "RedrivePolicy"]},
    )
    facts = SqsQueueFacts(made, client("cloudwatch"), ingest_url=URL, dead_letter_url=f"{URL}-dead")
    assert facts.redelivery() == Redelivery(visibility_s=420, max_receives=receives)


# Logs of functions through CloudWatch Logs Insights, and the answers of Insights.

GROUPS = {"watch": "/aws/watch", "canary": "/aws/canary"}


class Insights:
    """A CloudWatch Logs Insights that returns a test's responses."""

    def __init__(self, *answers: dict[str, Any], refusal: str = "") -> None:
        self.answers = list(answers)
        self.refusal = refusal
        self.asked: dict[str, Any] = {}

    def start_query(self, **query: Any) -> dict[str, str]:
        if self.refusal:
            raise ClientError({"Error": {"Code": self.refusal, "Message": "no"}}, "StartQuery")
        self.asked = query
        return {"queryId": "q"}

    def get_query_results(self, **_: Any) -> dict[str, Any]:
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


def row(**fields: str) -> list[dict[str, str]]:
    return [{"field": f"@{name}", "value": value} for name, value in fields.items()]


def logs_of(insights: Insights, waits: list[float]) -> CloudWatchFunctionLogs:
    return CloudWatchFunctionLogs(insights, GROUPS, sleep=waits.append)  # type: ignore[arg-type]  # the two calls


def test_one_query_reads_all_functions_newest_first_and_bounded() -> None:
    found = row(timestamp="2026-11-25 18:27:52.860", message="[ERROR] x", log="123456789012:/aws/canary", requestId="r")
    waits: list[float] = []
    insights = Insights({"status": "Running", "results": []}, {"status": "Complete", "results": [found]})
    [line] = logs_of(insights, waits).errors(["watch", "canary"], from_s=1, to_s=2, limit=7)
    assert (line.function, line.text, line.request_id) == ("canary", "[ERROR] x", "r")
    assert line.at_ms % 1_000 == 860
    assert insights.asked["logGroupNames"] == ["/aws/canary", "/aws/watch"]
    assert insights.asked["limit"] == 7
    assert insights.asked["queryString"].endswith("sort @timestamp desc")
    assert len(waits) == 1


@pytest.mark.parametrize(("text", "error"), [
    ('{"level":"ERROR","message":"x"}', True),
    ('{"level": "CRITICAL"}', True),
    ("[ERROR] ValueError: x", True),
    ("metering.errors.SettingsError: METERING_LEDGER_TABLE: Field required", True),
    ("2026-11-25T10:00:00Z 4f Task timed out after 60.00 seconds", True),
    ("RequestId: 4f Error: Runtime exited with error: signal: killed", True),
    ('{"level":"INFO","message":"figures published"}', False),
    ("    raise SettingsError(problems) from error", False),
    ("REPORT RequestId: 4f Duration: 1 ms", False),
])  # fmt: skip
def test_the_query_finds_errors_and_leaves_the_rest(text: str, *, error: bool) -> None:
    insights = Insights({"status": "Complete", "results": []})
    logs_of(insights, []).errors(["watch"], from_s=1, to_s=2, limit=1)
    pattern = insights.asked["queryString"].split("like /")[1].rsplit("/ |", 1)[0]
    assert bool(re.search(pattern, text)) is error


def test_a_search_that_does_not_end_is_given_up() -> None:
    waits: list[float] = []
    with pytest.raises(UnavailableError, match="longer than 60 s"):
        logs_of(Insights({"status": "Running", "results": []}), waits).errors(["watch"], from_s=1, to_s=2, limit=1)
    assert sum(waits) == 60


@pytest.mark.parametrize(("insights", "error", "words"), [
    (Insights({"status": "Failed", "results": []}), UnavailableError, "Failed"),
    (Insights(refusal="NotImplemented"), OperationFailedError, "cannot search logs"),
], ids=["a search that fails", "an endpoint without a search"])  # fmt: skip
def test_what_found_nothing_is_not_taken_for_no_errors(insights: Insights, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        logs_of(insights, []).errors(["watch"], from_s=1, to_s=2, limit=1)


def test_a_function_is_called_by_the_words_of_its_construct() -> None:
    outputs = [
        {"OutputKey": "LogContextLogGroupName", "OutputValue": "/aws/log-context"},
        {"OutputKey": "WatchLogGroupName", "OutputValue": "/aws/watch"},
    ]
    clients = SimpleNamespace(
        access=SimpleNamespace(region="us-east-1"),
        cloudformation=SimpleNamespace(
            describe_stacks=lambda **_: {
                "Stacks": [{"StackName": "s", "StackStatus": "UPDATE_COMPLETE", "Outputs": outputs}]
            }
        ),
    )
    found = log_groups(clients, "local")  # type: ignore[arg-type]  # the one call
    assert found == {"log-context": "/aws/log-context", "watch": "/aws/watch"}


@pytest.mark.parametrize("with_api", [True, False])
def test_the_log_of_the_api_is_searched_if_there_is_one(with_api: bool) -> None:
    outputs = {"metering-local-pipeline": {"WatchLogGroupName": "/aws/watch"}}
    if with_api:
        outputs["metering-local-api"] = {"ApiLogGroupName": "/aws/api", "ApiUrl": "https://api"}

    def describe(StackName: str) -> dict[str, Any]:  # noqa: N803  # the SDK's name
        if StackName not in outputs:
            error = {"Error": {"Code": "ValidationError", "Message": f"Stack {StackName} does not exist"}}
            raise ClientError(error, "DescribeStacks")  # type: ignore[arg-type]  # enough of an answer
        told = [{"OutputKey": name, "OutputValue": value} for name, value in outputs[StackName].items()]
        return {"Stacks": [{"StackName": StackName, "StackStatus": "CREATE_COMPLETE", "Outputs": told}]}

    clients = SimpleNamespace(
        access=SimpleNamespace(region="us-east-1"), cloudformation=SimpleNamespace(describe_stacks=describe)
    )
    found = log_groups(clients, "local")  # type: ignore[arg-type]  # the one call
    assert found == {"watch": "/aws/watch"} | ({"api": "/aws/api"} if with_api else {})


def test_the_slowest_start_of_each_function_is_what_lambda_reports() -> None:
    rows = [
        [{"field": "@log", "value": "123456789012:/aws/canary"}, {"field": "slowest", "value": "2104.53"}],
        [{"field": "@log", "value": "123456789012:/aws/other"}, {"field": "slowest", "value": "9.0"}],
    ]
    insights = Insights({"status": "Complete", "results": rows})
    assert logs_of(insights, []).slowest_starts_ms(from_s=1) == {"canary": 2_105}
    assert "@initDuration" in insights.asked["queryString"]
    assert insights.asked["startTime"] == 1


def test_an_endpoint_that_knows_no_sums_says_no_start() -> None:
    insights = Insights({"status": "Complete", "results": [row(log="123456789012:/aws/canary", message="x")]})
    assert logs_of(insights, []).slowest_starts_ms(from_s=1) == {}

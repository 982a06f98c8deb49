"""`Scratch`: queues, a table and an alarm of the doctor's own, deleted whatever happens after they were made."""

from __future__ import annotations

import json
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError, WaiterError

from metering.adapters.aws.doctor.asking import asking
from metering.adapters.aws.dynamodb.items import DynamoDbItemStore
from metering.adapters.aws.queues import SqsQueue
from metering.metric_names import NAMESPACE
from metering.operations.doctor.bench import CannotAskError, ScratchQueues
from metering.stores.writes import Table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from metering.adapters.aws.session import Clients

_MAX_RECEIVES = 3
_VISIBILITY_S = 30
_POLL_S = 5
_MOST_MESSAGES = 10
_PERIOD_S = 60


class AwsScratch:
    """Resources named `<prefix>-<token>…`.

    Args:
        clients: Clients with the caller's own rights.
        prefix: Beginning of the names, such as `metering-prod-doctor`.
        token: Random name of the examination.
        topics: ARN of the topic of each severity.
    """

    def __init__(self, clients: Clients, *, prefix: str, token: str, topics: Mapping[str, str]) -> None:
        self._clients = clients
        self._name = f"{prefix}-{token[:12]}"
        self._topics = topics

    @contextmanager
    def queues(self) -> Iterator[ScratchQueues]:
        with ExitStack() as made:
            dead_url, dead_arn = self._queue(made, "dead", {})
            policy = json.dumps({"deadLetterTargetArn": dead_arn, "maxReceiveCount": _MAX_RECEIVES})
            url, _ = self._queue(made, "queue", {"RedrivePolicy": policy, "VisibilityTimeout": str(_VISIBILITY_S)})
            yield ScratchQueues(
                queue=SqsQueue(self._clients.sqs, url),
                dead=SqsQueue(self._clients.sqs, dead_url),
                max_receives=_MAX_RECEIVES,
            )

    @contextmanager
    def slow_table(self) -> Iterator[DynamoDbItemStore]:
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
                )
            made.callback(_quietly, lambda: client.delete_table(TableName=name))
            try:
                with asking():
                    client.get_waiter("table_exists").wait(TableName=name)
            except WaiterError as error:
                raise CannotAskError(f"a new table did not come to be: {error}") from error
            yield DynamoDbItemStore(client, dict.fromkeys(Table, name))

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
                )
            made.callback(_quietly, lambda: self._clients.cloudwatch.delete_alarms(AlarmNames=[name]))
            yield AwsAlarmPath(self._clients, topic=topic, alarm=name, queue=SqsQueue(self._clients.sqs, url))

    def _queue(self, made: ExitStack, name: str, attributes: dict[str, str]) -> tuple[str, str]:
        """URL and ARN of a new queue, which goes with `made`."""
        client = self._clients.sqs
        with asking():
            url = client.create_queue(
                QueueName=f"{self._name}-{name}",
                Attributes=attributes,  # type: ignore[arg-type]  # the stubs want literal names
            )["QueueUrl"]
        made.callback(_quietly, lambda: client.delete_queue(QueueUrl=url))
        with asking():
            answer = client.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
        return url, answer["Attributes"]["QueueArn"]


class AwsAlarmPath:
    """`AlarmPath` from an alarm over a topic to a queue."""

    def __init__(self, clients: Clients, *, topic: str, alarm: str, queue: SqsQueue) -> None:
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
        found = self._queue.receive(_MOST_MESSAGES, wait_s=_POLL_S)
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
    """Delete, and say nothing of a failure: the names say whose it is, and the verdict counts."""
    with suppress(ClientError, BotoCoreError):
        delete()

"""Clients that only read refuse every other call before anything is sent, whatever the credentials allow."""

from __future__ import annotations

import pickle
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import EndpointConnectionError

from metering.adapters.aws.items import DynamoDbItemStore
from metering.adapters.aws.objects import S3ObjectStore
from metering.adapters.aws.session import Access, ReadOnlyClients, ReadOnlyError
from metering.stores.writes import Delete, Key, Put, Table, Update

if TYPE_CHECKING:
    from collections.abc import Callable

# Nothing listens on port 9 of this machine (discard): a call that is let through cannot connect.
ACCESS = Access(region="us-east-1", endpoint_url="http://127.0.0.1:9", access_key=("test", "test"))
TABLES = {Table.LEDGER: "ledger", Table.USAGE: "usage"}
KEY = Key("a", "b")


@cache
def clients() -> ReadOnlyClients:
    return ReadOnlyClients(ACCESS, attempts=1)


def items() -> DynamoDbItemStore:
    return DynamoDbItemStore(clients().dynamodb, TABLES)


def objects() -> S3ObjectStore:
    return S3ObjectStore(clients().s3, "bucket")


PUT = Put(table=Table.LEDGER, item={**KEY._asdict()})
WRITES: dict[str, Callable[[], object]] = {
    "put": lambda: items().put(PUT),
    "update": lambda: items().update(Update(table=Table.LEDGER, key=KEY, set={"x": 1})),
    "delete": lambda: items().delete(Delete(table=Table.LEDGER, key=KEY)),
    "transact": lambda: items().transact([PUT]),
    "batch write": lambda: clients().dynamodb.batch_write_item(RequestItems={"t": []}),
    "put object": lambda: objects().put("key", b"", if_absent=True),
    "upload": lambda: objects().upload("key", b""),
    "delete objects": lambda: objects().delete(["key"]),
    "send": lambda: clients().sqs.send_message(QueueUrl="q", MessageBody="b"),
    # It hides messages from the workers.
    "receive": lambda: clients().sqs.receive_message(QueueUrl="q"),
    "publish": lambda: clients().sns.publish(TopicArn="t", Message="m"),
    "delete stack": lambda: clients().cloudformation.delete_stack(StackName="s"),
    "invoke": lambda: clients().lambda_.invoke(FunctionName="f"),
    "put metric": lambda: clients().cloudwatch.put_metric_data(Namespace="n", MetricData=[]),
}
READS: dict[str, Callable[[], Any]] = {
    "get": lambda: clients().dynamodb.get_item(TableName="t", Key={"pk": {"S": "a"}}),
    "query": lambda: clients().dynamodb.query(TableName="t"),
    "batch get": lambda: clients().dynamodb.batch_get_item(RequestItems={}),
    "get object": lambda: clients().s3.get_object(Bucket="b", Key="k"),
    "head object": lambda: clients().s3.head_object(Bucket="b", Key="k"),
    "list objects": lambda: clients().s3.list_objects_v2(Bucket="b"),
    "queue attributes": lambda: clients().sqs.get_queue_attributes(QueueUrl="http://127.0.0.1:9/q"),
    "describe": lambda: clients().cloudformation.describe_stacks(StackName="s"),
    "caller": lambda: clients().sts.get_caller_identity(),  # noqa: PLW0108 - no client is made before the test
}


@pytest.mark.parametrize("name", WRITES, ids=lambda name: name.replace(" ", "-"))
def test_what_changes_something_is_refused_and_not_sent(name: str) -> None:
    with pytest.raises(ReadOnlyError, match="only calls that read"):
        WRITES[name]()


@pytest.mark.parametrize("name", READS, ids=lambda name: name.replace(" ", "-"))
def test_what_reads_is_sent(name: str) -> None:
    with pytest.raises(EndpointConnectionError):
        READS[name]()


def test_a_refusal_names_its_call_and_survives_a_process_boundary() -> None:
    with pytest.raises(ReadOnlyError) as caught:
        WRITES["put"]()
    assert caught.value.operation == "dynamodb.PutItem"
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)  # noqa: S301 - our own

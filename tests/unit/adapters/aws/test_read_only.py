"""Read-only clients refuse every write call before it is sent, whatever the credentials allow."""

import pickle
from collections.abc import Callable
from functools import cache
from typing import Any

import boto3
import pytest
from botocore.exceptions import EndpointConnectionError

from metering.adapters.aws.items import DynamoDbItemStore
from metering.adapters.aws.objects import S3ObjectStore
from metering.adapters.aws.session import Access, Clients, ReadOnlyClients, ReadOnlyError, sdk_config
from metering.adapters.aws.stacks import stack_outputs
from metering.errors import SettingsError
from metering.stores.writes import Delete, Key, Put, Table, Update
from tests.unit.adapters.aws.stubs import OUTPUTS

# Nothing listens on port 9 of this machine (discard), so a call that is not blocked cannot connect.
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
    # A receive call would hide messages from the workers.
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


# Endpoints and timeouts of clients.


def test_the_environment_says_where_and_arguments_say_it_louder() -> None:
    environ = {"AWS_ENDPOINT_URL": "http://127.0.0.1:4566", "AWS_REGION": "eu-west-1", "AWS_CA_BUNDLE": "/ca.pem"}
    access = Access.from_env(environ)
    assert (access.endpoint_url, access.region, access.ca_bundle) == ("http://127.0.0.1:4566", "eu-west-1", "/ca.pem")
    access = Access.from_env(environ, region="ap-southeast-9", endpoint_url="http://emulator:1")
    assert (access.endpoint_url, access.region) == ("http://emulator:1", "ap-southeast-9")
    assert Access.from_env({}) == Access(region="us-east-1")
    assert Access.from_env({"AWS_DEFAULT_REGION": "eu-north-1"}).region == "eu-north-1"


@pytest.mark.parametrize(("environ", "key"), [
    ({"AWS_ENDPOINT_URL": "http://127.0.0.1:4566"}, ("test", "test")),
    ({"AWS_ENDPOINT_URL": "http://localhost:4566"}, ("test", "test")),
    ({"LOCALSTACK_HOST": "localhost:4566"}, ("test", "test")),
    ({"AWS_ENDPOINT_URL": "http://127.0.0.1:4566", "AWS_ACCESS_KEY_ID": "x"}, None),
    ({"AWS_ENDPOINT_URL": "http://127.0.0.1:4566", "AWS_PROFILE": "x"}, None),
    ({"AWS_ENDPOINT_URL": "https://vpce.example.com"}, None),
    ({}, None),
], ids=str)  # fmt: skip
def test_only_an_emulator_of_this_machine_gets_the_key(environ: dict[str, str], key: tuple[str, str] | None) -> None:
    assert Access.from_env(environ).access_key == key


def test_clients_are_made_once_and_go_to_the_endpoint() -> None:
    clients = Clients(Access(region="eu-west-1", endpoint_url="http://127.0.0.1:9", access_key=("k", "s")))
    for made in (clients.dynamodb, clients.s3, clients.sqs, clients.sns, clients.cloudwatch, clients.sts):
        assert made.meta.endpoint_url == "http://127.0.0.1:9"
        assert made.meta.region_name == "eu-west-1"
    assert clients.dynamodb is clients.dynamodb
    assert clients.s3.meta.config.s3["addressing_style"] == "path"  # type: ignore[attr-defined]  # set by `s3=`


def test_localstack_client_is_the_session_where_localstack_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    access = Access.from_env({"LOCALSTACK_HOST": "127.0.0.1:4599", "AWS_REGION": "eu-west-1"})
    clients = Clients(access)
    assert clients.dynamodb.meta.endpoint_url == "http://127.0.0.1:4599"
    assert clients.dynamodb.meta.region_name == "eu-west-1"
    assert type(clients._session).__module__ == "localstack_client.session"


@pytest.mark.parametrize("service", ["dynamodb", "s3", "sqs", "cloudformation"])
def test_no_client_waits_without_end(service: str) -> None:
    config: Any = sdk_config(Access(region="us-east-1"), service)
    assert 0 < config.connect_timeout <= 5
    assert 0 < config.read_timeout <= 30
    assert config.retries["mode"] == "standard"
    assert 1 < config.retries["total_max_attempts"] <= 5


@pytest.mark.parametrize("service", ["dynamodb", "s3"])
def test_a_call_of_an_emulator_may_wait_for_those_before_it(service: str) -> None:
    emulated = Access(region="us-east-1", endpoint_url="http://127.0.0.1:4566")
    configs: list[Any] = [sdk_config(access, service) for access in (Access(region="us-east-1"), emulated)]
    assert 2 * configs[0].read_timeout < configs[1].read_timeout <= 30


@pytest.mark.parametrize("service", ["dynamodb", "s3"])
def test_a_client_says_whose_it_is(service: str) -> None:
    config: Any = sdk_config(Access(region="us-east-1"), service)
    client = boto3.client(service, config=config)  # type: ignore[call-overload]  # it knows services by literal names
    agent = client._user_agent_creator.to_string()
    assert "Botocore" in agent
    assert "metering" in agent


def test_an_awaited_poll_of_a_queue_is_no_timeout() -> None:
    config: Any = sdk_config(Access(region="us-east-1"), "sqs")
    assert config.read_timeout > 20


class _Described:
    def __init__(self, outputs: dict[str, str]) -> None:
        self._outputs = outputs

    def describe_stacks(self, *, StackName: str) -> dict[str, Any]:  # noqa: N803 - the SDK's spelling
        assert StackName == "metering-local-data"
        pairs = [{"OutputKey": name, "OutputValue": value} for name, value in self._outputs.items()]
        return {"Stacks": [{"Outputs": pairs}]}


def clients_with(outputs: dict[str, str]) -> Clients:
    clients = Clients(Access(region="us-east-1"))
    clients._made["cloudformation"] = _Described(outputs)
    return clients


def test_outputs_of_the_data_stack_name_a_regions_resources() -> None:
    resources = stack_outputs(clients_with({name: f"the {name}" for name in OUTPUTS}), "local")
    assert resources.ledger_table == "the LedgerTableName"
    assert resources.dead_letter_queue_url == "the DeadLetterQueueUrl"


def test_every_missing_output_is_named() -> None:
    with pytest.raises(SettingsError) as caught:
        stack_outputs(clients_with({"DataBucketName": "b"}), "local")
    assert len(caught.value.problems) == 6

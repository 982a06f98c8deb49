"""Two pipelines that a user would build from AWS's documentation, each with its best settings.

`powertools`: Powertools' batch processor and idempotency, one record per message; one `UpdateItem ADD` per usage key;
one gzip object of records per invocation. https://docs.aws.amazon.com/powertools/python/latest/utilities/idempotency/

`transact`: the exact rival. One transaction per message: a Put of the message's id if absent, and an `ADD` per usage
key. The same archive. It needs no Powertools.

Neither pipeline validates records, compares contents or knows closed months. Records are summed within each message
before any write, as any user would.
"""

from __future__ import annotations

import gzip
import json
import time
import uuid
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType, process_partial_response
from aws_lambda_powertools.utilities.idempotency import DynamoDBPersistenceLayer, IdempotencyConfig, idempotent_function
from botocore.exceptions import ClientError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord

    from load_tests.race.site import Site
    from metering.adapters.aws.session import Clients
    from metering.stores.queues import ReceivedMessage

# Powertools' default is an hour, but copies arrive for up to a day.
_LIFE_S = 86_400


class Sum(NamedTuple):
    """Usage of one key: its item's partition and sort key, bytes, records."""

    pk: str
    sk: str
    bytes: int
    records: int


class Contender(Protocol):
    """One pipeline, running in one process."""

    def handle(self, received: Sequence[ReceivedMessage]) -> set[str]:
        """Run one invocation; returns the ids of the messages that are not deleted from the queue."""
        ...


def sums_of(body: Mapping[str, Any]) -> list[Sum]:
    """Usage of a message by account, hour and kind."""
    totals: dict[tuple[str, str], list[int]] = {}
    for record in body["records"]:
        hour = record["start"][:13]
        kind = f"{record['service']}#{record['direction']}#{record['from']}#{record['to']}"
        total = totals.setdefault((f"{record['account_id']}#{hour[:7]}", f"{hour}#{kind}"), [0, 0])
        total[0] += record["bytes"]
        total[1] += 1
    return [Sum(pk, sk, *total) for (pk, sk), total in totals.items()]


class _Archive:
    """One object of gzip lines per invocation."""

    def __init__(self, clients: Clients, site: Site) -> None:
        self._client = clients.s3
        self._bucket = site.bucket

    def put(self, bodies: Sequence[Mapping[str, Any]]) -> None:
        if bodies:
            lines = "".join(json.dumps(record) + "\n" for body in bodies for record in body["records"])
            key = f"archive/{uuid.uuid4().hex}.ndjson.gz"
            self._client.put_object(Bucket=self._bucket, Key=key, Body=gzip.compress(lines.encode(), 6))


class _Context:
    """Attributes of Lambda's context that Powertools reads."""

    function_name = "race"
    memory_limit_in_mb = 1_769
    invoked_function_arn = "arn:aws:lambda:us-east-1:1:function:race"
    aws_request_id = "request"

    @staticmethod
    def get_remaining_time_in_millis() -> int:
        return 60_000


class Powertools:
    """Powertools' batch processor, and idempotency per message."""

    def __init__(self, clients: Clients, site: Site) -> None:
        self._usage = site.usage
        self._client = clients.dynamodb
        self._archive = _Archive(clients, site)
        self._done: list[Mapping[str, Any]] = []
        layer = DynamoDBPersistenceLayer(
            table_name=site.markers, key_attr="pk", boto3_client=clients.dynamodb, expiry_attr="expires_at"
        )
        self._config = IdempotencyConfig(
            event_key_jmespath="batch_id", expires_after_seconds=_LIFE_S, use_local_cache=True
        )
        self._processor = BatchProcessor(event_type=EventType.SQS, raise_on_entire_batch_failure=False)
        self._meter = idempotent_function(data_keyword_argument="body", persistence_store=layer, config=self._config)(
            self._count
        )

    def handle(self, received: Sequence[ReceivedMessage]) -> set[str]:
        self._done = []
        event = {"Records": [_record(each) for each in received]}
        context: Any = _Context()
        self._config.register_lambda_context(context)
        answer = process_partial_response(
            event=event, record_handler=self._handle, processor=self._processor, context=context
        )
        self._archive.put(self._done)
        return {str(each["itemIdentifier"]) for each in answer["batchItemFailures"]}

    def _handle(self, record: SQSRecord) -> None:
        self._meter(body=json.loads(record.body))

    def _count(self, body: Mapping[str, Any]) -> str:
        for each in sums_of(body):
            self._client.update_item(
                TableName=self._usage,
                Key={"pk": {"S": each.pk}, "sk": {"S": each.sk}},
                UpdateExpression="ADD #b :b, #r :r",
                ExpressionAttributeNames={"#b": "b", "#r": "r"},
                ExpressionAttributeValues={":b": {"N": str(each.bytes)}, ":r": {"N": str(each.records)}},
            )
        self._done.append(body)
        return "metered"


class Transact:
    """One transaction a message."""

    def __init__(self, clients: Clients, site: Site) -> None:
        self._site = site
        self._client = clients.dynamodb
        self._archive = _Archive(clients, site)

    def handle(self, received: Sequence[ReceivedMessage]) -> set[str]:
        back: set[str] = set()
        done: list[Mapping[str, Any]] = []
        for message in received:
            body = json.loads(message.delivery.body)
            try:
                self._commit(body)
                done.append(body)
            except ClientError as error:
                if not _is_duplicate(error):
                    back.add(message.delivery.message_id)
        self._archive.put(done)
        return back

    def _commit(self, body: Mapping[str, Any]) -> None:
        marker = {"pk": {"S": body["batch_id"]}, "expires_at": {"N": str(int(time.time()) + _LIFE_S)}}
        adds: list[Any] = [
            {
                "Update": {
                    "TableName": self._site.usage,
                    "Key": {"pk": {"S": each.pk}, "sk": {"S": each.sk}},
                    "UpdateExpression": "ADD #b :b, #r :r",
                    "ExpressionAttributeNames": {"#b": "b", "#r": "r"},
                    "ExpressionAttributeValues": {":b": {"N": str(each.bytes)}, ":r": {"N": str(each.records)}},
                }
            }
            for each in sums_of(body)
        ]
        put: Any = {
            "Put": {"TableName": self._site.markers, "Item": marker, "ConditionExpression": "attribute_not_exists(pk)"}
        }
        self._client.transact_write_items(TransactItems=[put, *adds])


def _is_duplicate(error: ClientError) -> bool:
    reasons: Any = error.response.get("CancellationReasons", [])
    return bool(reasons) and reasons[0].get("Code") == "ConditionalCheckFailed"


def _record(message: ReceivedMessage) -> dict[str, Any]:
    """A message as the event source mapping delivers it."""
    delivery = message.delivery
    return {
        "messageId": delivery.message_id,
        "receiptHandle": message.receipt,
        "body": delivery.body,
        "attributes": {
            "ApproximateReceiveCount": str(delivery.receive_count),
            "SentTimestamp": str(delivery.sent_at_ms),
            "SenderId": delivery.sender_id,
            "ApproximateFirstReceiveTimestamp": str(delivery.sent_at_ms),
        },
        "messageAttributes": {},
        "md5OfBody": "",
        "eventSource": "aws:sqs",
        "eventSourceARN": "arn:aws:sqs:us-east-1:1:race",
        "awsRegion": "us-east-1",
    }

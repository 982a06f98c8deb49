"""An in-memory region with two registered producers, the service's own senders and the real handler."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NoReturn

from aws_lambda_powertools import Logger

from lambdas.aggregator.handler import Intake, handle
from lambdas.emf import EmfMetrics
from lambdas.start import Started
from metering.hours import rfc3339
from metering.intake.dropped import DropIds
from metering.intake.messages import SCHEMA
from metering.intake.senders import ServiceSenders
from metering.ledger.notes.access import RegisteredProducer
from metering.operations.dead_letters import DeadLetters
from metering.stores.writes import Item, Put, Table
from metering.wiring.aggregator import batch_reader, build_aggregator
from tests.support.lake_world import NOW_S
from tests.support.memory.queues import MemoryQueue
from tests.support.region import MemoryRegion, quarantine_of
from tests.support.stage import ADMISSION
from tests.support.stage import settings as stage_settings

if TYPE_CHECKING:
    from lambdas.sqs import SqsEvent
    from metering.quarantine.entries import Entry
    from metering.stores.queues import Delivery

A, B = "AROAAAAAAAAAAAAAAAAAA", "AROABBBBBBBBBBBBBBBBB"
A_ACCOUNT, B_ACCOUNT = "111111111111", "222222222222"
CANARY, ONRAMP, OPERATOR = "AROACANARY", "AROAONRAMP", "AROAOPERATOR"
S3 = "AIDAS3SERVICE"
SERVICES = ServiceSenders(operators=frozenset({OPERATOR}), onramp=ONRAMP, canary=CANARY)


def registered_producer(name: str, role_id: str, *accounts: str) -> RegisteredProducer:
    return RegisteredProducer(
        name=name,
        role_id=role_id,
        role_arn=f"arn:aws:iam::444455556666:role/metering-local-producer-{name}",
        trusted_arn=f"arn:aws:iam::444455556666:role/{name}-workload",
        accounts=tuple(accounts) or None,
        registered_s=NOW_S - 1000,
        registered_by="arn:aws:iam::444455556666:user/somebody",
    )


def record_of(account: str, size: int) -> dict[str, str | int]:
    moment = rfc3339(NOW_S - 60)
    return {
        "account_id": account, "service": "AmazonEC2", "resource_id": "i-0abc", "direction": "out", "from": "us-east-1",
        "to": "internet", "bytes": size, "start": moment, "end": moment,
    }  # fmt: skip


def body_of(batch_id: str, account: str, size: int = 7, /, **fields: object) -> str:
    """A batch message with one record; `fields` are added, or replace fields. None leaves one out."""
    message: dict[str, object] = {
        "schema": SCHEMA,
        "batch_id": batch_id,
        "record_count": 1,
        "records": [record_of(account, size)],
        **fields,
    }
    return json.dumps({name: value for name, value in message.items() if value is not None})


class _Context:
    def get_remaining_time_in_millis(self) -> int:
        return 50_000


def _never_asked() -> NoReturn:
    """Fail the test, because only throttling needs the queue."""
    raise AssertionError


class SendersWorld(MemoryRegion):
    """Delivers messages with crafted SenderIds to the aggregator's handler."""

    def __init__(self, *, judged: bool = True) -> None:
        super().__init__(now_s=NOW_S, settings=stage_settings(), seed=7)
        services = SERVICES if judged else None
        self.register(registered_producer("a", A, A_ACCOUNT))
        self.register(registered_producer("b", B, B_ACCOUNT))
        self.aggregator = build_aggregator(self.parts(), self.metrics, services)
        self.parts_of_handler = Started(
            work=Intake(aggregator=self.aggregator, queue=_never_asked, facts=_never_asked),
            metrics=EmfMetrics(service="aggregator", stage="local"),
            logger=Logger(service="aggregator"),
        )
        self.operators_queue = MemoryQueue(self.clock, name="ingest", sender_id=f"{OPERATOR}:on-call")
        self.dead = MemoryQueue(self.clock, name="dead", moves_by_itself=True, source=self.operators_queue)
        self.quarantine = quarantine_of(self, self.operators_queue)
        self.letters = DeadLetters(
            dead=self.dead,
            ingest=self.operators_queue,
            reader=batch_reader(
                objects=self.objects, items=self.items, clock=self.clock, settings=self.settings, services=services
            ),
            items=self.items,
            clock=self.clock,
            admission=ADMISSION,
            drops=DropIds(objects=self.objects, bucket=self.settings.data_bucket),
            retention_s=1_000_000,
            services=services,
        )
        self._sent = 0

    def register(self, producer: RegisteredProducer) -> None:
        self.items.put(Put(table=Table.LEDGER, item=producer.to_item()))

    def deliver(self, body: str, sender_id: str, *, stated: str = "") -> None:
        """Run one invocation with one message. The message must be acknowledged; accepted usage is rolled up."""
        self._sent += 1
        attribute = {"metering-original-sender": {"stringValue": stated, "dataType": "String"}} if stated else {}
        event: SqsEvent = {
            "Records": [
                {
                    "messageId": f"m{self._sent}",
                    "receiptHandle": f"r{self._sent}",
                    "body": body,
                    "attributes": {
                        "SentTimestamp": str(self.clock.now_ms()),
                        "ApproximateReceiveCount": "1",
                        "SenderId": sender_id,
                    },
                    "messageAttributes": attribute,  # type: ignore[typeddict-item]  # has more than what is read
                }
            ]
        }
        assert handle(event, _Context(), self.parts_of_handler) == {"batchItemFailures": []}
        self.roll_up()
        # A registry is read again only if the cached registry is older than the message.
        self.clock.advance_s(2)

    def deliver_sent_again(self) -> list[Delivery]:
        """Deliver the messages that an operator resent; returns these messages."""
        found = [message.delivery for message in self.operators_queue.receive(10)]
        for delivery in found:
            self.deliver(delivery.body, delivery.sender_id, stated=delivery.stated_sender)
        return found

    def metered_bytes(self) -> dict[str, int]:
        """Account -> bytes, according to the usage table."""
        found: dict[str, int] = {}
        for key, total in self.usage().items():
            found[key.account_id] = found.get(key.account_id, 0) + total.bytes
        return found

    def entries(self) -> list[Entry]:
        return list(self.quarantine.entries())

    def batch_items(self) -> list[Item]:
        return [item for item in self.items.everything(Table.LEDGER) if str(item["pk"]).startswith("B#")]

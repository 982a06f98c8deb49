"""`complete_through` over the AWS adapters: an emulator measures no age, and says how it delivers again."""

import json
import time
import uuid
from collections.abc import Iterator

import pytest
from moto import mock_aws

from metering.adapters.aws.queues import SqsQueue, SqsQueueFacts
from metering.adapters.aws.runtime import SystemClock
from metering.adapters.aws.session import Access, Clients
from metering.audit.freshness import Freshness
from metering.ledger.notes.watch import WatchState
from metering.stores.queues import Redelivery
from metering.stores.writes import Put, Table
from tests.support.emulated import item_store, make_resources

VISIBILITY_S = 1
MAX_RECEIVES = 3


def queues(clients: Clients) -> tuple[str, str]:
    """URLs of a new ingest queue and of its dead-letter queue."""
    name = uuid.uuid4().hex
    dead = clients.sqs.create_queue(QueueName=f"{name}-dead")["QueueUrl"]
    arn = clients.sqs.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    policy = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": MAX_RECEIVES})
    ingest = clients.sqs.create_queue(
        QueueName=name, Attributes={"VisibilityTimeout": str(VISIBILITY_S), "RedrivePolicy": policy}
    )
    return ingest["QueueUrl"], dead


@pytest.fixture
def clients() -> Iterator[Clients]:
    with mock_aws():
        yield Clients(Access(region="us-east-1", access_key=("test", "test")))


def test_a_dead_letter_in_a_queue_of_sqs_holds_back_to_before_it_was_sent(clients: Clients) -> None:
    ingest_url, dead_url = queues(clients)
    ingest, dead = SqsQueue(clients.sqs, ingest_url), SqsQueue(clients.sqs, dead_url)
    facts = SqsQueueFacts(clients.sqs, clients.cloudwatch, ingest_url=ingest_url, dead_letter_url=dead_url)
    assert facts.redelivery() == Redelivery(visibility_s=VISIBILITY_S, max_receives=MAX_RECEIVES)
    assert facts.oldest_age_s() is None
    items = item_store(clients, make_resources(clients))
    clock = SystemClock()
    freshness = Freshness(
        items=items, ingest=ingest, dead=dead, queue_facts=facts, clock=clock,
        region="us-east-1", stage="local", shards=1, window_s=86_400,
    )  # fmt: skip
    # The watch wrote this state a while ago, when its queues were empty.
    empty = WatchState(first_s=0, queue_empty_s=clock.now_ms() // 1000 - 30)
    items.put(Put(table=Table.LEDGER, item=empty.to_item()))
    freshness.keep()
    sent_s = clock.now_ms() // 1000
    ingest.send_many(["{}"])
    end_s = time.monotonic() + 20
    while dead.depth().total == 0:
        assert time.monotonic() < end_s, "the message does not die"
        ingest.receive(1)
        freshness.keep()
        assert freshness.answer().through_s <= sent_s
        time.sleep(VISIBILITY_S)
    assert ingest.depth().total == 0
    freshness.keep()
    assert sent_s - 120 <= freshness.answer().through_s <= sent_s

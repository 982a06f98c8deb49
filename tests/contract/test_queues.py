"""Semantics of queues and of a bucket's events, as far as the service depends on them."""

from __future__ import annotations

import time
import uuid
from typing import TYPE_CHECKING, Any

import pytest

from metering.adapters.aws.log_buckets import S3BucketEvents
from metering.errors import OperationFailedError
from tests.contract.conftest import BOTH
from tests.support.memory.queues import MemoryBucketEvents

if TYPE_CHECKING:
    from metering.adapters.aws.session import Clients
    from metering.stores.queues import Queue, ReceivedMessage


def drain(queue: Queue) -> list[ReceivedMessage]:
    received: list[ReceivedMessage] = []
    while found := queue.receive(10, visibility_s=60):
        received += found
    return received


def test_every_message_sent_can_be_received(queue: Queue) -> None:
    bodies = [f"message {n} \N{SNOWMAN}" for n in range(23)]
    before_ms = time.time_ns() // 1_000_000
    assert queue.send_many(bodies) == []
    received = drain(queue)
    assert sorted(one.delivery.body for one in received) == sorted(bodies)
    for one in received:
        assert before_ms - 5_000 <= one.delivery.sent_at_ms <= time.time_ns() // 1_000_000 + 5_000
        assert one.delivery.receive_count == 1
        assert one.delivery.message_id
        assert one.delivery.sender_id
    assert len({one.receipt for one in received}) == 23


def test_the_first_sender_of_a_message_goes_along(queue: Queue) -> None:
    assert queue.send_many(["a", "b", "c"], original_senders=["AROAFIRST:x", "", "retry AROASECOND:y"]) == []
    queue.send_many(["d"])
    stated = {one.delivery.body: one.delivery.stated_sender for one in drain(queue)}
    assert stated == {"a": "AROAFIRST:x", "b": "", "c": "retry AROASECOND:y", "d": ""}


def test_large_messages_are_spread_over_several_requests(queue: Queue) -> None:
    bodies = [f"{n}" * 300_000 for n in range(6)]
    assert queue.send_many(bodies) == []
    assert sorted(one.delivery.body for one in drain(queue)) == bodies


def test_a_received_message_is_hidden_until_it_is_released(queue: Queue) -> None:
    queue.send_many(["a"])
    [first] = queue.receive(10, visibility_s=60)
    assert queue.receive(10) == []
    queue.release([first.receipt])
    [second] = queue.receive(10, visibility_s=60)
    assert second.delivery.message_id == first.delivery.message_id
    assert second.delivery.receive_count == 2


def test_a_message_comes_back_after_its_visibility_timeout(queue: Queue) -> None:
    queue.send_many(["a"])
    [first] = queue.receive(1, visibility_s=1)
    time.sleep(1.1)
    [second] = queue.receive(1, wait_s=2, visibility_s=60)
    assert second.delivery.message_id == first.delivery.message_id


def test_a_deleted_message_never_comes_back(queue: Queue) -> None:
    queue.send_many([str(n) for n in range(12)])
    received = drain(queue)
    assert queue.delete_many([one.receipt for one in received[:11]]) == []
    queue.release([one.receipt for one in received])
    [left] = drain(queue)
    assert left.delivery.message_id == received[11].delivery.message_id


def test_depth_tells_ready_messages_from_received_ones(queue: Queue) -> None:
    queue.send_many(["a", "b", "c"])
    assert len(queue.receive(1, visibility_s=60)) == 1
    depth = queue.depth()
    assert (depth.visible, depth.in_flight, depth.delayed, depth.total) == (2, 1, 0, 3)


def test_nothing_to_do_is_no_request(queue: Queue) -> None:
    assert queue.send_many([]) == []
    assert queue.delete_many([]) == []
    queue.release([])
    assert queue.receive(10) == []


# A bucket's EventBridge switch is turned on, and the rest of the bucket's configuration stays the same.

REGION = "us-east-1"


class Bucket:
    """A bucket with an event notification that someone else configured."""

    def __init__(self, request: pytest.FixtureRequest) -> None:
        self.name = f"logs-{uuid.uuid4().hex[:12]}"
        self.clients: Clients | None = None
        theirs: Any = {"Id": "theirs", "Events": ["s3:ObjectCreated:*"]}
        if request.param == "memory":
            theirs["QueueArn"] = "arn:aws:sqs:us-east-1:000000000000:theirs"
            self.events: MemoryBucketEvents | S3BucketEvents = MemoryBucketEvents(
                {self.name: {"QueueConfigurations": [theirs]}}, region=REGION
            )
            return
        self.clients = request.getfixturevalue("clients")
        url = self.clients.sqs.create_queue(QueueName=self.name)["QueueUrl"]
        arn = self.clients.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        self.clients.s3.create_bucket(Bucket=self.name)
        self.clients.s3.put_bucket_notification_configuration(
            Bucket=self.name, NotificationConfiguration={"QueueConfigurations": [theirs | {"QueueArn": arn}]}
        )
        self.events = S3BucketEvents(self.clients.s3)


@pytest.fixture(params=BOTH)
def bucket(request: pytest.FixtureRequest) -> Bucket:
    return Bucket(request)


def test_the_switch_is_turned_on_and_the_notifications_of_others_stay(bucket: Bucket) -> None:
    before = bucket.events.configuration(bucket.name)
    assert "EventBridgeConfiguration" not in before
    bucket.events.turn_on(bucket.name, before)
    after = bucket.events.configuration(bucket.name)
    assert "EventBridgeConfiguration" in after
    assert {name: value for name, value in after.items() if name != "EventBridgeConfiguration"} == before
    assert before["QueueConfigurations"]


def test_a_configuration_that_changed_since_the_person_saw_it_is_left_alone(bucket: Bucket) -> None:
    seen = {**bucket.events.configuration(bucket.name), "QueueConfigurations": []}
    with pytest.raises(OperationFailedError, match="Somebody else changed the notifications"):
        bucket.events.turn_on(bucket.name, seen)
    assert "EventBridgeConfiguration" not in bucket.events.configuration(bucket.name)


def test_the_region_of_a_bucket_is_told_and_a_bucket_that_is_none_is_refused_in_words(bucket: Bucket) -> None:
    assert bucket.events.region_of(bucket.name) == REGION
    for ask in (bucket.events.region_of, bucket.events.configuration):
        with pytest.raises(OperationFailedError, match=f"There is no bucket {bucket.name}-none"):
            ask(f"{bucket.name}-none")

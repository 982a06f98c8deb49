"""The switch of a bucket for EventBridge: it is turned on, and nothing else of the bucket changes."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import pytest

from metering.adapters.aws.log_buckets import S3BucketEvents
from metering.errors import OperationFailedError
from tests.contract.conftest import BOTH
from tests.support.memory.bucket_events import MemoryBucketEvents

if TYPE_CHECKING:
    from metering.adapters.aws.session import Clients

REGION = "us-east-1"


class Bucket:
    """A bucket with a notification of somebody else."""

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

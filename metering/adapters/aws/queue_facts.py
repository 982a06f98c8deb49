"""`QueueFacts` over SQS attributes and CloudWatch."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from metering.adapters.aws.errors import translated
from metering.stores.queues import Redelivery

if TYPE_CHECKING:
    from mypy_boto3_cloudwatch import CloudWatchClient
    from mypy_boto3_sqs import SQSClient

# SQS reports once a minute, with a delay of a few minutes.
_LOOK_BACK_MIN = 10


class SqsQueueFacts:
    """Facts of the ingest queue and the dead-letter queue of a region."""

    def __init__(self, sqs: SQSClient, cloudwatch: CloudWatchClient, *, ingest_url: str, dead_letter_url: str) -> None:
        self._sqs = sqs
        self._cloudwatch = cloudwatch
        self._ingest_url = ingest_url
        self._dead_letter_url = dead_letter_url

    def oldest_age_s(self) -> int | None:
        """Newest figure of `ApproximateAgeOfOldestMessage`. SQS has no call for it, and emulators lack the metric."""
        now = datetime.now(UTC)
        with translated("cloudwatch.GetMetricStatistics"):
            answer = self._cloudwatch.get_metric_statistics(
                Namespace="AWS/SQS",
                MetricName="ApproximateAgeOfOldestMessage",
                Dimensions=[{"Name": "QueueName", "Value": self._ingest_url.rpartition("/")[2]}],
                StartTime=now - timedelta(minutes=_LOOK_BACK_MIN),
                EndTime=now,
                Period=60,
                Statistics=["Maximum"],
            )
        points = sorted(answer.get("Datapoints", []), key=lambda point: point["Timestamp"])
        return int(points[-1]["Maximum"]) if points else None

    def redelivery(self) -> Redelivery:
        with translated("sqs.GetQueueAttributes"):
            answer = self._sqs.get_queue_attributes(
                QueueUrl=self._ingest_url, AttributeNames=["VisibilityTimeout", "RedrivePolicy"]
            )
        attributes = answer["Attributes"]
        policy = json.loads(attributes.get("RedrivePolicy") or "{}")
        return Redelivery(
            visibility_s=int(attributes["VisibilityTimeout"]),
            # Some endpoints give it as a string.
            max_receives=int(policy["maxReceiveCount"]) if "maxReceiveCount" in policy else None,
        )

    def longest_retention_s(self) -> int:
        return max(self._retention_s(self._ingest_url), self.dead_letter_retention_s())

    def dead_letter_retention_s(self) -> int:
        """Seconds that the dead-letter queue keeps a message, counted from when it was first sent."""
        return self._retention_s(self._dead_letter_url)

    def _retention_s(self, url: str) -> int:
        with translated("sqs.GetQueueAttributes"):
            answer = self._sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["MessageRetentionPeriod"])
        return int(answer["Attributes"]["MessageRetentionPeriod"])

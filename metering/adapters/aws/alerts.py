"""`Alerts` and `Subscribers` over SNS, `Gauges` over CloudWatch."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, TypedDict

from metering.adapters.aws.errors import translated
from metering.operations.logged_errors import Subscriber
from metering.units import HOUR_S

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mypy_boto3_cloudwatch import CloudWatchClient
    from mypy_boto3_cloudwatch.type_defs import DimensionTypeDef
    from mypy_boto3_sns import SNSClient

# An SNS subject has at most 100 characters of ASCII, without line breaks or control characters.
_MAX_SUBJECT_CHARACTERS = 100
# PutMetricData accepts at most 1,000 metrics per request.
_MAX_FIGURES = 1_000


# Protocols without a confirmation by the owner.
_UNASKED = frozenset({"lambda", "sqs"})
# CloudWatch answers with at most 1,440 points: hours of this many days.
_LOOK_BACK_DAYS = 59


class _Form(TypedDict, total=False):
    MessageStructure: str


# Amazon Q Developer in chat applications, custom notifications: longest title and description.
_MAX_TITLE_CHARACTERS = 250
_MAX_DESCRIPTION_CHARACTERS = 8_000
# These begin mentions and links in Slack, and a sender can choose the text of some fields.
_MARKUP = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", "`": "'", "*": "·", "\n": " "})


def custom_notification(severity: str, subject: str, fields: Mapping[str, str | int]) -> str:
    """An alert as AWS's chat service accepts it. It drops a message of another form, except those of AWS services."""
    told = {name: str(value).translate(_MARKUP) for name, value in fields.items()}
    lines = [f"*{name.translate(_MARKUP)}*: {value}" for name, value in told.items()]
    title = f"{severity}: {subject}".translate(_MARKUP)
    return json.dumps(
        {
            "version": "1.0",
            "source": "custom",
            "content": {
                "textType": "client-markdown",
                "title": title[:_MAX_TITLE_CHARACTERS],
                "description": "\n".join(lines)[:_MAX_DESCRIPTION_CHARACTERS] or title,
            },
            # Alerts of one subject stand in one thread.
            "metadata": {"threadId": title[:_MAX_TITLE_CHARACTERS], "eventType": severity},
        }
    )


class SnsAlerts:
    """SNS topics of a region, for pages and for tickets.

    Args:
        client: Of SNS.
        cloudwatch: Has the topics' metrics; None at an emulator, which publishes no metrics of topics.
        page_topic_arn: Topic of pages.
        ticket_topic_arn: Topic of tickets.
        chat: Whether a chat channel listens. The chat service subscribes by https, so subscribers by https then get
            the form that it accepts; all others get the same JSON as without.
    """

    def __init__(
        self,
        client: SNSClient,
        cloudwatch: CloudWatchClient | None,
        *,
        page_topic_arn: str,
        ticket_topic_arn: str,
        chat: bool = False,
    ) -> None:
        self._client = client
        self._cloudwatch = cloudwatch
        self._chat = chat
        self._topics = {"page": page_topic_arn, "ticket": ticket_topic_arn}

    def send(self, severity: str, subject: str, fields: Mapping[str, str | int]) -> None:
        message = json.dumps({"severity": severity, "subject": subject, **fields}, indent=1)
        form: _Form = {}
        if self._chat:
            message = json.dumps({"default": message, "https": custom_notification(severity, subject, fields)})
            form["MessageStructure"] = "json"
        # Subscribers may filter by these: a report of a saved question is no trouble.
        said = {"severity": severity, **({"kind": str(fields["kind"])} if "kind" in fields else {})}
        with translated("sns.Publish"):
            self._client.publish(
                TopicArn=self._topics[severity],
                Subject=_plain(f"{severity}: {subject}"),
                Message=message,
                MessageAttributes={name: {"DataType": "String", "StringValue": value} for name, value in said.items()},
                **form,
            )

    def subscribers(self, severity: str) -> Sequence[Subscriber]:
        with translated("sns.ListSubscriptionsByTopic"):
            pages = self._client.get_paginator("list_subscriptions_by_topic").paginate(TopicArn=self._topics[severity])
            found = [each for page in pages for each in page.get("Subscriptions", [])]
        delivers = not any(each.get("Protocol") in _UNASKED for each in found) or self._delivers(severity)
        return [
            Subscriber(
                protocol=each.get("Protocol", ""),
                endpoint=each.get("Endpoint", ""),
                # For an unconfirmed subscription, SNS returns `PendingConfirmation` instead of an ARN.
                confirmed=each.get("SubscriptionArn", "").startswith("arn:"),
                reached=delivers or each.get("Protocol") not in _UNASKED,
            )
            for each in found
        ]

    def _delivers(self, severity: str) -> bool:
        """Whether the topic's last message reached every subscriber: SNS counts deliveries by topic alone."""
        if self._cloudwatch is None:
            return True
        now = datetime.now(UTC)
        last: dict[str, datetime] = {}
        for name in ("NumberOfNotificationsDelivered", "NumberOfNotificationsFailed"):
            with translated("cloudwatch.GetMetricStatistics"):
                answer = self._cloudwatch.get_metric_statistics(
                    Namespace="AWS/SNS",
                    MetricName=name,
                    Dimensions=[{"Name": "TopicName", "Value": self._topics[severity].rpartition(":")[2]}],
                    StartTime=now - timedelta(days=_LOOK_BACK_DAYS),
                    EndTime=now,
                    Period=HOUR_S,
                    Statistics=["Sum"],
                )
            hours = [point["Timestamp"] for point in answer.get("Datapoints", []) if point.get("Sum")]
            last[name] = max(hours, default=datetime.min.replace(tzinfo=UTC))
        delivered, failed = last.values()
        return delivered > failed


class CloudWatchGauges:
    """`Gauges` by PutMetricData, each call sent at once. Only the watch job uses this adapter, never the hot path."""

    def __init__(self, client: CloudWatchClient, *, dimensions: Mapping[str, str], namespace: str) -> None:
        self._client = client
        self._namespace = namespace
        self._dimensions: list[DimensionTypeDef] = [
            {"Name": name, "Value": value} for name, value in dimensions.items()
        ]

    def publish(self, values: Mapping[str, int]) -> None:
        names = list(values)
        for start in range(0, len(names), _MAX_FIGURES):
            with translated("cloudwatch.PutMetricData"):
                self._client.put_metric_data(
                    Namespace=self._namespace,
                    MetricData=[
                        {"MetricName": name, "Dimensions": self._dimensions, "Value": values[name], "Unit": "None"}
                        for name in names[start : start + _MAX_FIGURES]
                    ],
                )


def _plain(subject: str) -> str:
    printable = "".join(c if c.isascii() and c.isprintable() else "?" for c in subject)
    return printable[:_MAX_SUBJECT_CHARACTERS]

"""S3's events about new log files, in every form in which they reach the on-ramp queue."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote_plus

ETAG = "9dd4e461268c8034f5c8564e155c67a6"


def bus_event(bucket: str, key: str, *, etag: str = ETAG, version_id: str = "") -> str:
    """An event of EventBridge (S3 user guide, EventBridge event message structure)."""
    made: dict[str, Any] = {"key": key, "size": 1, "etag": etag, "sequencer": "0000066120B9B6E373"}
    if version_id:
        made["version-id"] = version_id
    return json.dumps(
        {
            "version": "0",
            "id": "39a98e81-5366-4661-aeba-e4ed2a94694b",
            "source": "aws.s3",
            "account": "111122223333",
            "time": "2026-11-24T13:00:00Z",
            "region": "us-west-2",
            "resources": [f"arn:aws:s3:::{bucket}"],
            "detail-type": "Object Created",
            "detail": {"version": "0", "bucket": {"name": bucket}, "object": made, "reason": "PutObject"},
        }
    )


def notification(bucket: str, *keys: str) -> str:
    """A notification that S3 itself sends to a queue (S3 user guide, event message structure)."""
    records = [
        {
            "eventSource": "aws:s3",
            "eventName": "ObjectCreated:Put",
            "s3": {"bucket": {"name": bucket}, "object": {"key": quote_plus(key, safe="/"), "eTag": ETAG}},
        }
        for key in keys
    ]
    return json.dumps({"Records": records})


def through_sns(body: str) -> str:
    """The same in an SNS envelope."""
    return json.dumps({"Type": "Notification", "MessageId": "m", "TopicArn": "arn:aws:sns:x", "Message": body})

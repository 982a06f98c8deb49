"""Notification configurations of in-memory buckets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from metering.errors import OperationFailedError

if TYPE_CHECKING:
    from collections.abc import Mapping


class MemoryBucketEvents:
    """Event settings of buckets, like `S3BucketEvents`.

    Args:
        configurations: Bucket -> its configuration.
        region: Region of all of them.
    """

    def __init__(self, configurations: Mapping[str, Mapping[str, Any]], *, region: str) -> None:
        self.configurations = {bucket: dict(each) for bucket, each in configurations.items()}
        self._region = region

    def region_of(self, bucket: str) -> str:
        self.configuration(bucket)
        return self._region

    def configuration(self, bucket: str) -> Mapping[str, Any]:
        if bucket not in self.configurations:
            raise OperationFailedError(f"There is no bucket {bucket}.", "Name one as s3://bucket/prefix.")
        return dict(self.configurations[bucket])

    def turn_on(self, bucket: str, before: Mapping[str, Any]) -> None:
        if self.configuration(bucket) != before:
            raise OperationFailedError(f"Somebody else changed the notifications of {bucket} just now.", "Look again.")
        self.configurations[bucket]["EventBridgeConfiguration"] = {}

"""Buckets of logs: `LogStore` over any account's bucket; switch for the bucket's events; region of a bucket."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from botocore.exceptions import ClientError

from metering.adapters.aws import objects
from metering.adapters.aws.errors import error_code, http_status, translated
from metering.errors import OperationFailedError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mypy_boto3_s3 import S3Client

    from metering.stores.objects import ObjectInfo


_FORBIDDEN = 403


class S3LogStore:
    """Bucket with log files."""

    def __init__(self, client: S3Client, bucket: str) -> None:
        self._objects = objects.S3ObjectStore(client, bucket)
        self._bucket = bucket

    @property
    def place(self) -> str:
        return f"s3://{self._bucket}/"

    def open(self, key: str, *, if_match: str | None = None, version_id: str | None = None) -> BinaryIO:
        with self._in_words(key):
            return self._objects.open(key, if_match=if_match, version_id=version_id)

    def head(self, key: str) -> ObjectInfo | None:
        with self._in_words(key):
            return self._objects.head(key)

    def list(self, prefix: str, *, after: str = "") -> Iterator[ObjectInfo]:
        """Objects below `prefix` with keys after `after`, in key order.

        Raises:
            OperationFailedError: The bucket does not exist, or the caller may not list it.
        """
        try:
            yield from self._objects.list(prefix, after=after)
        except ClientError as error:
            self._raise_no_bucket(error)
            if http_status(error) != _FORBIDDEN:
                raise
            raise OperationFailedError(
                f"{self.place}{prefix} may not be listed ({error_code(error)}).",
                f"Whoever owns the bucket has to allow s3:ListBucket on arn:aws:s3:::{self._bucket}, and so do the "
                "policies of the role or user that asks.",
            ) from error

    @contextmanager
    def _in_words(self, key: str) -> Iterator[None]:
        """Explain a denied request for an object: the error names the permissions that the request needs.

        Raises:
            OperationFailedError: The bucket does not exist.
            UnavailableError: As raised by the store; for a 403, the error's detail names the permissions needed.
        """
        try:
            yield
        except ClientError as error:
            self._raise_no_bucket(error)
            raise
        except UnavailableError as error:
            cause = error.__cause__
            if not isinstance(cause, ClientError) or http_status(cause) != _FORBIDDEN:
                raise
            raise UnavailableError(
                error.operation,
                f"{error_code(cause)}: {self.place}{key} may not be read. It takes s3:GetObject on it, s3:ListBucket "
                "to tell whether it exists, and kms:Decrypt on the bucket's key if it has one.",
                may_have_applied=False,
            ) from cause

    def _raise_no_bucket(self, error: ClientError) -> None:
        if error_code(error) == "NoSuchBucket":
            raise OperationFailedError(
                f"There is no bucket {self._bucket}.", "Look at its name, and whether --endpoint names its AWS."
            ) from error


_SWITCH = "EventBridgeConfiguration"
# The response has S3's metadata in addition to the configuration.
_NO_CONFIGURATION = ("ResponseMetadata",)


class S3BucketEvents:
    """Notification configurations of buckets."""

    def __init__(self, client: S3Client) -> None:
        self._client = client

    def region_of(self, bucket: str) -> str:
        """The region of a bucket. Raises as `configuration` does."""
        try:
            with translated("s3.GetBucketLocation"):
                answer = self._client.get_bucket_location(Bucket=bucket)
        except ClientError as error:
            raise _refused(bucket, error) from error
        # S3 reports us-east-1 as null, and eu-west-1 sometimes by its old name `EU`.
        named = str(answer.get("LocationConstraint") or "us-east-1")
        return "eu-west-1" if named == "EU" else named

    def configuration(self, bucket: str) -> Mapping[str, Any]:
        """The bucket's notification configuration, as S3 returns it.

        Raises:
            OperationFailedError: The bucket does not exist, or belongs to another account.
            UnavailableError: S3 gives no answer.
        """
        try:
            with translated("s3.GetBucketNotificationConfiguration"):
                answer = self._client.get_bucket_notification_configuration(Bucket=bucket)
        except ClientError as error:
            raise _refused(bucket, error) from error
        return {name: value for name, value in answer.items() if name not in _NO_CONFIGURATION}

    def turn_on(self, bucket: str, before: Mapping[str, Any]) -> None:
        """Also send the bucket's events to EventBridge.

        S3 can only replace the whole configuration, unconditionally. The configuration is therefore read immediately
        before the write and must equal `before`, which the user saw; it is read again after the write.

        Raises:
            OperationFailedError: The configuration was changed since `before` was read, or this account may not change
                it. Nothing was written unless the error says so.
            UnavailableError: S3 gives no answer.
        """
        if self.configuration(bucket) != before:
            raise OperationFailedError(
                f"Somebody else changed the notifications of {bucket} just now; nothing was changed.",
                "Run the command again, and look at the change that it shows.",
            )
        wanted = {**before, _SWITCH: {}}
        try:
            with translated("s3.PutBucketNotificationConfiguration"):
                self._client.put_bucket_notification_configuration(
                    Bucket=bucket, NotificationConfiguration=cast("Any", wanted), SkipDestinationValidation=True
                )
        except ClientError as error:
            raise _refused(bucket, error) from error
        if self.configuration(bucket) != wanted:
            raise OperationFailedError(
                f"The notifications of {bucket} are not those that were written: somebody else changed them just now.",
                f"Look at them: aws s3api get-bucket-notification-configuration --bucket {bucket}",
            )


def _refused(bucket: str, error: ClientError) -> OperationFailedError:
    code = error_code(error)
    if code == "NoSuchBucket":
        return OperationFailedError(f"There is no bucket {bucket}.", "Name one as s3://bucket/prefix.")
    return OperationFailedError(
        f"S3 does not let this account look at the notifications of {bucket}, or change them ({code}).",
        "If the bucket is of another account, add --print: it prints what its owner types.",
    )


# ListBuckets names each bucket's region only if the request is paginated (S3 API, ListBuckets).
_PAGE_BUCKETS = 1_000


def bucket_regions(client: S3Client) -> dict[str, str]:
    """Region of each bucket of the caller's account for which S3 returns one.

    Raises:
        UnavailableError: S3 gave no answer.
    """
    regions: dict[str, str] = {}
    with translated("s3.ListBuckets"):
        for page in client.get_paginator("list_buckets").paginate(PaginationConfig={"PageSize": _PAGE_BUCKETS}):
            for bucket in page.get("Buckets", []):
                if region := bucket.get("BucketRegion"):
                    regions[bucket["Name"]] = region
    return regions

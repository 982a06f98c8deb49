"""`LogStore` over a bucket of anyone: the reading half of `S3ObjectStore`, with refusals in words.

Log buckets belong to other teams and accounts, so a missing permission is what people meet first. A listing that is
refused ends the work (`OperationFailedError`). An object that is refused is an `UnavailableError`, as everywhere: the
role or the policy may be put right while the message waits.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO

from botocore.exceptions import ClientError

from metering.adapters.aws.errors import error_code, http_status
from metering.adapters.aws.s3.objects import S3ObjectStore
from metering.errors import OperationFailedError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mypy_boto3_s3 import S3Client

    from metering.stores.objects import ObjectInfo

_FORBIDDEN = 403


class S3LogStore:
    """Bucket with log files."""

    def __init__(self, client: S3Client, bucket: str) -> None:
        self._objects = S3ObjectStore(client, bucket)
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
            OperationFailedError: The bucket does not exist, or may not be listed.
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
        """Say what a refusal of an object wants.

        Raises:
            OperationFailedError: The bucket does not exist.
            UnavailableError: As from the store; for a 403 its detail says which permissions are needed.
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

"""`ObjectStore` over S3.

A role that may not `s3:ListBucket` gets 403 for a missing key. The adapter never takes a 403 for "missing": the object
may be there, and a batch must not be refused for want of a permission. It raises an `UnavailableError` instead, so the
message comes back and ends in the dead-letter queue. The log names operation and key. The roles of the stacks may list,
so there a 403 means that a policy was changed.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypedDict, cast

from botocore.exceptions import ClientError

from metering.adapters.aws.errors import http_status, translated
from metering.adapters.aws.s3.ranges import EndOfObject, RangedObject, denied, reading
from metering.adapters.aws.s3.uploads import IfNoneMatch, upload_parts
from metering.errors import MeteringError, UnavailableError
from metering.stores.objects import ObjectInfo
from metering.units import MIB

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from botocore.awsrequest import AWSRequest
    from mypy_boto3_s3 import S3Client

    from metering.adapters.aws.session import Clients

# Larger files are uploaded in parts, so that memory does not grow with them. S3 takes parts of at least 5 MiB, and at
# most 10,000 of them.
PART_BYTES = 16 * MIB
# Bytes that a stream reads at once, although its reader asks for fewer.
READ_AHEAD_BYTES = MIB
# DeleteObjects takes at most 1,000 keys (S3 API reference).
_MAX_DELETE_KEYS = 1_000
_NOT_FOUND = 404
_PRECONDITION_FAILED = 412
_TRANSIENT_DELETE_CODES = frozenset({"InternalError", "ServiceUnavailable", "SlowDown"})


class _Place(TypedDict, total=False):
    """Beginning of a page of a listing."""

    StartAfter: str
    ContinuationToken: str


def put_at_once(client: S3Client) -> None:
    """Make `put_object` of a client send its body without asking first. A second call changes nothing.

    Otherwise the SDK waits for a `100 Continue` before each body, which is a round trip for every small object.
    """
    client.meta.events.register("request-created.s3.PutObject", _without_expect, unique_id="metering-put-at-once")


def _without_expect(request: AWSRequest, **_others: object) -> None:
    # The signature does not cover this header.
    del request.headers["Expect"]


class S3ObjectStore:
    """Bucket of a region."""

    def __init__(
        self,
        client: S3Client,
        bucket: str,
        *,
        part_bytes: int = PART_BYTES,
        read_ahead_bytes: int = READ_AHEAD_BYTES,
    ) -> None:
        put_at_once(client)
        self._client = client
        self._bucket = bucket
        self._part_bytes = part_bytes
        self._read_ahead_bytes = read_ahead_bytes

    def put(self, key: str, body: bytes | Path, *, if_absent: bool) -> bool:
        condition: IfNoneMatch = {"IfNoneMatch": "*"} if if_absent else {}
        try:
            if isinstance(body, Path) and body.stat().st_size > self._part_bytes:
                upload_parts(self._client, self._bucket, key, body, condition, part_bytes=self._part_bytes)
            else:
                content = body.read_bytes() if isinstance(body, Path) else body
                with translated("s3.PutObject"):
                    self._client.put_object(Bucket=self._bucket, Key=key, Body=content, **condition)
        except ClientError as error:
            if if_absent and http_status(error) == _PRECONDITION_FAILED:
                return False
            raise
        return True

    def upload(self, key: str, body: bytes) -> str:
        with translated("s3.PutObject"):
            return self._client.put_object(Bucket=self._bucket, Key=key, Body=body)["ETag"].strip('"')

    def get(self, key: str) -> bytes:
        with reading("s3.GetObject", key), translated("s3.GetObject"):
            return self._client.get_object(Bucket=self._bucket, Key=key)["Body"].read()

    def open(self, key: str, *, if_match: str | None = None, version_id: str | None = None) -> BinaryIO:
        raw = RangedObject(self._client, self._bucket, key, if_match=if_match, version_id=version_id)
        return io.BufferedReader(raw, buffer_size=self._read_ahead_bytes)

    def open_end(self, key: str, *, last_bytes: int) -> BinaryIO:
        # No read-ahead: who reads so knows the ranges that it needs.
        return cast("BinaryIO", EndOfObject(self._client, self._bucket, key, last_bytes=last_bytes))

    def head(self, key: str) -> ObjectInfo | None:
        try:
            with translated("s3.HeadObject"):
                answer = self._client.head_object(Bucket=self._bucket, Key=key)
        except ClientError as error:
            if http_status(error) == _NOT_FOUND:
                return None
            if (refused := denied("s3.HeadObject", key, error)) is not None:
                raise refused from error
            raise
        return ObjectInfo(
            key=key,
            size_bytes=answer["ContentLength"],
            etag=answer["ETag"],
            modified_s=int(answer["LastModified"].timestamp()),
            # S3 leaves it out for the standard class.
            storage_class=answer.get("StorageClass", "STANDARD"),
        )

    def list(self, prefix: str, *, after: str = "") -> Iterator[ObjectInfo]:
        # The token leads to the next page, never the last key: a page may be empty and yet not the last one.
        place: _Place = {"StartAfter": after}
        while True:
            with translated("s3.ListObjectsV2"):
                answer = self._client.list_objects_v2(Bucket=self._bucket, Prefix=prefix, **place)
            for entry in answer.get("Contents", []):
                yield ObjectInfo(
                    key=entry["Key"],
                    size_bytes=entry["Size"],
                    etag=entry["ETag"],
                    modified_s=int(entry["LastModified"].timestamp()),
                    storage_class=entry.get("StorageClass", "STANDARD"),
                )
            if not answer["IsTruncated"]:
                return
            token = answer.get("NextContinuationToken", "")
            if not token:
                raise UnavailableError("s3.ListObjectsV2", f"{prefix}: there is more, and no token for it")
            place = {"ContinuationToken": token}

    def delete(self, keys: Sequence[str]) -> None:
        distinct = list(dict.fromkeys(keys))
        for start in range(0, len(distinct), _MAX_DELETE_KEYS):
            self._delete_some(distinct[start : start + _MAX_DELETE_KEYS])

    def _delete_some(self, keys: Sequence[str]) -> None:
        with translated("s3.DeleteObjects"):
            answer = self._client.delete_objects(
                Bucket=self._bucket, Delete={"Objects": [{"Key": key} for key in keys], "Quiet": True}
            )
        errors = answer.get("Errors", [])
        if not errors:
            return
        detail = ", ".join(f"{e.get('Code')} for {e.get('Key')}" for e in errors[:5])
        if all(e.get("Code") in _TRANSIENT_DELETE_CODES for e in errors):
            raise UnavailableError("s3.DeleteObjects", detail)
        raise MeteringError(f"s3.DeleteObjects left {len(errors)} objects: {detail}")


def bucket_named(clients: Clients, name: str) -> S3ObjectStore:
    """The bucket of a name, for rooms that ask no service themselves."""
    return S3ObjectStore(clients.s3, name)

"""`ObjectStore` over S3, with seekable streams over ranges of an object and multipart uploads."""

from __future__ import annotations

import io
import logging
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal, TypedDict, cast

from botocore.exceptions import BotoCoreError, ClientError

from metering.adapters.aws.errors import error_code, http_status, translated
from metering.errors import (
    MeteringError,
    ObjectChangedError,
    ObjectMissingError,
    ObjectUnreadableError,
    UnavailableError,
)
from metering.stores.objects import DROP_PREFIX, ObjectInfo, Ranges
from metering.units import MIB

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from _typeshed import WriteableBuffer
    from botocore.awsrequest import AWSRequest
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef, HeadObjectOutputTypeDef

    from metering.adapters.aws import session


def upload_parts(
    client: S3Client, bucket: str, key: str, file: Path, condition: IfNoneMatch, *, part_bytes: int
) -> None:
    """Upload `file` in at most 10,000 parts of `part_bytes`. S3 checks `condition` when the upload completes.

    The parts of a failed upload are removed. A lifecycle rule of the bucket aborts the uploads of killed processes.

    Raises:
        UnavailableError: S3 does not answer. The object may exist.
        ClientError: S3 responds with 412: the condition failed.
    """
    with translated("s3.CreateMultipartUpload"):
        # The SDK sends this checksum with each part. On completion, S3 rejects it unless this call names the algorithm.
        upload_id = client.create_multipart_upload(Bucket=bucket, Key=key, ChecksumAlgorithm="CRC32")["UploadId"]
    upload: _Upload = {"Bucket": bucket, "Key": key, "UploadId": upload_id}
    try:
        _complete(client, upload, _put_parts(client, upload, file, part_bytes), condition)
    except (MeteringError, ClientError, BotoCoreError, OSError):
        # The error of the upload is more important than an error from aborting it.
        with suppress(UnavailableError, ClientError), translated("s3.AbortMultipartUpload"):
            client.abort_multipart_upload(**upload)
        raise


class _Upload(TypedDict):
    Bucket: str
    Key: str
    UploadId: str


def _put_parts(client: S3Client, upload: _Upload, file: Path, part_bytes: int) -> list[CompletedPartTypeDef]:
    parts: list[CompletedPartTypeDef] = []
    with file.open("rb") as stream:
        while content := stream.read(part_bytes):
            number = len(parts) + 1
            with translated("s3.UploadPart"):
                answer = client.upload_part(**upload, PartNumber=number, Body=content)
            # S3 verifies each part's checksum once more when it completes the upload.
            part: CompletedPartTypeDef = {"PartNumber": number, "ETag": answer["ETag"]}
            if "ChecksumCRC32" in answer:
                part["ChecksumCRC32"] = answer["ChecksumCRC32"]
            parts.append(part)
    return parts


def _complete(client: S3Client, upload: _Upload, parts: list[CompletedPartTypeDef], condition: IfNoneMatch) -> None:
    try:
        with translated("s3.CompleteMultipartUpload"):
            client.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts}, **condition)
    except ClientError as error:
        # The reply to the first request was lost: S3 had completed the upload when the SDK retried.
        if error_code(error) == "NoSuchUpload":
            raise UnavailableError("s3.CompleteMultipartUpload", f"no such upload of {upload['Key']}") from error
        raise


class IfNoneMatch(TypedDict, total=False):
    """Condition of a PUT request; empty if unconditional."""

    IfNoneMatch: str


_LOG = logging.getLogger(__name__)
_BAD_REQUEST = 400
_FORBIDDEN = 403
_NOT_FOUND = 404
_PRECONDITION_FAILED = 412
_NO_SUCH_RANGE = 416
# S3 also returns these codes with status 400, although the fault is the caller's expired credentials and not the object
# (S3 API reference, error responses).
_OF_THE_CALLER = frozenset({"ExpiredToken", "InvalidToken", "TokenRefreshRequired"})
# Status codes for a version id that is malformed, forbidden, deleted, a delete marker, or that of another object.
_NO_VERSION = frozenset({400, _FORBIDDEN, _NOT_FOUND, 405, _PRECONDITION_FAILED})


class _Encryption(TypedDict, total=False):
    ServerSideEncryption: Literal["AES256"]


class _Condition(TypedDict, total=False):
    IfMatch: str
    ChecksumMode: Literal["ENABLED"]


class _Checksum(TypedDict, total=False):
    ChecksumCRC64NVME: str


class _Version(TypedDict, total=False):
    VersionId: str


def denied(operation: str, key: str, error: ClientError) -> UnavailableError | None:
    """Error for a 403, None for any other status. The key may be missing, or the role may lack a permission.

    S3's response does not distinguish these two cases, so a batch is not refused for a 403. Each 403 is logged with its
    key, because only people can change a policy.
    """
    if http_status(error) != _FORBIDDEN:
        return None
    code = error_code(error)
    _LOG.error(
        "%s of %s was denied (%s): the role lacks a permission, or the key is missing and the role may not list.",
        operation, key, code,
    )  # fmt: skip
    return UnavailableError(operation, f"{code}: {key}", may_have_applied=False)


@contextmanager
def reading(operation: str, key: str) -> Iterator[None]:
    """Translate the SDK error of a failed read of `key`.

    Raises:
        ObjectMissingError: The object does not exist.
        ObjectChangedError: The object does not have the requested ETag.
        ObjectUnreadableError: S3 answers 400: the object is encrypted with its sender's own key or a disabled key.
        UnavailableError: S3 answers 403: the read is forbidden, or the object is missing and the role may not list.
    """
    try:
        yield
    except ClientError as error:
        status = http_status(error)
        if status == _NOT_FOUND and error_code(error) != "NoSuchBucket":
            raise ObjectMissingError(key) from error
        if status == _PRECONDITION_FAILED:
            raise ObjectChangedError(key) from error
        if status == _BAD_REQUEST and error_code(error) not in _OF_THE_CALLER:
            raise ObjectUnreadableError(key, f"{error_code(error)}: {error}") from error
        if error_code(error) in _OF_THE_CALLER:
            raise UnavailableError(operation, f"{error_code(error)}: {key}", may_have_applied=False) from error
        if (refused := denied(operation, key, error)) is not None:
            raise refused from error
        raise


def _quoted(etag: str) -> str:
    # Notifications carry an ETag without the quotes that HTTP requires.
    return '"' + etag.strip('"') + '"'


class _VersionRanges(Ranges):
    """Stream over one version of an object; `end` holds the object's last bytes if they were already read."""

    def __init__(
        self,
        client: S3Client,
        bucket: str,
        key: str,
        *,
        size_bytes: int,
        etag: str,
        version: _Version,
        end: bytes = b"",
    ) -> None:
        super().__init__(size_bytes)
        self._client = client
        self._bucket = bucket
        self._key = key
        self._etag = etag
        self._version = version
        self._end = end

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Fill `buffer` from the current position; returns 0 at the end.

        Raises:
            ObjectMissingError: The object was deleted during the read.
            ObjectChangedError: The object was replaced during the read.
            UnavailableError: S3 does not respond, or returns too few bytes.
        """
        view = memoryview(buffer).cast("B")
        wanted = min(len(view), self._size - self._position)
        if wanted <= 0:
            return 0
        before_end = self._size - len(self._end)
        if self._position >= before_end:
            start = self._position - before_end
            view[:wanted] = self._end[start : start + wanted]
            self._position += wanted
            return wanted
        last = self._position + wanted - 1
        with reading("s3.GetObject", self._key), translated("s3.GetObject"):
            answer = self._client.get_object(
                Bucket=self._bucket,
                Key=self._key,
                Range=f"bytes={self._position}-{last}",
                IfMatch=self._etag,
                **self._version,
            )
            content = answer["Body"].read()
        if len(content) != wanted:
            raise UnavailableError("s3.GetObject", f"{len(content)} of {wanted} bytes of {self._key}")
        view[:wanted] = content
        self._position += wanted
        return wanted


class RangedObject(_VersionRanges):
    """Stream over an object. The first call is a HEAD, which pins the version for all reads.

    Args:
        if_match: ETag that the object must have.
        version_id: Id of the version that had this ETag. If this id is gone, forged or forbidden, the newest is read.
        checksum: Ask for the checksum, too.
    """

    def __init__(
        self,
        client: S3Client,
        bucket: str,
        key: str,
        *,
        if_match: str | None,
        version_id: str | None = None,
        checksum: bool = False,
    ) -> None:
        self._client = client
        self._bucket = bucket
        self._key = key
        condition: _Condition = {} if if_match is None else {"IfMatch": _quoted(if_match)}
        if checksum:
            condition["ChecksumMode"] = "ENABLED"
        answer = self._head_version(version_id, condition) if if_match and version_id else None
        version: _Version = {} if answer is None or not version_id else {"VersionId": version_id}
        if answer is None:
            with reading("s3.HeadObject", key), translated("s3.HeadObject"):
                answer = self._head(condition)
        if if_match is not None and _quoted(answer["ETag"]) != _quoted(if_match):
            # HTTP allows a list of ETags in one header. A forged notification could name one object under many ETags.
            raise ObjectChangedError(key)
        self.answer = answer
        size_bytes, etag = answer["ContentLength"], answer["ETag"]
        super().__init__(client, bucket, key, size_bytes=size_bytes, etag=etag, version=version)

    def _head(self, condition: _Condition) -> HeadObjectOutputTypeDef:
        try:
            return self._client.head_object(Bucket=self._bucket, Key=self._key, **condition)
        except ClientError as error:
            if http_status(error) != _BAD_REQUEST:
                raise
            # A HEAD response has no body, so only a GET shows whether the object or the bucket is missing or forbidden.
            self._client.get_object(Bucket=self._bucket, Key=self._key, Range="bytes=0-0")["Body"].close()
            raise UnavailableError("s3.HeadObject", f"400, and a GET is answered: {self._key}") from error

    def _head_version(self, version_id: str, condition: _Condition) -> HeadObjectOutputTypeDef | None:
        try:
            with translated("s3.HeadObject"):
                return self._client.head_object(Bucket=self._bucket, Key=self._key, VersionId=version_id, **condition)
        except ClientError as error:
            if http_status(error) in _NO_VERSION:
                return None
            raise


def _info(key: str, answer: HeadObjectOutputTypeDef) -> ObjectInfo:
    return ObjectInfo(
        key=key,
        size_bytes=answer["ContentLength"],
        etag=answer["ETag"],
        modified_s=int(answer["LastModified"].timestamp()),
        # S3 omits the storage class of a STANDARD object.
        storage_class=answer.get("StorageClass", "STANDARD"),
        # A checksum over the checksums of parts depends on how the object was cut.
        crc64nvme="" if answer.get("ChecksumType") == "COMPOSITE" else answer.get("ChecksumCRC64NVME", ""),
    )


class EndOfObject(_VersionRanges):
    """Stream over an object. The first call reads the last `last_bytes` bytes and the object's size."""

    def __init__(self, client: S3Client, bucket: str, key: str, *, last_bytes: int) -> None:
        try:
            with reading("s3.GetObject", key), translated("s3.GetObject"):
                answer = client.get_object(Bucket=bucket, Key=key, Range=f"bytes=-{last_bytes}")
                end = answer["Body"].read()
        except ClientError as error:
            if http_status(error) != _NO_SUCH_RANGE:
                raise
            # A range request for an empty object fails, because an empty object has no range.
            super().__init__(client, bucket, key, size_bytes=0, etag="", version={})
            return
        # A response without `Content-Range` holds the whole object.
        _, _, size = answer.get("ContentRange", "").rpartition("/")
        size_bytes = int(size) if size.isdecimal() else len(end)
        super().__init__(client, bucket, key, size_bytes=size_bytes, etag=answer["ETag"], version={}, end=end)


# Larger files are uploaded in parts, so that memory use stays constant. S3 accepts at most 10,000 parts, each of at
# least 5 MiB.
PART_BYTES = 16 * MIB
# A stream reads at least this many bytes per request, even if its reader asks for fewer.
READ_AHEAD_BYTES = MIB
# DeleteObjects accepts at most 1,000 keys (S3 API reference).
_MAX_DELETE_KEYS = 1_000
_TRANSIENT_DELETE_CODES = frozenset({"InternalError", "ServiceUnavailable", "SlowDown"})


class _Place(TypedDict, total=False):
    """Parameter of ListObjectsV2 for the start of a page."""

    StartAfter: str
    ContinuationToken: str


def put_at_once(client: S3Client) -> None:
    """Make a client's `put_object` send its body without `Expect: 100-continue`. A second call has no effect.

    Otherwise the SDK waits for a `100 Continue` before each body, which costs a round trip for every small object.
    """
    client.meta.events.register("request-created.s3.PutObject", _without_expect, unique_id="metering-put-at-once")


def _without_expect(request: AWSRequest, **_others: object) -> None:
    # The signature does not cover this header.
    del request.headers["Expect"]


class S3ObjectStore:
    """Bucket of a region."""

    def __init__(
        self, client: S3Client, bucket: str, *, part_bytes: int = PART_BYTES, read_ahead_bytes: int = READ_AHEAD_BYTES
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

    def upload(self, key: str, body: bytes, *, crc64nvme: str = "") -> str:
        checksum: _Checksum = {"ChecksumCRC64NVME": crc64nvme} if crc64nvme else {}
        # Without the checksum, the ETag identifies a drop, and with a bucket's key it would be another one each time.
        plain: _Encryption = {"ServerSideEncryption": "AES256"} if key.startswith(DROP_PREFIX) and not checksum else {}
        with translated("s3.PutObject"):
            answer = self._client.put_object(Bucket=self._bucket, Key=key, Body=body, **checksum, **plain)
        return answer["ETag"].strip('"')

    def get(self, key: str) -> bytes:
        with reading("s3.GetObject", key), translated("s3.GetObject"):
            return self._client.get_object(Bucket=self._bucket, Key=key)["Body"].read()

    def open(self, key: str, *, if_match: str | None = None, version_id: str | None = None) -> BinaryIO:
        raw = RangedObject(self._client, self._bucket, key, if_match=if_match, version_id=version_id)
        return io.BufferedReader(raw, buffer_size=self._read_ahead_bytes)

    def pinned(self, key: str, *, if_match: str, version_id: str = "") -> ObjectInfo:
        opened = RangedObject(
            self._client, self._bucket, key, if_match=if_match, version_id=version_id or None, checksum=True
        )
        return _info(key, opened.answer)

    def open_end(self, key: str, *, last_bytes: int) -> BinaryIO:
        # There is no read-ahead here, because callers know exactly which ranges they need.
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
        return _info(key, answer)

    def list(self, prefix: str, *, after: str = "") -> Iterator[ObjectInfo]:
        # The next page is requested by token and not by last key, because a page may be empty before the list ends.
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


def bucket_named(clients: session.Clients, name: str) -> S3ObjectStore:
    """Store of the bucket `name`, for packages that call no AWS service themselves."""
    return S3ObjectStore(clients.s3, name)

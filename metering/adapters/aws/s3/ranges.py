"""Seekable stream over an S3 object: each read is a GET of a range, and all read the same version of the object."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypedDict

from botocore.exceptions import ClientError

from metering.adapters.aws.errors import error_code, http_status, translated
from metering.errors import ObjectChangedError, ObjectMissingError, ObjectUnreadableError, UnavailableError
from metering.stores.ranges import Ranges

if TYPE_CHECKING:
    from collections.abc import Iterator

    from _typeshed import WriteableBuffer
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import HeadObjectOutputTypeDef

_LOG = logging.getLogger(__name__)
_BAD_REQUEST = 400
_FORBIDDEN = 403
_NOT_FOUND = 404
_PRECONDITION_FAILED = 412
_NO_SUCH_RANGE = 416
# S3 gives these codes with 400, too, although no object is at fault: the caller's credentials have run out (S3 API
# reference, error responses).
_OF_THE_CALLER = frozenset({"ExpiredToken", "InvalidToken", "TokenRefreshRequired"})
# Answers for a version that is malformed, forbidden, gone, a deletion marker, or of another object.
_NO_VERSION = frozenset({400, _FORBIDDEN, _NOT_FOUND, 405, _PRECONDITION_FAILED})


class _Condition(TypedDict, total=False):
    IfMatch: str


class _Version(TypedDict, total=False):
    VersionId: str


def denied(operation: str, key: str, error: ClientError) -> UnavailableError | None:
    """Error for a 403, or None if `error` is another one. The key may be missing, or the role may lack a permission.

    These look alike from outside, so a batch is not refused for a 403. Each is logged with its key, because only people
    can change a policy.
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
    """Translate a failed read of `key`.

    Raises:
        ObjectMissingError: The object does not exist.
        ObjectChangedError: The object is not the one that was asked for.
        ObjectUnreadableError: S3 answers 400: the object has a key of its sender's own, or a disabled key.
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
    """Stream over one version of an object, of which the end may have been read already.

    Args:
        etag, version: They name the version.
        end: Its last bytes.
    """

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
        """Fill `buffer` from the current position; 0 at the end.

        Raises:
            ObjectMissingError: The object was deleted meanwhile.
            ObjectChangedError: The object was replaced meanwhile.
            UnavailableError: S3 does not answer, or answers with too few bytes.
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
    """Stream over an object. Its first call is a HEAD, which fixes the version that it reads.

    Args:
        if_match: ETag that the object must have.
        version_id: Id of the version that had this ETag. If it is gone, forged or forbidden, the newest is read.
    """

    def __init__(
        self, client: S3Client, bucket: str, key: str, *, if_match: str | None, version_id: str | None = None
    ) -> None:
        self._client = client
        self._bucket = bucket
        self._key = key
        condition: _Condition = {} if if_match is None else {"IfMatch": _quoted(if_match)}
        answer = self._head_version(version_id, condition) if if_match and version_id else None
        version: _Version = {} if answer is None or not version_id else {"VersionId": version_id}
        if answer is None:
            with reading("s3.HeadObject", key), translated("s3.HeadObject"):
                answer = self._head(condition)
        if if_match is not None and _quoted(answer["ETag"]) != _quoted(if_match):
            # HTTP takes a list of ETags in one header. Who forges a notification could name one object in many ways.
            raise ObjectChangedError(key)
        size_bytes, etag = answer["ContentLength"], answer["ETag"]
        super().__init__(client, bucket, key, size_bytes=size_bytes, etag=etag, version=version)

    def _head(self, condition: _Condition) -> HeadObjectOutputTypeDef:
        try:
            return self._client.head_object(Bucket=self._bucket, Key=self._key, **condition)
        except ClientError as error:
            if http_status(error) != _BAD_REQUEST:
                raise
            # An answer to HEAD has no body, so only a GET tells whether the object is at fault.
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


class EndOfObject(_VersionRanges):
    """Stream over an object. Its first call reads the end, which says how large the object is.

    Args:
        last_bytes: Bytes of the end that are read at once.
    """

    def __init__(self, client: S3Client, bucket: str, key: str, *, last_bytes: int) -> None:
        try:
            with reading("s3.GetObject", key), translated("s3.GetObject"):
                answer = client.get_object(Bucket=bucket, Key=key, Range=f"bytes=-{last_bytes}")
                end = answer["Body"].read()
        except ClientError as error:
            if http_status(error) != _NO_SUCH_RANGE:
                raise
            # An object without a byte has no range.
            super().__init__(client, bucket, key, size_bytes=0, etag="", version={})
            return
        # Without a range in the answer, it is the whole object.
        _, _, size = answer.get("ContentRange", "").rpartition("/")
        size_bytes = int(size) if size.isdecimal() else len(end)
        super().__init__(client, bucket, key, size_bytes=size_bytes, etag=answer["ETag"], version={}, end=end)

"""A seekable stream over an S3 object: each read is a GET of a range, all of the same version of the object."""

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
# Answered with 400, too, and of no object: the caller's credentials have run out (S3 API reference, error responses).
_OF_THE_CALLER = frozenset({"ExpiredToken", "InvalidToken", "TokenRefreshRequired"})
# What S3 says of a version: it is none, it may not be shown, it is gone, it is a deletion, it is another object.
_NO_VERSION = frozenset({400, _FORBIDDEN, _NOT_FOUND, 405, _PRECONDITION_FAILED})


class _Condition(TypedDict, total=False):
    IfMatch: str


class _Version(TypedDict, total=False):
    VersionId: str


def denied(operation: str, key: str, error: ClientError) -> UnavailableError | None:
    """What a 403 means, or None if `error` is none: perhaps the key is missing, perhaps the role lacks a permission.

    Nobody can tell them apart from outside, so a batch is not refused for it, and it is logged by name each time: only
    people can change a policy.
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
    """Raise what a failed read of `key` means.

    Raises:
        ObjectMissingError: There is none.
        ObjectChangedError: It is another than the one asked for.
        ObjectUnreadableError: 400: encrypted with a key of its sender's own, or with one that is disabled.
        UnavailableError: 403: not allowed, or missing where the role may not list.
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
    # Notifications carry it without the quotes that HTTP wants.
    return '"' + etag.strip('"') + '"'


class RangedObject(Ranges):
    """A stream over an object. Its first call is a HEAD, which fixes what is read.

    Args:
        if_match: ETag that the object must have.
        version_id: Of the version that had it. Where that cannot be read (gone, forged, not allowed), the newest is.
    """

    def __init__(
        self, client: S3Client, bucket: str, key: str, *, if_match: str | None, version_id: str | None = None
    ) -> None:
        self._client = client
        self._bucket = bucket
        self._key = key
        self._version: _Version = {}
        condition: _Condition = {} if if_match is None else {"IfMatch": _quoted(if_match)}
        answer = self._head_version(version_id, condition) if if_match and version_id else None
        if answer is None:
            with reading("s3.HeadObject", key), translated("s3.HeadObject"):
                answer = self._head(condition)
        super().__init__(answer["ContentLength"])
        self._etag = answer["ETag"]

    def _head(self, condition: _Condition) -> HeadObjectOutputTypeDef:
        try:
            return self._client.head_object(Bucket=self._bucket, Key=self._key, **condition)
        except ClientError as error:
            if http_status(error) != _BAD_REQUEST:
                raise
            # An answer to HEAD has no body, so only a GET says whether it is the object's fault.
            self._client.get_object(Bucket=self._bucket, Key=self._key, Range="bytes=0-0")["Body"].close()
            raise UnavailableError("s3.HeadObject", f"400, and a GET is answered: {self._key}") from error

    def _head_version(self, version_id: str, condition: _Condition) -> HeadObjectOutputTypeDef | None:
        try:
            with translated("s3.HeadObject"):
                answer = self._client.head_object(Bucket=self._bucket, Key=self._key, VersionId=version_id, **condition)
        except ClientError as error:
            if http_status(error) in _NO_VERSION:
                return None
            raise
        self._version = {"VersionId": version_id}
        return answer

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Fill `buffer` from the current position; 0 at the end.

        Raises:
            ObjectMissingError: The object was deleted meanwhile.
            ObjectChangedError: It was replaced meanwhile.
            UnavailableError: No answer, or less than was asked for.
        """
        view = memoryview(buffer).cast("B")
        wanted = min(len(view), self._size - self._position)
        if wanted <= 0:
            return 0
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

"""Multipart uploads: a large file becomes an object whole, or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from botocore.exceptions import BotoCoreError, ClientError

from metering.adapters.aws.errors import error_code, translated
from metering.errors import MeteringError, UnavailableError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

if TYPE_CHECKING:
    from pathlib import Path

    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef


def upload_parts(
    client: S3Client, bucket: str, key: str, file: Path, condition: IfNoneMatch, *, part_bytes: int
) -> None:
    """Upload `file` in parts of `part_bytes`, at most 10,000; `condition` decides when they are put together.

    Parts of an upload that fails are removed; what a killed process leaves is the bucket's lifecycle rule's to abort.

    Raises:
        UnavailableError: No answer. The object may have come into being.
        ClientError: 412, the condition failed.
    """
    with translated("s3.CreateMultipartUpload"):
        # The checksum that the SDK sends with each part; unannounced, S3 would not take it at the end.
        upload = client.create_multipart_upload(Bucket=bucket, Key=key, ChecksumAlgorithm="CRC32")
        upload_id = upload["UploadId"]
    try:
        parts = _upload(client, bucket, key, file, upload_id, part_bytes)
        _complete(client, bucket, key, upload_id, parts, condition)
    except (MeteringError, ClientError, BotoCoreError, OSError):
        _abort(client, bucket, key, upload_id)
        raise


def _upload(
    client: S3Client, bucket: str, key: str, file: Path, upload_id: str, part_bytes: int
) -> list[CompletedPartTypeDef]:
    parts: list[CompletedPartTypeDef] = []
    with file.open("rb") as stream:
        while content := stream.read(part_bytes):
            number = len(parts) + 1
            with translated("s3.UploadPart"):
                answer = client.upload_part(Bucket=bucket, Key=key, UploadId=upload_id, PartNumber=number, Body=content)
            # S3 checks the parts against it once more when it puts them together.
            part: CompletedPartTypeDef = {"PartNumber": number, "ETag": answer["ETag"]}
            if "ChecksumCRC32" in answer:
                part["ChecksumCRC32"] = answer["ChecksumCRC32"]
            parts.append(part)
    return parts


def _complete(
    client: S3Client,
    bucket: str,
    key: str,
    upload_id: str,
    parts: list[CompletedPartTypeDef],
    condition: IfNoneMatch,
) -> None:
    try:
        with translated("s3.CompleteMultipartUpload"):
            client.complete_multipart_upload(
                Bucket=bucket, Key=key, UploadId=upload_id, MultipartUpload={"Parts": parts}, **condition
            )
    except ClientError as error:
        # The SDK tried again after a lost reply, and the first attempt had completed it.
        if error_code(error) == "NoSuchUpload":
            raise UnavailableError("s3.CompleteMultipartUpload", f"no such upload of {key}") from error
        raise


def _abort(client: S3Client, bucket: str, key: str, upload_id: str) -> None:
    try:
        with translated("s3.AbortMultipartUpload"):
            client.abort_multipart_upload(Bucket=bucket, Key=key, UploadId=upload_id)
    except (UnavailableError, ClientError):
        # The upload's own error matters more; the bucket's lifecycle rule removes what is left.
        return


class IfNoneMatch(TypedDict, total=False):
    """The condition of a PUT, or nothing."""

    IfNoneMatch: str

"""Multipart upload: a large file becomes an object as a whole, or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from botocore.exceptions import BotoCoreError, ClientError

from metering.adapters.aws.errors import error_code, translated
from metering.errors import MeteringError, UnavailableError

if TYPE_CHECKING:
    from pathlib import Path

    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef


def upload_parts(
    client: S3Client, bucket: str, key: str, file: Path, condition: IfNoneMatch, *, part_bytes: int
) -> None:
    """Upload `file` in at most 10,000 parts of `part_bytes`. S3 checks `condition` when it puts them together.

    The parts of a failed upload are removed. A lifecycle rule of the bucket aborts the upload of a killed process.

    Raises:
        UnavailableError: S3 does not answer. The object may exist.
        ClientError: S3 answers 412: the condition failed.
    """
    with translated("s3.CreateMultipartUpload"):
        # The SDK sends this checksum with each part. Unless it is announced here, S3 does not take it at the end.
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
            # S3 checks each part once more by its checksum when it puts them together.
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
        # The reply of the first attempt was lost, and the upload was complete when the SDK tried again.
        if error_code(error) == "NoSuchUpload":
            raise UnavailableError("s3.CompleteMultipartUpload", f"no such upload of {key}") from error
        raise


def _abort(client: S3Client, bucket: str, key: str, upload_id: str) -> None:
    try:
        with translated("s3.AbortMultipartUpload"):
            client.abort_multipart_upload(Bucket=bucket, Key=key, UploadId=upload_id)
    except (UnavailableError, ClientError):
        # The error of the upload matters more. A lifecycle rule of the bucket removes the parts.
        return


class IfNoneMatch(TypedDict, total=False):
    """Condition of a PUT; empty for none."""

    IfNoneMatch: str

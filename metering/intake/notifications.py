"""Notifications of new objects from S3: direct, through SNS or through EventBridge. Those below `drop/` are batches."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Annotated
from urllib.parse import unquote_plus

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from metering.intake.batches import NoBatch
from metering.intake.formats.registry import SUFFIXES
from metering.intake.messages import BatchMessage, ObjectRecords, key_problems, plain_values
from metering.intake.reasons import Problem, Reason, problem, quoted
from metering.stores.bucket import DROP_PREFIX

if TYPE_CHECKING:
    from collections.abc import Mapping

TEST_EVENT = "s3:TestEvent"

# S3 sends one record per notification; a message with more than this is not from S3.
_MAX_OBJECTS = 100

_NonEmpty = Annotated[str, StringConstraints(min_length=1)]
# Unicode, UTF-8 encoded, URL-ready, opaque, at most 1,024 bytes (S3 user guide). Empty in a bucket without versions.
_VersionId = Annotated[str, StringConstraints(pattern=r"\A[!-~]{0,1024}\z")]


class _Bucket(BaseModel):
    name: _NonEmpty


class _NotifiedObject(BaseModel):
    key: _NonEmpty
    etag: _NonEmpty = Field(alias="eTag")
    version_id: _VersionId | None = Field(default=None, alias="versionId")


class _Entity(BaseModel):
    bucket: _Bucket
    object: _NotifiedObject


class _Record(BaseModel):
    model_config = ConfigDict(strict=True)

    event_name: _NonEmpty = Field(alias="eventName")
    s3: _Entity


class _EventObject(BaseModel):
    key: _NonEmpty
    etag: _NonEmpty
    version_id: _VersionId | None = Field(default=None, alias="version-id")


class _Detail(BaseModel):
    model_config = ConfigDict(strict=True)

    bucket: _Bucket
    object: _EventObject


@dataclass(frozen=True, slots=True, kw_only=True)
class CreatedObject:
    """A new object that S3 announced.

    Attributes:
        key: Its key, decoded.
        etag: Its ETag, without quotes.
        version_id: Its version; empty in a bucket without versions.
    """

    bucket: str
    key: str
    etag: str
    version_id: str = ""


Announced = CreatedObject | NoBatch | Problem
"""What one entry of a notification says: a new object, nothing of interest, or nothing that can be read."""


def announced_objects(fields: Mapping[str, bytes]) -> list[Announced]:
    """Objects that a message of S3 announces, direct or through EventBridge; nothing if S3 did not make the message."""
    if "Records" in fields:
        return _of_notification(fields)
    if fields.get("source") == b'"aws.s3"' and "detail" in fields:
        return [_of_bus_event(fields)]
    if "Event" in fields and plain_values({"Event": fields["Event"]})[0].get("Event") == TEST_EVENT:
        return [NoBatch(why=TEST_EVENT)]
    return []


def announced_batch(found: Announced, *, bucket: str) -> BatchMessage | NoBatch:
    """The batch that an announced object is, if it lies below `drop/` of the region's own bucket."""
    if isinstance(found, NoBatch):
        return found
    if isinstance(found, CreatedObject):
        return dropped_object(found.bucket, found.key, found.etag, own_bucket=bucket, version_id=found.version_id)
    return BatchMessage(batch_id="", problems=(found,), announced=True)


def _of_notification(fields: Mapping[str, bytes]) -> list[Announced]:
    values, problems = plain_values(fields)
    records = values.get("Records")
    if problems or not isinstance(records, list) or not 1 <= len(records) <= _MAX_OBJECTS:
        return [_unreadable(f"Records is no array of 1 to {_MAX_OBJECTS} notifications")]
    return [_of_record(record) for record in records]


def _of_bus_event(fields: Mapping[str, bytes]) -> Announced:
    """Of an event from EventBridge. Its key is not URL-encoded, unlike a notification's."""
    values, _ = plain_values(fields)
    if values.get("detail-type") != "Object Created":
        return NoBatch(why="an event that creates no object")
    try:
        detail = _Detail.model_validate(values.get("detail"))
    except ValidationError as error:
        return _unreadable(_first(error))
    made = detail.object
    return CreatedObject(
        bucket=detail.bucket.name, key=made.key, etag=made.etag.strip('"'), version_id=made.version_id or ""
    )


def dropped_object(bucket: str, key: str, etag: str, *, own_bucket: str, version_id: str = "") -> BatchMessage:
    """Batch of an object below `drop/`. `key` is decoded; `etag` may have quotes.

    The version only says which object to read; it is not part of the batch id.
    """
    etag = etag.strip('"')
    problems = key_problems(key, DROP_PREFIX)
    if bucket != own_bucket:
        problems.append(problem(Reason.LOCATION_NOT_ALLOWED, f"another bucket: {quoted(bucket)}"))
    suffix = next((suffix for suffix in SUFFIXES if key.endswith(suffix)), "")
    if not suffix:
        problems.append(problem(Reason.UNKNOWN_SUFFIX, f"none of {', '.join(SUFFIXES)}: {quoted(key[-40:])}"))
    records = None
    if not problems:
        object_format, compression = SUFFIXES[suffix]
        records = ObjectRecords(
            key=key, format=object_format, compression=compression, if_match=etag, version_id=version_id
        )
    return BatchMessage(
        batch_id=drop_batch_id(bucket, key, etag),
        records=records,
        problems=tuple(problems),
        object_key=key,
        announced=True,
    )


def drop_batch_id(bucket: str, key: str, etag: str) -> str:
    """Id of the batch of a dropped object: `s3:` and the SHA-256 of bucket, key and ETag (docs/contract.md)."""
    identity = "\n".join((bucket, key, etag.strip('"')))
    return "s3:" + sha256(identity.encode("utf-8", errors="surrogatepass")).hexdigest()


def _of_record(record: object) -> Announced:
    try:
        notified = _Record.model_validate(record)
    except ValidationError as error:
        # The notification of a removal has no ETag, and announces no batch.
        name = record.get("eventName") if isinstance(record, dict) else None
        if isinstance(name, str) and name and not name.removeprefix("s3:").startswith("ObjectCreated:"):
            return NoBatch(why="an event that creates no object")
        return _unreadable(_first(error))
    if not notified.event_name.removeprefix("s3:").startswith("ObjectCreated:"):
        return NoBatch(why="an event that creates no object")
    entity = notified.s3
    return CreatedObject(
        bucket=entity.bucket.name,
        key=unquote_plus(entity.object.key, errors="surrogateescape"),
        etag=entity.object.etag.strip('"'),
        version_id=entity.object.version_id or "",
    )


def _unreadable(detail: str) -> Problem:
    return problem(Reason.INVALID_NOTIFICATION, detail)


def _first(error: ValidationError) -> str:
    details = error.errors()
    shown_details = (f"{'.'.join(str(part) for part in each['loc'])}: {each['msg']}" for each in details[:5])
    return "; ".join(shown_details)

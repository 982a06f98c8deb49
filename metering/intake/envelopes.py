"""Envelopes of a batch: a message body is a batch message, a CloudEvent around one, or an S3 notification."""

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Annotated
from urllib.parse import unquote_plus

import msgspec
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from metering.intake.batches import NoBatch
from metering.intake.json_values import MAX_DEPTH, DepthError, JsonError, canonical_json, parse_json
from metering.intake.messages import (
    MAX_BODY_BYTES,
    SUFFIXES,
    BatchMessage,
    ObjectRecords,
    key_problems,
    plain_values,
    read_batch_message,
)
from metering.intake.work import Problem, Reason, problem, quoted
from metering.stores.objects import DROP_PREFIX
from metering.units import KIB

TEST_EVENT = "s3:TestEvent"

# S3 sends one record per notification; a message with more records than this is not from S3.
_MAX_OBJECTS = 100

_NonEmpty = Annotated[str, StringConstraints(min_length=1)]
# Version ids are Unicode, UTF-8 encoded, URL-ready, opaque, at most 1,024 bytes (S3 user guide). Empty if unversioned.
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
    """A new object that an S3 notification announced.

    Attributes:
        etag: Its ETag, without quotes.
        version_id: The object's version; empty in a bucket without versioning.
    """

    bucket: str
    key: str
    etag: str
    version_id: str = ""


Announced = CreatedObject | NoBatch | Problem
"""What one entry of a notification says: a new object, nothing of interest, or nothing that can be read."""


def announced_objects(fields: Mapping[str, bytes]) -> list[Announced]:
    """Objects that an S3 message announces, directly or through EventBridge; empty if the message is not from S3."""
    if "Records" in fields:
        return _of_notification(fields)
    if fields.get("source") == b'"aws.s3"' and "detail" in fields:
        return [_of_bus_event(fields)]
    if "Event" in fields and plain_values({"Event": fields["Event"]})[0].get("Event") == TEST_EVENT:
        return [NoBatch(why=TEST_EVENT)]
    return []


def announced_batch(found: Announced, *, bucket: str) -> BatchMessage | NoBatch:
    """The batch of an announced object; a key outside `drop/` or the region's own bucket is a problem of the batch."""
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
    """The object that an EventBridge event announces. In the event, the object's key is not URL-encoded."""
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
    """Batch of an object below `drop/`. `key` is URL-decoded; `etag` may be in quotes.

    The version only selects the object to read, and is not part of the batch id.
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
    """Id of the batch of an object below `drop/`: `s3:` and the SHA-256 of bucket, key and ETag (docs/contract.md)."""
    identity = "\n".join((bucket, key, etag.strip('"')))
    return "s3:" + sha256(identity.encode("utf-8", errors="surrogatepass")).hexdigest()


def _of_record(record: object) -> Announced:
    try:
        notified = _Record.model_validate(record)
    except ValidationError as error:
        # A notification of a deletion has no ETag and does not announce a batch.
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


Fields = dict[str, bytes]
"""Fields of a JSON object, each value as JSON text."""

_split = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_BATCH_FIELDS = frozenset(("schema", "batch_id", "record_count", "records", "location"))


def read_body(body: str, *, bucket: str) -> list[BatchMessage | NoBatch]:
    """Batches that a message body announces; any body yields at least one entry. Never raises."""
    if len(body) * 4 > MAX_BODY_BYTES and len(body.encode("utf-8", errors="surrogatepass")) > MAX_BODY_BYTES:
        return [_refused(problem(Reason.MESSAGE_TOO_LARGE, f"more than {MAX_BODY_BYTES} bytes"))]
    fields = split_object(body)
    if not isinstance(fields, dict):
        return [_refused(fields)]
    if "Type" in fields and "Message" in fields:
        return _read_sns(fields, bucket)
    return _read_fields(fields, bucket)


def read_announcements(body: str) -> list[Announced]:
    """Objects that a message from S3 announces; any body yields at least one entry. Never raises."""
    fields = split_object(body)
    if isinstance(fields, dict) and "Type" in fields and "Message" in fields:
        fields = _inside_sns(fields) or {}
    if not isinstance(fields, dict):
        return [fields]
    return announced_objects(fields) or [problem(Reason.INVALID_NOTIFICATION, "S3 did not make this message")]


def split_object(text: str) -> Fields | Problem:
    """Split a JSON object into its fields, each as JSON text; returns the problem if the text is not an object."""
    try:
        return {name: bytes(raw) for name, raw in _split(text.encode()).items()}
    except (msgspec.MsgspecError, ValueError, RecursionError):
        # The body is not a JSON object, or only the patient parser accepts it (NaN, lone surrogates).
        pass
    try:
        value = parse_json(text)
    except DepthError as error:
        return problem(Reason.TOO_DEEPLY_NESTED, str(error))
    except JsonError as error:
        return problem(Reason.NOT_JSON, str(error))
    if not isinstance(value, dict):
        return problem(Reason.UNKNOWN_MESSAGE, "a message is a JSON object")
    return {name: canonical_json(each).encode("ascii") for name, each in value.items()}


def is_batch_message(fields: Fields) -> bool:
    """Whether a JSON object is a batch message, and not an envelope around it."""
    return not _BATCH_FIELDS.isdisjoint(fields)


def _read_fields(fields: Fields, bucket: str) -> list[BatchMessage | NoBatch]:
    if is_batch_message(fields):
        return [read_batch_message(fields, bucket=bucket)]
    if "specversion" in fields:
        return [_read_cloud_event(fields, bucket)]
    return _read_s3(fields, bucket) or [
        _refused(problem(Reason.UNKNOWN_MESSAGE, "neither a batch, a CloudEvent nor an S3 notification"))
    ]


def _read_s3(fields: Fields, bucket: str) -> list[BatchMessage | NoBatch]:
    return [announced_batch(found, bucket=bucket) for found in announced_objects(fields)]


def _read_sns(fields: Fields, bucket: str) -> list[BatchMessage | NoBatch]:
    inner = _inside_sns(fields)
    read = _read_s3(inner, bucket) if isinstance(inner, dict) else []
    return read or [_refused(problem(Reason.INVALID_NOTIFICATION, "the SNS message holds no S3 notification"))]


def _inside_sns(fields: Fields) -> Fields | Problem | None:
    values, _ = plain_values({"Message": fields["Message"]})
    message = values.get("Message")
    return split_object(message) if isinstance(message, str) else None


def _read_cloud_event(fields: Fields, bucket: str) -> BatchMessage:
    values, problems = plain_values(fields, but="data")
    if values.get("specversion") != "1.0":
        problems.append(problem(Reason.INVALID_CLOUD_EVENT, "specversion is not 1.0"))
    for name in ("id", "source", "type"):
        if not isinstance(values.get(name), str) or not values[name]:
            problems.append(problem(Reason.INVALID_CLOUD_EVENT, f"{name} is missing or no text"))
    data = split_object(fields.get("data", b"null").decode("utf-8", errors="surrogatepass"))
    if not isinstance(data, dict):
        problems.append(problem(Reason.INVALID_CLOUD_EVENT, "data is no JSON object"))
        return _refused(*problems)
    return read_batch_message(data, bucket=bucket, also=tuple(problems))


def _refused(*problems: Problem) -> BatchMessage:
    return BatchMessage(batch_id="", problems=problems)


# The patient parser takes 0.1 s per megabyte, so a body of this size takes at most 7 ms.
_SHORT_BYTES = 64 * KIB
# An envelope without its records has a few hundred bytes.
_FIELD_BYTES = 8 * KIB


def glance(body: str, *, bucket: str) -> BatchMessage | NoBatch | None:
    """First batch that a message announces, without long lists of records; None if the whole message must be read."""
    short = _shortened(body)
    return None if short is None else read_body(short, bucket=bucket)[0]


def _shortened(body: str) -> str | None:
    text = body.encode("utf-8", errors="surrogatepass")
    if len(text) <= _SHORT_BYTES:
        return body
    fields = _fields(text)
    # The batch of a CloudEvent is its `data`.
    if fields is not None and len(fields.get("data", b"")) > _FIELD_BYTES:
        inner = _fields(fields["data"])
        fields["data"] = b"" if inner is None else _joined(inner)
    if fields is None or len(fields) > MAX_DEPTH:
        return None
    short = _joined(fields)
    return short.decode("utf-8", errors="replace") if 0 < len(short) <= _SHORT_BYTES else None


def _fields(text: bytes) -> dict[str, bytes] | None:
    try:
        return {name: bytes(raw) for name, raw in _split(text).items()}
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None


def _joined(fields: dict[str, bytes]) -> bytes:
    """The JSON object as text without its records; empty if another field is long."""
    kept = {name: b"[]" if name == "records" and len(text) > _FIELD_BYTES else text for name, text in fields.items()}
    if any(not text or len(text) > _FIELD_BYTES for text in kept.values()) or sum(map(len, kept)) > _FIELD_BYTES:
        return b""
    return b"{" + b",".join(msgspec.json.encode(name) + b":" + text for name, text in kept.items()) + b"}"

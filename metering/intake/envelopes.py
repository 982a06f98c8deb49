"""Envelopes of a batch: a message body is a batch message, a CloudEvent around one, or a notification from S3."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from metering.intake.json_values import DepthError, JsonError, canonical_json, parse_json
from metering.intake.messages import MAX_BODY_BYTES, BatchMessage, plain_values, read_batch_message
from metering.intake.notifications import Announced, announced_batch, announced_objects
from metering.intake.reasons import Reason, problem

if TYPE_CHECKING:
    from metering.intake.batches import NoBatch
    from metering.intake.reasons import Problem

Fields = dict[str, bytes]
"""Fields of a JSON object, each value as JSON text."""

_split = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_BATCH_FIELDS = frozenset(("schema", "batch_id", "record_count", "records", "location"))


def read_body(body: str, *, bucket: str) -> list[BatchMessage | NoBatch]:
    """Batches that a message body announces: at least one entry for any body. Never raises.

    Args:
        body: The body as the queue handed it over.
        bucket: The region's own data bucket.
    """
    if len(body) * 4 > MAX_BODY_BYTES and len(body.encode("utf-8", errors="surrogatepass")) > MAX_BODY_BYTES:
        return [_refused(problem(Reason.MESSAGE_TOO_LARGE, f"more than {MAX_BODY_BYTES} bytes"))]
    fields = split_object(body)
    if not isinstance(fields, dict):
        return [_refused(fields)]
    if "Type" in fields and "Message" in fields:
        return _read_sns(fields, bucket)
    return _read_fields(fields, bucket)


def read_announcements(body: str) -> list[Announced]:
    """Objects that a message from S3 announces: at least one entry for any body. Never raises.

    Args:
        body: An S3 notification, one inside an SNS message, or an event of EventBridge.
    """
    fields = split_object(body)
    if isinstance(fields, dict) and "Type" in fields and "Message" in fields:
        fields = _inside_sns(fields) or {}
    if not isinstance(fields, dict):
        return [fields]
    return announced_objects(fields) or [problem(Reason.INVALID_NOTIFICATION, "S3 did not make this message")]


def split_object(text: str) -> Fields | Problem:
    """Split a JSON object into its fields, each as JSON text; returns the problem of a text that is not an object."""
    try:
        return {name: bytes(raw) for name, raw in _split(text.encode()).items()}
    except (msgspec.MsgspecError, ValueError, RecursionError):
        # Either not an object, or one that only the patient parser takes (NaN, lone surrogates).
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
    """Whether an object is a batch message itself, and not an envelope around one."""
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

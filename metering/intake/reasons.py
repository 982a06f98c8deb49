"""Reasons of refusals, all in one place.

Reasons are public: markers, quarantine, metrics and reports carry them, so add reasons and never rename one. Each comes
with a detail for people, which is short ASCII text and may change.
"""

from __future__ import annotations

from enum import StrEnum

from metering.intake.json_values import ascii_json

Problem = tuple[str, str]
"""A reason and its detail."""

_DETAIL_CHARS = 120


class Reason(StrEnum):
    """Stable names of refusals, in the order in which they are reported."""

    # The message as a whole.
    MESSAGE_TOO_LARGE = "message_too_large"
    NOT_JSON = "not_json"
    TOO_DEEPLY_NESTED = "too_deeply_nested"
    UNKNOWN_MESSAGE = "unknown_message"
    INVALID_CLOUD_EVENT = "invalid_cloud_event"
    INVALID_NOTIFICATION = "invalid_notification"

    # The batch message.
    UNSUPPORTED_SCHEMA = "unsupported_schema"
    INVALID_BATCH_ID = "invalid_batch_id"
    INVALID_SOURCE = "invalid_source"
    INVALID_RETRY_OF = "invalid_retry_of"
    INVALID_RECORD_COUNT = "invalid_record_count"
    INVALID_RECORDS = "invalid_records"
    INVALID_LOCATION = "invalid_location"
    LOCATION_NOT_ALLOWED = "location_not_allowed"
    UNKNOWN_SUFFIX = "unknown_suffix"
    NO_RECORDS = "no_records"
    TOO_MANY_RECORDS = "too_many_records"
    RECORD_COUNT_MISMATCH = "record_count_mismatch"

    # A batch that its sender may not send, in a stage whose producers are registered.
    SENDER_NOT_ALLOWED = "sender_not_allowed"

    # A retry under another id whose first id is not accepted with other content.
    RETRY_WITHOUT_CONFLICT = "retry_without_conflict"

    # The object that a message points to.
    OBJECT_MISSING = "object_missing"
    OBJECT_UNREADABLE = "object_unreadable"
    OBJECT_CHANGED = "object_changed"
    OBJECT_EMPTY = "object_empty"
    OBJECT_TOO_LARGE = "object_too_large"
    OBJECT_TRUNCATED = "object_truncated"
    SHA256_MISMATCH = "sha256_mismatch"
    WRONG_COMPRESSION = "wrong_compression"
    WRONG_FORMAT = "wrong_format"
    LINE_TOO_LONG = "line_too_long"
    TOO_SLOW = "too_slow"
    PARQUET_UNREADABLE = "parquet_unreadable"
    PARQUET_UNSUPPORTED = "parquet_unsupported"
    PARQUET_MISSING_COLUMN = "parquet_missing_column"
    PARQUET_WRONG_TYPE = "parquet_wrong_type"

    # A batch whose records are all refused, for more than one reason.
    NO_RECORD_ADMITTED = "no_record_admitted"

    # One record.
    RECORD_NOT_JSON = "record_not_json"
    RECORD_NOT_AN_OBJECT = "record_not_an_object"
    MISSING_FIELD = "missing_field"
    INVALID_ACCOUNT_ID = "invalid_account_id"
    INVALID_SERVICE = "invalid_service"
    INVALID_RESOURCE_ID = "invalid_resource_id"
    INVALID_DIRECTION = "invalid_direction"
    INVALID_FROM = "invalid_from"
    INVALID_TO = "invalid_to"
    INVALID_BYTES = "invalid_bytes"
    INVALID_START = "invalid_start"
    INVALID_END = "invalid_end"
    INVALID_USAGE_TYPE = "invalid_usage_type"
    METERED_SIDE_NOT_A_REGION = "metered_side_not_a_region"
    END_BEFORE_START = "end_before_start"
    SPANS_OVER_AN_HOUR = "spans_over_an_hour"
    TOO_LATE = "too_late"
    IN_THE_FUTURE = "in_the_future"


_RANK = {str(reason): rank for rank, reason in enumerate(Reason)}


def problem(reason: Reason, detail: str) -> Problem:
    """Make a problem of plain strings; its detail becomes ASCII without control characters, cut to fit into a table."""
    detail = ascii_json(detail)
    return (reason.value, detail if len(detail) <= _DETAIL_CHARS else detail[: _DETAIL_CHARS - 3] + "...")


def ordered(problems: list[Problem]) -> tuple[Problem, ...]:
    """Problems in the order of `Reason`, each once."""
    return tuple(sorted(dict.fromkeys(problems), key=lambda each: (_RANK[each[0]], each[1])))


def quoted(value: str, limit: int = 60) -> str:
    """`value` as quoted ASCII for a detail, cut to `limit` characters."""
    return ascii(value if len(value) <= limit else value[: limit - 3] + "...")

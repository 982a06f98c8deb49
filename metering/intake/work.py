"""Limits of the work for reading one delivery, and the reasons for refusals."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from metering.errors import BatchRefusedError, OutOfTimeError
from metering.intake import json_values
from metering.units import KIB, MIB

if TYPE_CHECKING:
    from metering.intake.batches import Allowance


# Reasons for refusals; all of them are defined here.
#
# Reasons are public: markers, quarantine, metrics and reports contain them, so reasons may be added but never renamed.
# Each reason comes with a detail for people: short ASCII text that may change.


Problem = tuple[str, str]
"""A reason and its detail."""

_DETAIL_CHARS = 120


class Reason(StrEnum):
    """Stable names of the reasons for refusals, in the order in which they are reported."""

    # Problems that concern the whole message.
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

    # In a stage with registered producers, the sender may not send this batch.
    SENDER_NOT_ALLOWED = "sender_not_allowed"

    # A retry under another id, although its original id is not accepted with other content.
    RETRY_WITHOUT_CONFLICT = "retry_without_conflict"

    # The object that a message points to is missing.
    OBJECT_MISSING = "object_missing"
    OBJECT_UNREADABLE = "object_unreadable"
    OBJECT_CHANGED = "object_changed"
    CHECKSUM_MISSING = "checksum_missing"
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

    # All records of the batch are refused, for more than one reason.
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
    """Make a problem from plain strings; the detail becomes ASCII without control characters, of limited length."""
    detail = json_values.ascii_json(detail)
    return (reason.value, detail if len(detail) <= _DETAIL_CHARS else detail[: _DETAIL_CHARS - 3] + "...")


def ordered(problems: list[Problem]) -> tuple[Problem, ...]:
    """Problems in the order of `Reason`, each once."""
    return tuple(sorted(dict.fromkeys(problems), key=lambda each: (_RANK[each[0]], each[1])))


def quoted(value: str, limit: int = 60) -> str:
    """`value` as quoted ASCII for a problem's detail, shortened to `limit` characters."""
    return ascii(value if len(value) <= limit else value[: limit - 3] + "...")


# Maximum number of records in a batch (docs/contract.md).
MAX_RECORDS = 50_000
# Most of what a batch costs does not depend on its records: a batch of these costs little more than one of a hundred.
FULL_RECORDS = 1_000
# Stored bytes that unpack to nothing also cost work. The stored bytes may be twice the unpacked bytes plus this many.
_IDLE_BYTES = 4 * MIB
# For the patient parser, the clock is read once per this many bytes. The patient parser takes 0.1 s per megabyte.
_LOOK_EVERY_BYTES = 64 * KIB


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkLimits:
    """Limits of the work for one delivery.

    Attributes:
        members: gzip members and zstd frames.
        patient_bytes: Bytes of lines that the fast parser rejects.
        head_bytes: Bytes stored for distinct heads. Valid heads have at most 410 bytes each, so 50,000 heads fit.
        hashed_bytes: Bytes of distinct heads with strings that are longer than any valid string.
        group_bytes: Unpacked bytes of the columns read from one Parquet row group. 50,000 valid records have at most
            126 MB, with resource ids of 512 characters of 4 bytes each.
    """

    stored_bytes: int
    members: int
    blank_lines: int
    patient_bytes: int
    head_bytes: int
    hashed_bytes: int
    group_bytes: int
    pages: int
    page_header_bytes: int


CONTRACT_WORK = WorkLimits(
    stored_bytes=600_000_000,
    members=100_000,
    blank_lines=5_000_000,
    patient_bytes=64 * MIB,
    head_bytes=32 * MIB,
    hashed_bytes=512 * MIB,
    group_bytes=128 * MIB,
    pages=100_000,
    page_header_bytes=4 * MIB,
)
"""Limits of docs/contract.md, equal on every stage: a verdict must not depend on the stage that reads a copy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadLimits:
    """Limits of one batch and of one delivery.

    Attributes:
        batch_records: Maximum number of records in a batch of any format (docs/contract.md).
        object_bytes: Maximum size of an object's records after decompression (setting `object_bytes`).
    """

    batch_records: int = MAX_RECORDS
    object_bytes: int
    work: WorkLimits = CONTRACT_WORK


class Work:
    """Work done for one delivery, counted against its limits.

    Each method raises BatchRefusedError if its limit is exceeded, and `look` raises OutOfTimeError after the deadline.
    """

    def __init__(self, limits: WorkLimits, allowance: Allowance) -> None:
        self.limits = limits
        self._allowance = allowance
        self._stored_bytes = 0
        self._unpacked_bytes = 0
        self._members = 0
        self._blank_lines = 0
        self._patient_bytes = 0
        self._looked_at_bytes = 0
        self._hashed_bytes = 0
        self._pages = 0
        self._page_header_bytes = 0

    def look(self) -> None:
        """Look at the clock.

        Raises:
            OutOfTimeError: The time is over.
            BatchRefusedError: The time limit has expired; no later receive has a longer limit.
        """
        if self._allowance.until.remaining_ms() > 0:
            return
        if self._allowance.final:
            raise _too_slow("it takes more time than a worker has, also alone")
        raise OutOfTimeError

    def store(self, size_bytes: int) -> None:
        self._stored_bytes += size_bytes
        if self._stored_bytes > self.limits.stored_bytes:
            raise refusal(Reason.OBJECT_TOO_LARGE, f"more than {self.limits.stored_bytes} bytes as stored")

    def unpack(self, packed_bytes: int, unpacked_bytes: int) -> None:
        """Count bytes that a decompressor consumed, and bytes that it produced."""
        self._unpacked_bytes += 2 * unpacked_bytes - packed_bytes
        if self._unpacked_bytes < -_IDLE_BYTES:
            raise _too_slow("stored bytes that unpack to next to nothing")

    def member(self) -> None:
        """Count a further gzip member or zstd frame."""
        self._members += 1
        if self._members > self.limits.members:
            raise _too_slow(f"more than {self.limits.members} compressed members")

    def skip(self, blank_lines: int) -> None:
        self._blank_lines += blank_lines
        if self._blank_lines > self.limits.blank_lines:
            raise _too_slow(f"more than {self.limits.blank_lines} blank lines")

    def take_pains(self, size_bytes: int) -> None:
        """Count a line that needs the slow parser, and regularly check the time limit."""
        self._patient_bytes += size_bytes
        if self._patient_bytes > self.limits.patient_bytes:
            raise _too_slow(f"more than {self.limits.patient_bytes} bytes of records that are hard to parse")
        if self._patient_bytes - self._looked_at_bytes >= _LOOK_EVERY_BYTES:
            self._looked_at_bytes = self._patient_bytes
            self.look()

    def hash(self, size_bytes: int) -> None:
        """Count the bytes of a head that is hashed but not stored, because its strings are too long."""
        self._hashed_bytes += size_bytes
        if self._hashed_bytes > self.limits.hashed_bytes:
            raise refusal(Reason.OBJECT_TOO_LARGE, f"distinct heads of more than {self.limits.hashed_bytes} bytes")

    def page(self, header_bytes: int) -> None:
        self._pages += 1
        self._page_header_bytes += header_bytes
        if self._pages > self.limits.pages or self._page_header_bytes > self.limits.page_header_bytes:
            limits = f"{self.limits.pages} pages, or {self.limits.page_header_bytes} bytes of their headers"
            raise refusal(Reason.PARQUET_UNSUPPORTED, f"more than {limits}")
        if self._pages % 256 == 0:
            self.look()


def refusal(reason: Reason, detail: str) -> BatchRefusedError:
    """Refusal of a batch for one problem."""
    return BatchRefusedError([problem(reason, detail)])


def _too_slow(detail: str) -> BatchRefusedError:
    return refusal(Reason.TOO_SLOW, detail)

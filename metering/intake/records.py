"""Data-transfer records as they arrive, decoded but not yet judged.

A record is a JSON object or a row. Its ten known fields are decoded one by one. A value that cannot be decoded is kept
as its JSON value, because the content hash covers it (docs/contract.md, content identity). As in Parquet, `null` equals
a missing value.

`WireRecord` is the fast decoder: a record that it takes, it decodes exactly as `decode_record` does. All other records
(with a float, a lone surrogate or a wrong type) go through `decode_record`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from operator import attrgetter
from typing import TYPE_CHECKING

import msgspec

from metering.intake.instants import epoch_us, rfc3339_us
from metering.intake.json_values import (
    DepthError,
    JsonError,
    Number,
    canonical_json,
    canonical_number,
    int64_of,
    parse_json,
)
from metering.intake.reasons import Problem, Reason, problem

if TYPE_CHECKING:
    from collections.abc import Callable

    from metering.intake.json_values import JsonValue


@dataclass(frozen=True, slots=True)
class Undecodable:
    """Value of a field that is not of the field's type: the canonical text of its JSON value."""

    json: str

    def __len__(self) -> int:
        return len(self.json)


@dataclass(frozen=True, slots=True)
class LongText:
    """Stand-in for a text of a head that is longer than any valid one.

    Attributes:
        start: Its first `LONG_START_CHARS` characters.
        digest: SHA-256 of its `value` in the content hash, which tells it from other texts.
        decoded: Whether it is a text, and not the canonical JSON of a value of another type.
    """

    start: str
    digest: bytes
    decoded: bool

    def __len__(self) -> int:
        return len(self.start)


RawText = bytes
Text = str | Undecodable | None
HeadText = Text | LongText
Integer = int | Undecodable | None

MAX_HEAD_CHARS = 128
"""Characters of the longest valid text of a head (docs/contract.md, `usage_type`)."""
LONG_START_CHARS = 64

Head = tuple[HeadText, HeadText, HeadText, HeadText, HeadText, HeadText]
"""The fields that decide where traffic belongs: account_id, service, direction, from, to, usage_type."""


class WireRecord(msgspec.Struct, gc=False, rename={"from_location": "from", "to_location": "to"}):
    """Record as msgspec decodes it. `start` and `end` are RFC 3339 text or epoch seconds, not yet parsed."""

    account_id: str | None = None
    service: str | None = None
    resource_id: str | None = None
    direction: str | None = None
    from_location: str | None = None
    to_location: str | None = None
    bytes: int | None = None
    start: int | str | None = None
    end: int | str | None = None
    usage_type: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ExactRecord:
    """Record as `decode_record` decodes it.

    Attributes:
        broken: If it is not a JSON object, the problem, and the bytes that stand for it in the content hash.
    """

    account_id: Text = None
    service: Text = None
    resource_id: Text = None
    direction: Text = None
    from_location: Text = None
    to_location: Text = None
    bytes: Integer = None
    start: int | Text = None
    end: int | Text = None
    usage_type: Text = None
    broken: tuple[Problem, RawText] | None = None


AnyRecord = WireRecord | ExactRecord

head_of: Callable[[AnyRecord], Head] = attrgetter(
    "account_id", "service", "direction", "from_location", "to_location", "usage_type"
)

_SHORT_HEAD_CHARS = 512


def is_short(head: Head) -> bool:
    """Whether results for a head may be cached. Senders choose heads, so caching long ones lets them fill memory."""
    return sum([len(text) for text in head if text]) <= _SHORT_HEAD_CHARS


_RECORD_PROBLEM = problem(Reason.RECORD_NOT_AN_OBJECT, "a record is a JSON object")


def decode_record(text: bytes) -> ExactRecord:
    """Decode the text of one record. Any text gives a record: this never raises."""
    lenient = text.decode("utf-8", errors="surrogateescape")
    try:
        value = parse_json(lenient)
    except DepthError as error:
        return ExactRecord(broken=(problem(Reason.TOO_DEEPLY_NESTED, str(error)), text))
    except JsonError as error:
        return ExactRecord(broken=(problem(Reason.RECORD_NOT_JSON, str(error)), text))
    return exact_record(value)


def exact_record(value: JsonValue) -> ExactRecord:
    """Decode one record from its JSON value."""
    if not isinstance(value, dict):
        return ExactRecord(broken=(_RECORD_PROBLEM, canonical_json(value).encode()))
    return ExactRecord(
        account_id=_text(value.get("account_id")),
        service=_text(value.get("service")),
        resource_id=_text(value.get("resource_id")),
        direction=_text(value.get("direction")),
        from_location=_text(value.get("from")),
        to_location=_text(value.get("to")),
        bytes=_integer(value.get("bytes")),
        start=_moment(value.get("start")),
        end=_moment(value.get("end")),
        usage_type=_text(value.get("usage_type")),
    )


def integer_of(value: Integer) -> Integer:
    """A decoded integer, or `Undecodable` if it needs more than 64 bits; both parsers share this limit."""
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        return Undecodable(canonical_number(str(value)))
    return value


def instant_of(value: int | Text) -> Integer:
    """Epoch microseconds of a `start` or `end` field, or its `Undecodable` value."""
    if value is None or isinstance(value, Undecodable):
        return value
    if isinstance(value, int):
        instant_us = epoch_us(value)
        return Undecodable(canonical_number(str(value))) if instant_us is None else instant_us
    instant_us = rfc3339_us(value)
    return Undecodable(canonical_json(value)) if instant_us is None else instant_us


# Records of one batch, and of neighbouring ones, share their times. Senders choose the texts, so only those of at most
# `MAX_TIME_CHARS` may come here.
short_instant_of = lru_cache(maxsize=65_536)(instant_of)


def _text(value: JsonValue) -> Text:
    if value is None:
        return None
    if isinstance(value, str) and not isinstance(value, Number) and _is_unicode(value):
        return value
    return Undecodable(canonical_json(value))


def _is_unicode(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _integer(value: JsonValue) -> Integer:
    if value is None:
        return None
    canonical = canonical_json(value)
    number = int64_of(canonical) if isinstance(value, Number) else None
    return Undecodable(canonical) if number is None else number


def _moment(value: JsonValue) -> int | Text:
    return _integer(value) if isinstance(value, Number) else _text(value)

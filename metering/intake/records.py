"""Data-transfer records as received and decoded, and the rules for them (docs/contract.md, the record).

A record is a JSON object or a row. The ten known fields of a record are decoded one by one. A value that cannot be
decoded is kept as its JSON value, because the content hash covers it (docs/contract.md, content identity). As in
Parquet, `null` equals a missing value.

`WireRecord` is the fast decoder: a record that it accepts is decoded exactly as by `decode_record`. All other records
(with a float, a lone surrogate or a wrong type) go through `decode_record`.

Each rule is implemented once, and reports every problem. The head of a record, its resource id, its bytes and its two
times are checked separately, so a value that many records share is checked only once.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from operator import attrgetter
from typing import TYPE_CHECKING

import msgspec

from metering.intake.admission import HOUR_US, SECOND_US, Admission, epoch_us, rfc3339_us
from metering.intake.json_values import (
    DepthError,
    JsonError,
    JsonValue,
    Number,
    canonical_json,
    canonical_number,
    int64_of,
    parse_json,
    readable_number,
)
from metering.intake.work import Problem, Reason, ordered, problem, quoted
from metering.usage.usage_types import (
    CLOUDFRONT,
    CLOUDFRONT_SERVICE,
    EXPLICIT_USAGE_TYPE,
    SERVICE,
    Location,
    classify,
    parse_location,
)

if TYPE_CHECKING:
    from array import array
    from collections.abc import Callable, Iterable, Sequence


@dataclass(frozen=True, slots=True)
class Undecodable:
    """Value of the wrong type for its field, as the canonical text of the JSON value."""

    json: str

    def __len__(self) -> int:
        return len(self.json)


@dataclass(frozen=True, slots=True)
class LongText:
    """Placeholder for a string of a head that is longer than any valid string.

    Attributes:
        start: Its first `LONG_START_CHARS` characters.
        digest: SHA-256 of the string's `value` in the content hash, which distinguishes the string from others.
        decoded: True if the field had a string; False if the text is the canonical JSON of a value of another type.
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
    """Record as decoded by msgspec. `start` and `end` are RFC 3339 text or epoch seconds, not yet parsed."""

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
    """Record as decoded by `decode_record`.

    Attributes:
        broken: For a record that is no JSON object: the problem, and the bytes that represent it in the content hash.
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
    """Whether results for a head may be cached. Caching long heads would let senders fill memory."""
    return sum([len(text) for text in head if text]) <= _SHORT_HEAD_CHARS


_RECORD_PROBLEM = problem(Reason.RECORD_NOT_AN_OBJECT, "a record is a JSON object")


def decode_record(text: bytes) -> ExactRecord:
    """Decode the text of one record. Any text yields a record; no exception is raised."""
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
    """A decoded integer, or `Undecodable` if it needs more than 64 bits, as in both parsers."""
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


# Records of a batch, and of neighbouring batches, often have the same times. Senders choose these texts, so only texts
# of at most `MAX_TIME_CHARS` may be cached.
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


# Content identity: a versioned hash over all records of a batch, in order, as decoded values.
#
# The hash covers decoded values only, so inline, NDJSON and Parquet forms of the same records have one hash. The hash
# is independent of clock, settings and rules, so a copy that arrives weeks later has the same hash. Version 1, all
# integers little-endian:
#
#     hash    = SHA-256( "metering.content/1\n" . u64 number of records . SHA-256 of each stream below, in order )
#     value   = u8 kind . u32 length . text     kind 0: none (missing or null, no text), 1: decoded (its UTF-8),
#                                               2: undecodable (canonical JSON: ASCII, keys sorted, no white space,
#                                               numbers by value)
#     head    = value of account_id, service, direction, from, to, usage_type
#
#     heads        each distinct head, in the order of first appearance
#     head index   u32 for each record: the number of its head, from 0
#     resource_id  u32 length for each record, in UTF-8 bytes
#                  the UTF-8 of all of them together
#     bytes        i64 for each record
#     start        i64 for each record: microseconds since 1970, finer digits cut off
#     end          the same
#     exceptions   for each value that is not decoded, in record order, then in the order resource_id, bytes,
#                  start, end: u32 position of the record . u8 column from 0 . value; its place in the streams above
#                  is 0
#                  or empty. A record that is not a JSON object has no fields, and an entry with column 4 before those
#                  of its fields: the canonical JSON, or the line's bytes if it is not JSON, as kind 2.
#
# The streams are columns, because hashing them costs a tenth of hashing record by record.


HASH_VERSION = 1
BODY_HASH_VERSION = 0
"""Version of a hash that is the SHA-256 of the message body, because the records could not be read."""

RESOURCE_ID, BYTES, START, END, RECORD = range(5)
"""Columns of `exceptions`."""

_MAGIC = b"metering.content/1\n"


class ContentHasher:
    """Hashes a batch piece by piece; the hash does not depend on how the batch is split.

    A head whose strings are not stored in full is added by `add_written_head`, other heads by `add_heads`.
    """

    __slots__ = ("_records", "_streams")

    def __init__(self) -> None:
        self._records = 0
        self._streams = tuple(sha256() for _ in range(8))

    def add_heads(self, heads: Iterable[Head]) -> None:
        """Add new heads, in order of first appearance."""
        self._streams[0].update(b"".join(map(_head_bytes, heads)))

    def add_written_head(self, values: Iterable[bytes | memoryview]) -> None:
        """Add the next new head, as the `value` of each of its fields."""
        for value in values:
            self._streams[0].update(value)

    def add_columns(
        self,
        head_index: bytes | memoryview,
        lengths: bytes | memoryview,
        resource_ids: bytes | memoryview,
        sizes: bytes | memoryview,
        starts: bytes | memoryview,
        ends: bytes | memoryview,
    ) -> None:
        """Add the columns of some records: u32, u32, UTF-8, i64, i64, i64, little-endian."""
        self._records += len(head_index) // 4
        columns = (head_index, lengths, resource_ids, sizes, starts, ends)
        for stream, column in zip(self._streams[1:], columns, strict=False):
            stream.update(column)

    def add_exception(self, position: int, column: int, value: Undecodable | bytes | None) -> None:
        """Add an undecodable value; calls must be in the order of records, then of columns (`RECORD` first)."""
        entry = _tagged(2, value) if isinstance(value, bytes) else value_bytes(value)
        self._streams[7].update(position.to_bytes(4, "little") + bytes([column]) + entry)

    def hexdigest(self) -> str:
        """Content hash of all added records."""
        whole = sha256(_MAGIC + self._records.to_bytes(8, "little"))
        for stream in self._streams:
            whole.update(stream.digest())
        return whole.hexdigest()


def value_bytes(value: Text) -> bytes:
    """The bytes of a `value`, as specified in the comment above."""
    if value is None:
        return b"\0\0\0\0\0"
    if isinstance(value, Undecodable):
        return _tagged(2, value.json.encode("ascii"))
    return _tagged(1, value.encode())


def value_start(kind: int, size_bytes: int) -> bytes:
    """The bytes of a `value` that precede its text."""
    return bytes([kind]) + size_bytes.to_bytes(4, "little")


def kept_head(head: Head) -> Head:
    """The head in stored form: a `LongText` replaces each string that is longer than any valid string."""
    if max([len(text) for text in head if text], default=0) <= MAX_HEAD_CHARS:
        return head
    account_id, service, direction, from_text, to_text, usage_type = map(_kept, head)
    return account_id, service, direction, from_text, to_text, usage_type


def _kept(text: HeadText) -> HeadText:
    if text is None or isinstance(text, LongText) or len(text) <= MAX_HEAD_CHARS:
        return text
    digest = sha256(value_bytes(text)).digest()
    if isinstance(text, Undecodable):
        return LongText(start=text.json[:LONG_START_CHARS], digest=digest, decoded=False)
    return LongText(start=text[:LONG_START_CHARS], digest=digest, decoded=True)


def written_head(head: Head) -> Sequence[bytes]:
    """The `value` of each field of a head that has its full strings."""
    return [value_bytes(text) for text in head if not isinstance(text, LongText)]


def _head_bytes(head: Head) -> bytes:
    return _cached_head_bytes(head) if is_short(head) else _encode_head(head)


def _encode_head(head: Head) -> bytes:
    return b"".join(written_head(head))


# This cache has the size of the cache in `record_rules`.
_cached_head_bytes = lru_cache(maxsize=16_384)(_encode_head)


def little_endian(column: array[int]) -> array[int]:
    """The column in the byte order of the hash."""
    if sys.byteorder == "big":
        column = column[:]
        column.byteswap()
    return column


def _tagged(kind: int, text: bytes) -> bytes:
    return value_start(kind, len(text)) + text


def body_hash(body: str) -> str:
    """SHA-256 of any message body (`BODY_HASH_VERSION`)."""
    return sha256(body.encode("utf-8", errors="surrogatepass")).hexdigest()


MAX_RESOURCE_ID_CHARS = 512

_ACCOUNT_ID = re.compile(r"[0-9]{12}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """Result of the record rules for a head.

    Attributes:
        usage_type: The record's own usage type, else the usage type from the table; empty if there are problems.
        unknown_regions: Regions without a known billing prefix, whose names replace the prefix in `usage_type`.
    """

    problems: tuple[Problem, ...]
    usage_type: str = ""
    unknown_regions: frozenset[str] = frozenset()


def traffic_of(head: Head) -> Traffic:
    """Check and classify a head, either with full strings or in stored form."""
    head = kept_head(head)
    return _judge_cached(head) if is_short(head) else _judge(head)


def resource_problems(resource_id: Text) -> list[Problem]:
    """Problems of a resource id."""
    if not isinstance(resource_id, str):
        return [_absent("resource_id", Reason.INVALID_RESOURCE_ID, resource_id)]
    if not 1 <= len(resource_id) <= MAX_RESOURCE_ID_CHARS:
        detail = f"{len(resource_id)} characters, not 1 to {MAX_RESOURCE_ID_CHARS}"
        return [problem(Reason.INVALID_RESOURCE_ID, detail)]
    if _CONTROL.search(resource_id) is not None:
        return [problem(Reason.INVALID_RESOURCE_ID, f"control characters: {quoted(resource_id)}")]
    return []


def size_problems(size_bytes: Integer) -> list[Problem]:
    """Problems of a byte count."""
    if not isinstance(size_bytes, int):
        return [_absent("bytes", Reason.INVALID_BYTES, size_bytes)]
    return [] if size_bytes >= 0 else [problem(Reason.INVALID_BYTES, f"{size_bytes} is below 0")]


def time_problems(start_us: Integer, end_us: Integer, *, admission: Admission, sent_at_ms: int) -> list[Problem]:
    """Problems of a record's two times: of their values, and of admission for a message sent at `sent_at_ms`."""
    problems = []
    if not isinstance(start_us, int):
        problems.append(_absent("start", Reason.INVALID_START, start_us))
    else:
        refusal = admission.refusal(start_us // SECOND_US, sent_at_ms)
        if refusal is not None:
            age_s = sent_at_ms // 1000 - start_us // SECOND_US
            problems.append(problem(Reason(refusal), f"start is {age_s} s before the message was sent"))
    if not isinstance(end_us, int):
        problems.append(_absent("end", Reason.INVALID_END, end_us))
    elif isinstance(start_us, int):
        if end_us < start_us:
            problems.append(problem(Reason.END_BEFORE_START, f"by {start_us - end_us} us"))
        elif end_us - start_us > HOUR_US:
            problems.append(problem(Reason.SPANS_OVER_AN_HOUR, f"{(end_us - start_us) // SECOND_US} s"))
    return problems


def record_problems(record: AnyRecord, *, admission: Admission, sent_at_ms: int) -> tuple[Problem, ...]:
    """Every problem of a record, in the order of `Reason`; empty if it is metered."""
    if isinstance(record, ExactRecord) and record.broken is not None:
        return (record.broken[0],)
    return field_problems(
        head_of(record),
        record.resource_id,
        integer_of(record.bytes),
        (instant_of(record.start), instant_of(record.end)),
        admission=admission,
        sent_at_ms=sent_at_ms,
    )


def field_problems(
    head: Head,
    resource_id: Text,
    size_bytes: Integer,
    times_us: tuple[Integer, Integer],
    *,
    admission: Admission,
    sent_at_ms: int,
) -> tuple[Problem, ...]:
    """Every problem of a record's decoded fields, in the order of `Reason`; empty if it is metered."""
    return ordered(
        [
            *traffic_of(head).problems,
            *resource_problems(resource_id),
            *size_problems(size_bytes),
            *time_problems(*times_us, admission=admission, sent_at_ms=sent_at_ms),
        ]
    )


def _judge(head: Head) -> Traffic:
    account_id, service, direction, from_text, to_text, usage_type = head
    problems = [
        *_pattern_problems("account_id", account_id, _ACCOUNT_ID, Reason.INVALID_ACCOUNT_ID, "not 12 digits"),
        *_pattern_problems("service", service, SERVICE, Reason.INVALID_SERVICE, "not 1 to 64 of A-Za-z0-9"),
    ]
    if direction not in ("in", "out"):
        problems.append(_direction_problem(direction))
    if usage_type is not None:
        rule = "not [A-Za-z0-9][A-Za-z0-9:._-]{0,127}"
        problems += _pattern_problems("usage_type", usage_type, EXPLICIT_USAGE_TYPE, Reason.INVALID_USAGE_TYPE, rule)
    from_location = _location("from", from_text, Reason.INVALID_FROM, problems)
    to_location = _location("to", to_text, Reason.INVALID_TO, problems)
    metered = from_location if direction == "out" else to_location if direction == "in" else None
    if metered is not None and not metered.region:
        problems += _edge_problems(metered, head)
    if problems or from_location is None or to_location is None:
        return Traffic(problems=tuple(problems))
    if isinstance(usage_type, str):
        return Traffic(problems=(), usage_type=usage_type)
    classified = classify(str(direction), from_location, to_location)
    return Traffic(problems=(), usage_type=classified.usage_type, unknown_regions=classified.unknown_regions)


def _edge_problems(metered: Location, head: Head) -> list[Problem]:
    """Problems of a metered side that is not a region: only CloudFront's own records may have such a side, the edge."""
    _, service, direction, _, _, usage_type = head
    if metered.name == CLOUDFRONT and service == CLOUDFRONT_SERVICE:
        # No table maps an edge to a usage type: AWS bills edges by billing area, and a billing area is not a location.
        return [problem(Reason.MISSING_FIELD, "usage_type")] if usage_type is None else []
    detail = f"direction {direction}, and {'from' if direction == 'out' else 'to'} is {metered.name}"
    return [problem(Reason.METERED_SIDE_NOT_A_REGION, detail)]


# A fleet's accounts, services and paths repeat from batch to batch. The cache takes at most about 20 MB.
_judge_cached = lru_cache(maxsize=16_384)(_judge)


def _pattern_problems(name: str, value: HeadText, pattern: re.Pattern[str], reason: Reason, rule: str) -> list[Problem]:
    if not isinstance(value, str):
        return [_absent(name, reason, value)]
    return [] if pattern.fullmatch(value) else [problem(reason, f"{rule}: {quoted(value)}")]


def _direction_problem(value: HeadText) -> Problem:
    if not isinstance(value, str):
        return _absent("direction", Reason.INVALID_DIRECTION, value)
    return problem(Reason.INVALID_DIRECTION, f"neither in nor out: {quoted(value)}")


def _location(name: str, value: HeadText, reason: Reason, problems: list[Problem]) -> Location | None:
    if not isinstance(value, str):
        problems.append(_absent(name, reason, value))
        return None
    location = parse_location(value)
    if isinstance(location, str):
        problems.append(problem(reason, f"{location}: {quoted(value)}"))
        return None
    return location


def _absent(name: str, reason: Reason, value: Undecodable | LongText | None) -> Problem:
    if value is None:
        return problem(Reason.MISSING_FIELD, name)
    if isinstance(value, LongText):
        begin = f"more than {MAX_HEAD_CHARS} characters" if value.decoded else "not of its type"
        return problem(reason, f"{begin}: {quoted(value.start)}")
    return problem(reason, f"not of its type: {quoted(readable_number(value.json))}")

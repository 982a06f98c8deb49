"""Bad input, as a producer's bug, an old agent or an attacker sends it, with the verdict that it must get."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from metering.replay.forms import Envelope, Upload, inline_body, object_body, pointer_body
from metering.replay.scenarios import Form

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Sequence

    from metering.replay.records import Records

# Texts that replace a valid record. Each must be refused without its neighbours. `%d` makes each text unique.
BAD_RECORDS: tuple[str, ...] = (
    '"a text, not an object, number %d"',
    '{"account_id":"12345","service":"AmazonEC2","resource_id":"i-%d","direction":"out","from":"us-east-1",'
    '"to":"internet","bytes":1,"start":"2026-11-24T13:00:00Z","end":"2026-11-24T13:05:00Z"}',
    '{"account_id":"123456789012","service":"Amazon EC2","resource_id":"i-%d","direction":"out","from":"us-east-1",'
    '"to":"internet","bytes":1,"start":"2026-11-24T13:00:00Z","end":"2026-11-24T13:05:00Z"}',
    '{"account_id":"123456789012","service":"AmazonEC2","resource_id":"\\u001b[2J%d","direction":"out",'
    '"from":"us-east-1","to":"internet","bytes":1,"start":"2026-11-24T13:00:00Z","end":"2026-11-24T13:05:00Z"}',
    '{"account_id":"123456789012","service":"AmazonEC2","resource_id":"i-%d","direction":"sideways",'
    '"from":"us-east-1","to":"internet","bytes":1,"start":"2026-11-24T13:00:00Z","end":"2026-11-24T13:05:00Z"}',
    '{"account_id":"123456789012","service":"AmazonEC2","resource_id":"i-%d","direction":"out",'
    '"from":"us-east-1/us-east-1a","to":"internet","bytes":1,"start":1784000000,"end":1784000300}',
    '{"account_id":"123456789012","service":"AmazonEC2","resource_id":"i-%d","direction":"out","from":"us-east-1",'
    '"to":"the moon","bytes":1,"start":"2026-11-24T13:00:00Z","end":"2026-11-24T13:05:00Z"}',
    '{"account_id":"123456789012","service":"AmazonEC2","resource_id":"i-%d","direction":"out","from":"internet",'
    '"to":"us-east-1","bytes":1,"start":"2026-11-24T13:00:00Z","end":"2026-11-24T13:05:00Z"}',
    '{"account_id":"123456789012","service":"AmazonEC2","resource_id":"i-%d","direction":"out","from":"us-east-1",'
    '"to":"internet","bytes":-1,"start":"2026-11-24T13:00:00Z","end":"2026-11-24T13:05:00Z"}',
    '{"account_id":"123456789012","service":"AmazonEC2","resource_id":"i-%d","direction":"out","from":"us-east-1",'
    '"to":"internet","bytes":9223372036854775808,"start":"2026-11-24T13:00:00Z","end":"2026-11-24T13:05:00Z"}',
    '{"account_id":"123456789012","service":"AmazonEC2","resource_id":"i-%d","direction":"out","from":"us-east-1",'
    '"to":"internet","bytes":1.5,"start":"2026-11-24T13:00:00Z","end":"2026-11-24T13:05:00Z"}',
    '{"account_id":"123456789012","service":"AmazonEC2","resource_id":"i-%d","direction":"out","from":"us-east-1",'
    '"to":"internet","bytes":null,"start":"2026-11-24T13:00:00Z","end":"2026-11-24T13:05:00Z"}',
    '{"account_id":"123456789012","service":"AmazonEC2","resource_id":"i-%d","direction":"out","from":"us-east-1",'
    '"to":"internet","bytes":1,"start":"2026-11-24T13:00:00Z","end":"2026-11-24T12:55:00Z"}',
    '{"account_id":"123456789012","service":"AmazonEC2","resource_id":"i-%d","direction":"out","from":"us-east-1",'
    '"to":"internet","bytes":1,"start":"2026-11-24T13:00:00Z","end":"2026-11-24T15:00:01Z"}',
    '{"account_id":"123456789012","service":"AmazonEC2","resource_id":"i-%d","direction":"out","from":"us-east-1",'
    '"to":"internet","bytes":1,"start":"yesterday","end":"today"}',
    '{"account_id":"123456789012","resource_id":"i-%d"}',
)


@dataclass(frozen=True, slots=True, kw_only=True)
class BadMessage:
    """A message that must be refused as a whole.

    Attributes:
        batch_id: Empty if the service cannot read one.
        reason: The reason that the service must give; empty if several are right.
        upload: Object to put before the message is sent.
    """

    body: str
    batch_id: str
    reason: str
    upload: Upload | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Victim:
    """A valid batch that a fault spoils."""

    envelope: Envelope
    records: Records
    bucket: str
    number: int


def spoil_records(texts: Sequence[str], rng: random.Random, number: int) -> tuple[list[str], frozenset[int]]:
    """Replace up to a quarter of the records, but never all, by bad ones; returns the texts and the bad positions."""
    count = min(rng.randint(1, max(1, len(texts) // 4)), len(texts) - 1)
    places = frozenset(rng.sample(range(len(texts)), count))
    spoilt = [
        BAD_RECORDS[rng.randrange(len(BAD_RECORDS))] % (number * 1_000 + place) if place in places else text
        for place, text in enumerate(texts)
    ]
    return spoilt, places


def _not_json(victim: Victim) -> BadMessage:
    body = inline_body(victim.envelope, victim.records.texts)
    return BadMessage(body=body[: len(body) // 2], batch_id="", reason="not_json")


def _wrong_schema(victim: Victim) -> BadMessage:
    body = inline_body(victim.envelope, victim.records.texts).replace("metering.batch/1", "metering.batch/99", 1)
    return BadMessage(body=body, batch_id=victim.envelope.batch_id, reason="")


def _wrong_count(victim: Victim) -> BadMessage:
    envelope = victim.envelope
    wrong = Envelope(
        batch_id=envelope.batch_id,
        source_id=envelope.source_id,
        sequence=envelope.sequence,
        record_count=envelope.record_count + 1,
    )
    body = inline_body(wrong, victim.records.texts)
    return BadMessage(body=body, batch_id=envelope.batch_id, reason="record_count_mismatch")


def _no_records(victim: Victim) -> BadMessage:
    body = inline_body(victim.envelope, [])
    return BadMessage(body=body, batch_id=victim.envelope.batch_id, reason="")


def _all_bad(victim: Victim) -> BadMessage:
    count = victim.envelope.record_count
    texts = [BAD_RECORDS[place % 12] % (victim.number * 1_000 + place) for place in range(count)]
    return BadMessage(body=inline_body(victim.envelope, texts), batch_id=victim.envelope.batch_id, reason="")


def _no_id(victim: Victim) -> BadMessage:
    body = inline_body(victim.envelope, victim.records.texts).replace('"batch_id":', '"id":', 1)
    return BadMessage(body=body, batch_id="", reason="invalid_batch_id")


def _outside(victim: Victim) -> BadMessage:
    return _pointer(victim, "lake/stolen.ndjson", reason="location_not_allowed")


def _other_bucket(victim: Victim) -> BadMessage:
    key = f"ingest/{victim.envelope.batch_id}.ndjson"
    body = pointer_body(victim.envelope, Upload(key=key, body=b""), "somebody-elses-bucket", Form.NDJSON)
    return BadMessage(body=body, batch_id=victim.envelope.batch_id, reason="location_not_allowed")


def _gone(victim: Victim) -> BadMessage:
    return _pointer(victim, f"ingest/{victim.envelope.batch_id}.ndjson", reason="object_missing")


def _truncated(victim: Victim) -> BadMessage:
    whole = object_body(victim.records.texts, victim.records, Form.NDJSON_GZIP)
    upload = Upload(key=f"ingest/{victim.envelope.batch_id}.ndjson.gz", body=whole[: len(whole) // 2])
    body = pointer_body(victim.envelope, upload, victim.bucket, Form.NDJSON_GZIP)
    return BadMessage(body=body, batch_id=victim.envelope.batch_id, reason="object_truncated", upload=upload)


def _wrong_compression(victim: Victim) -> BadMessage:
    plain = object_body(victim.records.texts, victim.records, Form.NDJSON)
    upload = Upload(key=f"ingest/{victim.envelope.batch_id}.ndjson.zst", body=plain)
    body = pointer_body(victim.envelope, upload, victim.bucket, Form.NDJSON_ZSTD)
    return BadMessage(body=body, batch_id=victim.envelope.batch_id, reason="", upload=upload)


def _wrong_digest(victim: Victim) -> BadMessage:
    upload = Upload(
        key=f"ingest/{victim.envelope.batch_id}.ndjson",
        body=object_body(victim.records.texts, victim.records, Form.NDJSON),
    )
    other = Upload(key=upload.key, body=b"other")
    body = pointer_body(victim.envelope, other, victim.bucket, Form.NDJSON)
    return BadMessage(body=body, batch_id=victim.envelope.batch_id, reason="sha256_mismatch", upload=upload)


def _pointer(victim: Victim, key: str, *, reason: str) -> BadMessage:
    whole = Upload(key=key, body=object_body(victim.records.texts, victim.records, Form.NDJSON))
    body = pointer_body(victim.envelope, whole, victim.bucket, Form.NDJSON)
    return BadMessage(body=body, batch_id=victim.envelope.batch_id, reason=reason)


BAD_MESSAGES: tuple[Callable[[Victim], BadMessage], ...] = (
    _not_json,
    _wrong_schema,
    _wrong_count,
    _no_records,
    _all_bad,
    _no_id,
    _outside,
    _other_bucket,
    _gone,
    _truncated,
    _wrong_compression,
    _wrong_digest,
)

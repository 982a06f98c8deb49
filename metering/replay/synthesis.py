"""Synthetic traffic: seed, scenario and hour determine a sequence of messages and the expected verdict of each.

Batch ids contain scenario, seed and hour. So the same replay in the same hour sends the same batches again, all of them
duplicates; in another hour, the replay sends other batches.
"""

import gzip
import hashlib
import io
import json
import random
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from metering.audit.verification import SentBatch, body_digest
from metering.hours import hour_label
from metering.replay.records import RecordGenerator, Records
from metering.replay.scenarios import Form, Scenario, Season

SCHEMA = "metering.batch/1"

_TIMESTAMP = pa.timestamp("us", tz="UTC")


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """An S3 object to put before the message is sent."""

    key: str
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """Fields of a message other than its records. Without a sequence, the message also omits the source."""

    batch_id: str
    source_id: str
    sequence: int | None
    record_count: int

    def head(self) -> str:
        """The fields as a JSON object without the closing brace."""
        source = "" if self.sequence is None else f'"source_id":"{self.source_id}","sequence":{self.sequence},'
        return f'{{"schema":"{SCHEMA}","batch_id":"{self.batch_id}",{source}"record_count":{self.record_count}'


def inline_body(envelope: Envelope, texts: Sequence[str]) -> str:
    """Message with its records inline."""
    return f'{envelope.head()},"records":[{",".join(texts)}]}}'


def cloud_event(body: str, batch_id: str, source_id: str) -> str:
    """Wrap `body` as the data of a CloudEvents 1.0 event."""
    event = {
        "specversion": "1.0",
        "id": batch_id,
        "source": f"/metering/{source_id}",
        "type": "metering.batch",
        "datacontenttype": "application/json",
    }
    return f'{json.dumps(event)[:-1]},"data":{body}}}'


def pointer_body(envelope: Envelope, upload: Upload, bucket: str, form: Form) -> str:
    """Message that points to `upload`, with the digest of the stored bytes."""
    name, _, packing = form.suffix.partition(".")
    location = {
        "bucket": bucket,
        "key": upload.key,
        "format": name,
        "compression": {"gz": "gzip", "zst": "zstd"}.get(packing, "none"),
    }
    digest = hashlib.sha256(upload.body).hexdigest()
    return f'{envelope.head()},"location":{json.dumps(location)},"sha256":"{digest}"}}'


def object_body(texts: Sequence[str], records: Records, form: Form) -> bytes:
    """Object body in `form`. Parquet is encoded from `records`, other formats from `texts`."""
    if form.suffix == "parquet":
        return _parquet(records)
    lines = "".join(f"{text}\n" for text in texts).encode()
    if form.suffix == "ndjson.gz":
        return gzip.compress(lines, compresslevel=1, mtime=0)
    return zstandard.ZstdCompressor(level=1).compress(lines) if form.suffix == "ndjson.zst" else lines


def _parquet(records: Records) -> bytes:
    columns = records.columns()
    arrays = {name: pa.array(values) for name, values in columns.items()}
    for name in ("start", "end"):
        arrays[name] = pa.array([second * 1_000_000 for second in columns[name]], _TIMESTAMP)
    arrays["usage_type"] = pa.array([text or None for text in columns["usage_type"]], pa.string())
    buffer = io.BytesIO()
    pq.write_table(pa.table(arrays), buffer, compression="zstd")
    return buffer.getvalue()


_RECORD = {
    "account_id": '"123456789012"',
    "service": '"AmazonEC2"',
    "resource_id": '"i-%d"',
    "direction": '"out"',
    "from": '"us-east-1"',
    "to": '"internet"',
    "bytes": "1",
    "start": '"2026-11-24T13:00:00Z"',
    "end": '"2026-11-24T13:05:00Z"',
}


def _bad(changes: dict[str, str]) -> str:
    return "{" + ",".join(f'"{name}":{value}' for name, value in {**_RECORD, **changes}.items()) + "}"


# Texts that replace a valid record. Each must be refused without affecting its neighbours. `%d` makes each text unique.
BAD_RECORDS: tuple[str, ...] = (
    '"a text, not an object, number %d"',
    _bad({"account_id": '"12345"'}),
    _bad({"service": '"Amazon EC2"'}),
    _bad({"resource_id": r'"\u001b[2J%d"'}),
    _bad({"direction": '"sideways"'}),
    _bad({"from": '"us-east-1/us-east-1a"', "start": "1784000000", "end": "1784000300"}),
    _bad({"to": '"the moon"'}),
    _bad({"from": '"internet"', "to": '"us-east-1"'}),
    _bad({"bytes": "-1"}),
    _bad({"bytes": "9223372036854775808"}),
    _bad({"bytes": "1.5"}),
    _bad({"bytes": "null"}),
    _bad({"end": '"2026-11-24T12:55:00Z"'}),
    _bad({"end": '"2026-11-24T15:00:01Z"'}),
    _bad({"start": '"yesterday"', "end": '"today"'}),
    '{"account_id":"123456789012","resource_id":"i-%d"}',
)


@dataclass(frozen=True, slots=True, kw_only=True)
class BadMessage:
    """A message that must be refused as a whole.

    Attributes:
        batch_id: Empty if the service cannot read a batch id in the message.
        reason: The reason that the service must state; empty if several reasons are valid.
        upload: Object to put before the message is sent.
    """

    body: str
    batch_id: str
    reason: str
    upload: Upload | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Victim:
    """A valid batch, into which a fault is injected."""

    envelope: Envelope
    records: Records
    bucket: str
    number: int


def spoil_records(texts: Sequence[str], rng: random.Random, number: int) -> tuple[list[str], frozenset[int]]:
    """Replace up to a quarter of the records (never all) by bad records; return all texts, and the bad positions."""
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
    body = inline_body(replace(envelope, record_count=envelope.record_count + 1), victim.records.texts)
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
    *(_not_json, _wrong_schema, _wrong_count, _no_records, _all_bad, _no_id),
    *(_outside, _other_bucket, _gone, _truncated, _wrong_compression, _wrong_digest),
)


_HOUR_S = 3_600
_DAY_S = 86_400
_SOURCES = 8
# Copies and conflicts are drawn from the latest batches, at most this many.
_REMEMBERED = 200
# Ages in days for a window of 35 days: one is admitted, one is too old. The margins allow for the duration of a replay.
_LATE_DAYS = (2, 33)
_TOO_LATE_DAYS = (36, 60)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shipment:
    """One message to be sent.

    Attributes:
        body: Message body; empty if an S3 event announces the object.
        upload: Object to put before the message is sent.
        sent: Line of the manifest. A dropped object's batch id is filled in once the object is put.
    """

    sent: SentBatch
    body: str = ""
    upload: Upload | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shipped:
    """A sent batch, from which copies and conflicts can be made."""

    shipment: Shipment
    envelope: Envelope
    records: Records


class Synthesis:
    """Messages of a scenario, drawn one by one. The latest batches are kept, to make copies and conflicts of them.

    Args:
        name: Prefix of the batch ids; see `replay_name`.
        scenario: Shape of the traffic.
        seed: Seed of all random draws; the same seed gives the same traffic.
        base_hour_s: Newest hour in which records start.
        bucket: The region's data bucket.
    """

    def __init__(self, *, name: str, scenario: Scenario, seed: int, base_hour_s: int, bucket: str) -> None:
        self._name = name
        self._scenario = scenario
        self._seed = seed
        self._base_hour_s = base_hour_s
        self._bucket = bucket
        self._generator = RecordGenerator(
            [account_id(seed, number) for number in range(scenario.accounts)],
            accounts_per_batch=scenario.accounts_per_batch,
            keys_per_batch=scenario.season.flows if scenario.season else scenario.keys_per_batch,
            mean_bits=scenario.mean_bits,
        )
        self._forms = list(scenario.forms)
        self._weights = list(scenario.forms.values())
        self._recent: deque[_Shipped] = deque(maxlen=_REMEMBERED)
        self._sequences = [0] * _SOURCES
        self._batches = scenario.batches
        hours, busy = [base_hour_s - _HOUR_S * back for back in range(scenario.hours)], scenario.busy
        # Hours to draw from. A busy hour occurs several times in the list.
        self._hours = [hour_s for hour_s in hours for _ in range(busy[hour_s % _DAY_S // _HOUR_S] if busy else 1)]

    def shipments(self, batches: int) -> Iterator[Shipment]:
        """Make `batches` messages, copies and conflicts included."""
        self._batches = batches
        for number in range(batches):
            yield self._next(random.Random(f"{self._seed}/{number}"), number)  # noqa: S311  # repeatable, no secret

    def _next(self, rng: random.Random, number: int) -> Shipment:
        scenario, place = self._scenario, rng.random()
        if self._recent:
            if place < scenario.duplicates:
                return _copy(self._recent[rng.randrange(len(self._recent))].shipment)
            place -= scenario.duplicates
            if place < scenario.conflicts:
                return self._conflict(rng)
            place -= scenario.conflicts
        if place < scenario.late:
            return self._late(rng, number, admitted=place < scenario.late / 2)
        place -= scenario.late
        if place < scenario.malformed:
            return self._malformed(rng, number) if place < scenario.malformed / 2 else self._partly(rng, number)
        return self._good(rng, number, self._hours)

    def _good(self, rng: random.Random, number: int, hours: Sequence[int]) -> Shipment:
        count, season = self._scenario.records_per_batch, self._scenario.season
        steady = season if hours is self._hours else None
        records = self._steady(rng, number, steady) if steady else self._generator.draw(rng, count, hours)
        form = rng.choices(self._forms, self._weights)[0]
        envelope = self._envelope(rng, number, sequenced=not form.dropped)
        sent = SentBatch(
            batch_id="" if form.dropped else envelope.batch_id,
            records=len(records.rows),
            metered=len(records.rows),
            totals=records.totals(),
        )
        shipment = self._packed(envelope, records.texts, records, form, sent)
        self._recent.append(_Shipped(shipment=shipment, envelope=envelope, records=records))
        return shipment

    def _steady(self, rng: random.Random, number: int, season: Season) -> Records:
        """Records of the hours since the batch before, all in the last of these hours."""
        scenario = self._scenario
        before, last = (scenario.hours * place // self._batches for place in (number, number + 1))
        first_s = self._base_hour_s - (scenario.hours - 1) * _HOUR_S
        hours = [first_s + place * _HOUR_S for place in range(before, max(last, before + 1))]
        # 1 January 1970 was a Thursday.
        weight = sum(
            scenario.busy[hour_s % _DAY_S // _HOUR_S] * season.week[(hour_s // _DAY_S + 3) % 7] for hour_s in hours
        )
        unusual = hours[-1] // _DAY_S == self._base_hour_s // _DAY_S - season.unusual_days_ago

        def size(account: int, flow: int) -> int:
            times = season.unusual_times if unusual and (account, flow) == (1, 0) else 1
            return season.bytes_a_weight * weight * times // ((account + 1) * (flow + 1))

        return self._generator.steady(rng, scenario.records_per_batch, hours[-1], size)

    def _conflict(self, rng: random.Random) -> Shipment:
        choice = self._recent[rng.randrange(len(self._recent))]
        if not choice.shipment.sent.batch_id:
            # The id of a dropped object is derived from its content, so a copy cannot have other content.
            return _copy(choice.shipment)
        self._recent.remove(choice)
        records = choice.records.changed()
        sent = replace(choice.shipment.sent, content=1, expect="conflict", totals=records.totals())
        return Shipment(sent=sent, body=inline_body(choice.envelope, records.texts))

    def _late(self, rng: random.Random, number: int, *, admitted: bool) -> Shipment:
        first, last = _LATE_DAYS if admitted else _TOO_LATE_DAYS
        hours = [self._base_hour_s - _DAY_S * rng.randint(first, last) - _HOUR_S * rng.randrange(24) for _ in range(2)]
        if admitted:
            return self._good(rng, number, hours)
        records = self._generator.draw(rng, self._scenario.records_per_batch, hours)
        envelope = self._envelope(rng, number)
        sent = SentBatch(
            batch_id=envelope.batch_id, expect="rejected", records=len(records.rows), metered=0, reason="too_late"
        )
        return Shipment(sent=sent, body=inline_body(envelope, records.texts))

    def _malformed(self, rng: random.Random, number: int) -> Shipment:
        records = self._generator.draw(rng, self._scenario.records_per_batch, self._hours)
        victim = Victim(
            envelope=self._envelope(rng, number, sequenced=False), records=records, bucket=self._bucket, number=number
        )
        return _refused(BAD_MESSAGES[rng.randrange(len(BAD_MESSAGES))](victim), victim)

    def _partly(self, rng: random.Random, number: int) -> Shipment:
        if self._scenario.records_per_batch < 2:  # The batch needs one record to refuse, and one to meter.
            return self._malformed(rng, number)
        records = self._generator.draw(rng, self._scenario.records_per_batch, self._hours)
        texts, places = spoil_records(records.texts, rng, number)
        kept = records.without(places)
        envelope = self._envelope(rng, number)
        sent = SentBatch(
            batch_id=envelope.batch_id,
            expect="partly",
            records=len(texts),
            metered=len(kept.rows),
            totals=kept.totals(),
        )
        form = (Form.INLINE, Form.NDJSON, Form.NDJSON_GZIP)[rng.randrange(3)]
        form = form if form in self._forms else Form.INLINE
        return self._packed(envelope, texts, kept, form, sent)

    def _packed(
        self, envelope: Envelope, texts: Sequence[str], records: Records, form: Form, sent: SentBatch
    ) -> Shipment:
        if form is Form.INLINE:
            return Shipment(sent=sent, body=inline_body(envelope, texts))
        if form is Form.CLOUD_EVENT:
            body = cloud_event(inline_body(envelope, texts), envelope.batch_id, envelope.source_id)
            return Shipment(sent=sent, body=body)
        folder = "drop" if form.dropped else "ingest"
        upload = Upload(
            key=f"{folder}/{self._name}/{envelope.batch_id}.{form.suffix}", body=object_body(texts, records, form)
        )
        if form.dropped:
            return Shipment(sent=sent, upload=upload)
        return Shipment(sent=sent, body=pointer_body(envelope, upload, self._bucket, form), upload=upload)

    def _envelope(self, rng: random.Random, number: int, *, sequenced: bool = True) -> Envelope:
        source = rng.randrange(_SOURCES)
        sequence = self._sequences[source]
        # A number without a marker would be a permanent gap, so a batch that gets no marker uses no number.
        self._sequences[source] += sequenced
        return Envelope(
            batch_id=f"{self._name}-{number:06d}",
            source_id=f"{self._name}-s{source}",
            sequence=sequence if sequenced else None,
            record_count=self._scenario.records_per_batch,
        )


def replay_name(scenario: str, seed: int, base_hour_s: int) -> str:
    """Prefix of all batch ids of a replay, `mixed-7-2026112413`."""
    return f"{scenario}-{seed}-{hour_label(base_hour_s).replace('-', '').replace('T', '')}"


def account_id(seed: int, number: int) -> str:
    """Synthetic account id: the digit 9, three digits of the seed, eight digits of the number."""
    return f"9{seed % 1_000:03d}{number:08d}"


def _copy(shipment: Shipment) -> Shipment:
    return replace(shipment, sent=replace(shipment.sent, expect="duplicate", totals={}))


def _refused(bad: BadMessage, victim: Victim) -> Shipment:
    sent = SentBatch(
        batch_id=bad.batch_id,
        expect="rejected",
        records=victim.envelope.record_count,
        metered=0,
        reason=bad.reason,
        body_sha256="" if bad.batch_id else body_digest(bad.body),
    )
    return Shipment(sent=sent, body=bad.body, upload=bad.upload)

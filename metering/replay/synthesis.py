"""Synthetic traffic: a seed, a scenario and an hour give one sequence of messages, each with its expected verdict.

Batch ids name scenario, seed and hour. So the same replay in the same hour sends the same batches again, which are all
duplicates then, and a replay in another hour sends other batches.
"""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from metering.audit.verify.manifest import SentBatch, body_digest
from metering.hours import hour_label
from metering.replay.faults import BAD_MESSAGES, BadMessage, Victim, spoil_records
from metering.replay.forms import Envelope, Upload, cloud_event, inline_body, object_body, pointer_body
from metering.replay.records import RecordGenerator, Records
from metering.replay.scenarios import Form, Scenario

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_HOUR_S = 3_600
_DAY_S = 86_400
_SOURCES = 8
# Number of latest batches from which copies and conflicts are drawn.
_REMEMBERED = 200
# Ages in days, for a window of 35 days: admitted, and too old. The margins absorb the time that a replay takes.
_LATE_DAYS = (2, 33)
_TOO_LATE_DAYS = (36, 60)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shipment:
    """One message on its way.

    Attributes:
        body: Message body; empty if an object announces itself.
        upload: Object to put before the message is sent.
        sent: Line of the manifest. The batch id of a dropped object is filled in once the object is put.
    """

    sent: SentBatch
    body: str = ""
    upload: Upload | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shipped:
    """A batch of which copies and conflicts can be made."""

    shipment: Shipment
    envelope: Envelope
    records: Records


class Synthesis:
    """Messages of a scenario, drawn one by one. It keeps the latest batches, to make copies and conflicts of them.

    Args:
        name: Prefix of the batch ids; see `replay_name`.
        scenario: Shape of the traffic.
        seed: Seed of all draws; the same seed gives the same traffic.
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
            keys_per_batch=scenario.keys_per_batch,
            mean_bits=scenario.mean_bits,
        )
        self._forms = list(scenario.forms)
        self._weights = list(scenario.forms.values())
        self._recent: deque[_Shipped] = deque(maxlen=_REMEMBERED)
        self._sequences = [0] * _SOURCES
        self._hours = self._recent_hours()

    def shipments(self, batches: int) -> Iterator[Shipment]:
        """Make `batches` messages, copies and conflicts included."""
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

    def _recent_hours(self) -> list[int]:
        """Hours to draw from; a busy one stands there more often."""
        hours = [self._base_hour_s - _HOUR_S * back for back in range(self._scenario.hours)]
        busy = self._scenario.busy
        return [hour_s for hour_s in hours for _ in range(busy[hour_s % _DAY_S // _HOUR_S] if busy else 1)]

    def _good(self, rng: random.Random, number: int, hours: Sequence[int]) -> Shipment:
        records = self._generator.draw(rng, self._scenario.records_per_batch, hours)
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

    def _conflict(self, rng: random.Random) -> Shipment:
        choice = self._recent[rng.randrange(len(self._recent))]
        if not choice.shipment.sent.batch_id:
            # The id of a dropped object follows from its content, so it cannot have other content.
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
        if self._scenario.records_per_batch < 2:  # one to refuse, one to meter
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
        # A number without a marker would be a gap for ever, so a batch that gets none takes no number.
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
    """Made-up account id: the digit 9, three digits of the seed, eight digits of the number."""
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

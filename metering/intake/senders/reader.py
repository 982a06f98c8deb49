"""A `BatchReader` that judges each batch by its sender, in a stage whose producers are registered."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from metering.intake.batches import BatchReading, Claim, DecodedBatch, NoBatch, RefusedBatch
from metering.intake.content_hash import BODY_HASH_VERSION, body_hash
from metering.intake.messages import MAX_BODY_BYTES
from metering.intake.senders.judging import judged_sender, problems_of_sender
from metering.intake.senders.producers import role_of

if TYPE_CHECKING:
    from metering.intake.admission import Admission
    from metering.intake.ports import Allowance, BatchReader
    from metering.intake.reasons import Problem
    from metering.intake.senders.judging import Judged
    from metering.intake.senders.producers import KnownProducers, Registry, ServiceSenders
    from metering.stores.deliveries import Delivery

# Clocks of the queue and of a worker differ by less.
_SKEW_MS = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgingReader:
    """Reads by another reader, and refuses what a sender may not send.

    A batch that is refused so gives up its id: no marker, source or later verdict of that id's owner comes of it. What
    it says it is goes along as its claim. The sender of a dropped object that is accepted is its owner.

    Attributes:
        reader: Reads the batches.
        producers: The registry. What it allows may be as old as its cache; a refusal rests on a registry that was read
            after the message was sent.
        services: The service's own senders.
    """

    reader: BatchReader
    producers: KnownProducers
    services: ServiceSenders

    def read(self, delivery: Delivery, *, admission: Admission, allowance: Allowance) -> BatchReading:
        """As `BatchReader.read`.

        Raises:
            OutOfTimeError: The time is over, and the allowance is not final.
            UnavailableError: The object that the message points to, or the registry, cannot be read now.
        """
        registry = self.producers.known()
        sender = judged_sender(delivery, self.services)
        known = replace(delivery, sender_id=sender.sender_id, stated_sender="")
        reading = self.reader.read(known, admission=admission, allowance=allowance)
        found = self._complaints(reading, sender, registry)
        if any(found):
            registry = self.producers.known(since_ms=delivery.sent_at_ms + _SKEW_MS)
            found = self._complaints(reading, sender, registry)
        return BatchReading(
            batches=tuple(
                _judged(batch, problems, known, registry)
                for batch, problems in zip(reading.batches, found, strict=True)
            )
        )

    def _complaints(self, reading: BatchReading, sender: Judged, registry: Registry) -> list[tuple[Problem, ...]]:
        return [
            ()
            if isinstance(batch, NoBatch)
            else problems_of_sender(batch, sender, registry=registry, services=self.services)
            for batch in reading.batches
        ]


def _judged(
    batch: DecodedBatch | RefusedBatch | NoBatch, problems: tuple[Problem, ...], delivery: Delivery, registry: Registry
) -> DecodedBatch | RefusedBatch | NoBatch:
    if isinstance(batch, NoBatch):
        return batch
    if problems:
        return _not_allowed(batch, problems, delivery)
    dropped = isinstance(batch, DecodedBatch) and batch.announced
    owner = registry.of_dropped(batch.object_key) if dropped else None
    if owner is None or role_of(batch.sender_id) == owner.role_id:
        return batch
    # S3 announced it, and its owner sent it. A retry of its records, which is no announcement, is judged by that. Of
    # what is refused as a whole, the announcement itself is sent again, and whoever made it stays its sender.
    return replace(batch, sender_id=owner.role_id)


def _not_allowed(batch: DecodedBatch | RefusedBatch, problems: tuple[Problem, ...], delivery: Delivery) -> RefusedBatch:
    earlier = batch.problems if isinstance(batch, RefusedBatch) else ()
    return RefusedBatch(
        batch_id="",
        source_id="",
        sequence=None,
        sender_id=delivery.sender_id,
        content_hash=body_hash(delivery.body),
        hash_version=BODY_HASH_VERSION,
        problems=(*problems, *earlier),
        records=batch.records,
        missing_object=False,
        evidence=delivery.body.encode("utf-8", errors="surrogatepass")[:MAX_BODY_BYTES],
        claim=Claim(batch_id=batch.batch_id, content_hash=batch.content_hash, hash_version=batch.hash_version),
    )

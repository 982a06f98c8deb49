"""The service's `BatchReader`, which reads messages and objects in every format of the registry."""

from __future__ import annotations

from dataclasses import dataclass, replace
from hashlib import sha256
from typing import TYPE_CHECKING, BinaryIO

from metering.errors import (
    BatchRefusedError,
    ObjectChangedError,
    ObjectMissingError,
    ObjectUnreadableError,
    UnavailableError,
)
from metering.intake import envelopes
from metering.intake.batches import (
    Allowance,
    BatchReader,
    BatchReading,
    Claim,
    DecodedBatch,
    NoBatch,
    RefusedBatch,
    RefusedRecord,
)
from metering.intake.dropped import DropIds
from metering.intake.formats import json_records
from metering.intake.formats.assembly import BatchAssembly
from metering.intake.formats.compression import unpacked
from metering.intake.messages import FORMATS, MAX_BODY_BYTES, BatchMessage, InlineRecords, ObjectRecords
from metering.intake.records import BODY_HASH_VERSION, HASH_VERSION, ContentHasher, body_hash
from metering.intake.senders import (
    Judged,
    KnownProducers,
    Registry,
    ServiceSenders,
    judged_sender,
    problems_of_sender,
    role_of,
)
from metering.intake.work import Problem, ReadLimits, Reason, Work, problem, refusal

if TYPE_CHECKING:
    from metering.intake.admission import Admission
    from metering.stores.objects import ObjectStore
    from metering.stores.queues import Delivery
    from metering.version import DropIdentity


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordBatchReader:
    """Reads deliveries. An instance can serve any number of deliveries; its only state is caches of pure functions."""

    objects: ObjectStore
    bucket: str
    limits: ReadLimits
    drop_identity: DropIdentity

    def read(self, delivery: Delivery, *, admission: Admission, allowance: Allowance) -> BatchReading:
        """Decode one delivery.

        A fault that a sender can cause raises no exception; the result is a `RefusedBatch`.

        Raises:
            OutOfTimeError: The time limit has expired; a later receive may have a longer limit.
            UnavailableError: The object to which the message refers cannot be read now.
        """
        # All batches of a delivery share one work limit, because a message can announce a hundred objects.
        work = Work(self.limits.work, allowance)
        return BatchReading(
            batches=tuple(
                message if isinstance(message, NoBatch) else self._read_message(message, delivery, admission, work)
                for message in envelopes.read_body(delivery.body, bucket=self.bucket)
            )
        )

    def _read_message(
        self, message: BatchMessage, delivery: Delivery, admission: Admission, work: Work
    ) -> DecodedBatch | RefusedBatch:
        assembly = BatchAssembly(admission=admission, sent_at_ms=delivery.sent_at_ms, hasher=ContentHasher(), work=work)
        problems = list(message.problems)
        missing, decoded_bytes, whole = False, 0, False
        drops = DropIds(objects=self.objects, bucket=self.bucket, identity=self.drop_identity)
        try:
            message = drops.identified(message)
            decoded_bytes, mismatch = self._read_records(message, assembly)
            problems += mismatch
            whole = message.records is not None
        except ObjectMissingError:
            missing = not problems
            problems.append(problem(Reason.OBJECT_MISSING, "there is no such object"))
        except ObjectChangedError:
            problems.append(problem(Reason.OBJECT_CHANGED, "the object is not the one that was announced"))
        except ObjectUnreadableError as error:
            problems.append(problem(Reason.OBJECT_UNREADABLE, error.detail))
        except BatchRefusedError as error:
            problems += error.problems
        if whole:
            problems += self._count_problems(message, assembly.records)
        outcome = _Outcome(message=message, delivery=delivery, assembly=assembly, whole=whole)
        if problems:
            return outcome.refused(tuple(problems), missing_object=missing)
        if len(assembly.refused) == assembly.records:
            return outcome.refused(_summary(assembly.refused), missing_object=False)
        return outcome.decoded(decoded_bytes)

    def _read_records(self, message: BatchMessage, assembly: BatchAssembly) -> tuple[int, list[Problem]]:
        """Read all records into the assembly; returns their size after decompression, and problems of the object."""
        records = message.records
        if records is None:
            return 0, []
        if message.record_count is not None and message.record_count > self.limits.batch_records:
            detail = f"record_count is {message.record_count}, more than {self.limits.batch_records}"
            raise refusal(Reason.TOO_MANY_RECORDS, detail)
        if isinstance(records, InlineRecords):
            return json_records.read_inline(records.array, assembly, self.limits), []
        try:
            announced = {"if_match": records.if_match or None, "version_id": records.version_id or None}
            with self.objects.open(records.key, **announced) as stream:
                return self._read_object(stream, records, assembly)
        except ObjectChangedError as error:
            if records.if_match:
                raise
            # The object was replaced during the read; the next delivery reads the new object from its start.
            raise UnavailableError("S3.GetObject", f"{records.key} changed while it was read") from error

    def _read_object(
        self, stream: BinaryIO, records: ObjectRecords, assembly: BatchAssembly
    ) -> tuple[int, list[Problem]]:
        stored = sha256()
        # Hashing increases the cost of a read by a tenth, so it is done only for senders who ask for it.
        seen = stored.update if records.sha256 else None
        limit_bytes = self.limits.object_bytes
        pieces = unpacked(stream, records.compression, limit_bytes=limit_bytes, work=assembly.work, seen=seen)
        decoded_bytes = FORMATS[records.format].read(pieces, assembly, self.limits)
        if records.sha256 and stored.hexdigest() != records.sha256:
            return decoded_bytes, [problem(Reason.SHA256_MISMATCH, f"the object's is {stored.hexdigest()}")]
        return decoded_bytes, []

    def _count_problems(self, message: BatchMessage, records: int) -> list[Problem]:
        problems = []
        if records == 0:
            problems.append(problem(Reason.NO_RECORDS, "a batch has at least one record"))
        if message.record_count is not None and message.record_count != records:
            detail = f"record_count is {message.record_count}, {records} arrived"
            problems.append(problem(Reason.RECORD_COUNT_MISMATCH, detail))
        return problems


@dataclass(frozen=True, slots=True, kw_only=True)
class _Outcome:
    """Outcome of one batch. `whole`: all records were read, so the content hash covers all records."""

    message: BatchMessage
    delivery: Delivery
    assembly: BatchAssembly
    whole: bool

    def decoded(self, decoded_bytes: int) -> DecodedBatch:
        return DecodedBatch(
            batch_id=self.message.batch_id,
            source_id=self.message.source_id,
            sequence=self.message.sequence,
            sender_id=self.delivery.sender_id,
            content_hash=self.assembly.content_hash(),
            hash_version=HASH_VERSION,
            records=self.assembly.records,
            rows=self.assembly.rows(),
            usage=self.assembly.usage(),
            refused=tuple(self.assembly.refused),
            decoded_bytes=decoded_bytes,
            unknown_regions=self.assembly.unknown_regions(),
            retry_of=self.message.retry_of,
            object_key=self.message.object_key,
            announced=self.message.announced,
        )

    def refused(self, problems: tuple[Problem, ...], *, missing_object: bool) -> RefusedBatch:
        body = self.delivery.body
        return RefusedBatch(
            batch_id=self.message.batch_id,
            source_id=self.message.source_id,
            sequence=self.message.sequence,
            sender_id=self.delivery.sender_id,
            content_hash=self.assembly.content_hash() if self.whole else body_hash(body),
            hash_version=HASH_VERSION if self.whole else BODY_HASH_VERSION,
            problems=problems,
            records=self.assembly.records if self.whole else 0,
            missing_object=missing_object,
            evidence=body.encode("utf-8", errors="surrogatepass")[:MAX_BODY_BYTES],
            retry_of=self.message.retry_of,
            object_key=self.message.object_key,
            announced=self.message.announced,
        )


def _summary(refused: list[RefusedRecord]) -> tuple[Problem, ...]:
    """Problems of a batch without an accepted record: the common reason, or every reason with its first example."""
    counts: dict[str, int] = {}
    examples: dict[str, str] = {}
    for record in refused:
        for reason, detail in dict(reversed(record.reasons)).items():
            counts[reason] = counts.get(reason, 0) + 1
            examples.setdefault(reason, f"record {record.position}: {detail}")
    by_reason = tuple((reason, f"{counts[reason]} of {len(refused)} records; {examples[reason]}") for reason in counts)
    if len(by_reason) == 1:
        return by_reason
    return (problem(Reason.NO_RECORD_ADMITTED, f"all {len(refused)} records are refused"), *by_reason)


# Clocks of the queue and of a worker differ by less than this.
_SKEW_MS = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgingReader:
    """Wraps another reader, and refuses batches that their sender may not send.

    A batch refused for this reason loses its id, so it cannot affect the owner's markers, sources or verdicts. The id
    and content that the batch states are kept as its claim. The sender of a metered dropped object is its owner.

    Attributes:
        producers: The registry. A batch may be permitted by a cached, slightly older registry. A batch is refused only
            by a registry that was read after the message was sent.
    """

    reader: BatchReader
    producers: KnownProducers
    services: ServiceSenders

    def read(self, delivery: Delivery, *, admission: Admission, allowance: Allowance) -> BatchReading:
        """As `BatchReader.read`.

        Raises:
            OutOfTimeError: The time limit has expired; a later receive may have a longer limit.
            UnavailableError: The registry, or the object to which the message refers, cannot be read now.
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
    # S3 announced the object, so the owner of its prefix counts as sender. This owner's permissions also apply to a
    # retry of the object's records. A refused announcement is itself resent, and its author stays the sender.
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

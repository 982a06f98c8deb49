"""`BatchReader` over messages, objects and formats: from a delivery to the batches that it holds."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, BinaryIO

from metering.errors import (
    BatchRefusedError,
    ObjectChangedError,
    ObjectMissingError,
    ObjectUnreadableError,
    UnavailableError,
)
from metering.intake.batches import BatchReading, DecodedBatch, NoBatch, RefusedBatch
from metering.intake.content_hash import BODY_HASH_VERSION, HASH_VERSION, ContentHasher, body_hash
from metering.intake.envelopes import read_body
from metering.intake.formats.arrow_records import TableIntake
from metering.intake.formats.assembly import BatchAssembly
from metering.intake.formats.compression import unpacked
from metering.intake.formats.inline import read_inline
from metering.intake.formats.ndjson import JsonIntake, read_ndjson
from metering.intake.formats.parquet import read_parquet, spooled
from metering.intake.messages import MAX_BODY_BYTES, MAX_RECORDS, InlineRecords
from metering.intake.reasons import Reason, problem
from metering.intake.work import CONTRACT_WORK, Work, WorkLimits, refusal

if TYPE_CHECKING:
    from metering.intake.admission import Admission
    from metering.intake.batches import RefusedRecord
    from metering.intake.messages import BatchMessage, ObjectRecords
    from metering.intake.ports import Allowance
    from metering.intake.reasons import Problem
    from metering.stores.deliveries import Delivery
    from metering.stores.objects import ObjectStore


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadLimits:
    """What one batch, and one delivery, may take.

    Attributes:
        batch_records: Records in a batch at most (CONTRACT), in whatever form they come.
        object_bytes: Size of an object's records after decompression at most (setting `object_bytes`).
        work: Work for one delivery at most, the same on every stage.
    """

    batch_records: int = MAX_RECORDS
    object_bytes: int
    work: WorkLimits = CONTRACT_WORK


class RecordBatchReader:
    """Reads deliveries. One instance serves any number of them; it keeps no state but caches of pure functions."""

    def __init__(self, objects: ObjectStore, *, bucket: str, limits: ReadLimits) -> None:
        self._objects = objects
        self._bucket = bucket
        self._limits = limits

    def read(self, delivery: Delivery, *, admission: Admission, allowance: Allowance) -> BatchReading:
        """Decode one delivery.

        Never raises for what a sender could have caused: that is a `RefusedBatch`.

        Raises:
            OutOfTimeError: It takes longer than it may, and the allowance is not the final one.
            UnavailableError: The object that it points to cannot be read now.
        """
        # One for all batches of a delivery: a message can announce thousands of objects.
        work = Work(self._limits.work, allowance)
        return BatchReading(
            batches=tuple(
                message if isinstance(message, NoBatch) else self._read_message(message, delivery, admission, work)
                for message in read_body(delivery.body, bucket=self._bucket)
            )
        )

    def _read_message(
        self, message: BatchMessage, delivery: Delivery, admission: Admission, work: Work
    ) -> DecodedBatch | RefusedBatch:
        assembly = BatchAssembly(admission=admission, sent_at_ms=delivery.sent_at_ms, hasher=ContentHasher(), work=work)
        problems = list(message.problems)
        missing, decoded_bytes, whole = False, 0, False
        try:
            decoded_bytes, mismatch = self._read_records(message, assembly, admission, delivery.sent_at_ms)
            problems += mismatch
            whole = message.source is not None
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

    def _read_records(
        self, message: BatchMessage, assembly: BatchAssembly, admission: Admission, sent_at_ms: int
    ) -> tuple[int, list[Problem]]:
        """Read all records into the assembly; returns their size after decompression, and problems of the whole."""
        source = message.source
        if source is None:
            return 0, []
        if message.record_count is not None and message.record_count > self._limits.batch_records:
            detail = f"record_count is {message.record_count}, more than {self._limits.batch_records}"
            raise refusal(Reason.TOO_MANY_RECORDS, detail)
        if isinstance(source, InlineRecords):
            intake = JsonIntake(assembly, admission=admission, sent_at_ms=sent_at_ms)
            read_inline(source.array, intake, limit_records=self._limits.batch_records)
            return len(source.array), []
        try:
            announced = {"if_match": source.if_match or None, "version_id": source.version_id or None}
            with self._objects.open(source.key, **announced) as stream:
                return self._read_object(stream, source, assembly, admission, sent_at_ms)
        except ObjectChangedError as error:
            if source.if_match:
                raise
            # Replaced while it was read: the next delivery reads the new one from its beginning.
            raise UnavailableError("S3.GetObject", f"{source.key} changed while it was read") from error

    def _read_object(
        self,
        stream: BinaryIO,
        source: ObjectRecords,
        assembly: BatchAssembly,
        admission: Admission,
        sent_at_ms: int,
    ) -> tuple[int, list[Problem]]:
        stored = sha256()
        limits = self._limits
        # Hashing costs as much as a tenth of all the rest: only for senders who ask.
        seen = stored.update if source.sha256 else None
        pieces = unpacked(stream, source.compression, limit_bytes=limits.object_bytes, work=assembly.work, seen=seen)
        if source.format == "parquet":
            rows = TableIntake(assembly, admission=admission, sent_at_ms=sent_at_ms)
            with spooled(pieces) as file:
                decoded_bytes = read_parquet(
                    file, rows, limit_bytes=limits.object_bytes, limit_records=limits.batch_records
                )
        else:
            intake = JsonIntake(assembly, admission=admission, sent_at_ms=sent_at_ms)
            decoded_bytes = read_ndjson(pieces, intake, limit_records=limits.batch_records)
        if source.sha256 and stored.hexdigest() != source.sha256:
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
    """Makes the answer; `whole` says that all records were read, so that the content hash holds."""

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
        )


def _summary(refused: list[RefusedRecord]) -> tuple[Problem, ...]:
    """Why a batch of refused records is refused: their common reason, or all of them with the first example of each."""
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

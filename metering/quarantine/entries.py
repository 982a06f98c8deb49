"""Quarantine entries: shows what was refused and why, and retries refused content without counting it twice."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from metering.errors import ObjectMissingError, OperationFailedError, UnavailableError
from metering.intake import messages, senders, work
from metering.ledger.markers import (
    Conflict,
    Marker,
    conflict_key,
    is_conflict,
    is_marker,
    marker_key,
    partition_of_batch,
)
from metering.ledger.retries import RetryNote, aliases_of, is_retry_note
from metering.quarantine import documents, retries
from metering.stores.clock import Clock, side_by_side
from metering.stores.objects import (
    QUARANTINE_PREFIX,
    QUARANTINED_BATCHES_PREFIX,
    QUARANTINED_LOGS_PREFIX,
    ObjectInfo,
    ObjectStore,
    commit_of_refused_records,
    quarantined_files_prefix,
    quarantined_lines_key,
)
from metering.stores.writes import ItemStore, Put, Table

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from metering.intake.batches import RefusedRecord
    from metering.stores import queues

# Space for the sender that a retry states next to its body: the attribute's name plus more than the longest SenderId.
_STATEMENT_BYTES = 256
# A search for batches with one id reads at most this many refused batches, several at once, which takes a few seconds.
_MOST_SEARCHED = 2_000
_READERS = 8

Kind = Literal["records", "refused", "conflict", "unverified", "lines", "file"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One batch that was refused, as a whole or in part.

    Attributes:
        kind: `records` of an accepted batch, a `refused` batch, or content in `conflict` with its id's accepted
            content; `unverified` content, if the accepted content is unknown; `lines` of a log file, or a whole log
            `file`.
        batch_id: Batch id; for a log file, the file's identity, or its location if the whole file is refused.
        reasons: First reason -> number of records. A whole batch has one reason; its number of records is 0 if unknown.
        retried_as: Batch ids under which the records were sent again; for a whole batch, the ids (its own or a retry's)
            under which it is metered.
        source_id: Source that the producer named; empty if unnamed.
        sent_by: Original sender; empty if unknown. A retry states it.
        became: Id under which the batch is metered now, or the verdict of its retry, in words.
        differs: Differences from the metered content with the same id; only for a conflict that was looked up.
    """

    key: str
    kind: Kind
    batch_id: str
    reasons: Mapping[str, int]
    at_s: int
    refused: tuple[RefusedRecord, ...] = ()
    batch: documents.QuarantinedBatch | None = None
    log: documents.QuarantinedLog | None = None
    retried_as: tuple[str, ...] = ()
    became: str = ""
    differs: tuple[documents.Contrast, ...] = ()
    source_id: str = ""
    sent_by: str = ""

    @property
    def sender_id(self) -> str:
        """Sender of a whole batch; empty for records of an accepted batch."""
        return self.batch.sender_id if self.batch else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """Result of a retry.

    Attributes:
        retry_id: Batch id of the retry; empty if no id is readable.
        records: Number of records sent, 0 if unknown.
        skipped: Positions of records that are not stored in full and cannot be sent again.
    """

    entry: Entry
    retry_id: str
    records: int
    skipped: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class QuarantineEntries:
    """Reads quarantine entries, and retries them.

    Attributes:
        items: The ledger. An entry is valid only if its marker names its object.
        bucket: Name of the data bucket, for retries that need an object.
        marker_life_s: Lifetime of the note that records a retry.
    """

    items: ItemStore
    objects: ObjectStore
    queue: queues.Queue
    clock: Clock
    bucket: str
    marker_life_s: int

    def entries(self, *, from_s: int = 0, to_s: int | None = None) -> Iterator[Entry]:
        """Entries of objects written in a time range, newest first; objects of failed commits are omitted."""
        infos = [
            info
            for info in self.objects.list(QUARANTINE_PREFIX)
            if from_s <= info.modified_s and (to_s is None or info.modified_s < to_s)
        ]
        # Keys are hashes, so all keys are listed to find the newest. An object is read only when the caller reaches it.
        for info in sorted(infos, key=lambda each: (-each.modified_s, each.key)):
            yield from self._of_object(info)

    def find(self, name: str) -> tuple[Entry, ...]:
        """Entries with this object key or batch id; a conflict includes its differences.

        Raises:
            OperationFailedError: There is no such entry.
        """
        keys = [name] if name.startswith(QUARANTINE_PREFIX) else self._keys_of(name) or self._keys_of_log(name)
        infos = [info for key in keys if (info := self.objects.head(key)) is not None]
        found = [entry for info in infos for entry in self._of_object(info)]
        if not name.startswith(QUARANTINE_PREFIX):
            found = [entry for entry in found if entry.batch_id == name] or self._refused_before(name)
        if not found:
            raise OperationFailedError(
                f"There is nothing in quarantine for {name}.",
                "List what is there: metering quarantine list. What its key names is always found: metering quarantine "
                "list --wide shows the keys.",
            )
        return tuple(self._contrasted(entry) for entry in found)

    def _refused_before(self, batch_id: str) -> list[Entry]:
        """Contents refused under an id before another content was accepted under the id, newest first.

        Neither marker nor key leads to these contents. So if the id has a marker, the newest whole batches are read.
        """
        if self._marker(batch_id) is None:
            return []
        infos = sorted(self.objects.list(QUARANTINED_BATCHES_PREFIX), key=lambda each: (-each.modified_s, each.key))
        found = side_by_side(self._of_object, infos[:_MOST_SEARCHED], threads=_READERS)
        return [entry for entries in found for entry in entries if entry.batch_id == batch_id]

    def retry(self, entry: Entry, *, as_new_id: bool = False, dry_run: bool = False) -> Retry:
        """Send an entry again. A second retry is a duplicate of the first.

        Args:
            entry: Entry to retry.
            as_new_id: Whether to send a conflict or unverified content under a new id, because its own is taken.
            dry_run: Whether to return the message without sending it.

        Raises:
            OperationFailedError: The entry cannot be retried, or the queue did not accept the retry.
        """
        if entry.log is not None:
            raise documents.log_not_retried(entry.log)
        if entry.kind == "records":
            return self._retry_records(entry, dry_run=dry_run)
        return self._retry_batch(entry, as_new_id=as_new_id, dry_run=dry_run)

    def _retry_records(self, entry: Entry, *, dry_run: bool) -> Retry:
        records = retries.retriable(entry.refused)[: work.MAX_RECORDS]
        sent = {record.position for record in records}
        skipped = tuple(record.position for record in entry.refused if record.position not in sent)
        if not records:
            raise OperationFailedError(
                f"None of the refused records of {entry.batch_id} is kept whole.", "Ask its producer to send them anew."
            )
        retry_id = retries.records_retry_id(entry.batch_id, sorted(sent))
        if not dry_run:
            body = retries.records_message(retry_id, records)
            if len(body) > retries.INLINE_BYTES:
                self.objects.put(retries.object_key(retry_id), retries.records_object(records), if_absent=True)
                body = retries.object_message(retry_id, len(records), bucket=self.bucket)
            self._note(entry.batch_id, retry_id, tuple(sorted(sent)))
            self._send(body, senders.Judged(sender_id=entry.sent_by, retried=True))
        return Retry(entry=entry, retry_id=retry_id, records=len(records), skipped=skipped)

    def _retry_batch(self, entry: Entry, *, as_new_id: bool, dry_run: bool) -> Retry:
        batch = entry.batch
        if batch is None:
            raise OperationFailedError(f"{entry.key} holds no batch.")
        retry_id, body = self._as_new_id(entry, batch) if as_new_id else self._as_itself(entry, batch)
        if len(body.encode("utf-8", errors="surrogatepass")) > messages.MAX_BODY_BYTES - _STATEMENT_BYTES:
            raise OperationFailedError(
                f"The message of {entry.batch_id or entry.key} is too long to name another id or its sender: "
                f"{messages.MAX_BODY_BYTES - _STATEMENT_BYTES} bytes at most.",
                "Ask its producer to send it anew, in two batches.",
            )
        if not dry_run:
            # If a sender forged a retry id, it must not get this id through quarantine.
            ours = as_new_id or (batch.claim is None and batch.batch_id.startswith(retries.RETRY_PREFIX))
            self._send(body, senders.Judged(sender_id=entry.sent_by, retried=ours))
        return Retry(entry=entry, retry_id=retry_id, records=batch.records)

    def _as_itself(self, entry: Entry, batch: documents.QuarantinedBatch) -> tuple[str, str]:
        """A batch's own id and message, if the batch may be sent again under its own id."""
        metered = [retry_id for retry_id in entry.retried_as if retry_id != batch.batch_id]
        if metered:
            raise OperationFailedError(
                f"{entry.batch_id} is metered already, as {metered[0]}.", "There is nothing to be sent again."
            )
        if batch.kind == "conflict" and self._is_accepted(batch.batch_id):
            if entry.kind == "unverified":
                problem = f"It is no longer known with which content {entry.batch_id} was accepted."
                genuine = "this one is not metered"
            else:
                problem = f"The id of {entry.batch_id} has other content, which is metered."
                genuine = "both are genuine"
            raise OperationFailedError(problem, f"If {genuine}, send this one under an id of its own: --as-new-id")
        return batch.batch_id, batch.body

    def _as_new_id(self, entry: Entry, batch: documents.QuarantinedBatch) -> tuple[str, str]:
        """A new id, and the message with the new id, if other content has the batch's own id."""
        marker = self._marker(batch.batch_id) if batch.kind == "conflict" else None
        if marker is None or marker.verdict != "accepted":
            raise OperationFailedError(
                f"{entry.batch_id or entry.key} can be sent under its own id.",
                "Send it without --as-new-id; under both ids it would be counted twice.",
            )
        retry_id = retries.content_retry_id(batch.batch_id, batch.content_hash)
        # Of a marker without hash there is no retry (P46). A second retry has the same id, so it counts once anyway.
        unknown = batch.reason == documents.UNVERIFIED and marker.content_hash is None
        original = None if unknown else retries.original_of(batch.body, batch.batch_id)
        body = retries.renamed(batch.body, retry_id, retry_of=original)
        if body is None:
            raise OperationFailedError(f"The message of {entry.key} does not carry its batch id.")
        return retry_id, body

    def _is_accepted(self, batch_id: str) -> bool:
        marker = self._marker(batch_id)
        return marker is not None and marker.verdict == "accepted"

    def _marker(self, batch_id: str) -> Marker | None:
        item = self.items.get(Table.LEDGER, marker_key(batch_id))
        return None if item is None else Marker.from_item(item)

    def _note(self, batch_id: str, retry_id: str, positions: tuple[int, ...]) -> None:
        # The note is written before the message: verification would count the records of an unknown retry twice.
        note = RetryNote(
            batch_id=batch_id,
            retry_id=retry_id,
            positions=positions,
            expires_at_s=self.clock.now_ms() // 1000 + self.marker_life_s,
        )
        self.items.put(Put(table=Table.LEDGER, item=note.to_item()))

    def _send(self, body: str, sender: senders.Judged) -> None:
        # The original sender is judged, because a producer must not gain an operator's rights through a retry.
        if self.queue.send_many([body], original_senders=[senders.statement(sender)]):
            raise UnavailableError("sqs.SendMessage", "the queue did not take the retry; run it again")

    def _keys_of(self, batch_id: str) -> list[str]:
        keys: list[str] = []
        for item in self.items.query(Table.LEDGER, partition_of_batch(batch_id)):
            if is_marker(item):
                keys.append(Marker.from_item(item).quarantine_key)
            elif is_conflict(item):
                keys.append(Conflict.from_item(item).quarantine_key)
        return [key for key in dict.fromkeys(keys) if key]

    def _keys_of_log(self, name: str) -> list[str]:
        files = self.objects.list(quarantined_files_prefix(name))
        return [quarantined_lines_key(name), *(info.key for info in files)]

    def _of_object(self, info: ObjectInfo) -> list[Entry]:
        try:
            body = self.objects.get(info.key)
        except ObjectMissingError:
            return []
        if info.key.startswith(QUARANTINED_BATCHES_PREFIX):
            return [self._whole(info, documents.QuarantinedBatch.from_json(body, info.key))]
        if info.key.startswith(QUARANTINED_LOGS_PREFIX):
            return [_of_log(info, documents.QuarantinedLog.from_json(body, info.key))]
        return self._partial(info, body) if commit_of_refused_records(info.key) else []

    def _whole(self, info: ObjectInfo, batch: documents.QuarantinedBatch) -> Entry:
        metered_as = self._retries(batch)
        return Entry(
            key=info.key,
            kind="unverified" if batch.reason == documents.UNVERIFIED else batch.kind,
            batch_id=batch.batch_id,
            reasons={batch.reason: batch.records},
            at_s=info.modified_s,
            batch=batch,
            retried_as=metered_as,
            became=f"metered as {metered_as[0]}" if metered_as else retries.not_metered(batch),
            source_id=batch.source_id,
            sent_by=batch.sender_id,
        )

    def _contrasted(self, entry: Entry) -> Entry:
        conflicts = entry.batch is not None and entry.batch.kind == "conflict"
        marker = self._marker(entry.batch_id) if conflicts else None
        if marker is None or entry.batch is None or marker.verdict != "accepted":
            return entry
        return replace(entry, differs=documents.contrasts(marker, entry.batch))

    def _retries(self, batch: documents.QuarantinedBatch) -> tuple[str, ...]:
        if batch.claim is not None and batch.claim.batch_id:
            marker = self._marker(batch.claim.batch_id)
            metered = marker is not None and retries.is_metered_claim(marker, batch.claim, sender_id=batch.sender_id)
            return (batch.claim.batch_id,) if metered else ()
        if not batch.batch_id:
            return ()
        found: list[str] = []
        if batch.kind == "refused" and self._is_accepted(batch.batch_id) and not self._is_conflict(batch):
            found.append(batch.batch_id)
        # Found by content, whatever the new id; or by id, because unreadable content has another hash.
        new_id = retries.content_retry_id(batch.batch_id, batch.content_hash)
        for alias in aliases_of(self.items, retries.original_of(batch.body, batch.batch_id)):
            if batch.content_hash == alias.content_hash or alias.retry_id == new_id:
                found.append(alias.retry_id)
        if not found and batch.reason == documents.UNVERIFIED and self._is_accepted(new_id):
            found.append(new_id)
        return tuple(found)

    def _is_conflict(self, batch: documents.QuarantinedBatch) -> bool:
        """Whether refused content came again after other content was accepted under its id."""
        return self.items.get(Table.LEDGER, conflict_key(batch.batch_id, batch.content_hash)) is not None

    def _partial(self, info: ObjectInfo, body: bytes) -> list[Entry]:
        refused: dict[str, list[RefusedRecord]] = {}
        for quarantined in documents.decode_records(body, info.key):
            refused.setdefault(quarantined.batch_id, []).append(quarantined.record)
        found: list[Entry] = []
        for batch_id, records in refused.items():
            marker, notes = self._marker_and_notes(batch_id)
            # If a commit lost against another, its object remains until the cleaner deletes it. No marker names it.
            if marker is None or marker.quarantine_key != info.key:
                continue
            found.append(
                Entry(
                    key=info.key,
                    kind="records",
                    batch_id=batch_id,
                    reasons=retries.reason_counts(records),
                    at_s=info.modified_s,
                    refused=tuple(records),
                    retried_as=tuple(note.retry_id for note in notes),
                    became=self._became(notes),
                    source_id=marker.source_id,
                    sent_by=marker.sender_id,
                )
            )
        return found

    def _became(self, notes: list[RetryNote]) -> str:
        return "; ".join(retries.retry_verdict(self._marker(note.retry_id)) for note in notes) or "not metered"

    def _marker_and_notes(self, batch_id: str) -> tuple[Marker | None, list[RetryNote]]:
        marker: Marker | None = None
        notes: list[RetryNote] = []
        for item in self.items.query(Table.LEDGER, partition_of_batch(batch_id)):
            if is_marker(item):
                marker = Marker.from_item(item)
            elif is_retry_note(item):
                notes.append(RetryNote.from_item(item))
        return marker, notes


def _of_log(info: ObjectInfo, log: documents.QuarantinedLog) -> Entry:
    return Entry(
        key=info.key,
        kind=log.kind,
        batch_id=log.name,
        reasons={reason: lines for reason, lines, _ in log.refusals},
        at_s=info.modified_s,
        log=log,
        became="not metered",
        source_id=log.source,
    )

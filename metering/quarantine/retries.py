"""Retries of refused content: their ids and messages, and whether a sender may send a batch now."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from metering import metric_names
from metering.errors import UnavailableError
from metering.intake import envelopes, json_values, senders
from metering.intake.messages import SCHEMA, plain_values, readable_batch_id
from metering.ledger.notes.access import refused_sender_item, refused_sender_key
from metering.stores import objects, writes
from metering.units import KIB

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from metering.intake.batches import Claim, RefusedRecord
    from metering.ledger.markers import Marker
    from metering.quarantine.documents import QuarantinedBatch
    from metering.stores.clock import Alerts, Clock, Metrics

RETRY_PREFIX = "retry:"
# A retry that is longer than this uses an object below ingest/, because SQS accepts 1 MiB.
INLINE_BYTES = 900 * KIB


def records_retry_id(batch_id: str, positions: Sequence[int]) -> str:
    """Batch id for a retry of some records of an accepted batch."""
    return _retry_id([batch_id, *map(str, sorted(positions))])


def content_retry_id(batch_id: str, content_hash: str) -> str:
    """Batch id for a retry of a whole batch that cannot be sent under its original id."""
    return _retry_id([batch_id, content_hash])


def _retry_id(parts: Sequence[str]) -> str:
    return RETRY_PREFIX + hashlib.sha256("\n".join(parts).encode()).hexdigest()


def retriable(records: Sequence[RefusedRecord]) -> tuple[RefusedRecord, ...]:
    """Records that can be sent again, by position. A record that is truncated or not a JSON object cannot be sent."""
    return tuple(sorted((r for r in records if _is_object(r.raw)), key=lambda record: record.position))


def records_message(retry_id: str, records: Sequence[RefusedRecord]) -> str:
    """Message of a retry with inline records, as they were received."""
    joined = ",".join(record.raw for record in records)
    return f'{{{_head(retry_id, len(records))},"records":[{joined}]}}'


def records_object(records: Sequence[RefusedRecord]) -> bytes:
    """Content of a retry's object: the retried records as NDJSON."""
    return "".join(f"{record.raw}\n" for record in records).encode()


def object_key(retry_id: str) -> str:
    """Key of the object with a retry's records."""
    return objects.retry_object_key(retry_id.removeprefix(RETRY_PREFIX))


def object_message(retry_id: str, count: int, *, bucket: str) -> str:
    """Message of a retry that points to the object with its records."""
    location = {"bucket": bucket, "key": object_key(retry_id), "format": "ndjson", "compression": "none"}
    return f'{{{_head(retry_id, count)},"location":{json.dumps(location)}}}'


def renamed(body: str, retry_id: str, *, retry_of: str | None) -> str | None:
    """Rewrite a batch message under another id; None if the message has no id of its own (an announced object).

    Only the ids change. All other bytes stay as received, because parsing could round a number.

    Args:
        body: The message, or the CloudEvent that carries it.
        retry_id: Its new batch id.
        retry_of: Id under which the content first arrived; None to leave what the message says.
    """
    found = _batch_message(body)
    if found is None:
        return None
    fields, start, end = found
    if "batch_id" not in fields:
        return None
    values = {"batch_id": json.dumps(retry_id)}
    if retry_of is not None:
        values = {"retry_of": json.dumps(retry_of), **values}
    return body[:start] + json_values.replaced(body[start:end], values) + body[end:]


def original_of(body: str, batch_id: str) -> str:
    """Id under which a message's content was first sent. For a retry of a retry, the first message's id."""
    found = _batch_message(body)
    value = None if found is None else plain_values({"retry_of": found[0].get("retry_of", b"null")})[0].get("retry_of")
    return readable_batch_id(value) or batch_id


def _batch_message(body: str) -> tuple[envelopes.Fields, int, int] | None:
    """Find the batch message in a body as the reader does; return the message's fields, start and end."""
    fields = envelopes.split_object(body)
    if not isinstance(fields, dict):
        return None
    if envelopes.is_batch_message(fields):
        return fields, 0, len(body)
    # If a field is repeated, its last value counts.
    data = [span for span in json_values.field_spans(body) if span.name == "data"]
    if "specversion" not in fields or not data:
        return None
    inner = envelopes.split_object(body[data[-1].start : data[-1].end])
    return (inner, data[-1].start, data[-1].end) if isinstance(inner, dict) else None


def reason_counts(records: Sequence[RefusedRecord]) -> Mapping[str, int]:
    """Number of records for each first reason."""
    counts: dict[str, int] = {}
    for record in records:
        reason = record.reasons[0][0]
        counts[reason] = counts.get(reason, 0) + 1
    return counts


def _head(retry_id: str, count: int) -> str:
    head = {"schema": SCHEMA, "batch_id": retry_id, "record_count": count}
    return json.dumps(head, separators=(",", ":"))[1:-1]


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False


def retry_verdict(marker: Marker | None) -> str:
    """Verdict of a retry in words, from its marker."""
    if marker is None:
        return "sent again, without a verdict yet"
    if marker.verdict == "rejected":
        return f"refused again: {marker.reason}"
    return f"{marker.metered} metered" + (f", {marker.refused} refused again" if marker.refused else "")


def is_metered_claim(marker: Marker, claim: Claim, *, sender_id: str) -> bool:
    """Whether a claim's batch is the marker's batch, from the same sender, and metered.

    A copy from another sender is refused, even if no record of it would be metered.
    """
    return (
        marker.verdict == "accepted"
        and senders.role_of(marker.sender_id) == senders.role_of(sender_id)
        and marker.hash_version == claim.hash_version
        and marker.content_hash == claim.content_hash
    )


def not_metered(batch: QuarantinedBatch) -> str:
    """Why a batch is not metered, in words, with the id that a foreign sender claimed."""
    claimed = batch.claim.batch_id if batch.claim is not None else ""
    return f"not metered; it claimed {claimed}" if claimed else "not metered"


@dataclass(frozen=True, slots=True, kw_only=True)
class SenderAlerts:
    """Alerts operators to refused senders. A failed alert is counted; the batches are in quarantine anyway."""

    items: writes.ItemStore
    clock: Clock
    metrics: Metrics
    alerts: Alerts

    def tell(self, refused: Sequence[QuarantinedBatch]) -> None:
        """Alert operators to the senders of an invocation's refused batches, except those reported in this hour."""
        by_role: dict[str, list[QuarantinedBatch]] = {}
        for batch in refused:
            by_role.setdefault(senders.role_of(batch.sender_id), []).append(batch)
        for batches in by_role.values():
            self.metrics.count(metric_names.SENDERS_NOT_ALLOWED, len(batches))
            try:
                self._tell(batches)
            except UnavailableError:
                self.metrics.count(metric_names.ALERTS_LOST)

    def _tell(self, batches: Sequence[QuarantinedBatch]) -> None:
        first = batches[0]
        now_s = self.clock.now_ms() // 1000
        if self.items.get(writes.Table.LEDGER, refused_sender_key(first.sender_id, now_s)) is not None:
            return
        fields: dict[str, str | int] = {
            "sender": first.sender_id,
            "batches": len(batches),
            "claimed_batch_id": first.claim.batch_id if first.claim else "",
            "why": "; ".join(detail for _, detail in first.problems),
            "quarantine": first.key,
        }
        self.alerts.send("ticket", "A sender sent what it may not send", fields)
        # The note is written after the alert: if the worker dies in between, the alert is sent twice and never lost.
        self.items.put(writes.Put(table=writes.Table.LEDGER, item=refused_sender_item(first.sender_id, now_s)))

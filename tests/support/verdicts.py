"""Batches and verdicts with default values that do not matter: each test sets only the values that it tests."""

from __future__ import annotations

from typing import Any

from metering.intake.batches import DecodedBatch, RefusedBatch
from metering.ledger.markers import Conflict, Marker
from metering.quarantine.documents import QuarantinedBatch

_SENT: dict[str, Any] = {"content_hash": "ee", "hash_version": 1, "sender_id": "AIDA1", "records": 1}
_NUMBERED: dict[str, Any] = {**_SENT, "source_id": "", "sequence": None}


def marker_of(batch_id: str, verdict: str = "accepted", **changes: Any) -> Marker:
    values = {"commit_id": "c1", "metered": 1, "refused": 0, "hours": {}, "decided_at_ms": 0, "expires_at_s": 0}
    return Marker(**{**_NUMBERED, "batch_id": batch_id, "verdict": verdict, **values, **changes})


def conflict_of(batch_id: str, **changes: Any) -> Conflict:
    senders = {"sender_id": "AIDA2", "first_sender_id": "AIDA1"}
    return Conflict(**{**_SENT, "batch_id": batch_id, "quarantine_key": "q", **senders, **changes})


def quarantined(batch_id: str, **changes: Any) -> QuarantinedBatch:
    values = {"kind": "refused", "problems": (("too_late", "x"),), "first_sender_id": "", "body": "{}", "evidence": ""}
    return QuarantinedBatch(**{**_NUMBERED, "batch_id": batch_id, **values, **changes})


def refused_batch(batch_id: str, **changes: Any) -> RefusedBatch:
    values = {"problems": (("too_late", "x"),), "missing_object": False, "evidence": b""}
    return RefusedBatch(**{**_NUMBERED, "batch_id": batch_id, **values, **changes})


def decoded_batch(batch_id: str, **changes: Any) -> DecodedBatch:
    values = {"rows": (), "usage": {}, "refused": (), "decoded_bytes": 1}
    return DecodedBatch(**{**_NUMBERED, "batch_id": batch_id, **values, **changes})

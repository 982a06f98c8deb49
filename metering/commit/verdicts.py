"""Verdicts of copies, and the comparison of a copy to the marker of its batch."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from metering.intake.batches import DecodedBatch, RefusedBatch

if TYPE_CHECKING:
    from metering.ledger.markers import Marker


class Verdict(StrEnum):
    """Outcome of one copy of a batch. All but the last are durable, and their deliveries are acknowledged."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    CONFLICT = "conflict"
    REJECTED = "rejected"
    NO_BATCH = "no_batch"
    PUT_BACK = "put_back"


class Match(StrEnum):
    """Result of comparing a batch to the content that has the verdict."""

    SAME = "same"
    OTHER = "other"
    # The marker was rebuilt and has no hash. No comparison is possible, so the copy must not be metered.
    UNVERIFIED = "unverified"
    # This code cannot compute the version of the marker's hash, so other code has to decide.
    INCOMPARABLE = "incomparable"


def compare(marker: Marker, batch: DecodedBatch | RefusedBatch) -> Match:
    """Compare a batch to the marker of its id, by the marker's hash version (identity of content).

    A refused batch whose records could not be read has version 0, the hash of its body. It counts as other content,
    except if only its object is missing, or if the marker is itself a rejection.
    """
    if marker.verdict == "rejected" or (isinstance(batch, RefusedBatch) and batch.missing_object):
        return Match.SAME
    if marker.content_hash is None:
        return Match.UNVERIFIED
    if marker.hash_version == batch.hash_version:
        return Match.SAME if marker.content_hash == batch.content_hash else Match.OTHER
    return Match.OTHER if batch.hash_version == 0 else Match.INCOMPARABLE

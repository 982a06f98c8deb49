"""Verdicts: what a batch's marker says of another copy, and who has got which verdict in an invocation."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from metering.intake.batches import DecodedBatch, RefusedBatch

if TYPE_CHECKING:
    from metering.ledger.markers import Marker


class Verdict(StrEnum):
    """What became of one copy of a batch. All but the last are durable, and acknowledged."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    CONFLICT = "conflict"
    REJECTED = "rejected"
    NO_BATCH = "no_batch"
    PUT_BACK = "put_back"


class Match(StrEnum):
    """How a batch compares to the content that has the verdict."""

    SAME = "same"
    OTHER = "other"
    # The marker was rebuilt and has no hash: nobody can tell, so the copy must not be metered.
    UNVERIFIED = "unverified"
    # The marker's hash is of a version that this code does not make: other code has to decide.
    INCOMPARABLE = "incomparable"


def compare(marker: Marker, batch: DecodedBatch | RefusedBatch) -> Match:
    """Compare a batch to the marker of its id, by the marker's hash version (identity of content).

    A refused batch whose records could not be read has version 0, the hash of its body: it is other content, unless
    nothing but its object is gone, or a refusal is all that there is.
    """
    if marker.verdict == "rejected" or (isinstance(batch, RefusedBatch) and batch.missing_object):
        return Match.SAME
    if marker.content_hash is None:
        return Match.UNVERIFIED
    if marker.hash_version == batch.hash_version:
        return Match.SAME if marker.content_hash == batch.content_hash else Match.OTHER
    return Match.OTHER if batch.hash_version == 0 else Match.INCOMPARABLE

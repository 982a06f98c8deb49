"""Verdicts: what a batch's marker says of another copy, and who has got which verdict in an invocation."""

from __future__ import annotations

from collections import Counter
from enum import StrEnum
from typing import TYPE_CHECKING

from metering.domain import metric_names
from metering.domain.batches import DecodedBatch, RefusedBatch

if TYPE_CHECKING:
    from metering.domain.batches import Delivery
    from metering.domain.ledger import Marker
    from metering.errors import LedgerCorruptError
    from metering.ports import Metrics
    from metering.usecases.contents import Content


class Verdict(StrEnum):
    """What became of one copy of a batch. All but the last are durable, and acknowledged."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    CONFLICT = "conflict"
    REJECTED = "rejected"
    NO_BATCH = "no_batch"
    PUT_BACK = "put_back"


_METRICS = {
    Verdict.ACCEPTED: metric_names.BATCHES_ACCEPTED,
    Verdict.DUPLICATE: metric_names.BATCHES_DUPLICATE,
    Verdict.CONFLICT: metric_names.BATCHES_CONFLICT,
    Verdict.REJECTED: metric_names.BATCHES_REJECTED,
    Verdict.NO_BATCH: metric_names.MESSAGES_WITHOUT_BATCH,
    Verdict.PUT_BACK: metric_names.MESSAGES_PUT_BACK,
}


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


class Tally:
    """Which messages go back to the queue, and how many copies got which verdict."""

    def __init__(self, metrics: Metrics) -> None:
        self.counts: Counter[Verdict] = Counter()
        self._metrics = metrics
        self._put_back: dict[str, None] = {}
        self._corrupt: dict[str, None] = {}

    @property
    def put_back(self) -> tuple[str, ...]:
        """Ids of messages that have something without a verdict, in order."""
        return tuple(self._put_back)

    @property
    def contradictions(self) -> tuple[str, ...]:
        """What is wrong with the ledger, one sentence each: somebody has to look."""
        return tuple(self._corrupt)

    def corrupt(self, error: LedgerCorruptError) -> None:
        """Note that the ledger contradicts the protocol; what it is about goes back."""
        self._corrupt[str(error)] = None
        self._metrics.count(metric_names.LEDGER_CORRUPT)

    def settle(self, content: Content, verdict: Verdict) -> None:
        """Give a content its verdict. Its further copies are duplicates of it, or go back with it."""
        content.verdict = verdict
        for copy in content.copies:
            self.deliver(copy.delivery, verdict)
            if verdict is not Verdict.PUT_BACK:
                verdict = Verdict.DUPLICATE

    def deliver(self, delivery: Delivery, verdict: Verdict) -> None:
        """Note what became of one delivery, or of one of its batches."""
        if verdict is Verdict.PUT_BACK:
            self._put_back[delivery.message_id] = None
        self.counts[verdict] += 1
        self._metrics.count(_METRICS[verdict])

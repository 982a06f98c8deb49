"""Tally of an invocation: the messages that go back to the queue, and the number of copies with each verdict."""

from __future__ import annotations

from collections import Counter
from itertools import count
from typing import TYPE_CHECKING

from metering import metric_names
from metering.commit.deduplication import Copy
from metering.commit.verdicts import Verdict
from metering.errors import ThrottledError
from metering.intake.batches import DecodedBatch, NoBatch, RefusedBatch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from metering.commit.deduplication import Content
    from metering.errors import LedgerCorruptError, UnavailableError
    from metering.ledger.conflicts import Conflict
    from metering.quarantine.documents import QuarantinedBatch
    from metering.stores.deliveries import Delivery
    from metering.stores.telemetry import Metrics


_METRICS = {
    Verdict.ACCEPTED: metric_names.BATCHES_ACCEPTED,
    Verdict.DUPLICATE: metric_names.BATCHES_DUPLICATE,
    Verdict.CONFLICT: metric_names.BATCHES_CONFLICT,
    Verdict.REJECTED: metric_names.BATCHES_REJECTED,
    Verdict.NO_BATCH: metric_names.MESSAGES_WITHOUT_BATCH,
    Verdict.PUT_BACK: metric_names.MESSAGES_PUT_BACK,
}


class Tally:
    """Decides which messages go back to the queue, and counts verdicts.

    It waits for the reading of each delivery, then for the verdict of each batch in it. A batch that is never mentioned
    goes back: only a durable verdict lets a message be deleted.

    Attributes:
        counts: Number of copies with each verdict.
        foreign_conflicts: New conflicts between contents of different senders.
        disallowed: Batches that their senders may not send.
        throttled: Whether a table was short of writes or reads for this invocation.
    """

    def __init__(self, metrics: Metrics, deliveries: Sequence[Delivery]) -> None:
        self.counts: Counter[Verdict] = Counter()
        self.foreign_conflicts: list[Conflict] = []
        self.disallowed: list[QuarantinedBatch] = []
        self.throttled = False
        self._metrics = metrics
        self._corrupt: dict[str, None] = {}
        self._deliveries = tuple(deliveries)
        self._numbers = count()
        # Ticket -> message id: of tickets without a verdict yet, and of tickets that go back.
        self._waiting: dict[int, str] = {}
        self._back: dict[int, str] = {}
        self._readings: dict[int, list[int]] = {}
        for delivery in self._deliveries:
            self._readings.setdefault(id(delivery), []).append(self._ticket(delivery))

    def read(self, delivery: Delivery, batches: Sequence[DecodedBatch | RefusedBatch | NoBatch]) -> list[Copy]:
        """Note the batches of a delivery; returns the copies that need a verdict. An empty delivery goes back."""
        copies = []
        for batch in batches:
            ticket = self._ticket(delivery)
            if isinstance(batch, NoBatch):
                self._note(ticket, Verdict.NO_BATCH)
            else:
                copies.append(Copy(delivery=delivery, batch=batch, ticket=ticket))
        if batches:
            del self._waiting[self._readings[id(delivery)].pop()]
        return copies

    def put_back(self, delivery: Delivery) -> None:
        """Note that a delivery was not read."""
        self._note(self._readings[id(delivery)].pop(), Verdict.PUT_BACK)

    @property
    def contradictions(self) -> tuple[str, ...]:
        """Contradictions in the ledger, one sentence each, for an operator to look at."""
        return tuple(self._corrupt)

    def corrupt(self, error: LedgerCorruptError) -> None:
        """Note that the ledger contradicts the protocol."""
        self._corrupt[str(error)] = None
        self._metrics.count(metric_names.LEDGER_CORRUPT)

    def met(self, error: UnavailableError) -> None:
        """Note what a dependency answered, for when the messages come back."""
        self.throttled = self.throttled or isinstance(error, ThrottledError)

    def met_throttle(self) -> None:
        """Note that a table is short of writes."""
        self.throttled = True

    def settle(self, content: Content, verdict: Verdict) -> None:
        """Give a content its verdict. Its further copies are duplicates of it, or go back with it."""
        content.verdict = verdict
        first, *others = content.copies
        self._note(first.ticket, verdict)
        for copy in others:
            self._note(copy.ticket, verdict if verdict is Verdict.PUT_BACK else Verdict.DUPLICATE)

    def close(self) -> tuple[str, ...]:
        """Ids of the messages that hold a batch without a durable verdict, in order."""
        for ticket in list(self._waiting):
            self._note(ticket, Verdict.PUT_BACK)
        back = set(self._back.values())
        return tuple(dict.fromkeys(each.message_id for each in self._deliveries if each.message_id in back))

    def _ticket(self, delivery: Delivery) -> int:
        ticket = next(self._numbers)
        self._waiting[ticket] = delivery.message_id
        return ticket

    def _note(self, ticket: int, verdict: Verdict) -> None:
        message_id = self._waiting.pop(ticket)
        if verdict is Verdict.PUT_BACK:
            self._back[ticket] = message_id
        self.counts[verdict] += 1
        self._metrics.count(_METRICS[verdict])

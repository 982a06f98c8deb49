"""The aggregator gives each delivered batch a durable verdict, or returns the batch's message to the queue."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from metering import metric_names
from metering.commit.committer import Committer, Invocation
from metering.commit.deduplication import Candidate, Content, Copy, Verdict, decision_rounds
from metering.commit.throttling import ALONE_FROM_RECEIVE, Shares, hidden_s
from metering.commit.verdict_writer import Tally, VerdictWriter
from metering.errors import UnavailableError
from metering.intake.admission import Admission
from metering.intake.batches import BatchReader, DecodedBatch, RefusedBatch
from metering.ledger.notes.watch import HELD_FROM_RECEIVE, HeldMessage
from metering.quarantine.retries import SenderAlerts
from metering.stores.clock import Alerts, Clock, Deadline, Entropy, Metrics, Retrier
from metering.stores.writes import DYNAMODB_LIMITS, ActionLimits, ItemStore, Put, Table

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from metering.lake.ports import RowCodec
    from metering.settings import Settings
    from metering.stores.objects import ObjectStore
    from metering.stores.queues import Delivery

# Notes of messages that were received three or more times. These notes are written before the messages are processed.
#
# The queue's age metric ignores such a message, so without a note the message's age would be unknown. With healthy
# traffic, there are no such notes.


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldNotes:
    """Writes the notes. Nothing deletes notes: the watch function ignores outdated ones, and the table expires them."""

    items: ItemStore
    clock: Clock
    metrics: Metrics

    def note(self, deliveries: Iterable[Delivery], *, until: Deadline) -> None:
        """Write notes for the invocation's messages that the queue's age metric omits, oldest first.

        A message is processed even if its note cannot be written, because the watch function remembers ages seen
        before. A slow ledger therefore never takes the time needed for verdicts.
        """
        held = [delivery for delivery in deliveries if delivery.receive_count >= HELD_FROM_RECEIVE]
        for delivery in sorted(held, key=lambda each: each.sent_at_ms):
            if until.remaining_ms() > 0:
                self._note(delivery)
            else:
                self.metrics.count(metric_names.HELD_NOTES_LOST)

    def _note(self, delivery: Delivery) -> None:
        held = HeldMessage(
            message_id=delivery.message_id, sent_s=delivery.sent_at_ms // 1000, noted_s=self.clock.now_ms() // 1000
        )
        try:
            self.items.put(Put(table=Table.LEDGER, item=held.to_item()))
        except UnavailableError:
            self.metrics.count(metric_names.HELD_NOTES_LOST)


_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class InvocationResult:
    """Outcome of the deliveries of one invocation.

    Attributes:
        retry: Ids of the messages that the queue must deliver again; all other messages can be deleted.
        counts: Verdict -> number of copies of batches with this verdict. If a message has several batches, every batch
            counts.
        hide_s: Message id -> visibility timeout (s) before redelivery. Set if a table lacks write capacity, because
            every receive brings a message closer to the dead-letter queue (P17). Other messages are redelivered sooner.
        contradictions: Contradictions found in the ledger, one sentence each. Messages with affected batches are in
            `retry`, and become dead letters unless an operator repairs the ledger. The batches that are not affected
            have their verdicts.
    """

    retry: tuple[str, ...]
    counts: Mapping[Verdict, int]
    hide_s: Mapping[str, int] = field(default_factory=dict)
    contradictions: tuple[str, ...] = ()


class Aggregator:
    """Meters deliveries by group commit; docs/protocol.md defines the worker's steps and their order.

    This class is not a dataclass, because its committer keeps state between invocations.
    """

    def __init__(
        self,
        *,
        items: ItemStore,
        objects: ObjectStore,
        reader: BatchReader,
        codec: RowCodec,
        clock: Clock,
        entropy: Entropy,
        metrics: Metrics,
        settings: Settings,
        alerts: Alerts,
        limits: ActionLimits = DYNAMODB_LIMITS,
    ) -> None:
        retrier = Retrier(clock=clock, entropy=entropy, attempts=settings.attempts)
        self._reader = reader
        self._entropy = entropy
        self._metrics = metrics
        self._alerts = alerts
        self._settings = settings
        self._held = HeldNotes(items=items, clock=clock, metrics=metrics)
        self._sender_alerts = SenderAlerts(items=items, clock=clock, metrics=metrics, alerts=alerts)
        self._admission = Admission.of(settings)
        self._verdict_writer = VerdictWriter(
            items=items,
            objects=objects,
            clock=clock,
            metrics=metrics,
            retrier=retrier,
            marker_life_s=settings.marker_life_s,
        )
        self._committer = Committer(
            items=items,
            objects=objects,
            codec=codec,
            clock=clock,
            entropy=entropy,
            metrics=metrics,
            retrier=retrier,
            settings=settings,
            limits=limits,
        )

    def handle(self, deliveries: Sequence[Delivery], deadline: Deadline) -> InvocationResult:
        """Decide deliveries: give each batch its verdict. Neither bad input nor a transient error raises an exception.

        When this call returns, every message without a durable verdict is in `retry`. If this call raises an error or
        is killed, the queue must deliver every message again. Verdicts that batches already have remain valid.
        """
        shares = Shares(deadline, self._settings.reserve_ms)
        invocation = Invocation(
            deadline=deadline,
            shares=shares,
            verdict_writer=self._verdict_writer,
            tally=Tally(self._metrics, deliveries),
        )
        self._held.note(deliveries, until=shares.of_notes())
        try:
            for window in self._windows(_together(deliveries), invocation):
                self._settle(window, invocation)
            for delivery in _alone(deliveries):
                for window in self._windows([delivery], invocation):
                    self._settle(window, invocation)
        finally:
            # A stored conflict is not detected again, so the alert about it is sent even if other verdicts fail.
            self._verdict_writer.send_alert(self._alerts, invocation.tally.foreign_conflicts)
            self._sender_alerts.tell(invocation.tally.disallowed)
        retry = invocation.tally.close()
        return InvocationResult(
            retry=retry,
            hide_s=self._hidden(deliveries, retry) if invocation.tally.throttled else {},
            counts=dict(invocation.tally.counts),
            contradictions=invocation.tally.contradictions,
        )

    def _hidden(self, deliveries: Sequence[Delivery], retry: Collection[str]) -> dict[str, int]:
        return {
            each.message_id: hidden_s(each.receive_count, self._entropy)
            for each in deliveries
            if each.message_id in retry
        }

    def _windows(self, deliveries: Sequence[Delivery], invocation: Invocation) -> Iterator[list[Copy]]:
        """Read deliveries, and yield their batches in windows; a window is at most one commit, to bound memory."""
        window: list[Copy] = []
        records = size = 0
        for delivery in deliveries:
            for copy in self._read(delivery, invocation):
                records += copy.batch.records
                size += _held_bytes(copy)
                if window and (records > self._settings.commit_records or size > self._settings.commit_bytes):
                    yield window
                    window, records, size = [], copy.batch.records, _held_bytes(copy)
                window.append(copy)
        if window:
            yield window

    def _read(self, delivery: Delivery, invocation: Invocation) -> list[Copy]:
        allowance = invocation.shares.of(delivery)
        if allowance is None:
            invocation.tally.put_back(delivery)
            return []
        try:
            reading = self._reader.read(delivery, admission=self._admission, allowance=allowance)
        except UnavailableError as error:
            invocation.tally.met(error)
            invocation.tally.put_back(delivery)
            return []
        except Exception as error:  # noqa: BLE001 - the one guard around a delivery, see below
            # If a delivery crashes its reader (full disk, too little memory, bug), the other deliveries get verdicts
            # anyway. Only that delivery returns to the queue, and becomes a dead letter if it crashes each time.
            self._metrics.count(metric_names.READERS_FAILED, error=type(error).__name__)
            _LOG.warning("a delivery cannot be read", exc_info=error, extra={"message_id": delivery.message_id})
            invocation.tally.put_back(delivery)
            return []
        return invocation.tally.read(delivery, reading.batches)

    def _settle(self, window: list[Copy], invocation: Invocation) -> None:
        undecided: set[tuple[str, str]] = set()
        for contents in decision_rounds(window):
            ready: list[Content] = []
            for content in contents:
                # The first content with this id has no verdict yet, so this content must also wait.
                if content.group in undecided:
                    invocation.tally.settle(content, Verdict.PUT_BACK)
                else:
                    ready.append(content)
            self._decide(ready, invocation)
            undecided |= {content.group for content in ready if content.verdict is Verdict.PUT_BACK}

    def _decide(self, contents: list[Content], invocation: Invocation) -> None:
        candidates = []
        for content in contents:
            batch = content.batch
            if isinstance(batch, RefusedBatch):
                invocation.reject(content, batch)
            else:
                candidates.append(Candidate(content=content, batch=batch))
        if candidates:
            self._committer.commit(candidates, invocation)


def _together(deliveries: Sequence[Delivery]) -> list[Delivery]:
    return [delivery for delivery in deliveries if delivery.receive_count < ALONE_FROM_RECEIVE]


def _alone(deliveries: Sequence[Delivery]) -> list[Delivery]:
    """Suspect deliveries by receive count, in a direction that alternates from one receive to the next.

    Otherwise, a delivery that always crashes its worker would always prevent verdicts on the same other messages.
    """
    suspects = [delivery for delivery in deliveries if delivery.receive_count >= ALONE_FROM_RECEIVE]
    suspects.sort(key=lambda delivery: delivery.receive_count)
    if suspects and suspects[0].receive_count % 2 == 0:
        suspects.reverse()
    return suspects


def _held_bytes(copy: Copy) -> int:
    batch = copy.batch
    return batch.decoded_bytes if isinstance(batch, DecodedBatch) else len(batch.evidence)

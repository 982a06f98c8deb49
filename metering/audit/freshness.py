"""Freshness: the time up to which reports are complete, measured from the queues and the ledger."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from metering.audit.undecided import UndecidedMessages
from metering.ledger.booked_hours import published_in
from metering.ledger.notes.completeness import COMPLETENESS_KEY, Completeness
from metering.ledger.notes.reconciliation import RECONCILIATION_KEY, Reconciliation
from metering.ledger.waiting_commits import WaitingCommits, waiting_commits
from metering.stores.writes import Put, Table

if TYPE_CHECKING:
    from metering.ledger.notes.queue_memory import QueueMemory
    from metering.stores.clock import Clock
    from metering.stores.items import ItemStore
    from metering.stores.queues import Queue, QueueFacts


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Result of one measurement.

    Attributes:
        known: Completeness, for reports.
        waiting: Commits that no run has taken whole yet.
        queues: Memory of the queues, for the next measurement.
    """

    known: Completeness
    waiting: WaitingCommits
    queues: QueueMemory


@dataclass(slots=True)
class FreshnessMemory:
    """Memory of a process from one measurement to the next; losing it is safe.

    Attributes:
        applied: Waiting wide commits that are known to be applied; they are not read again.
    """

    applied: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True, kw_only=True)
class Freshness:
    """Measures `complete_through`. The watch measures it every minute; reports read the stored value.

    Attributes:
        shards: Compaction shards of the stage.
        window_s: Admission window. A source's missing batches cannot change older hours: they would be refused.
        memory: The only state that changes.
    """

    items: ItemStore
    ingest: Queue
    dead: Queue
    queue_facts: QueueFacts
    clock: Clock
    shards: int
    window_s: int
    memory: FreshnessMemory = field(default_factory=FreshnessMemory)

    def complete_through_s(self) -> int:
        """Epoch seconds: everything sent with earlier times is in the usage table and in the lake.

        The value is the watch's last measurement, or a new one if the watch never ran.
        """
        return (self._last() or self.measure().known).through_s

    def keep(self) -> WaitingCommits:
        """Measure and store the result for reports; returns the waiting commits. Only the watch calls this."""
        measured = self.measure()
        self.items.put(Put(table=Table.LEDGER, item=measured.queues.to_item()))
        self.items.put(Put(table=Table.LEDGER, item=measured.known.to_item()))
        return measured.waiting

    def measure(self) -> Measured:
        """Measure, and store nothing.

        The result is the earliest of three times: of messages that the queues may still hold, of batches that sources
        miss, and of hours that are not booked or not published. An hour counts as published after its first run: later
        rows are in staging, where reports see them. The queues are read first: a message that has left them is in the
        ledger when that is read.
        """
        undecided = UndecidedMessages(
            items=self.items, ingest=self.ingest, dead=self.dead, facts=self.queue_facts, clock=self.clock
        )
        queues = undecided.look()
        last = self._last() or Completeness(through_s=0)
        waiting = waiting_commits(self.items, self.shards, applied=self.memory.applied)
        hours = waiting.hours
        published = frozenset(h for h in hours if h in last.published or self._is_published(h))
        held = (*waiting.open_hours, *(hours - published), *self._missing_since_s(queues.looked_s))
        through_s = min((undecided.through_s(queues), *held))
        return Measured(
            known=Completeness(through_s=through_s, published=published, open=waiting.oldest_open),
            waiting=waiting,
            queues=queues,
        )

    def _missing_since_s(self, now_s: int) -> tuple[int, ...]:
        item = self.items.get(Table.LEDGER, RECONCILIATION_KEY)
        since_s = None if item is None else Reconciliation.from_item(item).gaps_since_s
        return () if since_s is None else (max(since_s, now_s - self.window_s),)

    def _is_published(self, hour_s: int) -> bool:
        return next(published_in(self.items, hour_s), None) is not None

    def _last(self) -> Completeness | None:
        item = self.items.get(Table.LEDGER, COMPLETENESS_KEY)
        return None if item is None else Completeness.from_item(item)

"""Freshness: the time up to which reports are complete, measured from the queues and the ledger."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from metering.audit.held_back import Complete, complete_of
from metering.audit.log_holds import log_holds
from metering.audit.undecided import UndecidedMessages
from metering.ledger.notes.completeness import COMPLETENESS_KEY, Completeness, Hold, Holder
from metering.ledger.notes.log_sources import LOG_SOURCES_KEY, LogFigures
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
        region, stage: Where it measures, for the commands that cure what holds completeness back.
        shards: Compaction shards of the stage.
        window_s: Admission window. A source's missing batches cannot change older hours: they would be refused.
        memory: The only state that changes.
    """

    items: ItemStore
    ingest: Queue
    dead: Queue
    queue_facts: QueueFacts
    clock: Clock
    region: str
    stage: str
    shards: int
    window_s: int
    memory: FreshnessMemory = field(default_factory=FreshnessMemory)

    def answer(self) -> Complete:
        """Up to when the count is complete, and what holds it back: the watch's last measurement.

        Where the watch never ran, this measures. An old measurement is never given as a fresh one: the watch then holds
        it back as well.
        """
        known = self._last() or self.measure().known
        return complete_of(known, now_s=self.clock.now_ms() // 1_000, region=self.region, stage=self.stage)

    def keep(self) -> WaitingCommits:
        """Measure and store the result for reports; returns the waiting commits. Only the watch calls this."""
        measured = self.measure()
        self.items.put(Put(table=Table.LEDGER, item=measured.queues.to_item()))
        self.items.put(Put(table=Table.LEDGER, item=measured.known.to_item()))
        return measured.waiting

    def measure(self) -> Measured:
        """Measure, and store nothing.

        The result is the earliest of these times: of messages that the queues may still hold, of batches that sources
        miss, of hours that an open commit has not booked, and of files of log sources that have not come. An hour that
        no run has published holds nothing back: its rows are in staging, where every report sees them. The queues are
        read first: a message that has left them is in the ledger when that is read.
        """
        undecided = UndecidedMessages(
            items=self.items, ingest=self.ingest, dead=self.dead, facts=self.queue_facts, clock=self.clock
        )
        looked = undecided.look()
        waiting = waiting_commits(self.items, self.shards, applied=self.memory.applied)
        now_s = looked.memory.looked_s
        holds = [*undecided.holds(looked), *_open_commits(waiting), *self._gaps(now_s), *self._logs(now_s)]
        holds = sorted((hold for hold in holds if hold.since_s < looked.bound_s), key=lambda hold: hold.since_s)
        return Measured(
            known=Completeness(
                through_s=min([looked.bound_s, *(hold.since_s for hold in holds)]),
                open=waiting.oldest_open,
                held_by=tuple(holds),
                measured_s=now_s,
            ),
            waiting=waiting,
            queues=looked.memory,
        )

    def _gaps(self, now_s: int) -> list[Hold]:
        item = self.items.get(Table.LEDGER, RECONCILIATION_KEY)
        since_s = None if item is None else Reconciliation.from_item(item).gaps_since_s
        if since_s is None:
            return []
        return [Hold(holder=Holder.SOURCE_GAPS, since_s=max(since_s, now_s - self.window_s))]

    def _logs(self, now_s: int) -> list[Hold]:
        """What the log sources of the stage's settings hold back, as the coverage job last saw them."""
        item = self.items.get(Table.LEDGER, LOG_SOURCES_KEY)
        return [] if item is None else log_holds(LogFigures.from_item(item), now_s=now_s)

    def _last(self) -> Completeness | None:
        item = self.items.get(Table.LEDGER, COMPLETENESS_KEY)
        return None if item is None else Completeness.from_item(item)


def _open_commits(waiting: WaitingCommits) -> list[Hold]:
    first_s = min(waiting.open_hours, default=None)
    return [] if first_s is None else [Hold(holder=Holder.OPEN_COMMITS, since_s=first_s, count=len(waiting.open))]

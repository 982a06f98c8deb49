"""Freshness: the time up to which reports are complete, measured from the queues and the ledger."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from metering.audit.held_back import Complete, complete_of
from metering.audit.log_holds import log_holds
from metering.audit.undecided import UndecidedMessages
from metering.ledger.notes.completeness import COMPLETENESS_KEY, Completeness, Hold, Holder
from metering.ledger.notes.log_sources import LOG_SOURCES_KEY, LogFigures
from metering.ledger.notes.reconciliation import RECONCILIATION_KEY, Reconciliation
from metering.ledger.waiting import waiting_commits
from metering.stores.writes import Put, Table

if TYPE_CHECKING:
    from collections.abc import Iterable

    from metering.ledger.notes.queue_memory import QueueMemory
    from metering.ledger.waiting import Waiting
    from metering.stores.clock import Clock
    from metering.stores.items import ItemStore
    from metering.stores.queues import Queue, QueueFacts

# Most waiting commits that one measurement reads: ten minutes of the target's peak.
WAITING_READ = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Result of one measurement.

    Attributes:
        known: Completeness, for reports.
        waiting: What waits for the roll-up.
        queues: Memory of the queues, for the next measurement.
    """

    known: Completeness
    waiting: WaitingNow
    queues: QueueMemory


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingNow:
    """What waits for the roll-up: accepted, and in no report yet.

    Attributes:
        count: Number of commits, at most `WAITING_READ` and one.
        oldest_ms: When the oldest of them was committed; None without any.
        sent_s: Time up to which everything sent before is rolled up, epoch seconds; None without any.
    """

    count: int = 0
    oldest_ms: int | None = None
    sent_s: int | None = None

    @property
    def all_read(self) -> bool:
        """Whether these are all. More are an incident: the earlier completeness stays in force."""
        return self.count <= WAITING_READ

    @classmethod
    def of(cls, entries: Iterable[Waiting]) -> WaitingNow:
        """Sum up the list, as far as it is read."""
        read = list(islice(entries, WAITING_READ + 1))
        sent_ms = min((entry.sent_at_ms for entry in read), default=None)
        return cls(
            count=len(read),
            oldest_ms=min((entry.created_at_ms for entry in read), default=None),
            sent_s=None if sent_ms is None else sent_ms // 1_000,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Freshness:
    """Measures `complete_through`. The watch measures it every minute; reports read the stored value.

    Attributes:
        region, stage: Where it measures, for the commands that cure what holds completeness back.
        shards: Compaction shards of the stage.
        window_s: Admission window. A source's missing batches cannot change older hours: they would be refused.
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

    def answer(self) -> Complete:
        """Up to when the count is complete, and what holds it back: the watch's last measurement.

        Where the watch never ran, this measures. An old measurement is never given as a fresh one: the watch then holds
        it back as well.
        """
        known = self._last() or self.measure().known
        return complete_of(known, now_s=self.clock.now_ms() // 1_000, region=self.region, stage=self.stage)

    def keep(self) -> WaitingNow:
        """Measure and store the result for reports; returns what waits for the roll-up. Only the watch calls this."""
        measured = self.measure()
        self.items.put(Put(table=Table.LEDGER, item=measured.queues.to_item()))
        self.items.put(Put(table=Table.LEDGER, item=measured.known.to_item()))
        return measured.waiting

    def measure(self) -> Measured:
        """Measure, and store nothing.

        The result is the earliest of these times: of messages that the queues may still hold, of batches that sources
        miss, of commits that wait for the roll-up, and of files of log sources that have not come. An hour that no run
        has published holds nothing back: its rows are in staging, where every report sees them. The queues are read
        first: a message that has left them is in the ledger when that is read.
        """
        undecided = UndecidedMessages(
            items=self.items, ingest=self.ingest, dead=self.dead, facts=self.queue_facts, clock=self.clock
        )
        looked = undecided.look()
        waiting = WaitingNow.of(waiting_commits(self.items, self.shards))
        now_s = looked.memory.looked_s
        holds = [*undecided.holds(looked), *_waiting(waiting, self._last()), *self._gaps(now_s), *self._logs(now_s)]
        holds = sorted((hold for hold in holds if hold.since_s < looked.bound_s), key=lambda hold: hold.since_s)
        return Measured(
            known=Completeness(
                through_s=min([looked.bound_s, *(hold.since_s for hold in holds)]),
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


def _waiting(waiting: WaitingNow, last: Completeness | None) -> list[Hold]:
    """P27: reports hold what was committed before the last run of the roll-up."""
    if waiting.sent_s is None:
        return []
    since_s = waiting.sent_s
    if not waiting.all_read:
        since_s = min(since_s, 0 if last is None else last.through_s)
    return [Hold(holder=Holder.WAITING_COMMITS, since_s=since_s, count=waiting.count)]

"""Up to when a report is complete, from what is really known."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from metering.domain.items import Put, Table
from metering.domain.ledger import (
    AFTER_PUBLISHED,
    PUBLISHED_PREFIX,
    CommitRecord,
    Pending,
    commit_key,
    pending_key,
    pointer_key,
)
from metering.domain.watch_items import (
    COMPLETENESS_KEY,
    RECONCILIATION_KEY,
    Completeness,
    Reconciliation,
)
from metering.usecases.shards import known_shards
from metering.usecases.undecided import UndecidedMessages

if TYPE_CHECKING:
    from metering.domain.queue_memory import QueueMemory
    from metering.ports import Clock, ItemStore, Queue
    from metering.usecases.undecided import QueueFacts

# Open commits that the sweep of each minute is told of.
_OPEN_NAMED = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingCommits:
    """Commits that no run has taken whole yet.

    Attributes:
        pending: All of them.
        open: Those whose batches are accepted, but not all of their usage is booked.
    """

    pending: tuple[Pending, ...]
    open: tuple[CommitRecord, ...]

    @property
    def oldest_open(self) -> tuple[str, ...]:
        """Ids of open commits, the oldest first, as many as a sweep can take."""
        oldest = sorted(self.open, key=lambda commit: (commit.created_at_ms, commit.commit_id))
        return tuple(commit.commit_id for commit in oldest[:_OPEN_NAMED])

    @property
    def hours(self) -> set[int]:
        """Hours that have rows in staging only."""
        return {hour_s for each in self.pending for hour_s in each.hours}

    @property
    def open_hours(self) -> set[int]:
        """Hours of which some usage may not be booked yet."""
        return {hour_s for commit in self.open for hour_s in commit.hours}


def waiting_commits(items: ItemStore, shards: int, *, applied: set[str] | None = None) -> WaitingCommits:
    """List them; one that was there before and after the call is among them.

    Args:
        items: The ledger's store.
        shards: Compaction shards of the stage.
        applied: Wide commits that were found applied before. None of them opens again, so they are not read; it is
            brought up to date.
    """
    pending = tuple(
        Pending.from_item(item)
        for shard in known_shards(items, shards)
        for item in items.query(Table.LEDGER, pending_key(shard, "").pk)
    )
    wide = {each.commit_id for each in pending if each.wide}
    known = set[str]() if applied is None else applied
    found = items.get_many(Table.LEDGER, [commit_key(commit_id) for commit_id in sorted(wide - known)])
    commits = [CommitRecord.from_item(item) for item in found.values()]
    known &= wide
    known |= {commit.commit_id for commit in commits if commit.state == "applied"}
    return WaitingCommits(pending=pending, open=tuple(commit for commit in commits if commit.state == "open"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What one measurement found.

    Attributes:
        known: For reports.
        waiting: Commits that no run has taken whole yet.
        queues: What the next measurement has to know of this one.
    """

    known: Completeness
    waiting: WaitingCommits
    queues: QueueMemory


@dataclass(frozen=True, slots=True, kw_only=True)
class Freshness:
    """Measures it, each minute in the watch, and knows it for reports with one read.

    Attributes:
        shards: Compaction shards of the stage.
        window_s: Admission window. What a source misses cannot change older hours: it would be refused.
        applied: Waiting wide commits that are known to be applied, from one minute to the next.
    """

    items: ItemStore
    ingest: Queue
    dead: Queue
    queue_facts: QueueFacts
    clock: Clock
    shards: int
    window_s: int
    applied: set[str] = field(default_factory=set)

    def complete_through_s(self) -> int:
        """All that was sent with times before this, epoch seconds, is in the usage table and in the lake.

        As the watch measured it last; measured now if it never ran.
        """
        return (self._last() or self.measure().known).through_s

    def keep(self) -> WaitingCommits:
        """Measure, and leave it for reports; returns the commits that were found waiting. Only the watch does."""
        measured = self.measure()
        self.items.put(Put(table=Table.LEDGER, item=measured.queues.to_item()))
        self.items.put(Put(table=Table.LEDGER, item=measured.known.to_item()))
        return measured.waiting

    def measure(self) -> Measured:
        """The earliest of: what the queues may still hold, what sources miss, and hours not booked or not published.

        An hour counts as published once a run has published it: what comes late for it is in staging, where reports
        see it. The queues are looked at first: what has left them is in the ledger when that is read.
        """
        undecided = UndecidedMessages(
            items=self.items, ingest=self.ingest, dead=self.dead, facts=self.queue_facts, clock=self.clock
        )
        queues = undecided.look()
        last = self._last() or Completeness(through_s=0)
        waiting = waiting_commits(self.items, self.shards, applied=self.applied)
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
        pk = pointer_key(hour_s, "").pk
        entries = self.items.query(Table.LEDGER, pk, sk_from=PUBLISHED_PREFIX, sk_to=AFTER_PUBLISHED)
        return next(iter(entries), None) is not None

    def _last(self) -> Completeness | None:
        item = self.items.get(Table.LEDGER, COMPLETENESS_KEY)
        return None if item is None else Completeness.from_item(item)

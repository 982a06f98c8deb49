"""Up to when a report is complete, from what is really known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from metering.domain.items import Table
from metering.domain.ledger import CommitRecord, Pending, commit_key, pending_key
from metering.domain.watch_items import WATCH_KEY, WatchState

if TYPE_CHECKING:
    from metering.ports import Clock, ItemStore, Queue


@dataclass(frozen=True, slots=True, kw_only=True)
class Freshness:
    """Looks at the queue and at open commits.

    Attributes:
        shards: Compaction shards of the stage.
    """

    items: ItemStore
    ingest: Queue
    clock: Clock
    shards: int = 1

    def complete_through_s(self) -> int:
        """All that was sent with times before this, epoch seconds, is in the usage table.

        That is now if the queue is empty. Otherwise it is when the watch last saw it empty, 0 if it never did: a queue
        does not say what hours its messages are about. Never later than the first hour of a commit that is still open.
        """
        hours = open_hours(self.items, self.shards)
        known_s = self.clock.now_ms() // 1_000 if self.ingest.depth().total == 0 else self._last_empty_s()
        return min([known_s, *hours])

    def _last_empty_s(self) -> int:
        item = self.items.get(Table.LEDGER, WATCH_KEY)
        return 0 if item is None else WatchState.from_item(item).queue_empty_s


def open_hours(items: ItemStore, shards: int) -> set[int]:
    """Hours of commits that are open: their batches are accepted, but not all of their usage is booked."""
    hours: set[int] = set()
    for shard in range(shards):
        for item in items.query(Table.LEDGER, pending_key(shard, "").pk):
            pending = Pending.from_item(item)
            if not pending.wide:
                continue
            commit = items.get(Table.LEDGER, commit_key(pending.commit_id))
            if commit is not None and CommitRecord.from_item(commit).state == "open":
                hours.update(CommitRecord.from_item(commit).hours)
    return hours

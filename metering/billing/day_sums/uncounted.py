"""What a region has accepted, and its day sums do not have.

It waits for the roll-up or for a file of the lake, or is in a file that is newer than the last run of the biller. What
waits and what is pending says how much it holds by hour, of whatever account.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from metering.ledger.booked_hours import Pending, pending_in
from metering.ledger.runs import lake_chain, newest_run
from metering.ledger.shards import known_shards
from metering.ledger.waiting import waiting_commits
from metering.usage.totals import ZERO, Total, sum_totals

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from metering.stores.items import ItemStore

# Entries that a question lists: about a second. The biller lists all, as the compactor does at each of its runs.
MOST_LISTED = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Uncounted:
    """What is accepted and not counted.

    Attributes:
        total: Its bytes and records, over all accounts and the canary's.
        at_least: There may be more, because not all was listed, or a run of the compactor was at work.
    """

    total: Total = ZERO
    at_least: bool = False

    def plus(self, other: Uncounted) -> Uncounted:
        """What two regions lack."""
        return Uncounted(total=self.total.plus(other.total), at_least=self.at_least or other.at_least)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """How far sums go.

    Attributes:
        through_s: All that was accepted before it is counted, epoch seconds; 0 if nobody knows.
        left: What is not counted; None if it is not told.
    """

    through_s: int
    left: Uncounted | None = None


def reach_of(regions: Iterable[Reach]) -> Reach:
    """How far the sums of regions go together. What is not told of one of them is told of none."""
    known = list(regions)
    left: Uncounted | None = Uncounted()
    for each in known:
        left = None if left is None or each.left is None else left.plus(each.left)
    return Reach(through_s=min((each.through_s for each in known), default=0), left=left)


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """What no lake file has.

    Attributes:
        oldest_ms: When the oldest commit of it was made; None without any.
        whole: Whether all of it was listed.
    """

    total: Total = ZERO
    oldest_ms: int | None = None
    whole: bool = True


def list_unpublished(items: ItemStore, shards: int, *, most: int | None = None) -> Listed:
    """Sum up what waits for the roll-up or for the compactor, each commit once.

    Args:
        items: The ledger's store.
        shards: The stage's number of shards.
        most: Entries to list; None for all.

    Raises:
        LedgerCorruptError: An entry cannot be read.
        UnavailableError: The ledger gives no answer.
    """
    size = records = 0
    oldest_ms: int | None = None
    for place, (made_ms, total) in enumerate(_entries(items, shards)):
        if place == most:
            return Listed(total=Total(size, records), oldest_ms=oldest_ms, whole=False)
        size, records = size + total.bytes, records + total.records
        oldest_ms = made_ms if oldest_ms is None else min(oldest_ms, made_ms)
    return Listed(total=Total(size, records), oldest_ms=oldest_ms)


def _entries(items: ItemStore, shards: int) -> Iterator[tuple[int, Total]]:
    """When each commit was made, and what of it no run has taken. What waits comes first: it goes to pending (P2)."""
    waiting: set[str] = set()
    for entry in waiting_commits(items, shards):
        waiting.add(entry.commit_id)
        yield entry.created_at_ms, sum_totals(entry.totals.values())
    for shard in known_shards(items, shards):
        for pending in map(Pending.from_item, pending_in(items, shard)):
            if pending.commit_id not in waiting:
                yield pending.created_at_ms, sum_totals(pending.totals[hour_s] for hour_s in pending.hours)


def newest_runs(items: ItemStore, shards: int) -> dict[int, tuple[int, str]]:
    """Shard -> number and state of the compactor's newest run; a shard without runs is not there."""
    found = ((shard, newest_run(items, lake_chain(shard))) for shard in known_shards(items, shards))
    return {shard: (run.number, run.state) for shard, run in found if run is not None}


def all_done(newest: Mapping[int, tuple[int, str]], counted: Mapping[int, int]) -> bool:
    """Whether no run is at work, and the newest one of each shard is counted."""
    return all(state == "done" and number == counted.get(shard, 0) for shard, (number, state) in newest.items())

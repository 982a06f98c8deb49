"""Waiting commits: those with hours that no run of the compactor has taken yet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from metering.ledger.booked_hours import Pending, pending_in
from metering.ledger.commits import CommitRecord, commit_key
from metering.ledger.shards import known_shards
from metering.stores.writes import Table

if TYPE_CHECKING:
    from metering.stores.items import ItemStore


# Number of open commits that are handed to the sweep of each minute.
_OPEN_NAMED = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingCommits:
    """Commits with hours that no run has taken yet.

    Attributes:
        pending: All of them.
        open: Commits whose batches are accepted, but whose usage is not fully booked.
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
        """Hours that may lack usage of an open commit."""
        return {hour_s for commit in self.open for hour_s in commit.hours}


def waiting_commits(items: ItemStore, shards: int, *, applied: set[str] | None = None) -> WaitingCommits:
    """List the waiting commits. The list includes every commit that was waiting throughout the call.

    Args:
        items: The ledger's store.
        shards: Compaction shards of the stage.
        applied: Wide commits that were found applied before. They never open again, so they are not read. This call
            updates the set.
    """
    pending = tuple(
        Pending.from_item(item) for shard in known_shards(items, shards) for item in pending_in(items, shard)
    )
    wide = {each.commit_id for each in pending if each.wide}
    known = set[str]() if applied is None else applied
    found = items.get_many(Table.LEDGER, [commit_key(commit_id) for commit_id in sorted(wide - known)])
    commits = [CommitRecord.from_item(item) for item in found.values()]
    known &= wide
    known |= {commit.commit_id for commit in commits if commit.state == "applied"}
    return WaitingCommits(pending=pending, open=tuple(commit for commit in commits if commit.state == "open"))

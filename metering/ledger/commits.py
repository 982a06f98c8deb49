"""Commits: their records, and the shard that follows from their random ids."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from metering.hours import hour_label
from metering.ledger import partitions
from metering.ledger.booked_hours import HourTotals, StagingKey
from metering.ledger.shards import known_shards
from metering.stores.codec import SortKey, StoredItem, number_after
from metering.stores.fields import Fields
from metering.stores.writes import Item, Key, Table, Value

if TYPE_CHECKING:
    from collections.abc import Iterator

    from metering.stores.items import ItemStore


CommitState = Literal["committed", "aborted"]
_STATES: tuple[CommitState, ...] = ("committed", "aborted")


def commit_key(commit_id: str) -> Key:
    """Key of a commit."""
    return Key(f"{partitions.COMMIT}{commit_id}", "C")


def is_commit(item: Item) -> bool:
    """Whether an item of the ledger is a commit."""
    return str(item["pk"]).startswith(partitions.COMMIT)


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitRecord:
    """Record of a commit. `aborted` is the fence of one that never came (P32); it has nothing but its id.

    Attributes:
        hours: All booked hours of its rows; they never change.
        expires_at_s: Set once its staging object is cleaned, never before.
    """

    commit_id: str
    state: CommitState
    shard: int = 0
    hours: tuple[int, ...] = ()
    staging_key: str = ""
    rows: int = 0
    bytes: int = 0
    created_at_ms: int = 0
    expires_at_s: int | None = None

    @property
    def key(self) -> Key:
        return commit_key(self.commit_id)

    def to_item(self) -> dict[str, Value]:
        item: dict[str, Value] = {**self.key._asdict(), "state": self.state}
        if self.state != "aborted":
            item |= {
                "shard": self.shard,
                "hours": [hour_label(hour_s) for hour_s in self.hours],
                "staging": self.staging_key,
                "rows": self.rows,
                "bytes": self.bytes,
                "created_at_ms": self.created_at_ms,
            }
        if self.expires_at_s is not None:
            item["expires_at"] = self.expires_at_s
        return item

    @classmethod
    def from_item(cls, item: Item) -> CommitRecord:
        """The item as it was read.

        Raises:
            LedgerCorruptError: It is none.
        """
        fields = Fields.of_item(item)
        state = fields.one_of("state", _STATES)
        commit_id = fields.after("pk", partitions.COMMIT)
        expires_at_s = fields.whole("expires_at", absent=None)
        if state == "aborted":
            made = cls(commit_id=commit_id, state=state, expires_at_s=expires_at_s)
        else:
            made = cls(
                commit_id=commit_id,
                state=state,
                shard=fields.whole("shard"),
                hours=tuple(sorted(fields.hours("hours"))),
                staging_key=fields.any_text("staging"),
                rows=fields.whole("rows"),
                bytes=fields.whole("bytes"),
                created_at_ms=fields.whole("created_at_ms"),
                expires_at_s=expires_at_s,
            )
        fields.check_key(made.key)
        return made


def shard_of(commit_id: str, shards: int) -> int:
    """Shard of a commit: hash of its id modulo `shards`. Both of its chains are those of this shard."""
    return zlib.crc32(commit_id.encode()) % shards


# Waiting commits: accepted, and not rolled up yet (`U#<shard>`, `<commit_id>`).
#
# The transaction of a commit puts its entry. A run of the shard's roll-up books its usage, places its pointers and its
# pending entry, and then deletes it (P23). Until then, the entry alone lists the commit's hours: readers of rows ask
# this list before they ask the pointers (P25).


# Greater than every commit id.
_AFTER_ALL = "~"


def waiting_key(shard: int, commit_id: str) -> Key:
    """Key of a waiting commit's entry."""
    return Key(f"{partitions.WAITING}{shard}", commit_id)


def waiting_in(items: ItemStore, shard: int, *, sk_from: str = "", sk_to: str = _AFTER_ALL) -> Iterator[Item]:
    """The items of a shard's waiting commits, by commit id; of those with `sk_from <= id < sk_to`."""
    return items.query(Table.LEDGER, f"{partitions.WAITING}{shard}", sk_from=sk_from, sk_to=sk_to)


def waiting_commits(items: ItemStore, shards: int) -> Iterator[Waiting]:
    """All waiting commits of all shards that a commit may be in, read while the caller iterates.

    Raises:
        LedgerCorruptError: An entry cannot be read.
    """
    for shard in known_shards(items, shards):
        yield from map(Waiting.from_item, waiting_in(items, shard))


def waiting_commit_of(item: Item) -> str:
    """The commit id of a waiting commit's item, even if the item cannot be read otherwise."""
    return str(item["sk"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting(StoredItem):
    """A commit that no run of the roll-up has placed yet.

    Attributes:
        totals: Rows and bytes of each booked hour.
        sent_at_ms: The smallest SentTimestamp of its messages: reports of usage are complete up to it at most (P27).
    """

    shard: Annotated[int, number_after("pk", partitions.WAITING)]
    commit_id: SortKey
    totals: HourTotals
    staging_key: StagingKey
    created_at_ms: int
    sent_at_ms: int

    @property
    def key(self) -> Key:
        return waiting_key(self.shard, self.commit_id)

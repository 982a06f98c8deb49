"""Commits: their records, and their shards, which follow from their random ids."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from metering.hours import hour_label
from metering.ledger import partitions
from metering.ledger.booked_hours import HourTotals, StagingKey
from metering.ledger.shards import known_shards
from metering.stores.codec import Form, SortKey, StoredItem, after, item_of, number_after, struct_of
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


_OF_FENCES = frozenset(("pk", "sk", "state", "expires_at"))
_Hours = Annotated[
    tuple[int, ...],
    Form(lambda fields, name: tuple(sorted(fields.hours(name))), lambda hours: list(map(hour_label, hours))),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitRecord(StoredItem):
    """Record of a commit. `aborted` is the fence of a commit that never landed (P32); it has nothing but its id.

    Attributes:
        hours: All booked hours of its rows; they never change.
        expires_at_s: Set once its staging object is cleaned, never before.
    """

    commit_id: Annotated[str, after("pk", partitions.COMMIT)]
    state: CommitState
    shard: int = 0
    hours: _Hours = ()
    staging_key: Annotated[str, "staging"] = ""
    rows: int = 0
    bytes: int = 0
    created_at_ms: int = 0
    expires_at_s: Annotated[int | None, "expires_at"] = None

    @property
    def key(self) -> Key:
        return commit_key(self.commit_id)

    def to_item(self) -> dict[str, Value]:
        item = item_of(self)
        return item if self.state != "aborted" else {name: item[name] for name in item.keys() & _OF_FENCES}

    @classmethod
    def from_item(cls, item: Item) -> CommitRecord:
        """Decode the item; the inverse of `to_item`.

        Raises:
            LedgerCorruptError: It is something else.
        """
        if item.get("state") == "committed":
            return struct_of(cls, item)
        fields = Fields.of_item(item)
        made = cls(
            state=fields.one_of("state", _STATES),
            commit_id=fields.after("pk", partitions.COMMIT),
            expires_at_s=fields.whole("expires_at", absent=None),
        )
        fields.check_key(made.key)
        return made


def shard_of(commit_id: str, shards: int) -> int:
    """Shard of a commit: hash of its id modulo `shards`. Both of its chains are those of this shard."""
    return zlib.crc32(commit_id.encode()) % shards


# Waiting commits: accepted, and not rolled up yet (`U#<shard>`, `<commit_id>`).
#
# A commit's transaction puts its entry. A run of the shard's roll-up books the commit's usage, places its pointers and
# its pending entry, and then deletes the entry (P23). Until then, only the entry lists the commit's hours: readers of
# rows read this list before the pointers (P25).


# Sorts after every commit id.
_AFTER_ALL = "~"


def waiting_key(shard: int, commit_id: str) -> Key:
    """Key of a waiting commit's entry."""
    return Key(f"{partitions.WAITING}{shard}", commit_id)


def waiting_in(items: ItemStore, shard: int, *, sk_from: str = "", sk_to: str = _AFTER_ALL) -> Iterator[Item]:
    """The items of a shard's waiting commits, by commit id, or only those with `sk_from <= id < sk_to`."""
    return items.query(Table.LEDGER, f"{partitions.WAITING}{shard}", sk_from=sk_from, sk_to=sk_to)


def waiting_commits(items: ItemStore, shards: int) -> Iterator[Waiting]:
    """All waiting commits of all shards that may have commits, read while the caller iterates.

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
        sent_at_ms: The smallest SentTimestamp of its messages; reports of usage are complete up to it at most (P27).
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

"""Commits: their records, the shard of a commit by its random id, and the present and earlier shards of a stage.

A commit is pending in its shard, `P#<shard>`, until a run of the shard has taken it. So a stage with fewer shards than
before still lists the old shards (docs/protocol.md, Shards). The largest number of shards is stored before the first
commit that uses it, and read before pending commits are listed, so no listing misses a shard.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from metering.errors import ConditionFailedError
from metering.hours import hour_label
from metering.ledger import partitions
from metering.ledger.booked_hours import HourTotals, StagingKey
from metering.stores.codec import Fields, Form, FromOne, SortKey, StoredItem, after, item_of, number_after, struct_of
from metering.stores.writes import Absent, Equals, Item, ItemStore, Key, Put, Table, Value

if TYPE_CHECKING:
    from collections.abc import Iterator

    from metering.stores import clock

SHARDS_KEY = Key("S#shards", "S")
# Far more than a stage can have, so that every listing terminates.
_MOST_SHARDS = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class UsedShards(StoredItem):
    """Largest number of shards used, as stored. It only grows. If this item is absent, at most one shard was used."""

    key: ClassVar[Key] = SHARDS_KEY
    number: FromOne = 1

    @classmethod
    def from_item(cls, item: Item | None) -> UsedShards:
        """Decode the item; `item` is None if absent.

        Raises:
            LedgerCorruptError: The item has no valid number of shards, so the shards to list are unknown.
        """
        made = cls() if item is None else struct_of(cls, item)
        if item is not None and made.number > _MOST_SHARDS:
            Fields.of_item(item).fail("number", f"a whole number up to {_MOST_SHARDS}")
        return made


def known_shards(items: ItemStore, shards: int) -> range:
    """Every shard that may have commits now. Call again for each listing, because another process may add shards.

    Raises:
        LedgerCorruptError: The stored number cannot be read.
    """
    return range(max(shards, _used(items)))


def shards_of(items: ItemStore, shards: int, shard: int | None) -> tuple[int, ...]:
    """Shards on which one invocation of a job works.

    Args:
        items: The ledger's store.
        shards: The stage's number of shards.
        shard: The invocation's shard, one of the stage's current shards; None for an invocation for all shards.

    Returns:
        All shards that may have commits, or only the invocation's own shard. The invocation for shard 0 also works on
        earlier shards that no longer have an invocation of their own (P42).

    Raises:
        LedgerCorruptError: The stored number cannot be read.
    """
    if shard is None:
        return tuple(known_shards(items, shards))
    left = known_shards(items, shards)[shards:] if shard == 0 else ()
    return (shard, *left)


class ShardRecord:
    """Stores a worker's number of shards before the worker's first commit, once per process.

    This is a plain class, because it remembers that the number is stored.
    """

    def __init__(self, *, items: ItemStore, retrier: clock.Retrier, shards: int) -> None:
        self._items = items
        self._retrier = retrier
        self._shards = shards
        # Every listing has at least one shard, so a single shard need not be remembered.
        self._known = shards == 1

    def ensure(self) -> None:
        """Return once the ledger has stored this number of shards or a larger number.

        Raises:
            UnavailableError: It is unknown whether the number is stored, so nothing may be committed.
            LedgerCorruptError: The stored number cannot be read.
        """
        while not self._known:
            self._known = self._retrier.call(self._remember)

    def _remember(self) -> bool:
        """Read the number of shards, and raise it if necessary. Returns False if another process wrote in between.

        The write is conditional on the number that was read, so a late write never lowers the stored number.
        """
        item = self._items.get(Table.LEDGER, SHARDS_KEY)
        used = UsedShards.from_item(item).number
        if used >= self._shards:
            return True
        condition = Absent() if item is None else Equals(attribute="number", value=used)
        put = Put(table=Table.LEDGER, item=UsedShards(number=self._shards).to_item(), condition=condition)
        try:
            self._items.put(put)
        except ConditionFailedError:
            # Another worker changed the number, or an earlier write of this worker succeeded and its reply was lost.
            return False
        return True


def _used(items: ItemStore) -> int:
    return UsedShards.from_item(items.get(Table.LEDGER, SHARDS_KEY)).number


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
    """Record of a commit. `aborted` is the fence of a commit that never succeeded (P32), and has only the commit's id.

    Attributes:
        hours: All booked hours of the commit's rows; these hours never change.
        expires_at_s: Set after the commit's staging object is cleaned, never before.
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
    """Shard of a commit: hash of its id modulo `shards`. The shard's two chains process the commit."""
    return zlib.crc32(commit_id.encode()) % shards


# Waiting commits: accepted, and not rolled up yet (`U#<shard>`, `<commit_id>`).
#
# A commit's transaction also puts its waiting entry. A run of the shard's roll-up books the commit's usage, places its
# pointers and its pending entry, and then deletes its waiting entry (P23). Until then, only the waiting entry lists the
# commit's hours, so readers of rows read the waiting list before the pointers (P25).


# This key sorts after every commit id.
_AFTER_ALL = "~"


def waiting_key(shard: int, commit_id: str) -> Key:
    """Key of a waiting commit's entry."""
    return Key(f"{partitions.WAITING}{shard}", commit_id)


def waiting_in(items: ItemStore, shard: int, *, sk_from: str = "", sk_to: str = _AFTER_ALL) -> Iterator[Item]:
    """The items of a shard's waiting commits, by commit id, or only those with `sk_from <= id < sk_to`."""
    return items.query(Table.LEDGER, f"{partitions.WAITING}{shard}", sk_from=sk_from, sk_to=sk_to)


def waiting_commits(items: ItemStore, shards: int) -> Iterator[Waiting]:
    """Yield all waiting commits of all shards that may have commits, read while the caller iterates.

    Raises:
        LedgerCorruptError: An entry cannot be read.
    """
    for shard in known_shards(items, shards):
        yield from map(Waiting.from_item, waiting_in(items, shard))


def waiting_commit_of(item: Item) -> str:
    """The commit id of a waiting commit's item, even if the item is otherwise unreadable."""
    return str(item["sk"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting(StoredItem):
    """A commit that no run of the roll-up has placed yet.

    Attributes:
        sent_at_ms: Smallest SentTimestamp of the commit's messages; no usage report is complete beyond it (P27).
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

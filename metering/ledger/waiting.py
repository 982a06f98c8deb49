"""Waiting commits: accepted, and not rolled up yet (`U#<shard>`, `<commit_id>`).

The transaction of a commit puts its entry. A run of the shard's roll-up books its usage, places its pointers and its
pending entry, and then deletes it (P23). Until then, the entry alone lists the commit's hours: readers of rows ask this
list before they ask the pointers (P25).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from metering.ledger import partitions
from metering.ledger.booked_hours import totals_of, totals_value
from metering.ledger.shards import known_shards
from metering.stores.fields import Fields
from metering.stores.writes import Key, Table

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from metering.stores.items import ItemStore
    from metering.stores.writes import Item, Value
    from metering.usage.totals import Total


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

    Args:
        items: The ledger's store.
        shards: The stage's number of shards.

    Raises:
        LedgerCorruptError: An entry cannot be read.
    """
    for shard in known_shards(items, shards):
        yield from map(Waiting.from_item, waiting_in(items, shard))


def waiting_commit_of(item: Item) -> str:
    """The commit id of a waiting commit's item, even if the item cannot be read otherwise."""
    return str(item["sk"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A commit that no run of the roll-up has placed yet.

    Attributes:
        totals: Rows and bytes of each booked hour.
        sent_at_ms: The smallest SentTimestamp of its messages: reports of usage are complete up to it at most (P27).
    """

    shard: int
    commit_id: str
    totals: Mapping[int, Total]
    staging_key: str
    created_at_ms: int
    sent_at_ms: int

    @property
    def key(self) -> Key:
        return waiting_key(self.shard, self.commit_id)

    def to_item(self) -> dict[str, Value]:
        return {
            **self.key._asdict(),
            "totals": totals_value(self.totals),
            "staging": self.staging_key,
            "created_at_ms": self.created_at_ms,
            "sent_at_ms": self.sent_at_ms,
        }

    @classmethod
    def from_item(cls, item: Item) -> Waiting:
        fields = Fields.of_item(item)
        made = cls(
            shard=fields.number_after("pk", partitions.WAITING),
            commit_id=fields.text("sk"),
            totals=totals_of(fields.nested("totals")),
            staging_key=fields.text("staging"),
            created_at_ms=fields.whole("created_at_ms"),
            sent_at_ms=fields.whole("sent_at_ms"),
        )
        fields.check_key(made.key)
        return made

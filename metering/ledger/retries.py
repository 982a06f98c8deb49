"""What the ledger remembers of retries, in the partition of the batch that was refused first.

| item       | pk             | sk                 | written by                                       |
|------------|----------------|--------------------|--------------------------------------------------|
| retry note | `B#<batch_id>` | `N#<retry id>`     | the operator's command, before it sends          |
| alias      | `B#<batch_id>` | `A#<content hash>` | the worker, in the transaction that accepts it   |
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from metering.ledger.markers import batch_id_of, in_partition_of_batch, partition_of_batch
from metering.stores.fields import Fields
from metering.stores.writes import Key, Table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from metering.stores.items import ItemStore
    from metering.stores.writes import Item, Value

_NOTE_PREFIX = "N#"
_ALIAS_PREFIX = "A#"
# End of the aliases: the next character after `#`.
_AFTER_ALIASES = "A$"


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryNote:
    """Note of a retry: the refused records of an accepted batch that were sent again, and their new id.

    Records that were retried count in the retry's batch, and no longer as refused records of the first one.

    Attributes:
        batch_id: Id of the batch that they were refused in.
        retry_id: Id of the batch that they were sent again as.
        positions: Their positions in the first batch.
    """

    batch_id: str
    retry_id: str
    positions: tuple[int, ...]
    expires_at_s: int

    @property
    def key(self) -> Key:
        return Key(partition_of_batch(self.batch_id), f"{_NOTE_PREFIX}{self.retry_id}")

    def to_item(self) -> dict[str, Value]:
        return {**self.key._asdict(), "positions": list(self.positions), "expires_at": self.expires_at_s}

    @classmethod
    def from_item(cls, item: Item) -> RetryNote:
        fields = Fields.of_item(item)
        made = cls(
            batch_id=batch_id_of(fields),
            retry_id=fields.after("sk", _NOTE_PREFIX),
            positions=fields.wholes("positions"),
            expires_at_s=fields.whole("expires_at"),
        )
        fields.check_key(made.key)
        return made


@dataclass(frozen=True, slots=True, kw_only=True)
class Alias:
    """Alias of a content whose first id has other content: the id that it is metered under.

    Attributes:
        batch_id: Id that it came under first.
        content_hash: Hash of the content, as the worker that accepted it decoded it.
        retry_id: Id of the batch that it was accepted as.
        expires_at_s: End of the life of that batch's marker. The marker of `batch_id` lives at least as long.
    """

    batch_id: str
    content_hash: str
    retry_id: str
    expires_at_s: int

    @property
    def key(self) -> Key:
        return Key(partition_of_batch(self.batch_id), f"{_ALIAS_PREFIX}{self.content_hash}")

    def to_item(self) -> dict[str, Value]:
        return {**self.key._asdict(), "retried_as": self.retry_id, "expires_at": self.expires_at_s}

    @classmethod
    def from_item(cls, item: Item) -> Alias:
        """Decode the item; the inverse of `to_item`.

        Raises:
            LedgerCorruptError: It is not an alias.
        """
        fields = Fields.of_item(item)
        made = cls(
            batch_id=batch_id_of(fields),
            content_hash=fields.after("sk", _ALIAS_PREFIX),
            retry_id=fields.text("retried_as"),
            expires_at_s=fields.whole("expires_at"),
        )
        fields.check_key(made.key)
        return made


def is_retry_note(item: Item) -> bool:
    """Whether an item of the ledger is a retry note."""
    return in_partition_of_batch(item) and str(item["sk"]).startswith(_NOTE_PREFIX)


def aliases_of(items: ItemStore, batch_id: str) -> Iterator[Alias]:
    """Aliases of all contents that first came under a batch id.

    Raises:
        LedgerCorruptError: One of them cannot be read.
    """
    pk = partition_of_batch(batch_id)
    return map(Alias.from_item, items.query(Table.LEDGER, pk, sk_from=_ALIAS_PREFIX, sk_to=_AFTER_ALIASES))

"""Notes and aliases of retries, stored in the partition of the first batch id.

| item       | pk             | sk                 | written by                                       |
|------------|----------------|--------------------|--------------------------------------------------|
| retry note | `B#<batch_id>` | `N#<retry id>`     | the operator's command, before it sends          |
| alias      | `B#<batch_id>` | `A#<content hash>` | the worker, in the transaction that accepts it   |
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from metering.ledger import partitions
from metering.ledger.markers import in_partition_of_batch, partition_of_batch
from metering.stores.codec import StoredItem, after
from metering.stores.writes import Item, ItemStore, Key, Table

_NOTE_PREFIX = "N#"
_ALIAS_PREFIX = "A#"
# Exclusive end of the aliases: the next character after `#`.
_AFTER_ALIASES = "A$"

_BatchId = Annotated[str, after("pk", partitions.BATCH)]


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryNote(StoredItem):
    """Note of a retry: the refused records of an accepted batch that were resent, and the new batch's id.

    Retried records count in the new batch, and no longer as refused records of the first batch.

    Attributes:
        batch_id: Id of the batch in which the records were refused.
        retry_id: Id of the new batch in which the records were resent.
        positions: Positions of the records in the first batch.
    """

    batch_id: _BatchId
    retry_id: Annotated[str, after("sk", _NOTE_PREFIX)]
    positions: tuple[int, ...]
    expires_at_s: Annotated[int, "expires_at"]

    @property
    def key(self) -> Key:
        return Key(partition_of_batch(self.batch_id), f"{_NOTE_PREFIX}{self.retry_id}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Alias(StoredItem):
    """Alias of a content whose first id belongs to other content: the id under which the content is metered.

    Attributes:
        batch_id: Id under which the content first arrived.
        content_hash: Hash of the content, as decoded by the worker that accepted it.
        retry_id: Id under which the content was accepted.
        expires_at_s: Expiry of the marker of `retry_id`. The marker of `batch_id` does not expire earlier.
    """

    batch_id: _BatchId
    content_hash: Annotated[str, after("sk", _ALIAS_PREFIX)]
    retry_id: Annotated[str, "retried_as"]
    expires_at_s: Annotated[int, "expires_at"]

    @property
    def key(self) -> Key:
        return Key(partition_of_batch(self.batch_id), f"{_ALIAS_PREFIX}{self.content_hash}")


def is_retry_note(item: Item) -> bool:
    """Whether an item of the ledger is a retry note."""
    return in_partition_of_batch(item) and str(item["sk"]).startswith(_NOTE_PREFIX)


def aliases_of(items: ItemStore, batch_id: str) -> Iterator[Alias]:
    """Aliases of all contents that first arrived under a batch id.

    Raises:
        LedgerCorruptError: One of them cannot be read.
    """
    pk = partition_of_batch(batch_id)
    return map(Alias.from_item, items.query(Table.LEDGER, pk, sk_from=_ALIAS_PREFIX, sk_to=_AFTER_ALIASES))

"""Conflicts: other content that came under the id of an accepted batch, and notes for the watch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from metering.hours import rfc3339
from metering.ledger.markers import batch_id_of, in_partition_of_batch, named_batch, partition_of_batch
from metering.ledger.notes.canary_runs import REMEMBERED_S
from metering.ledger.partitions import NOTE
from metering.stores.fields import Fields
from metering.stores.writes import Key

if TYPE_CHECKING:
    from metering.stores.writes import Item, Value


_CONFLICT_PREFIX = "X#"


def conflict_key(batch_id: str, content_hash: str) -> Key:
    """Key of a conflict."""
    return Key(partition_of_batch(batch_id), f"{_CONFLICT_PREFIX}{content_hash}")


def is_conflict(item: Item) -> bool:
    """Whether an item of the ledger is a conflict."""
    return in_partition_of_batch(item) and str(item["sk"]).startswith(_CONFLICT_PREFIX)


def conflict_named(item: Item) -> tuple[str, str]:
    """Batch id and content hash that the key of a conflict names."""
    return named_batch(item), str(item["sk"]).removeprefix(_CONFLICT_PREFIX)


@dataclass(frozen=True, slots=True, kw_only=True)
class Conflict:
    """Other content under the id of an accepted batch. It is written unconditionally, with the same attributes."""

    batch_id: str
    content_hash: str
    hash_version: int
    quarantine_key: str
    sender_id: str
    first_sender_id: str
    records: int

    @property
    def key(self) -> Key:
        return conflict_key(self.batch_id, self.content_hash)

    def to_item(self) -> dict[str, Value]:
        return {
            **self.key._asdict(),
            "hash_version": self.hash_version,
            "quarantine": self.quarantine_key,
            "sender": self.sender_id,
            "first_sender": self.first_sender_id,
            "records": self.records,
        }

    @classmethod
    def from_item(cls, item: Item) -> Conflict:
        fields = Fields.of_item(item)
        made = cls(
            batch_id=batch_id_of(fields),
            content_hash=fields.after("sk", _CONFLICT_PREFIX),
            hash_version=fields.whole("hash_version"),
            quarantine_key=fields.text("quarantine"),
            sender_id=fields.any_text("sender"),
            first_sender_id=fields.any_text("first_sender"),
            records=fields.whole("records"),
        )
        fields.check_key(made.key)
        return made


CONFLICT_PK = f"{NOTE}conflict"


def conflict_seen_item(batch_id: str, content_hash: str, now_s: int) -> dict[str, Value]:
    """Note of a new conflict at its time, so that the watch can count new conflicts without a scan."""
    key = Key(CONFLICT_PK, f"{rfc3339(now_s)}#{batch_id}#{content_hash}")
    return {**key._asdict(), "expires_at": now_s + REMEMBERED_S}


def conflict_of(item: Item) -> tuple[str, str]:
    """Batch id and content hash that the note of a conflict names."""
    fields = Fields.of_item(item)
    parts = fields.text("sk").split("#")
    if len(parts) != 3 or not all(parts):
        fields.fail("sk", "a moment, a batch id and a hash")
    return parts[1], parts[2]

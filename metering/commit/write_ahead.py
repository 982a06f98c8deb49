"""The write-ahead object of a wide commit: numbered chunks of complete actions.

A chunk and the step of its number on the commit item are one transaction, so a chunk has at most 99 actions. Any
process can read the object and go on, so nothing in it depends on who wrote it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from metering.ledger.booked_hours import Pointer
from metering.ledger.usage_items import usage_add, usage_key
from metering.stores.fields import Fields
from metering.stores.writes import DYNAMODB_LIMITS, Key, Put, Table, Update
from metering.usage.totals import Total

if TYPE_CHECKING:
    from collections.abc import Mapping

    from metering.usage.totals import UsageKey

_SCHEMA = "metering.wal/1"
_POINTER_COLUMNS = ("hour_s", "shard", "rows", "bytes", "staging")


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageDelta:
    """What a commit adds to one usage item.

    Attributes:
        key: Holds the suffix.
        hours: Booked hour -> total; all hours of one day.
    """

    key: Key
    hours: Mapping[int, Total]

    def action(self) -> Update:
        return Update(table=Table.USAGE, key=self.key, add=usage_add(self.hours))


def usage_deltas(usage: Mapping[UsageKey, Total], suffix: int) -> tuple[UsageDelta, ...]:
    """What a commit adds to the usage table: one delta an item, because a transaction has one action an item."""
    items: dict[Key, dict[int, Total]] = {}
    for key, total in usage.items():
        items.setdefault(usage_key(key, suffix), {})[key.hour_s] = total
    return tuple(UsageDelta(key=key, hours=hours) for key, hours in items.items())


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteAhead:
    """What is left to do once a wide commit is open: pointers (if they did not fit its transaction), then usage.

    Attributes:
        pointers: Empty unless the commit has more hours than its transaction can hold.
        deltas: One a usage item, all items distinct.
        chunk_actions: Most actions of a chunk. Every process that works on the commit must have the same number.
    """

    commit_id: str
    pointers: tuple[Pointer, ...]
    deltas: tuple[UsageDelta, ...]
    chunk_actions: int = DYNAMODB_LIMITS.chunk

    @property
    def chunks(self) -> int:
        """Number of chunks, at least 1 for a commit that has usage."""
        return -(-(len(self.pointers) + len(self.deltas)) // self.chunk_actions)

    def chunk(self, number: int) -> list[Put | Update]:
        """Actions of chunk `number`, from 0: the same ones for every process."""
        first, last = number * self.chunk_actions, (number + 1) * self.chunk_actions
        pointers = len(self.pointers)
        return [
            *(Put(table=Table.LEDGER, item=pointer.to_item()) for pointer in self.pointers[first:last]),
            *(delta.action() for delta in self.deltas[max(first - pointers, 0) : max(last - pointers, 0)]),
        ]

    def encode(self) -> bytes:
        """The object's content. Byte sums are strings: readers of other languages lose digits of large numbers."""
        document = {
            "schema": _SCHEMA,
            "commit_id": self.commit_id,
            "pointers": [[p.hour_s, p.shard, p.rows, str(p.bytes), p.staging_key] for p in self.pointers],
            "deltas": [
                [d.key.pk, d.key.sk, [[hour_s, str(total.bytes), total.records] for hour_s, total in d.hours.items()]]
                for d in self.deltas
            ],
        }
        return json.dumps(document, separators=(",", ":")).encode()

    @classmethod
    def decode(
        cls, body: bytes, key: str = "write-ahead object", *, chunk_actions: int = DYNAMODB_LIMITS.chunk
    ) -> WriteAhead:
        """Inverse of `encode`.

        Args:
            body: The object's content.
            key: Its key.
            chunk_actions: Most actions of a chunk.

        Raises:
            LedgerCorruptError: It is something else.
        """
        document = Fields.of_json(body, key)
        document.one_of("schema", (_SCHEMA,))
        commit_id = document.text("commit_id")
        return cls(
            commit_id=commit_id,
            pointers=tuple(_pointer(commit_id, row) for row in document.rows("pointers", _POINTER_COLUMNS)),
            deltas=tuple(_delta(row) for row in document.rows("deltas", ("pk", "sk", "hours"))),
            chunk_actions=chunk_actions,
        )


def _pointer(commit_id: str, row: Fields) -> Pointer:
    return Pointer(
        hour_s=row.whole("hour_s"),
        commit_id=commit_id,
        shard=row.whole("shard"),
        rows=row.whole("rows"),
        bytes=row.decimal("bytes"),
        staging_key=row.text("staging"),
    )


def _delta(row: Fields) -> UsageDelta:
    hours = row.rows("hours", ("hour_s", "bytes", "records"))
    return UsageDelta(
        key=Key(row.text("pk"), row.text("sk")),
        hours={each.whole("hour_s"): Total(each.decimal("bytes"), each.whole("records")) for each in hours},
    )

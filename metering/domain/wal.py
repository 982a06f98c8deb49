"""The write-ahead object of a wide commit: numbered chunks of complete actions.

A chunk and the step of its number on the commit item are one transaction, so a chunk has at most 99 actions. Any
process can read the object and go on, so nothing in it depends on who wrote it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from metering.domain.items import MAX_TRANSACTION_ACTIONS, Key, Put, Table, Update
from metering.domain.ledger import Pointer
from metering.errors import LedgerCorruptError

if TYPE_CHECKING:
    from collections.abc import Sequence

CHUNK_ACTIONS = MAX_TRANSACTION_ACTIONS - 1

_SCHEMA = "metering.wal/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageDelta:
    """What a commit adds to one usage item. `key` holds the suffix."""

    key: Key
    bytes: int
    records: int

    def action(self) -> Update:
        return Update(table=Table.USAGE, key=self.key, add={"bytes": self.bytes, "records": self.records, "rev": 1})


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteAhead:
    """What is left to do once a wide commit is open: pointers (if they did not fit its transaction), then usage.

    Attributes:
        pointers: Empty unless the commit has more hours than its transaction can hold.
        deltas: One a usage item, all items distinct.
    """

    commit_id: str
    pointers: tuple[Pointer, ...]
    deltas: tuple[UsageDelta, ...]

    @property
    def chunks(self) -> int:
        """Number of chunks, at least 1 for a commit that has usage."""
        return -(-(len(self.pointers) + len(self.deltas)) // CHUNK_ACTIONS)

    def chunk(self, number: int) -> list[Put | Update]:
        """Actions of chunk `number`, from 0: the same ones for every process."""
        first, last = number * CHUNK_ACTIONS, (number + 1) * CHUNK_ACTIONS
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
            "deltas": [[d.key.pk, d.key.sk, str(d.bytes), d.records] for d in self.deltas],
        }
        return json.dumps(document, separators=(",", ":")).encode()

    @classmethod
    def decode(cls, body: bytes) -> WriteAhead:
        """Inverse of `encode`.

        Raises:
            LedgerCorruptError: It is something else.
        """
        try:
            document = json.loads(body)
            if document["schema"] != _SCHEMA:
                raise LedgerCorruptError(f"write-ahead object of schema {document['schema']!r}")
            commit_id = str(document["commit_id"])
            return cls(
                commit_id=commit_id,
                pointers=_pointers(commit_id, document["pointers"]),
                deltas=tuple(
                    UsageDelta(key=Key(str(pk), str(sk)), bytes=int(size), records=int(records))
                    for pk, sk, size, records in document["deltas"]
                ),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise LedgerCorruptError(f"write-ahead object: {error}") from error


def _pointers(commit_id: str, rows: object) -> tuple[Pointer, ...]:
    return tuple(
        Pointer(
            hour_s=int(hour_s),
            commit_id=commit_id,
            shard=int(shard),
            rows=int(count),
            bytes=int(size),
            staging_key=str(staging),
        )
        for hour_s, shard, count, size, staging in cast("Sequence[tuple[int, int, int, str, str]]", rows)
    )

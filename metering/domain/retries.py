"""Retries of what was refused: their ids, their messages, and the ledger's note of them.

The id of a retry follows from what is retried, so that a second retry is a duplicate of the first:

| what is retried                        | id                                                             |
|----------------------------------------|----------------------------------------------------------------|
| a whole refused batch                  | its own                                                        |
| refused records of an accepted batch   | `retry:` + SHA-256 of batch id and positions, by line feeds    |
| a batch whose id has other content     | `retry:` + SHA-256 of batch id and content hash, by line feeds |

The note is the ledger item `B#<batch_id>` / `N#<retry id>`. Records that were retried count where they are metered, in
the retry's batch, and no more as refused ones of the first.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from metering.domain.fields import Fields
from metering.domain.items import Key
from metering.domain.ledger import marker_key
from metering.units import KIB

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from metering.domain.batches import RefusedRecord
    from metering.domain.items import Item, Value

RETRY_PREFIX = "retry:"
NOTE_PREFIX = "N#"
# A longer retry goes through an object below ingest/; SQS takes 1 MiB.
INLINE_BYTES = 900 * KIB
# Most records that a batch may have (docs/contract.md).
MAX_RECORDS = 50_000


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryNote:
    """What was retried under which id.

    Attributes:
        batch_id: The batch that was refused, in whole or in part.
        retry_id: The batch that it was sent again as.
        positions: The records of it that were, by their place; empty for all of a whole batch.
    """

    batch_id: str
    retry_id: str
    positions: tuple[int, ...] = ()
    expires_at_s: int = 0

    @property
    def key(self) -> Key:
        return Key(marker_key(self.batch_id).pk, f"{NOTE_PREFIX}{self.retry_id}")

    def to_item(self) -> dict[str, Value]:
        return {**self.key._asdict(), "positions": list(self.positions), "expires_at": self.expires_at_s}

    @classmethod
    def from_item(cls, item: Item) -> RetryNote:
        fields = Fields.of_item(item)
        made = cls(
            batch_id=fields.after("pk", "B#"),
            retry_id=fields.after("sk", NOTE_PREFIX),
            positions=fields.wholes("positions"),
            expires_at_s=fields.whole("expires_at"),
        )
        fields.check_key(made.key)
        return made


def is_retry(batch_id: str) -> bool:
    """Whether a batch is the retry of another one, under an id of its own."""
    return batch_id.startswith(RETRY_PREFIX)


def records_retry_id(batch_id: str, positions: Sequence[int]) -> str:
    """Id of the retry of some records of an accepted batch."""
    return _retry_id([batch_id, *map(str, sorted(positions))])


def content_retry_id(batch_id: str, content_hash: str) -> str:
    """Id of the retry of a whole content under another id than the one it came with."""
    return _retry_id([batch_id, content_hash])


def _retry_id(parts: Sequence[str]) -> str:
    return RETRY_PREFIX + hashlib.sha256("\n".join(parts).encode()).hexdigest()


def retriable(records: Sequence[RefusedRecord]) -> tuple[RefusedRecord, ...]:
    """Those of the records that are kept whole, in order; one that is no JSON object, or was cut, cannot be sent."""
    return tuple(sorted((r for r in records if _is_object(r.raw)), key=lambda record: record.position))


def records_message(retry_id: str, records: Sequence[RefusedRecord]) -> str:
    """The message of a retry with its records in it, as they came."""
    joined = ",".join(record.raw for record in records)
    return f'{{{_head(retry_id, len(records))},"records":[{joined}]}}'


def records_object(records: Sequence[RefusedRecord]) -> bytes:
    """The same records as an NDJSON object."""
    return "".join(f"{record.raw}\n" for record in records).encode()


def object_key(retry_id: str) -> str:
    """Where `records_object` goes."""
    return f"ingest/retry/{retry_id.removeprefix(RETRY_PREFIX)}.ndjson"


def object_message(retry_id: str, count: int, *, bucket: str) -> str:
    """The message of a retry that points to its records."""
    location = {"bucket": bucket, "key": object_key(retry_id), "format": "ndjson", "compression": "none"}
    return f'{{{_head(retry_id, count)},"location":{json.dumps(location)}}}'


def renamed(body: str, retry_id: str) -> str | None:
    """A batch message under another id, or None if its id is not in it (an announced object)."""
    try:
        message = json.loads(body)
    except ValueError:
        return None
    if not isinstance(message, dict):
        return None
    inner = message.get("data") if "specversion" in message else message
    if not isinstance(inner, dict) or "batch_id" not in inner:
        return None
    inner["batch_id"] = retry_id
    return json.dumps(message)


def reason_counts(records: Sequence[RefusedRecord]) -> Mapping[str, int]:
    """How many records have which first reason."""
    counts: dict[str, int] = {}
    for record in records:
        reason = record.reasons[0][0]
        counts[reason] = counts.get(reason, 0) + 1
    return counts


def _head(retry_id: str, count: int) -> str:
    head = {"schema": "metering.batch/1", "batch_id": retry_id, "record_count": count}
    return json.dumps(head, separators=(",", ":"))[1:-1]


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False

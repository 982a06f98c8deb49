"""What the use cases need of the world outside: each method is one call to S3, DynamoDB, SQS or SNS.

Any call may be applied although its reply is lost, and a process may die before or after any call. What an adapter
knows to be transient it raises as `UnavailableError`; every method may raise it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from metering.domain.admission import Admission
    from metering.domain.batches import BatchReading, Delivery, RecordRows
    from metering.domain.items import Action, Delete, Item, Key, Put, Table, Update


class Clock(Protocol):
    """Wall clock. Safety rests on it only where docs/protocol.md says so (marker life, 72 h before a period closes)."""

    def now_ms(self) -> int:
        """Now, in epoch milliseconds."""
        ...

    def sleep_ms(self, duration_ms: int) -> None:
        """Wait."""
        ...


class Entropy(Protocol):
    """Source of fresh names and jitter."""

    def token(self) -> str:
        """A name never used before: 32 lower-case hex digits."""
        ...

    def below(self, limit: int) -> int:
        """A uniform integer, 0 <= n < `limit`."""
        ...


class Deadline(Protocol):
    """Time that an invocation has left."""

    def remaining_ms(self) -> int:
        """Milliseconds until the process is stopped; 0 or less when it is late."""
        ...


class ItemStore(Protocol):
    """DynamoDB as the protocol uses it: strongly consistent, all or nothing in a transaction for writers only."""

    def get(self, table: Table, key: Key) -> Item | None:
        """The item as of now, or None."""
        ...

    def get_many(self, table: Table, keys: Sequence[Key]) -> dict[Key, Item]:
        """Those of the items that exist (any number of keys); each is read at a moment of its own."""
        ...

    def query(
        self, table: Table, pk: str, *, sk_from: str = "", sk_to: str = "\U0010ffff", descending: bool = False
    ) -> Iterator[Item]:
        """Items of a partition with `sk_from <= sk < sk_to` in key order. Each item is read at a moment of its own.

        The read goes on, page by page, while the caller iterates; it stops when the caller does.
        """
        ...

    def scan(self, table: Table) -> Iterator[Item]:
        """Every item, in no order. For jobs of people (verify, rebuild), never for the hot path."""
        ...

    def put(self, action: Put) -> None:
        """Write one item.

        Raises:
            ConditionFailedError: With the item found.
        """
        ...

    def update(self, action: Update) -> Item:
        """Change one item; returns it as it is afterwards (ALL_NEW).

        Raises:
            ConditionFailedError: With the item found.
        """
        ...

    def delete(self, action: Delete) -> None:
        """Delete one item.

        Raises:
            ConditionFailedError: With the item found.
        """
        ...

    def transact(self, actions: Sequence[Action]) -> None:
        """Apply 1-100 actions on distinct items, all or nothing.

        Raises:
            TransactionCanceledError: Not applied; one reason an action, with the item found (ALL_OLD).
            UnavailableError: Throttled, or the outcome is unknown: it may have been applied, or be applied later.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectInfo:
    """What a listing or a HEAD says of an object. `modified_s` is epoch seconds."""

    key: str
    size_bytes: int
    etag: str
    modified_s: int
    storage_class: str = "STANDARD"


class ObjectStore(Protocol):
    """The region's data bucket."""

    def put(self, key: str, body: bytes | Path, *, if_absent: bool) -> bool:
        """Write an object whole. Returns False if `if_absent` and there is one already (412); that is no error."""
        ...

    def get(self, key: str) -> bytes:
        """The whole object.

        Raises:
            ObjectMissingError: There is none.
        """
        ...

    def open(self, key: str, *, if_match: str | None = None) -> BinaryIO:
        """A seekable stream that reads ranges of the object on demand; close it.

        Raises:
            ObjectMissingError: There is none.
            ObjectChangedError: Its ETag is not `if_match`.
        """
        ...

    def head(self, key: str) -> ObjectInfo | None:
        """What is known of the object, or None."""
        ...

    def list(self, prefix: str, *, after: str = "") -> Iterator[ObjectInfo]:
        """Objects below `prefix` in key order, those after the key `after`."""
        ...

    def delete(self, keys: Sequence[str]) -> None:
        """Delete objects; one that is not there is no error. All of them are gone when it returns."""
        ...


class Metrics(Protocol):
    """Counters and gauges of the service. Never the source of a total (I1)."""

    def count(self, name: str, value: int = 1, **dimensions: str) -> None:
        """Add to a counter."""
        ...


class Alerts(Protocol):
    """The two topics: `page` wakes somebody, `ticket` waits for the morning."""

    def send(self, severity: str, subject: str, fields: Mapping[str, str | int]) -> None:
        """Publish one alert. `severity` is `page` or `ticket`."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class StagedBatch:
    """A batch's rows on their way into a staging object.

    Attributes:
        rebooked: Own hour -> booked hour, for records of closed months. Other hours are booked as they are.
    """

    batch_id: str
    rows: RecordRows
    rebooked: Mapping[int, int]


class RowCodec(Protocol):
    """Turns rows into staging objects. Parquet in production, plain rows in the simulation."""

    def encode(self, batches: Sequence[StagedBatch]) -> bytes:
        """One staging object: all rows with their `batch_id` and booked hour, sorted by booked hour."""
        ...


class BatchReader(Protocol):
    """Reads a delivery into the batch it holds: envelope, location, records, hash, admission and totals."""

    def read(self, delivery: Delivery, *, admission: Admission) -> BatchReading:
        """Decode one delivery.

        Never raises for what a sender could have caused: that is a `RefusedBatch`.

        Raises:
            UnavailableError: The object that it points to cannot be read now.
        """
        ...

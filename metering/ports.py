"""What the use cases need of the world outside: each method is one call to S3, DynamoDB, SQS or SNS.

Any call may be applied although its reply is lost, and a process may die before or after any call. What an adapter
knows to be transient it raises as `UnavailableError`; every method may raise it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from metering.domain.admission import Admission
    from metering.domain.batches import BatchReading, Delivery, RecordRows
    from metering.domain.items import Action, Delete, Item, Key, Put, Table, Update
    from metering.domain.lake import Group, RowQuery, Source
    from metering.domain.usage import Total


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """Time that reading one delivery may take.

    Attributes:
        until: When reading has to end.
        final: What is not read by then is refused as `too_slow`; else nothing is decided.
    """

    until: Deadline
    final: bool


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
            ItemTooLargeError: Nothing was written.
        """
        ...

    def update(self, action: Update) -> Item:
        """Change one item; returns it as it is afterwards (ALL_NEW).

        Raises:
            ConditionFailedError: With the item found.
            ItemTooLargeError: Nothing was written.
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

        After an unknown outcome the same actions may be sent again only if one of their conditions is false for ever
        once they have been applied. Then `TransactionCanceledError` is the answer to one's own success, too.

        Raises:
            ValueError: No action, more than 100, or two on one item; nothing was sent.
            TransactionCanceledError: Not applied; one reason an action, with the item found (ALL_OLD).
            ItemTooLargeError: An item, or all of them together; nothing was written.
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

    def upload(self, key: str, body: bytes) -> str:
        """Write an object whole, over what may be there; returns its ETag, without quotes."""
        ...

    def get(self, key: str) -> bytes:
        """The whole object.

        Raises:
            ObjectMissingError: There is none.
        """
        ...

    def open(self, key: str, *, if_match: str | None = None, version_id: str | None = None) -> BinaryIO:
        """A seekable stream that reads ranges of the object on demand; close it.

        Args:
            key: Of the object.
            if_match: ETag that it must have.
            version_id: Look for it in this version first, which may have been replaced since; then in the newest. A
                version is only taken with `if_match`.

        Raises:
            ObjectMissingError: There is none.
            ObjectChangedError: Its ETag is not `if_match`.
            ObjectUnreadableError: It is there, and the store will not hand it out.
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


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedMessage:
    """A message that is this receiver's until its visibility timeout ends.

    Attributes:
        delivery: What the queue handed over.
        receipt: To delete or release it with; of this receive only.
    """

    delivery: Delivery
    receipt: str


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueDepth:
    """Approximate numbers of messages: ready, received but not deleted, and not yet due."""

    visible: int
    in_flight: int
    delayed: int

    @property
    def total(self) -> int:
        return self.visible + self.in_flight + self.delayed


class Queue(Protocol):
    """One SQS standard queue: everything is delivered at least once, in any order."""

    def send_many(self, bodies: Sequence[str]) -> list[int]:
        """Send messages, any number; returns the positions of those that were not taken. They may arrive even so."""
        ...

    def receive(self, max_messages: int, *, wait_s: int = 0, visibility_s: int | None = None) -> list[ReceivedMessage]:
        """Up to `max_messages` (1-10) messages; none after `wait_s` (0-20). None of them need mean that it is empty."""
        ...

    def delete_many(self, receipts: Sequence[str]) -> list[int]:
        """Delete messages; returns the positions of those that may come back."""
        ...

    def release(self, receipts: Sequence[str]) -> None:
        """Make messages visible again at once. One that cannot be released comes back after its visibility timeout."""
        ...

    def depth(self) -> QueueDepth:
        """How many messages there are, approximately and with a delay."""
        ...

    def start_redrive(self, *, max_per_s: int = 500) -> str | None:
        """Of a dead-letter queue: let the service move all messages back to where they came from.

        Returns:
            The task's handle, or None where there is no such call (then receive, send and delete).
        """
        ...


class Metrics(Protocol):
    """Counters and gauges of the service. Never the source of a total (I1)."""

    def count(self, name: str, value: int = 1, **dimensions: str) -> None:
        """Add to a counter."""
        ...


class Gauges(Protocol):
    """Durable state as plain figures, for alarms that must not depend on what a function happened to count."""

    def publish(self, values: Mapping[str, int]) -> None:
        """Publish the current value of each name, all of one moment."""
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

    def read(self, delivery: Delivery, *, admission: Admission, allowance: Allowance) -> BatchReading:
        """Decode one delivery.

        Never raises for what a sender could have caused: that is a `RefusedBatch`.

        Raises:
            OutOfTimeError: It takes longer than it may, and the allowance is not the final one.
            UnavailableError: The object that it points to cannot be read now.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class MergedFile:
    """A lake file ready to be put. `rows` and `bytes` were counted while it was written."""

    content: bytes | Path
    rows: int
    bytes: int


class LakeWriter(Protocol):
    """Writes lake files from staging objects. Parquet in production, plain rows in the simulation."""

    def merge(self, hour_s: int, staging_keys: Sequence[str]) -> AbstractContextManager[MergedFile]:
        """One lake file: the rows booked in `hour_s` of these staging objects, sorted; memory does not grow with them.

        The content lives as long as the context.

        Raises:
            ObjectMissingError: One of them is gone.
            ObjectDamagedError: One of them cannot be decoded.
        """
        ...


class LakeReader(Protocol):
    """Reads rows of lake files and staging objects."""

    def totals(self, sources: Sequence[Source], query: RowQuery) -> dict[Group, Total]:
        """Exact totals of the sources' rows, by the columns of the query. Counted from the rows, never from the ledger.

        Raises:
            ObjectMissingError: One of them is gone.
            ObjectDamagedError: One of them cannot be decoded.
        """
        ...

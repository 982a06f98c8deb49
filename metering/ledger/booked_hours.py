"""Contents of booked hours: pending commits, pointers to rows in staging, and published files.

| item      | pk          | sk              |
|-----------|-------------|-----------------|
| pending   | `P#<shard>` | `<commit_id>`   |
| published | `H#<hour>`  | `1#<shard>#<n>` |
| pointer   | `H#<hour>`  | `2#<commit_id>` |
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Annotated

from metering.hours import hour_label
from metering.ledger import partitions
from metering.ledger.runs import run_name
from metering.stores.codec import Fields, Form, SortKey, StoredItem, Unwritten, after, item_of, number_after, struct_of
from metering.stores.writes import Item, ItemStore, Key, Table, Value, key_of
from metering.usage.totals import Total


@dataclass(frozen=True, slots=True, kw_only=True)
class RowSource:
    """Rows of one hour in one object.

    Attributes:
        staged: Whether the object is in staging; if so, only its rows booked in `hour_s` belong to the hour.
        rows, bytes: Number of rows and sum of bytes in this hour, according to the ledger.
        waiting: Whether the object's commit waits for the roll-up, so that usage does not include the commit yet.
    """

    key: str
    hour_s: int
    rows: int
    bytes: int
    staged: bool
    waiting: bool = False

    @property
    def file(self) -> LakeFile:
        return LakeFile(key=self.key, rows=self.rows, bytes=self.bytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class HourState:
    """State of a booked hour as a reader found it, with all rows accepted in that hour.

    Attributes:
        sources: Lake files first, then staging objects; each row is in exactly one file or object.
        keys: Sort keys of the published items read, and one key per commit in staging, waiting or placed. Two states
            with equal keys are equal.
    """

    hour_s: int
    sources: tuple[RowSource, ...]
    keys: frozenset[str]

    @property
    def total(self) -> Total:
        """Total of the hour according to the ledger, without opening a file."""
        return Total(sum(s.bytes for s in self.sources), sum(s.rows for s in self.sources))

    @property
    def placed(self) -> HourState:
        """The state without commits that wait for the roll-up: the rows to be compared with settled usage (P37)."""
        return replace(self, sources=tuple(source for source in self.sources if not source.waiting))

    @property
    def published(self) -> bool:
        """Whether all rows of the hour are in published files."""
        return not any(source.staged for source in self.sources)


PUBLISHED_PREFIX = "1#"
POINTER_PREFIX = "2#"
# Exclusive ends of the key ranges: `$` is the next character after `#`.
_AFTER_PUBLISHED = "1$"
_AFTER_POINTERS = "2$"


def partition_of_shard(shard: int) -> str:
    """Partition of a shard's pending commits."""
    return f"{partitions.PENDING}{shard}"


def partition_of_hour(hour_s: int) -> str:
    """Partition of an hour: its published items and its pointers."""
    return f"{partitions.HOUR}{hour_label(hour_s)}"


def pending_key(shard: int, commit_id: str) -> Key:
    """Key of the item with a pending commit's hours that no run has taken yet."""
    return Key(partition_of_shard(shard), commit_id)


def pointer_key(hour_s: int, commit_id: str) -> Key:
    """Key of an hour's pointer to a commit."""
    return Key(partition_of_hour(hour_s), f"{POINTER_PREFIX}{commit_id}")


def published_in(items: ItemStore, hour_s: int) -> Iterator[Item]:
    """The items of an hour that runs published, in key order."""
    return items.query(Table.LEDGER, partition_of_hour(hour_s), sk_from=PUBLISHED_PREFIX, sk_to=_AFTER_PUBLISHED)


def pointers_of(items: ItemStore, hour_s: int) -> Iterator[Item]:
    """The items of an hour's pointers, in key order."""
    return items.query(Table.LEDGER, partition_of_hour(hour_s), sk_from=POINTER_PREFIX, sk_to=_AFTER_POINTERS)


def pending_in(items: ItemStore, shard: int) -> Iterator[Item]:
    """The items of a shard's pending commits, by commit id."""
    return items.query(Table.LEDGER, partition_of_shard(shard))


def run_that_published(item: Item) -> str:
    """Name of the run that published an item in an hour, in the form that pointers use."""
    return key_of(item).sk.removeprefix(PUBLISHED_PREFIX)


def published_key(hour_s: int, shard: int, run: int) -> Key:
    """Key of a run's published files of an hour."""
    return Key(partition_of_hour(hour_s), f"{PUBLISHED_PREFIX}{run_name(shard, run)}")


def totals_value(totals: Mapping[int, Total]) -> dict[str, Value]:
    """Encode totals of hours as an attribute: `hour -> [records, bytes]`."""
    return {hour_label(hour_s): [total.records, total.bytes] for hour_s, total in totals.items()}


def totals_of(hours: Fields) -> dict[int, Total]:
    """Decode totals of hours; the inverse of `totals_value`."""
    totals: dict[int, Total] = {}
    for label in hours:
        total = hours.row(label, ("records", "bytes"))
        totals[hours.hour_named(label)] = Total(total.whole("bytes"), total.whole("records"))
    return totals


HourTotals = Annotated[Mapping[int, Total], Form(lambda fields, name: totals_of(fields.nested(name)), totals_value)]
StagingKey = Annotated[str, "staging"]
_Hours = Annotated[frozenset[int], Form(Fields.hour_set, lambda hours: frozenset(map(hour_label, hours)))]
_HourOfKey = Annotated[int, Form(lambda fields, _: fields.hour_named(fields.after("pk", partitions.HOUR)), None)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending(StoredItem):
    """A commit with hours that no run has taken yet. `hours` only shrinks; `totals` always has all hours."""

    shard: Annotated[int, number_after("pk", partitions.PENDING)]
    commit_id: SortKey
    hours: Annotated[_Hours, Unwritten(frozenset())]
    totals: HourTotals
    created_at_ms: int

    @property
    def key(self) -> Key:
        return pending_key(self.shard, self.commit_id)

    @classmethod
    def from_item(cls, item: Item) -> Pending:
        made = struct_of(cls, item)
        if not made.hours <= made.totals.keys():
            Fields.of_item(item).fail("totals", "totals of all hours that are left")
        return made


@dataclass(frozen=True, slots=True, kw_only=True)
class Pointer(StoredItem):
    """An hour's pointer to a commit's staging object. `run` is empty until a run marks the pointer."""

    hour_s: _HourOfKey
    commit_id: Annotated[str, after("sk", POINTER_PREFIX)]
    shard: int
    rows: int
    bytes: int
    staging_key: StagingKey
    run: Annotated[str, Unwritten("")] = ""

    @property
    def key(self) -> Key:
        return pointer_key(self.hour_s, self.commit_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class LakeFile:
    """One lake file of an hour: its key, number of rows and exact sum of bytes."""

    key: str
    rows: int
    bytes: int

    def source(self, hour_s: int) -> RowSource:
        return RowSource(key=self.key, hour_s=hour_s, rows=self.rows, bytes=self.bytes, staged=False)


def _shard_and_run(fields: Fields) -> tuple[str, str]:
    shard, _, run = fields.after("sk", PUBLISHED_PREFIX).partition("#")
    return (shard, run) if shard.isdecimal() and run.isdecimal() else fields.fail("sk", "a shard and a run")


_ShardOfKey = Annotated[int, Form(lambda fields, _: int(_shard_and_run(fields)[0]), None)]
_RunOfKey = Annotated[int, Form(lambda fields, _: int(_shard_and_run(fields)[1]), None)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Published(StoredItem):
    """The files that one run added to an hour."""

    hour_s: _HourOfKey
    shard: _ShardOfKey
    run: _RunOfKey
    files: tuple[LakeFile, ...]

    @property
    def key(self) -> Key:
        return published_key(self.hour_s, self.shard, self.run)

    @property
    def rows(self) -> int:
        return sum(file.rows for file in self.files)

    @property
    def bytes(self) -> int:
        return sum(file.bytes for file in self.files)

    @property
    def sources(self) -> tuple[RowSource, ...]:
        return tuple(file.source(self.hour_s) for file in self.files)

    def to_item(self) -> dict[str, Value]:
        return item_of(self) | {"rows": self.rows, "bytes": self.bytes}

    @classmethod
    def from_item(cls, item: Item) -> Published:
        made, fields = struct_of(cls, item), Fields.of_item(item)
        if (fields.whole("rows"), fields.whole("bytes")) != (made.rows, made.bytes):
            fields.fail("files", f"files of {fields.whole('rows')} rows and {fields.whole('bytes')} bytes together")
        return made

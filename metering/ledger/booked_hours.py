"""Contents of booked hours: pending commits, pointers to rows in staging, and published files.

| item      | pk          | sk              |
|-----------|-------------|-----------------|
| pending   | `P#<shard>` | `<commit_id>`   |
| published | `H#<hour>`  | `1#<shard>#<n>` |
| pointer   | `H#<hour>`  | `2#<commit_id>` |
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from metering.hours import hour_label
from metering.ledger import partitions
from metering.ledger.runs import run_name
from metering.stores.fields import Fields
from metering.stores.writes import Item, Key, Table, Value, key_of
from metering.usage.totals import Total

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from metering.stores.items import ItemStore


@dataclass(frozen=True, slots=True, kw_only=True)
class RowSource:
    """Rows of one hour in one object.

    Attributes:
        staged: Whether it is a staging object, of which only the rows booked in `hour_s` belong to it.
        rows, bytes: Number of rows and sum of bytes of this hour, as the ledger says.
        waiting: Whether its commit waits for the roll-up, so that no usage has it.
    """

    key: str
    hour_s: int
    rows: int
    bytes: int
    staged: bool
    waiting: bool = False

    @property
    def file(self) -> LakeFile:
        """The same as a lake file."""
        return LakeFile(key=self.key, rows=self.rows, bytes=self.bytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class HourState:
    """State of a booked hour, as a reader found it: everything that was accepted in it.

    Attributes:
        sources: Lake files first, then staging objects; each row is in exactly one of them.
        keys: Sort keys of the published items that were read, and one a commit in staging, whether it waits or is
            placed. Equal keys mean equal states.
    """

    hour_s: int
    sources: tuple[RowSource, ...]
    keys: frozenset[str]

    @property
    def total(self) -> Total:
        """Total of the hour as the ledger says, without opening a file."""
        return Total(sum(s.bytes for s in self.sources), sum(s.rows for s in self.sources))

    @property
    def placed(self) -> HourState:
        """The same without what waits for the roll-up: the rows that settled usage is compared with (P37)."""
        return replace(self, sources=tuple(source for source in self.sources if not source.waiting))

    @property
    def published(self) -> bool:
        """Whether all of its rows are in published files."""
        return not any(source.staged for source in self.sources)


PUBLISHED_PREFIX = "1#"
POINTER_PREFIX = "2#"
# Ends of those ranges: the next character after `#`.
_AFTER_PUBLISHED = "1$"
_AFTER_POINTERS = "2$"


def partition_of_shard(shard: int) -> str:
    """Partition of a shard's pending commits."""
    return f"{partitions.PENDING}{shard}"


def partition_of_hour(hour_s: int) -> str:
    """Partition of an hour: what runs published in it, and pointers."""
    return f"{partitions.HOUR}{hour_label(hour_s)}"


def pending_key(shard: int, commit_id: str) -> Key:
    """Key of a pending commit: its hours that no run has taken yet."""
    return Key(partition_of_shard(shard), commit_id)


def pointer_key(hour_s: int, commit_id: str) -> Key:
    """Key of an hour's pointer to a commit."""
    return Key(partition_of_hour(hour_s), f"{POINTER_PREFIX}{commit_id}")


def published_in(items: ItemStore, hour_s: int) -> Iterator[Item]:
    """The items that runs published in an hour, in key order."""
    return items.query(Table.LEDGER, partition_of_hour(hour_s), sk_from=PUBLISHED_PREFIX, sk_to=_AFTER_PUBLISHED)


def pointers_of(items: ItemStore, hour_s: int) -> Iterator[Item]:
    """The items of an hour's pointers, in key order."""
    return items.query(Table.LEDGER, partition_of_hour(hour_s), sk_from=POINTER_PREFIX, sk_to=_AFTER_POINTERS)


def pending_in(items: ItemStore, shard: int) -> Iterator[Item]:
    """The items of a shard's pending commits, by commit id."""
    return items.query(Table.LEDGER, partition_of_shard(shard))


def run_that_published(item: Item) -> str:
    """Name of the run that published an item in an hour, as a pointer names it."""
    return key_of(item).sk.removeprefix(PUBLISHED_PREFIX)


def published_key(hour_s: int, shard: int, run: int) -> Key:
    """Key of a run's published files of an hour."""
    return Key(partition_of_hour(hour_s), f"{PUBLISHED_PREFIX}{run_name(shard, run)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """A commit with hours that no run has taken yet. `hours` only ever shrinks; `totals` keeps all of them."""

    shard: int
    commit_id: str
    hours: frozenset[int]
    totals: Mapping[int, Total]
    created_at_ms: int

    @property
    def key(self) -> Key:
        return pending_key(self.shard, self.commit_id)

    def to_item(self) -> dict[str, Value]:
        item: dict[str, Value] = {
            **self.key._asdict(),
            "totals": totals_value(self.totals),
            "created_at_ms": self.created_at_ms,
        }
        if self.hours:
            item["hours"] = frozenset(map(hour_label, self.hours))
        return item

    @classmethod
    def from_item(cls, item: Item) -> Pending:
        fields = Fields.of_item(item)
        made = cls(
            shard=fields.number_after("pk", partitions.PENDING),
            commit_id=fields.text("sk"),
            hours=fields.hour_set("hours"),
            totals=totals_of(fields.nested("totals")),
            created_at_ms=fields.whole("created_at_ms"),
        )
        if not made.hours <= made.totals.keys():
            fields.fail("totals", "totals of all hours that are left")
        fields.check_key(made.key)
        return made


@dataclass(frozen=True, slots=True, kw_only=True)
class Pointer:
    """An hour's pointer to a commit's staging object. `run` is empty until a run marks it."""

    hour_s: int
    commit_id: str
    shard: int
    rows: int
    bytes: int
    staging_key: str
    run: str = ""

    @property
    def key(self) -> Key:
        return pointer_key(self.hour_s, self.commit_id)

    def to_item(self) -> dict[str, Value]:
        item: dict[str, Value] = {
            **self.key._asdict(),
            "shard": self.shard,
            "rows": self.rows,
            "bytes": self.bytes,
            "staging": self.staging_key,
        }
        if self.run:
            item["run"] = self.run
        return item

    @classmethod
    def from_item(cls, item: Item) -> Pointer:
        fields = Fields.of_item(item)
        made = cls(
            hour_s=_hour_after(fields),
            commit_id=fields.after("sk", POINTER_PREFIX),
            shard=fields.whole("shard"),
            rows=fields.whole("rows"),
            bytes=fields.whole("bytes"),
            staging_key=fields.text("staging"),
            run=fields.text("run", absent=""),
        )
        fields.check_key(made.key)
        return made


@dataclass(frozen=True, slots=True, kw_only=True)
class LakeFile:
    """One file of an hour: its key, number of rows and exact sum of their bytes."""

    key: str
    rows: int
    bytes: int

    def source(self, hour_s: int) -> RowSource:
        """Row source of the file."""
        return RowSource(key=self.key, hour_s=hour_s, rows=self.rows, bytes=self.bytes, staged=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """The files that one run added to an hour."""

    hour_s: int
    shard: int
    run: int
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
        """Row sources of its files."""
        return tuple(file.source(self.hour_s) for file in self.files)

    def to_item(self) -> dict[str, Value]:
        files: list[Value] = [{"key": file.key, "rows": file.rows, "bytes": file.bytes} for file in self.files]
        return {**self.key._asdict(), "files": files, "rows": self.rows, "bytes": self.bytes}

    @classmethod
    def from_item(cls, item: Item) -> Published:
        fields = Fields.of_item(item)
        shard, _, run = fields.after("sk", PUBLISHED_PREFIX).partition("#")
        if not (shard.isdecimal() and run.isdecimal()):
            fields.fail("sk", "a shard and a run")
        made = cls(
            hour_s=_hour_after(fields),
            shard=int(shard),
            run=int(run),
            files=tuple(
                LakeFile(key=file.text("key"), rows=file.whole("rows"), bytes=file.whole("bytes"))
                for file in fields.objects("files")
            ),
        )
        if (fields.whole("rows"), fields.whole("bytes")) != (made.rows, made.bytes):
            fields.fail("files", f"files of {fields.whole('rows')} rows and {fields.whole('bytes')} bytes together")
        fields.check_key(made.key)
        return made


def _hour_after(fields: Fields) -> int:
    label = fields.after("pk", partitions.HOUR)
    return fields.hour_named(label)


def totals_value(totals: Mapping[int, Total]) -> dict[str, Value]:
    """Encode totals of hours as an attribute: `hour -> [records, bytes]`."""
    return {hour_label(hour_s): [total.records, total.bytes] for hour_s, total in totals.items()}


def totals_of(hours: Fields) -> dict[int, Total]:
    """Decode the attribute; the inverse of `totals_value`."""
    totals: dict[int, Total] = {}
    for label in hours:
        total = hours.row(label, ("records", "bytes"))
        totals[hours.hour_named(label)] = Total(total.whole("bytes"), total.whole("records"))
    return totals

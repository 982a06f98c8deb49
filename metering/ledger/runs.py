"""Runs of the compactor. Each shard has one chain of them: `R#<shard>`, `<n>` in 12 digits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from metering.ledger import partitions
from metering.stores.fields import Fields
from metering.stores.writes import Key, Table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from metering.stores.items import ItemStore
    from metering.stores.writes import Item, Value


RunState = Literal["planned", "done"]
_RUN_STATES: tuple[RunState, ...] = ("planned", "done")


def partition_of_runs(shard: int) -> str:
    """Partition of a shard's chain of runs."""
    return f"{partitions.RUN}{shard}"


def run_key(shard: int, run: int) -> Key:
    """Key of a shard's run number `run`."""
    return Key(partition_of_runs(shard), f"{run:012d}")


def newest_first(items: ItemStore, shard: int) -> Iterator[Run]:
    """The runs of a shard's chain, the newest first; read page by page while the caller iterates.

    Raises:
        LedgerCorruptError: One of them cannot be read.
    """
    return map(Run.from_item, items.query(Table.LEDGER, partition_of_runs(shard), descending=True))


def run_name(shard: int, run: int) -> str:
    """Name of a run: `<shard>#<n>`. Pointers and published items name their run so."""
    return f"{shard}#{run:012d}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One compaction of a shard. Every process that works on it follows the plan object at `plan_key`."""

    shard: int
    run: int
    state: RunState
    plan_key: str
    planned_at_ms: int
    done_at_ms: int | None = None
    cleaned: bool = False

    @property
    def key(self) -> Key:
        return run_key(self.shard, self.run)

    def to_item(self) -> dict[str, Value]:
        item: dict[str, Value] = {
            **self.key._asdict(),
            "state": self.state,
            "plan": self.plan_key,
            "planned_at_ms": self.planned_at_ms,
        }
        if self.done_at_ms is not None:
            item["done_at_ms"] = self.done_at_ms
        if self.cleaned:
            item["cleaned"] = True
        return item

    @classmethod
    def from_item(cls, item: Item) -> Run:
        fields = Fields.of_item(item)
        state = fields.one_of("state", _RUN_STATES)
        made = cls(
            shard=fields.number_after("pk", partitions.RUN),
            run=fields.number_after("sk", ""),
            state=state,
            plan_key=fields.text("plan"),
            planned_at_ms=fields.whole("planned_at_ms"),
            done_at_ms=fields.whole("done_at_ms") if state == "done" else None,
            cleaned=fields.flag("cleaned", absent=False),
        )
        fields.check_key(made.key)
        return made

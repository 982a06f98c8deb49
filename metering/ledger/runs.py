"""Runs of a chain: `R#<chain>`, `<n>` in 12 digits. Each shard has two chains.

| chain      | its runs                                                    | room     |
|------------|-------------------------------------------------------------|----------|
| `U<shard>` | book usage of waiting commits, then place the commits (P23) | `rollup` |
| `L<shard>` | compact the lake (P24)                                      | `lake`   |
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from metering.ledger import partitions
from metering.stores.fields import Fields
from metering.stores.writes import Key, Table

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from metering.stores.items import ItemStore
    from metering.stores.writes import Item, Value


RunState = Literal["planned", "done"]
_RUN_STATES: tuple[RunState, ...] = ("planned", "done")


def rollup_chain(shard: int) -> str:
    """Name of the chain that rolls up the usage of a shard."""
    return f"U{shard}"


def lake_chain(shard: int) -> str:
    """Name of the chain that compacts the lake of a shard."""
    return f"L{shard}"


def partition_of_runs(chain: str) -> str:
    """Partition of a chain's runs."""
    return f"{partitions.RUN}{chain}"


def run_key(chain: str, number: int) -> Key:
    """Key of a chain's run."""
    return Key(partition_of_runs(chain), f"{number:012d}")


def newest_first(items: ItemStore, chain: str) -> Iterator[Run]:
    """The runs of a chain, the newest first; read page by page while the caller iterates.

    Raises:
        LedgerCorruptError: One of them cannot be read.
    """
    return map(Run.from_item, items.query(Table.LEDGER, partition_of_runs(chain), descending=True))


def runs_before(items: ItemStore, chain: str, number: int, *, first: int = 0) -> Iterator[Run]:
    """The runs of a chain from `first` on that come before a number, in order; read while the caller iterates.

    Raises:
        LedgerCorruptError: One of them cannot be read.
    """
    (pk, sk_to), sk_from = run_key(chain, number), run_key(chain, first).sk
    return map(Run.from_item, items.query(Table.LEDGER, pk, sk_from=sk_from, sk_to=sk_to))


def long_done(runs: Iterable[Run], *, wait_ms: int, now_ms: int) -> Iterator[Run]:
    """Runs of a chain that ended a wait ago, up to the first that did not.

    What a run needs is deleted then, so no wait is cut short. A run that ended in the future did so by a clock that is
    wrong: it is given out with the next one that is over, because it ended before that one.

    Args:
        runs: Runs of the chain without a gap, oldest first.
        wait_ms: The wait.
        now_ms: The time now, epoch milliseconds.
    """
    held: list[Run] = []
    for run in runs:
        done_at_ms = run.done_at_ms or 0
        if run.state != "done" or now_ms - wait_ms < done_at_ms <= now_ms:
            return
        held.append(run)
        if done_at_ms > now_ms:
            continue
        yield from held
        held = []


def newest_run(items: ItemStore, chain: str) -> Run | None:
    """The newest run of a chain, or None if there is none yet."""
    return next(newest_first(items, chain), None)


def newest_done(items: ItemStore, chain: str) -> int:
    """Number of the newest done run of a chain, 0 without one. All runs before it are done, too (P21)."""
    return next((run.number for run in newest_first(items, chain) if run.state == "done"), 0)


def run_name(shard: int, number: int) -> str:
    """Name of a run of the lake's chain: `<shard>#<n>`. Pointers and published items name their run so."""
    return f"{shard}#{number:012d}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run of a chain. Every process that works on it follows the plan object at `plan_key`, never its own plan.

    Attributes:
        chain: `U<shard>` or `L<shard>`.
        number: From 1; it only grows (P22).
        plan_key: Empty only for a run that `rebuild` set after a restore: it is done and has no plan (P41).
        cleaned: Of the lake's chain: its pointers and staging objects are deleted.
        expires_at_s: Of the roll-up's chain: when the item may go. The newest run of a chain has none.
    """

    chain: str
    number: int
    state: RunState
    plan_key: str
    planned_at_ms: int
    done_at_ms: int | None = None
    cleaned: bool = False
    expires_at_s: int | None = None

    @property
    def key(self) -> Key:
        return run_key(self.chain, self.number)

    @property
    def shard(self) -> int:
        """Shard of the chain."""
        return int(self.chain[1:])

    @property
    def name(self) -> str:
        """Name in messages to people, such as `U0#000000000012`."""
        return f"{self.chain}#{self.number:012d}"

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
        if self.expires_at_s is not None:
            item["expires_at"] = self.expires_at_s
        return item

    @classmethod
    def from_item(cls, item: Item) -> Run:
        fields = Fields.of_item(item)
        state = fields.one_of("state", _RUN_STATES)
        chain = fields.after("pk", partitions.RUN)
        if chain[:1] not in ("U", "L") or not chain[1:].isdecimal():
            fields.fail("pk", "a chain")
        made = cls(
            chain=chain,
            number=fields.number_after("sk", ""),
            state=state,
            plan_key=fields.any_text("plan") if state == "done" else fields.text("plan"),
            planned_at_ms=fields.whole("planned_at_ms"),
            done_at_ms=fields.whole("done_at_ms") if state == "done" else None,
            cleaned=fields.flag("cleaned", absent=False),
            expires_at_s=fields.whole("expires_at", absent=None),
        )
        fields.check_key(made.key)
        return made

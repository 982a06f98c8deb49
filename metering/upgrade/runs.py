"""Runs of format 1, `R#<shard>`, become those of the lake's chain, `R#L<shard>`, with the same numbers and plans.

First the old chain is closed by its own rule: a compactor announces run n + 1 only if there is none (P20), so an item
of that number, which format 1 cannot read, ends the chain for whoever comes late. Then all runs before it are copied:
only the last of them can still change, from `planned` to `done`, and whoever works on it does the same steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from metering.errors import ConditionFailedError, LedgerCorruptError
from metering.ledger import partitions
from metering.ledger.runs import Run, lake_chain, newest_first
from metering.ledger.shards import known_shards
from metering.stores.fields import Fields
from metering.stores.threads import do_all
from metering.stores.writes import Absent, Delete, Key, Put, Table, key_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from metering.stores.items import ItemStore
    from metering.stores.retrying import Retrier
    from metering.stores.writes import Item

MOVED = "moved"


@dataclass(frozen=True, slots=True, kw_only=True)
class OldRuns:
    """The chains of format 1.

    Attributes:
        shards: The stage's number of shards.
        threads: Calls that are made side by side.
    """

    items: ItemStore
    retrier: Retrier
    shards: int
    threads: int = 1

    def move(self) -> int:
        """Close every chain and copy its runs; returns the number of runs.

        Raises:
            LedgerCorruptError: A run cannot be read, or the new chain has another run of its number.
            UnavailableError: The ledger gives no answer; whoever comes next goes on.
        """
        moved = 0
        for shard in self._shards():
            while not self._close(shard):
                pass
            there = {run.number for run in newest_first(self.items, lake_chain(shard))}
            runs = [_run_of(shard, item) for item in self._runs(shard) if not _is_end(item)]
            do_all(self._copy, [run for run in runs if run.number not in there], threads=self.threads)
            moved += len(runs)
        return moved

    def delete(self) -> None:
        """Delete the runs that were copied. What closed a chain stays: no number of it is ever given again.

        Raises:
            UnavailableError: The ledger gives no answer; whoever comes next goes on.
        """
        for shard in self._shards():
            gone = [key_of(item) for item in self._runs(shard) if not _is_end(item)]
            do_all(self._delete, gone, threads=self.threads)

    def _shards(self) -> range:
        return self.retrier.call(lambda: known_shards(self.items, self.shards))

    def _runs(self, shard: int) -> Iterator[Item]:
        return self.items.query(Table.LEDGER, _partition(shard))

    def _close(self, shard: int) -> bool:
        """Take the number after the newest run. False if another process took it first."""
        newest = self.retrier.call(
            lambda: next(self.items.query(Table.LEDGER, _partition(shard), descending=True), None)
        )
        if newest is not None and _is_end(newest):
            return True
        number = 1 if newest is None else Fields.of_item(newest).number_after("sk", "") + 1
        end = {"pk": _partition(shard), "sk": f"{number:012d}", "state": MOVED}
        try:
            self.retrier.call(lambda: self.items.put(Put(table=Table.LEDGER, item=end, condition=Absent())))
        except ConditionFailedError as error:
            return error.existing is not None and error.existing.get("state") == MOVED
        return True

    def _delete(self, key: Key) -> None:
        self.retrier.call(lambda: self.items.delete(Delete(table=Table.LEDGER, key=key)))

    def _copy(self, run: Run) -> None:
        put = Put(table=Table.LEDGER, item=run.to_item(), condition=Absent())
        try:
            self.retrier.call(lambda: self.items.put(put))
        except ConditionFailedError as error:
            # Copied before; the new compactor may have worked on it since.
            if error.existing is None or error.existing.get("plan") != run.plan_key:
                raise LedgerCorruptError(f"run {run.name} is not the one that {_partition(run.shard)} has") from error


def _partition(shard: int) -> str:
    return f"{partitions.RUN}{shard}"


def _is_end(item: Item) -> bool:
    return item.get("state") == MOVED


def _run_of(shard: int, item: Item) -> Run:
    chain = lake_chain(shard)
    return Run.from_item({**item, **Key(f"{partitions.RUN}{chain}", str(item["sk"]))._asdict()})

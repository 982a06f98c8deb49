"""Identity of the usage table, and the progress of each roll-up chain in it (`S#generation`, P41).

| table  | pk             | sk             | attributes                        |
|--------|----------------|----------------|-----------------------------------|
| usage  | `S#generation` | `S`            | `number`, `n<shard>`              |

Usage items contain numbers of kinds and runs, which are defined only in the table's own ledger. A ledger that was
restored to an earlier time would assign these numbers again. So every run writes its number into this item before
updating usage items, and a roll-up reads the item before its chain: a chain with only lower numbers was restored.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from metering.errors import ConditionFailedError, GenerationError
from metering.ledger.runs import newest_run, rollup_chain
from metering.ledger.usage.items import newest_run_of
from metering.stores import codec
from metering.stores.writes import Absent, AnyOf, Item, ItemStore, Key, LessThan, Table, Update, Value

GENERATION_KEY = Key("S#generation", "S")
_RUN = newest_run_of(0)[:-1]
_CURE = "see docs/operator-guide.md, Restore"


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageGeneration:
    """Generation of a usage table, and its newest runs.

    Attributes:
        number: Generation of the table; None if none is stored yet.
        runs: Shard -> number of the newest run that may have written to the table.
    """

    number: int | None = None
    runs: Mapping[int, int] = field(default_factory=dict)

    def to_item(self) -> dict[str, Value]:
        item: dict[str, Value] = {**GENERATION_KEY._asdict()}
        if self.number is not None:
            item["number"] = self.number
        return item | marks_of(self.runs)

    @classmethod
    def from_item(cls, item: Item | None) -> UsageGeneration:
        """Decode the item; `item` is None if absent.

        Raises:
            LedgerCorruptError: It says no generation.
        """
        if item is None:
            return cls()
        return cls(number=codec.Fields.of_item(item).whole("number", absent=None, least=1), runs=runs_of(item))


def marks_of(runs: Mapping[int, int]) -> dict[str, Value]:
    """Attributes with the number of a run of each shard."""
    return {newest_run_of(shard): number for shard, number in runs.items()}


def runs_of(item: Item) -> dict[int, int]:
    """Number of a run of each shard; the inverse of `marks_of`.

    Raises:
        LedgerCorruptError: One of them is of another type.
    """
    fields = codec.Fields.of_item(item)
    shards = [name.removeprefix(_RUN) for name in item if name.startswith(_RUN)]
    return {int(shard): fields.whole(newest_run_of(int(shard))) for shard in shards if shard.isdecimal()}


def usage_generation(items: ItemStore) -> UsageGeneration:
    """Generation of the usage table.

    Raises:
        LedgerCorruptError: It cannot be read.
    """
    return UsageGeneration.from_item(items.get(Table.USAGE, GENERATION_KEY))


def check_generation(items: ItemStore, number: int) -> None:
    """Check that the usage table has this generation, or does not state a generation yet.

    Raises:
        GenerationError: The table states another generation: it was restored, or filled from another table.
        LedgerCorruptError: The stored value cannot be read.
    """
    found = usage_generation(items).number
    if found not in (None, number):
        raise GenerationError(f"The usage table says that it is number {found}, and it should be {number}: {_CURE}.")


def remember_generation(items: ItemStore, number: int) -> None:
    """Like `check_generation`, but also writes the generation into a table without one; for writers of the table.

    Raises:
        GenerationError: It says another one.
        LedgerCorruptError: The stored value cannot be read.
        UnavailableError: The table did not answer; the next process repeats the call.
    """
    if usage_generation(items).number == number:
        return
    said = Update(table=Table.USAGE, key=GENERATION_KEY, set={"number": number}, condition=Absent(attribute="number"))
    try:
        items.update(said)
    except ConditionFailedError:
        check_generation(items, number)


def check_chains(items: ItemStore, shards: Iterable[int]) -> None:
    """Check that no roll-up chain is behind its mark in the usage table.

    The mark is read before the chain. A run is added to its chain before it writes its mark, so without a restore no
    chain is behind its mark.

    Raises:
        GenerationError: A chain is behind: the ledger was restored to an earlier time, and the usage table was not.
        LedgerCorruptError: A chain or the mark cannot be read.
    """
    marked = usage_generation(items).runs
    for shard in shards:
        newest = newest_run(items, rollup_chain(shard))
        if marked.get(shard, 0) > (0 if newest is None else newest.number):
            raise GenerationError(
                f"The usage table has run {marked[shard]} of chain {rollup_chain(shard)}, and the ledger does not know "
                f"it: the ledger was restored to an earlier time, {_CURE}."
            )


def mark_run(items: ItemStore, shard: int, number: int) -> None:
    """Write a run's number into the usage table. Call this function before the run's first update of a usage item.

    Raises:
        UnavailableError: It is unknown whether the number was written; repeat the call before continuing (P3).
    """
    name = newest_run_of(shard)
    condition = AnyOf((Absent(attribute=name), LessThan(attribute=name, value=number)))
    try:
        items.update(Update(table=Table.USAGE, key=GENERATION_KEY, set={name: number}, condition=condition))
    except ConditionFailedError:
        # This run or a later run has set the generation's mark.
        return

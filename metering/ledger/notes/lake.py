"""Notes of the lake's jobs: results of the compactor and the cleaners, and progress of the search for orphans."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from metering.ledger.partitions import NOTE
from metering.stores.codec import Form, SortKey, StoredItem
from metering.stores.writes import ItemStore, Key, Put, Table

CLEANING_PK = f"{NOTE}cleaning"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cleaning(StoredItem):
    """Backlog of the cleaner of one chain.

    Attributes:
        looked_s: When the cleaner ended, epoch seconds.
        due_ms: Time since which the oldest remaining run was due for cleaning; None if no due run remained.
    """

    chain: SortKey
    looked_s: int
    due_ms: int | None = None

    @property
    def key(self) -> Key:
        return Key(CLEANING_PK, self.chain)

    def keep(self, items: ItemStore) -> None:
        """Store the note. Two cleaners of one chain may overwrite it, because both results are current."""
        items.put(Put(table=Table.LEDGER, item=self.to_item()))


def cleanings(items: ItemStore) -> dict[str, Cleaning]:
    """The notes of all chains."""
    found = map(Cleaning.from_item, items.query(Table.LEDGER, CLEANING_PK))
    return {cleaning.chain: cleaning for cleaning in found}


# What the compactor last found pending, as a note for the watch: `W#lake`, `<shard>`.
#
# The compactor lists pending rows anyway. The watch runs once a minute, and reads this note instead of the list.


LAKE_FIGURES_PK = f"{NOTE}lake"


@dataclass(frozen=True, slots=True, kw_only=True)
class LakeFigures(StoredItem):
    """Pending commits of one shard.

    Attributes:
        commits: Number of commits with hours that no run has taken.
        hours: Those hours, each once.
        oldest_ms: When the oldest of these commits was made; None without commits.
    """

    shard: Annotated[int, Form(lambda fields, _: fields.number_after("sk", ""), None)]
    listed_s: int
    commits: int = 0
    hours: int = 0
    oldest_ms: int | None = None

    @property
    def key(self) -> Key:
        return Key(LAKE_FIGURES_PK, str(self.shard))

    def keep(self, items: ItemStore) -> None:
        """Store the note. Two compactors of one shard may overwrite it, because both results are current."""
        items.put(Put(table=Table.LEDGER, item=self.to_item()))


def lake_figures(items: ItemStore) -> dict[int, LakeFigures]:
    """The notes of all shards."""
    found = map(LakeFigures.from_item, items.query(Table.LEDGER, LAKE_FIGURES_PK))
    return {figures.shard: figures for figures in found}


ORPHANS_KEY = Key(f"{NOTE}orphans", "W")


@dataclass(frozen=True, slots=True, kw_only=True)
class OrphanPasses(StoredItem):
    """Progress of the passes over staging and quarantine.

    Attributes:
        seen_to_s: Objects written up to this time were checked once, epoch seconds. The next whole pass finds objects
            that appear later with an earlier time.
        whole_s: Start of the last whole pass that finished.
        began_s: Start of the unfinished whole pass; 0 if there is none.
        after: The last key that this pass checked.
    """

    key: ClassVar[Key] = ORPHANS_KEY
    seen_to_s: int = 0
    whole_s: int = 0
    began_s: int = 0
    after: str = ""

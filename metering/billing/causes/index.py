"""The index of a region's days of causes: the pieces of each day, the names of each day, and the counted runs.

As with the day sums, each change puts the next version, and only one of two concurrent processes succeeds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from metering.billing.day_sums.index import Day, newest_version
from metering.hours import date_of
from metering.stores.codec import AnyText, StoredDocument
from metering.stores.objects import CAUSE_INDEX_PREFIX, ObjectStore, cause_index_key, cause_pin_key
from metering.units import HOUR_S

if TYPE_CHECKING:
    from metering.ledger.format_version import Generations

# Number of remembered losses: of log files whose causes differ from the lake, and of pieces that were lost.
_MOST_LOST = 20


class Reused(NamedTuple):
    """Causes and destinations whose names are taken back, as `<name>@<hour in epoch seconds>`."""

    causes: frozenset[str] = frozenset()
    destinations: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.causes or self.destinations)

    def plus(self, other: Reused) -> Reused:
        return Reused(self.causes | other.causes, self.destinations | other.destinations)


class Piece(NamedTuple):
    """Part of a day: the rows of all resources from `first` to `last`."""

    key: str
    first: AnyText
    last: AnyText
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CauseIndex(StoredDocument):
    """One version of the index.

    Attributes:
        number: Version number from 1 on; 0 if no index was ever put.
        from_s: Days before this time have no rows, because their runs were not read.
        runs: Shard -> number of the last counted run.
        counted_s: Time up to which all published files are counted, epoch seconds.
        named_s: Hour of the newest context in the names.
        days: First hour of a day -> its pieces, in the order of their resources.
        names: First hour of a day -> key of its names.
        lost: The last log files whose causes were not those of the lake, and the last pieces that were lost.
        pinned: Closed months whose days are pinned.
        replaced: Keys that this version no longer names; the process that puts the next version deletes these objects.
        generation: Usage generation of the ledger that the rows were counted from.
        ledger_generation: Generation of that ledger itself.
    """

    SCHEMA: ClassVar[str] = "metering.cause-index/1"
    number: int = 0
    from_s: int = 0
    runs: Mapping[int, int] = field(default_factory=dict)
    counted_s: int = 0
    named_s: int = 0
    days: Mapping[Day, tuple[Piece, ...]] = field(default_factory=dict)
    names: Mapping[Day, str] = field(default_factory=dict)
    lost: tuple[str, ...] = ()
    pinned: tuple[str, ...] = ()
    replaced: tuple[str, ...] = ()
    generation: int = 0
    ledger_generation: int = 1

    def is_of(self, found: Generations) -> bool:
        """Whether the rows were counted from the ledger of these generations, and not from one before a restore."""
        return (self.generation, self.ledger_generation) == (found.usage, found.ledger)

    @property
    def captured_s(self) -> int:
        """Time up to which names are final: captures of later hours take back names of later hours."""
        return max(self.named_s - HOUR_S, 0)

    def following(
        self, days: Mapping[int, tuple[Piece, ...]], names: Mapping[int, str], lost: tuple[str, ...] = ()
    ) -> CauseIndex:
        """The next version, with changed days and names."""
        changed, named = {**self.days, **days}, {**self.names, **names}
        own = (cause_index_key(self.number),) if self.number else ()
        kept = _keys(changed, named)
        return replace(
            self,
            number=self.number + 1,
            days=changed,
            names=named,
            lost=(*self.lost, *lost)[-_MOST_LOST:],
            replaced=(*own, *sorted(_keys(*self._unpinned()) - kept)),
        )

    def _unpinned(self) -> tuple[dict[int, tuple[Piece, ...]], dict[int, str]]:
        """Days and names that no closed month pins, so that their objects may be deleted."""
        free = {day_s for day_s in {*self.days, *self.names} if date_of(day_s)[:7] not in self.pinned}
        return {each: self.days[each] for each in free & self.days.keys()}, {
            each: self.names[each] for each in free & self.names.keys()
        }


def _keys(days: Mapping[int, tuple[Piece, ...]], names: Mapping[int, str]) -> set[str]:
    return {*(piece.key for pieces in days.values() for piece in pieces), *names.values()}


@dataclass(frozen=True, slots=True, kw_only=True)
class CauseIndexes:
    """The versions of the index in a region's bucket."""

    objects: ObjectStore

    def newest(self) -> CauseIndex:
        """The current index; if no index exists, an empty index with number 0.

        Raises:
            LedgerCorruptError: It is something else.
            ObjectMissingError: The index was replaced during the call; call again.
        """
        key = newest_version(self.objects, CAUSE_INDEX_PREFIX)
        return CauseIndex() if key is None else CauseIndex.from_json(self.objects.get(key), key)

    def put(self, index: CauseIndex) -> bool:
        """Put a version; False if another process put it first."""
        return self.objects.put(cause_index_key(index.number), index.to_json(), if_absent=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class CausePin(StoredDocument):
    """Days of a closed month in a region: the objects that answers about this month read for good.

    Attributes:
        owners: Version of the book of owners in the home region; 0 in other regions, and without a book.
    """

    SCHEMA: ClassVar[str] = "metering.cause-pin/1"
    month: str
    days: Mapping[Day, tuple[Piece, ...]]
    names: Mapping[Day, str]
    owners: int = 0

    @property
    def key(self) -> str:
        return cause_pin_key(self.month)

"""Scans of both tables, and usage of one hour. The reconciler and repairs use them, never the hot path.

Each item is read at a moment of its own. The caller must make sure that the figures are comparable.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

from metering.audit.reconcile.settling import HourUsage, read_accounts
from metering.audit.sequences import SOURCES_KEPT, SourceSightings
from metering.audit.source_keeping import SourceMemory
from metering.errors import EarlyEndError, LedgerCorruptError
from metering.ledger.contradictions import Contradictions
from metering.ledger.markers import Marker, is_marker
from metering.ledger.notes.sources import SOURCE_PK, SOURCES_KEY, SourceFigures, source_id_of
from metering.stores.writes import Table
from metering.units import DAY_S, HOUR_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from metering.audit.sequences import SeenSequences
    from metering.ledger.usage.reading import UsageReading
    from metering.stores.items import ItemStore
    from metering.stores.writes import Item
    from metering.usage.totals import Total

T = TypeVar("T")

# Items between two calls of the limit.
_LIMIT_EVERY = 1_000


class ScanTooLongError(EarlyEndError):
    """A table is too large for a scan in the remaining time."""


def no_limit() -> None:
    """Set no limit to a scan."""


def survey_accounts(
    reading: UsageReading,
    *,
    from_s: int,
    to_s: int,
    wanted: Callable[[int, str], bool] = lambda _hour_s, _account_id: True,
    limit: Callable[[], None] = no_limit,
) -> dict[int, set[str]]:
    """Accounts with usage items, by hour, for hours in `[from_s, to_s)`; only those that are wanted."""
    hours: dict[int, set[str]] = {}
    for item in limited(reading.scan(), limit):
        if from_s <= item.hour_s < to_s and wanted(item.hour_s, item.account_id):
            hours.setdefault(item.hour_s, set()).add(item.account_id)
    return hours


def survey_hour(reading: UsageReading, hour_s: int, accounts: Iterable[str]) -> HourUsage:
    """Usage items of some accounts in one hour, without a scan."""
    return read_accounts(reading, accounts, from_s=hour_s, to_s=hour_s + HOUR_S).get(hour_s, HourUsage())


def limited(found: Iterable[T], limit: Callable[[], None]) -> Iterator[T]:
    """The same things; the limit is asked now and then."""
    for number, item in enumerate(found):
        if number % _LIMIT_EVERY == 0:
            limit()
        yield item


@dataclass(slots=True)
class MarkerSurvey:
    """Sources of all markers, and markers that cannot be read.

    Attributes:
        contradictions: Markers that cannot be read. They are in no total, so their hours differ.
        sources: At most `SOURCES_KEPT` sources; known ones come first.
        unkept: Number of batches of further sources.
        unkept_source: Name of one of those sources.
    """

    sources: dict[str, SourceSightings] = field(default_factory=dict)
    contradictions: Contradictions = field(default_factory=Contradictions)
    unkept: int = 0
    unkept_source: str = ""

    def add(self, marker: Marker) -> None:
        """Count one marker."""
        if marker.source_id and marker.sequence is not None:
            sightings = self._of(marker.source_id, 1)
            if sightings is not None:
                sightings.add(marker.sequence, marker.decided_at_ms)

    def merge(self, other: MarkerSurvey) -> None:
        """Add all that the survey of other markers found."""
        for source_id, seen in other.sources.items():
            sightings = self._of(source_id, len(seen))
            if sightings is not None:
                sightings.merge(seen)
        self.contradictions.merge(other.contradictions)
        self.unkept += other.unkept
        self.unkept_source = self.unkept_source or other.unkept_source

    def _of(self, source_id: str, batches: int) -> SourceSightings | None:
        sightings = self.sources.get(source_id)
        if sightings is None:
            if len(self.sources) >= SOURCES_KEPT:
                self.unkept += batches
                self.unkept_source = source_id
                return None
            sightings = self.sources[source_id] = SourceSightings()
        return sightings


def sources_known(items: ItemStore) -> dict[str, SourceSightings]:
    """Sightings of the sources that earlier scans saw, empty: they leave out what those scans saw."""
    item = items.get(Table.LEDGER, SOURCES_KEY)
    figures = SourceFigures() if item is None else SourceFigures.from_item(item)
    since_ms = figures.scanned_ms - DAY_S * 1_000
    return {
        source_id_of(source): SourceSightings(_seen_of(source), since_ms)
        for source in islice(items.query(Table.LEDGER, SOURCE_PK), SOURCES_KEPT)
    }


def _seen_of(item: Item) -> SeenSequences | None:
    """What earlier scans saw; None if it cannot be read: then all numbers are kept, and its keeper tells of it."""
    try:
        return SourceMemory.from_item(item).seen
    except LedgerCorruptError:
        return None


def markers_by_batch(
    items: ItemStore,
    wanted: Callable[[int, str], bool],
    *,
    most: int,
    limit: Callable[[], None] = no_limit,
) -> dict[int, dict[str, Total]] | None:
    """Scan the markers of some hours and batches: totals by hour and batch; None if there are more than `most`."""
    found: dict[int, dict[str, Total]] = {}
    number = 0
    for item in limited(items.scan(Table.LEDGER), limit):
        if not is_marker(item):
            continue
        with Contradictions().noted():
            marker = Marker.from_item(item)
            for hour_s, total in marker.hours.items():
                if wanted(hour_s, marker.batch_id):
                    found.setdefault(hour_s, {})[marker.batch_id] = total
                    number += 1
        if number > most:
            return None
    return found

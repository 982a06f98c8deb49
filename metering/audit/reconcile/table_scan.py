"""Scans of both tables, and usage of one hour. The reconciler and repairs use them, never the hot path.

Each item is read at a moment of its own. The caller must make sure that the figures are comparable.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

from metering.audit.reconcile.settling import HourUsage, read_accounts
from metering.audit.sequences import SOURCES_KEPT, SourceSightings
from metering.errors import EarlyEndError
from metering.ledger.contradictions import Contradictions
from metering.ledger.markers import Marker, is_marker
from metering.ledger.notes.sources import SOURCE_PK, source_id_of
from metering.stores.writes import Table
from metering.units import HOUR_S
from metering.usage.totals import ZERO

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from metering.ledger.usage.reading import UsageReading
    from metering.stores.items import ItemStore
    from metering.usage.totals import Total

T = TypeVar("T")

# Items between two calls of the limit.
_LIMIT_EVERY = 1_000


class ScanTooLongError(EarlyEndError):
    """A table is too large for a scan in the remaining time."""


def no_limit() -> None:
    """Set no limit to a scan."""


def survey_usage(
    reading: UsageReading, *, from_s: int, to_s: int, limit: Callable[[], None] = no_limit
) -> dict[int, HourUsage]:
    """Usage by hour, for hours in `[from_s, to_s)`. `limit` may raise ScanTooLongError during the scan."""
    hours: dict[int, HourUsage] = {}
    for item in _limited(reading.scan(), limit):
        if from_s <= item.hour_s < to_s:
            hours.setdefault(item.hour_s, HourUsage()).add(item, reading.totals(item))
    return hours


def survey_accounts(reading: UsageReading, *, from_s: int, to_s: int) -> dict[int, set[str]]:
    """Accounts with usage items, by hour, for hours in `[from_s, to_s)`."""
    hours: dict[int, set[str]] = {}
    for item in reading.scan():
        if from_s <= item.hour_s < to_s:
            hours.setdefault(item.hour_s, set()).add(item.account_id)
    return hours


def survey_hour(reading: UsageReading, hour_s: int, accounts: Iterable[str]) -> HourUsage:
    """Usage items of some accounts in one hour, without a scan."""
    return read_accounts(reading, accounts, from_s=hour_s, to_s=hour_s + HOUR_S).get(hour_s, HourUsage())


def _limited(found: Iterable[T], limit: Callable[[], None]) -> Iterator[T]:
    for number, item in enumerate(found):
        if number % _LIMIT_EVERY == 0:
            limit()
        yield item


@dataclass(slots=True)
class MarkerSurvey:
    """Accepted markers summed by booked hour, and the sources of all markers.

    Attributes:
        batches: Totals by batch, for the hours that were asked for.
        contradictions: Markers that cannot be read. They are in no total, so their hours differ.
        sources: At most `SOURCES_KEPT` sources; known ones come first.
        unkept: Number of batches of further sources.
        unkept_source: Name of one of those sources.
    """

    hours: dict[int, Total] = field(default_factory=dict)
    batches: dict[int, dict[str, Total]] = field(default_factory=dict)
    sources: dict[str, SourceSightings] = field(default_factory=dict)
    contradictions: Contradictions = field(default_factory=Contradictions)
    unkept: int = 0
    unkept_source: str = ""

    def add(self, marker: Marker, detailed: Callable[[int], bool]) -> None:
        """Count one marker."""
        if marker.source_id and marker.sequence is not None:
            self._see(marker.source_id, marker.sequence, marker.decided_at_ms)
        for hour_s, total in marker.hours.items():
            self.hours[hour_s] = self.hours.get(hour_s, ZERO).plus(total)
            if detailed(hour_s):
                self.batches.setdefault(hour_s, {})[marker.batch_id] = total

    def _see(self, source_id: str, sequence: int, decided_at_ms: int) -> None:
        sightings = self.sources.get(source_id)
        if sightings is None:
            if len(self.sources) >= SOURCES_KEPT:
                self.unkept += 1
                self.unkept_source = source_id
                return
            sightings = self.sources[source_id] = SourceSightings()
        sightings.add(sequence, decided_at_ms)


def no_hour(_hour_s: int) -> bool:
    """Of no hour."""
    return False


def survey_markers(
    items: ItemStore, *, detailed: Callable[[int], bool] = no_hour, limit: Callable[[], None] = no_limit
) -> MarkerSurvey:
    """Scan all markers of the ledger. Totals by batch take much memory, so only `detailed` hours get them."""
    known = map(source_id_of, items.query(Table.LEDGER, SOURCE_PK))
    survey = MarkerSurvey(sources={source_id: SourceSightings() for source_id in islice(known, SOURCES_KEPT)})
    for item in _limited(items.scan(Table.LEDGER), limit):
        if is_marker(item):
            with survey.contradictions.noted():
                survey.add(Marker.from_item(item), detailed)
    return survey

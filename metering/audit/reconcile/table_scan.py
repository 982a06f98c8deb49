"""Scans of both tables, and usage of one hour. The reconciler and repairs use them, never the hot path.

Each item is read at a moment of its own. The caller must make sure that the figures are comparable.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING

from metering.audit.sequences import SOURCES_KEPT, SourceSightings
from metering.errors import EarlyEndError
from metering.hours import date_of, month_of
from metering.ledger.contradictions import Contradictions
from metering.ledger.markers import Marker, is_marker
from metering.ledger.notes.sources import SOURCE_PK, source_id_of
from metering.ledger.usage_items import usage_entries, usage_partition
from metering.stores.writes import Table
from metering.units import DAY_S
from metering.usage.totals import ZERO, Total, UsageKey, sum_totals

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from metering.ledger.usage_items import UsageEntry
    from metering.stores.items import ItemStore
    from metering.stores.writes import Item


# Items between two calls of the limit.
_LIMIT_EVERY = 1_000


@dataclass(slots=True)
class HourUsage:
    """Usage items of one booked hour.

    Attributes:
        totals: Summed over suffixes.
        revs: Revision of the hour in each item, by key and suffix. Equal revisions mean equal figures.
    """

    totals: dict[UsageKey, Total] = field(default_factory=dict)
    revs: dict[tuple[UsageKey, int], int] = field(default_factory=dict)

    @property
    def total(self) -> Total:
        return sum_totals(self.totals.values())

    def add(self, entry: UsageEntry) -> None:
        """Add one item's entry for the hour."""
        self.totals[entry.key] = self.totals.get(entry.key, ZERO).plus(entry.total)
        if entry.rev is not None:
            self.revs[entry.key, entry.suffix] = entry.rev


class ScanTooLongError(EarlyEndError):
    """A table is too large for a scan in the remaining time."""


def no_limit() -> None:
    """Set no limit to a scan."""


def survey_usage(
    items: ItemStore, *, from_s: int, to_s: int, limit: Callable[[], None] = no_limit
) -> dict[int, HourUsage]:
    """Usage items by hour, for hours in `[from_s, to_s)`. `limit` may raise ScanTooLongError during the scan."""
    hours: dict[int, HourUsage] = {}
    for item in _limited(items.scan(Table.USAGE), limit):
        for entry in usage_entries(item):
            if from_s <= entry.key.hour_s < to_s:
                hours.setdefault(entry.key.hour_s, HourUsage()).add(entry)
    return hours


def survey_accounts(items: ItemStore, *, from_s: int, to_s: int) -> dict[int, set[str]]:
    """Accounts with usage items, by hour, for hours in `[from_s, to_s)`."""
    hours: dict[int, set[str]] = {}
    for item in items.scan(Table.USAGE):
        for entry in usage_entries(item):
            if from_s <= entry.key.hour_s < to_s:
                hours.setdefault(entry.key.hour_s, set()).add(entry.key.account_id)
    return hours


def survey_hour(items: ItemStore, hour_s: int, accounts: Iterable[str]) -> HourUsage:
    """Usage items of some accounts in one hour, without a scan."""
    usage = HourUsage()
    for account_id in sorted(accounts):
        pk = usage_partition(account_id, month_of(hour_s))
        for item in items.query(Table.USAGE, pk, sk_from=date_of(hour_s), sk_to=date_of(hour_s + DAY_S)):
            for entry in usage_entries(item, hour_s=hour_s):
                usage.add(entry)
    return usage


def _limited(found: Iterable[Item], limit: Callable[[], None]) -> Iterator[Item]:
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

    def add(self, marker: Marker, detailed: frozenset[int]) -> None:
        """Count one marker."""
        if marker.source_id and marker.sequence is not None:
            self._see(marker.source_id, marker.sequence, marker.decided_at_ms)
        for hour_s, total in marker.hours.items():
            self.hours[hour_s] = self.hours.get(hour_s, ZERO).plus(total)
            if hour_s in detailed:
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


def survey_markers(
    items: ItemStore, *, detailed: frozenset[int] = frozenset(), limit: Callable[[], None] = no_limit
) -> MarkerSurvey:
    """Scan all markers of the ledger. Totals by batch take much memory, so only `detailed` hours get them."""
    known = map(source_id_of, items.query(Table.LEDGER, SOURCE_PK))
    survey = MarkerSurvey(sources={source_id: SourceSightings() for source_id in islice(known, SOURCES_KEPT)})
    for item in _limited(items.scan(Table.LEDGER), limit):
        if is_marker(item):
            with survey.contradictions.noted():
                survey.add(Marker.from_item(item), detailed)
    return survey

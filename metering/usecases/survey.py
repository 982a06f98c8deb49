"""Both tables read whole, or usage of one hour. For the reconciler and for repairs, never for the hot path.

Each item is read at a moment of its own; what makes the figures comparable is up to the caller.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from metering.domain.hours import hour_label, month_of
from metering.domain.items import Key, Table
from metering.domain.lake import sum_totals
from metering.domain.ledger import Marker, parse_usage_key, usage_total
from metering.domain.sources import SourceSightings
from metering.domain.usage import ZERO, Total, UsageKey
from metering.units import HOUR_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from metering.domain.items import Item
    from metering.ports import ItemStore


# Items between two looks at the clock.
_LIMIT_EVERY = 1_000


@dataclass(slots=True)
class HourUsage:
    """Usage items of one booked hour.

    Attributes:
        totals: Summed over suffixes.
        revs: `rev` of each item, by key and suffix: equal revs, equal items.
    """

    totals: dict[UsageKey, Total] = field(default_factory=dict)
    revs: dict[tuple[UsageKey, int], int] = field(default_factory=dict)

    @property
    def total(self) -> Total:
        return sum_totals(self.totals.values())

    def add(self, key: UsageKey, suffix: int, item: Item) -> None:
        """Count one item."""
        self.totals[key] = self.totals.get(key, ZERO).plus(usage_total(item))
        rev = item.get("rev", 0)
        self.revs[key, suffix] = rev if isinstance(rev, int) else 0


class ScanTooLongError(Exception):
    """A table is too large to be read whole in the time that there is."""


def no_limit() -> None:
    """A scan takes as long as it takes."""


def survey_usage(
    items: ItemStore, *, from_s: int, to_s: int, limit: Callable[[], None] = no_limit
) -> dict[int, HourUsage]:
    """Usage items of the hours in `[from_s, to_s)` that have any. `limit` may raise ScanTooLongError on the way."""
    hours: dict[int, HourUsage] = {}
    for item in _limited(items.scan(Table.USAGE), limit):
        key, suffix = _usage_key_of(item)
        if from_s <= key.hour_s < to_s:
            hours.setdefault(key.hour_s, HourUsage()).add(key, suffix, item)
    return hours


def survey_accounts(items: ItemStore, *, from_s: int, to_s: int) -> dict[int, set[str]]:
    """Accounts that have usage items, of each hour in `[from_s, to_s)` that has any."""
    hours: dict[int, set[str]] = {}
    for item in items.scan(Table.USAGE):
        key, _ = _usage_key_of(item)
        if from_s <= key.hour_s < to_s:
            hours.setdefault(key.hour_s, set()).add(key.account_id)
    return hours


def survey_hour(items: ItemStore, hour_s: int, accounts: Iterable[str]) -> HourUsage:
    """Usage items of one hour and some accounts, without a scan."""
    usage = HourUsage()
    for account_id in sorted(accounts):
        pk = f"A#{account_id}#{month_of(hour_s)}"
        for item in items.query(Table.USAGE, pk, sk_from=hour_label(hour_s), sk_to=hour_label(hour_s + HOUR_S)):
            usage.add(*_usage_key_of(item), item)
    return usage


def _limited(found: Iterable[Item], limit: Callable[[], None]) -> Iterator[Item]:
    for number, item in enumerate(found):
        if number % _LIMIT_EVERY == 0:
            limit()
        yield item


def _usage_key_of(item: Item) -> tuple[UsageKey, int]:
    return parse_usage_key(Key(str(item["pk"]), str(item["sk"])))


@dataclass(slots=True)
class MarkerSurvey:
    """Accepted markers summed by booked hour, and the numbered producers of all markers.

    Attributes:
        batches: Total of each batch, for the hours that were asked for.
    """

    hours: dict[int, Total] = field(default_factory=dict)
    batches: dict[int, dict[str, Total]] = field(default_factory=dict)
    sources: dict[str, SourceSightings] = field(default_factory=dict)

    def add(self, marker: Marker, detailed: frozenset[int]) -> None:
        """Count one marker."""
        if marker.source_id and marker.sequence is not None:
            sightings = self.sources.setdefault(marker.source_id, SourceSightings())
            sightings.add(marker.sequence, marker.decided_at_ms)
        for hour_s, total in marker.hours.items():
            self.hours[hour_s] = self.hours.get(hour_s, ZERO).plus(total)
            if hour_s in detailed:
                self.batches.setdefault(hour_s, {})[marker.batch_id] = total


def survey_markers(
    items: ItemStore, *, detailed: frozenset[int] = frozenset(), limit: Callable[[], None] = no_limit
) -> MarkerSurvey:
    """All markers of the ledger; totals by batch for the hours `detailed` only, because they fill memory."""
    survey = MarkerSurvey()
    for item in _limited(items.scan(Table.LEDGER), limit):
        if item["sk"] == "M" and str(item["pk"]).startswith("B#"):
            survey.add(Marker.from_item(item), detailed)
    return survey

"""One pass of the reconciler over many hours: its scope, and the figures that it read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from metering.audit.reconcile.hour_check import HourReading, PlacedRows
from metering.audit.reconcile.settling import HourUsage
from metering.audit.reconcile.table_scan import no_limit
from metering.usage.totals import ZERO

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from metering.audit.reconcile.hour_check import MarkedRows
    from metering.audit.reconcile.table_scan import MarkerSurvey


@dataclass(frozen=True, slots=True, kw_only=True)
class PassScope:
    """Hours that a pass compares.

    Attributes:
        from_s, to_s: The hours in `[from_s, to_s)`.
        deep: Whether rows are counted, or their totals taken from the ledger.
        limit: Called during scans; it may raise ScanTooLongError.
    """

    from_s: int
    to_s: int
    deep: bool
    limit: Callable[[], None] = no_limit

    def details(self, hour_s: int) -> bool:
        """Whether the markers of an hour are kept by batch."""
        return self.deep and self.from_s <= hour_s < self.to_s


@dataclass(frozen=True, slots=True, kw_only=True)
class PassReading:
    """Figures that one pass read, in the order of the protocol: markers, newest done runs, rows, usage (P37).

    Attributes:
        deep: Whether rows were counted.
        markers: All markers of the ledger.
        done: Newest done run of each shard's roll-up.
        placed: Rows of each hour that the roll-up has placed.
        marked: Markers and rows of all commits of each hour; none where markers may have expired.
        usage: Usage items of each hour.
    """

    deep: bool
    markers: MarkerSurvey
    done: Mapping[int, int]
    placed: Mapping[int, PlacedRows]
    marked: Mapping[int, MarkedRows]
    usage: Mapping[int, HourUsage]

    def hours(self) -> list[int]:
        """Every hour that rows, usage or markers know, in order."""
        return sorted({*self.placed, *self.usage, *self.marked})

    def hour(self, hour_s: int) -> HourReading:
        """Figures of one hour.

        An hour that only usage knows has no rows: it was not listed, and what is settled was placed before the listing.
        """
        nothing = PlacedRows(booked=ZERO, by_key={} if self.deep else None)
        return HourReading(
            hour_s=hour_s,
            done=self.done,
            placed=self.placed.get(hour_s, nothing),
            usage=self.usage.get(hour_s, HourUsage()),
            markers=self.marked.get(hour_s),
        )

"""One pass of the reconciler over many hours: its scope, and the figures that it read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from metering.audit.reconcile.hour_check import HourReading
from metering.audit.reconcile.table_scan import HourUsage, no_limit
from metering.usage.totals import ZERO

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from metering.audit.reconcile.table_scan import MarkerSurvey
    from metering.ledger.row_sources import HourState
    from metering.usage.totals import Total, UsageKey


@dataclass(frozen=True, slots=True, kw_only=True)
class PassScope:
    """Hours that a pass compares.

    Attributes:
        hours: Hours to compare, in order.
        from_s, to_s: Usage is read for the hours in `[from_s, to_s)`.
        deep: Whether rows are counted, or their totals taken from the ledger.
        only_hours: Whether hours are left out that only usage or markers know.
        limit: Called during scans; it may raise ScanTooLongError.
    """

    hours: Sequence[int]
    from_s: int
    to_s: int
    deep: bool
    only_hours: bool = False
    limit: Callable[[], None] = no_limit

    @classmethod
    def of_doubtful(cls, hours: Sequence[int]) -> PassScope:
        """Scope of a further pass over hours that did not agree."""
        return cls(hours=hours, from_s=min(hours), to_s=max(hours) + 1, deep=True, only_hours=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class SourcesAndUsage:
    """Row sources and usage items by hour; the sources were read first."""

    sources: Mapping[int, HourState]
    usage: Mapping[int, HourUsage]

    def usage_of(self, hour_s: int) -> HourUsage:
        """Usage items of an hour; empty if it has none."""
        return self.usage.get(hour_s, HourUsage())


@dataclass(frozen=True, slots=True, kw_only=True)
class PassReading:
    """Figures that one pass read. Sources and usage were read twice, before and after everything else.

    Attributes:
        markers: All markers of the ledger.
        rows_by_key, rows_by_batch: Totals counted from the rows, by hour; empty unless the pass was deep.
        open_hours: Hours of commits that were open when the pass began or ended.
    """

    before: SourcesAndUsage
    after: SourcesAndUsage
    markers: MarkerSurvey
    rows_by_key: Mapping[int, Mapping[UsageKey, Total]]
    rows_by_batch: Mapping[int, Mapping[str, Total]]
    open_hours: set[int]

    def hour(self, hour_s: int, *, with_markers: bool) -> HourReading:
        """Figures of one hour. `with_markers` is False where markers may have expired."""
        return HourReading(
            state=self.after.sources[hour_s],
            stable=self._is_unchanged(hour_s) and hour_s not in self.open_hours,
            usage=self.before.usage_of(hour_s),
            markers_total=self.markers.hours.get(hour_s, ZERO) if with_markers else None,
            rows_by_key=self.rows_by_key.get(hour_s),
            markers_by_batch=self.markers.batches.get(hour_s, {}),
            rows_by_batch=self.rows_by_batch.get(hour_s, {}),
        )

    def _is_unchanged(self, hour_s: int) -> bool:
        same_sources = self.before.sources[hour_s].keys == self.after.sources[hour_s].keys
        return same_sources and self.before.usage_of(hour_s).revs == self.after.usage_of(hour_s).revs

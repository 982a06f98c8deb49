"""One pass of the reconciler over many hours: what it shall read, and what it has read."""

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
        hours: Hours to compare whatever is booked in them.
        from_s, to_s: Usage of the hours in `[from_s, to_s)` is read.
        deep: The rows are read, too, and not only what the ledger says of them.
        only_hours: The pass compares `hours` only, and not also those that only usage or markers know.
        limit: A scan calls it now and then; it may raise ScanTooLongError.
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
    """Row sources and usage items by hour, as a pass read them one after the other."""

    sources: Mapping[int, HourState]
    usage: Mapping[int, HourUsage]

    def usage_of(self, hour_s: int) -> HourUsage:
        """Usage items of an hour, which may have none."""
        return self.usage.get(hour_s, HourUsage())


@dataclass(frozen=True, slots=True, kw_only=True)
class PassReading:
    """What one pass read. Sources and usage were read twice, before and after all else.

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
        """What was read of one hour; without markers where they may have expired."""
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

"""I2: markers, usage table and visible rows say the same, hour by hour and key by key; tolerance 0."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from metering.domain.items import Table
from metering.domain.lake import USAGE_COLUMNS, RowQuery, usage_of
from metering.domain.usage import ZERO, Total, UsageKey, add_totals
from metering.domain.usage_items import usage_entries
from metering.usecases.verification import Difference

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from metering.domain.lake import Group
    from metering.domain.ledger import Marker
    from metering.ports import ItemStore
    from metering.usecases.lake_view import LakeView
    from metering.usecases.sent_batches import SentContent
    from metering.usecases.verification import Verification

# Each batch's rows, summed by the columns of a usage key.
_BY_BATCH = RowQuery(columns=("batch_id", *USAGE_COLUMNS))


@dataclass(frozen=True, slots=True, kw_only=True)
class EqualityCheck:
    """Compares what is booked in a range of hours.

    Attributes:
        chosen: Content that each batch of a manifest was accepted with; what rows show is taken off what it owes.
        markers_since_s: Hours before this may have lost their markers to age.
    """

    items: ItemStore
    view: LakeView
    markers: Mapping[str, Marker]
    chosen: Mapping[str, SentContent]
    markers_since_s: int

    def run(self, result: Verification, *, from_s: int, to_s: int) -> None:
        """Compare every hour of `[from_s, to_s)` in which anything is booked anywhere."""
        usage = self._usage(from_s, to_s)
        marked = self._marked(from_s, to_s)
        for hour_s in sorted({*usage, *marked, *self.view.hours(from_s=from_s, to_s=to_s)}):
            groups = self.view.hour_totals(hour_s, _BY_BATCH, exact=True)
            self._compare_hour(hour_s, groups, usage.get(hour_s, {}), marked.get(hour_s, {}), result)

    def _compare_hour(
        self,
        hour_s: int,
        groups: Mapping[Group, Total],
        usage: Mapping[UsageKey, Total],
        marked: Mapping[str, Total],
        result: Verification,
    ) -> None:
        by_batch: dict[str, Total] = defaultdict(lambda: ZERO)
        by_key: dict[UsageKey, Total] = defaultdict(lambda: ZERO)
        for group, total in groups.items():
            batch_id = str(group[0])
            [key] = usage_of(hour_s, {group[1:]: total})
            by_batch[batch_id] = by_batch[batch_id].plus(total)
            by_key[key] = by_key[key].plus(total)
            result.metered = result.metered.plus(total)
            if batch_id in self.chosen:
                self.chosen[batch_id].found(_own(key), total)
                result.proven = result.proven.plus(total)
        self._compare_batches(hour_s, marked, by_batch, result)
        result.keys += len(usage.keys() | by_key.keys())
        for key in usage.keys() | by_key.keys():
            booked, visible = usage.get(key, ZERO), by_key.get(key, ZERO)
            if booked != visible:
                result.differ(Difference(between="usage/rows", hour_s=hour_s, key=key, expected=booked, found=visible))

    def _compare_batches(
        self, hour_s: int, marked: Mapping[str, Total], visible: Mapping[str, Total], result: Verification
    ) -> None:
        names: Iterable[str] = marked.keys() | visible.keys() if hour_s >= self.markers_since_s else marked.keys()
        for batch_id in sorted(names):
            expected, found = marked.get(batch_id, ZERO), visible.get(batch_id, ZERO)
            if expected == found:
                continue
            result.differ(
                Difference(between="markers/rows", hour_s=hour_s, batch_id=batch_id, expected=expected, found=found)
            )
            less = found.records < expected.records or found.bytes < expected.bytes
            (result.lost if less else result.doubled).append(batch_id)

    def _usage(self, from_s: int, to_s: int) -> dict[int, dict[UsageKey, Total]]:
        hours: dict[int, dict[UsageKey, Total]] = defaultdict(dict)
        for item in self.items.scan(Table.USAGE):
            for entry in usage_entries(item):
                if from_s <= entry.key.hour_s < to_s:
                    add_totals(hours[entry.key.hour_s], {entry.key: entry.total})
        return hours

    def _marked(self, from_s: int, to_s: int) -> dict[int, dict[str, Total]]:
        hours: dict[int, dict[str, Total]] = defaultdict(dict)
        for marker in self.markers.values():
            for hour_s, total in marker.hours.items():
                if from_s <= hour_s < to_s:
                    hours[hour_s][marker.batch_id] = total
        return hours


def judge_contents(chosen: Mapping[str, SentContent], result: Verification) -> None:
    """Name the batches of a manifest of which something is missing, or there more than once."""
    for batch_id, content in chosen.items():
        if any(total.bytes > 0 or total.records > 0 for total in content.owed.values()):
            result.lost.append(batch_id)
        if any(total.bytes < 0 or total.records < 0 for total in content.owed.values()):
            result.doubled.append(batch_id)
    result.lost = sorted(set(result.lost))
    result.doubled = sorted(set(result.doubled))


def _own(key: UsageKey) -> UsageKey:
    """The key as its sender knows it: a late record of a closed month is booked elsewhere."""
    return key if key.corrects_s is None else key._replace(hour_s=key.corrects_s, corrects_s=None)

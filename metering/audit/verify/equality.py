"""I2: markers, usage table and visible rows say the same, hour by hour and key by key; tolerance 0.

The tables are read first and the rows later, so what is committed meanwhile differs for a while. Hours that differ are
measured again as the reconciler does: markers, sources, usage, and all of it once more. A difference is one only if two
passes over an hour at rest show the same; an hour that does not come to rest is named, and nothing is said of it.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from metering.audit.reconcile.table_scan import HourUsage, survey_hour, survey_usage
from metering.audit.verify.verification import MAX_DIFFERENCES, Difference, Verification, sum_verifications
from metering.lake.rows import USAGE_COLUMNS, RowQuery, usage_of
from metering.ledger.markers import Marker, marker_key
from metering.ledger.waiting_commits import waiting_commits
from metering.stores.writes import Table
from metering.usage.totals import ZERO, Total, UsageKey, sum_totals

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from metering.audit.verify.expectations import SentContent
    from metering.lake.rows import Group
    from metering.lake.view import LakeView
    from metering.stores.clock import Clock
    from metering.stores.items import ItemStore

# Each batch's rows, summed by the columns of a usage key.
_BATCH_USAGE_QUERY = RowQuery(columns=("batch_id", *USAGE_COLUMNS))


@dataclass(frozen=True, slots=True, kw_only=True)
class HourFigures:
    """One booked hour, as one pass found it.

    Attributes:
        stable: It was at rest while it was measured; a first look at it never says so.
        rows: Visible rows by batch and key.
        marked: What markers say, by batch.
        with_markers: Whether rows without a marker mean anything: markers expire.
    """

    hour_s: int
    stable: bool
    rows: Mapping[str, Mapping[UsageKey, Total]]
    usage: Mapping[UsageKey, Total]
    marked: Mapping[str, Total]
    with_markers: bool

    def by_batch(self) -> dict[str, Total]:
        return {batch_id: sum_totals(keys.values()) for batch_id, keys in self.rows.items()}

    def by_key(self) -> dict[UsageKey, Total]:
        totals: dict[UsageKey, Total] = defaultdict(lambda: ZERO)
        for keys in self.rows.values():
            for key, total in keys.items():
                totals[key] = totals[key].plus(total)
        return totals

    def differences(self) -> Iterator[Difference]:
        """Batch by batch, and key by key."""
        visible = self.by_batch()
        for batch_id in sorted(self.marked.keys() | visible.keys() if self.with_markers else self.marked.keys()):
            expected, found = self.marked.get(batch_id, ZERO), visible.get(batch_id, ZERO)
            if expected != found:
                yield Difference(
                    between="markers/rows", hour_s=self.hour_s, batch_id=batch_id, expected=expected, found=found
                )
        shown = self.by_key()
        for key in self.usage.keys() | shown.keys():
            booked, found = self.usage.get(key, ZERO), shown.get(key, ZERO)
            if booked != found:
                yield Difference(between="usage/rows", hour_s=self.hour_s, key=key, expected=booked, found=found)

    def doubt(self) -> Doubt:
        """What the next pass needs to know of it."""
        gaps = [(d.between, d.batch_id, d.key, d.found.minus(d.expected)) for d in self.differences()]
        return Doubt(
            stable=self.stable,
            gaps=hashlib.sha256(repr(sorted(gaps, key=repr)).encode()).digest() if gaps else b"",
            accounts=frozenset(key.account_id for keys in (*self.rows.values(), self.usage) for key in keys),
            marked=self.marked,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Doubt:
    """An hour that differed. Small, because it may be every hour of a region.

    Attributes:
        gaps: Digest of what differed and by how much; empty if nothing did.
        accounts: Who has rows or usage in it.
        marked: What markers said, by batch.
    """

    stable: bool
    gaps: bytes
    accounts: frozenset[str]
    marked: Mapping[str, Total]


@dataclass(frozen=True, slots=True, kw_only=True)
class EqualityCheck:
    """Compares what is booked in a range of hours.

    Attributes:
        markers: As the ledger was read before.
        chosen: Content that each batch of a manifest was accepted with; visible rows are subtracted from its
            unaccounted totals.
        markers_since_s: Hours before this may have lost their markers to age.
        wait_ms: Between two passes over an hour that differs.
        passes: Over such an hour at most, after the first look.
    """

    items: ItemStore
    view: LakeView
    clock: Clock
    markers: Mapping[str, Marker]
    chosen: Mapping[str, SentContent]
    markers_since_s: int
    wait_ms: int = 2_000
    passes: int = 5

    def run(self, *, from_s: int, to_s: int) -> Verification:
        """Compare every hour of `[from_s, to_s)` in which anything is booked anywhere."""
        usage = survey_usage(self.items, from_s=from_s, to_s=to_s)
        marked = self._marked(from_s, to_s)
        parts: list[Verification] = []
        doubtful: dict[int, Doubt] = {}
        for hour_s in sorted({*usage, *marked, *self.view.hours(from_s=from_s, to_s=to_s)}):
            seen = self._figures(hour_s, usage.get(hour_s, HourUsage()), marked.get(hour_s, {}))
            if any(seen.differences()):
                doubtful[hour_s] = seen.doubt()
            else:
                parts.append(self._counted(seen))
        for left in range(self.passes, 0, -1):
            if doubtful:
                self.clock.sleep_ms(self.wait_ms)
                judged, doubtful = self._judged(doubtful, last=left == 1)
                parts.append(judged)
        return sum_verifications(parts)

    def _judged(self, doubtful: Mapping[int, Doubt], *, last: bool) -> tuple[Verification, dict[int, Doubt]]:
        """Measure again; also returns the hours of which nothing can be said yet.

        Open commits are asked for before and after each: they book as they go.
        """
        parts: list[Verification] = []
        rest: dict[int, Doubt] = {}
        unfinished = self._open_hours()
        for hour_s, before in doubtful.items():
            found = self._measure(hour_s, before)
            unfinished, earlier = self._open_hours(), unfinished
            now = replace(found, stable=found.stable and hour_s not in unfinished | earlier)
            doubt = now.doubt()
            confirmed = now.stable and before.stable and doubt.gaps == before.gaps
            if not confirmed and (doubt.gaps or not now.stable) and not last:
                rest[hour_s] = doubt
                continue
            parts.append(self._counted(now))
            if confirmed and doubt.gaps:
                parts.append(_named(now))
            elif doubt.gaps or not now.stable:
                parts.append(Verification(unstable=(hour_s,)))
        return sum_verifications(parts), rest

    def _measure(self, hour_s: int, before: Doubt) -> HourFigures:
        """One pass over one hour: sources, rows, usage, markers, and what can change of it once more."""
        state = self.view.hour_snapshot(hour_s)
        seen = self._figures(hour_s, HourUsage(), before.marked)
        accounts = before.accounts.union(key.account_id for keys in seen.rows.values() for key in keys)
        usage = survey_hour(self.items, hour_s, accounts)
        marked = self._marked_by_now(seen)
        same = usage.revs == survey_hour(self.items, hour_s, accounts).revs
        same = same and state.keys == self.view.hour_snapshot(hour_s).keys
        return replace(seen, stable=same, usage=usage.totals, marked=marked)

    def _figures(self, hour_s: int, usage: HourUsage, marked: Mapping[str, Total]) -> HourFigures:
        groups = self.view.hour_totals(hour_s, _BATCH_USAGE_QUERY, exact=True)
        return HourFigures(
            hour_s=hour_s,
            stable=False,
            rows=_by_batch_and_key(hour_s, groups),
            usage=usage.totals,
            marked=marked,
            with_markers=hour_s >= self.markers_since_s,
        )

    def _marked_by_now(self, seen: HourFigures) -> dict[str, Total]:
        """Markers of the hour, those that do not fit their rows read once more: rows never come before their marker."""
        marked, visible = dict(seen.marked), seen.by_batch()
        names = {name for name in marked.keys() | visible.keys() if marked.get(name) != visible.get(name)}
        found = self.items.get_many(Table.LEDGER, [marker_key(name) for name in sorted(names)])
        for item in found.values():
            marker = Marker.from_item(item)
            if seen.hour_s in marker.hours:
                marked[marker.batch_id] = marker.hours[seen.hour_s]
        return marked

    def _counted(self, seen: HourFigures) -> Verification:
        """An hour that was compared. Its rows are subtracted from the unaccounted totals of a manifest's batches."""
        by_batch = seen.by_batch()
        for batch_id, keys in seen.rows.items():
            if batch_id in self.chosen:
                for key, total in keys.items():
                    self.chosen[batch_id].found(_own(key), total)
        return Verification(
            keys=len(seen.usage.keys() | seen.by_key().keys()),
            metered=sum_totals(by_batch.values()),
            proven=sum_totals(total for batch_id, total in by_batch.items() if batch_id in self.chosen),
        )

    def _open_hours(self) -> set[int]:
        return waiting_commits(self.items, self.view.shards).open_hours

    def _marked(self, from_s: int, to_s: int) -> dict[int, dict[str, Total]]:
        hours: dict[int, dict[str, Total]] = defaultdict(dict)
        for marker in self.markers.values():
            for hour_s, total in marker.hours.items():
                if from_s <= hour_s < to_s:
                    hours[hour_s][marker.batch_id] = total
        return hours


def judge_contents(
    chosen: Mapping[str, SentContent], markers: Mapping[str, Marker], unstable: Iterable[int]
) -> Verification:
    """Name the batches of a manifest of which something is missing, or there more than once.

    Batches with records in an unstable hour are left out: what such an hour shows of them says nothing.
    """
    moving = set(unstable)
    judged = {
        batch_id: content.unaccounted.values()
        for batch_id, content in chosen.items()
        if moving.isdisjoint(markers[batch_id].hours)
    }
    return Verification(
        lost=tuple(name for name, left in judged.items() if any(t.bytes > 0 or t.records > 0 for t in left)),
        doubled=tuple(name for name, left in judged.items() if any(t.bytes < 0 or t.records < 0 for t in left)),
    )


def _named(confirmed: HourFigures) -> Verification:
    """Differences of an hour, and the batches that they are in."""
    lost: list[str] = []
    doubled: list[str] = []
    differences: list[Difference] = []
    for difference in confirmed.differences():
        if len(differences) < MAX_DIFFERENCES:
            differences.append(difference)
        if difference.batch_id:
            found, expected = difference.found, difference.expected
            less = found.records < expected.records or found.bytes < expected.bytes
            (lost if less else doubled).append(difference.batch_id)
    return Verification(lost=tuple(lost), doubled=tuple(doubled), differences=tuple(differences))


def _by_batch_and_key(hour_s: int, groups: Mapping[Group, Total]) -> dict[str, dict[UsageKey, Total]]:
    rows: dict[str, dict[UsageKey, Total]] = defaultdict(dict)
    for group, total in groups.items():
        [key] = usage_of(hour_s, {group[1:]: total})
        rows[str(group[0])][key] = total
    return rows


def _own(key: UsageKey) -> UsageKey:
    """The key as its sender knows it: a late record of a closed month is booked elsewhere."""
    return key if key.corrects_s is None else key._replace(hour_s=key.corrects_s, corrects_s=None)

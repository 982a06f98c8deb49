"""Equality (I2): markers, usage table and visible rows agree, hour by hour and key by key, with tolerance 0.

The markers are read first and the rows later, so a commit in between looks like a difference. An hour that differs is
measured again as the reconciler does (docs/protocol.md, P37): newest done runs, rows, usage. A difference counts only
if two passes show it, and nothing that it is made of changed. An hour that stays unstable is named and not judged.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from metering.audit.reconcile.settling import AccountHour, HourUsage, settled_runs
from metering.audit.reconcile.table_scan import survey_hour, survey_usage
from metering.audit.verify.verification import MAX_DIFFERENCES, Difference, Verification, sum_verifications
from metering.lake.rows import USAGE_COLUMNS, USAGE_QUERY, RowQuery, usage_of
from metering.ledger.markers import Marker, marker_key
from metering.stores.writes import Table
from metering.usage.totals import ZERO, Total, UsageKey, sum_totals

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from metering.audit.verify.expectations import SentContent
    from metering.lake.rows import Group
    from metering.lake.view import LakeView
    from metering.ledger.usage.reading import UsageReading
    from metering.stores.clock import Clock
    from metering.stores.items import ItemStore

# Rows of each batch, summed by the columns of a usage key.
_BATCH_USAGE_QUERY = RowQuery(columns=("batch_id", *USAGE_COLUMNS))


@dataclass(frozen=True, slots=True, kw_only=True)
class HourFigures:
    """Figures of one booked hour, as one pass read them.

    Attributes:
        stable: Whether all of its usage was settled; False for a first look.
        rows: Totals of visible rows, by batch and key, those that wait for the roll-up included.
        placed: Totals of the rows that the roll-up has placed, by key; None if they are all of `rows`.
        unsettled: Where usage could not be compared.
        usage: Totals of the usage table, by key.
        marked: Totals of the markers, by batch.
        with_markers: Whether rows without a marker are a difference: markers expire.
    """

    hour_s: int
    stable: bool
    rows: Mapping[str, Mapping[UsageKey, Total]]
    usage: Mapping[UsageKey, Total]
    marked: Mapping[str, Total]
    with_markers: bool
    placed: Mapping[UsageKey, Total] | None = None
    unsettled: frozenset[AccountHour] = frozenset()

    def by_batch(self) -> dict[str, Total]:
        return {batch_id: sum_totals(keys.values()) for batch_id, keys in self.rows.items()}

    def by_key(self) -> dict[UsageKey, Total]:
        totals: dict[UsageKey, Total] = defaultdict(lambda: ZERO)
        for keys in self.rows.values():
            for key, total in keys.items():
                totals[key] = totals[key].plus(total)
        return totals

    def differences(self) -> Iterator[Difference]:
        """Differences by batch, then by key."""
        visible = self.by_batch()
        for batch_id in sorted(self.marked.keys() | visible.keys() if self.with_markers else self.marked.keys()):
            expected, found = self.marked.get(batch_id, ZERO), visible.get(batch_id, ZERO)
            if expected != found:
                yield Difference(
                    between="markers/rows", hour_s=self.hour_s, batch_id=batch_id, expected=expected, found=found
                )
        shown = self.by_key() if self.placed is None else self.placed
        for key in self.usage.keys() | shown.keys():
            booked, found = self.usage.get(key, ZERO), shown.get(key, ZERO)
            if booked != found and AccountHour.of(key) not in self.unsettled:
                yield Difference(between="usage/rows", hour_s=self.hour_s, key=key, expected=booked, found=found)

    def doubt(self) -> Doubt:
        """Summary of the hour for the next pass."""
        gaps = [(d.between, d.batch_id, d.key, d.found.minus(d.expected)) for d in self.differences()]
        return Doubt(
            stable=self.stable,
            gaps=hashlib.sha256(repr(sorted(gaps, key=repr)).encode()).digest() if gaps else b"",
            accounts=frozenset(key.account_id for keys in (*self.rows.values(), self.usage) for key in keys),
            marked=self.marked,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Doubt:
    """Summary of an hour that differed. It is small, because every hour of a region may differ.

    Attributes:
        gaps: Digest of the differences and their sizes; empty without any.
        accounts: Accounts with rows or usage in the hour.
        marked: Totals of the markers, by batch.
    """

    stable: bool
    gaps: bytes
    accounts: frozenset[str]
    marked: Mapping[str, Total]


@dataclass(frozen=True, slots=True, kw_only=True)
class EqualityCheck:
    """Compares markers, usage and rows in a range of hours.

    Attributes:
        markers: All markers, by batch id, from an earlier scan.
        chosen: Content that each batch of a manifest was accepted with; visible rows are subtracted from its
            unaccounted totals.
        markers_since_s: Hours before this may have lost their markers to age.
        wait_ms: Time between two passes over an hour that differs.
        passes: Most passes over such an hour after the first look.
    """

    items: ItemStore
    usage: UsageReading
    view: LakeView
    clock: Clock
    markers: Mapping[str, Marker]
    chosen: Mapping[str, SentContent]
    markers_since_s: int
    wait_ms: int = 2_000
    passes: int = 5

    def run(self, *, from_s: int, to_s: int) -> Verification:
        """Compare every hour of `[from_s, to_s)` that has usage, a marker or rows."""
        usage = survey_usage(self.usage, from_s=from_s, to_s=to_s)
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
        """Measure doubtful hours again; also returns those that cannot be judged yet."""
        parts: list[Verification] = []
        rest: dict[int, Doubt] = {}
        for hour_s, before in doubtful.items():
            now = self._measure(hour_s, before)
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
        """Do one pass over one hour: newest done runs, placed rows, usage, then all rows and their markers."""
        done = settled_runs(self.items, self.view.shards)
        placed = usage_of(hour_s, self.view.placed.hour_totals(hour_s, USAGE_QUERY))
        accounts = before.accounts.union(key.account_id for key in placed)
        usage = survey_hour(self.usage, hour_s, accounts)
        seen = self._figures(hour_s, usage, before.marked)
        unsettled = usage.unsettled(done)
        return replace(seen, stable=not unsettled, placed=placed, unsettled=unsettled, marked=self._marked_by_now(seen))

    def _figures(self, hour_s: int, usage: HourUsage, marked: Mapping[str, Total]) -> HourFigures:
        groups = self.view.hour_totals(hour_s, _BATCH_USAGE_QUERY)
        return HourFigures(
            hour_s=hour_s,
            stable=False,
            rows=_by_batch_and_key(hour_s, groups),
            usage=usage.totals,
            marked=marked,
            with_markers=hour_s >= self.markers_since_s,
        )

    def _marked_by_now(self, seen: HourFigures) -> dict[str, Total]:
        """Markers of the hour; those that do not match their rows are read again. A marker always precedes its rows."""
        marked, visible = dict(seen.marked), seen.by_batch()
        names = {name for name in marked.keys() | visible.keys() if marked.get(name) != visible.get(name)}
        found = self.items.get_many(Table.LEDGER, [marker_key(name) for name in sorted(names)])
        for item in found.values():
            marker = Marker.from_item(item)
            if seen.hour_s in marker.hours:
                marked[marker.batch_id] = marker.hours[seen.hour_s]
        return marked

    def _counted(self, seen: HourFigures) -> Verification:
        """Count a compared hour. Its rows are subtracted from the unaccounted totals of a manifest's batches."""
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
    """Name the batches of a manifest of which some records are missing, or visible more than once.

    Batches with records in an unstable hour are left out, because the rows of such an hour prove nothing.
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
    """Differences of an hour, and the batches with a difference."""
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
    """Key as the sender knows it: a late record of a closed month is booked in another hour than its own."""
    return key if key.corrects_s is None else key._replace(hour_s=key.corrects_s, corrects_s=None)

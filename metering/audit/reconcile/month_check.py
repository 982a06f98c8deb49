"""The check of a month before it is closed: a deep pass that holds an hour at a time, not the month.

It reads what a deep pass of the reconciler reads, in the same order (docs/protocol.md, Reconcile), but keeps only
fingerprints of usage and markers by hour. An hour whose rows have the same fingerprints agrees, by key and by batch.
What does not agree is left to the reconciler, which compares it key by key, a minute apart, and names the difference.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from metering.audit.reconcile.fingerprints import Fingerprint, fingerprint
from metering.audit.reconcile.hour_check import HourCheck
from metering.lake.rows import BATCH_QUERY, USAGE_QUERY, batches_of, usage_of
from metering.lake.usage_digest import in_order, usage_digest
from metering.ledger.contradictions import Contradictions
from metering.ledger.markers import Marker, is_marker
from metering.ledger.usage_items import usage_entries
from metering.ledger.waiting_commits import waiting_commits
from metering.stores.writes import Table
from metering.usage.totals import Total, sum_totals

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from metering.audit.reconcile.reconciler import Reconciler
    from metering.ledger.row_sources import HourState


@dataclass(slots=True)
class _Booked:
    """Usage items of an hour: their totals, and their revisions."""

    usage: Fingerprint = field(default_factory=Fingerprint)
    revisions: Fingerprint = field(default_factory=Fingerprint)

    @property
    def counts(self) -> bool:
        """Whether the items do not cancel out, as those of a key that a repair took back do."""
        return self.usage != Fingerprint()


@dataclass(frozen=True, slots=True, kw_only=True)
class MonthStep:
    """Progress of a close: hour number `done` of `hours` was compared, or frozen."""

    doing: Literal["compared", "frozen"]
    hour_s: int
    done: int
    hours: int


def tell_nobody(_step: MonthStep) -> None:
    """Tell no progress."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MonthChecked:
    """Result of the check.

    Attributes:
        agreeing: Hours whose markers, usage and rows are equal.
        doubtful: Other hours that rows, usage or markers know.
        contradictions: Markers that cannot be read.
    """

    agreeing: Mapping[int, HourCheck]
    doubtful: tuple[int, ...]
    contradictions: Contradictions


@dataclass(frozen=True, slots=True, kw_only=True)
class MonthCheck:
    """Checks the hours of `[from_s, to_s)`."""

    reconciler: Reconciler
    from_s: int
    to_s: int

    def run(self, tell: Callable[[MonthStep], None] = tell_nobody) -> MonthChecked:
        """Compare every hour that has a row source, usage or a marker. `tell` is called after each."""
        items, view, shards = self.reconciler.items, self.reconciler.view, self.reconciler.shards
        open_hours = waiting_commits(items, shards).open_hours
        before = {hour_s: view.hour_snapshot(hour_s) for hour_s in view.hours(from_s=self.from_s, to_s=self.to_s)}
        booked = self._booked()
        contradictions = Contradictions()
        markers = self._markers(contradictions)
        checks: dict[int, HourCheck | None] = {}
        for hour_s, state in before.items():
            checks[hour_s] = self._hour(state, booked[hour_s], markers[hour_s])
            tell(MonthStep(doing="compared", hour_s=hour_s, done=len(checks), hours=len(before)))
        changed = {hour_s for hour_s, state in before.items() if view.hour_snapshot(hour_s).keys != state.keys}
        again = self._booked()
        open_hours |= waiting_commits(items, shards).open_hours
        agreeing = {
            hour_s: check
            for hour_s, check in checks.items()
            if check is not None
            and hour_s not in open_hours
            and hour_s not in changed
            and booked[hour_s].revisions == again[hour_s].revisions
        }
        known = {*before, *markers, *(hour_s for some in (booked, again) for hour_s in some if some[hour_s].counts)}
        return MonthChecked(
            agreeing=agreeing, doubtful=tuple(sorted(known - agreeing.keys())), contradictions=contradictions
        )

    def _booked(self) -> defaultdict[int, _Booked]:
        hours: defaultdict[int, _Booked] = defaultdict(_Booked)
        for item in self.reconciler.items.scan(Table.USAGE):
            for key, suffix, total, rev in usage_entries(item):
                if self.from_s <= key.hour_s < self.to_s:
                    hours[key.hour_s].usage.add(key, total)
                    hours[key.hour_s].revisions.add((key, suffix), Total(0 if rev is None else rev, 1))
        return hours

    def _markers(self, contradictions: Contradictions) -> defaultdict[int, Fingerprint]:
        hours: defaultdict[int, Fingerprint] = defaultdict(Fingerprint)
        for item in self.reconciler.items.scan(Table.LEDGER):
            if is_marker(item):
                with contradictions.noted():
                    marker = Marker.from_item(item)
                    for hour_s, total in marker.hours.items():
                        if self.from_s <= hour_s < self.to_s:
                            hours[hour_s].add(marker.batch_id, total)
        return hours

    def _hour(self, state: HourState, booked: _Booked, markers: Fingerprint) -> HourCheck | None:
        """The check of an hour that agrees; None for one that does not."""
        hour_s, view = state.hour_s, self.reconciler.view
        rows = usage_of(hour_s, view.hour_totals(hour_s, USAGE_QUERY, exact=True))
        total = sum_totals(rows.values())
        if fingerprint(rows.items()) != booked.usage or total != state.total:
            return None
        with_markers = not self.reconciler.may_lack_markers(hour_s)
        batches = batches_of(view.hour_totals(hour_s, BATCH_QUERY, exact=True)) if with_markers else {}
        if with_markers and fingerprint(batches.items()) != markers:
            return None
        return HourCheck(
            hour_s=hour_s,
            stable=True,
            deep=True,
            markers=markers.total if with_markers else None,
            usage=booked.usage.total,
            rows=total,
            differences=(),
            digest=usage_digest(in_order(rows)),
        )

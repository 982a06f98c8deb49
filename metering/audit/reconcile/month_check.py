"""The check of a month before it is closed: a deep pass that holds an hour at a time, not the month.

It reads what a deep pass of the reconciler reads, in the same order (docs/protocol.md, P35 and P37), but keeps only
fingerprints of usage, rows and markers by hour. An hour whose rows have the same fingerprints agrees, by key and by
batch. What does not agree is left to the reconciler, which compares it key by key, a minute apart, and names the
difference.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from metering.audit.reconcile.fingerprints import Fingerprint, fingerprint
from metering.audit.reconcile.hour_check import HourCheck
from metering.audit.reconcile.settling import is_settled, settled_runs
from metering.lake.rows import BATCH_QUERY, USAGE_QUERY, batches_of, usage_of
from metering.lake.usage_digest import in_order, usage_digest
from metering.ledger.contradictions import Contradictions
from metering.ledger.markers import Marker, is_marker
from metering.stores.writes import Table
from metering.usage.totals import sum_totals

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from metering.audit.reconcile.reconciler import Reconciler
    from metering.ledger.row_sources import HourState
    from metering.usage.totals import Total


@dataclass(slots=True)
class _Booked:
    """Usage items of an hour: their totals, and whether all of them were settled (P37)."""

    usage: Fingerprint = field(default_factory=Fingerprint)
    settled: bool = True

    @property
    def counts(self) -> bool:
        """Whether the items do not cancel out, as those of a key that a repair took back do."""
        return not self.settled or self.usage != Fingerprint()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rows:
    """Rows of an hour.

    Attributes:
        batches: None where markers may have expired.
        whole: Whether the files hold the total that the ledger has for them.
    """

    usage: Fingerprint
    batches: Fingerprint | None
    total: Total
    whole: bool
    digest: str


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
        view, contradictions = self.reconciler.view.placed, Contradictions()
        markers = self._markers(contradictions)
        done = settled_runs(self.reconciler.items, self.reconciler.shards)
        hours = view.hours(from_s=self.from_s, to_s=self.to_s)
        rows: dict[int, _Rows] = {}
        for hour_s in hours:
            rows[hour_s] = self._rows(hour_s)
            tell(MonthStep(doing="compared", hour_s=hour_s, done=len(rows), hours=len(hours)))
        booked = self._booked(done)
        checks = {hour_s: self._check(hour_s, found, booked[hour_s], markers[hour_s]) for hour_s, found in rows.items()}
        agreeing = {hour_s: check for hour_s, check in checks.items() if check is not None}
        known = {*rows, *markers, *(hour_s for hour_s, usage in booked.items() if usage.counts)}
        return MonthChecked(
            agreeing=agreeing, doubtful=tuple(sorted(known - agreeing.keys())), contradictions=contradictions
        )

    def _booked(self, done: Mapping[int, int]) -> defaultdict[int, _Booked]:
        hours: defaultdict[int, _Booked] = defaultdict(_Booked)
        reading = self.reconciler.usage
        for item in reading.scan():
            if self.from_s <= item.hour_s < self.to_s:
                booked = hours[item.hour_s]
                booked.settled = booked.settled and is_settled(item.runs, done)
                for key, total in reading.totals(item):
                    booked.usage.add(key, total)
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

    def _rows(self, hour_s: int) -> _Rows:
        """Read the rows of an hour, and keep no more than an hour at a time."""
        view = self.reconciler.view.placed

        def count(state: HourState) -> _Rows:
            usage = usage_of(hour_s, view.reader.totals(state.sources, USAGE_QUERY))
            batches = batches_of(view.reader.totals(state.sources, BATCH_QUERY)) if with_markers else {}
            total = sum_totals(usage.values())
            return _Rows(
                usage=fingerprint(usage.items()),
                batches=fingerprint(batches.items()) if with_markers else None,
                total=total,
                whole=total == state.total,
                digest=usage_digest(in_order(usage)),
            )

        with_markers = not self.reconciler.may_lack_markers(hour_s)
        return view.read(hour_s, count)

    def _check(self, hour_s: int, rows: _Rows, booked: _Booked, markers: Fingerprint) -> HourCheck | None:
        """The check of an hour that agrees; None for one that does not."""
        if not (rows.whole and booked.settled and rows.usage == booked.usage):
            return None
        if rows.batches is not None and rows.batches != markers:
            return None
        return HourCheck(
            hour_s=hour_s,
            stable=True,
            deep=True,
            markers=None if rows.batches is None else markers.total,
            usage=booked.usage.total,
            rows=rows.total,
            differences=(),
            digest=rows.digest,
        )

"""The reconciler: hour by hour, markers = usage = lake and staging, in rows and bytes, tolerance 0 (I2).

docs/protocol.md, P37. One pass reads the newest done runs of the roll-up, then the rows that they placed, then usage. A
usage item with a later run is left for the next pass. An alarm needs the same difference in two passes, a minute apart,
at the same revision.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from metering import metric_names
from metering.audit.reconcile.hour_check import HourReading, MarkedRows, PlacedRows, alert_fields, difference_fields
from metering.audit.reconcile.pass_reading import PassReading, PassScope
from metering.audit.reconcile.settling import settled_runs
from metering.audit.reconcile.table_scan import no_limit, survey_hour, survey_markers, survey_usage
from metering.lake.rows import BATCH_QUERY, USAGE_QUERY, batches_of, usage_of
from metering.ledger.contradictions import Contradictions
from metering.ledger.markers import Marker, marker_key
from metering.stores.writes import Table
from metering.units import HOUR_S
from metering.usage.totals import ZERO, sum_totals

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from metering.audit.reconcile.hour_check import HourCheck
    from metering.audit.reconcile.settling import HourUsage
    from metering.audit.reconcile.table_scan import MarkerSurvey
    from metering.audit.verify.verification import Difference
    from metering.lake.view import LakeView
    from metering.ledger.row_sources import HourState
    from metering.ledger.usage.reading import UsageReading
    from metering.stores.clock import Clock
    from metering.stores.items import ItemStore
    from metering.stores.telemetry import Alerts, Metrics
    from metering.usage.totals import Total

# Most hours that get an alert of their own; all of them are counted.
_HOURS_NAMED = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class ReconciliationResult:
    """Result of a reconciliation.

    Attributes:
        checks: Last pass over each hour, in order.
        different: Hours in which two passes showed the same difference.
        unstable: Hours of which something could not be compared, because it kept changing.
        markers: All markers of the ledger, as the first pass read them.
        derived: Differences of sums that are kept beside the three.
    """

    checks: tuple[HourCheck, ...]
    different: tuple[HourCheck, ...]
    unstable: tuple[HourCheck, ...]
    markers: MarkerSurvey
    derived: tuple[Difference, ...] = ()


class DerivedSums(Protocol):
    """Sums that another job keeps of the rows; they are compared with what it has counted of them."""

    def differences(self, *, from_s: int, to_s: int, deep: bool = False) -> Sequence[Difference]:
        """Differences from the rows of hours in `[from_s, to_s)`; with `deep`, the rows are counted.

        Raises:
            UnavailableError: A read failed.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciler:
    """Compares markers, usage and lake, hour by hour.

    Attributes:
        marker_life_s: Hours whose markers may have expired are compared without them.
        derived: What is compared beside markers, usage and rows.
        wait_ms: Time between two passes over an hour that did not agree.
        passes: Most passes over such an hour.
    """

    items: ItemStore
    usage: UsageReading
    view: LakeView
    clock: Clock
    metrics: Metrics
    alerts: Alerts
    shards: int
    marker_life_s: int
    derived: DerivedSums | None = None
    wait_ms: int = 60_000
    passes: int = 4

    def run(
        self, *, from_s: int, to_s: int, deep: bool = False, limit: Callable[[], None] = no_limit
    ) -> ReconciliationResult:
        """Do `check`, compare derived sums, and send alerts about the differences.

        Raises:
            UnavailableError: An hour could not be read.
            ScanTooLongError: As `limit` says.
        """
        result = self.check(from_s=from_s, to_s=to_s, deep=deep, limit=limit)
        self.tell(len(result.checks), result.different)
        if self.derived is not None:
            derived = tuple(self.derived.differences(from_s=from_s, to_s=to_s, deep=deep))
            self._tell_derived(derived)
            result = replace(result, derived=derived)
        return result

    def _tell_derived(self, derived: Sequence[Difference]) -> None:
        """Tell of derived sums that differ. No bill is made of them, so nobody is woken."""
        if derived:
            fields = difference_fields(derived[0])
            self.alerts.send("ticket", "Lists of accounts differ", {**fields, "differences": len(derived)})

    def tell(self, hours: int, different: Sequence[HourCheck]) -> None:
        """Count the compared hours, and page for the different ones."""
        self.metrics.count(metric_names.RECONCILED_HOURS, hours)
        self.metrics.count(metric_names.RECONCILIATION_DIFFERENCES, len(different))
        for check in different[:_HOURS_NAMED]:
            self.alerts.send("page", "Totals differ", alert_fields(check, len(different)))

    def check(
        self, *, from_s: int, to_s: int, deep: bool = False, limit: Callable[[], None] = no_limit
    ) -> ReconciliationResult:
        """Compare every hour of `[from_s, to_s)` that has a row source, usage or a marker."""
        checks, markers = self._pass(PassScope(from_s=from_s, to_s=to_s, deep=deep, limit=limit))
        different: dict[int, HourCheck] = {}
        doubtful = [hour_s for hour_s, check in checks.items() if not check.agrees]
        for _ in range(self.passes - 1):
            if not doubtful:
                break
            self.clock.sleep_ms(self.wait_ms)
            marked = self._survey_again([checks[hour_s] for hour_s in doubtful], limit)
            for hour_s in doubtful:
                again = self.look_again(checks[hour_s], marked)
                confirmed = again.confirmed(checks[hour_s])
                if confirmed is not None:
                    different[hour_s] = confirmed
                checks[hour_s] = again
            doubtful = [h for h in doubtful if h not in different and not checks[h].agrees]
        return ReconciliationResult(
            checks=tuple(checks[hour_s] for hour_s in sorted(checks)),
            different=tuple(different[hour_s] for hour_s in sorted(different)),
            unstable=tuple(checks[hour_s] for hour_s in sorted(doubtful)),
            markers=markers,
        )

    def may_lack_markers(self, hour_s: int) -> bool:
        """Whether a marker of the hour can have expired. It was written an hour before the hour at the earliest."""
        return hour_s - HOUR_S + self.marker_life_s <= self.clock.now_ms() // 1000

    def _pass(self, scope: PassScope) -> tuple[dict[int, HourCheck], MarkerSurvey]:
        """One pass. Its figures are much larger than its checks, so they are let go before the next pass."""
        reading = self._read(scope)
        return {hour_s: reading.hour(hour_s).check() for hour_s in reading.hours()}, reading.markers

    def _read(self, scope: PassScope) -> PassReading:
        """Read one pass. A marker that is met has its rows in a later look; what is settled was placed before one."""
        before = {} if scope.deep else self._commits(scope)
        markers = survey_markers(self.items, detailed=scope.details, limit=scope.limit)
        done = settled_runs(self.items, self.shards)
        hours = self.view.hours(from_s=scope.from_s, to_s=scope.to_s)
        placed = {
            hour_s: self.placed(hour_s)
            if scope.deep
            else PlacedRows(booked=self.view.placed.hour_between(hour_s).total)
            for hour_s in hours
        }
        marked_hours = {*hours, *(h for h in markers.hours if scope.from_s <= h < scope.to_s)}
        marked = {
            hour_s: self._by_batch(hour_s, markers.batches.get(hour_s, {}))
            if scope.deep
            else self._marked(hour_s, markers, before.get(hour_s))
            for hour_s in marked_hours
            if not self.may_lack_markers(hour_s)
        }
        usage = survey_usage(self.usage, from_s=scope.from_s, to_s=scope.to_s, limit=scope.limit)
        return PassReading(deep=scope.deep, markers=markers, done=done, placed=placed, marked=marked, usage=usage)

    def look(self, hour_s: int, accounts: frozenset[str], *, alone: bool = False) -> tuple[HourCheck, HourUsage]:
        """Do one deep pass over usage and rows of one hour (P37). It reads neither markers nor a whole table.

        Args:
            hour_s: The hour to compare.
            accounts: Accounts whose usage is read in addition to accounts with rows.
            alone: Whether only these accounts are compared.
        """
        done = settled_runs(self.items, self.shards)
        placed = self.placed(hour_s, accounts=accounts if alone else None)
        known = accounts.union(key.account_id for key in placed.by_key or ())
        usage = survey_hour(self.usage, hour_s, known)
        return HourReading(hour_s=hour_s, done=done, placed=placed, usage=usage).check(), usage

    def look_again(self, before: HourCheck, markers: MarkerSurvey | None = None) -> HourCheck:
        """Do one deep pass over what an earlier pass left open: accounts, and batches. All else agreed.

        Args:
            before: The earlier pass over the hour.
            markers: Markers of the hour by batch, if an earlier pass compared them by the hour alone.
        """
        accounts = frozenset(place.account_id for place in (*before.unsettled, *before.seen))
        whole = not before.deep or any(each.between == "ledger/rows" for each in before.differences)
        check, _ = self.look(before.hour_s, accounts, alone=not whole)
        marked = self._marked_again(before, markers)
        if marked is None:
            return replace(check, markers=before.markers)
        found = (*check.differences, *marked.differences(before.hour_s))
        return replace(check, differences=found, markers=marked.marked)

    def _survey_again(self, doubtful: Sequence[HourCheck], limit: Callable[[], None]) -> MarkerSurvey | None:
        """Scan the markers of hours whose batches were not compared one by one, if there are such hours."""
        hours = frozenset(check.hour_s for check in doubtful if _wants_batches(check))
        return survey_markers(self.items, detailed=hours.__contains__, limit=limit) if hours else None

    def _marked_again(self, before: HourCheck, markers: MarkerSurvey | None) -> MarkedRows | None:
        """Markers and rows of an hour that was not compared by batch so far; else of the batches that differed."""
        if markers is not None and _wants_batches(before):
            return self._by_batch(before.hour_s, markers.batches.get(before.hour_s, {}))
        named = {each.batch_id for each in before.differences if each.between == "markers/rows"}
        if not named:
            return None
        found = self._by_batch(before.hour_s, self._markers_of(before.hour_s, named), only=named)
        return replace(found, marked=before.markers or ZERO)

    def placed(self, hour_s: int, *, accounts: frozenset[str] | None = None) -> PlacedRows:
        """Count the rows of an hour that the roll-up has placed; only those of some accounts if they are named."""
        placed = self.view.placed
        query = USAGE_QUERY if accounts is None else replace(USAGE_QUERY, where=(("account_id", accounts),))

        def count(state: HourState) -> PlacedRows:
            rows = usage_of(hour_s, placed.reader.totals(state.sources, query))
            return PlacedRows(booked=state.total, by_key=rows, accounts=accounts)

        return placed.read(hour_s, count)

    def _by_batch(self, hour_s: int, marked: Mapping[str, Total], *, only: Collection[str] | None = None) -> MarkedRows:
        """Compare markers that were read before with rows that are read now. Batches that came since are looked up."""
        rows = batches_of(self.view.hour_totals(hour_s, BATCH_QUERY))
        if only is not None:
            rows = {batch_id: total for batch_id, total in rows.items() if batch_id in only}
        since = [batch_id for batch_id, total in rows.items() if marked.get(batch_id) != total]
        known = {**marked, **self._markers_of(hour_s, since)}
        return MarkedRows(
            marked=sum_totals(known.values()),
            rows=sum_totals(rows.values()),
            marked_by_batch=known,
            rows_by_batch=rows,
        )

    def _markers_of(self, hour_s: int, batch_ids: Iterable[str]) -> dict[str, Total]:
        """What the markers of some batches say of an hour. One that cannot be read says nothing."""
        found = self.items.get_many(Table.LEDGER, [marker_key(batch_id) for batch_id in batch_ids])
        contradictions, marked = Contradictions(), {}
        for item in found.values():
            with contradictions.noted():
                marker = Marker.from_item(item)
                if hour_s in marker.hours:
                    marked[marker.batch_id] = marker.hours[hour_s]
        return marked

    def _commits(self, scope: PassScope) -> dict[int, frozenset[str]]:
        """What is in each hour before the markers are scanned."""
        hours = self.view.hours(from_s=scope.from_s, to_s=scope.to_s)
        return {hour_s: self.view.hour_between(hour_s).keys for hour_s in hours}

    def _marked(self, hour_s: int, markers: MarkerSurvey, before: frozenset[str] | None) -> MarkedRows:
        """Markers and rows of an hour, as the ledger says."""
        state = self.view.hour_between(hour_s)
        return MarkedRows(
            marked=markers.hours.get(hour_s, ZERO), rows=state.total, comparable=state.keys == (before or frozenset())
        )


def _wants_batches(check: HourCheck) -> bool:
    """Whether the markers of an hour were compared, but not by batch."""
    return not check.deep and check.markers is not None

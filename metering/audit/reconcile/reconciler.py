"""The reconciler: hour by hour, markers = usage = lake and staging, in rows and bytes, tolerance 0 (I2).

docs/protocol.md, Reconcile. One pass reads the hour's sources and the usage table, and then both again. It counts only
if neither changed and no commit of the hour is open. An alarm needs the same difference in two passes, a minute apart.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from metering import metric_names
from metering.audit.reconcile.hour_check import HourCheck, HourReading, alert_fields, difference_fields
from metering.audit.reconcile.pass_reading import PassReading, PassScope, SourcesAndUsage
from metering.audit.reconcile.table_scan import no_limit, survey_hour, survey_markers, survey_usage
from metering.lake.rows import BATCH_QUERY, USAGE_QUERY, batches_of, usage_of
from metering.ledger.commits import CommitRecord, commit_key
from metering.ledger.row_sources import HourState
from metering.ledger.waiting_commits import waiting_commits
from metering.stores.bucket import commit_id_of
from metering.stores.writes import Table
from metering.units import HOUR_S

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from metering.audit.reconcile.table_scan import HourUsage, MarkerSurvey
    from metering.audit.verify.verification import Difference
    from metering.lake.view import LakeView
    from metering.stores.clock import Clock
    from metering.stores.items import ItemStore
    from metering.stores.telemetry import Alerts, Metrics
    from metering.usage.totals import Total, UsageKey

# Most hours that get an alert of their own; all of them are counted.
_HOURS_NAMED = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class ReconciliationResult:
    """Result of a reconciliation.

    Attributes:
        checks: Last pass over each hour, in order.
        different: Hours in which two passes showed the same difference.
        unstable: Hours that kept changing, or have an open commit: they were not compared.
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
        hours = self.view.hours(from_s=from_s, to_s=to_s)
        checks, markers = self._pass(PassScope(hours=hours, from_s=from_s, to_s=to_s, deep=deep, limit=limit))
        different: dict[int, HourCheck] = {}
        doubtful = [hour_s for hour_s, check in checks.items() if not check.agrees]
        for _ in range(self.passes - 1):
            if not doubtful:
                break
            self.clock.sleep_ms(self.wait_ms)
            again, _ = self._pass(PassScope.of_doubtful(doubtful))
            different |= {h: again[h] for h in doubtful if again[h].differences and again[h].confirms(checks[h])}
            checks |= again
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

    def _read(self, scope: PassScope) -> PassReading:
        """Read one pass in the order of the protocol: sources, usage, sources again, usage again."""
        open_hours = waiting_commits(self.items, self.shards).open_hours
        sources = {hour_s: self.view.hour_snapshot(hour_s) for hour_s in scope.hours}
        usage = survey_usage(self.items, from_s=scope.from_s, to_s=scope.to_s, limit=scope.limit)
        detailed = frozenset(sources) if scope.deep else frozenset()
        markers = survey_markers(self.items, detailed=detailed, limit=scope.limit)
        if not scope.only_hours:
            elsewhere = {*usage, *(h for h in markers.hours if scope.from_s <= h < scope.to_s)} - set(sources)
            # These hours had no source when the pass began. If they have one now, they changed and are not stable.
            sources |= {hour_s: _empty(hour_s) for hour_s in elsewhere}
        rows_by_key = {hour_s: self._rows(hour_s) for hour_s in sources} if scope.deep else {}
        rows_by_batch = {hour_s: self._batches(hour_s) for hour_s in detailed}
        sources_after = {hour_s: self.view.hour_snapshot(hour_s) for hour_s in sources}
        usage_after = survey_usage(self.items, from_s=scope.from_s, to_s=scope.to_s, limit=scope.limit)
        open_hours |= waiting_commits(self.items, self.shards).open_hours
        return PassReading(
            before=SourcesAndUsage(sources=sources, usage=usage),
            after=SourcesAndUsage(sources=sources_after, usage=usage_after),
            markers=markers,
            rows_by_key=rows_by_key,
            rows_by_batch=rows_by_batch,
            open_hours=open_hours,
        )

    def _pass(self, scope: PassScope) -> tuple[dict[int, HourCheck], MarkerSurvey]:
        """One pass. Its figures are much larger than its checks, so they are let go before the next pass."""
        reading = self._read(scope)
        return self._checks(reading), reading.markers

    def _checks(self, reading: PassReading) -> dict[int, HourCheck]:
        return {
            hour_s: reading.hour(hour_s, with_markers=not self.may_lack_markers(hour_s)).check()
            for hour_s in sorted(reading.before.sources)
        }

    def look(self, hour_s: int, accounts: frozenset[str]) -> tuple[HourCheck, HourUsage]:
        """Do one deep pass over usage and rows of one hour. It reads neither markers nor a whole table.

        Args:
            hour_s: The hour to compare.
            accounts: Accounts whose usage is read in addition to accounts with rows.
        """
        before = self.view.hour_snapshot(hour_s)
        # This is asked before usage is read: a commit that is applied by then is booked whole.
        unfinished = self._has_open_commit(before)
        rows = self._rows(hour_s)
        accounts = accounts.union(key.account_id for key in rows)
        usage = survey_hour(self.items, hour_s, accounts)
        after = self.view.hour_snapshot(hour_s)
        same = before.keys == after.keys and usage.revs == survey_hour(self.items, hour_s, accounts).revs
        reading = HourReading(
            state=after,
            stable=same and not unfinished,
            usage=usage,
            markers_total=None,
            rows_by_key=rows,
            markers_by_batch={},
            rows_by_batch={},
        )
        return reading.check(), usage

    def _has_open_commit(self, state: HourState) -> bool:
        """Whether a commit of the hour is open. It does not read the whole list of pending commits.

        The hour's pointers name every commit that matters: a commit books usage only after it has put its pointers, and
        an open commit is in no run.
        """
        staged = [commit_key(commit_id_of(source.key)) for source in state.sources if source.staged]
        found = self.items.get_many(Table.LEDGER, staged)
        return any(CommitRecord.from_item(item).state == "open" for item in found.values())

    def _rows(self, hour_s: int) -> dict[UsageKey, Total]:
        return usage_of(hour_s, self.view.hour_totals(hour_s, USAGE_QUERY, exact=True))

    def _batches(self, hour_s: int) -> dict[str, Total]:
        return batches_of(self.view.hour_totals(hour_s, BATCH_QUERY, exact=True))


def _empty(hour_s: int) -> HourState:
    return HourState(hour_s=hour_s, sources=(), keys=frozenset())

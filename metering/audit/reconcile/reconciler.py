"""The reconciler: hour by hour, markers = usage = lake and staging, in rows and bytes, tolerance 0 (I2).

docs/protocol.md, Reconcile. One pass reads the hour's sources, the usage table, both again, and counts only if neither
changed and no commit of the hour is open. An alarm needs two passes, a minute apart, with the same difference.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from metering import metric_names
from metering.audit.reconcile.hour_check import HourCheck, HourReading, alert_fields
from metering.audit.reconcile.table_scan import (
    HourUsage,
    MarkerSurvey,
    no_limit,
    survey_hour,
    survey_markers,
    survey_usage,
)
from metering.lake.rows import USAGE_QUERY, RowQuery, usage_of
from metering.ledger.commits import CommitRecord, commit_key
from metering.ledger.row_sources import HourState
from metering.ledger.waiting_commits import waiting_commits
from metering.stores.bucket import commit_id_of
from metering.stores.writes import Table
from metering.units import HOUR_S
from metering.usage.totals import ZERO, Total, UsageKey

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from metering.lake.view import LakeView
    from metering.stores.clock import Clock
    from metering.stores.items import ItemStore
    from metering.stores.telemetry import Alerts, Metrics

_BY_BATCH = RowQuery(columns=("batch_id",))
# Alerts name so many hours; all of them are counted.
_HOURS_NAMED = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One pass over some hours. `usage` has the items behind it, `markers` all markers."""

    checks: Mapping[int, HourCheck]
    usage: Mapping[int, HourUsage]
    markers: MarkerSurvey


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciliation:
    """What a reconciliation found.

    Attributes:
        checks: Of every hour the last pass over it, in order.
        different: Hours in which two passes showed the same difference.
        unsettled: Hours that kept changing, or have an open commit: nothing can be said of them.
    """

    checks: tuple[HourCheck, ...]
    different: tuple[HourCheck, ...]
    unsettled: tuple[HourCheck, ...]
    markers: MarkerSurvey


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciler:
    """Compares.

    Attributes:
        marker_life_s: Hours whose markers may have expired are compared without them.
        wait_ms: Time between two passes over an hour that did not agree.
        passes: Passes over such an hour at most.
    """

    items: ItemStore
    view: LakeView
    clock: Clock
    metrics: Metrics
    alerts: Alerts
    shards: int
    marker_life_s: int
    wait_ms: int = 60_000
    passes: int = 4

    def hour(self, hour_s: int, *, deep: bool = False) -> HourCheck:
        """The last pass over one hour; it agrees, or two passes showed the same, or it did not settle."""
        result = self.check(from_s=hour_s, to_s=hour_s + HOUR_S, deep=deep)
        return result.checks[0] if result.checks else _nothing(hour_s)

    def run(
        self, *, from_s: int, to_s: int, deep: bool = False, limit: Callable[[], None] = no_limit
    ) -> Reconciliation:
        """`check`, and tell people about what is different.

        Raises:
            UnavailableError: An hour could not be read.
            ScanTooLongError: As `limit` says.
        """
        result = self.check(from_s=from_s, to_s=to_s, deep=deep, limit=limit)
        self.tell(len(result.checks), result.different)
        return result

    def tell(self, hours: int, different: Sequence[HourCheck]) -> None:
        """Count what was compared, and page for what is different."""
        self.metrics.count(metric_names.RECONCILED_HOURS, hours)
        self.metrics.count(metric_names.RECONCILIATION_DIFFERENCES, len(different))
        for check in different[:_HOURS_NAMED]:
            self.alerts.send("page", "Totals differ", alert_fields(check, len(different)))

    def check(
        self, *, from_s: int, to_s: int, deep: bool = False, limit: Callable[[], None] = no_limit
    ) -> Reconciliation:
        """Compare every hour of `[from_s, to_s)` in which anything is booked anywhere."""
        hours = self.view.hours(from_s=from_s, to_s=to_s)
        first = self.measure(hours, from_s=from_s, to_s=to_s, deep=deep, limit=limit)
        checks = dict(first.checks)
        different: dict[int, HourCheck] = {}
        doubtful = [hour_s for hour_s, check in checks.items() if not check.agrees]
        for _ in range(self.passes - 1):
            if not doubtful:
                break
            self.clock.sleep_ms(self.wait_ms)
            again = self.measure(
                doubtful, from_s=min(doubtful), to_s=max(doubtful) + 1, deep=True, only_these=True
            ).checks
            for hour_s in doubtful:
                if again[hour_s].differences and again[hour_s].confirms(checks[hour_s]):
                    different[hour_s] = again[hour_s]
                checks[hour_s] = again[hour_s]
            doubtful = [h for h in doubtful if h not in different and not checks[h].agrees]
        return Reconciliation(
            checks=tuple(checks[hour_s] for hour_s in sorted(checks)),
            different=tuple(different[hour_s] for hour_s in sorted(different)),
            unsettled=tuple(checks[hour_s] for hour_s in sorted(doubtful)),
            markers=first.markers,
        )

    def measure(
        self,
        hours: Iterable[int],
        *,
        from_s: int,
        to_s: int,
        deep: bool,
        only_these: bool = False,
        limit: Callable[[], None] = no_limit,
    ) -> Measurement:
        """One pass: the hours named, and those of `[from_s, to_s)` that only usage or markers know.

        The order is the protocol's: sources, usage, sources again, usage again.
        """
        unfinished = waiting_commits(self.items, self.shards).open_hours
        before = {hour_s: self.view.hour_snapshot(hour_s) for hour_s in hours}
        usage = survey_usage(self.items, from_s=from_s, to_s=to_s, limit=limit)
        named = frozenset(before) if deep else frozenset()
        markers = survey_markers(self.items, detailed=named, limit=limit)
        if not only_these:
            elsewhere = {*usage, *(h for h in markers.hours if from_s <= h < to_s)} - set(before)
            # They had no source when the pass began; if they have one now, they changed and are not settled.
            before |= {hour_s: _empty(hour_s) for hour_s in elsewhere}
        rows = {hour_s: self._rows(hour_s) for hour_s in before} if deep else {}
        batches = {hour_s: self._batches(hour_s) for hour_s in named}
        after = {hour_s: self.view.hour_snapshot(hour_s) for hour_s in before}
        usage_after = survey_usage(self.items, from_s=from_s, to_s=to_s, limit=limit)
        unfinished |= waiting_commits(self.items, self.shards).open_hours
        checks = {}
        for hour_s in sorted(before):
            booked = usage.get(hour_s, HourUsage())
            same = before[hour_s].keys == after[hour_s].keys
            same = same and booked.revs == usage_after.get(hour_s, HourUsage()).revs
            reading = HourReading(
                state=after[hour_s],
                settled=same and hour_s not in unfinished,
                usage=booked,
                markers=self._known_markers(hour_s, markers),
                rows=rows.get(hour_s),
                marked=markers.batches.get(hour_s, {}),
                batches=batches.get(hour_s, {}),
            )
            checks[hour_s] = reading.check()
        return Measurement(checks=checks, usage=usage_after, markers=markers)

    def look(self, hour_s: int, accounts: frozenset[str]) -> tuple[HourCheck, HourUsage]:
        """One deep pass over one hour's usage and rows, without markers and without reading the whole tables.

        Args:
            hour_s: The hour.
            accounts: Whose usage is read beside that of accounts that have rows.
        """
        before = self.view.hour_snapshot(hour_s)
        # Asked before usage is read: what is applied by then is booked whole.
        unfinished = self._has_open_commit(before)
        rows = self._rows(hour_s)
        accounts = accounts.union(key.account_id for key in rows)
        usage = survey_hour(self.items, hour_s, accounts)
        after = self.view.hour_snapshot(hour_s)
        same = before.keys == after.keys and usage.revs == survey_hour(self.items, hour_s, accounts).revs
        reading = HourReading(
            state=after,
            settled=same and not unfinished,
            usage=usage,
            markers=None,
            rows=rows,
            marked={},
            batches={},
        )
        return reading.check(), usage

    def _has_open_commit(self, state: HourState) -> bool:
        """Whether a commit of the hour is open, without reading all that is pending.

        The hour's pointers name every one that matters: a commit books usage only after its pointers, and an open one
        is in no run.
        """
        staged = [commit_key(commit_id_of(source.key)) for source in state.sources if source.staged]
        found = self.items.get_many(Table.LEDGER, staged)
        return any(CommitRecord.from_item(item).state == "open" for item in found.values())

    def _rows(self, hour_s: int) -> dict[UsageKey, Total]:
        return usage_of(hour_s, self.view.hour_totals(hour_s, USAGE_QUERY, exact=True))

    def _batches(self, hour_s: int) -> dict[str, Total]:
        groups = self.view.hour_totals(hour_s, _BY_BATCH, exact=True)
        return {str(group[0]): total for group, total in groups.items()}

    def _known_markers(self, hour_s: int, markers: MarkerSurvey) -> Total | None:
        """None if a marker of the hour can have expired: it was written an hour before it at the earliest."""
        if hour_s - HOUR_S + self.marker_life_s <= self.clock.now_ms() // 1000:
            return None
        return markers.hours.get(hour_s, ZERO)


def _empty(hour_s: int) -> HourState:
    return HourState(hour_s=hour_s, sources=(), keys=frozenset())


def _nothing(hour_s: int) -> HourCheck:
    return HourCheck(hour_s=hour_s, settled=True, deep=False, markers=ZERO, usage=ZERO, rows=ZERO, differences=())

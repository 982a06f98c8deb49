"""The reconciler: hour by hour, markers = usage = lake and staging, in rows and bytes, tolerance 0 (I2).

docs/protocol.md, Reconcile. One pass reads the hour's sources, the usage table, both again, and counts only if neither
changed and no commit of the hour is open. An alarm needs two passes, a minute apart, with the same difference.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from metering.domain.hours import rfc3339
from metering.domain.lake import USAGE_QUERY, HourState, RowQuery, usage_of
from metering.domain.usage import ZERO, Total, UsageKey
from metering.units import DAY_S, HOUR_S
from metering.usecases.freshness import waiting_commits
from metering.usecases.survey import HourUsage, MarkerSurvey, survey_hour, survey_markers, survey_usage
from metering.usecases.verification import Difference

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from metering.ports import Alerts, Clock, ItemStore, Metrics
    from metering.usecases.lake_view import LakeView

_BY_BATCH = RowQuery(columns=("batch_id",))
# Alerts name so many hours; all of them are counted.
_HOURS_NAMED = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class HourCheck:
    """One booked hour, as one pass found it.

    Attributes:
        settled: Nothing changed while it was read and no commit of it is open; only then the figures are comparable.
        markers: None where markers may have expired.
        rows: Lake and staging: counted from the rows if `deep`, else as the ledger says.
        differences: By key and by batch if `deep`, else one for the hour.
    """

    hour_s: int
    settled: bool
    deep: bool
    markers: Total | None
    usage: Total
    rows: Total
    differences: tuple[Difference, ...]

    @property
    def agrees(self) -> bool:
        """Settled, and all three are equal."""
        return self.settled and not self.differences

    def confirms(self, other: HourCheck) -> bool:
        """Whether both passes show the same difference."""
        if not (self.settled and other.settled):
            return False
        if self.deep and other.deep:
            return _gaps(self.differences) == _gaps(other.differences)
        return self._hour_gaps() == other._hour_gaps()

    def _hour_gaps(self) -> tuple[Total, Total | None]:
        return _less(self.usage, self.rows), None if self.markers is None else _less(self.markers, self.rows)


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
    shards: int = 1
    marker_life_s: int = 50 * DAY_S
    wait_ms: int = 60_000
    passes: int = 4

    def hour(self, hour_s: int, *, deep: bool = False) -> HourCheck:
        """The last pass over one hour; it agrees, or two passes showed the same, or it did not settle."""
        result = self.check(from_s=hour_s, to_s=hour_s + HOUR_S, deep=deep)
        return result.checks[0] if result.checks else _nothing(hour_s)

    def run(self, *, from_s: int, to_s: int, deep: bool = False) -> Reconciliation:
        """`check`, and tell people about what is different.

        Raises:
            UnavailableError: An hour could not be read.
        """
        result = self.check(from_s=from_s, to_s=to_s, deep=deep)
        self.metrics.count("ReconciledHours", len(result.checks))
        self.metrics.count("ReconciliationDifferencesFound", len(result.different))
        for check in result.different[:_HOURS_NAMED]:
            self.alerts.send("page", "Totals differ", _alert_fields(check, len(result.different)))
        return result

    def check(self, *, from_s: int, to_s: int, deep: bool = False) -> Reconciliation:
        """Compare every hour of `[from_s, to_s)` in which anything is booked anywhere."""
        first = self.measure(self.view.hours(from_s=from_s, to_s=to_s), from_s=from_s, to_s=to_s, deep=deep)
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
        self, hours: Iterable[int], *, from_s: int, to_s: int, deep: bool, only_these: bool = False
    ) -> Measurement:
        """One pass: the hours named, and those of `[from_s, to_s)` that only usage or markers know.

        The order is the protocol's: sources, usage, sources again, usage again.
        """
        unfinished = waiting_commits(self.items, self.shards).open_hours
        before = {hour_s: self.view.hour_exact(hour_s) for hour_s in hours}
        usage = survey_usage(self.items, from_s=from_s, to_s=to_s)
        named = frozenset(before) if deep else frozenset()
        markers = survey_markers(self.items, detailed=named)
        if not only_these:
            elsewhere = {*usage, *(h for h in markers.hours if from_s <= h < to_s)} - set(before)
            # They had no source when the pass began; if they have one now, they changed and are not settled.
            before |= {hour_s: _empty(hour_s) for hour_s in elsewhere}
        rows = {hour_s: self._rows(hour_s) for hour_s in before} if deep else {}
        batches = {hour_s: self._batches(hour_s) for hour_s in named}
        after = {hour_s: self.view.hour_exact(hour_s) for hour_s in before}
        usage_after = survey_usage(self.items, from_s=from_s, to_s=to_s)
        unfinished |= waiting_commits(self.items, self.shards).open_hours
        checks = {}
        for hour_s in sorted(before):
            booked = usage.get(hour_s, HourUsage())
            same = before[hour_s].keys == after[hour_s].keys
            same = same and booked.revs == usage_after.get(hour_s, HourUsage()).revs
            reading = _Reading(
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
        unfinished = waiting_commits(self.items, self.shards).open_hours
        before = self.view.hour_exact(hour_s)
        rows = self._rows(hour_s)
        accounts = accounts.union(key.account_id for key in rows)
        usage = survey_hour(self.items, hour_s, accounts)
        after = self.view.hour_exact(hour_s)
        same = before.keys == after.keys and usage.revs == survey_hour(self.items, hour_s, accounts).revs
        unfinished |= waiting_commits(self.items, self.shards).open_hours
        reading = _Reading(
            state=after,
            settled=same and hour_s not in unfinished,
            usage=usage,
            markers=None,
            rows=rows,
            marked={},
            batches={},
        )
        return reading.check(), usage

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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reading:
    """What a pass read of one hour. `rows` is None unless it was deep."""

    state: HourState
    settled: bool
    usage: HourUsage
    markers: Total | None
    rows: Mapping[UsageKey, Total] | None
    marked: Mapping[str, Total]
    batches: Mapping[str, Total]

    def check(self) -> HourCheck:
        hour_s, ledger = self.state.hour_s, self.state.total
        rows = ledger if self.rows is None else _sum(self.rows)
        found = list(self._keyed() if self.rows is not None else self._hourly(ledger))
        if self.rows is not None and rows != ledger:
            # The files do not hold what the ledger says that they hold.
            found.append(Difference(between="usage/rows", hour_s=hour_s, expected=ledger, found=rows))
        return HourCheck(
            hour_s=hour_s,
            settled=self.settled,
            deep=self.rows is not None,
            markers=self.markers,
            usage=self.usage.total,
            rows=rows,
            differences=tuple(found),
        )

    def _hourly(self, rows: Total) -> Iterable[Difference]:
        hour_s = self.state.hour_s
        if self.usage.total != rows:
            yield Difference(between="usage/rows", hour_s=hour_s, expected=self.usage.total, found=rows)
        if self.markers is not None and self.markers != rows:
            yield Difference(between="markers/rows", hour_s=hour_s, expected=self.markers, found=rows)

    def _keyed(self) -> Iterable[Difference]:
        hour_s, rows = self.state.hour_s, self.rows or {}
        for key in sorted(self.usage.totals.keys() | rows.keys(), key=str):
            booked, visible = self.usage.totals.get(key, ZERO), rows.get(key, ZERO)
            if booked != visible:
                yield Difference(between="usage/rows", hour_s=hour_s, key=key, expected=booked, found=visible)
        if self.markers is None:
            return
        if not self.batches and self.markers != _sum(rows):
            yield Difference(between="markers/rows", hour_s=hour_s, expected=self.markers, found=_sum(rows))
        for batch_id in sorted(self.marked.keys() | self.batches.keys()):
            marked, shown = self.marked.get(batch_id, ZERO), self.batches.get(batch_id, ZERO)
            if marked != shown:
                yield Difference(between="markers/rows", hour_s=hour_s, batch_id=batch_id, expected=marked, found=shown)


def _empty(hour_s: int) -> HourState:
    return HourState(hour_s=hour_s, sources=(), keys=frozenset())


def _nothing(hour_s: int) -> HourCheck:
    return HourCheck(hour_s=hour_s, settled=True, deep=False, markers=ZERO, usage=ZERO, rows=ZERO, differences=())


def _sum(totals: Mapping[UsageKey, Total]) -> Total:
    return Total(sum(total.bytes for total in totals.values()), sum(total.records for total in totals.values()))


def _less(left: Total, right: Total) -> Total:
    return Total(left.bytes - right.bytes, left.records - right.records)


def _gaps(differences: Iterable[Difference]) -> dict[tuple[str, str, UsageKey | None], Total]:
    return {(d.between, d.batch_id, d.key): _less(d.found, d.expected) for d in differences}


def _alert_fields(check: HourCheck, hours: int) -> dict[str, str | int]:
    worst = check.differences[0]
    return {
        "hour": rfc3339(check.hour_s),
        "between": worst.between,
        "key": describe(worst),
        "expected_bytes": str(worst.expected.bytes),
        "found_bytes": str(worst.found.bytes),
        "expected_records": worst.expected.records,
        "found_records": worst.found.records,
        "differences_in_hour": len(check.differences),
        "hours_different": hours,
    }


def describe(difference: Difference) -> str:
    """What differs: a usage key, a batch, or the hour as a whole."""
    if difference.key is not None:
        key = difference.key
        corrects = () if key.corrects_s is None else (f"corrects {rfc3339(key.corrects_s)}",)
        return " ".join(
            (key.account_id, key.usage_type, key.service, f"{key.from_location}>{key.to_location}", *corrects)
        )
    return f"batch {difference.batch_id}" if difference.batch_id else "the hour"

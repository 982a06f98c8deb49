"""Permanently close a billing month, and verify later that its files are unchanged (docs/protocol.md, period close)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from metering.audit.census_state import CensusState, HourStep, tell_hour
from metering.billing.freezing import MonthFreezer, MonthVerifier, NotClosable, PeriodNotClosableError
from metering.errors import ConditionFailedError
from metering.hours import month_bounds_s, month_of, rfc3339
from metering.ledger import booked_hours
from metering.ledger.commits import known_shards, waiting_commits
from metering.ledger.periods import (
    FrozenHour,
    FrozenMonth,
    Period,
    first_closed_month,
    period_key,
    periods_of,
    read_frozen_month,
)
from metering.stores.objects import ObjectStore, closed_month_key
from metering.stores.writes import Absent, Equals, ItemStore, Put, Table, Update
from metering.units import DAY_S
from metering.usage.totals import ZERO, Total

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from metering.audit import hour_check
    from metering.audit.reconciler import Reconciler
    from metering.lake import ports
    from metering.lake.compactor import Compactor
    from metering.lake.view import LakeView
    from metering.rollup.rollup import Rollup
    from metering.stores.clock import Alerts, Clock, Deadline, Retrier


@dataclass(frozen=True, slots=True, kw_only=True)
class MonthState:
    """A month of a region: `open`, `closing` or `closed`.

    Attributes:
        total: Total of the frozen month; None while the month is not closed.
        closed_s: Time at which the month was frozen, epoch seconds; None while the month is not closed.
    """

    month: str
    state: str
    total: Total | None = None
    closed_s: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PeriodCloser:
    """Closes billing months and verifies closed ones.

    Attributes:
        wait_s: Minimum time between a month's end and its close; it must exceed the clock skew.
    """

    items: ItemStore
    objects: ObjectStore
    view: LakeView
    reader: ports.LakeReader
    files: ports.FrozenFiles
    rollup: Rollup
    compactor: Compactor
    reconciler: Reconciler
    clock: Clock
    retrier: Retrier
    alerts: Alerts
    shards: int
    wait_s: int = 3 * DAY_S

    def close(
        self,
        month: str,
        deadline: Deadline,
        tell: Callable[[HourStep], None] = lambda _step: None,
        *,
        counted: CensusState | None = None,
        keep: Callable[[CensusState], None] = lambda _state: None,
    ) -> FrozenMonth:
        """Close a month. After an error or a crash, the next call resumes the close.

        Args:
            month: `2026-10`.
            deadline: End of the process.
            tell: Called after each compared hour and after each frozen hour.
            counted: Counts of an earlier call for this month, which this call resumes; None to start. The close stops
                if an hour that agreed in that call has other rows now.
            keep: Called with the counts so far, after each segment of a table and after each hour.

        Raises:
            PeriodNotClosableError: The close is too early, its deadline passed, or totals differ (an alert was sent).
            ValueError: `month` is not a month such as `2026-11`, or `counted` is of another month.
        """
        first_s, after_s = month_bounds_s(month)
        if self.clock.now_ms() // 1000 < after_s + self.wait_s:
            raise PeriodNotClosableError(
                month, NotClosable.TOO_EARLY, f"it can be closed from {rfc3339(after_s + self.wait_s)} on"
            )
        known_period = self.show(month)
        if known_period is None or known_period.state != "closed":
            # A month without some of its rows would be frozen as less than it was.
            self.view.kept(first_s)
        period = self._begin(month)
        if period.state == "closed":
            return FrozenMonth.from_json(self.objects.get(period.frozen_key), period.frozen_key)
        self._book_all(month, deadline)
        known = self._check(month, tell, counted, keep)
        hours = self.view.hours(from_s=first_s, to_s=after_s)
        # The frozen hours come from pending rows and the lake; the checked hours also come from usage and markers.
        self._stop_if_wrong(month, [h for h, check in known.items() if check.usage != ZERO and h not in hours])
        frozen: list[FrozenHour] = []
        for hour_s in hours:
            frozen.append(self._frozen_hour(hour_s, month, known.get(hour_s)))
            tell(HourStep(doing="frozen", hour_s=hour_s, done=len(frozen), hours=len(hours)))
        closed = self._freezer.month(month, frozen)
        self._mark_closed(month)
        return closed

    def show(self, month: str) -> Period | None:
        item = self.items.get(Table.LEDGER, period_key(month))
        return None if item is None else Period.from_item(item)

    def frozen(self, month: str) -> FrozenMonth | None:
        return self.retrier.call(lambda: read_frozen_month(self.items, self.objects, month))

    def months(self) -> list[MonthState]:
        """Months from the first month with rows until now, newest first."""
        first_s, month = self.view.first_hour_s(), month_of(self.clock.now_ms() // 1000)
        first = min(first_closed_month(self.objects) or month, month if first_s is None else month_of(first_s))
        names = [month]
        while first < names[-1]:
            names.append(month_of(month_bounds_s(names[-1])[0] - 1))
        known = periods_of(self.items, names)
        return [self._month_state(name, known.get(name)) for name in names]

    def _month_state(self, month: str, period: Period | None) -> MonthState:
        if period is None or period.state != "closed":
            return MonthState(month=month, state="open" if period is None else period.state)
        frozen, info = self.frozen(month), self.objects.head(period.frozen_key)
        return MonthState(
            month=month,
            state=period.state,
            total=None if frozen is None else frozen.total,
            closed_s=None if info is None else info.modified_s,
        )

    def verify(self, month: str) -> list[str]:
        """Recompute a closed month from its files; returns the problems, one sentence each.

        Raises:
            PeriodNotClosableError: The month is not closed.
        """
        closed = self.frozen(month)
        if closed is None:
            raise PeriodNotClosableError(month, NotClosable.NOT_CLOSED, "there is nothing to verify")
        verifier = MonthVerifier(objects=self.objects, view=self.view, reader=self.reader, files=self.files)
        return list(verifier.problems(closed))

    def _begin(self, month: str) -> Period:
        period = Period(month=month, state="closing")
        put = Put(table=Table.LEDGER, item=period.to_item(), condition=Absent())
        try:
            self.retrier.call(lambda: self.items.put(put))
        except ConditionFailedError as error:
            return period if error.existing is None else self.show(month) or period
        return period

    def _book_all(self, month: str, deadline: Deadline) -> None:
        """Roll up and compact until no commit with rows of the month is waiting or pending (P34)."""
        while self._unplaced(month):
            if not self.rollup.run(deadline, only_waiting=True).finished:
                raise PeriodNotClosableError(
                    month, NotClosable.ROLLUP_UNFINISHED, "the roll-up needs more time; run the command again"
                )
            if not self.compactor.run(deadline, closing=frozenset([month])).finished:
                raise PeriodNotClosableError(
                    month, NotClosable.COMPACTION_UNFINISHED, "compaction needs more time; run the command again"
                )
            if self._unplaced(month):
                # Another process is compacting this month at the moment.
                if deadline.remaining_ms() < self.compactor.reserve_ms:
                    raise PeriodNotClosableError(
                        month, NotClosable.COMPACTION_UNFINISHED, "a commit of it is in no lake file; run it again"
                    )
                self.clock.sleep_ms(1_000)

    def _unplaced(self, month: str) -> bool:
        """Whether some commit has rows of the month that are not yet in lake files.

        Both lists are read completely, in the order in which commits move through them (P2).
        """
        waits = any(
            month_of(hour_s) == month for entry in waiting_commits(self.items, self.shards) for hour_s in entry.totals
        )
        return waits or any(
            month_of(hour_s) == month
            for shard in known_shards(self.items, self.shards)
            for item in booked_hours.pending_in(self.items, shard)
            for hour_s in booked_hours.Pending.from_item(item).hours
        )

    def _check(
        self,
        month: str,
        tell: Callable[[HourStep], None],
        counted: CensusState | None,
        keep: Callable[[CensusState], None],
    ) -> dict[int, hour_check.HourCheck]:
        """Compare markers, usage and rows by a deep census, which keeps only one hour in memory (P35)."""
        first_s, after_s = month_bounds_s(month)
        state = counted
        if state is None:
            state = self.reconciler.begin(from_s=first_s, to_s=after_s, deep=True, sources=False)
            state.digests = True
        if not (state.deep and state.digests) or (state.from_s, state.to_s) != (first_s, after_s):
            raise ValueError("what was counted is of another scan")

        def told(now: CensusState) -> None:
            keep(now)
            tell_hour(now, "compared", tell)

        self.reconciler.census.go_on(state, tell=told)
        result = self.reconciler.judge(state)
        self.reconciler.tell(len(result.checks), result.different)
        if result.different:
            hours = ", ".join(rfc3339(check.hour_s) for check in result.different[:5])
            raise PeriodNotClosableError(
                month,
                NotClosable.TOTALS_DIFFER,
                f"markers, usage and rows differ in {len(result.different)} hours ({hours}); see the alert",
            )
        if result.unstable:
            raise PeriodNotClosableError(
                month, NotClosable.HOURS_UNSTABLE, f"{len(result.unstable)} hours did not settle; run the command again"
            )
        result.markers.contradictions.tell()
        return {check.hour_s: check for check in result.checks}

    def _frozen_hour(self, hour_s: int, month: str, check: hour_check.HourCheck | None) -> FrozenHour:
        """Read an hour again, and freeze it if its rows are those that were compared."""
        state = self.view.hour_snapshot(hour_s)
        if not state.published:
            raise PeriodNotClosableError(
                month, NotClosable.HOUR_UNPUBLISHED, f"{rfc3339(hour_s)} is not published; run the command again"
            )
        if check is None or check.usage != state.total:
            self._stop_if_wrong(month, [hour_s])
        files = tuple(source.file for source in sorted(state.sources, key=lambda source: source.key))
        return self._freezer.hour(
            month,
            hour_s,
            files=files,
            kept=self.reconciler.figures.totals.summed(files),
            counted=lambda: self.reader.hour_usage(hour_s, state.sources),
            compared="" if check is None else check.digest,
        )

    def _stop_if_wrong(self, month: str, hours: Iterable[int]) -> None:
        """Stop the close if the hourly totals differ from the totals of usage items and markers."""
        wrong = sorted(hours)
        if not wrong:
            return
        named = ", ".join(map(rfc3339, wrong[:5]))
        fields = {"month": month, "hours": str(len(wrong)), "first": rfc3339(wrong[0])}
        self.alerts.send("page", "A month would be frozen wrong", fields)
        raise PeriodNotClosableError(
            month,
            NotClosable.TOTALS_DIFFER,
            f"{len(wrong)} hours ({named}) would be frozen with other totals than usage and markers have; the month is "
            "not frozen: to see what to do: metering runbook reconciliation-differences",
        )

    @property
    def _freezer(self) -> MonthFreezer:
        return MonthFreezer(objects=self.objects, files=self.files, retrier=self.retrier, alerts=self.alerts)

    def _mark_closed(self, month: str) -> None:
        update = Update(
            table=Table.LEDGER,
            key=period_key(month),
            set={"state": "closed", "manifest": closed_month_key(month)},
            condition=Equals(attribute="state", value="closing"),
        )
        try:
            self.retrier.call(lambda: self.items.update(update))
        except ConditionFailedError:
            # Another process closed the month first, with the same bytes.
            return

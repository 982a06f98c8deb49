"""Close a billing month for good, and verify later that its files still match (docs/protocol.md, period close)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from metering.errors import ConditionFailedError, MeteringError, ObjectDamagedError, ObjectMissingError
from metering.hours import month_bounds_s, month_of, rfc3339
from metering.lake.rows import USAGE_QUERY, usage_of
from metering.ledger.booked_hours import LakeFile, Pending, pending_in
from metering.ledger.frozen_months import FrozenHour, FrozenMonth, read_frozen_month
from metering.ledger.periods import Period, period_key
from metering.ledger.shards import known_shards
from metering.stores.bucket import closed_month_key, lake_prefix
from metering.stores.writes import Absent, Equals, Put, Table, Update
from metering.units import DAY_S
from metering.usage.totals import ZERO

if TYPE_CHECKING:
    from collections.abc import Iterator

    from metering.audit.reconcile.reconciler import Reconciler
    from metering.lake.compactor import Compactor
    from metering.lake.ports import LakeReader
    from metering.lake.view import LakeView
    from metering.ledger.row_sources import HourState
    from metering.stores.clock import Clock, Deadline
    from metering.stores.items import ItemStore
    from metering.stores.objects import ObjectStore
    from metering.stores.retrying import Retrier
    from metering.stores.telemetry import Alerts
    from metering.usage.totals import Total, UsageKey


class NotClosable(StrEnum):
    """Why a month cannot be closed, or verified, now."""

    TOO_EARLY = "too_early"
    COMPACTION_UNFINISHED = "compaction_unfinished"
    COMMIT_OPEN = "commit_open"
    TOTALS_DIFFER = "totals_differ"
    HOURS_UNSTABLE = "hours_unstable"
    HOUR_UNPUBLISHED = "hour_unpublished"
    NOT_CLOSED = "not_closed"


class PeriodNotClosableError(MeteringError):
    """A month cannot be closed now. Nothing is lost; `why` says what to do about it.

    Attributes:
        month: `2026-11`.
        cause: What code decides by.
        why: One sentence.
    """

    def __init__(self, month: str, cause: NotClosable, why: str) -> None:
        super().__init__(month, cause, why)
        self.month = month
        self.cause = cause
        self.why = why

    def __str__(self) -> str:
        return f"{self.month} is not closed: {self.why}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PeriodCloser:
    """Closes billing months and verifies closed ones.

    Attributes:
        wait_s: Least time between the end of a month and its close. Workers' clocks differ by less.
    """

    items: ItemStore
    objects: ObjectStore
    view: LakeView
    reader: LakeReader
    compactor: Compactor
    reconciler: Reconciler
    clock: Clock
    retrier: Retrier
    alerts: Alerts
    shards: int
    wait_s: int = 3 * DAY_S

    def close(self, month: str, deadline: Deadline) -> FrozenMonth:
        """Close a month. After an error or a crash, the next call continues at the same place.

        Raises:
            PeriodNotClosableError: It is too early, time ran out, or totals differ (an alert was sent).
            ValueError: `month` is not a month such as `2026-11`.
        """
        first_s, after_s = month_bounds_s(month)
        if self.clock.now_ms() // 1000 < after_s + self.wait_s:
            raise PeriodNotClosableError(
                month, NotClosable.TOO_EARLY, f"it can be closed from {rfc3339(after_s + self.wait_s)} on"
            )
        period = self._begin(month)
        if period.state == "closed":
            return FrozenMonth.from_json(self.objects.get(period.frozen_key), period.frozen_key)
        while self._pending(month):
            if not self.compactor.run(deadline, closing=frozenset([month])).finished:
                raise PeriodNotClosableError(
                    month, NotClosable.COMPACTION_UNFINISHED, "compaction needs more time; run the command again"
                )
            if self._pending(month):
                # An open commit could not be finished now.
                if deadline.remaining_ms() < self.compactor.reserve_ms:
                    raise PeriodNotClosableError(
                        month, NotClosable.COMMIT_OPEN, "a commit of it is still open; run the command again"
                    )
                self.clock.sleep_ms(1_000)
        known = self._check(month, first_s, after_s)
        hours = [self._frozen_hour(hour_s, month) for hour_s in self.view.hours(from_s=first_s, to_s=after_s)]
        self._compare(month, hours, known)
        closed = FrozenMonth(month=month, hours=tuple(hours))
        self._freeze(closed)
        return closed

    def show(self, month: str) -> Period | None:
        """State of the month; None while it is open."""
        item = self.items.get(Table.LEDGER, period_key(month))
        return None if item is None else Period.from_item(item)

    def frozen(self, month: str) -> FrozenMonth | None:
        """The frozen month, or None if the month is not closed."""
        return self.retrier.call(lambda: read_frozen_month(self.items, self.objects, month))

    def verify(self, month: str) -> list[str]:
        """Recompute a closed month from its files; returns the problems, one sentence each.

        Raises:
            PeriodNotClosableError: The month is not closed.
        """
        closed = self.frozen(month)
        if closed is None:
            raise PeriodNotClosableError(month, NotClosable.NOT_CLOSED, "there is nothing to verify")
        first_s, after_s = month_bounds_s(month)
        problems = [problem for hour in closed.hours for problem in self._verify_hour(hour)]
        known = {hour.hour_s for hour in closed.hours}
        for hour_s in self.view.hours(from_s=first_s, to_s=after_s):
            if hour_s not in known:
                problems.append(f"{rfc3339(hour_s)} was empty when the month was closed, and is not any more")
        return problems

    def _begin(self, month: str) -> Period:
        period = Period(month=month, state="closing")
        put = Put(table=Table.LEDGER, item=period.to_item(), condition=Absent())
        try:
            self.retrier.call(lambda: self.items.put(put))
        except ConditionFailedError as error:
            return period if error.existing is None else self.show(month) or period
        return period

    def _pending(self, month: str) -> bool:
        """Whether a commit has an hour of the month that no run has taken. Only the pending list is complete."""
        return any(
            month_of(hour_s) == month
            for shard in known_shards(self.items, self.shards)
            for item in pending_in(self.items, shard)
            for hour_s in Pending.from_item(item).hours
        )

    def _check(self, month: str, first_s: int, after_s: int) -> dict[int, Total]:
        """Usage total of each hour of the month, after markers, usage and rows were found equal."""
        result = self.reconciler.run(from_s=first_s, to_s=after_s, deep=True)
        result.markers.contradictions.tell()
        if result.different:
            hours = ", ".join(rfc3339(check.hour_s) for check in result.different[:5])
            raise PeriodNotClosableError(
                month,
                NotClosable.TOTALS_DIFFER,
                f"markers, usage and rows differ in {len(result.different)} hours ({hours}); see the alert",
            )
        if result.unstable:
            raise PeriodNotClosableError(
                month,
                NotClosable.HOURS_UNSTABLE,
                f"{len(result.unstable)} hours did not settle; run the command again",
            )
        return {check.hour_s: check.usage for check in result.checks}

    def _compare(self, month: str, hours: list[FrozenHour], known: dict[int, Total]) -> None:
        """Check that the hours to freeze are those of usage and markers, with the same totals.

        The hours to freeze are listed from pending and the lake; the known hours also from usage and markers.
        """
        frozen = {hour.hour_s: hour.total for hour in hours}
        wrong = [h for h in sorted(known | frozen) if known.get(h, ZERO) != frozen.get(h, ZERO)]
        if not wrong:
            return
        named = ", ".join(map(rfc3339, wrong[:5]))
        fields = {"month": month, "hours": str(len(wrong)), "first": rfc3339(wrong[0])}
        self.alerts.send("page", "A month would be frozen wrong", fields)
        raise PeriodNotClosableError(
            month,
            NotClosable.TOTALS_DIFFER,
            f"{len(wrong)} hours ({named}) would be frozen with other totals than usage and markers have; nothing is "
            "frozen: see docs/runbooks/reconciliation-differences.md",
        )

    def _frozen_hour(self, hour_s: int, month: str) -> FrozenHour:
        state = self.view.hour_snapshot(hour_s)
        if not state.published:
            raise PeriodNotClosableError(
                month, NotClosable.HOUR_UNPUBLISHED, f"{rfc3339(hour_s)} is not published; run the command again"
            )
        files = tuple(
            LakeFile(key=source.key, rows=source.rows, bytes=source.bytes)
            for source in sorted(state.sources, key=lambda source: source.key)
        )
        return FrozenHour(hour_s=hour_s, files=files, usage=self._usage(state))

    def _usage(self, state: HourState) -> dict[UsageKey, Total]:
        return usage_of(state.hour_s, self.reader.totals(state.sources, USAGE_QUERY))

    def _freeze(self, closed: FrozenMonth) -> None:
        key, body = closed_month_key(closed.month), closed.to_json()
        self.retrier.call(lambda: self.objects.put(key, body, if_absent=True))
        update = Update(
            table=Table.LEDGER,
            key=period_key(closed.month),
            set={"state": "closed", "manifest": key},
            condition=Equals(attribute="state", value="closing"),
        )
        try:
            self.retrier.call(lambda: self.items.update(update))
        except ConditionFailedError:
            # Another process closed it first, with the same bytes.
            return

    def _verify_hour(self, hour: FrozenHour) -> Iterator[str]:
        label = rfc3339(hour.hour_s)
        listed = {info.key for info in self.objects.list(lake_prefix(hour.hour_s))}
        for extra in sorted(listed - {file.key for file in hour.files}):
            yield f"{label}: {extra} was added after the month was closed"
        try:
            usage = usage_of(hour.hour_s, self.reader.totals(hour.sources, USAGE_QUERY))
        except (ObjectMissingError, ObjectDamagedError) as error:
            yield f"{label}: {error}"
            return
        for key in sorted(usage.keys() | hour.usage.keys(), key=str):
            if usage.get(key) != hour.usage.get(key):
                files, frozen = usage.get(key), hour.usage.get(key)
                yield f"{label}: {key.account_id} {key.usage_type}: the files say {files}, the manifest {frozen}"

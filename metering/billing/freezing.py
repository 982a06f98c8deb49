"""Write and verify a closed month, and the errors of both operations (docs/protocol.md, closing a month)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from typing import TYPE_CHECKING, NoReturn

from metering.errors import MeteringError, ObjectDamagedError, ObjectMissingError
from metering.hours import month_bounds_s, rfc3339
from metering.lake.ports import FrozenFiles, LakeReader, UsageFile, UsageRows, usage_digest
from metering.ledger.periods import FrozenHour, FrozenMonth, FrozenRows
from metering.stores.objects import (
    CLOSED_PREFIX,
    ObjectStore,
    closed_accounts_key,
    closed_days_key,
    closed_hour_key,
    closed_month_key,
    lake_prefix,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from metering.lake.view import LakeView
    from metering.ledger import booked_hours
    from metering.stores import clock
    from metering.usage.totals import Total, UsageKey


# At most this many keys of an hour are listed; the rest are only counted.
_KEYS_NAMED = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class MonthVerifier:
    """Compares a closed month's manifest with the current objects."""

    objects: ObjectStore
    view: LakeView
    reader: LakeReader
    files: FrozenFiles

    def problems(self, closed: FrozenMonth) -> Iterator[str]:
        # Of hours whose rows S3 has deleted, the frozen files are all that there is.
        kept_s = self.view.kept(0)
        for hour in closed.hours:
            if hour.hour_s >= kept_s:
                yield from self._hour(closed, hour)
            else:
                yield from (f"{rfc3339(hour.hour_s)}: {each}" for each in _damages(self.files, hour.frozen))
        for rows in (closed.accounts, closed.days):
            yield from _damages(self.files, rows)
        yield from self._added(closed)
        first_s, after_s = month_bounds_s(closed.month)
        known = {hour.hour_s for hour in closed.hours}
        for hour_s in self.view.hours(from_s=max(first_s, kept_s), to_s=after_s):
            if hour_s not in known:
                yield f"{rfc3339(hour_s)} was empty when the month was closed, and is not any more"

    def _hour(self, closed: FrozenMonth, hour: FrozenHour) -> Iterator[str]:
        label = rfc3339(hour.hour_s)
        listed = {info.key for info in self.objects.list(lake_prefix(hour.hour_s))}
        for extra in sorted(listed - {file.key for file in hour.files}):
            yield f"{label}: {extra} was added after the month was closed"
        damages = list(_damages(self.files, hour.frozen))
        yield from (f"{label}: {damage}" for damage in damages)
        try:
            usage = self.reader.hour_usage(hour.hour_s, hour.sources)
        except (ObjectMissingError, ObjectDamagedError) as error:
            yield f"{label}: {error}"
            return
        if usage_digest(usage) == hour.frozen.digest:
            return
        if damages:
            yield f"{label}: the files have other rows than those that were frozen"
            return
        # Only differing hours are held in memory.
        yield from _differences(label, dict(usage), dict(self.files.hour(closed, hour.hour_s)))

    def _added(self, closed: FrozenMonth) -> Iterator[str]:
        known = {closed.accounts.key, closed.days.key, *(hour.key for hour in closed.hours)}
        for info in self.objects.list(f"{CLOSED_PREFIX}{closed.month}/"):
            if info.key not in known:
                yield f"{info.key} is not an object of the closed month"


def frozen_damages(files: FrozenFiles, closed: FrozenMonth) -> Iterator[str]:
    """Damaged objects of a closed month; the month's lake files are not read."""
    for rows in (*(hour.frozen for hour in closed.hours), closed.accounts, closed.days):
        if rows is not None:
            yield from _damages(files, rows)


def _damages(files: FrozenFiles, rows: FrozenRows) -> Iterator[str]:
    try:
        found = files.measured(rows.key)
    except (ObjectMissingError, ObjectDamagedError) as error:
        yield str(error)
        return
    if (found.rows, found.digest) != (rows.rows, rows.digest):
        yield f"{rows.key} has other rows than those that were frozen"


def _differences(label: str, usage: Mapping[UsageKey, Total], frozen: Mapping[UsageKey, Total]) -> Iterator[str]:
    wrong = [key for key in sorted(usage.keys() | frozen.keys(), key=str) if usage.get(key) != frozen.get(key)]
    for key in islice(wrong, _KEYS_NAMED):
        yield (
            f"{label}: {key.account_id} {key.usage_type}: the files say {usage.get(key)}, "
            f"the frozen month {frozen.get(key)}"
        )
    if len(wrong) > _KEYS_NAMED:
        yield f"{label}: {len(wrong) - _KEYS_NAMED} more keys differ"


class NotClosable(StrEnum):
    """Reason why a month cannot be closed or verified now."""

    TOO_EARLY = "too_early"
    CHECKLIST = "checklist"
    COMPACTION_UNFINISHED = "compaction_unfinished"
    ROLLUP_UNFINISHED = "rollup_unfinished"
    TOTALS_DIFFER = "totals_differ"
    HOURS_UNSTABLE = "hours_unstable"
    HOUR_UNPUBLISHED = "hour_unpublished"
    OBJECT_DIFFERS = "object_differs"
    NOT_CLOSED = "not_closed"


class PeriodNotClosableError(MeteringError):
    """A month cannot be closed now; the error contains the reason. Nothing is lost."""

    def __init__(self, month: str, cause: NotClosable, why: str) -> None:
        super().__init__(month, cause, why)
        self.month = month
        self.cause = cause
        self.why = why

    def __str__(self) -> str:
        return f"{self.month} is not closed: {self.why}"


@dataclass(frozen=True, slots=True, kw_only=True)
class MonthFreezer:
    """Puts the objects of a closed month in the order that the protocol requires."""

    objects: ObjectStore
    files: FrozenFiles
    retrier: clock.Retrier
    alerts: clock.Alerts

    def hour(
        self,
        month: str,
        hour_s: int,
        *,
        files: tuple[booked_hours.LakeFile, ...],
        kept: UsageRows,
        counted: Callable[[], UsageRows],
        compared: str,
    ) -> FrozenHour:
        """Freeze the totals of an hour.

        Args:
            month: The month that is being closed.
            hour_s: One of its hours.
            files: The lake files of the hour.
            kept: The hour's totals, as stored beside the lake files.
            counted: Function that computes the hour's totals from its rows. Called only if `kept` differs from
                `compared`.
            compared: Digest of the totals that were found equal to the totals of usage and markers.

        Raises:
            PeriodNotClosableError: The rows differ from the compared rows, or from rows that were put before.
        """
        file = self.files.hour_file(kept)
        if file.digest != compared:
            file = self.files.hour_file(counted())
        if file.digest != compared:
            self._stop(month, f"the rows of {rfc3339(hour_s)} are not those that usage and markers were compared with")
        frozen = _rows(closed_hour_key(month, hour_s), file)
        self._put(month, frozen, file)
        return FrozenHour(hour_s=hour_s, files=files, frozen=frozen)

    def month(self, month: str, hours: Sequence[FrozenHour]) -> FrozenMonth:
        """Put the objects of the whole month, and the manifest last.

        Raises:
            PeriodNotClosableError: An object of the month already exists, but with other rows.
        """
        try:
            with self.files.month_files(hours) as made:
                accounts = _rows(closed_accounts_key(month), made.accounts)
                days = _rows(closed_days_key(month), made.days)
                closed = FrozenMonth(month=month, hours=tuple(hours), accounts=accounts, days=days)
                self._put(month, accounts, made.accounts)
                self._put(month, days, made.days)
        except (ObjectMissingError, ObjectDamagedError) as error:
            self._stop(month, str(error))
        self._put_manifest(closed)
        return closed.closed()

    def _put(self, month: str, rows: FrozenRows, file: UsageFile) -> None:
        """Put an object if it is absent; an existing object must have the same rows."""
        if self.retrier.call(lambda: self.objects.put(rows.key, file.content, if_absent=True)):
            return
        try:
            found = self.retrier.call(lambda: self.files.measured(rows.key))
        except (ObjectMissingError, ObjectDamagedError) as error:
            self._stop(month, str(error))
        if (found.rows, found.digest) != (rows.rows, rows.digest):
            self._stop(month, f"{rows.key} is there already, with other rows than the lake has now")

    def _put_manifest(self, closed: FrozenMonth) -> None:
        key, body = closed_month_key(closed.month), closed.to_json()
        if self.retrier.call(lambda: self.objects.put(key, body, if_absent=True)):
            return
        if self.retrier.call(lambda: self.objects.get(key)) != body:
            self._stop(closed.month, f"{key} is there already, and says something else")

    def _stop(self, month: str, what: str) -> NoReturn:
        self.alerts.send("page", "A month would be frozen wrong", {"month": month, "what": what})
        raise PeriodNotClosableError(
            month,
            NotClosable.OBJECT_DIFFERS,
            f"{what}; the month stays open: to see what to do: metering runbook reconciliation-differences",
        )


def _rows(key: str, file: UsageFile) -> FrozenRows:
    return FrozenRows(key=key, rows=file.rows, digest=file.digest)

"""Write a closed month: its hours, itself by account and by day, the manifest (docs/protocol.md, Period close).

Every object is put if it is absent. One that is there already must have the same rows: it was put by this close before
it died, or by another close of the same month.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from metering.billing.closing.refusals import NotClosable, PeriodNotClosableError
from metering.errors import ObjectDamagedError, ObjectMissingError
from metering.hours import rfc3339
from metering.ledger.frozen_months import FrozenHour, FrozenMonth, FrozenRows
from metering.stores.bucket import closed_accounts_key, closed_days_key, closed_hour_key, closed_month_key

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from metering.lake.ports import FrozenFiles, UsageFile, UsageRows
    from metering.ledger.booked_hours import LakeFile
    from metering.stores.objects import ObjectStore
    from metering.stores.retrying import Retrier
    from metering.stores.telemetry import Alerts


@dataclass(frozen=True, slots=True, kw_only=True)
class MonthFreezer:
    """Puts the objects of a closed month, in the order of the protocol."""

    objects: ObjectStore
    files: FrozenFiles
    retrier: Retrier
    alerts: Alerts

    def hour(
        self,
        month: str,
        hour_s: int,
        *,
        files: tuple[LakeFile, ...],
        kept: UsageRows,
        counted: Callable[[], UsageRows],
        compared: str,
    ) -> FrozenHour:
        """Put the totals of an hour.

        Args:
            month: The month that is closing.
            hour_s: One of its hours.
            files: The lake files of the hour.
            kept: Its totals, as they are kept beside the lake files.
            counted: Counts its totals from the rows. Asked only where the kept ones are not the compared ones.
            compared: Digest of the totals that were found equal to usage and markers.

        Raises:
            PeriodNotClosableError: These are other rows than the compared ones, or than those that were put before.
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
            PeriodNotClosableError: An object of the month is there with other rows.
        """
        try:
            with self.files.month_files(hours) as made:
                accounts, days = (
                    _rows(closed_accounts_key(month), made.accounts),
                    _rows(closed_days_key(month), made.days),
                )
                closed = FrozenMonth(month=month, hours=tuple(hours), accounts=accounts, days=days)
                self._put(month, accounts, made.accounts)
                self._put(month, days, made.days)
        except (ObjectMissingError, ObjectDamagedError) as error:
            self._stop(month, str(error))
        self._put_manifest(closed)
        return closed.closed()

    def _put(self, month: str, rows: FrozenRows, file: UsageFile) -> None:
        """Put an object if it is absent; one that is there must have the same rows."""
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
        if not self.retrier.call(lambda: self.objects.put(key, body, if_absent=True)) and self._kept(key) != body:
            self._stop(closed.month, f"{key} is there already, and says something else")

    def _kept(self, key: str) -> bytes:
        return self.retrier.call(lambda: self.objects.get(key))

    def _stop(self, month: str, what: str) -> NoReturn:
        self.alerts.send("page", "A month would be frozen wrong", {"month": month, "what": what})
        raise PeriodNotClosableError(
            month,
            NotClosable.OBJECT_DIFFERS,
            f"{what}; the month stays open: to see what to do: metering runbook reconciliation-differences",
        )


def _rows(key: str, file: UsageFile) -> FrozenRows:
    return FrozenRows(key=key, rows=file.rows, digest=file.digest)

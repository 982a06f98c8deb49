"""Comparison of one booked hour: the figures that a pass read, and their differences."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from metering.audit.verify.verification import EVERY_ACCOUNT, Difference
from metering.hours import month_of, rfc3339
from metering.lake.usage_digest import in_order, usage_digest
from metering.usage.totals import ZERO, Total, UsageKey, sum_totals

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from metering.audit.reconcile.table_scan import HourUsage
    from metering.ledger.row_sources import HourState


@dataclass(frozen=True, slots=True, kw_only=True)
class HourCheck:
    """Result of one pass over one booked hour.

    Attributes:
        stable: Nothing changed during the pass, and no commit of the hour is open: the figures are comparable.
        markers: Total of the markers; None where they may have expired.
        rows: Total of lake and staging: counted from the rows if `deep`, otherwise taken from the ledger.
        differences: By key and by batch if `deep`, otherwise at most one for usage and one for markers.
        digest: Digest of the rows by usage key (`usage_digest`) if `deep`: what was compared, without holding it.
    """

    hour_s: int
    stable: bool
    deep: bool
    markers: Total | None
    usage: Total
    rows: Total
    differences: tuple[Difference, ...]
    digest: str = ""

    @property
    def agrees(self) -> bool:
        """Whether the hour was stable, and all three totals are equal."""
        return self.stable and not self.differences

    def confirms(self, other: HourCheck) -> bool:
        """Whether both passes were stable and show the same differences."""
        if not (self.stable and other.stable):
            return False
        if self.deep and other.deep:
            return _gaps(self.differences) == _gaps(other.differences)
        return self._hour_gaps() == other._hour_gaps()

    def _hour_gaps(self) -> tuple[Total, Total | None]:
        return self.usage.minus(self.rows), None if self.markers is None else self.markers.minus(self.rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class HourReading:
    """Figures of one hour, as one pass read them.

    Attributes:
        markers_total: None where markers may have expired.
        rows_by_key: Counted from the rows; None unless the pass was deep.
        markers_by_batch, rows_by_batch: Empty unless the pass was deep and read markers.
    """

    state: HourState
    stable: bool
    usage: HourUsage
    markers_total: Total | None
    rows_by_key: Mapping[UsageKey, Total] | None
    markers_by_batch: Mapping[str, Total]
    rows_by_batch: Mapping[str, Total]

    def check(self) -> HourCheck:
        """Compare markers, usage and rows."""
        hour_s, ledger = self.state.hour_s, self.state.total
        rows = ledger if self.rows_by_key is None else sum_totals(self.rows_by_key.values())
        found = list(self._keyed() if self.rows_by_key is not None else self._hourly(ledger))
        if self.rows_by_key is not None and rows != ledger:
            # The files do not hold the total that the ledger has for them.
            found.append(Difference(between="ledger/rows", hour_s=hour_s, expected=ledger, found=rows))
        return HourCheck(
            hour_s=hour_s,
            stable=self.stable,
            deep=self.rows_by_key is not None,
            markers=self.markers_total,
            usage=self.usage.total,
            rows=rows,
            differences=tuple(found),
            digest="" if self.rows_by_key is None else usage_digest(in_order(self.rows_by_key)),
        )

    def _hourly(self, rows: Total) -> Iterable[Difference]:
        hour_s = self.state.hour_s
        if self.usage.total != rows:
            yield Difference(between="usage/rows", hour_s=hour_s, expected=self.usage.total, found=rows)
        if self.markers_total is not None and self.markers_total != rows:
            yield Difference(between="markers/rows", hour_s=hour_s, expected=self.markers_total, found=rows)

    def _keyed(self) -> Iterable[Difference]:
        hour_s, rows = self.state.hour_s, self.rows_by_key or {}
        for key in sorted(self.usage.totals.keys() | rows.keys(), key=str):
            booked, visible = self.usage.totals.get(key, ZERO), rows.get(key, ZERO)
            if booked != visible:
                yield Difference(between="usage/rows", hour_s=hour_s, key=key, expected=booked, found=visible)
        if self.markers_total is None:
            return
        shown = sum_totals(rows.values())
        if not self.rows_by_batch and self.markers_total != shown:
            yield Difference(between="markers/rows", hour_s=hour_s, expected=self.markers_total, found=shown)
        for batch_id in sorted(self.markers_by_batch.keys() | self.rows_by_batch.keys()):
            marked, found = self.markers_by_batch.get(batch_id, ZERO), self.rows_by_batch.get(batch_id, ZERO)
            if marked != found:
                yield Difference(between="markers/rows", hour_s=hour_s, batch_id=batch_id, expected=marked, found=found)


def _gaps(differences: Iterable[Difference]) -> dict[tuple[str, str, UsageKey | None], Total]:
    return {(d.between, d.batch_id, d.key): d.found.minus(d.expected) for d in differences}


def alert_fields(check: HourCheck, hours: int) -> dict[str, str | int]:
    """Fields of an alert about the first difference of an hour; `hours` is the number of different hours."""
    fields = difference_fields(check.differences[0])
    return {**fields, "differences_in_hour": len(check.differences), "hours_different": hours}


def difference_fields(worst: Difference) -> dict[str, str | int]:
    """Fields of an alert about a difference."""
    return {
        "hour": rfc3339(worst.hour_s),
        "between": worst.between,
        "key": describe(worst),
        "expected_bytes": str(worst.expected.bytes),
        "found_bytes": str(worst.found.bytes),
        "expected_records": worst.expected.records,
        "found_records": worst.found.records,
    }


def describe(difference: Difference) -> str:
    """Name the place of a difference: a usage key, a batch, accounts of a month, or the whole hour."""
    if difference.key is not None:
        return describe_key(difference.key)
    if difference.account_id:
        whose = "accounts" if difference.account_id == EVERY_ACCOUNT else f"account {difference.account_id}"
        return f"{whose} of {month_of(difference.hour_s)}"
    return f"batch {difference.batch_id}" if difference.batch_id else "the hour"


def describe_key(key: UsageKey) -> str:
    """Name a usage key within its hour."""
    corrects = () if key.corrects_s is None else (f"corrects {rfc3339(key.corrects_s)}",)
    return " ".join((key.account_id, key.usage_type, key.service, f"{key.from_location}>{key.to_location}", *corrects))

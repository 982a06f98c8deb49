"""Equality (I2): markers, usage table and visible rows agree, hour by hour and key by key, with tolerance 0.

A deep census counts all of them in bounded memory, and what differs is looked at key by key, as the reconciler does. A
difference counts only if two looks show it. An hour that stays unstable is named and not judged. The rows of a
manifest's batches are subtracted from what was sent, hour by hour.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from metering.audit.reconcile.fingerprints import Fingerprint
from metering.audit.verify.verification import MAX_DIFFERENCES, Difference, Verification, sum_verifications
from metering.lake.rows import USAGE_COLUMNS, RowQuery, usage_in
from metering.usage.totals import ZERO, Total, UsageKey, sum_totals

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from metering.audit.reconcile.reconciler import Reconciler
    from metering.audit.scan.state import CensusState
    from metering.audit.verify.expectations import SentContent
    from metering.ledger.markers import Marker
    from metering.ledger.row_sources import HourState

# Rows of each batch, summed by the columns of a usage key.
_BATCH_USAGE_COLUMNS = ("batch_id", *USAGE_COLUMNS)


@dataclass(frozen=True, slots=True, kw_only=True)
class EqualityCheck:
    """Compares markers, usage and rows in a range of hours.

    Attributes:
        chosen: Content that each batch of a manifest was accepted with; visible rows are subtracted from its
            unaccounted totals.
    """

    reconciler: Reconciler
    chosen: Mapping[str, SentContent]

    def run(self, state: CensusState, *, tell: Callable[[CensusState], None] = lambda _state: None) -> Verification:
        """Compare every hour of a deep census that has usage, a marker or rows.

        Args:
            state: What was counted so far; it is counted to its end.
            tell: Called after each part of a table and each hour.
        """
        self.reconciler.census.go_on(state, tell=tell)
        result = self.reconciler.judge(state)
        result.markers.contradictions.tell()
        totals = [_visible(state, hour_s) for hour_s in state.rows]
        compared = Verification(
            keys=sum(rows.keys for rows in state.rows.values()),
            metered=sum_totals(totals),
            proven=sum_totals(self._account(hour_s) for hour_s in state.rows if self.chosen),
            unstable=tuple(check.hour_s for check in result.unstable),
        )
        return sum_verifications([compared, *(_named(check.differences) for check in result.different)])

    def _account(self, hour_s: int) -> Total:
        """Subtract an hour's rows from what is unaccounted of the manifest's batches; returns their total."""
        query = RowQuery(columns=_BATCH_USAGE_COLUMNS, where=(("batch_id", frozenset(self.chosen)),))
        view = self.reconciler.view

        def minus_found(hour: HourState) -> dict[str, Fingerprint]:
            """Of each batch, what was found of it, negative. It begins anew when the hour is read again."""
            made: dict[str, Fingerprint] = {}
            for (batch_id, *usage), total in view.reader.parts(hour.sources, query):
                [(key, found)] = usage_in(hour_s, [(tuple(usage), total)])
                made.setdefault(str(batch_id), Fingerprint()).add(_own(key), ZERO.minus(found))
            return made

        left = view.read(hour_s, minus_found)
        for batch_id, found in left.items():
            self.chosen[batch_id].unaccounted.merge(found)
        return ZERO.minus(sum_totals(found.total for found in left.values()))


def judge_contents(
    chosen: Mapping[str, SentContent], markers: Mapping[str, Marker], unstable: Iterable[int]
) -> Verification:
    """Name the batches of a manifest of which some records are missing, or visible more than once.

    What is left of a batch is known as a sum. So a batch is named as both, unless all that is left says the same: only
    where more is counted twice than is missing, in records and in bytes, what is missing is not named beside it.
    Batches with records in an unstable hour are left out, because the rows of such an hour prove nothing.
    """
    moving = set(unstable)
    differing = {
        batch_id: content.unaccounted.total
        for batch_id, content in chosen.items()
        if content.unaccounted != Fingerprint() and moving.isdisjoint(markers[batch_id].hours)
    }
    return Verification(
        lost=tuple(name for name, left in differing.items() if not (left.records < 0 and left.bytes <= 0)),
        doubled=tuple(name for name, left in differing.items() if not (left.records > 0 and left.bytes >= 0)),
    )


def _visible(state: CensusState, hour_s: int) -> Total:
    """All rows of an hour; those that were placed where markers may have expired."""
    rows = state.rows[hour_s]
    return rows.placed if rows.all_rows is None else rows.all_rows


def _named(found: Iterable[Difference]) -> Verification:
    """Differences of an hour, and the batches with a difference."""
    lost: list[str] = []
    doubled: list[str] = []
    differences: list[Difference] = []
    for difference in found:
        if len(differences) < MAX_DIFFERENCES:
            differences.append(difference)
        if difference.batch_id:
            less = difference.found.records < difference.expected.records
            less = less or difference.found.bytes < difference.expected.bytes
            (lost if less else doubled).append(difference.batch_id)
    return Verification(lost=tuple(lost), doubled=tuple(doubled), differences=tuple(differences))


def _own(key: UsageKey) -> UsageKey:
    """Key as the sender knows it: a late record of a closed month is booked in another hour than its own."""
    return key if key.corrects_s is None else key._replace(hour_s=key.corrects_s, corrects_s=None)

"""Repair and rebuild: usage from the rows, markers from the rows. Both with workers running (docs/protocol.md).

Nothing here writes a recomputed total. Usage gets the difference that two settled passes showed, on the condition that
its item is as it was measured; markers are only put where there is none.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from metering.domain.hours import month_of
from metering.domain.items import MAX_TRANSACTION_ACTIONS, Absent, AnyOf, Equals, Put, Table, Update
from metering.domain.lake import RowQuery
from metering.domain.ledger import Marker, period_key, usage_key
from metering.domain.usage import ZERO, Total
from metering.errors import ConditionFailedError, TransactionCanceledError
from metering.units import DAY_S

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from metering.domain.usage import UsageKey
    from metering.ports import Clock, ItemStore, Metrics
    from metering.usecases.lake_view import LakeView
    from metering.usecases.patience import Patience
    from metering.usecases.reconcile import HourCheck, Measurement, Reconciler
    from metering.usecases.survey import HourUsage

_BY_BATCH = RowQuery(columns=("batch_id",))
# Suffix of the usage item that repairs go to.
_REPAIRED = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageRebuild:
    """What `rebuild usage` did.

    Attributes:
        hours: Hours that were measured.
        repaired: Usage keys that were put right.
        unsettled: Hours that kept changing, or where a commit stays open; run it again.
        closed: Differing hours of closed months: their figures are frozen, and are never repaired in place.
    """

    hours: int
    repaired: int
    unsettled: tuple[int, ...]
    closed: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkerRebuild:
    """What `rebuild markers` did: batches found in the rows, and how many of them had lost their marker."""

    batches: int
    rebuilt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebuilder:
    """Makes derived items anew.

    Attributes:
        marker_life_s: How long a rebuilt marker lives. Batches of older hours get none: theirs has expired.
        rounds: How often is measured at most.
        batches_at_once: About how many batches are in memory at once while markers are rebuilt.
    """

    items: ItemStore
    view: LakeView
    reconciler: Reconciler
    clock: Clock
    patience: Patience
    metrics: Metrics
    marker_life_s: int = 50 * DAY_S
    rounds: int = 8
    batches_at_once: int = 1_000_000

    def usage(self, *, from_s: int = 0, to_s: int | None = None) -> UsageRebuild:
        """Make the usage of every hour what its rows say, repairing a table that lost some or all of its items.

        Raises:
            UnavailableError: An hour could not be read.
        """
        end_s = self._now_s() + DAY_S if to_s is None else to_s
        before = self._measure(self.view.hours(from_s=from_s, to_s=end_s), from_s, end_s, only_these=False)
        hours = len(before.checks)
        closed: set[int] = set()
        repaired = 0
        doubtful = _doubtful(before.checks.values())
        for _ in range(self.rounds):
            closed |= {hour_s for hour_s in doubtful if self._is_closed(hour_s)}
            doubtful = [hour_s for hour_s in doubtful if hour_s not in closed]
            if not doubtful:
                break
            self.clock.sleep_ms(self.reconciler.wait_ms)
            now = self._measure(doubtful, min(doubtful), max(doubtful) + 1, only_these=True)
            for hour_s in doubtful:
                if now.checks[hour_s].confirms(before.checks[hour_s]):
                    repaired += self._repair(now.checks[hour_s], now.usage.get(hour_s))
            before = now
            doubtful = _doubtful(now.checks.values())
        self.metrics.count("UsageKeysRepaired", repaired)
        return UsageRebuild(hours=hours, repaired=repaired, unsettled=tuple(doubtful), closed=tuple(sorted(closed)))

    def markers(self) -> MarkerRebuild:
        """Put back the markers of all batches that have rows and none.

        Their content hash is unknown: a later copy is a duplicate, whatever it holds. The floor does not move.

        Raises:
            UnavailableError: An hour could not be read, or a marker not written; run it again.
        """
        oldest_s = self._now_s() - self.marker_life_s
        hours = self.view.hours(from_s=oldest_s)
        rows = sum(self.view.hour_interval(hour_s).total.records for hour_s in hours)
        # By the rows, because nobody knows the batches; a batch has one row at least.
        parts = 1 + rows // (100 * self.batches_at_once)
        batches = rebuilt = 0
        for part in range(parts):
            found = self._batches(hours, part, parts)
            batches += len(found)
            rebuilt += sum(self._put_marker(batch_id, totals) for batch_id, totals in found.items())
        self.metrics.count("MarkersRebuilt", rebuilt)
        return MarkerRebuild(batches=batches, rebuilt=rebuilt)

    def _measure(self, hours: Iterable[int], from_s: int, to_s: int, *, only_these: bool) -> Measurement:
        return self.reconciler.measure(hours, from_s=from_s, to_s=to_s, deep=True, only_these=only_these)

    def _is_closed(self, hour_s: int) -> bool:
        return self.items.get(Table.LEDGER, period_key(month_of(hour_s))) is not None

    def _repair(self, check: HourCheck, usage: HourUsage | None) -> int:
        # Always the same item of a key, whichever others there are: two repairs that measured at different moments
        # would else each find a condition of its own true, and the difference would be corrected twice.
        revs = {} if usage is None else {key: rev for (key, suffix), rev in usage.revs.items() if suffix == _REPAIRED}
        updates = [
            _repair_update(difference.key, _less(difference.found, difference.expected), revs.get(difference.key))
            for difference in check.differences
            if difference.between == "usage/rows" and difference.key is not None
        ]
        return sum(self._apply(block) for block in _blocks(updates, MAX_TRANSACTION_ACTIONS))

    def _apply(self, updates: list[Update]) -> int:
        try:
            # Not repeated on an unknown outcome: what landed is measured in the next round.
            self.items.transact(updates)
        except TransactionCanceledError:
            return 0
        return len(updates)

    def _batches(self, hours: Iterable[int], part: int, parts: int) -> dict[str, dict[int, Total]]:
        found: dict[str, dict[int, Total]] = {}
        for hour_s in hours:
            for group, total in self.view.hour_totals(hour_s, _BY_BATCH, exact=True).items():
                batch_id = str(group[0])
                if zlib.crc32(batch_id.encode()) % parts == part:
                    found.setdefault(batch_id, {})[hour_s] = total
        return found

    def _put_marker(self, batch_id: str, totals: dict[int, Total]) -> bool:
        now_ms = self.clock.now_ms()
        rows = sum(total.records for total in totals.values())
        marker = Marker(
            batch_id=batch_id,
            verdict="accepted",
            content_hash=None,
            hash_version=0,
            commit_id="",
            source_id="",
            sequence=None,
            sender_id="",
            records=rows,
            metered=rows,
            refused=0,
            hours=totals,
            decided_at_ms=now_ms,
            expires_at_s=now_ms // 1000 + self.marker_life_s,
        )
        put = Put(
            table=Table.LEDGER,
            item=marker.to_item(),
            condition=AnyOf((Absent(), Equals(attribute="verdict", value="rejected"))),
        )
        try:
            self.patience.call(lambda: self.items.put(put))
        except ConditionFailedError:
            return False
        return True

    def _now_s(self) -> int:
        return self.clock.now_ms() // 1000


def _doubtful(checks: Iterable[HourCheck]) -> list[int]:
    """Hours that did not settle, or whose usage differs. What only markers say is no reason to touch usage."""
    return [
        check.hour_s
        for check in checks
        if not check.settled or any(d.between == "usage/rows" and d.key is not None for d in check.differences)
    ]


def _repair_update(key: UsageKey, missing: Total, rev: int | None) -> Update:
    return Update(
        table=Table.USAGE,
        key=usage_key(key, _REPAIRED),
        add={"bytes": missing.bytes, "records": missing.records, "rev": 1},
        condition=Absent() if rev is None else Equals(attribute="rev", value=rev),
    )


def _less(left: Total, right: Total) -> Total:
    return ZERO.plus(Total(left.bytes - right.bytes, left.records - right.records))


def _blocks(updates: list[Update], size: int) -> Iterator[list[Update]]:
    rest = iter(updates)
    while block := list(islice(rest, size)):
        yield block

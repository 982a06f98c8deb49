"""Rebuild usage and markers from the rows, while workers run (docs/protocol.md).

No recomputed total is ever written. Usage gets the difference from its rows, on the condition that its item is as it
was measured (P38). A marker is put only where there is none, or a rejected one (P40).
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from metering import metric_names
from metering.audit.reconcile.settling import settled_runs
from metering.audit.reconcile.table_scan import survey_accounts, survey_hour
from metering.audit.repair import FrozenTruth, UsageRepair
from metering.errors import ConditionFailedError
from metering.lake.rows import BATCH_QUERY, batches_of
from metering.ledger.markers import ABSENT_OR_REJECTED, Marker
from metering.stores.writes import Put, Table
from metering.units import DAY_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from metering.audit.reconcile.reconciler import Reconciler
    from metering.audit.repair import Repair
    from metering.lake.ports import FrozenReader
    from metering.lake.view import LakeView
    from metering.ledger.usage.kinds import KindNumbers
    from metering.stores.clock import Clock
    from metering.stores.items import ItemStore
    from metering.stores.retrying import Retrier
    from metering.stores.telemetry import Metrics
    from metering.usage.totals import Kind, Total, UsageKey

# Corrections that a result lists. A lost table has millions, and all of them are counted.
LISTED = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageRebuild:
    """Result of `rebuild usage`.

    Attributes:
        hours: Hours that were measured.
        repaired: Number of corrections of a usage key.
        repairs: The first corrections, up to `LISTED`, each with its figures before and after.
        unstable: Hours in which some usage kept changing; run it again.
        closed: Hours of closed months whose usage was corrected: to the frozen totals, which stay as they are (P39).
        damaged: Hours whose lake files do not hold what the ledger or the closed month says. Of an open month, nothing
            was corrected in them; of a closed one, `period verify` names the files.
    """

    hours: int
    repaired: int
    repairs: tuple[Repair, ...]
    unstable: tuple[int, ...]
    closed: tuple[int, ...]
    damaged: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RebuildStep:
    """Progress: hour number `done` of `hours` was measured."""

    doing: Literal["measured", "repaired"]
    hour_s: int
    done: int
    hours: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkerRebuild:
    """Result of `rebuild markers`.

    Attributes:
        batches: Batches found in the rows.
        rebuilt: Batches whose marker was lost and is back.
    """

    batches: int
    rebuilt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebuilder:
    """Rebuilds usage items and markers.

    Attributes:
        marker_life_s: Life of a rebuilt marker. Batches of older hours get none: theirs has expired.
        frozen: Reads the totals of closed months.
        numbers: Claims the numbers of kinds that have none yet.
        rounds: Most further measurements of an hour in which usage kept changing.
        batches_at_once: Rough limit of the batches in memory while markers are rebuilt.
    """

    items: ItemStore
    view: LakeView
    reconciler: Reconciler
    clock: Clock
    retrier: Retrier
    metrics: Metrics
    frozen: FrozenReader
    numbers: KindNumbers
    marker_life_s: int
    rounds: int = 8
    batches_at_once: int = 1_000_000

    def usage(
        self, *, from_s: int = 0, to_s: int | None = None, tell: Callable[[RebuildStep], None] = lambda _step: None
    ) -> UsageRebuild:
        """Correct the usage of every hour to the totals of its rows, even if the table lost all of its items (P38).

        It works hour by hour. A corrected item stays correct wherever the call is cut off; the next call does the rest.

        Args:
            from_s: Start of the first hour.
            to_s: Exclusive end of the range; None for all hours.
            tell: Called after each measurement of an hour.

        Raises:
            UnavailableError: An hour could not be read.
        """
        end_s = self._now_s() + DAY_S if to_s is None else to_s
        booked = survey_accounts(self.reconciler.usage, from_s=from_s, to_s=end_s)
        hours = sorted({*booked, *self.view.placed.hours(from_s=from_s, to_s=end_s)})
        frozen = FrozenTruth(items=self.items, objects=self.view.objects, files=self.frozen, view=self.view)
        done = _Done()
        left: dict[int, frozenset[str]] = {}
        for number, hour_s in enumerate(hours, start=1):
            accounts = self._put_right(hour_s, frozenset(booked.get(hour_s, ())), frozen, done)
            if accounts:
                left[hour_s] = accounts
            tell(RebuildStep(doing="measured", hour_s=hour_s, done=number, hours=len(hours)))
        for _ in range(self.rounds):
            if not left:
                break
            self.clock.sleep_ms(self.reconciler.wait_ms)
            for number, (hour_s, accounts) in enumerate(sorted(left.items()), start=1):
                left[hour_s] = self._put_right(hour_s, accounts, frozen, done, alone=True)
                tell(RebuildStep(doing="repaired", hour_s=hour_s, done=number, hours=len(left)))
            left = {hour_s: accounts for hour_s, accounts in left.items() if accounts}
        self.metrics.count(metric_names.USAGE_KEYS_REPAIRED, done.repaired)
        return UsageRebuild(
            hours=len(hours),
            repaired=done.repaired,
            repairs=tuple(done.repairs),
            unstable=tuple(sorted(left)),
            closed=tuple(sorted(done.closed)),
            damaged=tuple(sorted(done.damaged)),
        )

    def _put_right(
        self, hour_s: int, accounts: frozenset[str], frozen: FrozenTruth, done: _Done, *, alone: bool = False
    ) -> frozenset[str]:
        """Measure an hour and correct its usage; returns the accounts that need another look.

        Args:
            hour_s: The hour.
            accounts: Accounts whose usage is read in addition to accounts with rows.
            frozen: What closed months hold.
            done: Takes down what was done.
            alone: Whether only these accounts are measured.
        """
        runs = settled_runs(self.items, self.view.shards)
        rows = frozen.rows(hour_s) if frozen.is_closed(hour_s) else self._rows(hour_s, accounts if alone else None)
        if rows is None:
            done.damaged.add(hour_s)
            return frozenset()
        if alone:
            rows = {key: total for key, total in rows.items() if key.account_id in accounts}
        kinds: dict[str, set[Kind]] = {}
        for key in rows:
            kinds.setdefault(key.account_id, set()).add(key.kind)
        # Numbers are claimed before any usage item is read: see UsageRepair.
        numbers = {account_id: self.numbers.claim(account_id, some) for account_id, some in sorted(kinds.items())}
        usage = survey_hour(self.reconciler.usage, hour_s, accounts | kinds.keys())
        repair = UsageRepair(
            items=self.items, objects=self.view.objects, numbers=self.numbers, runs=runs, usage=usage, rows=rows
        )
        result = repair.run(numbers)
        if result.repairs and frozen.is_closed(hour_s):
            done.closed.add(hour_s)
            if frozen.is_damaged(hour_s):
                done.damaged.add(hour_s)
        done.add(result.repairs)
        return result.left

    def _rows(self, hour_s: int, accounts: frozenset[str] | None) -> Mapping[UsageKey, Total] | None:
        """Placed rows of an hour; None if the files do not hold the total that the ledger has for them."""
        placed = self.reconciler.placed(hour_s, accounts=accounts)
        if accounts is None and placed.total != placed.booked:
            return None
        return placed.by_key or {}

    def markers(self) -> MarkerRebuild:
        """Put back the marker of each batch that has rows and no marker.

        The content hash is unknown, so a later copy counts as a duplicate, whatever its content. The floor does not
        move. The rows show every accepted batch whole, those that wait for the roll-up included (P40).

        Raises:
            UnavailableError: An hour could not be read, or a marker not written; run it again.
        """
        oldest_s = self._now_s() - self.marker_life_s
        hours = self.view.hours(from_s=oldest_s)
        rows = sum(self.view.hour_between(hour_s).total.records for hour_s in hours)
        # The number of batches is unknown, so the number of rows decides; a batch has at least one row.
        parts = 1 + rows // (100 * self.batches_at_once)
        batches = rebuilt = 0
        for part in range(parts):
            found = self._batches(hours, part, parts)
            batches += len(found)
            rebuilt += sum(self._put_marker(batch_id, totals) for batch_id, totals in found.items())
        self.metrics.count(metric_names.MARKERS_REBUILT, rebuilt)
        return MarkerRebuild(batches=batches, rebuilt=rebuilt)

    def _batches(self, hours: Iterable[int], part: int, parts: int) -> dict[str, dict[int, Total]]:
        found: dict[str, dict[int, Total]] = {}
        for hour_s in hours:
            batches = batches_of(self.view.hour_totals(hour_s, BATCH_QUERY))
            for batch_id, total in batches.items():
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
            condition=ABSENT_OR_REJECTED,
        )
        try:
            self.retrier.call(lambda: self.items.put(put))
        except ConditionFailedError:
            return False
        return True

    def _now_s(self) -> int:
        return self.clock.now_ms() // 1000


@dataclass(slots=True)
class _Done:
    """What a call has done so far."""

    repaired: int = 0
    repairs: list[Repair] = field(default_factory=list)
    closed: set[int] = field(default_factory=set)
    damaged: set[int] = field(default_factory=set)

    def add(self, repairs: Sequence[Repair]) -> None:
        self.repaired += len(repairs)
        self.repairs += repairs[: LISTED - len(self.repairs)]

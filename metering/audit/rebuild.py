"""Rebuild usage and markers from the rows, while workers run (docs/protocol.md).

No recomputed total is ever written. Usage gets the difference that two stable passes showed, on the condition that its
item is as it was measured. A marker is put only where there is none, or a rejected one.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Literal

from metering import metric_names
from metering.audit.reconcile.table_scan import survey_accounts
from metering.errors import ConditionFailedError, ObjectDamagedError, ObjectMissingError, TransactionCanceledError
from metering.hours import month_of
from metering.lake.rows import BATCH_QUERY, batches_of
from metering.ledger.frozen_months import read_frozen_month
from metering.ledger.markers import ABSENT_OR_REJECTED, Marker
from metering.ledger.usage_items import usage_add, usage_key, usage_names
from metering.ledger.waiting_commits import waiting_commits
from metering.stores.writes import DYNAMODB_LIMITS, Absent, Equals, Put, Table, Update
from metering.units import DAY_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from metering.audit.reconcile.hour_check import HourCheck
    from metering.audit.reconcile.reconciler import Reconciler
    from metering.audit.reconcile.table_scan import HourUsage
    from metering.lake.ports import FrozenReader
    from metering.lake.view import LakeView
    from metering.ledger.frozen_months import FrozenMonth
    from metering.stores.clock import Clock
    from metering.stores.items import ItemStore
    from metering.stores.retrying import Retrier
    from metering.stores.telemetry import Metrics
    from metering.usage.totals import Total, UsageKey

# Suffix of the usage item that takes all repairs of a key.
_REPAIRED = 0


# Corrections that a result lists. A lost table has millions, and all of them are counted.
LISTED = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Repair:
    """Correction of one usage key: the total that its items had, and that of its rows."""

    key: UsageKey
    before: Total
    after: Total


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageRebuild:
    """Result of `rebuild usage`.

    Attributes:
        hours: Hours that were measured.
        repaired: Number of corrections of a usage key.
        repairs: The first corrections, up to `LISTED`, each with its figures before and after.
        unstable: Hours that kept changing, or where a commit stays open; run it again.
        closed: Hours of closed months whose usage items differ from their rows. They are never repaired, and nothing is
            booked for them. Reports use the frozen totals, and these rows still match them unless `damaged` says so.
        damaged: Hours of closed months whose rows differ from the frozen totals: `period verify` names the files.
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
class _Look:
    """One measurement of an hour."""

    check: HourCheck
    usage: HourUsage
    accounts: frozenset[str]
    at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkerRebuild:
    """Result of `rebuild markers`.

    Attributes:
        batches: Batches found in the rows.
        rebuilt: Batches whose marker was lost and is back.
        unstable: Hours of commits that stayed open. Batches with rows there were left out; run it again.
    """

    batches: int
    rebuilt: int
    unstable: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebuilder:
    """Rebuilds usage items and markers.

    Attributes:
        marker_life_s: Life of a rebuilt marker. Batches of older hours get none: theirs has expired.
        frozen: Reads the totals of closed months.
        rounds: Most further measurements of a doubtful hour.
        batches_at_once: Rough limit of the batches in memory while markers are rebuilt.
        transaction_actions: Most usage items that are repaired in one transaction.
    """

    items: ItemStore
    view: LakeView
    reconciler: Reconciler
    clock: Clock
    retrier: Retrier
    metrics: Metrics
    frozen: FrozenReader
    marker_life_s: int
    rounds: int = 8
    batches_at_once: int = 1_000_000
    transaction_actions: int = DYNAMODB_LIMITS.transaction

    def usage(
        self, *, from_s: int = 0, to_s: int | None = None, tell: Callable[[RebuildStep], None] = lambda _step: None
    ) -> UsageRebuild:
        """Correct the usage of every hour to the totals of its rows, even if the table lost all of its items.

        It works hour by hour. A corrected hour stays correct wherever the call is cut off; the next call does the rest.

        Args:
            from_s: Start of the first hour.
            to_s: Exclusive end of the range; None for all hours.
            tell: Called after each measurement of an hour.

        Raises:
            UnavailableError: An hour could not be read.
        """
        end_s = self._now_s() + DAY_S if to_s is None else to_s
        booked = survey_accounts(self.items, from_s=from_s, to_s=end_s)
        hours = sorted({*booked, *self.view.hours(from_s=from_s, to_s=end_s)})
        seen: dict[int, _Look] = {}
        for done, hour_s in enumerate(hours, start=1):
            look = self._look(hour_s, frozenset(booked.get(hour_s, ())))
            if _is_doubtful(look.check):
                seen[hour_s] = look
            tell(RebuildStep(doing="measured", hour_s=hour_s, done=done, hours=len(hours)))
        frozen = self._frozen(seen)
        closed = tuple(hour_s for hour_s in seen if month_of(hour_s) in frozen)
        repairs, repaired, unstable = self._repair_all({h: seen[h] for h in seen if h not in closed}, tell)
        self.metrics.count(metric_names.USAGE_KEYS_REPAIRED, repaired)
        return UsageRebuild(
            hours=len(hours),
            repaired=repaired,
            repairs=repairs,
            unstable=unstable,
            closed=closed,
            damaged=tuple(h for h in closed if self._is_damaged(frozen[month_of(h)], h)),
        )

    def markers(self) -> MarkerRebuild:
        """Put back the marker of each batch that has rows and no marker.

        The content hash is unknown, so a later copy counts as a duplicate, whatever its content. The floor does not
        move. The call waits for commits that are open now: before their last chunk, some of their rows are invisible.

        Raises:
            UnavailableError: An hour could not be read, or a marker not written; run it again.
        """
        oldest_s = self._now_s() - self.marker_life_s
        unstable = self._open_hours()
        hours = self.view.hours(from_s=oldest_s)
        rows = sum(self.view.hour_between(hour_s).total.records for hour_s in hours)
        # The number of batches is unknown, so the number of rows decides; a batch has at least one row.
        parts = 1 + rows // (100 * self.batches_at_once)
        batches = rebuilt = 0
        for part in range(parts):
            found = self._batches(hours, part, parts)
            found = {batch_id: totals for batch_id, totals in found.items() if unstable.isdisjoint(totals)}
            batches += len(found)
            rebuilt += sum(self._put_marker(batch_id, totals) for batch_id, totals in found.items())
        self.metrics.count(metric_names.MARKERS_REBUILT, rebuilt)
        return MarkerRebuild(batches=batches, rebuilt=rebuilt, unstable=tuple(sorted(unstable)))

    def _open_hours(self) -> set[int]:
        """Hours of commits that are open now and stay open. Later commits have their markers."""
        shards = self.view.shards
        commits = {commit.commit_id: commit for commit in waiting_commits(self.items, shards).open}
        for _ in range(self.rounds):
            if not commits:
                break
            self.clock.sleep_ms(self.reconciler.wait_ms)
            still = {commit.commit_id for commit in waiting_commits(self.items, shards).open}
            commits = {commit_id: commit for commit_id, commit in commits.items() if commit_id in still}
        return {hour_s for commit in commits.values() for hour_s in commit.hours}

    def _repair_all(
        self, seen: dict[int, _Look], tell: Callable[[RebuildStep], None]
    ) -> tuple[tuple[Repair, ...], int, tuple[int, ...]]:
        """Repair differences that a second look confirms; returns the first, the number of all, and unstable hours."""
        repairs: list[Repair] = []
        repaired = 0
        for _ in range(self.rounds):
            # A repaired hour is measured once more, and is then no longer doubtful.
            doubtful = sorted(seen)
            for done, hour_s in enumerate(doubtful, start=1):
                before = seen[hour_s]
                self.clock.sleep_ms(max(0, before.at_ms + self.reconciler.wait_ms - self.clock.now_ms()))
                look = self._look(hour_s, before.accounts)
                if look.check.confirms(before.check):
                    applied = self._repair(look)
                    repaired += len(applied)
                    repairs += applied[: LISTED - len(repairs)]
                seen[hour_s] = look
                if not _is_doubtful(look.check):
                    del seen[hour_s]
                tell(RebuildStep(doing="repaired", hour_s=hour_s, done=done, hours=len(doubtful)))
        return tuple(repairs), repaired, tuple(sorted(seen))

    def _look(self, hour_s: int, accounts: frozenset[str]) -> _Look:
        check, usage = self.reconciler.look(hour_s, accounts)
        known = accounts.union(key.account_id for key in usage.totals)
        return _Look(check=check, usage=usage, accounts=known, at_ms=self.clock.now_ms())

    def _frozen(self, hours: Iterable[int]) -> dict[str, FrozenMonth]:
        months = {month: read_frozen_month(self.items, self.view.objects, month) for month in {*map(month_of, hours)}}
        return {month: closed for month, closed in months.items() if closed is not None}

    def _is_damaged(self, month: FrozenMonth, hour_s: int) -> bool:
        try:
            frozen = dict(self.frozen.hour(month, hour_s))
        except (ObjectMissingError, ObjectDamagedError):
            return True
        return self.view.hour_usage(hour_s) != frozen

    def _repair(self, look: _Look) -> list[Repair]:
        # All repairs of a key go to one item. Otherwise two repairs that measured at different moments could each find
        # the condition on their own item true, and the difference would be corrected twice.
        revs = {key: rev for (key, suffix), rev in look.usage.revs.items() if suffix == _REPAIRED}
        repairs = [
            Repair(key=difference.key, before=difference.expected, after=difference.found)
            for difference in look.check.differences
            if difference.between == "usage/rows" and difference.key is not None
        ]
        return [each for block in _blocks(repairs, self.transaction_actions) for each in self._apply(block, revs)]

    def _apply(self, repairs: list[Repair], revs: Mapping[UsageKey, int]) -> list[Repair]:
        updates = [_repair_update(each.key, each.after.minus(each.before), revs.get(each.key)) for each in repairs]
        try:
            # A call of unknown outcome is not repeated: the next round measures its effect.
            self.items.transact(updates)
        except TransactionCanceledError:
            return []
        return repairs

    def _batches(self, hours: Iterable[int], part: int, parts: int) -> dict[str, dict[int, Total]]:
        found: dict[str, dict[int, Total]] = {}
        for hour_s in hours:
            batches = batches_of(self.view.hour_totals(hour_s, BATCH_QUERY, exact=True))
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


def _is_doubtful(check: HourCheck) -> bool:
    """Whether the hour was unstable, or its usage differs from its rows."""
    return not check.stable or any(d.key is not None for d in check.differences)


def _repair_update(key: UsageKey, missing: Total, rev: int | None) -> Update:
    attribute = usage_names(key.hour_s).rev
    return Update(
        table=Table.USAGE,
        key=usage_key(key, _REPAIRED),
        add=usage_add({key.hour_s: missing}),
        condition=Absent(attribute=attribute) if rev is None else Equals(attribute=attribute, value=rev),
    )


def _blocks(repairs: list[Repair], size: int) -> Iterator[list[Repair]]:
    rest = iter(repairs)
    while block := list(islice(rest, size)):
        yield block

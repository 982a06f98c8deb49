"""Usage of the hours of one day against their rows: one read an account, for all of these hours together (P37).

Rows come from the totals beside the lake files, hour by hour in the order of accounts, and from staging for what no run
has compacted. So an account at a time is held, not an hour; and how many accounts there are does not matter.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from heapq import merge
from itertools import groupby, islice
from typing import TYPE_CHECKING

from metering.audit.reconcile.hour_check import HourCheck, odd_items
from metering.audit.reconcile.settling import AccountHour, read_accounts, settled_runs
from metering.audit.verify.verification import MAX_DIFFERENCES, Difference
from metering.ledger.booked_hours import LakeFile
from metering.stores.threads import side_by_side
from metering.units import HOUR_S
from metering.usage.totals import ZERO, Total, UsageKey, add_totals

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from metering.audit.reconcile.settling import HourUsage, SeenItem
    from metering.lake.ports import TotalsReader, UsageRows
    from metering.lake.view import LakeView
    from metering.ledger.row_sources import HourState
    from metering.ledger.usage.reading import UsageReading
    from metering.stores.items import ItemStore
    from metering.stores.writes import Key

# Hours of a day whose sums are held together, and usage keys of them, at some 75 bytes each: 12 hours of the target.
HOURS_AT_ONCE = 12
KEYS_AT_ONCE = 2_400_000
_Entry = tuple[UsageKey, Total]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rows:
    """Placed rows of an hour by usage key: those in lake files, and those in staging."""

    booked: Total
    filed: UsageRows
    staged: UsageRows


@dataclass(frozen=True, slots=True, kw_only=True)
class _Account:
    """An account's rows and usage of some hours."""

    rows: Mapping[int, Mapping[UsageKey, Total]]
    usage: Mapping[int, HourUsage]


@dataclass(slots=True, kw_only=True)
class _Tally:
    """What was found of one hour so far."""

    rows: Total = ZERO
    usage: Total = ZERO
    differences: list[Difference] = field(default_factory=list)
    unsettled: set[AccountHour] = field(default_factory=set)
    seen: dict[AccountHour, Mapping[Key, SeenItem]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountDays:
    """Compares usage with rows, day by day.

    Attributes:
        view: Of the region; what waits for the roll-up is not looked at.
        totals: Reads the totals of lake files.
        threads: Accounts that are read at the same time.
    """

    items: ItemStore
    usage: UsageReading
    view: LakeView
    totals: TotalsReader
    threads: int = 1

    def look(self, hours: Sequence[int]) -> dict[int, HourCheck]:
        """Compare some hours of one day. Neither markers nor a whole table are read.

        Accounts that have usage and no rows in these hours are not met on this way: `Reconciler.check` finds them.

        Raises:
            UnavailableError: Something could not be read.
            LedgerCorruptError: An item cannot be read, or a file is gone.
        """
        checks: dict[int, HourCheck] = {}
        left = deque(sorted(hours))
        while left:
            done = settled_runs(self.items, self.view.shards)
            rows: dict[int, _Rows] = {}
            keys = 0
            while left and len(rows) < HOURS_AT_ONCE and keys < KEYS_AT_ONCE:
                hour_s = left.popleft()
                rows[hour_s] = self._rows(hour_s)
                keys += len(rows[hour_s].filed) + len(rows[hour_s].staged)
            checks |= self._compared(rows, done)
        return checks

    def _compared(self, rows: Mapping[int, _Rows], done: Mapping[int, int]) -> dict[int, HourCheck]:
        """Compare the rows of some hours with usage. `done`: newest runs of the roll-up, before the rows were read."""
        hours = list(rows)
        tallies = {hour_s: _Tally() for hour_s in hours}

        def read(entries: tuple[str, dict[int, dict[UsageKey, Total]]]) -> _Account:
            account_id, found = entries
            usage = read_accounts(self.usage, [account_id], from_s=hours[0], to_s=hours[-1] + HOUR_S)
            return _Account(rows=found, usage=usage)

        for account in side_by_side(read, self._by_account(rows), threads=self.threads):
            for hour_s, tally in tallies.items():
                _compare(account.rows.get(hour_s, {}), account.usage.get(hour_s), done, tally)
        return {hour_s: _check(hour_s, tallies[hour_s], rows[hour_s].booked) for hour_s in hours}

    def _rows(self, hour_s: int) -> _Rows:
        placed = self.view.placed

        def read(state: HourState) -> _Rows:
            files = [LakeFile(key=s.key, rows=s.rows, bytes=s.bytes) for s in state.sources if not s.staged]
            return _Rows(
                booked=state.total,
                filed=self.totals.summed(files),
                staged=placed.reader.hour_usage(hour_s, [source for source in state.sources if source.staged]),
            )

        return placed.read(hour_s, read)

    def _by_account(self, rows: Mapping[int, _Rows]) -> Iterator[tuple[str, dict[int, dict[UsageKey, Total]]]]:
        """Rows of one account after the other."""
        streams = [part for found in rows.values() for part in (found.filed, found.staged) if len(part)]
        for account_id, entries in groupby(merge(*streams, key=_account_of), key=_account_of):
            hours: dict[int, dict[UsageKey, Total]] = {}
            for key, total in entries:
                add_totals(hours.setdefault(key.hour_s, {}), {key: total})
            yield account_id, hours


def _account_of(entry: _Entry) -> str:
    return entry[0].account_id


def _compare(rows: Mapping[UsageKey, Total], usage: HourUsage | None, done: Mapping[int, int], tally: _Tally) -> None:
    """Compare what an account has in one hour."""
    booked = {} if usage is None else usage.totals
    for total in rows.values():
        tally.rows = tally.rows.plus(total)
    for total in booked.values():
        tally.usage = tally.usage.plus(total)
    if usage is not None:
        tally.unsettled |= usage.unsettled(done)
        tally.differences += islice(odd_items(usage), MAX_DIFFERENCES - len(tally.differences))
        tally.seen |= {place: usage.seen[place] for place, _, _ in usage.odd()}
    if booked == rows:
        return
    for key in sorted(booked.keys() | rows.keys(), key=str):
        expected, found, place = booked.get(key, ZERO), rows.get(key, ZERO), AccountHour.of(key)
        if expected == found or place in tally.unsettled or len(tally.differences) >= MAX_DIFFERENCES:
            continue
        tally.differences.append(
            Difference(between="usage/rows", hour_s=key.hour_s, key=key, expected=expected, found=found)
        )
        tally.seen[place] = {} if usage is None else usage.seen.get(place, {})


def _check(hour_s: int, tally: _Tally, booked: Total) -> HourCheck:
    found = tally.differences
    if tally.rows != booked:
        found = [*found, Difference(between="ledger/rows", hour_s=hour_s, expected=booked, found=tally.rows)]
    return HourCheck(
        hour_s=hour_s,
        stable=not tally.unsettled,
        deep=True,
        markers=None,
        usage=tally.usage,
        rows=tally.rows,
        differences=tuple(found),
        unsettled=frozenset(tally.unsettled),
        seen=tally.seen,
    )

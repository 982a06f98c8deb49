"""Correct the usage items of one hour to the totals of its rows, while runs are active (docs/protocol.md, P38).

An item is written only if it is unchanged since it was read, and gets the number of every done run. Late updates of a
done run thus find the run's number in the item, and unfinished runs add their sums. Items in the plans of later runs
are skipped: such a run may have added to an item that was lost afterwards, and may have placed the collected rows.

A usage kind without a number may be booked in its own separate item, and may get a number later. Two repairs must not
correct the kind in different items. Numbers are therefore claimed before any item is read, and the separate item is not
repaired once the kind has a number.

Attributes that no release writes are removed by the same update (P49), or separately if that update waits for a run or
would add to these attributes: removing the attributes changes no total, and no run needs them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import takewhile
from typing import TYPE_CHECKING

from metering import errors
from metering.audit.settling import AccountHour, HourUsage, SeenItem, differing
from metering.hours import month_of
from metering.lake.ports import FrozenReader, usage_digest
from metering.ledger import commits, periods
from metering.ledger.runs import newest_first, rollup_chain
from metering.ledger.usage import kinds
from metering.ledger.usage.items import REVISION, is_newest_run, newest_run_of, usage_add, usage_item_key
from metering.rollup.plan import RollupPlan
from metering.stores import clock, writes
from metering.usage.totals import REGION

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from metering.lake.view import LakeView
    from metering.stores.objects import ObjectStore
    from metering.usage.totals import Total, UsageKey, UsageKind

# One update removes at most this many odd attributes, to stay within 4 KB and 300 operators with 64 shards (P45).
_TAKEN_AT_ONCE = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Repair:
    """Correction of one usage key: the total of its items before, and the total of its rows."""

    key: UsageKey
    before: Total
    after: Total


@dataclass(frozen=True, slots=True, kw_only=True)
class Repaired:
    """Result of a repair of an hour.

    Attributes:
        repairs: Corrections that surely landed.
        mended: Items that lost odd attributes or got a revision, each with its key and oddities.
        left: Accounts to measure again, which are unsettled or have items that changed during the repair.
    """

    repairs: tuple[Repair, ...]
    mended: tuple[str, ...]
    left: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Correction:
    """One update of an item.

    Attributes:
        unnumbered: Kind whose separate item is updated; None for an item of numbered kinds.
        mends: Oddities that the update removes from the item.
        last: Whether this is the item's last update.
    """

    update: writes.Update
    repairs: tuple[Repair, ...] = ()
    unnumbered: UsageKind | None = None
    mends: str = ""
    last: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageRepair:
    """Corrects the usage of an hour.

    Attributes:
        runs: Newest done roll-up run of each shard, read before the rows.
        rows: Placed rows of the hour, by usage key.
        usage: Usage items of the hour, read after the rows and after all numbers were claimed.
        threads: Number of items written in parallel.
    """

    items: writes.ItemStore
    objects: ObjectStore
    numbers: kinds.KindNumbers
    runs: Mapping[int, int]
    rows: Mapping[UsageKey, Total]
    usage: HourUsage
    threads: int = 1

    def run(self, claimed: Mapping[str, Mapping[UsageKind, int | None]]) -> Repaired:
        """Correct every settled item once.

        Args:
            claimed: Number of each usage kind in the rows, by account; None for a kind beyond the cap.

        Raises:
            UnavailableError: A dictionary could not be read. Updates of unknown outcome are left to the next pass.
        """
        wrong = self._wrong()
        odd: dict[AccountHour, dict[writes.Key, SeenItem]] = {}
        for place, item_key, seen in self.usage.odd():
            odd.setdefault(place, {})[item_key] = seen
        unsettled = {place.account_id for place in self.usage.unsettled(self.runs)}
        left = set(unsettled)
        planned = planned_later(self.items, self.objects, self.runs) if wrong or odd else frozenset()
        corrections: list[tuple[str, _Correction]] = []
        for place in sorted({*wrong, *odd}, key=str):
            account_id, repairs = place.account_id, wrong.get(place, [])
            if planned is None or place in planned or account_id in unsettled:
                left.add(account_id)
                found = [each for key, seen in odd.get(place, {}).items() for each in _taken_away(key, seen)]
            else:
                found = self._updates(place, repairs, self._numbers(account_id, repairs, claimed.get(account_id, {})))
            corrections += ((account_id, each) for each in found)
        return self._landed(corrections, left)

    def _wrong(self) -> dict[AccountHour, list[Repair]]:
        wrong: dict[AccountHour, list[Repair]] = {}
        for key, booked, visible in differing(self.usage.totals, self.rows):
            wrong.setdefault(AccountHour.of(key), []).append(Repair(key=key, before=booked, after=visible))
        return wrong

    def _landed(self, corrections: Sequence[tuple[str, _Correction]], left: set[str]) -> Repaired:
        landed = clock.side_by_side(lambda each: self._lands(*each), corrections, threads=self.threads)
        done: list[Repair] = []
        mended: list[str] = []
        for (account_id, each), lands in zip(corrections, landed, strict=True):
            if lands:
                done += each.repairs
                mended += [f"{each.update.key.pk} / {each.update.key.sk}: {each.mends}"] if each.mends else []
            if not (lands and each.last):
                left.add(account_id)
        return Repaired(repairs=tuple(done), mended=tuple(mended), left=frozenset(left))

    def _numbers(
        self, account_id: str, repairs: list[Repair], claimed: Mapping[UsageKind, int | None]
    ) -> dict[UsageKind, int | None]:
        """Number of each kind. A kind without rows has a number only if it got one when booked."""
        others = [each.key.kind for each in repairs if each.key.kind not in claimed]
        known = self.numbers.known(account_id, others) if others else {}
        return {each.key.kind: claimed.get(each.key.kind, known.get(each.key.kind)) for each in repairs}

    def _updates(
        self, place: AccountHour, repairs: list[Repair], numbers: Mapping[UsageKind, int | None]
    ) -> list[_Correction]:
        seen = self.usage.seen.get(place, {})
        by_item: dict[writes.Key, list[Repair]] = {key: [] for key, item in seen.items() if item.oddities}
        for each in repairs:
            by_item.setdefault(usage_item_key(each.key, numbers[each.key.kind]), []).append(each)
        return [each for key, some in by_item.items() for each in self._update(key, some, numbers, seen.get(key))]

    def _update(
        self, key: writes.Key, repairs: list[Repair], numbers: Mapping[UsageKind, int | None], seen: SeenItem | None
    ) -> list[_Correction]:
        missing = {numbers[each.key.kind]: each.after.minus(each.before) for each in repairs}
        update = writes.Update(
            table=writes.Table.USAGE,
            key=key,
            add=usage_add(missing),
            set={newest_run_of(shard): number for shard, number in self.runs.items() if number},
        )
        odd = {} if seen is None else _some(seen.odd)
        if seen is not None and not odd.keys().isdisjoint(update.add):
            return _taken_away(key, seen)
        update = replace(
            update,
            remove=tuple(name for name in odd if name not in update.set),
            condition=writes.AllOf((*_as_read(odd), *self._as_seen(seen))),
        )
        return [
            _Correction(
                update=update,
                repairs=tuple(repairs),
                unnumbered=next((each.key.kind for each in repairs if numbers[each.key.kind] is None), None),
                mends="" if seen is None else "; ".join(seen.oddities),
                last=seen is None or len(odd) == len(seen.odd),
            )
        ]

    def _as_seen(self, seen: SeenItem | None) -> Iterator[writes.Condition]:
        odd = {} if seen is None else seen.odd
        yield from _same_revision(seen)
        # In a lost table, revisions restart, so an equal revision alone does not prove that nothing was booked since.
        for shard, number in self.runs.items():
            name = newest_run_of(shard)
            if name not in odd:
                yield writes.AnyOf((writes.Absent(attribute=name), writes.LessThan(attribute=name, value=number + 1)))

    def _lands(self, account_id: str, correction: _Correction) -> bool:
        """Send an update; return whether the update certainly took effect. The next pass checks an unknown outcome."""
        try:
            if correction.unnumbered is not None:
                name = kinds.kind_key(account_id, correction.unnumbered)
                check = writes.Check(table=writes.Table.LEDGER, key=name, condition=writes.Absent())
                self.items.transact([correction.update, check])
            else:
                self.items.update(correction.update)
        except (
            errors.ConditionFailedError,
            errors.LedgerCorruptError,
            errors.TransactionCanceledError,
            errors.UnavailableError,
        ):
            # If another writer has just stored a figure that is not a number, the ledger is corrupt.
            return False
        return True


def _taken_away(key: writes.Key, seen: SeenItem) -> list[_Correction]:
    """Update that only removes odd attributes, which is allowed even while a run books in the item.

    Run numbers are not removed, whatever their value, because only a done run's number may be written (P38).
    """
    odd = _some({name: value for name, value in seen.odd.items() if not is_newest_run(name)})
    if not odd:
        return []
    update = writes.Update(
        table=writes.Table.USAGE,
        key=key,
        add={} if seen.revision is None else {REVISION: 1},
        remove=tuple(odd),
        condition=writes.AllOf((*_as_read(odd), *_same_revision(seen))),
    )
    return [_Correction(update=update, mends="; ".join(seen.oddities), last=False)]


def _some(odd: Mapping[str, writes.Value]) -> dict[str, writes.Value]:
    return {name: odd[name] for name in sorted(odd)[:_TAKEN_AT_ONCE]}


def _as_read(odd: Mapping[str, writes.Value]) -> Iterator[writes.Condition]:
    for name, value in odd.items():
        if isinstance(value, str) or type(value) is int:
            yield writes.Equals(attribute=name, value=value)
        else:
            yield writes.Exists(attribute=name)


def _same_revision(seen: SeenItem | None) -> Iterator[writes.Condition]:
    if seen is None or REVISION not in seen.odd:
        revision = None if seen is None else seen.revision
        yield (
            writes.Absent(attribute=REVISION) if revision is None else writes.Equals(attribute=REVISION, value=revision)
        )


def planned_later(
    items: writes.ItemStore, objects: ObjectStore, runs: Mapping[int, int]
) -> frozenset[AccountHour] | None:
    """Account hours in the plans of later runs, including runs of new shards. Call this after collecting the rows.

    Returns:
        None if a plan no longer exists; the next pass then repairs the usage.
    """
    places: set[AccountHour] = set()
    for shard in commits.known_shards(items, len(runs)):
        number = runs.get(shard, 0)
        for run in takewhile(lambda run: run.number > number, newest_first(items, rollup_chain(shard))):  # noqa: B023 - called at once
            if not run.plan_key:
                return None
            try:
                plan = RollupPlan.from_json(objects.get(run.plan_key), run.plan_key)
            except errors.ObjectMissingError:
                return None
            for each in plan.hours:
                places |= {AccountHour(each.hour_s, name, each.corrects_s) for name in (each.account_id, REGION)}
    return frozenset(places)


class FrozenTruth:
    """Frozen totals of closed months (P39). A plain class, because it caches manifests."""

    def __init__(self, *, items: writes.ItemStore, objects: ObjectStore, files: FrozenReader, view: LakeView) -> None:
        self._items = items
        self._objects = objects
        self._files = files
        self._view = view
        self._months: dict[str, periods.FrozenMonth | None] = {}
        self._sound: dict[int, bool] = {}
        self._damaged: dict[int, bool] = {}

    def is_closed(self, hour_s: int) -> bool:
        """Whether the hour is in a closed month."""
        return self._month(hour_s) is not None

    def rows(self, hour_s: int, accounts: Collection[str]) -> dict[UsageKey, Total] | None:
        """Frozen totals of some accounts in an hour of a closed month; None if the object is damaged."""
        month = self._month(hour_s)
        if month is None or not self._is_sound(month, hour_s):
            return None
        return dict(self._files.hour(month, hour_s, accounts))

    def accounts(self, hour_s: int) -> set[str]:
        """Accounts with frozen totals in an hour of a closed month."""
        month = self._month(hour_s)
        if month is None or not self._is_sound(month, hour_s):
            return set()
        return {key.account_id for key, _ in self._files.hour(month, hour_s)}

    def is_damaged(self, hour_s: int) -> bool:
        """Whether the hour's frozen object is damaged, or the rows of its lake files differ from that object."""
        month = self._month(hour_s)
        if month is None:
            return False
        if hour_s not in self._damaged:
            sound = self._is_sound(month, hour_s)
            self._damaged[hour_s] = not sound or self._view.hour_usage(hour_s) != dict(self._files.hour(month, hour_s))
        return self._damaged[hour_s]

    def _is_sound(self, month: periods.FrozenMonth, hour_s: int) -> bool:
        if hour_s not in self._sound:
            hour = month.hour(hour_s)
            frozen = None if hour is None else hour.frozen
            try:
                digest = usage_digest(self._files.hour(month, hour_s))
            except (errors.ObjectMissingError, errors.ObjectDamagedError):
                digest = "none"
            self._sound[hour_s] = digest == frozen.digest if frozen is not None else digest != "none"
        return self._sound[hour_s]

    def _month(self, hour_s: int) -> periods.FrozenMonth | None:
        month = month_of(hour_s)
        if month not in self._months:
            self._months[month] = periods.read_frozen_month(self._items, self._objects, month)
        return self._months[month]

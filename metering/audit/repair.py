"""Correct the usage items of one hour to the totals of its rows, beside everything that runs (docs/protocol.md, P38).

An item is written on the condition that it is as it was read, and gets the number of every run that is over. So a late
update of a run that is over finds its number there, and a run in work still adds its own sum. What later runs have in
their plans is left: such a run may have added to an item that was lost since, and placed the rows that were collected.

A kind of usage that had no number may be booked in an item of its own, and get a number later. Two repairs must not
correct it in different items. So numbers are claimed before any item is read, and a repair of a kind's own item is
refused once the kind has a number.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING

from metering.audit.reconcile.settling import AccountHour
from metering.errors import (
    ConditionFailedError,
    ObjectDamagedError,
    ObjectMissingError,
    TransactionCanceledError,
    UnavailableError,
)
from metering.hours import month_of
from metering.lake.usage_digest import usage_digest
from metering.ledger.frozen_months import read_frozen_month
from metering.ledger.runs import newest_first, rollup_chain
from metering.ledger.shards import known_shards
from metering.ledger.usage.items import REVISION, newest_run_of, usage_add, usage_item_key
from metering.ledger.usage.kinds import kind_key
from metering.rollup.plan import RollupPlan
from metering.stores.threads import side_by_side
from metering.stores.writes import Absent, AllOf, AnyOf, Check, Equals, LessThan, Table, Update
from metering.usage.totals import ZERO

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from metering.audit.reconcile.settling import HourUsage, SeenItem
    from metering.lake.ports import FrozenReader
    from metering.lake.view import LakeView
    from metering.ledger.frozen_months import FrozenMonth
    from metering.ledger.usage.kinds import KindNumbers
    from metering.stores.items import ItemStore
    from metering.stores.objects import ObjectStore
    from metering.stores.writes import Condition, Key
    from metering.usage.totals import Kind, Total, UsageKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Repair:
    """Correction of one usage key: the total that its items had, and that of its rows."""

    key: UsageKey
    before: Total
    after: Total


@dataclass(frozen=True, slots=True, kw_only=True)
class Repaired:
    """Result of a repair of an hour.

    Attributes:
        repairs: What was corrected, for sure.
        left: Accounts that were not settled, or whose items changed meanwhile: they need another look.
    """

    repairs: tuple[Repair, ...]
    left: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageRepair:
    """Corrects the usage of an hour.

    Attributes:
        objects: Where the plans of runs are.
        runs: Newest done run of each shard's roll-up, read before the rows.
        rows: Placed rows of the hour, by usage key.
        usage: Usage items of the hour, read after the rows and after all numbers were claimed.
        threads: Items that are written at the same time.
    """

    items: ItemStore
    objects: ObjectStore
    numbers: KindNumbers
    runs: Mapping[int, int]
    rows: Mapping[UsageKey, Total]
    usage: HourUsage
    threads: int = 1

    def run(self, claimed: Mapping[str, Mapping[Kind, int | None]]) -> Repaired:
        """Correct every settled item once.

        Args:
            claimed: Number of each kind of the rows, by account; None for one beyond the cap.

        Raises:
            UnavailableError: A dictionary could not be read. An update of unknown outcome is left to the next look.
        """
        left = {place.account_id for place in self.usage.unsettled(self.runs)}
        wrong: dict[AccountHour, list[Repair]] = {}
        for key in sorted(self.usage.totals.keys() | self.rows.keys(), key=str):
            booked, visible = self.usage.totals.get(key, ZERO), self.rows.get(key, ZERO)
            if booked != visible and key.account_id not in left:
                wrong.setdefault(AccountHour.of(key), []).append(Repair(key=key, before=booked, after=visible))
        planned = planned_later(self.items, self.objects, self.runs) if wrong else frozenset()
        free = {place: repairs for place, repairs in wrong.items() if planned is not None and place not in planned}
        left |= {place.account_id for place in wrong.keys() - free.keys()}
        updates = [
            (update, corrected, numbers)
            for place, repairs in free.items()
            for numbers in (self._numbers(place.account_id, repairs, claimed.get(place.account_id, {})),)
            for update, corrected in self._updates(place, repairs, numbers)
        ]
        landed = side_by_side(lambda each: self._lands(*each), updates, threads=self.threads)
        done: list[Repair] = []
        for (_, corrected, _), lands in zip(updates, landed, strict=True):
            if lands:
                done += corrected
            else:
                left |= {each.key.account_id for each in corrected}
        return Repaired(repairs=tuple(done), left=frozenset(left))

    def _numbers(
        self, account_id: str, repairs: list[Repair], claimed: Mapping[Kind, int | None]
    ) -> dict[Kind, int | None]:
        """Number of each kind. Those that only usage has got theirs when they were booked, or never."""
        others = [each.key.kind for each in repairs if each.key.kind not in claimed]
        known = self.numbers.known(account_id, others) if others else {}
        return {each.key.kind: claimed.get(each.key.kind, known.get(each.key.kind)) for each in repairs}

    def _updates(
        self, place: AccountHour, repairs: list[Repair], numbers: Mapping[Kind, int | None]
    ) -> list[tuple[Update, list[Repair]]]:
        """One update an item, with what it corrects."""
        by_item: dict[Key, list[Repair]] = {}
        for each in repairs:
            by_item.setdefault(usage_item_key(each.key, numbers[each.key.kind]), []).append(each)
        seen = self.usage.seen.get(place, {})
        return [(self._update(key, some, numbers, seen.get(key)), some) for key, some in by_item.items()]

    def _update(
        self, key: Key, repairs: list[Repair], numbers: Mapping[Kind, int | None], seen: SeenItem | None
    ) -> Update:
        missing = {numbers[each.key.kind]: each.after.minus(each.before) for each in repairs}
        return Update(
            table=Table.USAGE,
            key=key,
            add=usage_add(missing),
            set={newest_run_of(shard): number for shard, number in self.runs.items() if number},
            condition=self._as_seen(seen),
        )

    def _as_seen(self, seen: SeenItem | None) -> Condition:
        revision = None if seen is None else seen.revision
        same = Absent(attribute=REVISION) if revision is None else Equals(attribute=REVISION, value=revision)
        # A revision begins anew in a table that was lost, so it does not say alone that nothing was booked since.
        settled = (
            AnyOf((Absent(attribute=newest_run_of(shard)), LessThan(attribute=newest_run_of(shard), value=number + 1)))
            for shard, number in self.runs.items()
        )
        return AllOf((same, *settled))

    def _lands(self, update: Update, repairs: list[Repair], numbers: Mapping[Kind, int | None]) -> bool:
        """Whether an update surely landed. One of unknown outcome is not repeated: the next look measures it."""
        try:
            if any(numbers[each.key.kind] is None for each in repairs):
                [repair] = repairs
                name = kind_key(repair.key.account_id, repair.key.kind)
                self.items.transact([update, Check(table=Table.LEDGER, key=name, condition=Absent())])
            else:
                self.items.update(update)
        except (ConditionFailedError, TransactionCanceledError, UnavailableError):
            return False
        return True


def planned_later(items: ItemStore, objects: ObjectStore, runs: Mapping[int, int]) -> frozenset[AccountHour] | None:
    """What runs after these have in their plans. Ask it after the rows were collected.

    A shard that was added since has runs, and none among these.

    Returns:
        None if that cannot be told, because a plan is gone: then everything is left for the next look.
    """
    places: set[AccountHour] = set()
    for shard in known_shards(items, len(runs)):
        number = runs.get(shard, 0)
        for run in takewhile(lambda run: run.number > number, newest_first(items, rollup_chain(shard))):  # noqa: B023 - called at once
            if not run.plan_key:
                return None
            try:
                plan = RollupPlan.from_json(objects.get(run.plan_key), run.plan_key)
            except ObjectMissingError:
                return None
            places |= {AccountHour(each.hour_s, each.account_id, each.corrects_s) for each in plan.hours}
    return frozenset(places)


class FrozenTruth:
    """What closed months hold: the truth for their hours (P39).

    A plain class: it remembers the manifests of the months that it was asked for.
    """

    def __init__(self, *, items: ItemStore, objects: ObjectStore, files: FrozenReader, view: LakeView) -> None:
        self._items = items
        self._objects = objects
        self._files = files
        self._view = view
        self._months: dict[str, FrozenMonth | None] = {}
        self._sound: dict[int, bool] = {}
        self._damaged: dict[int, bool] = {}

    def is_closed(self, hour_s: int) -> bool:
        """Whether the hour is one of a closed month."""
        return self._month(hour_s) is not None

    def rows(self, hour_s: int, accounts: Collection[str]) -> dict[UsageKey, Total] | None:
        """Frozen totals of some accounts in an hour of a closed month; None if they are not those that were frozen."""
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
        """Whether the hour's object is not what was frozen, or its lake files have other rows."""
        month = self._month(hour_s)
        if month is None:
            return False
        if hour_s not in self._damaged:
            sound = self._is_sound(month, hour_s)
            self._damaged[hour_s] = not sound or self._view.hour_usage(hour_s) != dict(self._files.hour(month, hour_s))
        return self._damaged[hour_s]

    def _is_sound(self, month: FrozenMonth, hour_s: int) -> bool:
        if hour_s not in self._sound:
            hour = month.hour(hour_s)
            frozen = None if hour is None else hour.frozen
            try:
                digest = usage_digest(self._files.hour(month, hour_s))
            except (ObjectMissingError, ObjectDamagedError):
                digest = "none"
            self._sound[hour_s] = digest == frozen.digest if frozen is not None else digest != "none"
        return self._sound[hour_s]

    def _month(self, hour_s: int) -> FrozenMonth | None:
        month = month_of(hour_s)
        if month not in self._months:
            self._months[month] = read_frozen_month(self._items, self._objects, month)
        return self._months[month]

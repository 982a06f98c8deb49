"""Marks usage items that the old roll-up may still update: a late update then finds a larger run number (P41.7).

An update of the old roll-up that has not landed belongs to the newest run of its chain, because a run is planned only
after all updates of the run before were sure (P21). Where usage and rows agree, P38 would set no number.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain as chain_of
from typing import TYPE_CHECKING

from metering.errors import ConditionFailedError, LedgerCorruptError, ObjectMissingError
from metering.ledger.commits import known_shards
from metering.ledger.runs import newest_run, rollup_chain
from metering.ledger.usage.generation import usage_generation
from metering.ledger.usage.items import newest_run_of, usage_add, usage_item_key
from metering.ledger.usage.region import RegionStart, known_numbers, mark_region, put_start, region_start
from metering.rollup.plan import RollupPlan
from metering.rollup.region import region_hours
from metering.stores.clock import do_all
from metering.stores.objects import number_of_plan, plans_prefix
from metering.stores.writes import Absent, AnyOf, LessThan, Table, Update
from metering.usage.totals import UsageKey

if TYPE_CHECKING:
    from collections.abc import Iterator

    from metering.ledger.usage.kinds import KindNumbers
    from metering.restore.decision import Decision
    from metering.rollup.plan import PlannedHour
    from metering.stores.clock import Retrier
    from metering.stores.objects import ObjectStore
    from metering.stores.writes import ItemStore, Key


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageMarks:
    """Sets the number of the lift in each item that a plan with the largest number of a roll-up chain names."""

    items: ItemStore
    objects: ObjectStore
    numbers: KindNumbers
    retrier: Retrier
    shards: int
    threads: int = 1

    def run(self, decision: Decision) -> set[int]:
        """Mark the items; a repetition changes nothing.

        Returns:
            Hours whose totals of the region may lack the newest run, although the accounts have it: a release that does
            not know these totals may have finished the run (P51). Correct them, whatever was adopted.

        Raises:
            UnavailableError: A store does not respond; call again.
        """
        unsure: set[int] = set()
        for chain, lift in decision.lifts.items():
            if chain == rollup_chain(int(chain[1:])):
                plans = self._newest(chain)
                keys = {key for plan in plans for key in self._keys(plan)}
                do_all(lambda key: self._mark(key, int(chain[1:]), lift), keys, threads=self.threads)  # noqa: B023
                unsure |= {hour.hour_s for plan in plans if plan.region for hour in plan.hours}
        return unsure

    def lift_region(self) -> None:
        """Let the region's totals go on above the lifts, if they had all that the old roll-up had booked (P51).

        Otherwise they begin anew. Call this after usage was corrected.

        Raises:
            UnavailableError: A store does not respond; call again.
        """
        wrote = self.retrier.call(lambda: usage_generation(self.items)).runs
        start = self.retrier.call(lambda: region_start(self.items))
        if start is None and not wrote:
            # All that the usage table has was corrected just now.
            start = self.retrier.call(partial(put_start, self.items, RegionStart(since_s=0, runs={})))
        if start is None:
            return
        for shard in self.retrier.call(lambda: known_shards(self.items, self.shards)):
            chain, number, known = rollup_chain(shard), wrote.get(shard, 0), start.runs.get(shard, 0)
            # The hours of the newest plan were corrected, whether or not its run was over (`run`).
            if number <= known or (number == known + 1 and all(plan.region for plan in self._newest(chain))):
                lift = self.retrier.call(partial(newest_run, self.items, chain))
                self.retrier.call(partial(mark_region, self.items, shard, 0 if lift is None else lift.number))

    def _newest(self, chain: str) -> list[RollupPlan]:
        newest, keys = 0, list[str]()
        for info in self.objects.list(plans_prefix(chain)):
            number = number_of_plan(info.key) or 0
            if number > newest:
                newest, keys = number, []
            keys.append(info.key)
        found: list[RollupPlan] = []
        for key in keys:
            # A plan is deleted a day after its run, and all of its updates, were sure (P31).
            with suppress(ObjectMissingError):
                found.append(RollupPlan.from_json(self.retrier.call(partial(self.objects.get, key)), key))
        return found

    def _keys(self, plan: RollupPlan) -> Iterator[Key]:
        for hour in chain_of(plan.hours, region_hours(plan, known_numbers(self.numbers.names, plan.kinds))):
            yield from self._keys_of(hour)

    def _keys_of(self, hour: PlannedHour) -> Iterator[Key]:
        known = self.numbers.known(hour.account_id, hour.numbered.keys())
        for kind, number in [*known.items(), *((kind, None) for kind in hour.named)]:
            yield usage_item_key(UsageKey(hour.hour_s, hour.account_id, *kind, hour.corrects_s), number)

    def _mark(self, key: Key, shard: int, lift: int) -> None:
        name = newest_run_of(shard)
        mark = Update(
            table=Table.USAGE,
            key=key,
            set={name: lift},
            add=usage_add({}),
            condition=AnyOf((Absent(attribute=name), LessThan(attribute=name, value=lift))),
        )
        with suppress(ConditionFailedError):
            # Otherwise marked, or updated by a run of the new ledger.
            try:
                self.retrier.call(lambda: self.items.update(mark))
            except LedgerCorruptError:
                # Its revision is odd, and is mended later (P49). The number alone keeps a late update away.
                self.retrier.call(lambda: self.items.update(replace(mark, add={})))

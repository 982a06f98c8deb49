"""Usage of accounts as of now: what is in the usage table, what a run is adding, and what waits (P28)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from metering.errors import LedgerCorruptError, ObjectDamagedError, ObjectMissingError, UnavailableError
from metering.hours import month_of
from metering.ledger.runs import newest_run, rollup_chain
from metering.ledger.shards import known_shards
from metering.ledger.usage.items import BUCKET_KINDS
from metering.ledger.usage.kinds import number_key
from metering.ledger.waiting import Waiting, waiting_in
from metering.rollup.plan import RollupPlan
from metering.stores.threads import side_by_side
from metering.units import HOUR_S
from metering.usage.totals import add_totals

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from metering.lake.ports import StagedUsage
    from metering.ledger.runs import Run
    from metering.ledger.usage.items import UsageItem
    from metering.ledger.usage.reading import UsageReading
    from metering.rollup.plan import PlannedHour
    from metering.stores.objects import ObjectStore
    from metering.usage.totals import Kind, Total, UsageKey

# Newest run of each shard's chain; None for a chain without one.
_Runs = Mapping[int, "Run | None"]
# An account's hour and what it corrects, with the bucket of a numbered kind, or the kind itself.
_Place = tuple[str, int, "int | None", "int | Kind"]


class _Asked(NamedTuple):
    """Which usage is asked for: of these accounts, booked in these months, in hours of `[from_s, to_s)`."""

    accounts: frozenset[str]
    months: frozenset[str]
    from_s: int
    to_s: int

    def takes(self, account_id: str, hour_s: int) -> bool:
        return account_id in self.accounts and self.from_s <= hour_s < self.to_s and month_of(hour_s) in self.months


class _Look(NamedTuple):
    """One look at the region, whose chains did not move meanwhile."""

    runs: _Runs
    waiting: list[Waiting]
    items: list[UsageItem]

    @property
    def needed(self) -> set[str]:
        """Keys of the plans and staging objects that the answer may need."""
        plans = {run.plan_key for run in self.runs.values() if run is not None and _planned(run)}
        return plans | {each.staging_key for each in self.waiting}


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageNow:
    """Reads usage of accounts as of now: every commit from before a call is in its answer, and none from after it.

    Attributes:
        shards: The stage's number of shards.
        threads: Staging objects that are read at once.
        attempts: Most looks of one call. Each further one means that a chain moved while it was read.
    """

    reading: UsageReading
    objects: ObjectStore
    staged: StagedUsage
    shards: int
    threads: int = 1
    attempts: int = 50

    def usage(
        self, accounts: Collection[str], months: Sequence[str], *, from_s: int = 0, to_s: int = 1 << 62
    ) -> dict[UsageKey, Total]:
        """Totals of some accounts in some months, by usage key.

        Args:
            accounts: Ids of the accounts.
            months: Months such as `2026-11`; of each the hours that `[from_s, to_s)` touches.
            from_s: In the first booked hour.
            to_s: End of the last one, or in it.

        Raises:
            LedgerCorruptError: A staging object, a plan or a number is gone although the ledger needs it.
            UnavailableError: A store gives no answer, or the chains moved during every look.
        """
        asked = _Asked(frozenset(accounts), frozenset(months), from_s - from_s % HOUR_S, -(-to_s // HOUR_S) * HOUR_S)
        missing = ""
        for _ in range(self.attempts):
            look = self._look(asked)
            if look is None:
                continue
            if missing in look.needed:
                # It was missed once, and the chain that needs it has not moved since.
                raise LedgerCorruptError(f"{missing} is gone, and usage as of now needs it")
            try:
                return self._summed(asked, look)
            except ObjectMissingError as error:
                missing = error.key
        raise UnavailableError("UsageNow.usage", "the roll-up was at work during every look", may_have_applied=False)

    def _look(self, asked: _Asked) -> _Look | None:
        """The region's state in the order of P28; None if a chain moved meanwhile."""
        runs = self._newest()
        waiting = [Waiting.from_item(item) for shard in runs for item in waiting_in(self.reading.items, shard)]
        items = [
            item
            for account_id in sorted(asked.accounts)
            for month in sorted(asked.months)
            for item in self.reading.of_month(account_id, month, from_s=asked.from_s, to_s=asked.to_s)
        ]
        again = self._newest()
        if {shard: _state(run) for shard, run in again.items()} != {shard: _state(run) for shard, run in runs.items()}:
            return None
        return _Look(runs, waiting, items)

    def _newest(self) -> dict[int, Run | None]:
        shards = known_shards(self.reading.items, self.shards)
        return {shard: newest_run(self.reading.items, rollup_chain(shard)) for shard in shards}

    def _summed(self, asked: _Asked, look: _Look) -> dict[UsageKey, Total]:
        totals: dict[UsageKey, Total] = {}
        for item in look.items:
            add_totals(totals, dict(self.reading.totals(item)))
        in_plans: set[str] = set()
        places = {_place_of(item): item for item in look.items}
        for run in filter(None, look.runs.values()):
            if _planned(run):
                plan = RollupPlan.from_json(self.objects.get(run.plan_key), run.plan_key)
                in_plans.update(commit.commit_id for commit in plan.commits)
                for hour in plan.hours:
                    if asked.takes(hour.account_id, hour.hour_s):
                        add_totals(totals, dict(self._not_added(hour, run, places)))
        keys = [
            each.staging_key
            for each in look.waiting
            if each.commit_id not in in_plans and any(month_of(hour_s) in asked.months for hour_s in each.totals)
        ]
        for usage in side_by_side(self._staged, keys, threads=self.threads):
            add_totals(totals, {key: total for key, total in usage.items() if asked.takes(key.account_id, key.hour_s)})
        return totals

    def _not_added(
        self, hour: PlannedHour, run: Run, places: Mapping[_Place, UsageItem]
    ) -> Iterator[tuple[UsageKey, Total]]:
        """Sums of a planned hour that are not in their items yet, as the items were read."""
        numbers = self._numbers(hour)
        for key, total in hour.totals():
            number = numbers.get(key.kind)
            place = key.kind if number is None else number // BUCKET_KINDS
            item = places.get((hour.account_id, hour.hour_s, hour.corrects_s, place))
            if item is None or item.runs.get(run.shard, -1) < run.number:
                yield key, total

    def _numbers(self, hour: PlannedHour) -> dict[Kind, int]:
        """Numbers of the kinds that the plan books under numbers. They were sure before the plan was put (P45)."""
        names = self.reading.names
        known = {kind: number for number, kind in names.of(hour.account_id).items()}
        if not known.keys() >= hour.numbered.keys():
            known = {kind: number for number, kind in names.read(hour.account_id).items()}
        lost = [kind for kind in hour.numbered if kind not in known]
        if lost:
            partition = number_key(hour.account_id, 0).pk
            raise LedgerCorruptError(f"{partition} has no number of {'#'.join(lost[0])}, and a plan relies on it")
        return {kind: known[kind] for kind in hour.numbered}

    def _staged(self, key: str) -> dict[UsageKey, Total]:
        try:
            return self.staged.usage(key)
        except ObjectDamagedError as error:
            raise LedgerCorruptError(f"a commit waits: {error}") from error


def _planned(run: Run) -> bool:
    return run.state == "planned"


def _state(run: Run | None) -> tuple[int, str]:
    return (0, "") if run is None else (run.number, run.state)


def _place_of(item: UsageItem) -> _Place:
    [place] = [item.bucket] if item.bucket is not None else list(item.totals)
    return item.account_id, item.hour_s, item.corrects_s, place

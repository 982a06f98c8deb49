"""The roll-up's part in the region's totals: each run also adds its sums over all accounts, once each (P51)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from metering.errors import ConditionFailedError, LedgerCorruptError, ObjectMissingError
from metering.ledger.notes.checks import CANARY_ACCOUNT_ID
from metering.ledger.runs import Run as StoredRun
from metering.ledger.runs import newest_first, run_key
from metering.ledger.usage.items import newest_run_of
from metering.ledger.usage.region import (
    RegionStart,
    as_booked,
    begin_region,
    claim_numbers,
    region_start,
    region_sums,
)
from metering.rollup.adding import updates_of
from metering.rollup.plan import PlannedHour, RollupPlan, by_place
from metering.stores.writes import Equals, Table, Update
from metering.usage.totals import REGION

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from metering.ledger.runs import Chain, Run
    from metering.ledger.usage.kinds import KindNumbers
    from metering.stores.clock import Alerts, Clock, Retrier
    from metering.stores.writes import ItemStore
    from metering.usage.totals import UsageKind


def region_hours(plan: RollupPlan, numbers: Mapping[UsageKind, int]) -> Iterator[PlannedHour]:
    """The sums that a plan adds to the region's items. They follow from the plan, because numbers never change."""
    sums = region_sums(entry for hour in plan.hours for entry in hour.totals())
    for (_, hour_s, corrects_s), kinds in by_place(as_booked(sums, numbers)).items():
        yield PlannedHour(account_id=REGION, hour_s=hour_s, corrects_s=corrects_s, numbered=kinds, named={})


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionBooking:
    """Adds runs to the region's totals, and their accounts to the directory."""

    items: ItemStore
    numbers: KindNumbers
    clock: Clock
    retrier: Retrier
    alerts: Alerts
    shards: int
    threads: int = 1

    def begin(self) -> None:
        """Store from when on the region's totals are complete, if nothing is stored. Call this before any run."""
        if self.retrier.call(lambda: region_start(self.items)) is None:
            self.retrier.call(partial(begin_region, self.items, self.shards, self.clock.now_ms() // 1000))

    def prepare(self, plan: RollupPlan) -> Mapping[UsageKind, int]:
        """Claim the region's numbers of a plan, and list the plan's accounts. Returns the region's numbers.

        Raises:
            UnavailableError: The outcome is unknown; the next process repeats the call.
        """
        accounts = {hour.account_id for hour in plan.hours} - {CANARY_ACCOUNT_ID}
        self.numbers.enlist(accounts, threads=self.threads)
        return claim_numbers(self.numbers, {key.kind for hour in plan.hours for key, _ in hour.totals()})

    def updates(self, plan: RollupPlan, run: Run) -> Iterator[Update]:
        """The updates of the region's items, in any order."""
        return updates_of(region_hours(plan, self.prepare(plan)), run, self.numbers)

    def complete_before(self, chain: Chain, run: Run) -> None:
        """Add the runs before a planned run, if they are missing, before any update of this run."""
        if run.number > 1:
            before = self.retrier.call(lambda: self.items.get(Table.LEDGER, run_key(chain.name, run.number - 1)))
            if before is None or not StoredRun.from_item(before).region:
                self._complete(chain, run.number - 1, run.shard)

    def complete(self, chain: Chain, run: Run) -> None:
        """Add a done run and all before it, if they are missing: a release that knows no such totals finished them.

        Raises:
            LedgerCorruptError: A plan cannot be read.
            UnavailableError: The outcome of a call is unknown; the next process repeats the call.
        """
        if not run.region:
            self._complete(chain, run.number, run.shard)

    def _complete(self, chain: Chain, number: int, shard: int) -> None:
        start = self.retrier.call(lambda: region_start(self.items))
        if start is None or number <= start.runs.get(shard, 0):
            return
        missing = self._missing(chain, number, start.runs.get(shard, 0))
        if missing is None or not all(self._add(chain, run) for run in reversed(missing)):
            self._begin_anew(start, chain)
            return
        added = Update(
            table=Table.LEDGER,
            key=run_key(chain.name, number),
            set={"region": True},
            condition=Equals(attribute="state", value="done"),
        )
        self.retrier.call(lambda: self.items.update(added))

    def _missing(self, chain: Chain, number: int, base: int) -> list[Run] | None:
        """The runs after the last one that counts, newest first; None if some are deleted."""
        found: list[Run] = []
        for run in self.retrier.call(lambda: list(self._unadded(chain, number, base))):
            if run.number != number - len(found):
                return None
            found.append(run)
        oldest = number - len(found)
        return found if oldest == base or self._counts(chain, oldest) else None

    def _unadded(self, chain: Chain, number: int, base: int) -> Iterator[Run]:
        for run in newest_first(self.items, chain.name):
            if run.number <= base or (run.region and run.number <= number):
                return
            if run.number <= number:
                yield run

    def _counts(self, chain: Chain, number: int) -> bool:
        item = self.retrier.call(lambda: self.items.get(Table.LEDGER, run_key(chain.name, number)))
        return item is not None and StoredRun.from_item(item).region

    def _add(self, chain: Chain, run: Run) -> bool:
        """Add a done run to the region's totals; False if its plan is deleted."""
        try:
            body = self.retrier.call(lambda: chain.objects.get(run.plan_key)) if run.plan_key else None
        except ObjectMissingError:
            body = None
        if body is None:
            return False
        for update in self.updates(RollupPlan.from_json(body, run.plan_key), run):
            self._land(update, run)
        return True

    def _land(self, update: Update, run: Run) -> None:
        try:
            self.retrier.call(lambda: self.items.update(update))
        except ConditionFailedError as error:
            # Later runs are added only after this one, so the item has this run's sums.
            newest = newest_run_of(run.shard)
            number = (error.existing or {}).get(newest)
            if not isinstance(number, int) or number < run.number:
                place = f"{update.key.pk} / {update.key.sk}"
                raise LedgerCorruptError(f"{place} refuses run {run.name}, and has {newest} = {number}") from error

    def _begin_anew(self, start: RegionStart, chain: Chain) -> None:
        now_s = self.clock.now_ms() // 1000
        self.retrier.call(partial(begin_region, self.items, self.shards, now_s, instead_of=start))
        fields = {
            "chain": chain.name,
            "what": "plans of earlier runs are gone",
            "cure": "metering rebuild usage",
        }
        self.alerts.send("ticket", "Totals of the region begin anew", fields)

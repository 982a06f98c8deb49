"""The roll-up's part in the region's totals: each run also adds its sums over all accounts, once each (P51)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from itertools import chain as chain_of
from typing import TYPE_CHECKING

from metering.errors import ConditionFailedError, LedgerCorruptError, ObjectMissingError
from metering.ledger.notes.checks import CANARY_ACCOUNT_ID
from metering.ledger.runs import runs_before
from metering.ledger.usage.items import newest_run_of
from metering.ledger.usage.region import (
    RegionStart,
    begin_region,
    booked_as,
    claim_numbers,
    mark_region,
    region_start,
)
from metering.rollup.adding import updates_of
from metering.rollup.plan import PlannedHour, RollupPlan
from metering.usage.totals import REGION

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from metering.ledger.runs import Chain, Run
    from metering.ledger.usage.kinds import KindNumbers
    from metering.stores.clock import Alerts, Retrier
    from metering.stores.writes import ItemStore, Update
    from metering.usage.totals import Total, UsageKind


def region_hours(plan: RollupPlan, numbers: Mapping[UsageKind, int]) -> Iterator[PlannedHour]:
    """The sums that a plan adds to the region's items. They follow from the plan, because numbers never change."""
    booked = {kind: booked_as(kind, numbers) for kind in plan.kinds}
    places: dict[tuple[int, int | None], dict[UsageKind, Total]] = {}
    # A plan has up to 200,000 sums, so no usage key is made of any.
    for hour in plan.hours:
        if hour.account_id == CANARY_ACCOUNT_ID:
            continue
        sums = places.setdefault((hour.hour_s, hour.corrects_s), {})
        for kind, total in chain_of(hour.numbered.items(), hour.named.items()):
            name = booked[kind]
            before = sums.get(name)
            sums[name] = total if before is None else before.plus(total)
    for (hour_s, corrects_s), sums in places.items():
        yield PlannedHour(account_id=REGION, hour_s=hour_s, corrects_s=corrects_s, numbered=sums, named={})


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionBooking:
    """Adds runs to the region's totals, and their accounts to the directory."""

    items: ItemStore
    numbers: KindNumbers
    retrier: Retrier
    alerts: Alerts
    shards: int
    threads: int = 1

    def begin(self) -> None:
        """Store from when on the region's totals are complete, if nothing is stored. Call this before any run."""
        if self.retrier.call(lambda: region_start(self.items)) is None:
            self.retrier.call(partial(begin_region, self.items, self.shards))

    def prepare(self, plan: RollupPlan) -> Mapping[UsageKind, int]:
        """Claim the region's numbers of a plan, and list the plan's accounts. Returns the region's numbers.

        Raises:
            UnavailableError: The outcome is unknown; the next process repeats the call.
        """
        accounts = {hour.account_id for hour in plan.hours} - {CANARY_ACCOUNT_ID}
        self.numbers.enlist(accounts, threads=self.threads)
        return claim_numbers(self.numbers, plan.kinds)

    def updates(self, plan: RollupPlan, run: Run) -> Iterator[Update]:
        """The updates of the region's items, in any order."""
        return updates_of(region_hours(plan, self.prepare(plan)), run, self.numbers)

    def mark(self, shard: int, number: int) -> None:
        """Store that the totals have a run, and all before it."""
        self.retrier.call(partial(mark_region, self.items, shard, number))

    def complete(self, chain: Chain, shard: int, number: int) -> None:
        """Add the done runs up to a number that the totals lack: a release that does not know the totals finished them.

        Call this before a plan, and before the first update of a run (with the number of the run before it).

        Raises:
            LedgerCorruptError: A plan cannot be read.
            UnavailableError: The outcome of a call is unknown; the next process repeats the call.
        """
        start = self.retrier.call(lambda: region_start(self.items))
        if start is None or number <= start.runs.get(shard, 0):
            return
        first = start.runs.get(shard, 0) + 1
        missing = self.retrier.call(lambda: list(runs_before(self.items, chain.name, number + 1, first=first)))
        # A restore's runs have no plan, and there is a gap before them (P41).
        if len(missing) == number + 1 - first and all(self._add(chain, run) for run in missing):
            self.mark(shard, number)
        else:
            self._begin_anew(start, chain)

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
        self.retrier.call(partial(begin_region, self.items, self.shards, instead_of=start))
        fields = {
            "chain": chain.name,
            "what": "plans of earlier runs are gone",
            "cure": "metering rebuild usage",
        }
        self.alerts.send("ticket", "Totals of the region begin anew", fields)

"""Removes the plans of runs that ended long ago, and lets their items expire (P31).

Plans are deleted by number, never by age, because a plan whose number is not used yet may be announced at any time. The
newest run of a chain keeps its plan, and the run's item never expires, so numbers only grow (P22).
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice

from metering.ledger.commits import shards_of
from metering.ledger.notes.lake import Cleaning
from metering.ledger.runs import Contradictions, Run, long_done, newest_run, rollup_chain, runs_before
from metering.stores.clock import Clock, Deadline, Retrier, do_all
from metering.stores.objects import ObjectStore, number_of_plan, plans_prefix
from metering.stores.writes import Exists, ItemStore, Table, Update
from metering.units import DAY_S

# Objects of one deletion.
_AT_ONCE = 1_000
# One call cleans this many runs of a chain, which is nearly two days with one run per 15 s.
_MOST_RUNS = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class RollupCleaning:
    """Number of plans that a call of `RollupCleaner.run` deleted, and of run items that it made expire."""

    plans: int
    runs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RollupCleaner:
    """Cleans up after the roll-up. Any number of processes may run concurrently.

    Attributes:
        run_life_s: Time from a run's clean-up until the run's item expires.
        keep_s: Time between the end of a run and its clean-up, so that operators can investigate the run.
        threads: Number of items that are written concurrently.
        reserve_ms: If less time than this is left, no further chain is started.
    """

    items: ItemStore
    objects: ObjectStore
    clock: Clock
    retrier: Retrier
    shards: int
    run_life_s: int
    keep_s: int = DAY_S
    threads: int = 1
    reserve_ms: int = 30_000

    def run(self, deadline: Deadline, *, shard: int | None = None) -> RollupCleaning:
        """Clean up after the runs of each chain. The next call continues where this call runs out of time.

        Raises:
            LedgerCorruptError: A run cannot be read. The other chains were cleaned.
            UnavailableError: The outcome of a request is unknown.
        """
        plans = runs = 0
        contradictions = Contradictions()
        for each in self.retrier.call(lambda: shards_of(self.items, self.shards, shard)):
            if deadline.remaining_ms() < self.reserve_ms:
                break
            with contradictions.noted():
                cleaned = self._chain(rollup_chain(each))
                plans += cleaned.plans
                runs += cleaned.runs
        contradictions.tell()
        return RollupCleaning(plans=plans, runs=runs)

    def _chain(self, chain: str) -> RollupCleaning:
        over = self.retrier.call(lambda: self._over(chain))
        # The first remaining plan is the start, so a run's plan is deleted only after its item was set to expire.
        expiring = [run for run in over if run.expires_at_s is None]
        runs = do_all(self._expire, expiring, threads=self.threads)
        plans = self._delete_plans(chain, over[-1].number) if over else 0
        self._keep(chain, over)
        return RollupCleaning(plans=plans, runs=runs)

    def _keep(self, chain: str, cleaned: list[Run]) -> None:
        """Store the time since which the oldest remaining run has been due."""
        more = len(cleaned) == _MOST_RUNS
        due_ms = (cleaned[-1].done_at_ms or 0) + self.keep_s * 1000 if more else None
        cleaning = Cleaning(chain=chain, looked_s=self.clock.now_ms() // 1000, due_ms=due_ms)
        self.retrier.call(lambda: cleaning.keep(self.items))

    def _over(self, chain: str) -> list[Run]:
        """Runs that ended long ago and still have plans, in order; the newest run of the chain is excluded.

        A planned run with a later run is also over (P21): a restore put that run on top (P41).
        """
        first = next(filter(None, map(number_of_plan, self._plans(chain))), None)
        newest = newest_run(self.items, chain)
        if first is None or newest is None:
            return []
        runs = runs_before(self.items, chain, newest.number, first=first)
        ended = (replace(run, state="done", done_at_ms=run.done_at_ms or run.planned_at_ms) for run in runs)
        over = long_done(ended, wait_ms=self.keep_s * 1000, now_ms=self.clock.now_ms())
        return list(islice(over, _MOST_RUNS))

    def _delete_plans(self, chain: str, over: int) -> int:
        """Delete all plans up to a number, including plans that no run refers to."""
        deleted = 0
        keys: list[str] = []
        for key in self._plans(chain):
            number = number_of_plan(key)
            if number is None:
                continue
            if number > over:
                break
            keys.append(key)
            if len(keys) == _AT_ONCE:
                deleted += self._delete(keys)
                keys = []
        return deleted + self._delete(keys)

    def _plans(self, chain: str) -> Iterator[str]:
        return (info.key for info in self.objects.list(plans_prefix(chain)))

    def _delete(self, keys: list[str]) -> int:
        if keys:
            self.retrier.call(lambda: self.objects.delete(keys))
        return len(keys)

    def _expire(self, run: Run) -> None:
        expires_at_s = self.clock.now_ms() // 1000 + self.run_life_s
        # A run that is over never changes, and a deleted item is not recreated.
        expire = Update(
            table=Table.LEDGER,
            key=run.key,
            set={"expires_at": expires_at_s},
            condition=Exists(),
        )
        self.retrier.call(lambda: self.items.update(expire))

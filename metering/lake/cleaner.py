"""The cleaner: deletes what compaction has replaced (P30).

It deletes the staging objects of commits, and `orphans` those of commits that were never made. Nothing else deletes in
`staging/`, no lifecycle rule either. Both run in the compactor function and in `metering compact`.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING, NoReturn

from metering import metric_names
from metering.errors import ConditionFailedError, LedgerCorruptError
from metering.lake.plan import Plan
from metering.ledger.booked_hours import pending_key, pointer_key
from metering.ledger.commits import CommitRecord, commit_key
from metering.ledger.contradictions import Contradictions
from metering.ledger.notes.lake.cleaning import Cleaning
from metering.ledger.runs import Run, lake_chain, long_done, newest_first
from metering.ledger.shards import shards_of
from metering.ledger.waiting import waiting_key
from metering.stores.threads import do_all
from metering.stores.writes import Delete, Equals, Exists, Table, Update

if TYPE_CHECKING:
    from collections.abc import Iterable

    from metering.stores.clock import Clock, Deadline
    from metering.stores.items import ItemStore
    from metering.stores.objects import ObjectStore
    from metering.stores.retrying import Retrier
    from metering.stores.telemetry import Alerts, Metrics
    from metering.stores.writes import Key

_COMMITS_AT_ONCE = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class CleaningResult:
    """Result of one call of `Cleaner.run`: numbers of cleaned runs, and of commits cleaned with them."""

    runs: int
    commits: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Cleaner:
    """Removes the staging objects and pointers that compaction has made superfluous.

    Attributes:
        shards: The stage's number of shards.
        wait_s: Time between the end of a run and its cleaning. It spares slow readers a restart.
        commit_life_s: How long the item of a cleaned commit stays: as long as markers do.
        threads: Pointers and commits that are written at once.
        reserve_ms: With less time left, no further run is begun.
    """

    items: ItemStore
    objects: ObjectStore
    clock: Clock
    retrier: Retrier
    metrics: Metrics
    alerts: Alerts
    shards: int
    wait_s: int
    commit_life_s: int
    threads: int = 1
    reserve_ms: int = 30_000

    def run(self, deadline: Deadline, *, shard: int | None = None) -> CleaningResult:
        """Clean the runs that are due, oldest first. The next call cleans those that this one does not reach.

        Args:
            deadline: End of the process.
            shard: Shard of this invocation (`shards_of`); None for all that a commit may be in.

        Raises:
            LedgerCorruptError: A commit waits or is pending although its last hours were taken (an alert was sent), or
                an item or a plan cannot be read. The other shards were cleaned.
            UnavailableError: The outcome of a call is unknown.
        """
        runs = commits = 0
        contradictions = Contradictions()
        for each in self._shards(shard):
            with contradictions.noted():
                due = deque(self._due(each))
                with contradictions.noted():
                    while due and deadline.remaining_ms() >= self.reserve_ms:
                        commits += self._clean(due[0])
                        due.popleft()
                        runs += 1
                self._keep(each, due)
        self.metrics.count(metric_names.CLEANED_COMMITS, commits)
        contradictions.tell()
        return CleaningResult(runs=runs, commits=commits)

    def _shards(self, shard: int | None) -> Iterable[int]:
        return self.retrier.call(lambda: shards_of(self.items, self.shards, shard))

    def _due(self, shard: int) -> list[Run]:
        """Runs to clean, oldest first. Runs are cleaned in order, so all runs before a cleaned one are cleaned too."""
        newest = newest_first(self.items, lake_chain(shard))
        uncleaned = list(takewhile(lambda run: not run.cleaned, newest))
        return list(long_done(reversed(uncleaned), wait_ms=self.wait_s * 1000, now_ms=self.clock.now_ms()))

    def _keep(self, shard: int, left: deque[Run]) -> None:
        """Write down since when the oldest run that is left has been due."""
        due_ms = (left[0].done_at_ms or 0) + self.wait_s * 1000 if left else None
        cleaning = Cleaning(chain=lake_chain(shard), looked_s=self.clock.now_ms() // 1000, due_ms=due_ms)
        self.retrier.call(lambda: cleaning.keep(self.items))

    def _clean(self, run: Run) -> int:
        """Clean one run; returns the number of its commits. A run that `rebuild` set has no plan (P41)."""
        commits = self._clean_plan(run) if run.plan_key else 0
        cleaned = Update(
            table=Table.LEDGER,
            key=run.key,
            set={"cleaned": True},
            condition=Equals(attribute="state", value="done"),
        )
        self.retrier.call(lambda: self.items.update(cleaned))
        return commits

    def _clean_plan(self, run: Run) -> int:
        plan = Plan.from_json(self.retrier.call(lambda: self.objects.get(run.plan_key)), run.plan_key)
        pairs = [pointer_key(hour.hour_s, commit_id) for hour in plan.hours for commit_id in hour.commits]
        # All of them are gone before the first staging object is: a reader that misses one starts again.
        do_all(self._delete_item, pairs, threads=self.threads)
        for start in range(0, len(plan.last), _COMMITS_AT_ONCE):
            self._clean_commits(run, plan.last[start : start + _COMMITS_AT_ONCE])
        return len(plan.last)

    def _delete_item(self, key: Key) -> None:
        self.retrier.call(lambda: self.items.delete(Delete(table=Table.LEDGER, key=key)))

    def _clean_commits(self, run: Run, commit_ids: tuple[str, ...]) -> None:
        self._check_settled(run, commit_ids)
        commit_keys = [commit_key(commit_id) for commit_id in commit_ids]
        found = self.retrier.call(lambda: self.items.get_many(Table.LEDGER, commit_keys))
        commits = [CommitRecord.from_item(item) for item in found.values()]
        for commit in commits:
            if commit.state != "committed":
                self._stop(run, commit.commit_id, f"it is {commit.state}")
        if commits:
            staged = [commit.staging_key for commit in commits]
            self.retrier.call(lambda: self.objects.delete(staged))
        do_all(self._expire, commits, threads=self.threads)

    def _check_settled(self, run: Run, commit_ids: tuple[str, ...]) -> None:
        """A guard: by the protocol, commits whose last hours a done run took neither wait nor are pending."""
        pending = [pending_key(run.shard, commit_id) for commit_id in commit_ids]
        waiting = [waiting_key(run.shard, commit_id) for commit_id in commit_ids]
        found = self.retrier.call(lambda: self.items.get_many(Table.LEDGER, [*pending, *waiting]))
        if found:
            key = min(found)
            self._stop(run, key.sk, "it is still pending" if key in pending else "it still waits for its roll-up")

    def _expire(self, commit: CommitRecord) -> None:
        expire = Update(
            table=Table.LEDGER,
            key=commit.key,
            set={"expires_at": self.clock.now_ms() // 1000 + self.commit_life_s},
            condition=Exists(),
        )
        try:
            self.retrier.call(lambda: self.items.update(expire))
        except ConditionFailedError:
            # The item expired after we read it: an earlier cleaner came this far long ago.
            return

    def _stop(self, run: Run, commit_id: str, what: str) -> NoReturn:
        self.alerts.send("page", "Cleaning stopped", {"run": run.name, "commit": commit_id, "what": what})
        raise LedgerCorruptError(f"run {run.name} took the last hours of commit {commit_id}, and {what}")

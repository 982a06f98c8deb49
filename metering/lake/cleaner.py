"""The cleaner: deletes what compaction has replaced (docs/protocol.md, Cleaner).

It deletes the staging objects of commits, and `orphans` those of commits that were never made. Nothing else deletes in
`staging/`, no lifecycle rule either. Both run in the compactor function and in `metering compact`.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING

from metering import metric_names
from metering.errors import ConditionFailedError, LedgerCorruptError
from metering.lake.plan import Plan
from metering.ledger.booked_hours import pending_key, pointer_key
from metering.ledger.commits import CommitRecord, commit_key
from metering.ledger.contradictions import Contradictions
from metering.ledger.runs import Run, newest_first, run_name
from metering.ledger.shards import known_shards
from metering.stores.bucket import wal_key
from metering.stores.writes import Delete, Equals, Exists, Table, Update

if TYPE_CHECKING:
    from metering.stores.clock import Clock, Deadline
    from metering.stores.items import ItemStore
    from metering.stores.objects import ObjectStore
    from metering.stores.retrying import Retrier
    from metering.stores.telemetry import Alerts, Metrics

_COMMITS_AT_ONCE = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class CleaningResult:
    """Result of one call of `Cleaner.run`: numbers of cleaned runs, and of commits cleaned with them."""

    runs: int
    commits: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Cleaner:
    """Removes staging objects, pointers and write-ahead objects that compaction has made superfluous.

    Attributes:
        wait_s: Time between the end of a run and its cleaning. It spares slow readers a restart.
        commit_life_s: How long the item of a cleaned commit stays: as long as markers do.
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
    reserve_ms: int = 30_000

    def run(self, deadline: Deadline) -> CleaningResult:
        """Clean the runs that are due, oldest first. The next call cleans those that this one does not reach.

        Raises:
            LedgerCorruptError: A commit is still pending although its last hours were taken (an alert was sent), or an
                item or a plan cannot be read. The other shards were cleaned.
            UnavailableError: The outcome of a call is unknown.
        """
        runs = commits = 0
        contradictions = Contradictions()
        for shard in self.retrier.call(lambda: known_shards(self.items, self.shards)):
            with contradictions.noted():
                for run in self._due(shard):
                    if deadline.remaining_ms() < self.reserve_ms:
                        break
                    commits += self._clean(run)
                    runs += 1
        self.metrics.count(metric_names.CLEANED_COMMITS, commits)
        contradictions.tell()
        return CleaningResult(runs=runs, commits=commits)

    def _due(self, shard: int) -> list[Run]:
        """Runs to clean, oldest first. Runs are cleaned in order, so all runs before a cleaned one are cleaned too."""
        uncleaned = list(takewhile(lambda run: not run.cleaned, newest_first(self.items, shard)))
        latest_done_at_ms = self.clock.now_ms() - self.wait_s * 1000
        return list(
            takewhile(
                lambda run: run.state == "done" and (run.done_at_ms or 0) <= latest_done_at_ms, reversed(uncleaned)
            )
        )

    def _clean(self, run: Run) -> int:
        plan = Plan.from_json(self.retrier.call(lambda: self.objects.get(run.plan_key)), run.plan_key)
        for hour in plan.hours:
            for commit_id in hour.commits:
                self._delete_pointer(hour.hour_s, commit_id)
        for start in range(0, len(plan.last), _COMMITS_AT_ONCE):
            self._clean_commits(run, plan.last[start : start + _COMMITS_AT_ONCE])
        cleaned = Update(
            table=Table.LEDGER,
            key=run.key,
            set={"cleaned": True},
            condition=Equals(attribute="state", value="done"),
        )
        self.retrier.call(lambda: self.items.update(cleaned))
        return len(plan.last)

    def _delete_pointer(self, hour_s: int, commit_id: str) -> None:
        delete = Delete(table=Table.LEDGER, key=pointer_key(hour_s, commit_id))
        self.retrier.call(lambda: self.items.delete(delete))

    def _clean_commits(self, run: Run, commit_ids: tuple[str, ...]) -> None:
        pending_keys = [pending_key(run.shard, commit_id) for commit_id in commit_ids]
        still_pending = self.retrier.call(lambda: self.items.get_many(Table.LEDGER, pending_keys))
        if still_pending:
            self._stop(run, next(iter(still_pending)).sk)
        commit_keys = [commit_key(commit_id) for commit_id in commit_ids]
        found = self.retrier.call(lambda: self.items.get_many(Table.LEDGER, commit_keys))
        commits = [CommitRecord.from_item(item) for item in found.values()]
        for commit in commits:
            if commit.state != "applied":
                raise LedgerCorruptError(
                    f"run {run_name(run.shard, run.run)} took commit {commit.commit_id}, which is {commit.state}"
                )
        keys = [key for commit in commits for key in (commit.staging_key, wal_key(commit.staging_key))]
        if keys:
            self.retrier.call(lambda: self.objects.delete(keys))
        for commit in commits:
            self._expire(commit)

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

    def _stop(self, run: Run, commit_id: str) -> None:
        name = run_name(run.shard, run.run)
        self.alerts.send("page", "Cleaning stopped", {"run": name, "commit": commit_id, "what": "it is still pending"})
        raise LedgerCorruptError(f"run {name} took the last hours of commit {commit_id}, which is still pending")

"""The cleaners delete objects that compaction has replaced (P30), and objects of commits that never succeeded (P32)."""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import takewhile
from typing import NoReturn

from metering import metric_names
from metering.errors import ConditionFailedError, LedgerCorruptError, UnavailableError
from metering.hours import date_of
from metering.lake.plan import Plan
from metering.ledger import booked_hours
from metering.ledger.commits import CommitRecord, commit_key, shards_of, waiting_key
from metering.ledger.notes.lake import ORPHANS_KEY, Cleaning, OrphanPasses
from metering.ledger.runs import Contradictions, Run, lake_chain, long_done, newest_first
from metering.stores.clock import Alerts, Clock, Deadline, Metrics, Retrier, do_all, side_by_side
from metering.stores.objects import (
    QUARANTINE_PREFIX,
    STAGING_PREFIX,
    ObjectInfo,
    ObjectStore,
    commit_id_of,
    commit_of_refused_records,
)
from metering.stores.writes import Absent, Delete, Equals, Exists, Item, ItemStore, Key, Put, Table, Update
from metering.units import DAY_S, HOUR_S

_COMMITS_AT_ONCE = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class CleaningResult:
    """Result of one call of `Cleaner.run`: number of cleaned runs, and number of commits cleaned with these runs."""

    runs: int
    commits: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Cleaner:
    """Removes the staging objects and pointers that compaction has made superfluous.

    Attributes:
        wait_s: Time between the end of a run and its cleaning. The delay lets slow readers finish without a retry.
        commit_life_s: Seconds for which a cleaned commit's item is kept: the retention of markers.
        threads: Maximum number of pointers and commits that are written concurrently.
        reserve_ms: Minimum remaining time for which a further run is started.
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
        """Clean the runs that are due, oldest first. The next call cleans the remaining runs.

        Raises:
            LedgerCorruptError: A commit is waiting or pending although its last hours were compacted (an alert was
                sent), or an item or plan cannot be read. All other shards were cleaned.
            UnavailableError: The outcome of a request is unknown.
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
        """Runs to clean, oldest first. Runs are cleaned in order, so all runs before a cleaned run are cleaned, too."""
        newest = newest_first(self.items, lake_chain(shard))
        uncleaned = list(takewhile(lambda run: not run.cleaned, newest))
        return list(long_done(reversed(uncleaned), wait_ms=self.wait_s * 1000, now_ms=self.clock.now_ms()))

    def _keep(self, shard: int, left: deque[Run]) -> None:
        """Store the time since which the oldest remaining run has been due."""
        due_ms = (left[0].done_at_ms or 0) + self.wait_s * 1000 if left else None
        cleaning = Cleaning(chain=lake_chain(shard), looked_s=self.clock.now_ms() // 1000, due_ms=due_ms)
        self.retrier.call(lambda: cleaning.keep(self.items))

    def _clean(self, run: Run) -> int:
        """Clean one run; returns the number of the run's commits. A run that a restore put has no plan (P41)."""
        commits = self._clean_plan(run) if run.plan_key else 0
        cleaned = Update(
            table=Table.LEDGER, key=run.key, set={"cleaned": True}, condition=Equals(attribute="state", value="done")
        )
        self.retrier.call(lambda: self.items.update(cleaned))
        return commits

    def _clean_plan(self, run: Run) -> int:
        plan = Plan.from_json(self.retrier.call(lambda: self.objects.get(run.plan_key)), run.plan_key)
        pairs = [booked_hours.pointer_key(hour.hour_s, commit_id) for hour in plan.hours for commit_id in hour.commits]
        # All items are deleted before the first staging object: a reader that misses a staging object starts again.
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
        """A safeguard: by the protocol, a commit is not waiting or pending if a done run compacted its last hours."""
        pending = [booked_hours.pending_key(run.shard, commit_id) for commit_id in commit_ids]
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
            # The item expired after it was read, so an earlier cleaner finished this job long ago.
            return

    def _stop(self, run: Run, commit_id: str, what: str) -> NoReturn:
        self.alerts.send("page", "Cleaning stopped", {"run": run.name, "commit": commit_id, "what": what})
        raise LedgerCorruptError(f"run {run.name} took the last hours of commit {commit_id}, and {what}")


# Orphans: objects of commits that never became durable (P32).
#
# Age alone proves nothing, because a transaction with an unknown outcome may still succeed. So the commit of an orphan
# is first fenced as `aborted`. An orphan's objects are deleted only once it is certain that the fence is written.
# `cleaner` deletes the objects of all other commits.
#
# Each object is examined once when it is old enough; once a day, all remaining objects are examined again, because a
# PUT whose reply was lost may appear behind the cursor.


@dataclass(slots=True)
class _Objects:
    """Keys of the objects of one commit."""

    staged: list[str] = field(default_factory=list)
    quarantined: list[str] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class _Pass:
    """A pass over the staging and quarantine objects.

    Attributes:
        from_s: Objects written before this time (a whole second) are skipped.
        to_s: Objects written after this time are not checked, because they are too young.
        after: Keys up to this key are skipped; during the pass, the last key that was returned.
        cut: Whether the pass ended early for lack of time.
        unsure: Whether the pass kept an object because the outcome of a fence is unknown.
    """

    from_s: int
    to_s: int
    after: str = ""
    cut: bool = False
    unsure: bool = False
    contradictions: Contradictions = field(default_factory=Contradictions)


def quarantine_age_s(commit_life_s: int) -> int:
    """Maximum age of an orphan's quarantine object: safely below the age at which a commit's item may expire.

    A cleaned commit's item expires after `commit_life_s`. Absent before four fifths of this time, it never existed.
    """
    return commit_life_s * 4 // 5


@dataclass(frozen=True, slots=True, kw_only=True)
class OrphanCleaner:
    """Fences commits that left objects but no commit item, and deletes these objects.

    Attributes:
        age_s: Younger objects are skipped, as their commit is probably in progress. Safety does not need this limit.
        quarantine_age_s: Older quarantine objects are never deleted, because the item of their commit may have expired.
        every_s: Time between two passes over new objects.
        whole_every_s: Time between two passes over all objects.
        threads: Number of blocks of commits that are checked concurrently.
        reserve_ms: Minimum remaining time for which further commits are checked.
    """

    items: ItemStore
    objects: ObjectStore
    clock: Clock
    retrier: Retrier
    metrics: Metrics
    quarantine_age_s: int
    age_s: int = HOUR_S
    every_s: int = HOUR_S
    whole_every_s: int = DAY_S
    threads: int = 1
    reserve_ms: int = 30_000

    def run(self, deadline: Deadline, *, whole: bool = False) -> int:
        """Check unchecked objects that are old enough; once a day, check all objects. Returns the number of deletions.

        Raises:
            UnavailableError: A listing or read got no answer; the next call continues.
            LedgerCorruptError: Commits cannot be read. The commits' objects were kept; all other objects were checked.
        """
        now_s = self.clock.now_ms() // 1000
        known = self._passes()
        if whole:
            known = replace(known, whole_s=0, began_s=0, after="")
        if now_s - known.whole_s >= self.whole_every_s:
            return self._whole(known, deadline, now_s)
        if now_s - self.age_s - known.seen_to_s >= self.every_s:
            return self._new(known, deadline, now_s)
        return 0

    def _whole(self, known: OrphanPasses, deadline: Deadline, now_s: int) -> int:
        began_s = known.began_s or now_s
        each = _Pass(from_s=0, to_s=now_s - self.age_s, after=known.after)
        deleted = self._walk(each, deadline)
        if each.cut:
            self._save(replace(known, began_s=began_s, after=each.after))
        # Until unreadable items are repaired, every call reports them.
        each.contradictions.tell()
        if not (each.cut or each.unsure):
            self._save(OrphanPasses(seen_to_s=max(known.seen_to_s, began_s - self.age_s), whole_s=began_s))
        return deleted

    def _new(self, known: OrphanPasses, deadline: Deadline, now_s: int) -> int:
        each = _Pass(from_s=known.seen_to_s, to_s=now_s - self.age_s)
        deleted = self._walk(each, deadline)
        each.contradictions.tell()
        if not (each.cut or each.unsure):
            self._save(replace(known, seen_to_s=each.to_s))
        return deleted

    def _passes(self) -> OrphanPasses:
        item = self.retrier.call(lambda: self.items.get(Table.LEDGER, ORPHANS_KEY))
        return OrphanPasses() if item is None else OrphanPasses.from_item(item)

    def _save(self, passes: OrphanPasses) -> None:
        put = Put(table=Table.LEDGER, item=passes.to_item())
        self.retrier.call(lambda: self.items.put(put))

    def _walk(self, each: _Pass, deadline: Deadline) -> int:
        deleted = sum(side_by_side(partial(self._judge, each), self._blocks(each, deadline), threads=self.threads))
        self.metrics.count(metric_names.ORPHANS_DELETED, deleted)
        return deleted

    def _blocks(self, each: _Pass, deadline: Deadline) -> Iterator[dict[str, _Objects]]:
        commits: dict[str, _Objects] = {}
        for commit_id, info, staged in self._old_objects(each):
            if len(commits) >= _COMMITS_AT_ONCE and commit_id not in commits:
                yield commits
                commits = {}
                if deadline.remaining_ms() < self.reserve_ms:
                    each.cut = True
                    return
            found = commits.setdefault(commit_id, _Objects())
            (found.staged if staged else found.quarantined).append(info.key)
            each.after = info.key
        if commits:
            yield commits

    def _old_objects(self, each: _Pass) -> Iterator[tuple[str, ObjectInfo, bool]]:
        """Objects of a pass, in the order of their keys: first quarantine, then staging."""
        youngest_kept_s = self.clock.now_ms() // 1000 - self.quarantine_age_s
        for info in self._listed(QUARANTINE_PREFIX, each, from_s=max(each.from_s, youngest_kept_s)):
            commit_id = commit_of_refused_records(info.key)
            if commit_id is not None and info.modified_s > youngest_kept_s:
                yield commit_id, info, False
        for info in self._listed(STAGING_PREFIX, each, from_s=each.from_s):
            yield commit_id_of(info.key), info, True

    def _listed(self, prefix: str, each: _Pass, *, from_s: int) -> Iterator[ObjectInfo]:
        # Keys begin with the commit's date, and the commit's objects are put soon after that date.
        first = f"{prefix}{date_of(from_s - HOUR_S)}" if from_s else prefix
        after = max(each.after, first)
        if after >= _after(prefix):
            return
        for info in self.objects.list(prefix, after=after):
            if from_s <= info.modified_s <= each.to_s:
                yield info

    def _judge(self, each: _Pass, commits: dict[str, _Objects]) -> int:
        keys = [commit_key(commit_id) for commit_id in commits]
        items = self.retrier.call(lambda: self.items.get_many(Table.LEDGER, keys))
        deletable: list[str] = []
        for commit_id, found in commits.items():
            # If a commit is unreadable, its objects are kept: they may be the only copy of accepted rows.
            with each.contradictions.noted():
                deletable += self._deletable(each, commit_id, found, items.get(commit_key(commit_id)))
        if deletable:
            self.retrier.call(lambda: self.objects.delete(deletable))
        return len(deletable)

    def _deletable(self, each: _Pass, commit_id: str, found: _Objects, item: Item | None) -> list[str]:
        if item is None:
            return [*found.staged, *found.quarantined] if self._fence(each, commit_id) else []
        commit = CommitRecord.from_item(item)
        if commit.state == "aborted":
            return [*found.staged, *found.quarantined]
        # Only the cleaner sets `expires_at`, so these staging objects were written again after they had been cleaned.
        return found.staged if commit.expires_at_s is not None else []

    def _fence(self, each: _Pass, commit_id: str) -> bool:
        """Return True only if this call certainly aborted the commit, so that its transaction can no longer succeed."""
        fence = CommitRecord(commit_id=commit_id, state="aborted").to_item()
        try:
            self.items.put(Put(table=Table.LEDGER, item=fence, condition=Absent()))
        except ConditionFailedError:
            return False
        except UnavailableError:
            each.unsure = True
            return False
        return True


def _after(prefix: str) -> str:
    """The first string after all keys with a prefix that ends in a slash."""
    return f"{prefix[:-1]}0"

"""Orphans: objects of commits that were never made (P32).

Age alone proves nothing: a transaction of unknown outcome may still land. So the commit of an orphan is first fenced as
`aborted`. Its objects are deleted only when the fence is known to stand. `cleaner` deletes those of all other commits.

Each object is judged once when it is old enough, and all that are left are judged again once a day: a PUT whose reply
was lost may land behind the cursor.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

from metering import metric_names
from metering.errors import ConditionFailedError, UnavailableError
from metering.hours import date_of
from metering.ledger.commits import CommitRecord, commit_key
from metering.ledger.contradictions import Contradictions
from metering.ledger.notes.lake.orphan_passes import ORPHANS_KEY, OrphanPasses
from metering.stores.bucket import QUARANTINE_PREFIX, STAGING_PREFIX, commit_id_of, commit_of_refused_records
from metering.stores.threads import side_by_side
from metering.stores.writes import Absent, Put, Table
from metering.units import DAY_S, HOUR_S

if TYPE_CHECKING:
    from collections.abc import Iterator

    from metering.stores.clock import Clock, Deadline
    from metering.stores.items import ItemStore
    from metering.stores.objects import ObjectInfo, ObjectStore
    from metering.stores.retrying import Retrier
    from metering.stores.telemetry import Metrics
    from metering.stores.writes import Item

_COMMITS_AT_ONCE = 100


@dataclass(slots=True)
class _Objects:
    """Keys of the objects of one commit."""

    staged: list[str] = field(default_factory=list)
    quarantined: list[str] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class _Pass:
    """One pass over the objects.

    Attributes:
        from_s: Objects that were written before it are left out, but for those of this second.
        to_s: Objects that were written after it are too young.
        after: Keys up to this one are left out; then the last key that was handed out.
        cut: Whether the pass ended early, because time was short.
        unsure: Whether it left something, because the outcome of a fence is unknown.
        contradictions: What could not be read.
    """

    from_s: int
    to_s: int
    after: str = ""
    cut: bool = False
    unsure: bool = False
    contradictions: Contradictions = field(default_factory=Contradictions)


def quarantine_age_s(commit_life_s: int) -> int:
    """Greatest age of an orphan's quarantine object: safely below the age of a commit whose item has expired.

    The item of a cleaned commit lives `commit_life_s`. If it is missing before four fifths of that, it never existed.
    """
    return commit_life_s * 4 // 5


@dataclass(frozen=True, slots=True, kw_only=True)
class OrphanCleaner:
    """Fences commits that left objects but no commit item, and deletes what they left.

    Attributes:
        age_s: Younger objects are skipped: their commit is probably on its way. Safety does not need it.
        quarantine_age_s: Older quarantine objects are never deleted: the item of their commit may have expired.
        every_s: Time between two passes over new objects.
        whole_every_s: Time between two passes over all objects.
        threads: Blocks of commits that are judged at once.
        reserve_ms: With less time left, no further commits are judged.
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
        """Judge what is old enough and was not judged yet; once a day, everything. Returns the number of deletions.

        Args:
            deadline: End of the process. The next call goes on where this one stops.
            whole: Judge everything now.

        Raises:
            UnavailableError: Listing or reading had no answer; the next call does the rest.
            LedgerCorruptError: Commits cannot be read. Their objects were kept, and all others were judged.
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
        # What cannot be read is told at each call, until it is mended.
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
        """Judge the objects of a pass; returns the number of deletions."""
        deleted = sum(side_by_side(partial(self._judge, each), self._blocks(each, deadline), threads=self.threads))
        self.metrics.count(metric_names.ORPHANS_DELETED, deleted)
        return deleted

    def _blocks(self, each: _Pass, deadline: Deadline) -> Iterator[dict[str, _Objects]]:
        """Objects to judge, by commit, in blocks of some commits."""
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
        # Keys begin with the date of the commit, whose objects are put soon after.
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
            # Nothing of an unreadable commit is deleted: it may be the only copy of accepted rows.
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
        # Only the cleaner sets `expires_at`, so these staging objects landed again after the cleaning.
        return found.staged if commit.expires_at_s is not None else []

    def _fence(self, each: _Pass, commit_id: str) -> bool:
        """True only if this call has surely aborted the commit: its transaction cannot land any more."""
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
    """The first text after all keys with a prefix that ends in a slash."""
    return f"{prefix[:-1]}0"

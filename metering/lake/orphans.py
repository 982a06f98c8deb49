"""Orphans: objects of commits that were never made (P32).

Age alone proves nothing: a transaction of unknown outcome may still land. So the commit of an orphan is first fenced as
`aborted`. Its objects are deleted only when the fence is known to stand. `cleaner` deletes those of all other commits.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from metering import metric_names
from metering.errors import ConditionFailedError, UnavailableError
from metering.hours import date_of
from metering.ledger.commits import CommitRecord, commit_key
from metering.ledger.contradictions import Contradictions
from metering.stores.bucket import QUARANTINE_PREFIX, STAGING_PREFIX, commit_id_of, commit_of_refused_records
from metering.stores.writes import Absent, Put, Table
from metering.units import HOUR_S

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
        reserve_ms: With less time left, no further commits are judged.
    """

    items: ItemStore
    objects: ObjectStore
    clock: Clock
    retrier: Retrier
    metrics: Metrics
    quarantine_age_s: int
    age_s: int = HOUR_S
    reserve_ms: int = 30_000

    def run(self, deadline: Deadline) -> int:
        """Judge every object that is old enough; returns the number of deleted objects.

        Raises:
            UnavailableError: Listing or reading had no answer; the next call does the rest.
            LedgerCorruptError: Commits cannot be read. Their objects were kept, and all others were judged.
        """
        deleted = 0
        contradictions = Contradictions()
        commits: dict[str, _Objects] = {}
        for commit_id, info, staged in self._old_objects():
            if len(commits) >= _COMMITS_AT_ONCE and commit_id not in commits:
                deleted += self._judge(commits, contradictions)
                commits = {}
                if deadline.remaining_ms() < self.reserve_ms:
                    break
            found = commits.setdefault(commit_id, _Objects())
            (found.staged if staged else found.quarantined).append(info.key)
        deleted += self._judge(commits, contradictions)
        self.metrics.count(metric_names.ORPHANS_DELETED, deleted)
        contradictions.tell()
        return deleted

    def _old_objects(self) -> Iterator[tuple[str, ObjectInfo, bool]]:
        now_s = self.clock.now_ms() // 1000
        for info in self.objects.list(STAGING_PREFIX):
            if info.modified_s <= now_s - self.age_s:
                yield commit_id_of(info.key), info, True
        youngest_kept_s = now_s - self.quarantine_age_s
        # Keys begin with the date of the commit, and no object is older than its commit.
        for info in self.objects.list(QUARANTINE_PREFIX, after=f"{QUARANTINE_PREFIX}{date_of(youngest_kept_s)}"):
            commit_id = commit_of_refused_records(info.key)
            if commit_id is not None and youngest_kept_s < info.modified_s <= now_s - self.age_s:
                yield commit_id, info, False

    def _judge(self, commits: dict[str, _Objects], contradictions: Contradictions) -> int:
        keys = [commit_key(commit_id) for commit_id in commits]
        items = self.retrier.call(lambda: self.items.get_many(Table.LEDGER, keys)) if keys else {}
        deletable: list[str] = []
        for commit_id, found in commits.items():
            # Nothing of an unreadable commit is deleted: it may be the only copy of accepted rows.
            with contradictions.noted():
                deletable += self._deletable(commit_id, found, items.get(commit_key(commit_id)))
        if deletable:
            self.retrier.call(lambda: self.objects.delete(deletable))
        return len(deletable)

    def _deletable(self, commit_id: str, found: _Objects, item: Item | None) -> list[str]:
        if item is None:
            return [*found.staged, *found.quarantined] if self._fence(commit_id) else []
        commit = CommitRecord.from_item(item)
        if commit.state == "aborted":
            return [*found.staged, *found.quarantined]
        # Only the cleaner sets `expires_at`, so these staging objects landed again after the cleaning.
        return found.staged if commit.expires_at_s is not None else []

    def _fence(self, commit_id: str) -> bool:
        """True only if this call has surely aborted the commit: its transaction cannot land any more."""
        fence = CommitRecord(commit_id=commit_id, state="aborted").to_item()
        try:
            self.items.put(Put(table=Table.LEDGER, item=fence, condition=Absent()))
        except (ConditionFailedError, UnavailableError):
            return False
        return True

"""Objects of commits that never came to be (docs/protocol.md, Cleaner, orphans).

Age alone proves nothing: a transaction of unknown outcome may still land. So an orphan's commit is fenced as `aborted`
first, and only after that is known for sure are its objects deleted.
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
    """What lies around of one commit."""

    staged: list[str] = field(default_factory=list)
    quarantined: list[str] = field(default_factory=list)


def quarantine_age_s(commit_life_s: int) -> int:
    """How old the quarantine of an orphan may be: surely younger than a commit item that expired.

    A cleaned commit's item lives `commit_life_s`; what is missing after four fifths of it was never there.
    """
    return commit_life_s * 4 // 5


@dataclass(frozen=True, slots=True, kw_only=True)
class OrphanCleaner:
    """Fences commits that left objects but no commit item, and deletes what they left.

    Attributes:
        age_s: Younger objects are not looked at (their commit is probably on its way; not needed for safety).
        quarantine_age_s: Older quarantine objects are never deleted: their commit's item may have expired.
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
        """Look at every object that is old enough; returns the number of objects deleted.

        Raises:
            UnavailableError: Listing or reading had no answer; what is left is left to the next call.
            LedgerCorruptError: Commits cannot be read. Nothing of theirs was deleted, and all others were settled.
        """
        deleted = 0
        contradictions = Contradictions()
        commits: dict[str, _Objects] = {}
        for commit_id, info, staged in self._old_objects():
            if len(commits) >= _COMMITS_AT_ONCE and commit_id not in commits:
                deleted += self._settle(commits, contradictions)
                commits = {}
                if deadline.remaining_ms() < self.reserve_ms:
                    break
            found = commits.setdefault(commit_id, _Objects())
            (found.staged if staged else found.quarantined).append(info.key)
        deleted += self._settle(commits, contradictions)
        self.metrics.count(metric_names.ORPHANS_DELETED, deleted)
        contradictions.tell()
        return deleted

    def _old_objects(self) -> Iterator[tuple[str, ObjectInfo, bool]]:
        now_s = self.clock.now_ms() // 1000
        for info in self.objects.list(STAGING_PREFIX):
            if info.modified_s <= now_s - self.age_s:
                yield commit_id_of(info.key), info, True
        youngest_kept_s = now_s - self.quarantine_age_s
        # Keys begin with the date of the commit, and an object is never older than that.
        for info in self.objects.list(QUARANTINE_PREFIX, after=f"{QUARANTINE_PREFIX}{date_of(youngest_kept_s)}"):
            commit_id = commit_of_refused_records(info.key)
            if commit_id is not None and youngest_kept_s < info.modified_s <= now_s - self.age_s:
                yield commit_id, info, False

    def _settle(self, commits: dict[str, _Objects], contradictions: Contradictions) -> int:
        keys = [commit_key(commit_id) for commit_id in commits]
        items = self.retrier.call(lambda: self.items.get_many(Table.LEDGER, keys)) if keys else {}
        deletable: list[str] = []
        for commit_id, found in commits.items():
            # Nothing is deleted for what cannot be read: it may be the only copy of accepted rows.
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
        # `expires_at` is set by the cleaner only: what lies in staging landed again after it was cleaned.
        return found.staged if commit.expires_at_s is not None else []

    def _fence(self, commit_id: str) -> bool:
        """True only if the commit is sure to be aborted by this call: after that its transaction can't land."""
        fence = CommitRecord(commit_id=commit_id, state="aborted").to_item()
        try:
            self.items.put(Put(table=Table.LEDGER, item=fence, condition=Absent()))
        except (ConditionFailedError, UnavailableError):
            return False
        return True

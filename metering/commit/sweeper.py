"""The sweep: finishes the wide commits that their workers left open."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from metering import metric_names
from metering.commit.finisher import Finisher
from metering.errors import LedgerCorruptError, UnavailableError
from metering.ledger.booked_hours import Pending, pending_commit_of, pending_in
from metering.ledger.commits import CommitRecord, commit_key
from metering.ledger.notes.completeness import COMPLETENESS_KEY, Completeness
from metering.ledger.shards import known_shards
from metering.stores.retrying import Retrier
from metering.stores.writes import DYNAMODB_LIMITS, Table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from metering.settings import Settings
    from metering.stores.clock import Clock, Deadline, Entropy
    from metering.stores.items import ItemStore
    from metering.stores.objects import ObjectStore
    from metering.stores.telemetry import Metrics
    from metering.stores.writes import ActionLimits, Item, Key

# BatchGetItem takes 100 keys.
_COMMITS_A_READ = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepResult:
    """What one sweep did.

    Attributes:
        finished: Commits that were open and are not any more.
        left: Commits that are still open; the next sweep tries again.
        corrupt: Commits that cannot be finished; a person has to look.
        complete: False if time ran short before all pending commits were looked at.
    """

    finished: int
    left: tuple[str, ...]
    corrupt: tuple[str, ...]
    complete: bool


class Sweeper:
    """Looks at all wide pending commits. Any number of sweeps may run at once, while workers and compactors run.

    A plain class, because it remembers from one sweep to the next which commits are applied.
    """

    def __init__(
        self,
        *,
        items: ItemStore,
        objects: ObjectStore,
        clock: Clock,
        entropy: Entropy,
        metrics: Metrics,
        settings: Settings,
        limits: ActionLimits = DYNAMODB_LIMITS,
    ) -> None:
        self._items = items
        self._metrics = metrics
        self._settings = settings
        self._retrier = Retrier(clock=clock, entropy=entropy, attempts=settings.attempts)
        self._finisher = Finisher(items=items, objects=objects, retrier=self._retrier, chunk_actions=limits.chunk)
        # Applied commits stay pending until they are compacted, and never open again: no need to read them each time.
        self._applied: set[str] = set()

    def sweep(self, deadline: Deadline) -> SweepResult:
        """Finish what is open, after a look at all pending commits.

        Raises:
            UnavailableError: The pending commits cannot be read now.
        """
        seen: set[str] = set()
        result = self._finish(self._open(self._wide(seen)), deadline)
        if result.complete:
            self._applied &= seen
        return result

    def sweep_known(self, deadline: Deadline) -> SweepResult:
        """Finish what the watch found open when it looked last, without a look at all pending commits.

        Raises:
            UnavailableError: What the watch found cannot be read now.
        """
        item = self._retrier.call(lambda: self._items.get(Table.LEDGER, COMPLETENESS_KEY))
        known = () if item is None else Completeness.from_item(item).open
        self._applied &= set(known)
        return self._finish(self._open(each for each in known if each not in self._applied), deadline)

    def _finish(self, commit_ids: Iterator[str], deadline: Deadline) -> SweepResult:
        finished = 0
        left: list[str] = []
        corrupt: list[str] = []
        complete = True
        for commit_id in commit_ids:
            if deadline.remaining_ms() < self._settings.reserve_ms:
                left.append(commit_id)
                complete = False
                break
            try:
                self._finisher.finish(commit_id)
            except UnavailableError:
                left.append(commit_id)
            except LedgerCorruptError:
                self._metrics.count(metric_names.LEDGER_CORRUPT)
                corrupt.append(commit_id)
            else:
                finished += 1
                self._applied.add(commit_id)
                self._metrics.count(metric_names.COMMITS_FINISHED_LATE)
        return SweepResult(finished=finished, left=tuple(left), corrupt=tuple(corrupt), complete=complete)

    def _open(self, wide: Iterator[str]) -> Iterator[str]:
        """Those that are open, as of when each is read."""
        while block := list(islice(wide, _COMMITS_A_READ)):
            keys = [commit_key(commit_id) for commit_id in block]
            items = self._commits(keys)
            for commit_id, key in zip(block, keys, strict=True):
                item = items.get(key)
                if item is not None and _may_be_open(item):
                    yield commit_id
                else:
                    self._applied.add(commit_id)

    def _commits(self, keys: list[Key]) -> dict[Key, Item]:
        return self._retrier.call(lambda: self._items.get_many(Table.LEDGER, keys))

    def _wide(self, seen: set[str]) -> Iterator[str]:
        """Wide pending commits that are not known to be applied; `seen` gets all of them."""
        for shard in known_shards(self._items, self._settings.shards):
            for item in pending_in(self._items, shard):
                commit_id = pending_commit_of(item)
                if not _may_be_wide(item):
                    continue
                seen.add(commit_id)
                if commit_id not in self._applied:
                    yield commit_id


def _may_be_open(item: Item) -> bool:
    """Also of one that cannot be read: the finisher says so, and it is counted as corrupt."""
    try:
        return CommitRecord.from_item(item).state == "open"
    except LedgerCorruptError:
        return True


def _may_be_wide(item: Item) -> bool:
    """Also of one that cannot be read: then its commit is looked at, and the compactor names it."""
    try:
        return Pending.from_item(item).wide
    except LedgerCorruptError:
        return True

"""Commits that came while the markers were scanned: who compares totals of an hour leaves them out on both sides.

They wait for the roll-up, or a run of it took them since. Each says what it has in an hour, so an hour need not stand
still to be compared.
"""

from __future__ import annotations

from itertools import takewhile
from typing import TYPE_CHECKING

from metering.errors import ObjectMissingError
from metering.ledger.runs import newest_first, rollup_chain
from metering.ledger.shards import known_shards
from metering.ledger.waiting import waiting_commits
from metering.rollup.plan import RollupPlan
from metering.units import MINUTE_S
from metering.usage.totals import add_totals

if TYPE_CHECKING:
    from metering.ledger.runs import Run
    from metering.stores.items import ItemStore
    from metering.stores.objects import ObjectStore
    from metering.usage.totals import Total

# Clocks of workers and of the scan differ by less.
CLOCKS_MS = 10 * MINUTE_S * 1_000


class RecentCommits:
    """Totals by hour of the commits that were made since a moment.

    A plain class: it remembers what it read of plans. That is a total for each hour, and the names in the plans of runs
    that were at work a moment ago, however long ago the moment is.

    Args:
        after_ms: Commits that were made after this moment, epoch milliseconds, by the clock of their worker. A clock
            that is wrong makes an hour look different; then it is looked at batch by batch.
    """

    def __init__(self, items: ItemStore, objects: ObjectStore, *, shards: int, after_ms: int) -> None:
        self._items = items
        self._objects = objects
        self._shards = shards
        self.after_ms = after_ms
        self._planned: dict[int, Total] = {}
        self._read: set[str] = set()
        self._at_work: dict[str, frozenset[str]] = {}

    def now(self) -> dict[int, Total] | None:
        """By hour; None if a plan is gone, so that nobody can tell.

        What waits is listed before the runs are: a commit leaves that list only after a run named it (P2).
        """
        waiting = {
            entry.commit_id: entry.totals
            for entry in waiting_commits(self._items, self._shards)
            if entry.created_at_ms > self.after_ms
        }
        done: list[str] = []
        for shard in known_shards(self._items, self._shards):
            recent = list(takewhile(self._may_hold, newest_first(self._items, rollup_chain(shard))))
            for run in [run for run in recent if run.name not in self._read]:
                try:
                    plan = RollupPlan.from_json(self._objects.get(run.plan_key), run.plan_key)
                except ObjectMissingError:
                    return None
                self._add(run, plan)
            done += [run.name for run in recent if run.state == "done"]
        for taken in self._at_work.values():
            for commit_id in taken & waiting.keys():
                del waiting[commit_id]
        for name in done:
            # What it took has left the list, before it is listed the next time.
            self._at_work.pop(name, None)
        totals = dict(self._planned)
        for hours in waiting.values():
            add_totals(totals, hours)
        return totals

    def _add(self, run: Run, plan: RollupPlan) -> None:
        """Add what a run took: no two runs of a chain take the same commit."""
        recent = [each for each in plan.commits if each.created_at_ms > self.after_ms]
        for commit in recent:
            add_totals(self._planned, commit.totals)
        self._at_work[run.name] = frozenset(commit.commit_id for commit in recent)
        self._read.add(run.name)

    def _may_hold(self, run: Run) -> bool:
        """Whether the run was planned since: an earlier one took earlier commits only. None has a plan of a restore."""
        return bool(run.plan_key) and run.planned_at_ms >= self.after_ms - CLOCKS_MS

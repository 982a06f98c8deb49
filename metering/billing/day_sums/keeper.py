"""Keeps the day sums of a region, and the accounts of the region's months.

Each round reads the compactor runs published since the previous round. A run lists its hours, and each hour lists its
files; the totals beside a file are counted once: a day's sums name their files, and sums and cursor change together,
with the index.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import islice, takewhile
from typing import TYPE_CHECKING

from metering.billing.day_sums.days import AccountTurn, DayAddition, DayReader, day_body, digest_of, empty_day
from metering.billing.day_sums.index import (
    MOST_LISTED,
    DayIndex,
    DayIndexes,
    Reach,
    Uncounted,
    all_done,
    list_unpublished,
    newest_runs,
)
from metering.lake.plan import Plan, PlanHour
from metering.ledger import commits
from metering.ledger.booked_hours import LakeFile, Pending, Published, pending_in, published_key
from metering.ledger.format_version import generations_of
from metering.ledger.runs import Run, lake_chain, newest_first, run_key
from metering.stores import writes
from metering.stores.objects import ObjectStore, rated_day_key
from metering.units import DAY_S
from metering.usage.totals import Total

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from metering.lake import ports
    from metering.stores.clock import Clock, Deadline

# The biller's first run covers this period: two whole months, for forecasts and for typical usage.
_LOOKS_BACK_S = 70 * DAY_S
# One index version adds at most this many files; at 200,000 keys per file, they take about three minutes. More wait.
_MOST_FILES = 400
# A query sums the contents of at most this many uncounted files.
_FEW_FILES = 50
# A query as of now reads at most this many entries of lists, in about a second, and plans of runs.
_MOST_ENTRIES = 10_000
_FEW_RUNS = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """Result of a call: the index, the number of counted files, and the age of the oldest uncounted run (0 if none)."""

    index: DayIndex
    files: int
    behind_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Work:
    """New runs: the last run number of each shard, and the files of the runs by day."""

    runs: Mapping[int, int]
    files: Mapping[int, tuple[tuple[int, LakeFile], ...]]
    oldest_left_ms: int | None

    @property
    def count(self) -> int:
        return sum(map(len, self.files.values()))


@dataclass(frozen=True, slots=True, kw_only=True)
class DaySumKeeper:
    """Adds new lake files to the sums of their days. `reserve_ms` is the time needed for one more round."""

    items: writes.ItemStore
    objects: ObjectStore
    totals: ports.TotalsReader
    clock: Clock
    shards: int
    reserve_ms: int = 420_000
    most_files: int = _MOST_FILES

    def keep(self, deadline: Deadline, *, complete_through_s: int = 0, closed: Mapping[str, str] | None = None) -> Kept:
        """Count all new files, until the deadline.

        Args:
            deadline: End of the process.
            complete_through_s: Time up to which the region's count is complete.
            closed: Closed months of the region, with the digests of their manifests.

        Raises:
            UnavailableError: A call failed. Earlier turns stay counted.
            LedgerCorruptError: A run, a plan, a published item, or a stored object cannot be read.
        """
        indexes = DayIndexes(objects=self.objects)
        files = 0
        while True:
            index = self._begun(indexes.newest())
            now_s = self.clock.now_ms() // 1000
            work, reach = self._looked(index, now_s)
            behind_s = 0 if work.oldest_left_ms is None else max(now_s - work.oldest_left_ms // 1000, 1)
            counted = replace(
                index,
                reach=reach,
                runs=work.runs,
                counted_s=now_s - behind_s,
                complete_through_s=complete_through_s or index.complete_through_s,
                closed=closed if closed is not None else index.closed,
            )
            accounts = AccountTurn(index, self.objects, self.totals)
            days = {day_s: self._added(index, day_s, found, accounts) for day_s, found in work.files.items()}
            whole = accounts.fill({**index.days, **days}, most_files=self.most_files - work.count)
            made = counted.following(days, accounts.put())
            if indexes.put(made):
                files += work.count
                self.objects.delete(index.replaced)
                if (behind_s == 0 and whole) or deadline.remaining_ms() < self.reserve_ms:
                    return Kept(index=made, files=files, behind_s=behind_s)

    def reach(self, index: DayIndex | None = None) -> Reach:
        """Time up to which the sums are complete now, and a lower bound of what they lack, from only a few reads.

        Args:
            index: Index of the sums; by default, the newest one.

        Raises:
            UnavailableError: A call failed.
            LedgerCorruptError: A stored object, or an entry of unpublished usage, cannot be read.
            ObjectMissingError: The index was replaced during the call; call again.
        """
        index = self._begun(index or DayIndexes(objects=self.objects).newest())
        work = replace(self, most_files=_FEW_FILES)._new(index)
        listed = list_unpublished(self.items, self.shards, most=MOST_LISTED)
        files = [file for found in work.files.values() for _, file in found]
        published = Total(sum(file.bytes for file in files), sum(file.rows for file in files))
        more = not listed.whole or not all_done(newest_runs(self.items, self.shards), work.runs)
        return Reach(through_s=index.reach.through_s, left=Uncounted(total=listed.total.plus(published), at_least=more))

    def days_lacking(self, index: DayIndex) -> frozenset[int] | None:
        """First seconds of the days of which the sums may lack usage; None if too much is uncounted to tell.

        A commit goes from the waiting list to the pending list, and from there into a run. The lists are read in this
        order, so a commit that moves meanwhile is seen.

        Raises:
            UnavailableError: A call failed.
            LedgerCorruptError: An entry, a run or a plan cannot be read.
        """
        hours: set[int] = set()
        left = _MOST_ENTRIES
        for waiting in islice(commits.waiting_commits(self.items, self.shards), left):
            hours.update(waiting.totals)
            left -= 1
        for shard in commits.known_shards(self.items, self.shards):
            for pending in islice(map(Pending.from_item, pending_in(self.items, shard)), left):
                hours.update(pending.hours)
                left -= 1
        runs = _FEW_RUNS
        for shard in commits.known_shards(self.items, self.shards):
            for run in islice(self._after(shard, index.runs.get(shard, 0)), runs):
                hours.update(hour.hour_s for hour in self._plan(run))
                runs -= 1
        return frozenset(hour_s - hour_s % DAY_S for hour_s in hours) if left and runs else None

    def begun(self) -> DayIndex:
        """The newest index; in a new region, and after a restore, one without sums. Raises as `reach`."""
        return self._begun(DayIndexes(objects=self.objects).newest())

    def _looked(self, index: DayIndex, now_s: int) -> tuple[_Work, Reach]:
        """New runs, and the time up to which the sums are complete once these runs are counted.

        If no run was in progress meanwhile, no finished run has the commits listed before, and finished runs have all
        others. Otherwise `through_s` does not change, and a new list lacks the commits that the run in progress has
        claimed.
        """
        before = newest_runs(self.items, self.shards)
        listed = list_unpublished(self.items, self.shards)
        work = self._new(index)
        if before != newest_runs(self.items, self.shards) or not all_done(before, work.runs):
            left = list_unpublished(self.items, self.shards).total
            return work, Reach(through_s=index.reach.through_s, left=Uncounted(total=left, at_least=True))
        oldest_s = now_s if listed.oldest_ms is None else listed.oldest_ms // 1_000
        # `through_s` never decreases, because a time that is complete stays complete.
        through_s = max(index.reach.through_s, min(now_s, oldest_s))
        return work, Reach(through_s=through_s, left=Uncounted(total=listed.total))

    def _begun(self, index: DayIndex) -> DayIndex:
        """The index; in a new region, and after a restore of the ledger, an index without sums.

        Sums of before a restore contain usage that the ledger no longer has. Their objects expire (bucket lifecycle),
        because new sums with the same content have the same key.
        """
        found = generations_of(self.items)
        if index.number and index.is_of(found):
            return replace(index, generation=found.usage)
        index = DayIndex(number=index.number, generation=found.usage, ledger_generation=found.ledger)
        runs, from_s = self.runs_before(_LOOKS_BACK_S)
        return replace(index, runs=runs, from_s=from_s)

    def runs_before(self, age_s: int) -> tuple[dict[int, int], int]:
        """The last run of each shard that was planned before this age, and the first day that later runs have whole.

        The day is 0 if no run is older.
        """
        since_ms = self.clock.now_ms() - age_s * 1000
        runs: dict[int, int] = {}
        for shard in commits.known_shards(self.items, self.shards):
            older = (run.number for run in newest_first(self.items, lake_chain(shard)) if run.planned_at_ms < since_ms)
            runs[shard] = next(older, 0)
        first_s = since_ms // 1000 if any(runs.values()) else 0
        return runs, -(-first_s // DAY_S) * DAY_S

    def _new(self, index: DayIndex) -> _Work:
        """Finished runs that the index has not counted yet, with at most `most_files` lake files in all."""
        runs = dict(index.runs)
        files: dict[int, tuple[tuple[int, LakeFile], ...]] = {}
        count, oldest_left_ms = 0, None
        for shard in commits.known_shards(self.items, self.shards):
            for run in self.done(shard, runs.get(shard, 0)):
                if count >= self.most_files:
                    oldest_left_ms = min(run.planned_at_ms, oldest_left_ms or run.planned_at_ms)
                    break
                for hour_s, file in self.published(run):
                    day_s = hour_s - hour_s % DAY_S
                    files[day_s] = (*files.get(day_s, ()), (hour_s, file))
                    count += 1
                runs[shard] = run.number
        return _Work(runs=runs, files=files, oldest_left_ms=oldest_left_ms)

    def done(self, shard: int, after: int) -> Iterator[Run]:
        """Done runs after a given run number, oldest first, up to the first run that is not done."""
        return takewhile(lambda run: run.state == "done", self._after(shard, after))

    def _after(self, shard: int, number: int) -> Iterator[Run]:
        key = run_key(lake_chain(shard), number + 1)
        return map(Run.from_item, self.items.query(writes.Table.LEDGER, key.pk, sk_from=key.sk))

    def _plan(self, run: Run) -> Sequence[PlanHour]:
        """Hours of a run. A run that a restore of the ledger added to the chain has no plan, and no rows (P41)."""
        return Plan.from_json(self.objects.get(run.plan_key), run.plan_key).hours if run.plan_key else ()

    def published(self, run: Run) -> Iterator[tuple[int, LakeFile]]:
        """Hours and lake files that a done run published."""
        keys = [published_key(hour.hour_s, run.shard, run.number) for hour in self._plan(run)]
        for item in self.items.get_many(writes.Table.LEDGER, keys).values():
            published = Published.from_item(item)
            for file in published.files:
                yield published.hour_s, file

    def _added(
        self, index: DayIndex, day_s: int, files: tuple[tuple[int, LakeFile], ...], accounts: AccountTurn
    ) -> str:
        """Add files to a day's sums and to the accounts, and store the sums; returns the key of the sums."""
        key = index.days.get(day_s)
        before = None if key is None else DayReader(self.objects.get(key), key)
        head = empty_day(day_s) if before is None else before.head
        addition = DayAddition(head)
        for hour_s, file in files:
            if file.key not in head.counted:
                addition.add(hour_s, file, accounts.counting(hour_s, self.totals.of(file)))
        body = day_body(addition.head(), addition.accounts(() if before is None else before.accounts()))
        made = rated_day_key(day_s, digest_of(body))
        self.objects.put(made, body, if_absent=False)
        return made

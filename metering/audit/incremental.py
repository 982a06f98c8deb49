"""The reconciler's quick pass, which compares newly published hours and files, and never reads a whole table.

Lake files and accepted markers are immutable. The rows of a new file are therefore compared only once with their
batches' markers and with the totals beside the file. The usage of an hour is compared with the files' totals, and with
rows in staging, each time a run has published files for the hour: all listed hours of a day together. An hour or file
remains on the work list if it was not compared, or differs. The work depends on newly compacted rows, not on all stored
rows. docs/decisions/0013-reconciliation.md has the figures, and names the faults that only a full pass can find.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from heapq import merge
from itertools import groupby, islice, takewhile
from typing import TYPE_CHECKING, TypeVar

from metering.audit.hour_check import Figures, HourCheck, HourComparison
from metering.audit.sequences import MarkerSurvey
from metering.audit.settling import AccountHour, Fingerprint, HourUsage, differing, fingerprint, read_accounts
from metering.audit.verification import MAX_DIFFERENCES, Difference
from metering.lake.plan import Plan
from metering.lake.ports import Group, UsageRows, batches_of
from metering.ledger import commits
from metering.ledger.booked_hours import HourState, Published, RowSource, published_key
from metering.ledger.notes.checks import CANARY_PREFIX
from metering.ledger.notes.reconciliation import WORK_LIST_KEY, Backlog, Suspects, WorkList
from metering.ledger.runs import Contradictions, Run, lake_chain, newest_done, run_key
from metering.ledger.usage.region import region_sums
from metering.stores import clock
from metering.stores.writes import ItemStore, Put, Table, read_note
from metering.units import DAY_S, HOUR_S, MINUTE_S
from metering.usage.totals import REGION, ZERO, Total, UsageKey, add_totals

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from metering.audit.reconciler import Reconciler

# Number of hours of a day whose sums are in memory together, at about 75 bytes per usage key: 12 hours of the target.
HOURS_AT_ONCE = 12
KEYS_AT_ONCE = 2_400_000
_Entry = tuple[UsageKey, Total]
_HourRows = dict[int, dict[UsageKey, Total]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rows:
    """Placed rows of an hour by usage key, in parts, and the ledger's total of these rows."""

    booked: Total
    parts: tuple[UsageRows, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountDays:
    """Compares usage with rows, day by day: one read per account covers all hours of a day (P37).

    Rows are read, ordered by account, from the totals beside the lake files, or from staging if no run has compacted
    them. Therefore the usage of only one account per thread is in memory at a time, not that of a whole hour.
    """

    figures: Figures

    def look(self, hours: Sequence[int]) -> dict[int, HourCheck]:
        """Compare some hours of one day. Reads no markers and scans no table.

        Accounts that have usage but no rows in these hours are not detected: `Reconciler.check` scans for them.

        Raises:
            UnavailableError: A read failed.
            LedgerCorruptError: An item cannot be read, or a file is missing.
        """
        checks: dict[int, HourCheck] = {}
        left = deque(sorted(hours))
        while left:
            done = self.figures.done_runs()
            rows: dict[int, _Rows] = {}
            keys = 0
            while left and len(rows) < HOURS_AT_ONCE and keys < KEYS_AT_ONCE:
                hour_s = left.popleft()
                rows[hour_s] = self._rows(hour_s)
                keys += sum(map(len, rows[hour_s].parts))
            checks |= self._compared(rows, done)
        return checks

    def _compared(self, rows: Mapping[int, _Rows], done: Mapping[int, int]) -> dict[int, HourCheck]:
        """Compare the rows of some hours with usage. `done`: newest done roll-up runs, read before the rows."""
        hours = list(rows)
        made = {hour_s: HourComparison(hour_s=hour_s, done=done, most=MAX_DIFFERENCES) for hour_s in hours}

        def read(account: tuple[str, _HourRows]) -> tuple[_HourRows, Mapping[int, HourUsage]]:
            account_id, found = account
            return found, read_accounts(self.figures.usage, [account_id], from_s=hours[0], to_s=hours[-1] + HOUR_S)

        region: _HourRows = {hour_s: {} for hour_s in self._with_region(hours)}
        for found, usage in clock.side_by_side(read, self._by_account(rows), threads=self.figures.threads):
            for hour_s, hour in made.items():
                hour.add(found.get(hour_s, {}), usage.get(hour_s, HourUsage()))
            for hour_s, sums in region.items():
                add_totals(sums, region_sums(found.get(hour_s, {}).items()))
        _, of_region = read((REGION, {})) if region else ({}, {})
        for hour_s, sums in region.items():
            # Under traffic, late rows may keep the region's items of an hour moving: a later pass compares them.
            if not (usage_of_hour := of_region.get(hour_s, HourUsage())).unsettled(done):
                made[hour_s].add(self.figures.of_region(sums), usage_of_hour)
        return {hour_s: made[hour_s].check(booked=rows[hour_s].booked) for hour_s in hours}

    def _with_region(self, hours: Iterable[int]) -> Iterator[int]:
        """Hours of which the region is compared: they ended long enough ago that few runs book in them (P51)."""
        since_s, now_s = self.figures.region_since_s(), self.figures.clock.now_ms() // 1_000
        return (hour_s for hour_s in hours if since_s <= hour_s <= now_s - 2 * HOUR_S)

    def _rows(self, hour_s: int) -> _Rows:
        def read(state: HourState) -> _Rows:
            return _Rows(booked=state.total, parts=tuple(self.figures.summed(state)))

        return self.figures.view.placed.read(hour_s, read)

    def _by_account(self, rows: Mapping[int, _Rows]) -> Iterator[tuple[str, _HourRows]]:
        streams = [part for found in rows.values() for part in found.parts if len(part)]
        for account_id, entries in groupby(merge(*streams, key=_account_of), key=_account_of):
            hours: _HourRows = {}
            for key, total in entries:
                add_totals(hours.setdefault(key.hour_s, {}), {key: total})
            yield account_id, hours


def _account_of(entry: _Entry) -> str:
    return entry[0].account_id


# The list of files is one item of at most 400 KB, with about 100 bytes a file. More files wait for the next pass.
_MOST_FILES = 2_000
_MARKERS_AT_ONCE = 10_000
# If more accounts than this are unsettled, the hour is not read a second time in this pass.
_LOOKED_AGAIN = 2_000
# Most rows of an hour are booked within this time after the hour ends.
_SETTLES_S = 15 * MINUTE_S

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class IncrementalResult:
    """Result of a quick pass.

    Attributes:
        hours: Hours whose usage was compared with their rows.
        files: New files whose rows were compared with markers.
        different: Hours in which two passes found the same difference, and files whose rows differ from markers.
        left: Number of hours and files that remain on the work list.
        skipped: Number of hours and files skipped for lack of time.
        batches, records: Those of the new files that agree. The canary's batches are left out.
        survey: Sources of the batches of the new files.
        backlog: Hours and files that were skipped or kept changing, and runs whose files do not fit on the work list.
    """

    hours: int
    files: int
    different: tuple[HourCheck, ...]
    left: int
    skipped: int
    batches: int
    records: int
    survey: MarkerSurvey
    backlog: Backlog


@dataclass(frozen=True, slots=True, kw_only=True)
class IncrementalCheck:
    """Compares the hours and files on the work list: first the newest, then those that have waited longest.

    Attributes:
        reserve_ms: Minimum remaining time to start the comparison of an hour or file.
        eventual: The tables, with eventually consistent reads, for first looks at half the price (P37).
    """

    reconciler: Reconciler
    reserve_ms: int = 120_000
    eventual: ItemStore | None = None

    @property
    def figures(self) -> Figures:
        return self.reconciler.figures

    @property
    def first_figures(self) -> Figures:
        """Figures for first looks, which are over if all are equal."""
        return self.figures if self.eventual is None else self.figures.over(self.eventual)

    def run(self, deadline: clock.Deadline) -> IncrementalResult:
        """Add the hours and files published since the last pass to the list, and compare as many as time allows.

        Raises:
            UnavailableError: A read failed; the list is unchanged.
            LedgerCorruptError: A marker cannot be read: the files with its batch remain on the list, and all others
                were compared. Or a run, its plan or a published item cannot be read: the list is unchanged.
        """
        work, unlisted = self._extended(self.work_list())
        contradictions, survey = Contradictions(), MarkerSurvey()
        files = self._files(
            work.files, _Times.of(deadline, share=2, reserve_ms=self.reserve_ms), contradictions, survey
        )
        hours, confirmed = self._usage(work, _Times.of(deadline, share=1, reserve_ms=self.reserve_ms))
        wrong = {file: check for file, check in files.items() if not check.agrees}
        left_hours = {hour_s: since_s for hour_s, since_s in work.hours.items() if not _equal(hours.get(hour_s))}
        left = replace(
            work,
            hours=left_hours,
            suspects={hour_s: found for hour_s, found in work.suspects.items() if hour_s in left_hours},
            files={file: since_s for file, since_s in work.files.items() if not _equal(files.get(file))},
        )
        self.keep(left)
        different = (*wrong.values(), *confirmed)
        self.reconciler.tell(len(hours), different)
        contradictions.tell()
        compared: set[int | str] = {file.key for file in wrong}
        compared |= {check.hour_s for check in confirmed}
        return IncrementalResult(
            hours=len(hours),
            files=len(files),
            different=different,
            left=len(left.hours) + len(left.files),
            skipped=len(work.hours) - len(hours) + len(work.files) - len(files),
            batches=sum(check.batches for check in files.values() if check.agrees),
            records=sum(check.records for check in files.values() if check.agrees),
            survey=survey,
            backlog=left.backlog(different=frozenset(compared)).plus(unlisted),
        )

    def work_list(self) -> WorkList:
        return read_note(self.figures.items, WORK_LIST_KEY, WorkList.from_item) or WorkList()

    def keep(self, work: WorkList) -> None:
        """Store the work list. Only the reconciler writes this list."""
        self.figures.items.put(Put(table=Table.LEDGER, item=work.to_item()))

    def newest_runs(self) -> dict[int, int]:
        """Number of the newest done compaction run of each shard. All earlier runs are also done."""
        return {shard: newest_done(self.figures.items, lake_chain(shard)) for shard in self._shards()}

    def _shards(self) -> range:
        return commits.known_shards(self.figures.items, self.figures.view.shards)

    def _extended(self, work: WorkList) -> tuple[WorkList, Backlog]:
        """Add newly published hours and files to the list; also return the runs whose files do not fit."""
        now_s = self.figures.clock.now_ms() // 1000
        runs, hours, files = dict(work.runs), dict(work.hours), dict(work.files)
        unlisted = Backlog()
        for shard in self._shards():
            for run in self._done(shard, runs.get(shard, 0)):
                if len(files) >= _MOST_FILES:
                    unlisted = unlisted.plus(Backlog(waiting=1, since_s=(run.done_at_ms or run.planned_at_ms) // 1_000))
                    continue
                for published in self._published(run):
                    hours.setdefault(published.hour_s, now_s)
                    for file in published.sources:
                        files.setdefault(file, now_s)
                runs[shard] = run.number
        return replace(work, runs=runs, hours=hours, files=files), unlisted

    def _done(self, shard: int, after: int) -> Iterator[Run]:
        """Done runs after a given run number, oldest first, up to the first run that is not done."""
        key = run_key(lake_chain(shard), after + 1)
        runs = map(Run.from_item, self.figures.items.query(Table.LEDGER, key.pk, sk_from=key.sk))
        return takewhile(lambda run: run.state == "done", runs)

    def _published(self, run: Run) -> Iterator[Published]:
        if not run.plan_key:
            # A restore added this run at the top of the chain; the run has no files (P41).
            return iter(())
        plan = Plan.from_json(self.figures.view.objects.get(run.plan_key), run.plan_key)
        keys = [published_key(hour.hour_s, run.shard, run.number) for hour in plan.hours]
        return map(Published.from_item, self.figures.items.get_many(Table.LEDGER, keys).values())

    def _files(
        self, files: Mapping[RowSource, int], times: _Times, contradictions: Contradictions, survey: MarkerSurvey
    ) -> dict[RowSource, HourCheck]:
        newest = sorted(files, key=lambda file: (-file.hour_s, file.key))
        oldest = sorted(files, key=lambda file: (files[file], file.hour_s, file.key))
        checks: dict[RowSource, HourCheck] = {}
        for file in times.both_ends(newest, oldest):
            checks[file] = self._file(file, contradictions, survey)
        return checks

    def _file(self, file: RowSource, contradictions: Contradictions, survey: MarkerSurvey) -> HourCheck:
        """Compare a file's rows with the markers of their batches, and with the totals beside the file."""
        wrong: list[Difference] = []
        sizes: list[tuple[int, int]] = []
        figures, first = self.figures, self.first_figures
        expired = figures.may_lack_markers(file.hour_s)

        def compare(groups: Iterator[tuple[Group, Total]]) -> None:
            while part := batches_of(dict(islice(groups, _MARKERS_AT_ONCE))):
                # All rows of a batch in an hour are in one file, because they belong to one commit.
                # A marker that no first look can read is contradictory only if a consistent read says so.
                looked = first.marked(file.hour_s, part, Contradictions(), survey)
                found = figures.with_markers(file.hour_s, part, looked, contradictions, survey)
                wrong.extend(found.differences(file.hour_s))
                real = [total.records for name, total in part.items() if not name.startswith(CANARY_PREFIX)]
                sizes.append((len(real), sum(real)))

        usage = figures.view.reader.hour_usage(file.hour_s, [file], batches=None if expired else compare)
        counted = fingerprint(usage)
        wrong += self._summary_differences(file, usage, counted)
        return HourCheck(
            hour_s=file.hour_s,
            stable=True,
            rows=counted.total,
            differences=tuple(wrong[:MAX_DIFFERENCES]),
            batches=sum(batches for batches, _ in sizes),
            records=sum(records for _, records in sizes),
        )

    def _summary_differences(self, file: RowSource, usage: UsageRows, counted_as: Fingerprint) -> Iterator[Difference]:
        """Totals beside a file that differ from its rows. Keys are loaded only if the fingerprints differ."""
        totals = self.figures.totals
        if counted_as == fingerprint(totals.of(file.file)):
            return
        for key, expected, found in differing(dict(totals.of(file.file)), dict(usage)):
            yield Difference(between="ledger/rows", hour_s=file.hour_s, key=key, expected=expected, found=found)

    def _usage(self, work: WorkList, times: _Times) -> tuple[dict[int, HourCheck], list[HourCheck]]:
        """Compare hours within the time limit; return each hour's last result, and the confirmed differences."""
        newest, oldest = self._days(work.hours)
        days = AccountDays(figures=self.first_figures)
        looked: dict[int, HourCheck] = {}
        for day in times.both_ends(newest, oldest):
            looked |= days.look(day)
            for hour_s in work.suspects.keys() & set(day):
                looked[hour_s] = looked[hour_s].with_look(self._look_at(hour_s, work.suspects[hour_s]))
        doubtful = [check for check in looked.values() if not check.agrees and len(check.unsettled) <= _LOOKED_AGAIN]
        different: list[HourCheck] = []
        if doubtful:
            self.figures.clock.sleep_ms(self.reconciler.wait_ms)
        for before in sorted(doubtful, key=lambda check: -check.hour_s):
            if times.deadline.remaining_ms() < self.reserve_ms // 2:
                break
            again = self.reconciler.look_again(before)
            confirmed = again.confirmed(before)
            if confirmed is not None:
                different.append(confirmed)
            looked[before.hour_s] = again
        return looked, different

    def _look_at(self, hour_s: int, suspects: Suspects) -> HourCheck:
        """Compare the suspect accounts and batches of an hour, even those without rows."""
        named = (
            Difference(between="markers/rows", hour_s=hour_s, batch_id=batch_id, expected=ZERO, found=ZERO)
            for batch_id in sorted(suspects.batches)
        )
        before = HourCheck(
            hour_s=hour_s,
            stable=False,
            differences=tuple(named),
            unsettled=frozenset(AccountHour(hour_s, account_id) for account_id in suspects.accounts),
        )
        return self.reconciler.look_again(before)

    def _days(self, hours: Mapping[int, int]) -> tuple[list[tuple[int, ...]], list[tuple[int, ...]]]:
        """Return the hours grouped by day, in two orders: the newest first, and the longest waiting first.

        In the first order, hours that have not ended, or just ended, come last, because their usage settles later.
        """
        now_s = self.figures.clock.now_ms() // 1_000
        days: dict[tuple[bool, int], list[int]] = {}
        for hour_s in sorted(hours, reverse=True):
            over = hour_s + HOUR_S + _SETTLES_S <= now_s
            days.setdefault((over, hour_s - hour_s % DAY_S), []).append(hour_s)
        newest = [tuple(days[each]) for each in sorted(days, reverse=True)]
        return newest, sorted(newest, key=lambda day: min((hours[hour_s], hour_s) for hour_s in day))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Times:
    """Time limits of one kind of work: half for the newest entries, half for those that have waited longest."""

    deadline: clock.Deadline
    turn_ms: int
    end_ms: int

    @classmethod
    def of(cls, deadline: clock.Deadline, *, share: int, reserve_ms: int) -> _Times:
        """Time limits that use the remaining time minus a reserve, divided by `share`."""
        left_ms = deadline.remaining_ms()
        ours_ms = max(left_ms - reserve_ms, 0) // share
        return cls(deadline=deadline, turn_ms=left_ms - ours_ms // 2, end_ms=left_ms - ours_ms)

    def both_ends(self, newest: Sequence[T], oldest: Sequence[T]) -> Iterator[T]:
        """Yield each element once: in the first order for half of the time, then in the second."""
        done: set[T] = set()
        for order, until_ms in ((newest, self.turn_ms), (oldest, self.end_ms)):
            for thing in order:
                if self.deadline.remaining_ms() <= until_ms:
                    break
                if thing not in done:
                    done.add(thing)
                    yield thing


def _equal(check: HourCheck | None) -> bool:
    return check is not None and check.agrees

"""The reconciler's quick pass: it compares newly published hours and files, and never reads a whole table.

A lake file never changes, and neither does an accepted marker. So the markers of the batches in a file are compared
with its rows once, when the file is new. The usage of an hour is compared with its rows, in lake and staging, each time
a run has published files in it. An hour or file that was not compared, or differs, stays on the work list. The work
grows with the compacted rows, not with the kept ones. docs/decisions/0013-reconciliation.md has the figures, and names
the faults that only a whole pass can find.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import islice, takewhile
from typing import TYPE_CHECKING

from metering.audit.reconcile.hour_check import HourCheck
from metering.audit.verify.verification import Difference
from metering.lake.plan import Plan
from metering.lake.rows import BATCH_QUERY, batches_of
from metering.ledger.booked_hours import Published, published_key
from metering.ledger.contradictions import Contradictions
from metering.ledger.markers import Marker, marker_key
from metering.ledger.notes.reconciliation import WORK_LIST_KEY, WorkList
from metering.ledger.runs import Run, lake_chain, newest_done, run_key
from metering.ledger.shards import known_shards
from metering.stores.writes import Put, Table
from metering.usage.totals import ZERO, sum_totals

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from metering.audit.reconcile.reconciler import Reconciler
    from metering.ledger.notes.reconciliation import Backlog
    from metering.ledger.row_sources import RowSource
    from metering.stores.clock import Clock, Deadline
    from metering.stores.items import ItemStore
    from metering.stores.objects import ObjectStore
    from metering.usage.totals import Total

# The list is one item of at most 400 KB, with about 100 bytes for each file. More files wait for the next pass.
_MOST_FILES = 2_000
_MARKERS_AT_ONCE = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class IncrementalResult:
    """Result of a quick pass.

    Attributes:
        hours: Hours whose usage was compared with their rows.
        files: New files whose rows were compared with markers.
        different: Hours in which two looks showed the same difference, and files whose rows differ from markers.
        left: Number of hours and files that stay on the list.
        skipped: Number of those for which there was no time.
        backlog: Those that were not compared, because they were skipped or kept changing.
    """

    hours: int
    files: int
    different: tuple[HourCheck, ...]
    left: int
    skipped: int
    backlog: Backlog


@dataclass(frozen=True, slots=True, kw_only=True)
class IncrementalCheck:
    """Compares the hours and files on the work list.

    Attributes:
        reserve_ms: With less time left, no further hour or file is begun.
    """

    items: ItemStore
    objects: ObjectStore
    reconciler: Reconciler
    clock: Clock
    shards: int
    reserve_ms: int = 120_000

    def run(self, deadline: Deadline) -> IncrementalResult:
        """Add the hours and files published since the last pass to the list, and compare as many as time allows.

        Raises:
            UnavailableError: A read failed; the list is unchanged.
            LedgerCorruptError: A marker cannot be read: its files stay on the list, and the rest was compared. Or a
                run, its plan or a published item cannot be read: the list is unchanged.
        """
        work = self._extended(self.work_list())
        contradictions = Contradictions()
        # The newest come first: if time is short, old files wait, and new ones are still compared soon.
        newest = sorted(work.files, key=lambda file: (-file.hour_s, file.key))
        files = self._files(newest, deadline, contradictions)
        hours, confirmed = self._usage(sorted(work.hours, reverse=True), deadline)
        wrong = {file: check for file, check in files.items() if not check.agrees}
        left = replace(
            work,
            hours={hour_s: since_s for hour_s, since_s in work.hours.items() if not _equal(hours.get(hour_s))},
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
            backlog=left.backlog(different=frozenset(compared)),
        )

    def work_list(self) -> WorkList:
        """The stored work list."""
        item = self.items.get(Table.LEDGER, WORK_LIST_KEY)
        return WorkList() if item is None else WorkList.from_item(item)

    def keep(self, work: WorkList) -> None:
        """Store the work list. The reconciler is its only writer."""
        self.items.put(Put(table=Table.LEDGER, item=work.to_item()))

    def newest_runs(self) -> dict[int, int]:
        """Number of the newest done run of each shard's compaction. All runs before it are done, too."""
        return {shard: newest_done(self.items, lake_chain(shard)) for shard in known_shards(self.items, self.shards)}

    def _extended(self, work: WorkList) -> WorkList:
        now_s = self.clock.now_ms() // 1000
        runs, hours, files = dict(work.runs), dict(work.hours), dict(work.files)
        for shard in known_shards(self.items, self.shards):
            for run in self._done(shard, runs.get(shard, 0)):
                if len(files) >= _MOST_FILES:
                    break
                for published in self._published(run):
                    hours.setdefault(published.hour_s, now_s)
                    for file in published.sources:
                        files.setdefault(file, now_s)
                runs[shard] = run.number
        return replace(work, runs=runs, hours=hours, files=files)

    def _done(self, shard: int, after: int) -> Iterator[Run]:
        """Finished runs after a number, oldest first, up to the first unfinished one."""
        key = run_key(lake_chain(shard), after + 1)
        runs = map(Run.from_item, self.items.query(Table.LEDGER, key.pk, sk_from=key.sk))
        return takewhile(lambda run: run.state == "done", runs)

    def _published(self, run: Run) -> Iterator[Published]:
        plan = Plan.from_json(self.objects.get(run.plan_key), run.plan_key)
        keys = [published_key(hour.hour_s, run.shard, run.number) for hour in plan.hours]
        return map(Published.from_item, self.items.get_many(Table.LEDGER, keys).values())

    def _files(
        self, files: list[RowSource], deadline: Deadline, contradictions: Contradictions
    ) -> dict[RowSource, HourCheck]:
        """Checks of the files for which there was time."""
        checks: dict[RowSource, HourCheck] = {}
        for file in files:
            if deadline.remaining_ms() < self.reserve_ms:
                break
            checks[file] = self._file(file, contradictions)
        return checks

    def _file(self, file: RowSource, contradictions: Contradictions) -> HourCheck:
        batches = batches_of(self.reconciler.view.reader.totals([file], BATCH_QUERY))
        expired = self.reconciler.may_lack_markers(file.hour_s)
        wrong = () if expired else tuple(self._marker_differences(file.hour_s, batches, contradictions))
        return HourCheck(
            hour_s=file.hour_s,
            stable=True,
            deep=True,
            markers=None,
            usage=ZERO,
            rows=sum_totals(batches.values()),
            differences=wrong,
        )

    def _marker_differences(
        self, hour_s: int, batches: Mapping[str, Total], contradictions: Contradictions
    ) -> Iterator[Difference]:
        rest = iter(batches.items())
        while part := dict(islice(rest, _MARKERS_AT_ONCE)):
            found = self.items.get_many(Table.LEDGER, [marker_key(batch_id) for batch_id in part])
            markers: dict[str, Marker] = {}
            for item in found.values():
                with contradictions.noted():
                    known = Marker.from_item(item)
                    markers[known.batch_id] = known
            for batch_id, rows in part.items():
                # All rows that a batch has in an hour are in one file, because they came in one commit.
                marker = markers.get(batch_id)
                marked = ZERO if marker is None else marker.hours.get(hour_s, ZERO)
                if marked != rows:
                    yield Difference(
                        between="markers/rows", hour_s=hour_s, batch_id=batch_id, expected=marked, found=rows
                    )

    def _usage(self, hours: list[int], deadline: Deadline) -> tuple[dict[int, HourCheck], list[HourCheck]]:
        """The last look at each hour for which there was time, and the hours with a confirmed difference."""
        looked: dict[int, HourCheck] = {}
        for hour_s in hours:
            if deadline.remaining_ms() < self.reserve_ms:
                break
            looked[hour_s], _ = self.reconciler.look(hour_s, frozenset())
        doubtful = [hour_s for hour_s, check in looked.items() if not check.agrees]
        different: list[HourCheck] = []
        if doubtful:
            self.clock.sleep_ms(self.reconciler.wait_ms)
        for hour_s in doubtful:
            if deadline.remaining_ms() < self.reserve_ms // 2:
                break
            again = self.reconciler.look_again(looked[hour_s])
            confirmed = again.confirmed(looked[hour_s])
            if confirmed is not None:
                different.append(confirmed)
            looked[hour_s] = again
        return looked, different


def _equal(check: HourCheck | None) -> bool:
    return check is not None and check.agrees

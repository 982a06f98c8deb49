"""Census: counts markers, rows and usage of all hours in a range, part by part, in bounded memory.

The order follows docs/protocol.md, P37: all markers, then the newest done runs of the roll-up, then the rows hour by
hour, then all usage items. The parts of a table are read in parallel. The state can be saved after each part or hour,
so that another process can resume the census.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from itertools import takewhile
from typing import TYPE_CHECKING

from metering.audit import sequences, settling, source_keeping
from metering.audit.census_state import Cells, CensusState, HourRows, part_of
from metering.errors import LedgerCorruptError, ObjectMissingError
from metering.lake.ports import BATCH_QUERY, Group, UsageRows, usage_digest
from metering.ledger import commits, runs
from metering.ledger.format_version import generations_of
from metering.ledger.markers import Marker, MarkerGlance, VerdictTally, is_marker
from metering.ledger.usage.region import region_sums
from metering.rollup.plan import RollupPlan
from metering.stores import clock, writes
from metering.units import MINUTE_S
from metering.usage.totals import REGION, ZERO, Total, UsageKey, add_totals

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from metering.audit import hour_check
    from metering.ledger import booked_hours
    from metering.ledger.usage.items import UsageItem
    from metering.stores.objects import ObjectStore

# Clocks of the workers and of the scan differ by less than this.
CLOCKS_MS = 10 * MINUTE_S * 1_000


class RecentCommits:
    """Totals by hour of recent commits, which a comparison excludes on both sides.

    Recent commits either wait for the roll-up, or are in a newer roll-up run. A plain class, because the object caches
    hourly totals of the plans already read, and the commits of runs that were unfinished then.

    Args:
        after_ms: Time (epoch milliseconds, by the worker's clock) after which commits count as recent. If a clock is
            wrong, an hour seems to differ; the hour is then compared batch by batch.
    """

    def __init__(self, items: writes.ItemStore, objects: ObjectStore, *, shards: int, after_ms: int) -> None:
        self._items = items
        self._objects = objects
        self._shards = shards
        self.after_ms = after_ms
        self._planned: dict[int, Total] = {}
        self._read: set[str] = set()
        self._at_work: dict[str, frozenset[str]] = {}

    def now(self) -> dict[int, Total] | None:
        """Return totals by hour; None if a plan no longer exists.

        Waiting commits are listed before the runs: a commit leaves that list only after a run named it (P2).
        """
        waiting = {
            entry.commit_id: entry.totals
            for entry in commits.waiting_commits(self._items, self._shards)
            if entry.created_at_ms > self.after_ms
        }
        done: list[str] = []
        for shard in commits.known_shards(self._items, self._shards):
            recent = list(takewhile(self._may_hold, runs.newest_first(self._items, runs.rollup_chain(shard))))
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
            # The commits of these runs have left the waiting list before the next listing.
            self._at_work.pop(name, None)
        totals = dict(self._planned)
        for hours in waiting.values():
            add_totals(totals, hours)
        return totals

    def _add(self, run: runs.Run, plan: RollupPlan) -> None:
        """Add the commits of a run; no two runs of a chain have a commit in common."""
        recent = [each for each in plan.commits if each.created_at_ms > self.after_ms]
        for commit in recent:
            add_totals(self._planned, commit.totals)
        self._at_work[run.name] = frozenset(commit.commit_id for commit in recent)
        self._read.add(run.name)

    def _may_hold(self, run: runs.Run) -> bool:
        """Whether the run is new enough to contain recent commits. Runs of a restore have no plan."""
        return bool(run.plan_key) and run.planned_at_ms >= self.after_ms - CLOCKS_MS


# If commits arrive during the read of an hour, the hour is read at most this many times.
_LOOKS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class _Hour:
    """Counts of an hour; `total` is the ledger's total for all rows of the hour."""

    rows: HourRows
    placed: Cells
    batches: Cells
    total: Total


@dataclass(slots=True, kw_only=True)
class _Counted:
    cells: Cells
    total: Total = ZERO
    keys: int = 0
    region: dict[UsageKey, Total] | None = None

    def take(self, hour_s: int, rows: UsageRows) -> None:
        size = records = 0
        if self.region is not None:
            add_totals(self.region, region_sums(rows))
        for key, total in rows:
            self.cells.add(hour_s, key.account_id, key, total)
            size, records = size + total.bytes, records + total.records
        self.keys += len(rows)
        self.total = self.total.plus(Total(size, records))


@dataclass(slots=True, kw_only=True)
class _Batches:
    """Rows of an hour by batch. A batch may occur in several groups, whose totals add up."""

    hour_s: int
    cells: Cells
    total: Total = ZERO

    def take(self, groups: Iterable[tuple[Group, Total]]) -> None:
        size = records = 0
        for (name,), rows in groups:
            self.cells.add(self.hour_s, str(name), str(name), rows)
            size, records = size + rows.bytes, records + rows.records
        self.total = self.total.plus(Total(size, records))


@dataclass(frozen=True, slots=True, kw_only=True)
class Census:
    """Counts markers, rows and usage."""

    figures: hour_check.Figures

    def begin(
        self, *, from_s: int, to_s: int, deep: bool, parts: int, markers: bool = True, sources: bool = True
    ) -> CensusState:
        """Begin a census of the hours in `[from_s, to_s)`.

        Args:
            from_s: Start of the first hour.
            to_s: Exclusive end of the last hour.
            deep: Whether to count the rows, instead of reading totals from the summaries beside the lake files.
            parts: Number of parts into which an hour is divided, by hash of account or batch.
            markers: Whether to also compare markers with rows.
            sources: Whether to record the batches' sources and sequence numbers.
        """
        # Usage of hours whose rows S3 has deleted has nothing to be compared with.
        from_s = self.figures.view.kept(from_s)
        state = CensusState(from_s=from_s, to_s=to_s, deep=deep, parts=parts, began_ms=self.figures.clock.now_ms())
        state.generation = generations_of(self.figures.items).ledger
        if markers:
            known = source_keeping.sources_known(self.figures.items) if sources else {}
            state.survey = sequences.MarkerSurvey(sources=known, began_ms=state.began_ms, with_sources=sources)
        else:
            state.with_markers = False
            self._begin_rows(state)
        return state

    def _begin_rows(self, state: CensusState) -> None:
        state.runs = self.figures.done_runs()
        # The rows of settled usage, and of every marker that was read, existed before this listing of hours.
        state.hours = self.figures.view.hours(from_s=state.from_s, to_s=state.to_s)
        state.begin("rows")

    def go_on(
        self,
        state: CensusState,
        *,
        limit: Callable[[], None] = settling.no_limit,
        tell: Callable[[CensusState], None] = lambda _state: None,
    ) -> None:
        """Count to the end.

        Args:
            state: State of the census, consistent after each part or hour.
            limit: Called during the count; it may raise an error, such as ScanTooLongError, to stop the count.
            tell: Called after each part or hour.

        Raises:
            UnavailableError: A read failed.
            LedgerCorruptError: A run cannot be read. Unreadable markers and usage items are listed in the survey's
                contradictions.
        """
        if state.phase == "markers":
            self._count(state, partial(self._markers, state, limit), tell)
            self._begin_rows(state)
        if state.phase == "rows":
            self._rows(state, limit, tell)
            state.begin("usage")
        if state.phase == "usage":
            self._count(state, partial(self._usage, state, limit), tell)
            state.begin("done")

    def _count(
        self, state: CensusState, count: Callable[[int], CensusState], tell: Callable[[CensusState], None]
    ) -> None:
        for part in clock.side_by_side(count, range(state.done, state.segments), threads=self.figures.threads):
            state.merge(part)
            state.done += 1
            tell(state)

    def _markers(self, state: CensusState, limit: Callable[[], None], part: int) -> CensusState:
        found = self.figures.items.scan(writes.Table.LEDGER, part=part, parts=state.segments)
        made = state.part()
        tally = VerdictTally(self.figures.items, from_s=state.from_s, to_s=state.to_s)
        look = Marker.from_item if state.deep else MarkerGlance.of_item
        for item in settling.limited(found, limit):
            if is_marker(item):
                # A context manager is too slow in this loop over hundreds of millions of markers.
                try:
                    marker = look(item)
                    _add_marker(made, marker)
                    if made.verdicts is not None:
                        tally.marker(marker)
                except LedgerCorruptError as error:
                    made.survey.contradictions.add(str(error))
            elif made.verdicts is not None:
                tally.other(item)
        if made.verdicts is not None:
            made.verdicts = tally.counts()
        return made

    def _rows(self, state: CensusState, limit: Callable[[], None], tell: Callable[[CensusState], None]) -> None:
        view = self.figures.view
        recent = RecentCommits(self.figures.items, view.objects, shards=view.shards, after_ms=state.began_ms)

        # Hours are read one at a time: each takes memory for every usage key and, in a deep census, for every batch.
        for hour_s in state.hours[state.done :]:
            limit()
            hour = self._hour(hour_s, state, recent)
            state.placed.merge(hour.placed)
            state.batches.merge(hour.batches)
            state.rows[hour_s] = hour.rows
            state.done += 1
            tell(state)

    def _hour(self, hour_s: int, state: CensusState, recent: RecentCommits) -> _Hour:
        if not state.with_markers or self.figures.may_lack_markers(hour_s):
            return self.figures.view.placed.read(hour_s, partial(self._counted, hour_s, state, marks=False))
        before = None if state.deep else recent.now()
        hour = self.figures.view.read(hour_s, partial(self._counted, hour_s, state, marks=True))
        if state.deep:
            return hour
        return replace(hour, rows=replace(hour.rows, all_rows=self._not_recent(hour_s, hour.total, before, recent)))

    def _counted(self, hour_s: int, state: CensusState, found: booked_hours.HourState, *, marks: bool) -> _Hour:
        """Count the rows that the roll-up has placed by key and, in a deep census, all rows by batch."""
        placed, made, reader = found.placed, _Counted(cells=Cells(state.parts)), self.figures.view.reader
        if hour_s >= self.figures.region_since_s():
            made.region = {}
        by_batch = _Batches(hour_s=hour_s, cells=Cells(state.parts))
        digest = ""
        if state.deep:
            usage = reader.hour_usage(hour_s, placed.sources, batches=by_batch.take if marks else None)
            made.take(hour_s, usage)
            if state.digests:
                digest = usage_digest(usage)
            if marks:
                by_batch.take(reader.groups([source for source in found.sources if source.waiting], BATCH_QUERY))
        else:
            for part in self.figures.summed(placed):
                made.take(hour_s, part)
        for key, total in self.figures.of_region(made.region or {}).items():
            made.cells.add(hour_s, REGION, key, total)
        rows = HourRows(
            booked=placed.total,
            placed=made.total,
            all_rows=by_batch.total if state.deep and marks else None,
            keys=made.keys,
            digest=digest,
        )
        return _Hour(rows=rows, placed=made.cells, batches=by_batch.cells, total=found.total)

    def _not_recent(
        self, hour_s: int, total: Total, before: Mapping[int, Total] | None, recent: RecentCommits
    ) -> Total | None:
        """Return an hour's total without recent commits; None if new commits arrived during every attempt.

        `total` was just read, and `before` holds the totals of recent commits before that read.
        """
        for look in range(_LOOKS):
            total = self.figures.view.hour_between(hour_s).total if look else total
            after = recent.now()
            if before is not None and after is not None:
                came = after.get(hour_s, ZERO)
                if before.get(hour_s, ZERO) == came:
                    return total.minus(came)
            before = after
        return None

    def _usage(self, state: CensusState, limit: Callable[[], None], part: int) -> CensusState:
        made = state.part()
        since_s = self.figures.region_since_s()
        found = self.figures.usage.scan(
            made.survey.contradictions, part=part, parts=state.segments, from_s=state.from_s, to_s=state.to_s
        )
        for item in settling.limited(found, limit):
            compared = item.account_id != REGION or item.hour_s >= since_s
            if compared and state.from_s <= item.hour_s < state.to_s:
                self._add_usage(made, item)
        return made

    def _add_usage(self, made: CensusState, item: UsageItem) -> None:
        settled = settling.is_settled(item.runs, made.runs)
        if not settled:
            bit = 1 << part_of(item.account_id, made.parts)
            made.unsettled[item.hour_s] = made.unsettled.get(item.hour_s, 0) | bit
            for shard, number in item.runs.items():
                made.latest[shard] = max(number, made.latest.get(shard, 0))
        if item.oddities:
            # No rows match the entry that is added here, so its cell differs and is examined.
            made.usage.add(item.hour_s, item.account_id, item.key, Total(1, 1))
        for key, total in self.figures.usage.totals(item, made.survey.contradictions):
            if item.account_id != REGION:
                made.used[item.hour_s] = made.used.get(item.hour_s, ZERO).plus(total)
            if settled:
                made.usage.add(item.hour_s, item.account_id, key, total)


def _add_marker(state: CensusState, marker: Marker | MarkerGlance) -> None:
    state.survey.add(marker)
    if marker.decided_at_ms > state.began_ms and not state.deep:
        # The marker's commit has the same time, and is left out of the rows as well.
        return
    for hour_s, total in marker.hours.items():
        if not state.from_s <= hour_s < state.to_s:
            continue
        state.marked[hour_s] = state.marked.get(hour_s, ZERO).plus(total)
        if state.deep:
            state.marks.add(hour_s, marker.batch_id, marker.batch_id, total)

"""Adoption: a restored ledger takes up what S3 shows as accepted since the restored moment (P41.5).

The ledger is private to restorers until it is opened. Every change follows from the decision and from the restored
items alone, and may be repeated. Changes check that the ledger is still being adopted, so a late call of another
restorer changes nothing once functions work. Only what is put if absent needs no check.
"""

from __future__ import annotations

import io
import sys
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING
from zlib import crc32

from metering.audit.rebuild import marker_of_rows
from metering.errors import ConditionFailedError, LedgerCorruptError, ObjectMissingError, OperationFailedError
from metering.lake.plan import Plan
from metering.lake.ports import BATCH_QUERY, batches_of
from metering.ledger import booked_hours, commits
from metering.ledger.format_version import FORMAT_KEY, adopting, ledger_format
from metering.ledger.markers import (
    ABSENT_OR_REJECTED,
    ACCEPTED,
    Conflict,
    Marker,
    MarkerLine,
    conflicting,
    decode_lines,
    marker_key,
    rejected_marker,
)
from metering.ledger.periods import Period
from metering.ledger.retries import Alias
from metering.ledger.runs import Run, lake_chain, newest_run, rollup_chain
from metering.quarantine.documents import QuarantinedBatch
from metering.restore.decision import commits_pending, commits_waiting, uncleaned
from metering.stores.clock import do_all, in_blocks, side_by_side
from metering.stores.objects import (
    QUARANTINED_BATCHES_PREFIX,
    closed_month_key,
    commit_id_of,
    commit_of_refused_records,
    markers_key,
    part_of_plan_key,
    staging_key,
)
from metering.stores.writes import (
    Absent,
    AllOf,
    Check,
    Delete,
    LessThan,
    Put,
    Table,
    Update,
)
from metering.usage.totals import Total, by_hour

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

    from metering.lake.ports import LakeReader, StagedMarkers, StagedUsage
    from metering.restore.decision import AdoptedPlan, Decision
    from metering.stores.clock import Clock, Retrier
    from metering.stores.objects import ObjectStore
    from metering.stores.writes import Action, ItemStore, Key

# A transaction takes the check and at most this many changes.
CHANGES = 97
# Markers of one transaction. Even batches of very many hours stay below a transaction's size.
LINES = 48
# Clocks of the stores differ by less than this.
_CLOCKS_MS = 15 * 60_000


@dataclass(slots=True, kw_only=True)
class Adopted:
    """Result of an adoption.

    Attributes:
        files: Lake files that were published.
        markers: Batches whose markers were put from lines beside these files; a repeated call counts only its own.
        in_place: Batches whose rows stay in the staging object of their own commit.
        without_lines: Files of an earlier release, whose markers come back from rows alone, without a hash.
        hours: Booked hours, with accounts, of which usage may differ from the rows.
        left: Staging objects whose acceptance is not proven.
        retries: Lines of retries, whose originals may have been adopted later.
    """

    files: int = 0
    markers: int = 0
    in_place: int = 0
    without_lines: int = 0
    hours: dict[int, set[str]] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)
    retries: list[MarkerLine] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """Changes of a ledger that is being adopted."""

    items: ItemStore
    retrier: Retrier
    generation: int
    restorer: str

    def take_over(self) -> None:
        """Be the one restorer that changes the ledger.

        What another one has in flight has landed then, because each of its transactions checks this very item; and
        what it does later changes nothing. So no two restorers see half of each other's changes.

        Raises:
            OperationFailedError: Another restorer has opened the ledger.
        """
        ours = Update(
            table=Table.LEDGER, key=FORMAT_KEY, set={"restorer": self.restorer}, condition=adopting(self.generation)
        )
        try:
            self.retrier.call(lambda: self.items.update(ours))
        except ConditionFailedError:
            raise _opened() from None

    def make(self, actions: Iterable[Action]) -> None:
        """Make changes that may be repeated, in transactions that check that the ledger is still being adopted.

        Raises:
            OperationFailedError: Another restorer has opened the ledger.
        """
        for some in in_blocks(actions, CHANGES):
            if not self.try_(some):
                self.check()
                # Nothing else is a condition of these changes.
                raise _opened()

    def make_each(self, together: Iterable[Sequence[Action]]) -> None:
        """Make changes as `make` does, in as few transactions; those of one sequence are in one transaction.

        Transactions that check the same item at the same time cancel each other, so they are made one by one.
        """
        waiting: list[Action] = []
        for some in together:
            if len(waiting) + len(some) > CHANGES:
                self.make(waiting)
                waiting = []
            waiting += some
        self.make(waiting)

    def check(self) -> None:
        """Check that the ledger is still being adopted.

        Raises:
            OperationFailedError: Another restorer has opened the ledger.
        """
        found = self.retrier.call(lambda: ledger_format(self.items))
        if found is None or (found.state, found.generation) != ("adopting", self.generation):
            raise _opened()
        if found.restorer != self.restorer:
            raise OperationFailedError("Another restorer has taken over.", "See metering restore show.")

    def try_(self, actions: Sequence[Action]) -> bool:
        """Make changes in one transaction. Returns False if a condition failed, or the ledger is open."""
        return self.retrier.transact(self.items, [self._check(), *actions])

    def put_if(self, put: Put) -> bool:
        """Put an item if its condition holds; returns whether it did."""
        try:
            self.retrier.call(lambda: self.items.put(put))
        except ConditionFailedError:
            return False
        return True

    def _check(self) -> Check:
        return Check(table=Table.LEDGER, key=FORMAT_KEY, condition=adopting(self.generation, self.restorer))


@dataclass(slots=True, kw_only=True)
class _Commit:
    """A commit of the restored ledger, or of a staging object.

    Attributes:
        placed: Whether the roll-up had placed it before T, and so booked it whole.
        left: Hours that the restored ledger says are not compacted; None if it does not know the commit.
        filed: Hours whose rows are in adopted files.
        staged: Key of its staging object; empty if the object is gone.
    """

    placed: bool = False
    left: frozenset[int] | None = None
    totals: Mapping[int, Total] = field(default_factory=dict)
    created_at_ms: int = 0
    shard: int = 0
    filed: set[int] = field(default_factory=set)
    staged: str = ""


@dataclass(slots=True, kw_only=True)
class _Changed:
    """Changes of one commit; `left`, `lost`, `retries` and `in_place` as in `Adoption.run`.

    Attributes:
        hours: Hours of its rows, with accounts.
        placed: Changes that belong into one transaction, after the pointers.
    """

    hours: dict[int, set[str]] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    retries: list[MarkerLine] = field(default_factory=list)
    pointers: list[Action] = field(default_factory=list)
    placed: list[Action] = field(default_factory=list)
    in_place: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Adoption:
    """Adopts lake files, their markers, and commits whose acceptance is proven.

    Attributes:
        restorer: A name of this process that no other has.
        since_ms: The restored moment; quarantine objects of before are in the restored ledger.
        marker_life_s: Life of a marker, and of a commit that is cleaned.
    """

    items: ItemStore
    objects: ObjectStore
    staged: StagedMarkers
    usage: StagedUsage
    reader: LakeReader
    clock: Clock
    retrier: Retrier
    generation: int
    shards: int
    since_ms: int
    marker_life_s: int
    restorer: str
    threads: int = 1

    @property
    def changes(self) -> Changes:
        return Changes(items=self.items, retrier=self.retrier, generation=self.generation, restorer=self.restorer)

    def run(self, decision: Decision, tell: Callable[[str, int, int], None] = lambda *_: None) -> Adopted:
        """Adopt; `tell` is called with a step, how much of it is done, and how much there is.

        Raises:
            OperationFailedError: Another restorer has opened the ledger.
            LedgerCorruptError: Rows of an accepted commit are gone.
            UnavailableError: A store does not respond; call again.
        """
        adopted = Adopted()
        # Commits of copies and of adopted files are in shards of this number.
        commits.ShardRecord(items=self.items, retrier=self.retrier, shards=self.shards).ensure()
        self.changes.make(self._months(decision))
        self._refusals(conflicts=True)
        known = self._known(decision)
        for done, plan in enumerate(decision.plans, start=1):
            self._plan(plan, known, adopted)
            tell("lake files", done, len(decision.plans))
        self._compacted_before(known)
        lost: list[str] = []
        self.changes.make_each(self._commits(known, adopted, lost, tell))
        do_all(self.keep_original, adopted.retries, threads=self.threads)
        if lost:
            raise LedgerCorruptError(f"the rows of {len(lost)} accepted commits are gone: {', '.join(lost[:5])}")
        return adopted

    def assist(self, decision: Decision, tell: Callable[[str, int, int], None] = lambda *_: None) -> Adopted:
        """Put files and markers of a ledger made from nothing, in any number of processes beside the one that runs.

        Each process takes the plans in an order of its own, and leaves out the hours that another one has put.
        """
        adopted = Adopted()
        staged = {name: _Commit(staged=key) for name, key in _named(decision.staged)}
        plans = (
            () if self.since_ms else sorted(decision.plans, key=lambda plan: crc32((self.restorer + plan.key).encode()))
        )
        for done, plan in enumerate(plans, start=1):
            self._plan(plan, staged, adopted)
            tell("lake files", done, len(plans))
        do_all(self.keep_original, adopted.retries, threads=self.threads)
        return adopted

    def end(self, decision: Decision) -> None:
        """Put the refusals of the lost time, and lift the chains; called once the rest is adopted."""
        self._refusals(conflicts=False)
        self.changes.make(self._lifts(decision))
        self.changes.make(map(self._run, decision.plans))

    def _months(self, decision: Decision) -> Iterator[Action]:
        for month, state in sorted(decision.months.items()):
            key = closed_month_key(month) if state == "closed" else ""
            yield Put(table=Table.LEDGER, item=Period(month=month, state=state, frozen_key=key).to_item())

    def _lifts(self, decision: Decision) -> Iterator[Action]:
        lifts, highest = dict(decision.lifts), max(decision.lifts.values(), default=0)
        # The decision knows the old ledger's shards only by their plans, and those of the roll-up live for a day (P31).
        for shard in self.retrier.call(lambda: commits.known_shards(self.items, self.shards)):
            lifts.setdefault(rollup_chain(shard), highest)
            lifts.setdefault(lake_chain(shard), highest)
        for chain, number in sorted(lifts.items()):
            newest = self.retrier.call(partial(newest_run, self.items, chain))
            if newest is not None and newest.number >= number:
                continue
            if newest is not None and newest.state == "planned":
                # Adoption did this run's work as far as its files exist, so a cleaner must not follow its plan.
                yield self._done(chain, newest.number)
            yield self._done(chain, number)

    def _run(self, adopted_plan: AdoptedPlan) -> Put:
        """The run of an adopted plan, done. Jobs that follow the runs find its files; cleaners find its pointers."""
        key = adopted_plan.key
        chain = lake_chain(adopted_plan.shard)
        if not adopted_plan.whole:
            plan = Plan.from_json(self.retrier.call(lambda: self.objects.get(key)), key)
            key = part_of_plan_key(chain, adopted_plan.number, self.generation)
            part = adopted_plan.part(plan).to_json()
            self.retrier.call(lambda: self.objects.put(key, part, if_absent=True))
        return self._done(chain, adopted_plan.number, key)

    def _done(self, chain: str, number: int, plan_key: str = "") -> Put:
        now_ms = self.clock.now_ms()
        run = Run(chain=chain, number=number, state="done", plan_key=plan_key, planned_at_ms=now_ms, done_at_ms=now_ms)
        return Put(table=Table.LEDGER, item=run.to_item())

    def _refusals(self, *, conflicts: bool) -> None:
        """Put what quarantine says of the lost time: conflicts, before batches are judged; refusals, when all are."""
        found = (
            info.key
            for info in self.objects.list(QUARANTINED_BATCHES_PREFIX)
            if info.modified_s * 1000 >= self.since_ms - _CLOCKS_MS
        )
        do_all(partial(self._refusal, conflicts=conflicts), found, threads=self.threads)

    def _refusal(self, key: str, *, conflicts: bool) -> None:
        batch = QuarantinedBatch.from_json(self.retrier.call(lambda: self.objects.get(key)), key)
        if not batch.batch_id or (batch.kind != "refused") != conflicts:
            return
        item: Conflict | Marker
        if conflicts:
            item = conflicting(batch, key, first_sender_id=batch.first_sender_id)
        else:
            now_s = self.clock.now_ms() // 1000
            item = rejected_marker(batch, key, now_ms=now_s * 1000, expires_at_s=now_s + self.marker_life_s)
        self.changes.put_if(Put(table=Table.LEDGER, item=item.to_item(), condition=Absent()))

    def _known(self, decision: Decision) -> dict[str, _Commit]:
        """Commits with a staging object, and commits that wait or are pending in the restored ledger."""
        known = {name: _Commit(staged=key, placed=name in decision.placed) for name, key in _named(decision.staged)}
        for shard in self.retrier.call(lambda: commits.known_shards(self.items, self.shards)):
            # Commits move from the waiting to the pending list, so another restorer's move is not missed in this order.
            for waiting in self.retrier.call(partial(commits_waiting, self.items, shard)):
                # The roll-up may have placed a part; what it placed is placed again.
                commit = known.setdefault(waiting.commit_id, _Commit())
                commit.left, commit.totals = frozenset(waiting.totals), waiting.totals
                commit.created_at_ms, commit.shard = waiting.created_at_ms, shard
            for pending in self.retrier.call(partial(commits_pending, self.items, shard)):
                commit = known.setdefault(pending.commit_id, _Commit())
                if commit.left is None:
                    commit.left, commit.totals = pending.hours, pending.totals
                    commit.created_at_ms, commit.shard = pending.created_at_ms, shard
        return known

    def _plan(self, adopted_plan: AdoptedPlan, known: Mapping[str, _Commit], adopted: Adopted) -> None:
        plan = Plan.from_json(self.retrier.call(lambda: self.objects.get(adopted_plan.key)), adopted_plan.key)
        ends = plan.ends()
        for hour_s, files, taken in adopted_plan.hours(plan):
            adopted.files += len(files)
            for commit_id in taken & known.keys():
                known[commit_id].filed.add(hour_s)
            published = booked_hours.Published(
                hour_s=hour_s, shard=adopted_plan.shard, run=adopted_plan.number, files=files
            )
            put = self._is_put(published)
            if ends.get(hour_s, frozenset()) & taken:
                lines = self._has_lines if put else partial(self._lines_beside, known=known, adopted=adopted)
                adopted.without_lines += sum(not lines(file.key) for file in files)
            if not put:
                self.changes.put_if(Put(table=Table.LEDGER, item=published.to_item(), condition=Absent()))

    def _is_put(self, published: booked_hours.Published) -> bool:
        """Whether this restore has put an hour, and so its markers. What a backup has may lack some of its markers."""
        if self.since_ms:
            return False
        return self.retrier.call(lambda: self.items.get(Table.LEDGER, published.key)) is not None

    def _has_lines(self, lake_key: str) -> bool:
        return self._exists(markers_key(lake_key))

    def _lines_beside(self, lake_key: str, known: Collection[str], adopted: Adopted) -> bool:
        key = markers_key(lake_key)
        try:
            stream = self.retrier.call(lambda: self.objects.open(key))
        except ObjectMissingError:
            return False
        with stream:
            for some in in_blocks(decode_lines(stream, key), LINES * self.threads):
                parts = in_blocks(some, LINES)
                adopted.markers += sum(side_by_side(self.put_lines, parts, threads=self.threads))
                adopted.retries += [line for line in some if line.retry_of]
                for line in some:
                    if line.marker.refused and line.marker.commit_id not in known:
                        self.keep_refused(line.marker)
        return True

    def keep_refused(self, marker: Marker) -> None:
        """Keep the refused records of a commit that nothing else is left to do for: P32 deletes those of no commit."""
        commit_id = commit_of_refused_records(marker.quarantine_key)
        if not marker.refused or commit_id is None:
            return
        now_ms = self.clock.now_ms()
        made = commits.CommitRecord(
            commit_id=commit_id,
            state="committed",
            hours=tuple(sorted(marker.hours)),
            staging_key=staging_key(commit_id, marker.decided_at_ms // 1000),
            created_at_ms=marker.decided_at_ms,
            expires_at_s=now_ms // 1000 + self.marker_life_s,
        )
        self.changes.put_if(Put(table=Table.LEDGER, item=made.to_item(), condition=Absent()))

    def put_lines(self, lines: Iterable[MarkerLine]) -> int:
        """Put the markers of at most `LINES` accepted batches, and aliases of retries.

        Returns the number of markers that were put.
        """
        now_s = self.clock.now_ms() // 1_000
        live = {line.marker.key: line for line in lines if line.marker.expires_at_s > now_s}
        # A transaction takes an eighth of the processor time that as many calls take. A ledger made from nothing has
        # none of the markers, unless another restorer put them.
        left = self._missing(live) if self.since_ms else live
        while left and not self.retrier.transact(self.items, [_accepted(line) for line in left.values()]):
            left = self._missing(left)
        for line in live.values():
            if line.retry_of:
                alias = alias_of(line)
                self.changes.put_if(Put(table=Table.LEDGER, item=alias.to_item(), condition=Absent()))
        return len(left)

    def _missing(self, lines: Mapping[Key, MarkerLine]) -> dict[Key, MarkerLine]:
        """Lines of batches without an accepted marker."""
        found = self.retrier.call(lambda: self.items.get_many(Table.LEDGER, list(lines)))
        return {key: line for key, line in lines.items() if found.get(key, {}).get("verdict") != "accepted"}

    def keep_original(self, line: MarkerLine) -> None:
        """Extend the life of the marker of a retry's first id to the retry's (P46)."""
        expires_at_s = line.marker.expires_at_s
        longer = Update(
            table=Table.LEDGER,
            key=marker_key(line.retry_of),
            set={"expires_at": expires_at_s},
            condition=AllOf((ACCEPTED, LessThan(attribute="expires_at", value=expires_at_s))),
        )
        try:
            self.retrier.call(lambda: self.items.update(longer))
        except ConditionFailedError:
            # The marker lives long enough, or it is not accepted.
            return

    def _compacted_before(self, known: dict[str, _Commit]) -> None:
        """Tell commits whose last hours a run of the restored ledger took from those with a torn transaction.

        If the run is done, only its cleaning is left. If it is planned, all of its files are adopted.
        """
        for shard in self.retrier.call(lambda: commits.known_shards(self.items, self.shards)):
            for run in self.retrier.call(partial(uncleaned, self.items, lake_chain(shard))):
                plan = Plan.from_json(self.retrier.call(partial(self.objects.get, run.plan_key)), run.plan_key)
                for commit_id in plan.last:
                    if commit_id not in known or known[commit_id].left is not None:
                        continue
                    if run.state == "done":
                        del known[commit_id]
                    else:
                        known[commit_id].left = frozenset()

    def _commits(
        self, known: Mapping[str, _Commit], adopted: Adopted, lost: list[str], tell: Callable[[str, int, int], None]
    ) -> Iterator[Sequence[Action]]:
        """Changes of each commit, whose markers are put already."""
        found = side_by_side(self._commit, sorted(known.items()), threads=self.threads)
        for done, each in enumerate(found, start=1):
            for hour_s, accounts in each.hours.items():
                adopted.hours.setdefault(hour_s, set()).update(accounts)
            adopted.left += each.left
            adopted.in_place += each.in_place
            adopted.retries += each.retries
            lost += each.lost
            yield from ([pointer] for pointer in each.pointers)
            # One transaction says what is left to do, so this may be cut short before it, and repeated.
            yield each.placed
            tell("commits", done, len(known))

    def _commit(self, named: tuple[str, _Commit]) -> _Changed:
        commit_id, commit = named
        made = _Changed()
        item = self.retrier.call(lambda: self.items.get(Table.LEDGER, commits.commit_key(commit_id)))
        record = None if item is None else commits.CommitRecord.from_item(item)
        if record is not None and (record.state == "aborted" or record.expires_at_s is not None):
            # Never landed; or cleaned at T, or nothing of it was left to do for an earlier call.
            return made
        if not commit.staged and record is not None and self._exists(record.staging_key):
            # A restorer made this commit of copied batches since the decision. It waits for a run, as others do:
            # placed without a run, it would be missing in the rows that another restorer has just read.
            return made
        if commit.staged and not (commit.totals and (commit.placed or commit.filed)):
            hours = self._count_hours(commit)
            # What has rows in a lake file was placed, and so the old roll-up had booked it whole (P23, P24).
            made.hours = {} if commit.filed or commit.placed else hours
        if record is None and commit.left is None and not (commit.filed or self._names(commit_id, commit.staged)):
            made.left = [commit.staged]
            return made
        if commit.left is None and not commit.staged:
            return made
        lines = self._lines_of(commit)
        for some in in_blocks(lines, LINES):
            self.put_lines(some)
        made.retries = [line for line in lines if line.retry_of]
        rest = self._rest(commit)
        if rest and not commit.staged:
            made.lost = [commit_id]
            return made
        new = self._record(commit_id, commit, record, rest)
        made.pointers = list(self._pointers(new, commit, rest))
        made.placed = self._placed(new, commit, rest)
        made.in_place = len(lines) if rest else 0
        return made

    def _exists(self, key: str) -> bool:
        return self.retrier.call(lambda: self.objects.head(key)) is not None

    def _names(self, commit_id: str, staged: str) -> bool:
        """Whether a marker of the restored ledger names the commit: the rest of a torn transaction."""
        try:
            lines = self.lines(staged) if staged else []
        except ObjectMissingError:
            return False
        keys = [line.marker.key for line in lines]
        found = self.retrier.call(lambda: self.items.get_many(Table.LEDGER, keys)) if keys else {}
        return any(item.get("commit_id") == commit_id for item in found.values())

    @staticmethod
    def _rest(commit: _Commit) -> frozenset[int]:
        """Booked hours whose rows are in the commit's staging object alone."""
        if commit.left is not None:
            return commit.left - commit.filed
        # The restored ledger does not know it, or has a torn transaction of it.
        return frozenset(commit.totals) - commit.filed

    def _count_hours(self, commit: _Commit) -> dict[int, set[str]]:
        """Hours and accounts of the commit's staging object."""
        try:
            usage = self.retrier.call(lambda: self.usage.usage(commit.staged))
        except ObjectMissingError:
            commit.staged = ""
            return {}
        if not commit.totals:
            commit.totals = by_hour(usage)
        hours: dict[int, set[str]] = {}
        for key in usage:
            # The same accounts are in very many objects.
            hours.setdefault(key.hour_s, set()).add(sys.intern(key.account_id))
        return hours

    def _lines_of(self, commit: _Commit) -> list[MarkerLine]:
        try:
            return self.lines(commit.staged) if commit.staged else []
        except ObjectMissingError:
            # An old cleaner deleted it after the decision, so adopted files have all its rows.
            commit.staged = ""
            return []

    def lines(self, staging_key: str) -> list[MarkerLine]:
        """The markers that a staging object contains, or else what its rows say of them.

        Raises:
            ObjectMissingError: It is gone.
        """
        body = self.retrier.call(lambda: self.staged.markers(staging_key))
        return list(decode_lines(io.BytesIO(body), staging_key)) if body else list(self._lines_of_rows(staging_key))

    def _lines_of_rows(self, staging_key: str) -> Iterator[MarkerLine]:
        """Markers without a hash, for an object of an earlier release."""
        batches: dict[str, dict[int, Total]] = {}
        for hour_s, total in by_hour(self.usage.usage(staging_key)).items():
            source = booked_hours.RowSource(
                key=staging_key, hour_s=hour_s, rows=total.records, bytes=total.bytes, staged=True
            )
            for batch_id, found in batches_of(self.reader.totals([source], BATCH_QUERY)).items():
                batches.setdefault(batch_id, {})[hour_s] = found
        now_ms = self.clock.now_ms()
        for batch_id, totals in batches.items():
            marker = marker_of_rows(batch_id, totals, now_ms)
            marker = replace(marker, expires_at_s=now_ms // 1000 + self.marker_life_s)
            yield MarkerLine(marker=marker, retry_of="", sent_at_ms=now_ms)

    def _record(
        self, commit_id: str, commit: _Commit, record: commits.CommitRecord | None, rest: frozenset[int]
    ) -> commits.CommitRecord:
        now_ms = self.clock.now_ms()
        made = record or commits.CommitRecord(
            commit_id=commit_id,
            state="committed",
            shard=commits.shard_of(commit_id, self.shards) if commit.left is None else commit.shard,
            hours=tuple(sorted(commit.totals)),
            staging_key=commit.staged,
            rows=sum(total.records for total in commit.totals.values()),
            bytes=sum(total.bytes for total in commit.totals.values()),
            created_at_ms=commit.created_at_ms or now_ms,
        )
        # Without rows in staging, the pass over orphans deletes the object (P32).
        return made if rest else replace(made, expires_at_s=now_ms // 1000 + self.marker_life_s)

    @staticmethod
    def _pointers(made: commits.CommitRecord, commit: _Commit, rest: frozenset[int]) -> Iterator[Action]:
        for hour_s, total in sorted(commit.totals.items()):
            if hour_s not in rest:
                yield Delete(table=Table.LEDGER, key=booked_hours.pointer_key(hour_s, made.commit_id))
                continue
            pointer = booked_hours.Pointer(
                hour_s=hour_s,
                commit_id=made.commit_id,
                shard=made.shard,
                rows=total.records,
                bytes=total.bytes,
                staging_key=commit.staged,
            )
            yield Put(table=Table.LEDGER, item=pointer.to_item())

    @staticmethod
    def _placed(made: commits.CommitRecord, commit: _Commit, rest: frozenset[int]) -> list[Action]:
        pending = booked_hours.Pending(
            shard=made.shard,
            commit_id=made.commit_id,
            hours=rest,
            totals=commit.totals,
            created_at_ms=made.created_at_ms,
        )
        return [
            Put(table=Table.LEDGER, item=made.to_item()),
            Delete(table=Table.LEDGER, key=commits.waiting_key(made.shard, made.commit_id)),
            Put(table=Table.LEDGER, item=pending.to_item()) if rest else Delete(table=Table.LEDGER, key=pending.key),
        ]


def _accepted(line: MarkerLine) -> Put:
    return Put(table=Table.LEDGER, item=line.marker.to_item(), condition=ABSENT_OR_REJECTED)


def _named(staged: Iterable[str]) -> Iterator[tuple[str, str]]:
    return ((commit_id_of(key), key) for key in staged)


def _opened() -> OperationFailedError:
    return OperationFailedError("Another restorer has opened the ledger.", "See metering restore show.")


def alias_of(line: MarkerLine) -> Alias:
    """Alias of a retry, beside the marker of the id under which its content came first."""
    return Alias(
        batch_id=line.retry_of,
        content_hash=line.marker.content_hash or "",
        retry_id=line.marker.batch_id,
        expires_at_s=line.marker.expires_at_s,
    )


def open_ledger(items: ItemStore, retrier: Retrier, generation: int) -> None:
    """Open an adopted ledger. Repeat the call after any failure.

    Raises:
        OperationFailedError: The ledger is not the one that is being adopted.
    """
    gone = ("state", "restorer")
    opened = Update(table=Table.LEDGER, key=FORMAT_KEY, remove=gone, condition=adopting(generation))
    try:
        retrier.call(lambda: items.update(opened))
    except ConditionFailedError as error:
        found = error.existing or {}
        if found.get("generation", 1) != generation or "state" in found:
            raise OperationFailedError(
                f"The ledger is of generation {found.get('generation', 1)}, not {generation}.",
                "See metering restore show.",
            ) from None

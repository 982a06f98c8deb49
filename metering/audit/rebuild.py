"""Rebuild usage and markers from rows while functions run (docs/protocol.md).

No recomputed total is ever written. A usage item is corrected by its difference from the rows, if it is unchanged since
it was read (P38). A marker is put only if the batch has no marker or a rejected marker (P40).
"""

from __future__ import annotations

import json
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from io import BytesIO
from itertools import chain, groupby
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, BinaryIO, TextIO
from zlib import crc32

from metering import metric_names
from metering.audit import settling
from metering.audit.census_state import HourStep, tell_hour
from metering.audit.reconciler import Findings, NameSearch, Reconciler
from metering.audit.repair import FrozenTruth, Repair, Repaired, UsageRepair
from metering.errors import (
    ConditionFailedError,
    LedgerCorruptError,
    ObjectDamagedError,
    ObjectMissingError,
)
from metering.hours import hour_label
from metering.lake.ports import BATCH_QUERY, FrozenReader, RowQuery, StagedMarkers
from metering.ledger import commits
from metering.ledger.markers import ABSENT_OR_REJECTED, Marker, decode_lines, marker_key
from metering.ledger.notes.checks import CANARY_ACCOUNT_ID
from metering.ledger.runs import Contradictions, newest_run, rollup_chain
from metering.ledger.usage.region import (
    RegionStart,
    as_booked,
    begin_region,
    claim_numbers,
    region_start,
    region_sums,
)
from metering.rollup.plan import RollupPlan
from metering.stores.clock import Metrics, Retrier, in_blocks, side_by_side
from metering.stores.objects import MARKERS_PREFIX
from metering.stores.writes import (
    Item,
    Put,
    Table,
)
from metering.units import DAY_S, HOUR_S
from metering.usage.totals import REGION, ZERO, Total, UsageKey, UsageKind, add_totals, sum_totals

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from metering.audit import hour_check
    from metering.ledger.booked_hours import HourState
    from metering.ledger.usage.kinds import KindNumbers

# Number of markers that are looked up together.
_LOOKED_UP = 1_000
# Files of one kind. If a file's lines do not fit into memory, they are divided again.
_FILES = 32
# Size of the hash table that excludes most other batches from the files: 64 MiB, one byte per value.
_HASHES = 1 << 26


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkerRebuild:
    """Result of `rebuild markers`.

    Attributes:
        batches: Number of batches found in the rows.
        rebuilt: Number of batches whose lost marker was restored.
        whole: Number of these whose marker was in S3, with content hash, sender and source (P50).
    """

    batches: int
    rebuilt: int
    whole: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkerRebuilder:
    """Restores lost markers of batches that have rows, in bounded memory (docs/protocol.md, P40).

    Rows are read hour by hour, and the markers of their batches are looked up. If a marker is missing, the rows are
    read again, because a marker names all hours of its batch, including hours already read. The missing batches are
    written to files, so that markers can be put a few at a time. Copies of markers in S3 give what rows lack (P50).

    Attributes:
        staged: Reads the markers of staging objects.
        batches_at_once: Approximate maximum of missing batches in memory.
    """

    figures: hour_check.Figures
    staged: StagedMarkers
    retrier: Retrier
    batches_at_once: int

    def run(self) -> MarkerRebuild:
        """See `Rebuilder.markers`."""
        # Only hours that begin within the life of a marker are examined.
        from_s = -(-(self.figures.clock.now_ms() // 1000 - self.figures.marker_life_s) // HOUR_S) * HOUR_S
        with ExitStack() as open_files:
            folder = Path(open_files.enter_context(TemporaryDirectory(prefix="metering-markers-")))
            missing = _Files(folder / "missing", open_files)
            batches = sum(self._look(hour_s, from_s, missing) for hour_s in self.figures.view.hours(from_s=from_s))
            if not missing.lines:
                return MarkerRebuild(batches=batches, rebuilt=0, whole=0)
            totals, copies = _Files(folder / "totals", open_files), _Files(folder / "copies", open_files)
            hashes = missing.hashes()
            # The hours are listed after the batches were found, so that no batch's hour is missing.
            for hour_s in self.figures.view.hours(from_s=from_s):
                self._collect(hour_s, hashes, totals, copies)
            # A commit that was compacted meanwhile has its markers beside a lake file, and is listed only now.
            for info in self.figures.view.objects.list(MARKERS_PREFIX):
                self._copy(partial(self.figures.view.objects.open, info.key), info.key, hashes, copies)
            del hashes
            lost = rebuilt = whole = 0
            for found in _joined(missing, totals, copies, self.batches_at_once):
                lost += len(found)
                for marker in side_by_side(partial(self._put, from_s), found.items(), threads=self.figures.threads):
                    rebuilt += marker is not None
                    whole += marker is not None and marker.content_hash is not None
        return MarkerRebuild(batches=batches + lost, rebuilt=rebuilt, whole=whole)

    def _look(self, hour_s: int, from_s: int, missing: _Files) -> int:
        """Record batches without an accepted marker; return the number of those with one whose first hour this is."""
        first, label = hour_label(from_s), hour_label(hour_s)

        def look(state: HourState) -> int:
            # A missing object fails the read before the first group, so no wasted notes are written.
            names = (str(name) for (name,), _ in self.figures.view.reader.groups(state.sources, BATCH_QUERY))
            begun = 0
            for batch_ids, found in side_by_side(
                self._looked_up, in_blocks(names, _LOOKED_UP), threads=self.figures.threads
            ):
                for batch_id in batch_ids:
                    if batch_id not in found:
                        missing.add(batch_id)
                    elif _first_hour(found[batch_id], first, label) == label:
                        begun += 1
            return begun

        return self.figures.view.read(hour_s, look)

    def _looked_up(self, batch_ids: Sequence[str]) -> tuple[Sequence[str], dict[str, Item]]:
        keys = {batch_id: marker_key(batch_id) for batch_id in batch_ids}
        found = self.retrier.call(lambda: self.figures.items.get_many(Table.LEDGER, list(keys.values())))
        accepted = {key: item for key, item in found.items() if item.get("verdict") == "accepted"}
        return batch_ids, {batch_id: accepted[key] for batch_id, key in keys.items() if key in accepted}

    def _collect(self, hour_s: int, hashes: bytearray, totals: _Files, copies: _Files) -> None:

        def collect(state: HourState) -> None:
            for (name,), total in self.figures.view.reader.groups(state.sources, BATCH_QUERY):
                batch_id = str(name)
                if hashes[_hash(batch_id)]:
                    totals.add(batch_id, hour_s, total.bytes, total.records)
            # Of staging objects, only those of accepted commits are read: others can have other content under an id.
            for source in state.sources:
                if source.staged:
                    self._copy(lambda: BytesIO(self.staged.markers(source.key)), source.key, hashes, copies)  # noqa: B023 - called at once

        self.figures.view.read(hour_s, collect)

    @staticmethod
    def _copy(open_: Callable[[], BinaryIO], key: str, hashes: bytearray, copies: _Files) -> None:
        """Copy the markers of missing batches from an object. If it is damaged, rows alone restore these markers."""
        with suppress(LedgerCorruptError, ObjectDamagedError), open_() as stream:
            for line in decode_lines(stream, key):
                if hashes[_hash(line.marker.batch_id)]:
                    copies.add(line.marker.batch_id, line.marker.to_item())

    def _put(self, from_s: int, batch: tuple[str, _Lost]) -> Marker | None:
        """Put a marker if the batch has none, or a rejected one; return the marker if it was put."""
        batch_id, lost = batch
        now_ms = self.figures.clock.now_ms()
        # A retry may have extended the marker's life, so the life begins anew.
        marker = lost.copied(from_s) or marker_of_rows(batch_id, lost.totals, now_ms)
        marker = replace(marker, expires_at_s=now_ms // 1000 + self.figures.marker_life_s)
        put = Put(table=Table.LEDGER, item=marker.to_item(), condition=ABSENT_OR_REJECTED)
        try:
            self.retrier.call(lambda: self.figures.items.put(put))
        except ConditionFailedError:
            return None
        return marker


def marker_of_rows(batch_id: str, totals: Mapping[int, Total], now_ms: int) -> Marker:
    """Marker of an accepted batch as its rows tell, without content hash; its expiry is still to be set."""
    rows = sum(total.records for total in totals.values())
    return Marker(
        batch_id=batch_id,
        verdict="accepted",
        content_hash=None,
        hash_version=0,
        commit_id="",
        source_id="",
        sequence=None,
        sender_id="",
        records=rows,
        metered=rows,
        refused=0,
        hours=totals,
        decided_at_ms=now_ms,
        expires_at_s=0,
    )


@dataclass(slots=True)
class _Lost:
    """A batch whose marker is lost: the totals of its rows by hour, and the marker that its commit wrote in S3."""

    totals: dict[int, Total] = field(default_factory=dict)
    copy: Marker | None = None

    def copied(self, from_s: int) -> Marker | None:
        """The marker in S3, if its totals are those of the rows in hours from `from_s` on."""
        if self.copy is None:
            return None
        return self.copy if self.totals == {h: t for h, t in self.copy.hours.items() if h >= from_s} else None


def _hash(batch_id: str) -> int:
    return crc32(batch_id.encode()) % _HASHES


class _Files:
    """Lines about batches, in files by hash: a batch is in one file. A plain class, because it counts lines."""

    def __init__(self, path: Path, open_files: ExitStack) -> None:
        self.lines = 0
        self._files: list[TextIO] = [
            open_files.enter_context(path.with_name(f"{path.name}-{number}").open("w+", encoding="utf-8"))
            for number in range(_FILES)
        ]

    def add(self, batch_id: str, *values: object) -> None:
        self.lines += 1
        self._files[crc32(batch_id.encode()) % _FILES].write(json.dumps([batch_id, *values]) + "\n")

    def hashes(self) -> bytearray:
        """One byte per hash value: 1 if a batch with that hash has a line."""
        found = bytearray(_HASHES)
        for number in range(_FILES):
            for batch_id, *_ in self.file(number):
                found[_hash(batch_id)] = 1
        return found

    def file(self, number: int) -> Iterator[list[Any]]:
        """Lists of a batch id and its values."""
        file = self._files[number]
        file.seek(0)
        return map(json.loads, file)


def _joined(missing: _Files, totals: _Files, copies: _Files, at_once: int) -> Iterator[dict[str, _Lost]]:
    """Missing batches, in groups of about `at_once`."""
    parts = 1 + missing.lines // (_FILES * at_once)
    for number in range(_FILES):
        for part in range(parts):
            ours = _of_part(part, parts)
            wanted = {batch_id for batch_id, *_ in missing.file(number) if ours(batch_id)}
            found: dict[str, _Lost] = {}
            for batch_id, hour_s, size, records in totals.file(number) if wanted else ():
                if batch_id in wanted:
                    found.setdefault(batch_id, _Lost()).totals[hour_s] = Total(size, records)
            for batch_id, item in copies.file(number) if found else ():
                if batch_id in found:
                    found[batch_id].copy = Marker.from_item(item)
            yield found


def _of_part(part: int, parts: int) -> Callable[[str], bool]:
    return lambda batch_id: crc32(batch_id.encode()) // _FILES % parts == part


def _first_hour(marker: Item, from_s: str, here: str) -> str:
    """Earliest hour of a marker that is not before `from_s`; `here` if the marker has none, and may be damaged."""
    hours = marker.get("hours")
    return min((label for label in hours if label >= from_s), default=here) if isinstance(hours, dict) else here


# A result lists at most this many corrections. A lost table needs millions of corrections; the count includes them all.
LISTED = 1_000
# For one day, the rows and usage of this many accounts are in memory together.
ACCOUNTS_AT_ONCE = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageRebuild:
    """Result of `rebuild usage`.

    Attributes:
        hours: Hours that were measured.
        repaired: Number of corrections, each of one usage key.
        repairs: The first corrections, up to `LISTED`, with the totals before and after.
        mended: The first items that lost odd attributes or got a revision, up to `LISTED`: key and oddities (P49).
        unreadable: One sentence per contradiction in the ledger. All unaffected work was done.
        unstable: Hours in which some usage changed in every attempt; run the command again.
        closed: Hours of closed months whose usage was corrected to the frozen totals (P39).
        damaged: Hours whose lake files differ from the ledger or the closed month. In an open month, these hours were
            not corrected; in a closed month, `period verify` names the files.
    """

    hours: int
    repaired: int
    repairs: tuple[Repair, ...]
    mended: tuple[str, ...]
    unreadable: tuple[str, ...]
    unstable: tuple[int, ...]
    closed: tuple[int, ...]
    damaged: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebuilder:
    """Rebuilds usage items and markers.

    Attributes:
        frozen: Reads the totals of closed months.
        numbers: Assigns numbers to kinds without a number.
        staged: Reads the markers of staging objects.
        rounds: Maximum number of further measurements of an hour whose usage changes.
        batches_at_once: Approximate maximum of missing batches in memory while markers are rebuilt.
    """

    reconciler: Reconciler
    retrier: Retrier
    metrics: Metrics
    frozen: FrozenReader
    numbers: KindNumbers
    staged: StagedMarkers
    rounds: int = 8
    batches_at_once: int = 1_000_000

    @property
    def figures(self) -> hour_check.Figures:
        return self.reconciler.figures

    def usage(
        self, *, from_s: int = 0, to_s: int | None = None, tell: Callable[[HourStep], None] = lambda _step: None
    ) -> UsageRebuild:
        """Correct the usage of every hour to the totals of its rows, even if the usage table lost all items (P38).

        A census finds the differences, in bounded memory. Corrections are made day by day for some accounts at a time:
        if the process is killed, corrected items remain correct, and the next call corrects the others.

        Args:
            from_s: Start of the first hour.
            to_s: Exclusive end of the range; None for all hours.
            tell: Called after each measured hour, and after each corrected hour.

        Raises:
            UnavailableError: An hour could not be read.
        """
        end_s = self.figures.clock.now_ms() // 1000 + DAY_S if to_s is None else to_s
        work = self._work()
        self._name_planned(work.contradictions)
        state = self.reconciler.begin(from_s=from_s, to_s=end_s, markers=False)
        self.reconciler.census.go_on(state, tell=lambda now: tell_hour(now, "measured", tell))
        doubts = {
            hour_s: doubt
            for hour_s, (_, doubt) in Findings(state, self.figures.may_lack_markers).checks().items()
            if doubt
        }
        # Finds the accounts that have usage in the parts that differ.
        search = NameSearch(figures=self.figures, most=0, limit=settling.no_limit)
        named = search.run(state, doubts).accounts if doubts else {}
        work.contradictions.merge(state.survey.contradictions)
        wrong: dict[int, set[str]] = {}
        for hour_s, doubt in doubts.items():
            known = {*self._accounts(hour_s, work), REGION}
            rows = {name for name in known if doubt.whole or doubt.has_account(name, state.parts)}
            wrong[hour_s] = rows | named.get(hour_s, set())
        start = region_start(self.figures.items) or self._begin_region()
        since_s = self.figures.region_since_s()
        for hour_s in state.hours:
            # The census did not compare these hours. They are filled, whatever is in them.
            if hour_s < since_s and not work.frozen.is_closed(hour_s):
                wrong.setdefault(hour_s, set()).add(REGION)
        result = self._correct(wrong, len({*state.rows, *state.used}), work, tell)
        # A clock that is behind leaves out the newest hours.
        whole = to_s is None and not self.figures.view.hours(from_s=end_s)
        if whole and state.from_s < start.since_s and not (result.unstable or result.damaged or result.unreadable):
            start.begin_earlier(self.figures.items, state.from_s)
        return result

    def _begin_region(self) -> RegionStart:
        return begin_region(self.figures.items, self.figures.view.shards)

    def hours(
        self, accounts: Mapping[int, set[str]], *, tell: Callable[[HourStep], None] = lambda _step: None
    ) -> UsageRebuild:
        """Correct the usage of some accounts in each of some hours.

        Raises:
            UnavailableError: An hour could not be read.
        """
        work = self._work()
        self._name_planned(work.contradictions)
        return self._correct(accounts, len(accounts), work, tell)

    def _work(self) -> _Work:
        view = self.figures.view
        return _Work(frozen=FrozenTruth(items=view.items, objects=view.objects, files=self.frozen, view=view))

    def _correct(
        self, wrong: Mapping[int, set[str]], hours: int, work: _Work, tell: Callable[[HourStep], None]
    ) -> UsageRebuild:
        """Correct some accounts of some hours; `hours` were measured."""
        work.damaged.update(filter(work.frozen.is_damaged, wrong))
        left = self._days(wrong, work, tell)
        for _ in range(self.rounds):
            if not left:
                break
            self.figures.clock.sleep_ms(self.reconciler.wait_ms)
            left = self._days(left, work, tell)
        self.metrics.count(metric_names.USAGE_KEYS_REPAIRED, work.repaired)
        return UsageRebuild(
            hours=hours,
            repaired=work.repaired,
            repairs=tuple(work.repairs),
            mended=tuple(work.mended),
            unreadable=tuple(work.contradictions.texts()),
            unstable=tuple(sorted(left)),
            closed=tuple(sorted(work.closed)),
            damaged=tuple(sorted(work.damaged)),
        )

    def _name_planned(self, contradictions: Contradictions) -> None:
        """Claim the kind numbers that planned runs use. A planned run whose kind number is lost would never finish."""
        for shard in commits.known_shards(self.figures.items, self.figures.view.shards):
            run = newest_run(self.figures.items, rollup_chain(shard))
            if run is None or run.state == "done":
                continue
            with contradictions.noted(), suppress(ObjectMissingError):
                for hour in RollupPlan.from_json(self.figures.view.objects.get(run.plan_key), run.plan_key).hours:
                    if not self.numbers.remembers(hour.account_id, hour.numbered.keys()):
                        self.numbers.claim(hour.account_id, hour.numbered.keys(), fills=True)

    def _accounts(self, hour_s: int, work: _Work) -> set[str]:
        if work.frozen.is_closed(hour_s):
            return work.frozen.accounts(hour_s)
        return self.figures.accounts(hour_s)

    def _days(
        self, hours: Mapping[int, set[str]], work: _Work, tell: Callable[[HourStep], None]
    ) -> dict[int, set[str]]:
        """Correct some accounts of some hours, a day at a time; return the accounts to measure again."""
        left: dict[int, set[str]] = {}
        done = 0
        for _, some in groupby(sorted(hours), key=lambda hour_s: hour_s - hour_s % DAY_S):
            day = list(some)
            for accounts in in_blocks(sorted(set().union(*(hours[h] for h in day)) - {REGION}), ACCOUNTS_AT_ONCE):
                for hour_s, again in self._day(day, frozenset(accounts), work).items():
                    left.setdefault(hour_s, set()).update(again)
            for hour_s in day:
                if REGION in hours[hour_s] and self._region(hour_s, work):
                    left.setdefault(hour_s, set()).add(REGION)
                done += 1
                tell(HourStep(doing="repaired", hour_s=hour_s, done=done, hours=len(hours)))
        return left

    def _day(self, day: Sequence[int], accounts: frozenset[str], work: _Work) -> dict[int, frozenset[str]]:
        """Measure some accounts in hours of one day, and correct their usage; return the accounts to measure again."""
        runs = self.figures.done_runs()
        rows = {hour_s: self._rows(hour_s, accounts, work) for hour_s in day}
        kinds: dict[str, set[UsageKind]] = {}
        for key in chain.from_iterable(found or () for found in rows.values()):
            kinds.setdefault(key.account_id, set()).add(key.kind)
        # Kind numbers are claimed before any usage item is read: see UsageRepair.
        numbers: dict[str, Mapping[UsageKind, int | None]] = {}
        for account_id, some in sorted(kinds.items()):
            with work.contradictions.noted():
                numbers[account_id] = self.numbers.claim(account_id, some, fills=True)
        known = accounts - (kinds.keys() - numbers.keys())
        usage = settling.read_accounts(
            self.figures.usage, known, from_s=day[0], to_s=day[-1] + HOUR_S, threads=self.figures.threads
        )
        left: dict[int, frozenset[str]] = {}
        for hour_s, found in rows.items():
            if found is None:
                continue
            repair = UsageRepair(
                items=self.figures.items,
                objects=self.figures.view.objects,
                numbers=self.numbers,
                runs=runs,
                usage=usage.get(hour_s, settling.HourUsage()),
                rows={key: total for key, total in found.items() if key.account_id in known},
                threads=self.figures.threads,
            )
            result = repair.run(numbers)
            work.add(hour_s, result)
            if result.left:
                left[hour_s] = result.left
        return left

    def _region(self, hour_s: int, work: _Work) -> bool:
        """Correct the region's totals of an hour, and list its accounts; whether to measure the hour again.

        Rows are read from the totals beside lake files, because a fill reads every hour. Closed months are read from
        their frozen totals.
        """
        if work.frozen.is_closed(hour_s):
            return False
        runs = self.figures.done_runs()
        sums, accounts, whole = self.figures.view.placed.read(hour_s, self._summed)
        if not whole:
            work.damaged.add(hour_s)
            return False
        self.numbers.enlist(accounts - {CANARY_ACCOUNT_ID}, threads=self.figures.threads)
        numbers = claim_numbers(self.numbers, {key.kind for key in sums}, fills=True)
        repair = UsageRepair(
            items=self.figures.items,
            objects=self.figures.view.objects,
            numbers=self.numbers,
            runs=runs,
            usage=self.figures.used(hour_s, [REGION]),
            rows=as_booked(sums, numbers),
            threads=self.figures.threads,
        )
        result = repair.run({REGION: numbers})
        work.add(hour_s, result)
        return bool(result.left)

    def _summed(self, state: HourState) -> tuple[dict[UsageKey, Total], set[str], bool]:
        """The region's sums of an hour, its accounts, and whether the rows add up to the ledger's total."""
        sums: dict[UsageKey, Total] = {}
        accounts: set[str] = set()
        total = ZERO
        for rows in self.figures.summed(state):
            found = list(rows)
            add_totals(sums, region_sums(found))
            accounts.update(key.account_id for key, _ in found)
            total = total.plus(sum_totals(each for _, each in found))
        return sums, accounts, total == state.total

    def _rows(self, hour_s: int, accounts: frozenset[str], work: _Work) -> Mapping[UsageKey, Total] | None:
        """Rows of some accounts in an hour; None if the files are damaged."""
        if not work.frozen.is_closed(hour_s):
            return None if self._is_damaged(hour_s, work) else self.figures.placed(hour_s, accounts=accounts).by_key
        return work.frozen.rows(hour_s, accounts)

    def _is_damaged(self, hour_s: int, work: _Work) -> bool:
        """Whether the total of the hour's files differs from the ledger. The files are counted once."""
        if hour_s not in work.counted:
            work.counted.add(hour_s)
            if self.figures.view.placed.read(hour_s, self._adds_up):
                work.damaged.discard(hour_s)
            else:
                work.damaged.add(hour_s)
        return hour_s in work.damaged

    def _adds_up(self, state: HourState) -> bool:
        counted = self.figures.view.reader.totals(state.sources, RowQuery())
        return sum_totals(counted.values()) == state.total

    def markers(self) -> MarkerRebuild:
        """Restore the marker of each batch that has rows but no marker.

        The marker that the batch's commit wrote in S3 is put again. Without that copy, the content hash is unknown, so
        a later batch with the same id is compared by its totals alone. The admission floor stays. The rows
        contain every accepted batch completely, even before its roll-up (P40). Rows are read once, or twice if a marker
        is missing; missing markers take about 100 bytes of disk per batch and hour, and 400 for a copy.

        Raises:
            UnavailableError: An hour or a marker could not be read, or a marker could not be written; call again.
        """
        rebuilder = MarkerRebuilder(
            figures=self.figures, staged=self.staged, retrier=self.retrier, batches_at_once=self.batches_at_once
        )
        result = rebuilder.run()
        self.metrics.count(metric_names.MARKERS_REBUILT, result.rebuilt)
        return result


@dataclass(slots=True, kw_only=True)
class _Work:
    """Results of a call so far; `counted` contains the hours of open months whose files were counted."""

    frozen: FrozenTruth
    repaired: int = 0
    repairs: list[Repair] = field(default_factory=list)
    mended: list[str] = field(default_factory=list)
    contradictions: Contradictions = field(default_factory=Contradictions)
    closed: set[int] = field(default_factory=set)
    damaged: set[int] = field(default_factory=set)
    counted: set[int] = field(default_factory=set)

    def add(self, hour_s: int, result: Repaired) -> None:
        repairs = result.repairs
        self.repaired += len(repairs)
        self.repairs += repairs[: LISTED - len(self.repairs)]
        self.mended += result.mended[: LISTED - len(self.mended)]
        if repairs and self.frozen.is_closed(hour_s):
            self.closed.add(hour_s)

"""The exact view of all accepted rows: published files, and staging objects of rows that are not published yet.

P25 gives the read order: published files, waiting commits, pointers, and published files again. A commit leaves the
waiting list only after its pointers are written, so every reader finds it in the list or through a pointer. If a
staging object is missing, a reader repeats the whole read, and never skips the object (P26).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Protocol, TypeVar

from metering.errors import LedgerCorruptError, ObjectMissingError, OperationFailedError, UnavailableError
from metering.hours import hour_label, rfc3339
from metering.lake.ports import USAGE_QUERY, Group, LakeReader, RowQuery, usage_of
from metering.ledger import booked_hours
from metering.ledger.commits import CommitRecord, Waiting, known_shards, waiting_commits, waiting_key
from metering.stores.objects import LAKE_PREFIX, RUNS_PREFIX, ObjectStore, hour_of_lake_key, lake_prefix
from metering.stores.writes import Item, ItemStore, Table, key_of
from metering.units import DAY_S, HOUR_S
from metering.usage.totals import Total, UsageKey, add_totals

if TYPE_CHECKING:
    from metering.stores.clock import Clock

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Look:
    """Items of an hour from one read, in this order: published files, waiting commits, pointers."""

    published: list[Item]
    waiting: list[Waiting]
    pointers: list[Item]

    @property
    def published_keys(self) -> list[str]:
        return _sort_keys(self.published)

    @property
    def keys(self) -> frozenset[str]:
        """Published keys, and one key per commit, which placing leaves unchanged, because placing changes no state."""
        waiting = [booked_hours.pointer_key(0, entry.commit_id).sk for entry in self.waiting]
        return frozenset([*self.published_keys, *waiting, *_sort_keys(self.pointers)])

    def state(self, hour_s: int) -> booked_hours.HourState:
        runs = set(map(booked_hours.run_that_published, self.published))
        files = [source for item in self.published for source in booked_hours.Published.from_item(item).sources]
        pointers = list(map(booked_hours.Pointer.from_item, self.pointers))
        placed = {pointer.commit_id for pointer in pointers}
        staged = [
            booked_hours.RowSource(
                key=pointer.staging_key, hour_s=hour_s, rows=pointer.rows, bytes=pointer.bytes, staged=True
            )
            for pointer in pointers
            if pointer.run not in runs
        ]
        waiting = [_waiting_source(entry, hour_s) for entry in self.waiting if entry.commit_id not in placed]
        return booked_hours.HourState(hour_s=hour_s, sources=(*files, *staged, *waiting), keys=self.keys)


class RowsGoneError(OperationFailedError):
    """Rows of a range are not kept any more, because the stage has a setting for the life of its lake files."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LakeLife:
    """Life of lake files, which S3 deletes by their age.

    Attributes:
        life_s: Age from which a file is deleted.
    """

    life_s: int
    clock: Clock
    objects: ObjectStore

    def kept(self, from_s: int) -> int:
        """Start of a range whose rows are all kept: `from_s` itself; for 0, the first hour of which all are, for a day.

        A file is made after its hour began, so it lives at least as long as if it were made then.

        Raises:
            RowsGoneError: Rows since `from_s` may be deleted.
        """
        first_s = -(-(self.clock.now_ms() // 1000 - self.life_s) // HOUR_S) * HOUR_S
        if from_s >= first_s or not self._has_deleted(first_s):
            return from_s
        if from_s:
            raise RowsGoneError(
                f"Rows before {rfc3339(first_s)} are not kept any more (lake_retention_days {self.life_s // DAY_S}).",
                "Totals by account, closed months and invoices are: name accounts, ask about a closed month without "
                f"detail, or begin with {rfc3339(first_s)}.",
            )
        # A long read of everything takes up to a day, in which further hours pass.
        return first_s + DAY_S

    def _has_deleted(self, first_s: int) -> bool:
        """Whether files can be that old. Plans of the lake's runs are never deleted, so the first one shows it."""
        first = next(iter(self.objects.list(f"{RUNS_PREFIX}L")), None)
        return first is not None and first.modified_s < first_s


@dataclass(frozen=True, slots=True, kw_only=True)
class LakeView:
    """Returns one consistent view of the rows of an hour.

    Attributes:
        attempts: Maximum number of attempts to read one hour. A retry is necessary if the hour changed during the read.
        with_waiting: Whether rows of commits that wait for the roll-up are included.
        commit: The only commit whose staged rows are included; None for all commits.
        life: Life of lake files; None if they are kept for ever.
    """

    items: ItemStore
    objects: ObjectStore
    reader: LakeReader
    shards: int
    attempts: int = 50
    with_waiting: bool = True
    commit: CommitRecord | None = None
    life: LakeLife | None = None

    def kept(self, from_s: int) -> int:
        """As `LakeLife.kept`; `from_s` if lake files are kept for ever."""
        return from_s if self.life is None else self.life.kept(from_s)

    @property
    def placed(self) -> LakeView:
        """The view of rows that the roll-up has placed, for comparison with settled usage (P37)."""
        return replace(self, with_waiting=False)

    def of_commit(self, commit: CommitRecord) -> LakeView:
        """A view of published files and one commit only, with few reads for any number of commits in an hour."""
        return replace(self, commit=commit)

    def hour_between(self, hour_s: int) -> booked_hours.HourState:
        """Interval-exact state: it has all commits made before this call, and no commits made after its return.

        Raises:
            UnavailableError: The hour changed too often while it was read.
        """
        return self._hour(hour_s, agrees=lambda _, seen: seen.published_keys == _sort_keys(self._published(hour_s)))

    def hour_snapshot(self, hour_s: int) -> booked_hours.HourState:
        """Moment-exact state: the hour as it was at one moment during this call.

        Raises:
            UnavailableError: The hour changed too often while it was read.
        """
        return self._hour(hour_s, agrees=lambda before, seen: before is not None and before.keys == seen.keys)

    def read(self, hour_s: int, work: Callable[[booked_hours.HourState], T], *, exact: bool = False) -> T:
        """Call `work` with the state of an hour; if a staging object disappears meanwhile, call again with a new state.

        Raises:
            RowsGoneError: Rows of the hour may be deleted.
            UnavailableError: The hour changed too often while it was read.
            LedgerCorruptError: A published file is missing, or a staging object that no published file replaces.
        """
        self.kept(hour_s)
        missing = ""
        for _ in range(self.attempts):
            state = self.hour_snapshot(hour_s) if exact else self.hour_between(hour_s)
            if any(source.key == missing for source in state.sources):
                # After a first miss, the hour still names the object, so its rows were not moved to a published file.
                raise LedgerCorruptError(f"{missing} is gone, and hour {hour_label(hour_s)} still needs it")
            try:
                return work(state)
            except ObjectMissingError as error:
                if error.key.startswith(LAKE_PREFIX):
                    raise LedgerCorruptError(f"the published file {error.key} is gone") from error
                missing = error.key
        raise _busy(hour_s)

    def hour_totals(self, hour_s: int, query: RowQuery, *, exact: bool = False) -> dict[Group, Total]:
        """Exact totals of an hour by the query's columns, counted from the rows."""
        return self.read(hour_s, lambda state: self.reader.totals(state.sources, query), exact=exact)

    def hour_usage(self, hour_s: int) -> dict[UsageKey, Total]:
        return usage_of(hour_s, self.hour_totals(hour_s, USAGE_QUERY))

    def totals(self, hours: Iterable[int], query: RowQuery) -> dict[Group, Total]:
        """Exact totals over several hours. Each hour is interval-exact; hours are not read at one common moment."""
        totals: dict[Group, Total] = {}
        for hour_s in hours:
            add_totals(totals, self.hour_totals(hour_s, query))
        return totals

    def hours(self, *, from_s: int = 0, to_s: int | None = None) -> list[int]:
        """Hours of `[from_s, to_s)` that have rows, in order; from 0 on, those of which all rows are kept.

        Lists are read in the order in which pairs move through the lists: waiting, pending, lake (P2).

        Raises:
            RowsGoneError: Rows since `from_s` may be deleted.
        """
        from_s = self.kept(from_s)
        hours = self._staged_hours()
        hours.update(self._lake_hours(from_s, to_s))
        return sorted(hour_s for hour_s in hours if from_s <= hour_s and (to_s is None or hour_s < to_s))

    def first_hour_s(self) -> int | None:
        """The first hour that has rows which are all kept, or None. Later hours of the lake are not listed."""
        hours = self._staged_hours()
        hours.update(islice(self._lake_hours(self.kept(0), None), 1))
        return min(hours, default=None)

    def _hour(self, hour_s: int, *, agrees: Callable[[_Look | None, _Look], bool]) -> booked_hours.HourState:
        """First state that `agrees` accepts. `agrees` receives the previous read (None at first) and the new read."""
        before: _Look | None = None
        for _ in range(self.attempts):
            published = self._published(hour_s)
            waiting = self._waiting(hour_s)
            pointers = self._pointers(hour_s)
            look = _Look(published=published, waiting=waiting, pointers=pointers)
            if agrees(before, look):
                return look.state(hour_s)
            before = look
        raise _busy(hour_s)

    def _staged_hours(self) -> set[int]:
        """Hours of commits that are waiting, or that have unpublished pairs."""
        hours = {hour_s for entry in self._all_waiting() for hour_s in entry.totals}
        for shard in known_shards(self.items, self.shards):
            for item in booked_hours.pending_in(self.items, shard):
                hours |= booked_hours.Pending.from_item(item).hours
        return hours

    def _all_waiting(self) -> Iterator[Waiting]:
        if not self.with_waiting:
            return iter(())
        if self.commit is None:
            return waiting_commits(self.items, self.shards)
        item = self.items.get(Table.LEDGER, waiting_key(self.commit.shard, self.commit.commit_id))
        return iter(() if item is None else (Waiting.from_item(item),))

    def _waiting(self, hour_s: int) -> list[Waiting]:
        return [entry for entry in self._all_waiting() if hour_s in entry.totals]

    def _lake_hours(self, from_s: int, to_s: int | None) -> Iterator[int]:
        """Hours that have a lake file, in order. Only the range's part of the lake is listed."""
        end = None if to_s is None else lake_prefix(-(-to_s // HOUR_S) * HOUR_S)
        for info in self.objects.list(LAKE_PREFIX, after=lake_prefix(max(from_s, 0))):
            if end is not None and info.key >= end:
                return
            hour_s = hour_of_lake_key(info.key)
            if hour_s is not None:
                yield hour_s

    def _published(self, hour_s: int) -> list[Item]:
        return list(booked_hours.published_in(self.items, hour_s))

    def _pointers(self, hour_s: int) -> list[Item]:
        if self.commit is None:
            return list(booked_hours.pointers_of(self.items, hour_s))
        item = self.items.get(Table.LEDGER, booked_hours.pointer_key(hour_s, self.commit.commit_id))
        return [] if item is None else [item]


def _waiting_source(entry: Waiting, hour_s: int) -> booked_hours.RowSource:
    total = entry.totals[hour_s]
    return booked_hours.RowSource(
        key=entry.staging_key, hour_s=hour_s, rows=total.records, bytes=total.bytes, staged=True, waiting=True
    )


def _sort_keys(items: list[Item]) -> list[str]:
    return [key_of(item).sk for item in items]


def _busy(hour_s: int) -> UnavailableError:
    return UnavailableError("LakeView", f"hour {hour_label(hour_s)} kept changing", may_have_applied=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchSizes:
    """Size of the accepted records, with one object per batch.

    Attributes:
        json_bytes: Each batch as a JSON message of docs/contract.md, without white space.
        gzip_bytes: The same objects, each compressed separately at level 6.
    """

    batches: int
    records: int
    json_bytes: int
    gzip_bytes: int


class BatchSizer(Protocol):
    """Measures accepted batches as JSON; stores nothing."""

    def measure(self, view: LakeView, *, from_s: int) -> BatchSizes:
        """Sizes of the rows of the view's hours from `from_s` on."""

"""The whole story of one batch: its verdict, where its rows are, and what else came under its id.

A batch is found by its marker. A marker expires, and rows do not: then the batch is looked for in the rows of a range.
"""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from metering.hours import hour_of
from metering.lake.rows import RowQuery
from metering.ledger.commits import CommitRecord, commit_key
from metering.ledger.conflicts import Conflict, is_conflict
from metering.ledger.markers import Marker, is_marker, partition_of_batch
from metering.ledger.retries import RetryNote, aliases_of, is_retry_note
from metering.ledger.waiting import waiting_key
from metering.reports.trace.rows import FileShare
from metering.reports.trace.tracing import may_have_expired
from metering.stores.writes import Table
from metering.units import HOUR_S
from metering.usage.totals import ZERO, Total, add_totals, sum_totals

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from metering.ledger.retries import Alias
    from metering.ledger.row_sources import RowSource
    from metering.quarantine.entries import Entry
    from metering.reports.source import ReportSource

# Threads that read objects of an hour side by side.
_READERS = 8
_HOURS_OF_DAY = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchHour:
    """A booked hour of a batch.

    Attributes:
        marked: What the marker says of it; None if the marker of these rows has expired.
        accounts: Its rows by account, counted one by one.
        files: Where they are, with the rows of each.
    """

    hour_s: int
    marked: Total | None
    accounts: Mapping[str, Total] = field(default_factory=dict)
    files: tuple[FileShare, ...] = ()

    @property
    def rows(self) -> Total:
        return sum_totals(self.accounts.values())

    @property
    def equal(self) -> bool:
        """Whether marker and rows say the same; without a marker, rows alone are no contradiction."""
        return self.marked is None or self.marked == self.rows


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchStory:
    """All that a region knows of a batch.

    Attributes:
        marker: Its verdict; None if there is none, or none any more.
        commit: The commit that made it durable, as long as that is kept.
        waits: Its usage is not rolled up yet.
        hours: The booked hours of its rows, in order.
        conflicts: Other contents that came under its id.
        notes: Its refused records that were sent again.
        aliases: Contents of its id that are metered under another one.
        verdicts: Marker of each batch that something of it was sent again as, by id.
        quarantine: What of it is in quarantine.
    """

    region: str
    batch_id: str
    marker: Marker | None = None
    commit: CommitRecord | None = None
    waits: bool = False
    hours: tuple[BatchHour, ...] = ()
    conflicts: tuple[Conflict, ...] = ()
    notes: tuple[RetryNote, ...] = ()
    aliases: tuple[Alias, ...] = ()
    verdicts: Mapping[str, Marker | None] = field(default_factory=dict)
    quarantine: tuple[Entry, ...] = ()

    @property
    def known(self) -> bool:
        """Whether the region knows anything of it."""
        return self.marker is not None or bool(self.hours or self.conflicts or self.notes or self.aliases)

    @property
    def verdict(self) -> str | None:
        """`accepted` or `rejected`; rows are visible only of an accepted batch. None if nothing tells."""
        if self.hours:
            return "accepted"
        return None if self.marker is None else self.marker.verdict

    @property
    def expired(self) -> bool:
        """Whether the marker of its rows is gone. A copy that came later can have another one, and be refused by it."""
        return any(hour.marked is None for hour in self.hours)

    @property
    def decided(self) -> Marker | None:
        """The marker that tells of its rows, or of its refusal; None if that has expired."""
        return None if self.expired else self.marker

    @property
    def later(self) -> Marker | None:
        """The marker of what came under its id after its own had expired."""
        return self.marker if self.expired else None

    @property
    def rows(self) -> Total:
        return sum_totals(hour.rows for hour in self.hours)

    @property
    def marked(self) -> Total | None:
        """What the marker says of these hours; None without a marker, or if it has expired."""
        if self.decided is None:
            return None
        return sum_totals(hour.marked or ZERO for hour in self.hours)

    @property
    def equal(self) -> bool:
        """Whether marker and rows say the same in every hour."""
        return all(hour.equal for hour in self.hours)

    @property
    def retried_as(self) -> tuple[str, ...]:
        """Ids of the batches that something of it was sent again as."""
        return tuple(dict.fromkeys((*(n.retry_id for n in self.notes), *(a.retry_id for a in self.aliases))))


@dataclass(frozen=True, slots=True, kw_only=True)
class StoryTeller:
    """Tells the stories of one region's batches. It writes nothing.

    Attributes:
        marker_life_s: Life of a marker: those of older hours may have expired.
        afford: Told how many hours are going to be read for a story; it may refuse.
    """

    source: ReportSource
    marker_life_s: int
    afford: Callable[[int], None] = lambda _hours: None

    def tell(self, batch_id: str, *, now_s: int, within: Iterable[int] = ()) -> BatchStory:
        """The story of a batch.

        Args:
            batch_id: Its id.
            now_s: The time now.
            within: Booked hours to look for its rows in, beside those that its marker names.

        Raises:
            UnavailableError: An hour could not be read.
            LedgerCorruptError: Something of it in the ledger cannot be read, or a file that an hour needs is gone.
        """
        marker, conflicts, notes = self._ledger(batch_id)
        aliases = tuple(aliases_of(self.source.items, batch_id))
        wanted = {*within, *(marker.hours if marker else ())}
        self.afford(len(wanted))
        hours = self._hours(batch_id, wanted, marker, now_s)
        commit = None if marker is None else self._commit(marker.commit_id)
        sent_again = [*(note.retry_id for note in notes), *(alias.retry_id for alias in aliases)]
        return BatchStory(
            region=self.source.region,
            batch_id=batch_id,
            marker=marker,
            commit=commit,
            waits=commit is not None and self._waits(commit),
            hours=hours,
            conflicts=tuple(conflicts),
            notes=tuple(notes),
            aliases=aliases,
            verdicts={name: self._ledger(name)[0] for name in dict.fromkeys(sent_again)},
        )

    def tell_own(
        self, batch_id: str, accounts: Collection[str], *, now_s: int, within: Iterable[int] = ()
    ) -> BatchStory | None:
        """What may be told of a batch to who sees these accounts alone; None if it has no row of them.

        What is read does not tell whether others have a batch of this id. A marker does not know accounts, so the rows
        of the hours that it names have to be read. Without one, those of another hour are, in which nothing is found:
        an hour of the last day, always the same of the same id.

        Args:
            batch_id: Its id.
            accounts: They are seen.
            now_s: The time now.
            within: Booked hours to look for its rows in. Those in which it would have a marker are not read.

        Raises:
            UnavailableError: An hour could not be read.
            LedgerCorruptError: Something of it in the ledger cannot be read, or a file that an hour needs is gone.
        """
        marker, _, _ = self._ledger(batch_id)
        named = set(marker.hours) if marker is not None and marker.hours else {_some_hour(batch_id, now_s)}
        expired = {hour_s for hour_s in within if may_have_expired([hour_s], self.marker_life_s, now_s)}
        self.afford(len(named | expired))
        hours = self._hours(batch_id, named | expired, marker, now_s)
        story = BatchStory(region=self.source.region, batch_id=batch_id, marker=marker, hours=hours)
        return _own_part(story, accounts)

    def _ledger(self, batch_id: str) -> tuple[Marker | None, list[Conflict], list[RetryNote]]:
        marker: Marker | None = None
        conflicts: list[Conflict] = []
        notes: list[RetryNote] = []
        for item in self.source.items.query(Table.LEDGER, partition_of_batch(batch_id)):
            if is_marker(item):
                marker = Marker.from_item(item)
            elif is_conflict(item):
                conflicts.append(Conflict.from_item(item))
            elif is_retry_note(item):
                notes.append(RetryNote.from_item(item))
        return marker, conflicts, notes

    def _commit(self, commit_id: str) -> CommitRecord | None:
        item = self.source.items.get(Table.LEDGER, commit_key(commit_id)) if commit_id else None
        return None if item is None else CommitRecord.from_item(item)

    def _waits(self, commit: CommitRecord) -> bool:
        key = waiting_key(commit.shard, commit.commit_id)
        return commit.state == "committed" and self.source.items.get(Table.LEDGER, key) is not None

    def _hours(self, batch_id: str, hours: Collection[int], marker: Marker | None, now_s: int) -> tuple[BatchHour, ...]:
        query = RowQuery(columns=("account_id",), where=(("batch_id", frozenset({batch_id})),))
        named = {} if marker is None else marker.hours

        def of_hour(hour_s: int, sources: Sequence[RowSource]) -> BatchHour:
            # The marker of rows that it does not name has expired, or the rows are more than it says.
            gone = marker is None or may_have_expired([hour_s], self.marker_life_s, now_s)
            return self._hour(hour_s, sources, query, named.get(hour_s, None if gone else ZERO))

        found = self.source.in_hours(sorted(hours), of_hour)
        return tuple(hour for hour in found if hour.hour_s in named or hour.accounts)

    def _hour(self, hour_s: int, sources: Sequence[RowSource], query: RowQuery, marked: Total | None) -> BatchHour:
        reader = self.source.view.reader
        with ThreadPoolExecutor(_READERS) as pool:
            found = list(pool.map(lambda source: reader.totals([source], query), sources))
        accounts: dict[str, Total] = {}
        files: list[FileShare] = []
        for source, groups in zip(sources, found, strict=True):
            if groups:
                of_file = {str(account): total for (account,), total in groups.items()}
                add_totals(accounts, of_file)
                files.append(FileShare(key=source.key, staged=source.staged, total=sum_totals(of_file.values())))
        return BatchHour(hour_s=hour_s, marked=marked, accounts=accounts, files=tuple(files))


def _some_hour(batch_id: str, now_s: int) -> int:
    """One of the 24 hours before this one, which follows from the id: asking again reads no other one."""
    drawn = int.from_bytes(hashlib.sha256(batch_id.encode()).digest()[:4]) % _HOURS_OF_DAY
    return hour_of(now_s) - (1 + drawn) * HOUR_S


def _own_part(story: BatchStory, accounts: Collection[str]) -> BatchStory | None:
    """What may be told to who sees these accounts alone.

    It is a batch of the rows of these accounts. Its marker says of them what it says of all rows, less the other rows,
    so that a marker that differs still differs. Nothing else of the batch is told: it may be about other accounts.
    """
    hours = tuple(part for hour in story.hours if (part := _own_hour(hour, accounts)) is not None)
    if not hours:
        return None
    return BatchStory(region=story.region, batch_id=story.batch_id, marker=story.marker, hours=hours)


def _own_hour(hour: BatchHour, accounts: Collection[str]) -> BatchHour | None:
    own = {account: total for account, total in hour.accounts.items() if account in accounts}
    if not own:
        return None
    others = hour.rows.minus(sum_totals(own.values()))
    return BatchHour(
        hour_s=hour.hour_s, marked=None if hour.marked is None else hour.marked.minus(others), accounts=own
    )

"""All facts about one batch: its verdict, the location of its rows, and other content with its id.

A batch is found by its marker. Markers expire before rows; without a marker, the rows of a time range are searched.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from metering.hours import hour_of, rfc3339
from metering.lake.ports import RowQuery
from metering.ledger.commits import CommitRecord, commit_key, waiting_key
from metering.ledger.markers import Conflict, Marker, is_conflict, is_marker, may_have_expired, partition_of_batch
from metering.ledger.notes.access import Role
from metering.ledger.retries import Alias, RetryNote, aliases_of, is_retry_note
from metering.reports.answer import KEEP, ROOMY, Answer, Fields, Json, RowType, exact, integer, sized, timed
from metering.reports.trace import FileShare, file_documents, read_side_by_side
from metering.stores.writes import Table
from metering.units import HOUR_S, counted, exact_and_size
from metering.usage.totals import ZERO, Total, add_totals, sum_totals

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

    from metering.ledger.booked_hours import RowSource
    from metering.quarantine.entries import Entry
    from metering.reports.source import ReportSource


_HOURS_OF_DAY = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchHour:
    """A booked hour of a batch; `marked` (the marker's total) is None if the marker of the batch's rows has expired."""

    hour_s: int
    marked: Total | None
    accounts: Mapping[str, Total] = field(default_factory=dict)
    files: tuple[FileShare, ...] = ()

    @property
    def rows(self) -> Total:
        return sum_totals(self.accounts.values())

    @property
    def equal(self) -> bool:
        """Whether marker and rows agree; True if the rows' marker has expired."""
        return self.marked is None or self.marked == self.rows


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchStory:
    """All facts of a region about a batch; `verdicts` are markers of batches that resent parts of this batch."""

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
        """Whether the region has any facts about the batch."""
        return self.marker is not None or bool(self.hours or self.conflicts or self.notes or self.aliases)

    @property
    def verdict(self) -> str | None:
        """`accepted` or `rejected`; only accepted batches have visible rows. None if nothing tells."""
        if self.hours:
            return "accepted"
        return None if self.marker is None else self.marker.verdict

    @property
    def expired(self) -> bool:
        """Whether the marker of the rows has expired. A later copy can have another marker, which rejects it."""
        return any(hour.marked is None for hour in self.hours)

    @property
    def decided(self) -> Marker | None:
        """The marker of the batch's rows, or of its refusal; None if the marker has expired."""
        return None if self.expired else self.marker

    @property
    def later(self) -> Marker | None:
        """The marker of other content that arrived with the batch's id after the batch's own marker had expired."""
        return self.marker if self.expired else None

    @property
    def rows(self) -> Total:
        return sum_totals(hour.rows for hour in self.hours)

    @property
    def marked(self) -> Total | None:
        """The marker's total over these hours; None if there is no marker, or if the marker has expired."""
        if self.decided is None:
            return None
        return sum_totals(hour.marked or ZERO for hour in self.hours)

    @property
    def equal(self) -> bool:
        """Whether marker and rows agree in every hour."""
        return all(hour.equal for hour in self.hours)

    @property
    def retried_as(self) -> tuple[str, ...]:
        """Ids of the batches that resent parts of this batch."""
        return tuple(dict.fromkeys((*(n.retry_id for n in self.notes), *(a.retry_id for a in self.aliases))))


@dataclass(frozen=True, slots=True, kw_only=True)
class StoryTeller:
    """Collects the facts about batches of one region. `afford` receives the number of hours to read, and may refuse."""

    source: ReportSource
    marker_life_s: int
    afford: Callable[[int], None] = lambda _hours: None

    def tell(self, batch_id: str, *, now_s: int, within: Iterable[int] = ()) -> BatchStory:
        """All facts about a batch. Its rows are searched for in the booked hours `within` too.

        Raises:
            UnavailableError: An hour could not be read.
            LedgerCorruptError: A ledger item of the batch cannot be read, or a file that an hour needs is missing.
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
        """Facts about a batch for a caller limited to these accounts; None if the batch has no row of these accounts.

        What is read does not reveal whether other accounts have a batch with this id. A marker names no accounts, so
        the rows of its hours must be read. Without a marker, the rows of a decoy hour are read: an hour of the last day
        that depends only on the id. Hours in `within` are skipped if markers of these hours cannot have expired.

        Raises:
            UnavailableError: An hour could not be read.
            LedgerCorruptError: A ledger item of the batch cannot be read, or a file that an hour needs is missing.
        """
        marker, _, _ = self._ledger(batch_id)
        named = set(marker.hours) if marker is not None and marker.hours else {_some_hour(batch_id, now_s)}
        expired = {hour_s for hour_s in within if may_have_expired(hour_s, self.marker_life_s, now_s)}
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
            # Either the marker lacks these rows because it has expired, or there are more rows than the marker states.
            gone = marker is None or may_have_expired(hour_s, self.marker_life_s, now_s)
            return self._hour(hour_s, sources, query, named.get(hour_s, None if gone else ZERO))

        found = self.source.in_hours(sorted(hours), of_hour)
        return tuple(hour for hour in found if hour.hour_s in named or hour.accounts)

    def _hour(self, hour_s: int, sources: Sequence[RowSource], query: RowQuery, marked: Total | None) -> BatchHour:
        reader = self.source.view.reader
        accounts: dict[str, Total] = {}
        files: list[FileShare] = []
        for source, groups in read_side_by_side(sources, lambda source: reader.totals([source], query)):
            if groups:
                of_file = {str(account): total for (account,), total in groups.items()}
                add_totals(accounts, of_file)
                files.append(FileShare(key=source.key, staged=source.staged, total=sum_totals(of_file.values())))
        return BatchHour(hour_s=hour_s, marked=marked, accounts=accounts, files=tuple(files))


def _some_hour(batch_id: str, now_s: int) -> int:
    """One of the 24 hours before this hour, derived from the id, so that repeated requests read the same hour."""
    drawn = int.from_bytes(hashlib.sha256(batch_id.encode()).digest()[:4]) % _HOURS_OF_DAY
    return hour_of(now_s) - (1 + drawn) * HOUR_S


def _own_part(story: BatchStory, accounts: Collection[str]) -> BatchStory | None:
    """The facts about a batch that a caller limited to these accounts may see.

    None if the batch has no rows of these accounts. The rows of other accounts are subtracted from the marker's total,
    so that a difference is still visible. All other facts are withheld, because they may concern other accounts.
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


_FILES: Fields[BatchHour] = integer(
    "files", of=lambda it: len(it.files), priority=ROOMY, about="objects that its rows are in"
)
# A table names at most this many objects; the JSON output names all.
_FILES_NAMED = 5
_HOUR: Fields[BatchHour] = (
    *timed("hour", of=lambda it: it.hour_s, priority=KEEP),
    *sized("bytes", of=lambda it: (it.marked or it.rows).bytes, priority=KEEP, about="by its marker"),
    *integer("records", of=lambda it: (it.marked or it.rows).records, about="by its marker"),
    *exact("rows_bytes", of=lambda it: it.rows.bytes, priority=ROOMY, about="as its rows add up"),
    *integer("rows_records", of=lambda it: it.rows.records, priority=ROOMY, about="as its rows are counted"),
)


def story_answer(story: BatchStory, *, as_of_s: int, role: Role = Role.OPERATOR) -> Answer:
    """Convert the facts about a batch to the answer of `metering batch show`. The rows are the batch's hours.

    Operators see the sender and the keys of objects. A customer sees the rows of its own accounts, and nothing about
    others (`StoryTeller.tell_own`).
    """
    with_keys = role is Role.OPERATOR
    return RowType(_HOUR, _FILES if with_keys else ()).answer(
        story.hours,
        document=_document(story, as_of_s, role),
        meta={"as_of": rfc3339(as_of_s)},
        title=f"Batch {story.batch_id}: {story.verdict or 'without a verdict'}",
        empty="Nothing of it is metered.",
        footer=tuple(_lines(story, role)),
    )


def _document(story: BatchStory, as_of_s: int, role: Role) -> dict[str, Json]:
    marker = story.decided
    document: dict[str, Json] = {
        "batch_id": story.batch_id,
        "as_of": rfc3339(as_of_s),
        "verdict": story.verdict,
        "marker": "expired" if story.expired else "none" if marker is None else "kept",
        "source_id": marker.source_id if marker else "",
        "sequence": marker.sequence if marker else None,
        "decided_at": rfc3339(marker.decided_at_ms // 1000) if marker else None,
        "hours": [_hour(hour, with_files=role is Role.OPERATOR) for hour in story.hours],
        "proof": _proof(story),
    }
    if role is not Role.CUSTOMER:
        document |= _whole(story, with_keys=role is Role.OPERATOR)
    return document


def _whole(story: BatchStory, *, with_keys: bool) -> dict[str, Json]:
    """The document of a batch for a caller who may see all of its records."""
    marker, later = story.decided, story.later
    return {
        # If a batch's marker has expired, the rows show the batch's verdict.
        **_verdict(marker),
        "verdict": story.verdict,
        **({"sender": marker.sender_id if marker else ""} if with_keys else {}),
        "content_hash": marker.content_hash if marker else None,
        "hash_version": marker.hash_version if marker else None,
        "kept_until": rfc3339(marker.expires_at_s) if marker else None,
        "later": None if later is None else {**_verdict(later), "decided_at": rfc3339(later.decided_at_ms // 1000)},
        "commit": _commit(story, with_keys=with_keys),
        "conflicts": [_conflict(each, with_keys=with_keys) for each in story.conflicts],
        "quarantine": [_entry(each, with_keys=with_keys) for each in story.quarantine],
        "retried_as": [{"batch_id": name, **_verdict(story.verdicts.get(name))} for name in story.retried_as],
    }


def _verdict(marker: Marker | None) -> dict[str, Json]:
    if marker is None:
        return {"verdict": None, "reason": None, "records": None, "metered": None, "refused": None}
    return {
        "verdict": marker.verdict,
        "reason": marker.reason or None,
        "records": marker.records,
        "metered": marker.metered,
        "refused": marker.refused,
    }


def _hour(hour: BatchHour, *, with_files: bool) -> dict[str, Json]:
    files = {"files": file_documents(hour.files)} if with_files else {}
    return {**RowType(_HOUR).document(hour), "equal": hour.equal, **files}


def _proof(story: BatchStory) -> dict[str, Json] | None:
    """Marker and rows, compared; None for a batch that is not metered."""
    if story.verdict != "accepted":
        return None
    marked = story.marked
    return {
        "marker": None if marked is None else str(marked.bytes),
        "rows": str(story.rows.bytes),
        "equal": story.equal,
    }


def _commit(story: BatchStory, *, with_keys: bool) -> dict[str, Json] | None:
    marker, commit = story.decided, story.commit
    if marker is None or not marker.commit_id:
        return None
    document: dict[str, Json] = {"commit_id": marker.commit_id, "state": None if commit is None else commit.state}
    if commit is not None and commit.state != "aborted":
        document |= {
            "created_at": rfc3339(commit.created_at_ms // 1000),
            "rolled_up": not story.waits,
            "rows": commit.rows,
            "bytes": str(commit.bytes),
        }
        if with_keys:
            document["staging"] = commit.staging_key
    return document


def _conflict(conflict: Conflict, *, with_keys: bool) -> dict[str, Json]:
    document: dict[str, Json] = {"content_hash": conflict.content_hash, "records": conflict.records}
    if with_keys:
        document |= {
            "sender": conflict.sender_id,
            "first_sender": conflict.first_sender_id,
            "key": conflict.quarantine_key,
        }
    return document


def _entry(entry: Entry, *, with_keys: bool) -> dict[str, Json]:
    document: dict[str, Json] = {
        "kind": entry.kind,
        "at": rfc3339(entry.at_s),
        "reasons": dict(entry.reasons),
        "retried_as": list(entry.retried_as),
        "became": entry.became,
    }
    return {**document, "key": entry.key} if with_keys else document


def _lines(story: BatchStory, role: Role) -> Iterator[str]:
    marker = story.decided
    if marker is not None:
        yield from _decided(marker, role)
    if story.expired:
        yield "Its marker has expired, and its rows remain: it was accepted, and is counted."
    if story.later is not None and role is not Role.CUSTOMER:
        yield f"What came under its id at {rfc3339(story.later.decided_at_ms // 1000)} was {story.later.verdict}."
    if marker is not None and role is not Role.CUSTOMER:
        yield from _whole_lines(story, marker)
    yield from _proof_lines(story)
    if role is Role.OPERATOR:
        yield from _file_lines(story)
        if story.quarantine:
            yield f"What was refused, with every reason: metering quarantine show {story.batch_id}"
        elif story.retried_as:
            yield f"What became of it: metering batch show {story.retried_as[0]}"


def _file_lines(story: BatchStory) -> Iterator[str]:
    keys = [file.key for hour in story.hours for file in hour.files]
    yield from (f"Rows in {key}" for key in keys[:_FILES_NAMED])
    if len(keys) > _FILES_NAMED:
        yield f"and in {len(keys) - _FILES_NAMED:,} more objects (--format json names all)"


def _decided(marker: Marker, role: Role) -> Iterator[str]:
    source = f", as number {marker.sequence} of source {marker.source_id}" if marker.source_id else ""
    sender = f", sent by {marker.sender_id}" if role is Role.OPERATOR and marker.sender_id else ""
    yield f"Decided at {rfc3339(marker.decided_at_ms // 1000)}{source}{sender}."


def _whole_lines(story: BatchStory, marker: Marker) -> Iterator[str]:
    if marker.verdict == "rejected":
        yield f"Refused: {marker.reason}."
        if marker.reason == "too_late":
            yield "If it is a copy of a batch whose marker has expired, --from and --to find the rows of that."
    else:
        yield f"{counted(marker.records, 'record')}: {marker.metered:,} metered, {marker.refused:,} refused."
    if story.waits:
        yield "It waits for the roll-up: reports on its accounts count it in a minute at most, and with --now at once."
    for each in story.quarantine:
        reasons = ", ".join(f"{name} ({n})" if n else name for name, n in each.reasons.items())
        yield f"In quarantine: {reasons}; {each.became}."
    if story.conflicts:
        times = "once" if len(story.conflicts) == 1 else f"{len(story.conflicts):,} times"
        yield f"Other content came under its id {times}, and is not metered."
    if story.retried_as:
        yield f"Sent again as {', '.join(story.retried_as)}."


def _proof_lines(story: BatchStory) -> Iterator[str]:
    if story.verdict != "accepted":
        return
    rows, marked = story.rows, story.marked
    if marked is None:
        yield f"Its rows: {exact_and_size(rows.bytes)} in {counted(rows.records, 'record')}."
    elif story.equal:
        yield f"Marker and rows say the same: {exact_and_size(rows.bytes)} in {counted(rows.records, 'record')}."
    else:
        yield "Marker and rows are NOT equal:"
        yield f"  the marker says {marked.bytes:,} bytes in {counted(marked.records, 'record')}"
        yield f"  the rows say {rows.bytes:,} bytes in {counted(rows.records, 'record')}"

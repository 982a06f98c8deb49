"""The one transaction that makes a commit durable (T-COMMIT, T-CLAIM), and what its refusal means."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from metering.commit.packing import Shape, ended_months
from metering.commit.write_ahead import WriteAhead, usage_deltas
from metering.errors import LedgerCorruptError, TransactionCanceledError
from metering.ledger.booked_hours import Pending, Pointer
from metering.ledger.commits import CommitRecord, shard_of, usage_suffix
from metering.ledger.markers import Marker, marker_key
from metering.ledger.periods import period_key
from metering.quarantine.retries import Alias
from metering.stores.bucket import refused_records_key, staging_key
from metering.stores.writes import Absent, AllOf, AnyOf, Check, Equals, Put, Table, Update
from metering.usage.totals import Total, add_totals, merge

if TYPE_CHECKING:
    from collections.abc import Mapping

    from metering.commit.booking import BookedBatch
    from metering.commit.originals import Original
    from metering.commit.packing import CommitPlan
    from metering.settings import Settings
    from metering.stores.writes import Action, Item

_NOT_THERE = Absent()
_ACCEPTED = Equals(attribute="verdict", value="accepted")
_NO_VERDICT_OR_REJECTED = AnyOf((Absent(), Equals(attribute="verdict", value="rejected")))
# The commit item comes first, then the pending item, then the months.
_FIRST_MONTH = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitBody:
    """One attempt at a commit, under an id of its own. Sent again, it is sent unchanged.

    Attributes:
        months: Months that have ended, as their checks follow each other from action 2 on.
        first_marker: Index of the first batch's marker among the actions; the others follow in order, then the aliases
            of the retries among them, then the markers of their originals.
        write_ahead: Of a wide commit: what its chunks are made of.
        records_key: Where the refused records of its batches go; empty if there are none.
    """

    plan: CommitPlan[BookedBatch]
    commit_id: str
    staging_key: str
    records_key: str
    months: tuple[str, ...]
    first_marker: int
    actions: tuple[Action, ...]
    write_ahead: WriteAhead | None


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnCommit:
    """The commit item is there already: this attempt landed earlier, or was fenced off (`aborted`)."""

    landed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ClosedMonths:
    """Some months take no more rows."""

    months: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlierVerdicts:
    """Some batches cannot be accepted as they were planned.

    Attributes:
        markers: Of those that were accepted before, by place in the commit.
        corrupt: What is wrong with the markers that cannot be read, by place.
        retried: Places of retries whose content is metered under another id that it was retried as, or under this one.
        moved: Places of retries whose original is not what it was when it was read.
    """

    markers: dict[int, Marker]
    corrupt: dict[int, LedgerCorruptError]
    retried: frozenset[int] = frozenset()
    moved: frozenset[int] = frozenset()


def build_commit(plan: CommitPlan[BookedBatch], commit_id: str, *, settings: Settings) -> CommitBody:
    """All that one attempt at a commit writes to the ledger, as data."""
    return _Builder(plan, commit_id, settings).body()


class _Builder:
    def __init__(self, plan: CommitPlan[BookedBatch], commit_id: str, settings: Settings) -> None:
        now_s = plan.now_ms // 1000
        self._plan = plan
        self._commit_id = commit_id
        self._now_ms = plan.now_ms
        self._marker_expires_at_s = now_s + settings.marker_life_s
        self._shard = shard_of(commit_id, settings.shards)
        self._staging_key = staging_key(commit_id, now_s)
        refused = any(batch.batch.refused for batch in plan.batches)
        self._records_key = refused_records_key(commit_id, now_s) if refused else ""
        self._hours = _sum_by_hour(plan)
        self._months = tuple(ended_months(self._hours, now_s))
        usage = merge(batch.usage for batch in plan.batches)
        self._deltas = usage_deltas(usage, usage_suffix(commit_id, settings.usage_shards))

    def body(self) -> CommitBody:
        shape = self._plan.shape
        pointers = self._pointers()
        write_ahead = None
        if shape is not Shape.NARROW:
            ahead = pointers if shape is Shape.WIDE_POINTERS else ()
            write_ahead = WriteAhead(commit_id=self._commit_id, pointers=ahead, deltas=self._deltas)
        actions: list[Action] = [self._commit(write_ahead), self._pending(wide=write_ahead is not None)]
        actions += [Check(table=Table.LEDGER, key=period_key(month), condition=_NOT_THERE) for month in self._months]
        if shape is not Shape.WIDE_POINTERS:
            actions += [Put(table=Table.LEDGER, item=pointer.to_item()) for pointer in pointers]
        first_marker = len(actions)
        actions += [self._marker(batch) for batch in self._plan.batches]
        retries = [(batch, original) for batch in self._plan.batches if (original := batch.original) is not None]
        actions += [self._alias(batch, original) for batch, original in retries]
        actions += [self._kept(original) for _, original in retries]
        if write_ahead is None:
            actions += [delta.action() for delta in self._deltas]
        return CommitBody(
            plan=self._plan,
            commit_id=self._commit_id,
            staging_key=self._staging_key,
            records_key=self._records_key,
            months=self._months,
            first_marker=first_marker,
            actions=tuple(actions),
            write_ahead=write_ahead,
        )

    def _commit(self, write_ahead: WriteAhead | None) -> Put:
        record = CommitRecord(
            commit_id=self._commit_id,
            state="applied" if write_ahead is None else "open",
            next_chunk=0,
            chunks=0 if write_ahead is None else write_ahead.chunks,
            shard=self._shard,
            hours=tuple(sorted(self._hours)),
            staging_key=self._staging_key,
            rows=sum(total.records for total in self._hours.values()),
            bytes=sum(total.bytes for total in self._hours.values()),
            created_at_ms=self._now_ms,
        )
        return Put(table=Table.LEDGER, item=record.to_item(), condition=_NOT_THERE)

    def _pending(self, *, wide: bool) -> Put:
        pending = Pending(
            shard=self._shard,
            commit_id=self._commit_id,
            hours=frozenset(self._hours),
            totals=self._hours,
            created_at_ms=self._now_ms,
            wide=wide,
        )
        return Put(table=Table.LEDGER, item=pending.to_item())

    def _pointers(self) -> tuple[Pointer, ...]:
        return tuple(
            Pointer(
                hour_s=hour_s,
                commit_id=self._commit_id,
                shard=self._shard,
                rows=total.records,
                bytes=total.bytes,
                staging_key=self._staging_key,
            )
            for hour_s, total in sorted(self._hours.items())
        )

    def _marker(self, booked: BookedBatch) -> Put:
        batch = booked.batch
        marker = Marker(
            batch_id=batch.batch_id,
            verdict="accepted",
            content_hash=batch.content_hash,
            hash_version=batch.hash_version,
            commit_id=self._commit_id,
            source_id=batch.source_id,
            sequence=batch.sequence,
            sender_id=batch.sender_id,
            records=batch.records,
            metered=batch.records - len(batch.refused),
            refused=len(batch.refused),
            hours=booked.hours,
            decided_at_ms=self._now_ms,
            expires_at_s=self._marker_expires_at_s,
            quarantine_key=self._records_key if batch.refused else "",
        )
        return Put(table=Table.LEDGER, item=marker.to_item(), condition=_NO_VERDICT_OR_REJECTED)

    def _alias(self, booked: BookedBatch, original: Original) -> Put:
        alias = Alias(
            batch_id=original.batch_id,
            content_hash=booked.batch.content_hash,
            retry_id=booked.batch.batch_id,
            expires_at_s=self._marker_expires_at_s,
        )
        return Put(table=Table.LEDGER, item=alias.to_item(), condition=_NOT_THERE)

    def _kept(self, original: Original) -> Update:
        """Lets the original's marker live as long as the retry's: it is what keeps this content from the first id."""
        seen = Equals(attribute="expires_at", value=original.expires_at_s)
        return Update(
            table=Table.LEDGER,
            key=marker_key(original.batch_id),
            set={"expires_at": max(original.expires_at_s, self._marker_expires_at_s)},
            condition=AllOf((_ACCEPTED, seen)),
        )


def _sum_by_hour(plan: CommitPlan[BookedBatch]) -> dict[int, Total]:
    hours: dict[int, Total] = {}
    for batch in plan.batches:
        add_totals(hours, batch.hours)
    return hours


def read_refusal(body: CommitBody, error: TransactionCanceledError) -> OwnCommit | ClosedMonths | EarlierVerdicts:
    """What a canceled transaction with false conditions says, in the order in which it must be asked.

    Raises:
        LedgerCorruptError: Conditions failed that cannot fail.
    """
    failed: dict[int, Mapping[str, object] | None] = {
        index: reason[1]
        for index, reason in enumerate(error.reasons)
        if reason is not None and reason[0] == "ConditionalCheckFailed"
    }
    if 0 in failed:
        return OwnCommit(landed=_state(failed[0]) != "aborted")
    months = frozenset(month for index, month in enumerate(body.months, start=_FIRST_MONTH) if index in failed)
    if months:
        return ClosedMonths(months=months)
    batches = len(body.plan.batches)
    retries = [place for place, batch in enumerate(body.plan.batches) if batch.original is not None]
    aliases = body.first_marker + batches
    originals = aliases + len(retries)
    if not failed or min(failed) < body.first_marker or max(failed) >= originals + len(retries):
        raise LedgerCorruptError(f"commit {body.commit_id} was refused at actions {sorted(failed)}")
    markers: dict[int, Marker] = {}
    corrupt: dict[int, LedgerCorruptError] = {}
    for index, item in failed.items():
        if index >= aliases:
            continue
        try:
            markers[index - body.first_marker] = _marker(item)
        except LedgerCorruptError as error:
            corrupt[index - body.first_marker] = error
    return EarlierVerdicts(
        markers=markers,
        corrupt=corrupt,
        retried=frozenset(retries[index - aliases] for index in failed if aliases <= index < originals),
        moved=frozenset(retries[index - originals] for index in failed if index >= originals),
    )


def _state(item: Mapping[str, object] | None) -> str:
    if item is None:
        raise LedgerCorruptError("a commit item exists, but was not returned")
    return CommitRecord.from_item(cast("Item", item)).state


def _marker(item: Mapping[str, object] | None) -> Marker:
    if item is None:
        raise LedgerCorruptError("a marker exists, but was not returned")
    return Marker.from_item(cast("Item", item))

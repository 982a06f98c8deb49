"""The single transaction that makes a commit durable (T-COMMIT, P16), and how to interpret its refusal (P17)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar, cast

from metering.errors import LedgerCorruptError, TransactionCanceledError
from metering.hours import hour_of, month_bounds_s, month_of
from metering.ledger.commits import CommitRecord, Waiting, shard_of
from metering.ledger.markers import ABSENT_OR_REJECTED, ACCEPTED, Marker, MarkerLine, marker_key
from metering.ledger.periods import period_key
from metering.ledger.retries import Alias
from metering.stores.objects import refused_records_key, staging_key
from metering.stores.writes import DYNAMODB_LIMITS, Absent, Action, AllOf, Check, Equals, Item, Put, Table, Update
from metering.units import MIB
from metering.usage.totals import Total, add_totals, by_hour

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from metering.commit.deduplication import Candidate, Content, Original
    from metering.intake.batches import DecodedBatch
    from metering.settings import Settings


# Upper bound for the names, numbers, hashes and overhead of a marker or an alias.
_FIXED_ITEM_BYTES = 1_024


@dataclass(frozen=True, slots=True, kw_only=True)
class BookedBatch:
    """A batch, with the hours in which it is booked.

    Attributes:
        rebooked: Own hour -> booked hour, if they differ, as for late records of closed months (P43).
    """

    candidate: Candidate
    hours: Mapping[int, Total]
    rebooked: Mapping[int, int]

    @property
    def content(self) -> Content:
        return self.candidate.content

    @property
    def batch(self) -> DecodedBatch:
        return self.candidate.batch

    @property
    def original(self) -> Original | None:
        return self.candidate.original

    @property
    def actions(self) -> int:
        # The marker. A retry also writes an alias, and extends the life of its original's marker.
        return 1 if self.original is None else 3

    @property
    def markers(self) -> tuple[str, ...]:
        own = self.batch.batch_id
        return (own,) if self.original is None else (own, self.original.batch_id)

    @property
    def fixed_bytes(self) -> int:
        # UTF-8 takes at most 4 bytes per character (the batch id occurs in its own key and in the refused batch's key).
        # All other attributes have a fixed length, except for source and sender, whose lengths the contract limits.
        texts = (*self.markers, self.batch.source_id, self.batch.sender_id)
        return _FIXED_ITEM_BYTES * self.actions + 4 * sum(map(len, texts)) * 2

    @property
    def sent_at_ms(self) -> int:
        """When the first of this invocation's messages with the batch was sent."""
        return min(copy.delivery.sent_at_ms for copy in self.content.copies)

    @property
    def records(self) -> int:
        return self.batch.records

    @property
    def decoded_bytes(self) -> int:
        return self.batch.decoded_bytes


def book(candidate: Candidate, *, closed: Collection[str], now_s: int) -> BookedBatch:
    """Book a batch.

    Args:
        candidate: The batch, with its usage by own hours.
        closed: Months that are known to be closing or closed.
        now_s: Time on the worker's clock; late records of closed months are booked in the hour of this time.
    """
    own = by_hour(candidate.batch.usage)
    now_hour_s = hour_of(now_s)
    rebooked = {hour_s: now_hour_s for hour_s in own if month_of(hour_s) in closed} if closed else {}
    hours: dict[int, Total] = {}
    for hour_s, total in own.items():
        add_totals(hours, {rebooked.get(hour_s, hour_s): total})
    return BookedBatch(candidate=candidate, hours=hours, rebooked=rebooked)


# Packing: groups batches into commits (P14).
#
# A transaction has at most 100 actions and 4 MB of items: the commit and its waiting entry, a check per ended month, a
# marker per batch, and an alias plus the original's marker per retry under another id. Hours and usage keys need no
# actions, so every batch fits.


# One action for the commit and one for its waiting entry.
_OWN_ACTIONS = 2
# DynamoDB accepts 4 MB of items per transaction. The estimates here are upper bounds; if a transaction were still too
# large, it would be refused and its batches halved.
_ITEMS_BYTES = 3 * MIB
# Size of an hour in a marker or waiting entry: a label of 13 characters and two numbers of up to 38 digits (21 bytes
# each, and one for its type), in a list in a map.
_HOUR_BYTES = 13 + 2 * 22 + 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """Limits of one commit. A single batch may exceed the record and byte limits."""

    records: int
    bytes: int
    actions: int = DYNAMODB_LIMITS.transaction
    items_bytes: int = _ITEMS_BYTES


class Packable(Protocol):
    """Sizes of a booked batch, needed to pack the batch into a commit.

    `actions` is the number of actions for this batch alone; `markers` are the ids of the markers that these actions
    write; `fixed_bytes` is the size of their items without the hours.
    """

    @property
    def records(self) -> int: ...
    @property
    def decoded_bytes(self) -> int: ...
    @property
    def hours(self) -> Collection[int]: ...
    @property
    def actions(self) -> int: ...
    @property
    def fixed_bytes(self) -> int: ...
    @property
    def markers(self) -> Collection[str]: ...


P = TypeVar("P", bound=Packable)


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitPlan(Generic[P]):
    """Batches of one commit.

    Attributes:
        now_ms: Time on the worker's clock when the commit was planned. The commit is built with this time, because at a
            later time another month may have ended, and the plan did not count its check.
    """

    now_ms: int
    batches: tuple[P, ...]


def ended_months(hours: Iterable[int], now_s: int) -> list[str]:
    """Months of `hours` that have ended by `now_s`, and may therefore be closed."""
    months = sorted({month_of(hour_s) for hour_s in hours})
    return [month for month in months if month_bounds_s(month)[1] <= now_s]


class _Load(Generic[P]):
    """A commit that is being filled; it is never empty."""

    def __init__(self, first: P, budget: Budget, now_s: int) -> None:
        self.batches = [first]
        self._budget = budget
        self._now_s = now_s
        self._hours = set(first.hours)
        self._months = len(ended_months(self._hours, now_s))
        self._markers = set(first.markers)
        self._actions = first.actions
        self._records = first.records
        self._bytes = first.decoded_bytes
        self._item_bytes = _item_bytes(first)

    def take(self, batch: P) -> bool:
        """Add a batch, unless this would exceed a limit or write an item twice. Returns whether the batch was added."""
        if not self._markers.isdisjoint(batch.markers):
            return False
        budget = self._budget
        records, size = self._records + batch.records, self._bytes + batch.decoded_bytes
        actions = self._actions + batch.actions
        item_bytes = self._item_bytes + _item_bytes(batch)
        hours, months = self._hours, self._months
        if not hours.issuperset(batch.hours):
            hours = hours.union(batch.hours)
            months = len(ended_months(hours, self._now_s))
        if (
            records > budget.records
            or size > budget.bytes
            or _OWN_ACTIONS + months + actions > budget.actions
            or item_bytes + 2 * len(hours) * _HOUR_BYTES > budget.items_bytes
        ):
            return False
        self.batches.append(batch)
        self._markers.update(batch.markers)
        self._hours, self._months = hours, months
        self._actions, self._records, self._bytes, self._item_bytes = actions, records, size, item_bytes
        return True


def _item_bytes(batch: Packable) -> int:
    return batch.fixed_bytes + len(batch.hours) * _HOUR_BYTES


def plan_commits(batches: Sequence[P], *, budget: Budget, now_ms: int) -> list[CommitPlan[P]]:
    """Put every batch into exactly one commit, in the given order.

    Args:
        batches: Batches of distinct ids.
        budget: Limits of one commit.
        now_ms: Time on the worker's clock; months that have ended by this time require a check.
    """
    loads: list[_Load[P]] = []
    for batch in batches:
        if not loads or not loads[-1].take(batch):
            loads.append(_Load(batch, budget, now_ms // 1000))
    return [CommitPlan(now_ms=now_ms, batches=tuple(load.batches)) for load in loads]


_NOT_THERE = Absent()


class Role(Enum):
    """Role that a conditional action has in a commit's transaction."""

    COMMIT = "commit"
    MONTH = "month"
    MARKER = "marker"
    ALIAS = "alias"
    ORIGINAL = "original"


@dataclass(frozen=True, slots=True, kw_only=True)
class Meaning:
    """Meaning of an action, by which the failure of its condition is interpreted.

    Attributes:
        place: Index, within the commit, of the batch to which a marker, an alias or an original's marker belongs.
    """

    role: Role
    place: int = 0
    month: str = ""


# An action of a transaction, and what its failure means. The meaning is None if the action's condition cannot fail.
Step = tuple["Action", Meaning | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitBody:
    """One attempt at a commit, under its own id. If the attempt is repeated, it is sent unchanged.

    Attributes:
        records_key: Key of the object that holds the batches' refused records; empty if no record was refused.
        lines: The batches' markers, which the staging object contains, too (P50).
        meanings: Meanings of the actions, in the order of the actions.
    """

    plan: CommitPlan[BookedBatch]
    commit_id: str
    staging_key: str
    records_key: str
    lines: tuple[MarkerLine, ...]
    actions: tuple[Action, ...]
    meanings: tuple[Meaning | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnCommit:
    """The commit item already exists: either this attempt succeeded before, or it was fenced off (`aborted`)."""

    landed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ClosedMonths:
    """Some months accept no further rows, because they are closing or closed."""

    months: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlierVerdicts:
    """Some batches cannot be accepted as they were planned.

    Attributes:
        markers: Markers of batches that were accepted before, by index in the commit.
        corrupt: Errors of unreadable markers, by index in the commit.
        retried: Indexes of retries whose content is already metered, by this retry or by another retry.
        moved: Indexes of retries whose original has changed since it was read.
    """

    markers: dict[int, Marker]
    corrupt: dict[int, LedgerCorruptError]
    retried: frozenset[int] = frozenset()
    moved: frozenset[int] = frozenset()


def build_commit(plan: CommitPlan[BookedBatch], commit_id: str, *, settings: Settings) -> CommitBody:
    """Build the data of everything that one attempt at a commit writes to the ledger."""
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

    def body(self) -> CommitBody:
        steps: list[Step] = [(self._commit(), Meaning(role=Role.COMMIT)), (self._waiting(), None)]
        steps += [(self._open_month(month), Meaning(role=Role.MONTH, month=month)) for month in self._months]
        steps += self._batch_steps()
        return CommitBody(
            plan=self._plan,
            commit_id=self._commit_id,
            staging_key=self._staging_key,
            records_key=self._records_key,
            lines=tuple(map(self._line, self._plan.batches)),
            actions=tuple(action for action, _ in steps),
            meanings=tuple(meaning for _, meaning in steps),
        )

    def _batch_steps(self) -> list[Step]:
        """The markers of all batches, then the aliases of the retries, then the markers of their originals."""
        batches = list(enumerate(self._plan.batches))
        retries = [(place, batch, original) for place, batch in batches if (original := batch.original) is not None]
        return [
            *((self._put_marker(batch), Meaning(role=Role.MARKER, place=place)) for place, batch in batches),
            *((self._alias(batch, each), Meaning(role=Role.ALIAS, place=place)) for place, batch, each in retries),
            *((self._kept(each), Meaning(role=Role.ORIGINAL, place=place)) for place, _, each in retries),
        ]

    @staticmethod
    def _open_month(month: str) -> Check:
        return Check(table=Table.LEDGER, key=period_key(month), condition=_NOT_THERE)

    def _commit(self) -> Put:
        record = CommitRecord(
            commit_id=self._commit_id,
            state="committed",
            shard=self._shard,
            hours=tuple(sorted(self._hours)),
            staging_key=self._staging_key,
            rows=sum(total.records for total in self._hours.values()),
            bytes=sum(total.bytes for total in self._hours.values()),
            created_at_ms=self._now_ms,
        )
        return Put(table=Table.LEDGER, item=record.to_item(), condition=_NOT_THERE)

    def _waiting(self) -> Put:
        waiting = Waiting(
            shard=self._shard,
            commit_id=self._commit_id,
            totals=self._hours,
            staging_key=self._staging_key,
            created_at_ms=self._now_ms,
            sent_at_ms=min(batch.sent_at_ms for batch in self._plan.batches),
        )
        return Put(table=Table.LEDGER, item=waiting.to_item())

    def _put_marker(self, booked: BookedBatch) -> Put:
        return Put(table=Table.LEDGER, item=self._marker(booked).to_item(), condition=ABSENT_OR_REJECTED)

    def _line(self, booked: BookedBatch) -> MarkerLine:
        original = booked.original
        return MarkerLine(
            marker=self._marker(booked),
            retry_of="" if original is None else original.batch_id,
            sent_at_ms=booked.sent_at_ms,
        )

    def _marker(self, booked: BookedBatch) -> Marker:
        batch = booked.batch
        return Marker(
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

    def _alias(self, booked: BookedBatch, original: Original) -> Put:
        alias = Alias(
            batch_id=original.batch_id,
            content_hash=booked.batch.content_hash,
            retry_id=booked.batch.batch_id,
            expires_at_s=self._marker_expires_at_s,
        )
        return Put(table=Table.LEDGER, item=alias.to_item(), condition=_NOT_THERE)

    def _kept(self, original: Original) -> Update:
        """Extend the original marker's life to the retry marker's, so that the first id never accepts this content."""
        seen = Equals(attribute="expires_at", value=original.expires_at_s)
        return Update(
            table=Table.LEDGER,
            key=marker_key(original.batch_id),
            set={"expires_at": max(original.expires_at_s, self._marker_expires_at_s)},
            condition=AllOf((ACCEPTED, seen)),
        )


def _sum_by_hour(plan: CommitPlan[BookedBatch]) -> dict[int, Total]:
    hours: dict[int, Total] = {}
    for batch in plan.batches:
        add_totals(hours, batch.hours)
    return hours


def read_refusal(body: CommitBody, error: TransactionCanceledError) -> OwnCommit | ClosedMonths | EarlierVerdicts:
    """Interpret the refusal of a transaction of which conditions failed. The order of the checks matters.

    Raises:
        LedgerCorruptError: A condition failed that cannot fail.
    """
    failed = {
        index: reason[1]
        for index, reason in enumerate(error.reasons)
        if reason is not None and reason[0] == "ConditionalCheckFailed"
    }
    meanings = [(body.meanings[index], item) for index, item in failed.items()]
    known = [(meaning, item) for meaning, item in meanings if meaning is not None]
    for meaning, item in known:
        if meaning.role is Role.COMMIT:
            return OwnCommit(landed=_state(item) != "aborted")
    months = frozenset(meaning.month for meaning, _ in known if meaning.role is Role.MONTH)
    if months:
        return ClosedMonths(months=months)
    if not known or len(known) < len(failed):
        raise LedgerCorruptError(f"commit {body.commit_id} was refused at actions {sorted(failed)}")
    return _earlier_verdicts(known)


def _earlier_verdicts(failed: Sequence[tuple[Meaning, Mapping[str, object] | None]]) -> EarlierVerdicts:
    markers: dict[int, Marker] = {}
    corrupt: dict[int, LedgerCorruptError] = {}
    for meaning, item in failed:
        if meaning.role is not Role.MARKER:
            continue
        try:
            markers[meaning.place] = _marker(item)
        except LedgerCorruptError as error:
            corrupt[meaning.place] = error
    return EarlierVerdicts(
        markers=markers,
        corrupt=corrupt,
        retried=frozenset(meaning.place for meaning, _ in failed if meaning.role is Role.ALIAS),
        moved=frozenset(meaning.place for meaning, _ in failed if meaning.role is Role.ORIGINAL),
    )


def _state(item: Mapping[str, object] | None) -> str:
    if item is None:
        raise LedgerCorruptError("a commit item exists, but was not returned")
    return CommitRecord.from_item(cast("Item", item)).state


def _marker(item: Mapping[str, object] | None) -> Marker:
    if item is None:
        raise LedgerCorruptError("a marker exists, but was not returned")
    return Marker.from_item(cast("Item", item))

"""The one transaction that makes a commit durable (T-COMMIT, P16), and the meaning of its refusal (P17)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, cast

from metering.commit.packing import ended_months
from metering.errors import LedgerCorruptError, TransactionCanceledError
from metering.ledger.commits import CommitRecord, shard_of
from metering.ledger.markers import ABSENT_OR_REJECTED, ACCEPTED, Marker, marker_key
from metering.ledger.periods import period_key
from metering.ledger.retries import Alias
from metering.ledger.waiting import Waiting
from metering.stores.bucket import refused_records_key, staging_key
from metering.stores.writes import Absent, AllOf, Check, Equals, Put, Table, Update
from metering.usage.totals import Total, add_totals

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from metering.commit.booking import BookedBatch
    from metering.commit.originals import Original
    from metering.commit.packing import CommitPlan
    from metering.settings import Settings
    from metering.stores.writes import Action, Item

_NOT_THERE = Absent()


class Role(Enum):
    """Part that an action with a condition plays in a commit's transaction."""

    COMMIT = "commit"
    MONTH = "month"
    MARKER = "marker"
    ALIAS = "alias"
    ORIGINAL = "original"


@dataclass(frozen=True, slots=True, kw_only=True)
class Meaning:
    """Meaning of an action, by which its failed condition is read.

    Attributes:
        place: Place of the batch in the commit, for a marker, an alias and an original's marker.
        month: The month, for the check of a month.
    """

    role: Role
    place: int = 0
    month: str = ""


# An action of a transaction with its meaning. The meaning is None if no condition of the action can fail.
Step = tuple["Action", Meaning | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitBody:
    """One attempt at a commit, under an id of its own. Sent again, it is sent unchanged.

    Attributes:
        records_key: Key of the object with the refused records of its batches; empty if there are none.
        actions: Actions of the transaction.
        meanings: Meanings of the actions, in the same order.
    """

    plan: CommitPlan[BookedBatch]
    commit_id: str
    staging_key: str
    records_key: str
    actions: tuple[Action, ...]
    meanings: tuple[Meaning | None, ...]


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
        markers: Markers of batches that were accepted before, by place in the commit.
        corrupt: Errors of the markers that cannot be read, by place.
        retried: Places of retries whose content is metered already, as this retry or as another one.
        moved: Places of retries whose original has changed since it was read.
    """

    markers: dict[int, Marker]
    corrupt: dict[int, LedgerCorruptError]
    retried: frozenset[int] = frozenset()
    moved: frozenset[int] = frozenset()


def build_commit(plan: CommitPlan[BookedBatch], commit_id: str, *, settings: Settings) -> CommitBody:
    """Build everything that one attempt at a commit writes to the ledger, as data."""
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
            actions=tuple(action for action, _ in steps),
            meanings=tuple(meaning for _, meaning in steps),
        )

    def _batch_steps(self) -> list[Step]:
        """The markers of all batches, then the aliases of the retries, then the markers of their originals."""
        batches = list(enumerate(self._plan.batches))
        retries = [(place, batch, original) for place, batch in batches if (original := batch.original) is not None]
        return [
            *((self._marker(batch), Meaning(role=Role.MARKER, place=place)) for place, batch in batches),
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
        return Put(table=Table.LEDGER, item=marker.to_item(), condition=ABSENT_OR_REJECTED)

    def _alias(self, booked: BookedBatch, original: Original) -> Put:
        alias = Alias(
            batch_id=original.batch_id,
            content_hash=booked.batch.content_hash,
            retry_id=booked.batch.batch_id,
            expires_at_s=self._marker_expires_at_s,
        )
        return Put(table=Table.LEDGER, item=alias.to_item(), condition=_NOT_THERE)

    def _kept(self, original: Original) -> Update:
        """Let the original's marker live as long as the retry's: it keeps this content from the first id."""
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
    """Read the refusal of a transaction whose conditions failed. The order of the questions matters.

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

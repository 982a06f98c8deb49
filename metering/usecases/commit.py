"""Group commit: makes batches durable in as few transactions as fit, and gives each its verdict."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from metering.domain import metric_names
from metering.domain.batches import DecodedBatch
from metering.domain.commits import wal_key
from metering.domain.quarantine import encode_records
from metering.errors import LedgerCorruptError, TransactionCanceledError, UnavailableError
from metering.ports import StagedBatch
from metering.usecases.booking import BookedBatch, book
from metering.usecases.foresight import Foresight
from metering.usecases.packing import Budget, CommitPlan, plan_commits
from metering.usecases.transaction import (
    ClosedMonths,
    CommitBody,
    EarlierVerdicts,
    OwnCommit,
    build_commit,
    read_refusal,
)
from metering.usecases.verdicts import Tally, Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from metering.ports import Clock, Deadline, Entropy, ItemStore, Metrics, ObjectStore, RowCodec
    from metering.settings import Settings
    from metering.usecases.contents import Content
    from metering.usecases.finish import Finisher
    from metering.usecases.patience import Patience
    from metering.usecases.refusal import Refuser
    from metering.usecases.shares import Shares

Groups = list[list["Content"]]


class _Reply(Enum):
    """What is known of a transaction that was sent. Otherwise there are reasons why it was canceled."""

    LANDED = "landed"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Invocation:
    """What the parts of one invocation share: how long it has, and where its verdicts go."""

    deadline: Deadline
    shares: Shares
    refuser: Refuser
    tally: Tally


class Committer:
    """Commits batches that have no verdict yet, each as often and as small as the replies ask for."""

    def __init__(
        self,
        *,
        store: ItemStore,
        objects: ObjectStore,
        codec: RowCodec,
        clock: Clock,
        entropy: Entropy,
        metrics: Metrics,
        patience: Patience,
        finisher: Finisher,
        settings: Settings,
    ) -> None:
        self._store = store
        self._objects = objects
        self._codec = codec
        self._clock = clock
        self._entropy = entropy
        self._metrics = metrics
        self._patience = patience
        self._finisher = finisher
        self._settings = settings
        self._budget = Budget(records=settings.commit_records, bytes=settings.commit_bytes, keys=settings.commit_keys)
        self._foresight = Foresight(store)
        # A month never opens again, so what was seen once stays true.
        self._closed: set[str] = set()

    def commit(self, contents: Sequence[Content], invocation: Invocation) -> None:
        """Give each content a verdict, or put it back.

        Args:
            contents: Decoded batches of distinct ids.
            invocation: No commit is begun once less than the reserve of its deadline is left.
        """
        groups = deque([self._undecided(contents, invocation)])
        while groups:
            for plan in self._plan(groups.popleft()):
                groups.extend(self._attempt(plan, invocation))

    def _undecided(self, contents: Sequence[Content], invocation: Invocation) -> list[Content]:
        """Those without a verdict that could be seen beforehand; the others get it."""
        markers = self._foresight.accepted_before(contents)
        if not markers:
            return list(contents)
        undecided = []
        for content in contents:
            marker = markers.get(content.batch.batch_id)
            if marker is None:
                undecided.append(content)
            else:
                invocation.tally.settle(content, invocation.refuser.against(content, marker))
        return undecided

    def _plan(self, contents: list[Content]) -> list[CommitPlan[BookedBatch]]:
        now_s = self._clock.now_ms() // 1000
        booked = [
            book(content, content.batch, closed=self._closed, now_s=now_s)
            for content in contents
            if isinstance(content.batch, DecodedBatch)
        ]
        return plan_commits(booked, budget=self._budget, now_s=now_s)

    def _attempt(self, plan: CommitPlan[BookedBatch], invocation: Invocation) -> Groups:
        """One commit under a new id; returns what has to be planned and attempted anew."""
        if invocation.deadline.remaining_ms() < self._settings.reserve_ms:
            return _put_back(plan, invocation)
        body = build_commit(plan, self._entropy.token(), now_ms=self._clock.now_ms(), settings=self._settings)
        try:
            self._write_objects(body)
        except UnavailableError:
            return _put_back(plan, invocation)
        reply = self._send(body, invocation.deadline)
        if reply is _Reply.LANDED:
            self._accept(body, invocation)
            return []
        if reply is _Reply.UNKNOWN:
            return self._smaller(plan, invocation)
        return self._resolve(body, read_refusal(body, reply), invocation)

    def _write_objects(self, body: CommitBody) -> None:
        """All that the transaction will refer to; durable before it is sent."""
        batches = body.plan.batches
        if body.records_key:
            refused = {each.batch.batch_id: each.batch.refused for each in batches if each.batch.refused}
            self._put(body.records_key, encode_records(refused))
        staged = [
            StagedBatch(batch_id=each.batch.batch_id, rows=each.batch.rows, rebooked=each.rebooked) for each in batches
        ]
        self._put(body.staging_key, self._codec.encode(staged))
        if body.write_ahead is not None:
            self._put(wal_key(body.staging_key), body.write_ahead.encode())

    def _put(self, key: str, content: bytes) -> None:
        # Named by the commit's own id: if it is there, a lost reply was a success.
        self._patience.call(lambda: self._objects.put(key, content, if_absent=True))

    def _send(self, body: CommitBody, deadline: Deadline) -> _Reply | TransactionCanceledError:
        """Send the transaction, the same one again while its outcome is open."""
        failures = 0
        while True:
            try:
                self._store.transact(body.actions)
            except UnavailableError:
                pass
            except TransactionCanceledError as error:
                if error.condition_failed:
                    return error
            else:
                return _Reply.LANDED
            failures += 1
            if failures >= self._patience.attempts or deadline.remaining_ms() < self._settings.reserve_ms // 2:
                return _Reply.UNKNOWN
            self._metrics.count(metric_names.TRANSACTIONS_REPEATED)
            self._patience.pause(failures)

    def _smaller(self, plan: CommitPlan[BookedBatch], invocation: Invocation) -> Groups:
        """Bisect. The old attempt may land even so: then the markers say that its batches are duplicates."""
        contents = [batch.content for batch in plan.batches]
        if len(contents) == 1:
            return _put_back(plan, invocation)
        self._metrics.count(metric_names.COMMITS_REPLANNED)
        half = len(contents) // 2
        return [contents[:half], contents[half:]]

    def _resolve(
        self, body: CommitBody, refusal: OwnCommit | ClosedMonths | EarlierVerdicts, invocation: Invocation
    ) -> Groups:
        contents = [batch.content for batch in body.plan.batches]
        if isinstance(refusal, OwnCommit):
            if refusal.landed:
                self._accept(body, invocation)
                return []
            self._metrics.count(metric_names.COMMITS_REPLANNED)
            return [contents]
        if isinstance(refusal, ClosedMonths):
            self._closed |= refusal.months
            self._metrics.count(metric_names.COMMITS_REBOOKED)
            return [contents]
        self._foresight.met_earlier_verdicts()
        for place, marker in refusal.markers.items():
            content = contents[place]
            invocation.tally.settle(content, invocation.refuser.against(content, marker))
        rest = [content for place, content in enumerate(contents) if place not in refusal.markers]
        if not rest:
            return []
        self._metrics.count(metric_names.COMMITS_REPLANNED)
        return [rest]

    def _accept(self, body: CommitBody, invocation: Invocation) -> None:
        if body.write_ahead is None:
            self._metrics.count(metric_names.COMMITS_NARROW)
        else:
            self._metrics.count(metric_names.COMMITS_WIDE)
            self._finish(body)
        for booked in body.plan.batches:
            self._count(booked)
            invocation.tally.settle(booked.content, Verdict.ACCEPTED)

    def _finish(self, body: CommitBody) -> None:
        # Markers and the write-ahead object are durable, so the batches are accepted whatever comes of this.
        try:
            self._finisher.finish(body.commit_id, opened=body.write_ahead)
        except UnavailableError:
            self._metrics.count(metric_names.COMMITS_LEFT_OPEN)
        except LedgerCorruptError:
            self._metrics.count(metric_names.LEDGER_CORRUPT)

    def _count(self, booked: BookedBatch) -> None:
        batch = booked.batch
        self._metrics.count(metric_names.RECORDS_METERED, batch.records - len(batch.refused))
        self._metrics.count(metric_names.BYTES_METERED, sum(total.bytes for total in booked.hours.values()))
        if batch.unknown_regions:
            self._metrics.count(metric_names.UNKNOWN_REGIONS, len(batch.unknown_regions))
        if batch.refused:
            self._metrics.count(metric_names.RECORDS_REFUSED, len(batch.refused))
        for record in batch.refused:
            self._metrics.count(metric_names.REFUSED_BY_REASON, reason=record.reasons[0][0])


def _put_back(plan: CommitPlan[BookedBatch], invocation: Invocation) -> Groups:
    for batch in plan.batches:
        invocation.tally.settle(batch.content, Verdict.PUT_BACK)
    return []

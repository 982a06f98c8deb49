"""Group commit: makes batches durable in few transactions, and gives each batch its verdict."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING

from metering import metric_names
from metering.commit.booking import BookedBatch, book
from metering.commit.finisher import Finisher
from metering.commit.lookahead import VerdictLookahead
from metering.commit.originals import Originals
from metering.commit.packing import Budget, CommitPlan, plan_commits
from metering.commit.transaction import ClosedMonths, CommitBody, EarlierVerdicts, OwnCommit, build_commit, read_refusal
from metering.commit.verdicts import Verdict
from metering.errors import ItemTooLargeError, LedgerCorruptError, TransactionCanceledError, UnavailableError
from metering.intake.batches import RefusedBatch
from metering.lake.ports import StagedBatch
from metering.ledger.shards import ShardRecord
from metering.quarantine.documents import encode_records
from metering.stores.bucket import wal_key

if TYPE_CHECKING:
    from collections.abc import Sequence

    from metering.commit.deduplication import Content
    from metering.commit.originals import Candidate
    from metering.commit.shares import Shares
    from metering.commit.tally import Tally
    from metering.commit.verdict_writer import VerdictWriter
    from metering.lake.ports import RowCodec
    from metering.ledger.markers import Marker
    from metering.settings import Settings
    from metering.stores.clock import Clock, Deadline, Entropy
    from metering.stores.items import ItemStore
    from metering.stores.objects import ObjectStore
    from metering.stores.retrying import Retrier
    from metering.stores.telemetry import Metrics
    from metering.stores.writes import ActionLimits

Groups = list[list["Candidate"]]


class _Reply(Enum):
    """Outcome of a transaction that was sent and not refused."""

    LANDED = "landed"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Invocation:
    """Parts of one invocation: its deadline, the shares of its time, and the tally of its verdicts."""

    deadline: Deadline
    shares: Shares
    verdict_writer: VerdictWriter
    tally: Tally

    def reject(self, content: Content, batch: RefusedBatch) -> None:
        """Refuse a content. If the ledger contradicts itself about the content's id, only this content goes back."""
        try:
            verdict = self.verdict_writer.reject(content, batch, self.tally)
        except LedgerCorruptError as error:
            self.tally.corrupt(error)
            verdict = Verdict.PUT_BACK
        self.tally.settle(content, verdict)

    def settle_against(self, content: Content, marker: Marker) -> None:
        """Give a content its verdict by the marker that its id has already."""
        self.tally.settle(content, self.verdict_writer.against(content, marker, self.tally))


class Committer:
    """Commits batches that have no verdict yet. A refused commit is planned anew; one of unknown outcome is halved.

    A plain class, because it learns from one invocation for the next: which months are closed, whether looking ahead
    pays, and that the ledger knows the number of shards.
    """

    def __init__(
        self,
        *,
        items: ItemStore,
        objects: ObjectStore,
        codec: RowCodec,
        clock: Clock,
        entropy: Entropy,
        metrics: Metrics,
        retrier: Retrier,
        settings: Settings,
        limits: ActionLimits,
    ) -> None:
        self._items = items
        self._objects = objects
        self._codec = codec
        self._clock = clock
        self._entropy = entropy
        self._metrics = metrics
        self._retrier = retrier
        self._finisher = Finisher(items=items, objects=objects, retrier=retrier, chunk_actions=limits.chunk)
        self._originals = Originals(items=items, retrier=retrier)
        self._settings = settings
        self._limits = limits
        self._budget = Budget(
            records=settings.commit_records,
            bytes=settings.commit_bytes,
            keys=settings.commit_keys,
            actions=limits.transaction,
        )
        self._lookahead = VerdictLookahead(items=items)
        self._shards = ShardRecord(items=items, retrier=retrier, shards=settings.shards)
        # Months that were found closed. A closed month never opens again.
        self._closed: set[str] = set()

    def commit(self, candidates: Sequence[Candidate], invocation: Invocation) -> None:
        """Give each candidate a verdict, or put it back.

        Args:
            candidates: Decoded batches of distinct ids.
            invocation: No commit is begun once less than the reserve of its deadline is left.
        """
        groups = deque([self._undecided(candidates, invocation)])
        while groups:
            for plan in self._plan(self._founded(groups.popleft(), invocation)):
                groups.extend(self._attempt(plan, invocation))

    def _undecided(self, candidates: Sequence[Candidate], invocation: Invocation) -> list[Candidate]:
        """Candidates without a verdict that lookahead can see. The others get their verdict here."""
        markers = self._lookahead.accepted_before([each.content for each in candidates])
        if not markers:
            return list(candidates)
        undecided = []
        for candidate in candidates:
            marker = markers.get(candidate.batch.batch_id)
            if marker is None:
                undecided.append(candidate)
            else:
                invocation.settle_against(candidate.content, marker)
        return undecided

    def _founded(self, candidates: list[Candidate], invocation: Invocation) -> list[Candidate]:
        """Candidates that their originals allow to be committed. The others get their verdict here."""
        founded = []
        for candidate, judged in zip(candidates, self._originals.judge(candidates), strict=True):
            if isinstance(judged, RefusedBatch):
                invocation.reject(candidate.content, judged)
            elif isinstance(judged, LedgerCorruptError):
                invocation.tally.corrupt(judged)
                invocation.tally.settle(candidate.content, Verdict.PUT_BACK)
            elif isinstance(judged, Verdict):
                invocation.tally.settle(candidate.content, judged)
            else:
                founded.append(judged)
        return founded

    def _plan(self, candidates: list[Candidate]) -> list[CommitPlan[BookedBatch]]:
        now_ms = self._clock.now_ms()
        booked = [book(candidate, closed=self._closed, now_s=now_ms // 1000) for candidate in candidates]
        return plan_commits(booked, budget=self._budget, now_ms=now_ms)

    def _attempt(self, plan: CommitPlan[BookedBatch], invocation: Invocation) -> Groups:
        """Attempt one commit under a new id; returns the candidates to plan and attempt anew."""
        if invocation.deadline.remaining_ms() < self._settings.reserve_ms:
            return _put_back(plan, invocation)
        body = build_commit(plan, self._entropy.token(), settings=self._settings, limits=self._limits)
        try:
            # The ledger must know all shards before a commit can be in one of them.
            self._shards.ensure()
            self._write_objects(body)
        except UnavailableError:
            return _put_back(plan, invocation)
        except LedgerCorruptError as error:
            # The number of shards cannot be read. Batches that need no commit still get their verdict.
            invocation.tally.corrupt(error)
            return _put_back(plan, invocation)
        reply = self._send(body, invocation.deadline)
        if reply is _Reply.LANDED:
            self._accept(body, invocation)
            return []
        if reply is _Reply.UNKNOWN:
            return self._smaller(plan, invocation)
        try:
            refusal = read_refusal(body, reply)
        except LedgerCorruptError as error:
            invocation.tally.corrupt(error)
            return _put_back(plan, invocation)
        return self._resolve(body, refusal, invocation)

    def _write_objects(self, body: CommitBody) -> None:
        """Write the objects that the transaction refers to. They are durable before it is sent."""
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
        # The key has the commit's own id. If the object exists, an earlier call succeeded and its reply was lost.
        self._retrier.call(lambda: self._objects.put(key, content, if_absent=True))

    def _send(self, body: CommitBody, deadline: Deadline) -> _Reply | TransactionCanceledError:
        """Send the transaction, and send it again unchanged while its outcome is unknown."""
        try:
            self._retrier.call(partial(self._transact, body), go_on=partial(self._repeat, deadline))
        except TransactionCanceledError as error:
            return error
        except UnavailableError:
            return _Reply.UNKNOWN
        except ItemTooLargeError:
            # Nothing was written. Half of the batches may fit, and a batch that is too large alone must not stop the
            # others.
            return _Reply.UNKNOWN
        return _Reply.LANDED

    def _transact(self, body: CommitBody) -> None:
        try:
            self._items.transact(body.actions)
        except TransactionCanceledError as error:
            if error.condition_failed:
                raise
            raise UnavailableError("ItemStore.transact", "another transaction was in its way") from error

    def _repeat(self, deadline: Deadline) -> bool:
        """Whether there is time to send the transaction again; if so, the repeat is counted."""
        if deadline.remaining_ms() < self._settings.reserve_ms // 2:
            return False
        self._metrics.count(metric_names.TRANSACTIONS_REPEATED)
        return True

    def _smaller(self, plan: CommitPlan[BookedBatch], invocation: Invocation) -> Groups:
        """Halve the commit. If the old attempt lands after all, its markers make these batches duplicates."""
        candidates = [batch.candidate for batch in plan.batches]
        if len(candidates) == 1:
            return _put_back(plan, invocation)
        self._metrics.count(metric_names.COMMITS_REPLANNED)
        half = len(candidates) // 2
        return [candidates[:half], candidates[half:]]

    def _resolve(
        self, body: CommitBody, refusal: OwnCommit | ClosedMonths | EarlierVerdicts, invocation: Invocation
    ) -> Groups:
        candidates = [batch.candidate for batch in body.plan.batches]
        if isinstance(refusal, OwnCommit):
            if refusal.landed:
                self._accept(body, invocation)
                return []
            self._metrics.count(metric_names.COMMITS_REPLANNED)
            return [candidates]
        if isinstance(refusal, ClosedMonths):
            self._closed |= refusal.months
            self._metrics.count(metric_names.COMMITS_REBOOKED)
            return [candidates]
        self._lookahead.met_earlier_verdicts()
        rest = self._still_undecided(candidates, refusal, invocation)
        if not rest:
            return []
        self._metrics.count(metric_names.COMMITS_REPLANNED)
        return [rest]

    @staticmethod
    def _still_undecided(
        candidates: Sequence[Candidate], refusal: EarlierVerdicts, invocation: Invocation
    ) -> list[Candidate]:
        """Settle the candidates that the refusal decides, and return the others."""
        rest = []
        for place, candidate in enumerate(candidates):
            if place in refusal.corrupt:
                invocation.tally.corrupt(refusal.corrupt[place])
                invocation.tally.settle(candidate.content, Verdict.PUT_BACK)
            elif place in refusal.retried:
                invocation.tally.settle(candidate.content, Verdict.DUPLICATE)
            elif place in refusal.markers:
                invocation.settle_against(candidate.content, refusal.markers[place])
            else:
                rest.append(candidate)
        return rest

    def _accept(self, body: CommitBody, invocation: Invocation) -> None:
        if body.write_ahead is None:
            self._metrics.count(metric_names.COMMITS_NARROW)
        else:
            self._metrics.count(metric_names.COMMITS_WIDE)
            self._finish(body, invocation)
        for booked in body.plan.batches:
            self._count(booked)
            invocation.tally.settle(booked.content, Verdict.ACCEPTED)

    def _finish(self, body: CommitBody, invocation: Invocation) -> None:
        # Markers and the write-ahead object are durable, so the batches are accepted whatever happens here.
        try:
            self._finisher.finish(body.commit_id, opened=body.write_ahead)
        except UnavailableError:
            self._metrics.count(metric_names.COMMITS_LEFT_OPEN)
        except LedgerCorruptError as error:
            invocation.tally.corrupt(error)

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

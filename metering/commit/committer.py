"""Group commit: makes many batches durable in few transactions, and gives each batch its verdict."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from metering import metric_names
from metering.commit.deduplication import Candidate, Content, Originals, Verdict, VerdictLookahead
from metering.commit.throttling import Shares, ThrottleMemory
from metering.commit.transaction import (
    BookedBatch,
    Budget,
    ClosedMonths,
    CommitBody,
    CommitPlan,
    EarlierVerdicts,
    OwnCommit,
    book,
    build_commit,
    plan_commits,
    read_refusal,
)
from metering.errors import (
    ItemTooLargeError,
    LedgerCorruptError,
    ThrottledError,
    TransactionCanceledError,
    UnavailableError,
)
from metering.intake.batches import RefusedBatch
from metering.lake.ports import RowCodec, StagedBatch
from metering.ledger.commits import ShardRecord
from metering.ledger.markers import encode_lines
from metering.quarantine.documents import encode_records

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from metering.commit.verdict_writer import Tally, VerdictWriter
    from metering.ledger.markers import Marker
    from metering.settings import Settings
    from metering.stores.clock import Clock, Deadline, Entropy, Metrics, Retrier
    from metering.stores.objects import ObjectStore
    from metering.stores.writes import ActionLimits, ItemStore

Groups = list[list["Candidate"]]


class _Reply(Enum):
    """Outcome of a transaction of which no condition failed."""

    LANDED = "landed"
    # The outcome is unknown, or another transaction conflicted; a smaller transaction may succeed.
    UNKNOWN = "unknown"
    # Nothing was written. Half of the batches may fit, and one batch that is too large must not block the others.
    TOO_LARGE = "too large"
    # The table has too little write capacity, and smaller transactions would need even more of it.
    THROTTLED = "throttled"


# Replies after which the same transaction is retried.
_AGAIN = (_Reply.UNKNOWN, _Reply.THROTTLED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Invocation:
    """State of one invocation: its deadline, the division of its time, and the tally of verdicts."""

    deadline: Deadline
    shares: Shares
    verdict_writer: VerdictWriter
    tally: Tally

    def reject(self, content: Content, batch: RefusedBatch) -> None:
        """Refuse a content. If the ledger contradicts itself about the id, only this content returns to the queue."""
        try:
            verdict = self.verdict_writer.reject(content, batch, self.tally)
        except LedgerCorruptError as error:
            self.tally.corrupt(error)
            verdict = Verdict.PUT_BACK
        self.tally.settle(content, verdict)

    def put_back(self, candidates: Iterable[Candidate]) -> None:
        for candidate in candidates:
            self.tally.settle(candidate.content, Verdict.PUT_BACK)

    def settle_against(self, content: Content, marker: Marker) -> None:
        """Give a content the verdict that follows from the existing marker of its id."""
        self.tally.settle(content, self.verdict_writer.against(content, marker, self.tally))


class Committer:
    """Commits batches that have no verdict yet (P15-P17).

    A refused commit is planned again, a commit of unknown outcome is halved, and all batches of a throttled commit
    return to the queue.

    This class is not a dataclass, because it keeps state between invocations: which months are closed, whether
    lookahead is useful, whether the table lacks write capacity, and that the ledger records the number of shards.
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
        self._originals = Originals(items=items, retrier=retrier)
        self._settings = settings
        self._budget = Budget(records=settings.commit_records, bytes=settings.commit_bytes, actions=limits.transaction)
        self._throttles = ThrottleMemory(clock=clock, entropy=entropy)
        self._lookahead = VerdictLookahead(items=items)
        self._shards = ShardRecord(items=items, retrier=retrier, shards=settings.shards)
        # Months found to be closed. A closed month is never reopened.
        self._closed: set[str] = set()

    def commit(self, candidates: Sequence[Candidate], invocation: Invocation) -> None:
        """Give each candidate a verdict, or return it to the queue.

        Args:
            candidates: Decoded batches, each with another id.
            invocation: State of the invocation; if less time than the reserve is left, no commit starts.
        """
        self._send_throttled_again()
        groups = deque([self._undecided(candidates, invocation)])
        while groups:
            for plan in self._plan(self._founded(groups.popleft(), invocation)):
                groups.extend(self._attempt(plan, invocation))

    def _send_throttled_again(self) -> None:
        """After the pause, retry the throttled commit once, before any other commit writes an object."""
        body = self._throttles.body
        if body is None or self._throttles.pausing:
            return
        reply = self._send_once(body)
        if reply is _Reply.THROTTLED:
            self._throttles.throttled(body)
            return
        self._throttles.got_through()
        if reply is _Reply.LANDED:
            # The messages of these batches are delivered again and found to be duplicates.
            self._metrics.count(metric_names.BATCHES_ACCEPTED, len(body.plan.batches))
            self._count_commit(body)

    def _undecided(self, candidates: Sequence[Candidate], invocation: Invocation) -> list[Candidate]:
        """Return the candidates for which lookahead found no verdict. The other candidates get their verdicts here."""
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
        """Return the candidates whose originals permit the commit. The other candidates get their verdicts here."""
        founded = []
        for candidate, judged in zip(candidates, self._originals.judge(candidates), strict=True):
            if isinstance(judged, RefusedBatch):
                invocation.reject(candidate.content, judged)
            elif isinstance(judged, LedgerCorruptError):
                invocation.tally.corrupt(judged)
                invocation.tally.settle(candidate.content, Verdict.PUT_BACK)
            elif isinstance(judged, UnavailableError):
                invocation.tally.met(judged)
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
        """Attempt one commit under a new id; returns candidates that must be planned and attempted again."""
        if invocation.deadline.remaining_ms() < self._settings.reserve_ms:
            return _put_back(plan, invocation)
        if self._throttles.pausing:
            # While the writes pause, no staging object is written, because its transaction would also be throttled.
            invocation.tally.met_throttle()
            return _put_back(plan, invocation)
        body = build_commit(plan, self._entropy.token(), settings=self._settings)
        try:
            # The ledger must record every shard before a commit uses the shard.
            self._shards.ensure()
            self._write_objects(body)
        except UnavailableError as error:
            invocation.tally.met(error)
            return _put_back(plan, invocation)
        except LedgerCorruptError as error:
            # The number of shards is unreadable. Batches that need no commit get verdicts anyway.
            invocation.tally.corrupt(error)
            return _put_back(plan, invocation)
        reply = self._send(body, invocation.deadline)
        if isinstance(reply, _Reply):
            return self._replied(reply, body, invocation)
        self._throttles.got_through()
        try:
            refusal = read_refusal(body, reply)
        except LedgerCorruptError as error:
            invocation.tally.corrupt(error)
            return _put_back(plan, invocation)
        return self._resolve(body, refusal, invocation)

    def _replied(self, reply: _Reply, body: CommitBody, invocation: Invocation) -> Groups:
        if reply is _Reply.LANDED:
            self._throttles.got_through()
            self._accept(body, invocation)
            return []
        if reply is _Reply.THROTTLED:
            self._throttles.throttled(body)
            self._metrics.count(metric_names.COMMITS_THROTTLED)
            invocation.tally.met_throttle()
            return _put_back(body.plan, invocation)
        return self._smaller(body.plan, invocation)

    def _write_objects(self, body: CommitBody) -> None:
        batches = body.plan.batches
        if body.records_key:
            refused = {each.batch.batch_id: each.batch.refused for each in batches if each.batch.refused}
            self._put(body.records_key, encode_records(refused))
        staged = [
            StagedBatch(batch_id=each.batch.batch_id, rows=each.batch.rows, rebooked=each.rebooked) for each in batches
        ]
        self._put(body.staging_key, self._codec.encode(staged, encode_lines(body.lines)))

    def _put(self, key: str, content: bytes) -> None:
        # The key contains the commit's own id. If the object exists, an earlier call succeeded and its reply was lost.
        self._retrier.call(lambda: self._objects.put(key, content, if_absent=True))

    def _send(self, body: CommitBody, deadline: Deadline) -> _Reply | TransactionCanceledError:
        """Send the transaction; while its outcome is unknown or it is throttled, send it again unchanged (P17)."""
        failures = 0
        while True:
            reply = self._send_once(body)
            if reply not in _AGAIN:
                return reply
            failures += 1
            if failures >= self._retrier.attempts or not self._has_time(deadline):
                return reply
            self._metrics.count(metric_names.TRANSACTIONS_REPEATED)
            self._retrier.pause(failures)

    def _send_once(self, body: CommitBody) -> _Reply | TransactionCanceledError:
        try:
            self._items.transact(body.actions)
        except TransactionCanceledError as error:
            if error.condition_failed:
                return error
            return _Reply.THROTTLED if error.throttled else _Reply.UNKNOWN
        except ThrottledError:
            return _Reply.THROTTLED
        except UnavailableError:
            return _Reply.UNKNOWN
        except ItemTooLargeError:
            return _Reply.TOO_LARGE
        return _Reply.LANDED

    def _has_time(self, deadline: Deadline) -> bool:
        return deadline.remaining_ms() >= self._settings.reserve_ms // 2

    def _smaller(self, plan: CommitPlan[BookedBatch], invocation: Invocation) -> Groups:
        """Halve the commit. If the earlier attempt succeeds after all, its markers make these batches duplicates."""
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
        """Settle the candidates whose verdicts follow from the refusal; returns all other candidates."""
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
        self._count_commit(body)
        for booked in body.plan.batches:
            invocation.tally.settle(booked.content, Verdict.ACCEPTED)

    def _count_commit(self, body: CommitBody) -> None:
        self._metrics.count(metric_names.COMMITS)
        for booked in body.plan.batches:
            self._count(booked)

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
    invocation.put_back(batch.candidate for batch in plan.batches)
    return []

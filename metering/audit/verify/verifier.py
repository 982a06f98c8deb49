"""Proof that every batch is counted once: conservation (I1) and equality (I2), against ledger and manifest.

The verifier counts every marker, the usage table and every visible row. It compares rows with markers by batch and
hour, rows with usage by key, and, with a manifest, rows with the totals that the sender computed for each batch.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from metering.audit.reconcile.reconciler import Reconciler
from metering.audit.verify.conservation import (
    Whereabouts,
    chosen_contents,
    count_ledger,
    count_sent,
    disallowed_contents,
    doubtful_ids,
    names_of,
    peek_bodies,
    quarantined_digests,
)
from metering.audit.verify.equality import EqualityCheck, judge_contents
from metering.audit.verify.log_plans import PlanCheck
from metering.audit.verify.verification import Verification, sum_verifications
from metering.lake.counted_totals import CountedTotals
from metering.ledger.markers import marker_key
from metering.ledger.snapshot import VerdictCounts, read_batches
from metering.ledger.usage.reading import UsageReading
from metering.ledger.waiting import waiting_commits
from metering.stores.queues import QueueDepth
from metering.stores.writes import Table
from metering.units import MINUTE_S

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from metering.audit.scan.state import CensusState
    from metering.audit.verify.expectations import SentBatches, SentContent
    from metering.lake.view import LakeView
    from metering.ledger.markers import Marker
    from metering.ledger.snapshot import LedgerFacts
    from metering.stores.clock import Clock
    from metering.stores.items import ItemStore
    from metering.stores.objects import ObjectStore
    from metering.stores.queues import Queue

_POLL_MS = 500
# Looks in a row that must show rest.
_LOOKS = 2
_FED_LOOKS = 10
# Most looks for a moment of rest that find messages, in all.
_RESTS = 20
# Time in which the roll-up books a commit: it begins within a minute, and is given another one.
_ROLLED_UP_MS = 2 * MINUTE_S * 1_000
# Time before the second look at a batch without a verdict.
_LATER_MS = 2_000
# Most looks at an hour that differs.
_PASSES = 6


class _Silence:
    """Metrics and alerts of a comparison whose caller tells of it."""

    def count(self, name: str, value: int = 1, **dimensions: str) -> None:
        pass

    def send(self, severity: str, subject: str, fields: Mapping[str, str | int]) -> None:
        pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Verifier:
    """Verifies one region.

    Attributes:
        bucket: The region's data bucket.
        marker_life_s: Older rows may have lost their marker to age.
        feeders: Queues whose messages become batches, such as that of log files.
        threads: Parts of a table that are read at the same time.
        memory_bytes: Memory that a scan of everything may take.
    """

    items: ItemStore
    objects: ObjectStore
    view: LakeView
    ingest: Queue
    dead_letters: Queue
    clock: Clock
    bucket: str
    marker_life_s: int
    feeders: Sequence[Queue] = ()
    threads: int = 1
    memory_bytes: int = 1 << 30

    def wait(self, duration_s: int, tell: Callable[[QueueDepth], None] = lambda _: None) -> bool:
        """Wait at most `duration_s` until all queues are empty and nothing waits for the roll-up; returns whether so.

        Two looks in a row must show it, because the queues' numbers are approximate. With feeders it takes some seconds
        of quiet: so long S3 may take to announce a file.
        """
        deadline_ms = self.clock.now_ms() + duration_s * 1_000
        needed = _FED_LOOKS if self.feeders else _LOOKS
        quiet = 0
        while True:
            depth = self._depth()
            tell(depth)
            quiet = quiet + 1 if depth.total == 0 and not self._waits() else 0
            if quiet >= needed:
                return True
            if self.clock.now_ms() >= deadline_ms:
                return False
            self.clock.sleep_ms(_POLL_MS)

    def _depth(self) -> QueueDepth:
        """Depth of all queues. A message moves on from the feeders, so these are asked first."""
        depths = [*(feeder.depth() for feeder in self.feeders), self.ingest.depth()]
        return QueueDepth(
            visible=sum(depth.visible for depth in depths),
            in_flight=sum(depth.in_flight for depth in depths),
            delayed=sum(depth.delayed for depth in depths),
        )

    def verify(
        self,
        *,
        from_s: int,
        to_s: int,
        sent: SentBatches | None = None,
        counted: CensusState | None = None,
        keep: Callable[[CensusState], None] = lambda _state: None,
        tell: Callable[[str, int, int], None] = lambda _what, _done, _of: None,
    ) -> Verification:
        """Check everything booked in `[from_s, to_s)`, and every batch of a manifest.

        Batches and commits may arrive meanwhile, so one look alone never proves a loss or a double count. Memory
        follows from the number of the manifest's batches, and from an hour's usage keys: about 1.3 KB for a batch with
        its marker, and 150 bytes for each of its hours.

        Args:
            from_s: Start of the range, epoch seconds.
            to_s: Exclusive end of the range.
            sent: The manifest; None to check the ledger against itself.
            counted: What an earlier call counted of the range; None to begin.
            keep: Called with what was counted so far, after each part of a table and each hour.
            tell: Hears what is counted: its name, how much of it, of how much.

        Raises:
            ValueError: What was counted is no verification's.
        """
        waiting, at_rest = self._rest()
        dead = names_of(peek_bodies(self.dead_letters), self.bucket)
        chosen: dict[str, SentContent] = {}
        markers: Mapping[str, Marker] = {}
        verdicts = Verification()
        if sent is not None:
            facts = self._read(sent.contents.keys() | dead, sent)
            waiting = max(waiting, self._look_again(facts, dead, sent))
            chosen, markers = chosen_contents(sent, facts), facts.markers
            unmarked = {batch_id for batch_id in sent.contents if batch_id not in facts.markers}
            verdicts = count_sent(
                sent,
                chosen,
                Whereabouts(facts=facts, dead=dead, waiting=waiting),
                self._quarantined(sent.nameless),
                disallowed_contents(self.objects, unmarked - dead, threads=self.threads),
            )
        reconciler = self._reconciler
        check = EqualityCheck(reconciler=reconciler, chosen=chosen)
        state = counted
        if state is None:
            state = reconciler.begin(from_s=from_s, to_s=to_s, deep=True, sources=False)
            state.verdicts = VerdictCounts()
        if state.verdicts is None:
            raise ValueError("what was counted is of another scan, without verdicts")

        def told(now: CensusState) -> None:
            keep(now)
            tell(now.phase, now.done, now.of)

        compared = check.run(state, tell=told)
        if sent is None:
            verdicts = self._ledger(state.verdicts, dead, waiting)
        now_s = self.clock.now_ms() // 1_000
        plans = PlanCheck(
            items=self.items,
            objects=self.objects,
            markers=markers,
            now_s=now_s,
            markers_since_s=now_s - self.marker_life_s,
        )
        logs = Verification(logs=plans.run(from_s=from_s, to_s=to_s))
        judged = judge_contents(chosen, markers, compared.unstable)
        total = sum_verifications((verdicts, compared, judged, logs))
        at_rest = at_rest and self._rest()[1]
        return replace(
            total,
            stable=at_rest and not total.unstable,
            lost=tuple(sorted(set(total.lost))),
            doubled=tuple(sorted(set(total.doubled))),
        )

    def _ledger(self, verdicts: VerdictCounts, dead: set[str], waiting: int) -> Verification:
        """The ledger's own verdicts, and the dead letters without one."""
        undecided = self._without_verdict(dead)
        if undecided:
            self.clock.sleep_ms(_LATER_MS)
            waiting = max(waiting, self.ingest.depth().total)
            undecided = self._without_verdict(undecided)
        return count_ledger(verdicts, waiting=waiting, dead=len(undecided))

    def _without_verdict(self, names: set[str]) -> set[str]:
        found = self.items.get_many(Table.LEDGER, [marker_key(name) for name in sorted(names)])
        return {name for name in names if marker_key(name) not in found}

    @property
    def _reconciler(self) -> Reconciler:
        """One that only compares, and tells nobody."""
        return Reconciler(
            items=self.items,
            usage=UsageReading(self.items),
            view=self.view,
            totals=CountedTotals(self.view.reader),
            clock=self.clock,
            metrics=_Silence(),
            alerts=_Silence(),
            shards=self.view.shards,
            marker_life_s=self.marker_life_s,
            wait_ms=_LATER_MS,
            passes=_PASSES,
            threads=self.threads,
            memory_bytes=self.memory_bytes,
        )

    def _quarantined(self, digests: set[str]) -> set[str]:
        found = quarantined_digests(self.objects, digests)
        if found == digests:
            return found
        self.clock.sleep_ms(_LATER_MS)
        return found | quarantined_digests(self.objects, digests - found)

    def _rest(self) -> tuple[int, bool]:
        """Number of messages in the queue, and whether it is empty and nothing waits for the roll-up.

        It waits, because a canary may come at any time: for two minutes while only commits wait, and for some seconds
        while messages lie in the queue. So it soon gives up where more keeps coming.
        """
        until_ms = self.clock.now_ms() + _ROLLED_UP_MS
        left = _RESTS
        while True:
            waiting = self.ingest.depth().total
            if waiting == 0 and not self._waits():
                return 0, True
            left -= 1 if waiting else 0
            if not left or self.clock.now_ms() >= until_ms:
                return waiting, False
            self.clock.sleep_ms(_POLL_MS)

    def _look_again(self, facts: LedgerFacts, dead: set[str], sent: SentBatches) -> int:
        """Read batches without a verdict once more; returns the number of messages in the queue at that time."""
        names = {name for name in dead if name not in facts.markers} | doubtful_ids(sent, facts)
        if not names:
            return 0
        self.clock.sleep_ms(_LATER_MS)
        waiting = self.ingest.depth().total
        facts.merge(self._read(names, sent))
        return waiting

    def _read(self, names: AbstractSet[str], sent: SentBatches) -> LedgerFacts:
        """What the ledger has of some batches; conflicts, by a query each, of those that have several contents."""
        several = {name for name in names if len(sent.contents.get(name, ())) > 1}
        alone = sorted(names - several)
        return read_batches(self.items, alone, in_conflict=sorted(several), threads=self.threads)

    def _waits(self) -> bool:
        """Whether a commit waits for the roll-up."""
        return next(waiting_commits(self.items, self.view.shards), None) is not None

"""Proof that every batch is counted once: conservation (I1) and equality (I2), checked with ledger and manifest.

The verifier counts every marker, the usage table and every visible row. Rows are compared with markers by batch and
hour, with usage by key, and, given a manifest, with the totals that the sender computed for each batch.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import chain, islice
from typing import TYPE_CHECKING

from metering.audit import conservation, hour_check, settling, verification
from metering.audit.reconciler import Reconciler
from metering.errors import LedgerCorruptError, ObjectMissingError
from metering.lake import ports
from metering.ledger import commits
from metering.ledger.markers import LedgerFacts, Marker, VerdictCounts, marker_key, read_batches
from metering.onramps.coverage.job import find_sources
from metering.onramps.plans import NO_SLOT, Plan, slot_label, source_prefix
from metering.stores import writes
from metering.stores.queues import Queue, QueueDepth
from metering.units import HOUR_S, MINUTE_S
from metering.usage.totals import ZERO, Total, UsageKey, sum_totals

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from metering.audit.census_state import CensusState
    from metering.intake.dropped import DropIds
    from metering.lake.view import LakeView
    from metering.ledger import booked_hours
    from metering.stores.clock import Clock
    from metering.stores.objects import ObjectStore

    Tell = Callable[[str, int, int], None]

# The rows are summed by batch and by the columns of a usage key.
_BATCH_USAGE_COLUMNS = ("batch_id", *ports.USAGE_COLUMNS)


def _compare(
    reconciler: Reconciler, state: CensusState, chosen: Mapping[str, verification.SentContent], tell: Tell
) -> verification.Verification:
    """Examine a deep census (I2) as the reconciler does. The rows reduce the `unaccounted` totals of `chosen`."""
    result = reconciler.judge(state)
    result.markers.contradictions.tell()
    view = reconciler.figures.view
    compared = verification.Verification(
        keys=sum(rows.keys for rows in state.rows.values()),
        metered=sum_totals(_visible(state, hour_s) for hour_s in state.rows),
        proven=sum_totals(_accounts(view, list(state.rows), chosen, tell)) if chosen else ZERO,
        unstable=tuple(check.hour_s for check in result.unstable),
    )
    return verification.sum_verifications([compared, *(_named(check.differences) for check in result.different)])


def _accounts(
    view: LakeView, hours: Sequence[int], chosen: Mapping[str, verification.SentContent], tell: Tell
) -> Iterator[Total]:
    for done, hour_s in enumerate(hours):
        tell("rows by batch", done, len(hours))
        yield _account(view, hour_s, chosen)
    tell("rows by batch", len(hours), len(hours))


def _account(view: LakeView, hour_s: int, chosen: Mapping[str, verification.SentContent]) -> Total:
    """Subtract an hour's rows from the `unaccounted` totals of the chosen contents; return the total of the rows."""
    query = ports.RowQuery(columns=_BATCH_USAGE_COLUMNS, where=(("batch_id", frozenset(chosen)),))

    def minus_found(hour: booked_hours.HourState) -> dict[str, settling.Fingerprint]:
        made: dict[str, settling.Fingerprint] = {}
        for (batch_id, *usage), total in view.reader.parts(hour.sources, query):
            [(key, found)] = ports.usage_in(hour_s, [(tuple(usage), total)])
            made.setdefault(str(batch_id), settling.Fingerprint()).add(_own(key), ZERO.minus(found))
        return made

    left = view.read(hour_s, minus_found)
    for batch_id, found in left.items():
        chosen[batch_id].unaccounted.merge(found)
    return ZERO.minus(sum_totals(found.total for found in left.values()))


def judge_contents(
    chosen: Mapping[str, verification.SentContent], markers: Mapping[str, Marker], unstable: Iterable[int]
) -> verification.Verification:
    """Name the batches of a manifest that have missing records, or records visible more than once.

    A batch counts as both lost and doubled unless its remaining bytes and records have the same sign: only their sums
    are known. Batches with records in an unstable hour are excluded, because that hour's rows prove nothing.
    """
    moving = set(unstable)
    differing = {
        batch_id: content.unaccounted.total
        for batch_id, content in chosen.items()
        if content.unaccounted != settling.Fingerprint() and moving.isdisjoint(markers[batch_id].hours)
    }
    return verification.Verification(
        lost=tuple(name for name, left in differing.items() if not (left.records < 0 and left.bytes <= 0)),
        doubled=tuple(name for name, left in differing.items() if not (left.records > 0 and left.bytes >= 0)),
    )


def _visible(state: CensusState, hour_s: int) -> Total:
    """All rows of an hour; only placed rows if markers may have expired."""
    rows = state.rows[hour_s]
    return rows.placed if rows.all_rows is None else rows.all_rows


def _named(found: Iterable[verification.Difference]) -> verification.Verification:
    lost: list[str] = []
    doubled: list[str] = []
    differences: list[verification.Difference] = []
    for difference in found:
        if len(differences) < verification.MAX_DIFFERENCES:
            differences.append(difference)
        if difference.batch_id:
            less = difference.found.records < difference.expected.records
            less = less or difference.found.bytes < difference.expected.bytes
            (lost if less else doubled).append(difference.batch_id)
    return verification.Verification(lost=tuple(lost), doubled=tuple(doubled), differences=tuple(differences))


def _own(key: UsageKey) -> UsageKey:
    """Key as the sender computed it: late records of a closed month are booked in another hour."""
    return key if key.corrects_s is None else key._replace(hour_s=key.corrects_s, corrects_s=None)


# One verification reads at most this many plans. A narrower time range has fewer plans.
MOST_PLANS = 100_000
# A plan is stored before its messages are sent, so messages of a younger plan may still be in the queue.
_YOUNG_S = 10 * MINUTE_S
# A record may begin before its file's slot, by up to an aggregation interval and a clock error.
_BEFORE_S = HOUR_S
_GROUP = 500
_AT_ONCE = 16
_SOURCES_AT_ONCE = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanCheck:
    """Checks the plans of log files against the markers of their batches.

    Attributes:
        markers: Markers already read, by batch id. Others are looked up.
        markers_since_s: Time before which plans' markers may have expired.
    """

    items: writes.ItemStore
    objects: ObjectStore
    markers: Mapping[str, Marker]
    now_s: int
    markers_since_s: int

    def run(self, *, from_s: int, to_s: int) -> verification.LogTotals:
        """Check at most `MOST_PLANS` plans of slots in `[from_s, to_s)`; if `from_s` is 0, also plans without a slot.

        Raises:
            UnavailableError: A store does not respond.
        """
        keys = self._keys(from_s, to_s)
        totals = verification.LogTotals()
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            left = MOST_PLANS
            while left and (group := list(islice(keys, min(_GROUP, left)))):
                left -= len(group)
                totals = totals.plus(self._checked(list(pool.map(self._read, group)), group))
        more = next(keys, None) is not None
        return totals.plus(verification.LogTotals(left_out=more))

    def _keys(self, from_s: int, to_s: int) -> Iterator[str]:
        first = slot_label(max(from_s - _BEFORE_S, 0))
        end = slot_label(to_s)
        for kind, source in self._sources():
            prefix = source_prefix(kind, source)
            for info in self.objects.list(prefix, after=prefix + first):
                label = info.key.removeprefix(prefix).partition("/")[0]
                if label < end or (label == NO_SLOT and not from_s):
                    yield info.key
                elif from_s:
                    break

    def _sources(self) -> Iterator[tuple[str, str]]:
        after = ""
        while True:
            found = find_sources(self.objects, after=after, most=_SOURCES_AT_ONCE)
            yield from found.sources
            after = found.after
            if not after:
                return

    def _read(self, key: str) -> Plan | str | None:
        try:
            return Plan.from_json(self.objects.get(key), key)
        except ObjectMissingError:
            return None
        except LedgerCorruptError as error:
            return str(error)

    def _checked(self, plans: Sequence[Plan | str | None], keys: Sequence[str]) -> verification.LogTotals:
        read = [plan for plan in plans if isinstance(plan, Plan)]
        wanted = [part.batch_id for plan in read for part in plan.parts if part.batch_id not in self.markers]
        fresh = read_batches(self.items, wanted).markers
        found = list(chain.from_iterable(self._problems(plan, fresh) for plan in read))
        found += [(key, plan) for key, plan in zip(keys, plans, strict=True) if isinstance(plan, str)]
        return verification.LogTotals(
            plans=len(read),
            lines=sum(plan.balance.lines for plan in read),
            metered_bytes=sum(plan.balance.metered_bytes for plan in read),
            processed_bytes=sum(plan.balance.processed_bytes for plan in read),
            accepted_bytes=sum(self._accepted(plan, fresh) for plan in read),
            refused_bytes=sum(self._refused(plan, fresh) for plan in read),
            differences=tuple(found[: verification.MAX_DIFFERENCES]),
        )

    def _marker(self, batch_id: str, fresh: Mapping[str, Marker]) -> Marker | None:
        return self.markers.get(batch_id) or fresh.get(batch_id)

    def _accepted(self, plan: Plan, fresh: Mapping[str, Marker]) -> int:
        markers = (self._marker(part.batch_id, fresh) for part in plan.parts)
        return sum(_bytes(marker) for marker in markers if marker is not None and marker.verdict == "accepted")

    def _refused(self, plan: Plan, fresh: Mapping[str, Marker]) -> int:
        """Bytes of refused batches, and of refused records of accepted batches. They are in quarantine."""
        judged = ((part, self._marker(part.batch_id, fresh)) for part in plan.parts)
        return sum(
            part.bytes - (_bytes(marker) if marker.verdict == "accepted" else 0)
            for part, marker in judged
            if marker is not None and _has_refusals(marker)
        )

    def _problems(self, plan: Plan, fresh: Mapping[str, Marker]) -> Iterator[tuple[str, str]]:
        if not plan.balance.holds:
            yield plan.identity, "its lines, or their bytes, do not add up to what became of them"
        planned = sum(part.bytes for part in plan.parts)
        if planned != plan.balance.batched_bytes:
            yield plan.identity, f"its lines have {plan.balance.batched_bytes} metered bytes, its batches {planned}"
        for part in plan.parts:
            marker = self._marker(part.batch_id, fresh)
            if marker is None:
                if self.markers_since_s <= plan.planned_s < self.now_s - _YOUNG_S:
                    yield part.batch_id, "it was planned, and has no verdict"
            elif not _has_refusals(marker) and _bytes(marker) != part.bytes:
                yield part.batch_id, f"{part.bytes} bytes were planned, {_bytes(marker)} are metered"


def _has_refusals(marker: Marker) -> bool:
    return marker.verdict != "accepted" or marker.refused > 0


def _bytes(marker: Marker) -> int:
    return sum(total.bytes for total in marker.hours.values())


_POLL_MS = 500
# The queue must be found idle this many times in a row.
_LOOKS = 2
_FED_LOOKS = 10
# Maximum number of checks that find messages; then the wait ends.
_RESTS = 20
# The roll-up books a commit within this time: its tick starts within a minute, and a second tick may be needed.
_ROLLED_UP_MS = 2 * MINUTE_S * 1_000
# A batch without a verdict is looked up again after this time.
_LATER_MS = 2_000
# An hour that differs is read at most this many times.
_PASSES = 6


class _Silence:
    """Sends no metrics and no alerts: the caller reports the comparison."""

    def count(self, name: str, value: int = 1, **dimensions: str) -> None:
        pass

    def send(self, severity: str, subject: str, fields: Mapping[str, str | int]) -> None:
        pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Verifier:
    """Verifies one region.

    Attributes:
        marker_life_s: Age of rows beyond which their markers may have expired.
        feeders: Queues whose messages become batches, such as the queue of log files.
        threads: Number of table parts read in parallel.
        memory_bytes: Maximum memory of a full scan.
    """

    items: writes.ItemStore
    objects: ObjectStore
    view: LakeView
    ingest: Queue
    dead_letters: Queue
    clock: Clock
    drops: DropIds
    marker_life_s: int
    feeders: Sequence[Queue] = ()
    threads: int = 1
    memory_bytes: int = 1 << 30

    def wait(self, duration_s: int, tell: Callable[[QueueDepth], None] = lambda _: None) -> bool:
        """Wait until all queues are empty and nothing waits for the roll-up; return False after `duration_s`.

        Several consecutive polls must find this, because queue depths are approximate. If there are feeders, the polls
        continue for longer than S3 takes to announce a file.
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
        """Depth of all queues. Messages move from the feeders to the ingest queue, so the feeders are polled first."""
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
        sent: verification.SentBatches | None = None,
        counted: CensusState | None = None,
        keep: Callable[[CensusState], None] = lambda _state: None,
        tell: Tell = lambda _what, _done, _of: None,
    ) -> verification.Verification:
        """Check everything booked in `[from_s, to_s)`, and every batch of a manifest.

        Batches and commits may arrive during a pass, so one pass never proves a loss or a double count. Memory grows
        with the manifest's batches and with an hour's usage keys: about 1.3 KB per batch with its marker, and 150 bytes
        per hour of the batch.

        Args:
            from_s: Start of the range, epoch seconds.
            to_s: Exclusive end of the range.
            sent: The manifest; None to check the ledger against itself.
            counted: Counts of an earlier call that this call resumes; None to start.
            keep: Called with the counts after each part of a table and after each hour.
            tell: Called with the progress: name of the phase, amount done in the phase, and the phase's total amount.

        Raises:
            ValueError: `counted` belongs to another scan.
        """
        waiting, at_rest = self._rest()
        dead = conservation.names_of(conservation.peek_bodies(self.dead_letters), self.drops)
        chosen: dict[str, verification.SentContent] = {}
        markers: Mapping[str, Marker] = {}
        verdicts = verification.Verification()
        if sent is not None:
            facts = self._read(sent.contents.keys() | dead, sent)
            waiting = max(waiting, self._look_again(facts, dead, sent))
            chosen, markers = conservation.chosen_contents(sent, facts), facts.markers
            unmarked = {batch_id for batch_id in sent.contents if batch_id not in facts.markers}
            verdicts = conservation.count_sent(
                sent,
                chosen,
                conservation.Whereabouts(facts=facts, dead=dead, waiting=waiting),
                self._quarantined(sent.nameless),
                conservation.disallowed_contents(self.objects, unmarked - dead, threads=self.threads),
            )
        reconciler = self._reconciler
        state = counted
        if state is None:
            state = reconciler.begin(from_s=from_s, to_s=to_s, deep=True, sources=False)
            state.verdicts = VerdictCounts()
        if state.verdicts is None:
            raise ValueError("what was counted is of another scan, without verdicts")

        def told(now: CensusState) -> None:
            keep(now)
            tell(now.phase, now.done, now.of)

        reconciler.census.go_on(state, tell=told)
        compared = _compare(reconciler, state, chosen, tell)
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
        logs = verification.Verification(logs=plans.run(from_s=from_s, to_s=to_s))
        judged = judge_contents(chosen, markers, compared.unstable)
        total = verification.sum_verifications((verdicts, compared, judged, logs))
        at_rest = at_rest and self._rest()[1]
        return replace(
            total,
            stable=at_rest and not total.unstable,
            lost=tuple(sorted(set(total.lost))),
            doubled=tuple(sorted(set(total.doubled))),
        )

    def _ledger(self, verdicts: VerdictCounts, dead: set[str], waiting: int) -> verification.Verification:
        """Count the ledger's own verdicts, and dead letters without a verdict."""
        undecided = self._without_verdict(dead)
        if undecided:
            self.clock.sleep_ms(_LATER_MS)
            waiting = max(waiting, self.ingest.depth().total)
            undecided = self._without_verdict(undecided)
        return conservation.count_ledger(verdicts, waiting=waiting, dead=len(undecided))

    def _without_verdict(self, names: set[str]) -> set[str]:
        found = self.items.get_many(writes.Table.LEDGER, [marker_key(name) for name in sorted(names)])
        return {name for name in names if marker_key(name) not in found}

    @property
    def _reconciler(self) -> Reconciler:
        return Reconciler(
            figures=hour_check.Figures.counted(
                items=self.items,
                view=self.view,
                clock=self.clock,
                marker_life_s=self.marker_life_s,
                threads=self.threads,
            ),
            metrics=_Silence(),
            alerts=_Silence(),
            wait_ms=_LATER_MS,
            passes=_PASSES,
            memory_bytes=self.memory_bytes,
        )

    def _quarantined(self, digests: set[str]) -> set[str]:
        found = conservation.quarantined_digests(self.objects, digests)
        if found == digests:
            return found
        self.clock.sleep_ms(_LATER_MS)
        return found | conservation.quarantined_digests(self.objects, digests - found)

    def _rest(self) -> tuple[int, bool]:
        """Number of messages in the queue, and whether it is empty and nothing waits for the roll-up.

        Because a canary may arrive at any time, wait for this state: two minutes while only commits wait, some seconds
        while messages are queued. Steady traffic thus ends the wait soon.
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

    def _look_again(self, facts: LedgerFacts, dead: set[str], sent: verification.SentBatches) -> int:
        """Read batches without a verdict once more; return the number of messages in the queue at that time."""
        names = {name for name in dead if name not in facts.markers} | conservation.doubtful_ids(sent, facts)
        if not names:
            return 0
        self.clock.sleep_ms(_LATER_MS)
        waiting = self.ingest.depth().total
        facts.merge(self._read(names, sent))
        return waiting

    def _read(self, names: AbstractSet[str], sent: verification.SentBatches) -> LedgerFacts:
        """Read markers of some batches, and conflicts of batches with several contents, by one query per batch."""
        several = {name for name in names if len(sent.contents.get(name, ())) > 1}
        alone = sorted(names - several)
        return read_batches(self.items, alone, in_conflict=sorted(several), threads=self.threads)

    def _waits(self) -> bool:
        return next(commits.waiting_commits(self.items, self.view.shards), None) is not None

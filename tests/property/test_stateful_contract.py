"""The public contract as a state machine: whatever people and producers do, in any order, each byte counts once.

Production code, including Parquet, runs on in-memory ports. The model computes the sent messages and their totals with
its own code. The test fails unless its runs reach every outcome in the list below.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, ClassVar

import hypothesis.strategies as st
from hypothesis import HealthCheck, seed, settings
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    initialize,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)

from metering.billing.freezing import PeriodNotClosableError
from metering.hours import month_of
from metering.lake.ports import RowQuery
from metering.ledger.markers import Marker, marker_key
from metering.ledger.usage.items import is_usage_item
from metering.reports.query import UsageQuery
from metering.reports.source import UsageTable
from metering.reports.usage_rows import grouped
from metering.stores.writes import Key, Table
from tests.property.sent import WINDOW_S, Hours, Sent, add, inline, pointing
from tests.support.memory.clock import DeadlineAt
from tests.support.memory.queues import MemoryQueue
from tests.support.region import MemoryRegion, quarantine_of
from tests.support.stage import settings as stage_settings
from tests.support.usage_items import usage_of
from tests.support.written_down import forget_markers

if TYPE_CHECKING:
    from metering.quarantine.entries import Entry, QuarantineEntries
    from metering.stores.clock import Deadline

_HOUR_S, _DAY_S = 3_600, 86_400
_BEGIN_S = int(datetime(2026, 11, 29, 22, 10, tzinfo=UTC).timestamp())
_LATE_H = 24 * 36
# Markers that are younger than this have not expired, and are rebuilt.
_SURELY_MARKED_S = 45 * _DAY_S
_YEAR_S = 366 * _DAY_S
# Two shards and few numbered kinds, so that most roll-up runs book both kinds with numbers and kinds without. All rows
# are compacted, and are cleaned soon after that.
_SETTINGS = stage_settings(
    shards=2, kinds_per_account=2, reserve_ms=0, attempts=1, compact_wait_today_s=0, compact_wait_older_s=0,
    clean_wait_s=_HOUR_S,
)  # fmt: skip
# A record's age in hours when it is sent: from this hour, from yesterday, some weeks old, or too late.
_AGES_H = st.sampled_from((0, 0, 1, 26, 24 * 20, 24 * 33, _LATE_H))
_SIZES = st.one_of(st.integers(0, 10**6), st.just(2**63 - 1))
_MONTH_ENDS_S = {
    "2026-10": int(datetime(2026, 11, 1, tzinfo=UTC).timestamp()),
    "2026-11": int(datetime(2026, 12, 1, tzinfo=UTC).timestamp()),
}
_BY_BATCH = RowQuery(columns=("batch_id", "own_hour"))
# Coverage of the run: a rule that is never applied proves nothing.
OUTCOMES = (
    "BatchesAccepted", "BatchesDuplicate", "BatchesConflict", "BatchesRejected", "DuplicatesUnverified",
    "BatchesUnverified",
    "late record refused", "late batch refused", "all dead", "redriven", "refused batch retried and accepted",
    "refused records retried", "conflict retried under another id and accepted",
    "copy under the first id of a retried conflict", "rolled up", "compacted", "cleaned", "reconciled, all equal",
    "reconciled, lost usage found", "reconciled, lost marker found", "month closed",
    "correction booked in an open month", "usage rebuilt", "marker rebuilt", "copy of a rebuilt batch is a duplicate",
    "something was there to be queried",
)  # fmt: skip


class Contract(RuleBasedStateMachine):
    sent: Bundle[Sent] = Bundle("sent")
    reached: ClassVar[Counter[str]] = Counter()

    @initialize()
    def begin(self) -> None:
        region = MemoryRegion(now_s=_BEGIN_S, settings=_SETTINGS)
        self.clock, self.items, self.objects = region.clock, region.items, region.objects
        self.metrics, self.alerts = region.metrics, region.alerts
        self.dead = MemoryQueue(self.clock, name="dead")
        self.queue = MemoryQueue(self.clock, dead=self.dead, visibility_s=60)
        self.messages: list[tuple[Sent, int]] = []  # content, SentTimestamp in seconds
        self.count = 0
        self.broken = False
        self.closed: dict[str, dict[str, int]] = {}
        self.missing: dict[str, bytes] = {}  # Missing objects that messages point to.
        self.put_right: set[str] = set()
        self.retried: dict[str, Sent] = {}  # Id of a retry -> the conflict that it retries.
        self.unmarked: set[str] = set()
        self.rebuilt: set[str] = set()
        self.jobs = region.parts().jobs()
        self.aggregator = region.parts().worker()

    @rule(target=sent, records=st.lists(st.tuples(_AGES_H, _SIZES), min_size=1, max_size=3))
    def send(self, records: list[tuple[int, int]]) -> Sent:
        self.count += 1
        return self._send(self._content(f"b-{self.count}", records))

    @rule(before=sent)
    def duplicate(self, before: Sent) -> None:
        self._send(before)

    @rule(target=sent, before=sent, records=st.lists(st.tuples(_AGES_H, _SIZES), min_size=1, max_size=2))
    def mutate(self, before: Sent, records: list[tuple[int, int]]) -> Sent | MultipleResults[Sent]:
        other = self._content(before.batch_id, records)
        return self._send(other) if other.records != before.records else multiple()

    @rule(target=sent, others=st.lists(st.tuples(_AGES_H, _SIZES), max_size=1), size=_SIZES)
    def late(self, others: list[tuple[int, int]], size: int) -> Sent:
        self.count += 1
        return self._send(self._content(f"b-{self.count}", [*others, (_LATE_H, size)]))

    @rule(target=sent, size=_SIZES)
    def send_without_object(self, size: int) -> Sent:
        self.count += 1
        batch_id, key = f"b-{self.count}", f"ingest/{self.count}.ndjson"
        content, self.missing[key] = pointing(batch_id, key, ((self._now_s(), size),))
        return self._send(content)

    @rule(hours=st.sampled_from((1, 5, 30, 24 * 4, 24 * 12)))
    def time_passes(self, hours: int) -> None:
        self._restore_markers()
        if hours > 24:
            # Messages older than the queue's retention would be lost, but an alarm fires long before that.
            self.work()
        self.clock.advance_s(hours * _HOUR_S)

    @rule()
    def work(self) -> None:
        self._restore_markers()
        while received := self.queue.receive(10):
            result = self.aggregator.handle([each.delivery for each in received], self._deadline())
            assert result.retry == ()
            self.queue.delete_many([each.receipt for each in received])

    @rule()
    def nobody_works(self) -> None:
        """Receive messages without acknowledging them, until all are dead letters."""
        for _ in range(6):
            while self.queue.receive(10):
                pass
            self.clock.advance_s(61)
        assert self.queue.bodies() == []
        self.reached["all dead"] += bool(self.dead.bodies())

    @rule()
    def redrive(self) -> None:
        while received := self.dead.receive(10):
            bodies = [each.delivery.body for each in received]
            self.queue.send_many(bodies)
            self.messages += [(content, self._now_s()) for content, _ in list(self.messages) if content.body in bodies]
            self.dead.delete_many([each.receipt for each in received])
            self.reached["redriven"] += len(received)

    @rule()
    def retry(self) -> None:
        """Create the missing objects, and retry refused batches."""
        self.work()
        entries = quarantine_of(self, self.queue)
        for key, lines in self.missing.items():
            self.objects.put(key, lines, if_absent=True)
        self.missing.clear()
        for entry in list(entries.entries()):
            if entry.kind == "records":
                # Records that were too late are still too late, so retries of these records are refused again.
                entries.retry(entry)
                self.reached["refused records retried"] += 1
            elif entry.kind == "conflict":
                self._retry_conflict(entries, entry)
            # Only a person can tell whether unverified content is metered.
            elif entry.kind != "unverified" and not set(entry.retried_as) - {entry.batch_id}:
                entries.retry(entry)
                self.put_right.add(entry.batch_id)
                self.messages += [(c, self._now_s()) for c, _ in list(self.messages) if c.batch_id == entry.batch_id]

    @precondition(lambda self: self.retried)
    @rule(first=st.booleans())
    def copies_of_a_retry(self, first: bool) -> None:
        """Resend both messages of a retried conflict, in either order."""
        for retry_id, content in sorted(self.retried.items()):
            [retry] = {sent for sent, _ in self.messages if sent.batch_id == retry_id}
            for sent in (content, retry) if first else (retry, content):
                self._send(sent)
            self.reached["copy under the first id of a retried conflict"] += 1

    @rule()
    def roll_up(self) -> None:
        self.reached["rolled up"] += self.jobs.rollup.run(self._deadline()).commits

    @rule()
    def compact(self) -> None:
        self.reached["compacted"] += self.jobs.compactor.run(self._deadline()).runs

    @rule()
    def clean(self) -> None:
        self.clock.advance_s(_HOUR_S)
        self.reached["cleaned"] += self.jobs.cleaner.run(self._deadline()).commits
        self.jobs.orphans.run(self._deadline())

    @rule()
    def reconcile(self) -> None:
        result = self.jobs.reconciler.check(from_s=0, to_s=_BEGIN_S + _YEAR_S, deep=True)
        found = {one.between for check in result.different for one in check.differences}
        lost = {("usage/rows", self.broken), ("markers/rows", bool(self.unmarked))}
        assert found == {between for between, is_lost in lost if is_lost}
        assert result.unstable == ()
        self.reached["reconciled, lost usage found"] += self.broken
        self.reached["reconciled, lost marker found"] += bool(self.unmarked)
        self.reached["reconciled, all equal"] += bool(result.checks) and not result.different

    @rule()
    def close(self) -> None:
        self._restore_markers()
        if self.broken:
            self.rebuild()
        for month in ("2026-10", "2026-11"):
            try:
                self.jobs.closer.close(month, self._deadline())
            except PeriodNotClosableError as error:
                assert "can be closed from" in str(error)  # noqa: PT017 - too early is no failure
                continue
            frozen = self._month_usage(month)
            self.reached["month closed"] += bool(frozen) and month not in self.closed
            assert self.closed.setdefault(month, frozen) == frozen
            assert self.jobs.closer.verify(month) == []

    @precondition(lambda self: self._correctable_s())
    @rule(target=sent, size=_SIZES)
    def correct(self, size: int) -> Sent:
        """Send missing usage of a closed month; the usage counts in an open month, with the corrected hour."""
        self.work()
        if self.broken:
            self.rebuild()
        self.roll_up()
        own_s = self._correctable_s()
        bytes_before, records_before = self._corrections(own_s)
        self.count += 1
        content = self._send(inline(f"b-{self.count}", ((own_s, size),)))
        self.work()
        self.roll_up()
        assert self._corrections(own_s) == (bytes_before + size, records_before + 1)
        self.reached["correction booked in an open month"] += 1
        return content

    @precondition(lambda self: not self.broken)
    @rule()
    def lose_usage(self) -> None:
        """Delete the open months' usage, which the next reconciliation must report."""
        for item in list(filter(is_usage_item, self.items.everything(Table.USAGE))):
            if str(item["pk"])[-7:] not in ("2026-10", "2026-11") or not self.closed:
                self.items.remove(Table.USAGE, Key(str(item["pk"]), str(item["sk"])))
                self.broken = True
        self.reconcile()

    @precondition(lambda self: self.broken)
    @rule()
    def rebuild(self) -> None:
        result = self.jobs.rebuilder.usage(to_s=_BEGIN_S + _YEAR_S)
        assert result.unstable == ()
        assert result.repaired
        self.broken = False
        self.reached["usage rebuilt"] += 1

    @precondition(lambda self: not self.unmarked)
    @rule(first=st.integers(0, 1), written=st.booleans())
    def lose_markers(self, first: int, written: bool) -> None:
        """Delete every second marker, which a reconciliation must report. Workers stop until the rebuild.

        Unless `written`, S3 has no markers, as if an earlier release had made all commits.
        """
        if not written:
            forget_markers(self.objects)
        for marker in self._accepted()[first::2]:
            if min(marker.hours) > self._now_s() - _SURELY_MARKED_S:
                self.items.remove(Table.LEDGER, marker.key)
                self.unmarked.add(marker.batch_id)
        self.reconcile()

    @precondition(lambda self: self.unmarked)
    @rule()
    def rebuild_markers(self) -> None:
        """A marker comes back whole if S3 has it; if not, only a batch with its totals is a duplicate."""
        result = self.jobs.rebuilder.markers()
        assert result.rebuilt == len(self.unmarked)
        rebuilt, self.unmarked = self.unmarked, set()
        of_rows = {each.batch_id for each in self._accepted() if each.content_hash is None} & rebuilt
        assert result.whole == len(rebuilt) - len(of_rows)
        self.rebuilt |= of_rows
        self.reached["marker rebuilt"] += result.rebuilt
        self.work()
        known = Counter(self.metrics.counts)
        copies = {content for content, _ in self.messages if content.batch_id in rebuilt}
        for content in sorted(copies, key=lambda content: content.body):
            self._send(content)
        self.work()
        judged = Counter(self.metrics.counts) - known
        of_others = sum(content.batch_id not in of_rows for content in copies)
        assert judged["BatchesDuplicate"] + judged["BatchesConflict"] + judged["BatchesUnverified"] == len(copies)
        assert judged["BatchesConflict"] <= of_others
        # A message whose object is missing is a duplicate without a comparison.
        missing = sum(content.batch_id in of_rows and "location" in content.body for content in copies)
        compared = judged["BatchesUnverified"] + judged["DuplicatesUnverified"]
        assert len(copies) - of_others - missing <= compared <= len(copies) - of_others
        self.reached["copy of a rebuilt batch is a duplicate"] += len(copies)

    @rule()
    def query(self) -> None:
        rows = self._rows()
        markers = {marker.batch_id: marker for marker in self._accepted()}
        assert rows.keys() == markers.keys() | self.unmarked
        for batch_id, seen in rows.items():
            assert seen in [content.admitted(at_s) for content, at_s in self.messages if content.batch_id == batch_id]
            if batch_id in markers:
                marker = markers[batch_id]
                assert marker.metered == sum(records for _, records in seen.values())
                assert marker.records == marker.metered + marker.refused
                assert (marker.content_hash is None) == (batch_id in self.rebuilt)
        for retry_id, content in self.retried.items():
            hashes = [markers[name].content_hash for name in (retry_id, content.batch_id) if name in markers]
            assert len(hashes) < 2 or None in hashes or hashes[0] != hashes[1]
        if not self.broken:
            self.roll_up()
            query = UsageQuery(from_s=0, to_s=_BEGIN_S + _YEAR_S, group_by=())
            usage = UsageTable(items=self.items).usage(query, now_s=self._now_s())
            visible = [total for hours in rows.values() for total in hours.values()]
            counted = [(row.total.bytes, row.total.records) for row in grouped(usage, query)]
            assert add(counted) == add(visible)
        for month, frozen in self.closed.items():
            assert self._month_usage(month) == frozen
        self.reached["something was there to be queried"] += bool(rows)

    def teardown(self) -> None:
        if not hasattr(self, "queue"):
            return
        self.redrive()
        self.work()
        if self.broken:
            self.rebuild()
        self.roll_up()
        self.compact()
        self.query()
        for content, _ in self.messages:
            assert self._has_verdict(content), content
        accepted = {marker.batch_id for marker in self._accepted()}
        self.reached["refused batch retried and accepted"] += len(self.put_right & accepted)
        self.reached["conflict retried under another id and accepted"] += len(self.retried.keys() & accepted)
        self.reached["late record refused"] += sum(marker.refused for marker in self._accepted())
        too_late = ("RejectedByReason", (("reason", "too_late"),))
        self.reached["late batch refused"] += self.metrics.by_dimensions[too_late]
        self.reached.update(self.metrics.counts)

    def _rows(self) -> dict[str, Hours]:
        """Totals of each batch by the own hours of its rows, not by their booked hours."""
        found: dict[str, Hours] = {}
        for hour_s in self.jobs.view.hours():
            for (batch_id, own_s), total in self.jobs.view.hour_totals(hour_s, _BY_BATCH).items():
                hours = found.setdefault(str(batch_id), {})
                size, records = hours.get(int(own_s), (0, 0))
                hours[int(own_s)] = (size + total.bytes, records + total.records)
        return found

    def _accepted(self) -> list[Marker]:
        """Accepted markers, in the order of their ids."""
        ids = sorted({content.batch_id for content, _ in self.messages})
        items = (self.items.peek(Table.LEDGER, marker_key(one)) for one in ids)
        return [Marker.from_item(item) for item in items if item is not None and item["verdict"] == "accepted"]

    def _restore_markers(self) -> None:
        if self.unmarked:
            self.rebuild_markers()

    def _correctable_s(self) -> int:
        """The last hour of the newest closed month if records of this hour are still admitted, else 0."""
        hours = [_MONTH_ENDS_S[month] - _HOUR_S for month in self.closed]
        return max((own_s for own_s in hours if own_s > self._now_s() - WINDOW_S + _HOUR_S), default=0)

    def _corrections(self, own_s: int) -> tuple[int, int]:
        """Total of the usage items that correct an hour."""
        found = [e for e in usage_of(self.items) if e.key.corrects_s == own_s]
        assert not any(month_of(entry.key.hour_s) == month_of(own_s) for entry in found)
        return add([entry.total for entry in found])

    def _retry_conflict(self, entries: QuarantineEntries, entry: Entry) -> None:
        assert entry.batch is not None
        bodies = {content.body: content for content, _ in self.messages}
        content = bodies[entry.batch.body]
        self._restore_markers()
        retry_id = entries.retry(entry, as_new_id=True).retry_id
        [body] = [body for body in self.queue.bodies() if f'"{retry_id}"' in body][-1:]
        self.messages.append((replace(content, batch_id=retry_id, body=body), self._now_s()))
        self.retried[retry_id] = content

    def _has_verdict(self, content: Sent) -> bool:
        pk = marker_key(content.batch_id).pk
        return any(True for _ in self.items.query(Table.LEDGER, pk))

    def _content(self, batch_id: str, records: list[tuple[int, int]]) -> Sent:
        return inline(batch_id, tuple((self._now_s() - age_h * _HOUR_S, size) for age_h, size in records))

    def _send(self, content: Sent) -> Sent:
        self.queue.send_many([content.body])
        self.messages.append((content, self._now_s()))
        return content

    def _now_s(self) -> int:
        return self.clock.now_ms() // 1000

    def _deadline(self) -> Deadline:
        return DeadlineAt(clock=self.clock, at_ms=self.clock.now_ms() + 10 * _DAY_S * 1000)

    def _month_usage(self, month: str) -> dict[str, int]:
        return {str(entry.key): entry.total.bytes for entry in usage_of(self.items, month)}


def test_each_byte_counts_once_whatever_happens_in_whatever_order() -> None:
    Contract.reached.clear()
    for number in range(_MOST_ROUNDS):
        run_state_machine_as_test(seed(number)(Contract), settings=_ROUND)
        missed = [outcome for outcome in OUTCOMES if not Contract.reached[outcome]]
        if not missed and number:
            break
    assert missed == []


# While the code is unchanged, a round is the same each time: Hypothesis also draws from the constants that it finds in
# the code. Two rounds usually suffice.
_MOST_ROUNDS = 10
_SLOW = [HealthCheck.too_slow, HealthCheck.filter_too_much]
_ROUND = settings(max_examples=12, stateful_step_count=40, deadline=None, database=None, suppress_health_check=_SLOW)

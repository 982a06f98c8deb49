"""Canary: proves with a known batch that the service counts a batch exactly once in usage and lake, in time (P29).

The canary reads its batch's marker, the marker's commit, the commit's entries, and the hour's published files. So the
cost of a check does not depend on the number of commits of the hour.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from metering.errors import UnavailableError
from metering.hours import month_of
from metering.lake import ports
from metering.ledger import commits, markers
from metering.ledger.notes import checks
from metering.stores.writes import ItemStore, Put, Table, read_note
from metering.units import HOUR_S, MINUTE_S
from metering.usage.totals import ZERO, Total, sum_totals

if TYPE_CHECKING:
    from metering.lake.view import LakeView
    from metering.ledger.usage.reading import UsageReading
    from metering.stores import queues
    from metering.stores.clock import Clock, Deadline

_POLL_MS = 2_000
_RESERVE_MS = 5_000
# A second copy may be counted after the first copy was seen, so runs of this age or younger are checked again.
_LOOK_BACK_S = 2 * HOUR_S
# The roll-up function starts once a minute.
_ROLLUP_STARTS_S = MINUTE_S
_EXPECTED = Total(checks.CANARY_BYTES, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Canary:
    """Sends a batch of the reserved account twice, and expects the batch once in usage and once in the lake.

    Attributes:
        queue: Ingest queue of the region.
        rollup_every_s: The stage's interval between two roll-up runs.
        freshness_s: Seconds within which the batch's rows must be visible. For usage, the limit is one minute and
            `rollup_every_s` longer.
    """

    items: ItemStore
    usage: UsageReading
    queue: queues.Queue
    view: LakeView
    clock: Clock
    region: str
    rollup_every_s: int
    freshness_s: int = 120

    def run(self, deadline: Deadline) -> checks.CanaryRun:
        """Send this minute's batch, and wait until the batch is counted, or until the deadline or the freshness target.

        Returns:
            The run. The run's verdict stays `sent` if the deadline came before the target.

        Raises:
            UnavailableError: SQS did not accept the batch.
        """
        run = self._send()
        while run.verdict is checks.CanaryVerdict.SENT:
            run = self._judged(run)
            if run.verdict is not checks.CanaryVerdict.SENT or deadline.remaining_ms() < _POLL_MS + _RESERVE_MS:
                break
            self.clock.sleep_ms(_POLL_MS)
        self._look_back(before_s=run.slot_s)
        return run

    def _send(self) -> checks.CanaryRun:
        slot_s = checks.slot_of(self._now_s())
        known = read_note(self.items, checks.canary_key(slot_s), checks.CanaryRun.from_item)
        run = known or checks.CanaryRun(slot_s=slot_s, sent_s=self._now_s())
        self._save(run)
        body = checks.canary_body(slot_s, self.region)
        if self.queue.send_many([body, body]):
            raise UnavailableError("sqs.SendMessageBatch", "the queue did not take the canary's batch")
        return run

    def _judged(self, run: checks.CanaryRun) -> checks.CanaryRun:
        verdict = self._verdict(run)
        if verdict is checks.CanaryVerdict.SENT:
            return run
        return self._save(replace(run, verdict=verdict, settled_s=self._now_s()))

    def _verdict(self, run: checks.CanaryRun) -> checks.CanaryVerdict:
        usage, lake = self._usage(run.slot_s), self._lake(run.slot_s)
        if any(total.records > 1 or total not in {ZERO, _EXPECTED} for total in (usage, lake)):
            return checks.CanaryVerdict.DOUBLED
        waited_s = self._now_s() - run.sent_s
        of_usage_s = self.freshness_s + self.rollup_every_s + _ROLLUP_STARTS_S
        if waited_s > of_usage_s or (lake == ZERO and waited_s > self.freshness_s):
            return checks.CanaryVerdict.LATE
        return checks.CanaryVerdict.GOOD if usage == lake == _EXPECTED else checks.CanaryVerdict.SENT

    def _look_back(self, *, before_s: int) -> None:
        """Complete the verdicts of interrupted runs, and detect good runs whose batch has since been counted twice."""
        first = checks.canary_key(before_s - _LOOK_BACK_S).sk
        for item in list(
            self.items.query(Table.LEDGER, checks.CANARY_PK, sk_from=first, sk_to=checks.canary_key(before_s).sk)
        ):
            run = checks.CanaryRun.from_item(item)
            if run.verdict is checks.CanaryVerdict.SENT or (
                run.verdict is not checks.CanaryVerdict.DOUBLED and self._verdict(run) is checks.CanaryVerdict.DOUBLED
            ):
                self._judged(run)

    def _usage(self, slot_s: int) -> Total:
        hour_s, usage_type = checks.canary_hour(slot_s), checks.canary_usage_type(slot_s)
        items = self.usage.of_month(checks.CANARY_ACCOUNT_ID, month_of(hour_s), from_s=hour_s, to_s=hour_s + HOUR_S)
        return sum_totals(
            total for item in items for key, total in self.usage.totals(item) if key.usage_type == usage_type
        )

    def _lake(self, slot_s: int) -> Total:
        marker = read_note(self.items, markers.marker_key(checks.canary_batch_id(slot_s)), markers.Marker.from_item)
        key = None if marker is None else commits.commit_key(marker.commit_id)
        commit = None if key is None else read_note(self.items, key, commits.CommitRecord.from_item)
        if commit is None:
            return ZERO
        query = ports.RowQuery(
            where=(
                ("account_id", frozenset({checks.CANARY_ACCOUNT_ID})),
                ("usage_type", frozenset({checks.canary_usage_type(slot_s)})),
            )
        )
        return self.view.of_commit(commit).hour_totals(checks.canary_hour(slot_s), query).get((), ZERO)

    def _save(self, run: checks.CanaryRun) -> checks.CanaryRun:
        self.items.put(Put(table=Table.LEDGER, item=run.to_item()))
        return run

    def _now_s(self) -> int:
        return self.clock.now_ms() // 1000

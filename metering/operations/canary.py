"""Canary: proves with a known batch that the service counts each batch once, in usage and lake, and in time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from metering.errors import UnavailableError
from metering.hours import date_of, month_of
from metering.lake.rows import RowQuery
from metering.ledger.markers import Marker, marker_key
from metering.ledger.notes.canary_batches import (
    CANARY_ACCOUNT_ID,
    CANARY_BYTES,
    canary_batch_id,
    canary_body,
    canary_hour,
    canary_usage_type,
    slot_of,
)
from metering.ledger.notes.canary_runs import CANARY_PK, CanaryRun, CanaryVerdict, canary_key
from metering.ledger.usage_items import usage_entries, usage_partition
from metering.stores.writes import Put, Table
from metering.units import HOUR_S
from metering.usage.totals import ZERO, Total, sum_totals

if TYPE_CHECKING:
    from metering.lake.view import LakeView
    from metering.ledger.row_sources import HourState, RowSource
    from metering.stores.clock import Clock, Deadline
    from metering.stores.items import ItemStore
    from metering.stores.queues import Queue

_POLL_MS = 2_000
_RESERVE_MS = 5_000
# A second copy can be counted after the first was seen, so the runs of this time are judged again.
_LOOK_BACK_S = 2 * HOUR_S
# An hour with at most this many row sources is read whole. Of a larger one, the canary reads the published files and
# the staging object of the commit that its marker names.
_MOST_ROW_SOURCES = 50
_EXPECTED = Total(CANARY_BYTES, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Canary:
    """Sends a batch of the reserved account twice, and expects it once in usage and once in the lake.

    Attributes:
        queue: Ingest queue of the region.
        freshness_s: Seconds within which the batch must be in both.
    """

    items: ItemStore
    queue: Queue
    view: LakeView
    clock: Clock
    region: str
    freshness_s: int = 120

    def run(self, deadline: Deadline) -> CanaryRun:
        """Send the batch of this minute, and wait for it as long as the deadline and the freshness target allow.

        Returns:
            The run. Its verdict is still `sent` if the deadline came before the target.

        Raises:
            UnavailableError: The queue did not take the batch.
        """
        run = self._send()
        while run.verdict is CanaryVerdict.SENT:
            run = self._judged(run)
            if run.verdict is not CanaryVerdict.SENT or deadline.remaining_ms() < _POLL_MS + _RESERVE_MS:
                break
            self.clock.sleep_ms(_POLL_MS)
        self._look_back(before_s=run.slot_s)
        return run

    def _send(self) -> CanaryRun:
        slot_s = slot_of(self._now_s())
        known = self.items.get(Table.LEDGER, canary_key(slot_s))
        run = CanaryRun(slot_s=slot_s, sent_s=self._now_s()) if known is None else CanaryRun.from_item(known)
        self._save(run)
        body = canary_body(slot_s, self.region)
        if self.queue.send_many([body, body]):
            raise UnavailableError("sqs.SendMessageBatch", "the queue did not take the canary's batch")
        return run

    def _judged(self, run: CanaryRun) -> CanaryRun:
        """Return the run with its verdict, or as it was if it has none yet."""
        verdict = self._verdict(run)
        if verdict is CanaryVerdict.SENT:
            return run
        return self._save(replace(run, verdict=verdict, settled_s=self._now_s()))

    def _verdict(self, run: CanaryRun) -> CanaryVerdict:
        usage, lake = self._usage(run.slot_s), self._lake(run.slot_s)
        if any(total.records > 1 or total not in {ZERO, _EXPECTED} for total in (usage, lake)):
            return CanaryVerdict.DOUBLED
        if self._now_s() - run.sent_s > self.freshness_s:
            return CanaryVerdict.LATE
        return CanaryVerdict.GOOD if usage == lake == _EXPECTED else CanaryVerdict.SENT

    def _look_back(self, *, before_s: int) -> None:
        """Judge runs that were cut short, and find good ones that were doubled since."""
        first = canary_key(before_s - _LOOK_BACK_S).sk
        for item in list(self.items.query(Table.LEDGER, CANARY_PK, sk_from=first, sk_to=canary_key(before_s).sk)):
            run = CanaryRun.from_item(item)
            if run.verdict is CanaryVerdict.SENT or (
                run.verdict is not CanaryVerdict.DOUBLED and self._verdict(run) is CanaryVerdict.DOUBLED
            ):
                self._judged(run)

    def _usage(self, slot_s: int) -> Total:
        hour_s = canary_hour(slot_s)
        prefix = f"{date_of(hour_s)}#{canary_usage_type(slot_s)}"
        pk = usage_partition(CANARY_ACCOUNT_ID, month_of(hour_s))
        items = self.items.query(Table.USAGE, pk, sk_from=f"{prefix}#", sk_to=f"{prefix}$")
        return sum_totals(entry.total for item in items for entry in usage_entries(item, hour_s=hour_s))

    def _lake(self, slot_s: int) -> Total:
        marker = self.items.get(Table.LEDGER, marker_key(canary_batch_id(slot_s)))
        if marker is None:
            return ZERO
        commit_id = Marker.from_item(marker).commit_id
        query = RowQuery(
            where=(
                ("account_id", frozenset({CANARY_ACCOUNT_ID})),
                ("usage_type", frozenset({canary_usage_type(slot_s)})),
            )
        )
        groups = self.view.read(
            canary_hour(slot_s), lambda state: self.view.reader.totals(_row_sources(state, commit_id), query)
        )
        return groups.get((), ZERO)

    def _save(self, run: CanaryRun) -> CanaryRun:
        self.items.put(Put(table=Table.LEDGER, item=run.to_item()))
        return run

    def _now_s(self) -> int:
        return self.clock.now_ms() // 1000


def _row_sources(state: HourState, commit_id: str) -> list[RowSource]:
    if len(state.sources) <= _MOST_ROW_SOURCES:
        return list(state.sources)
    return [source for source in state.sources if not source.staged or commit_id in source.key]

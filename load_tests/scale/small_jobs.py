"""Watch and canary over a computed region."""

from __future__ import annotations

from typing import TYPE_CHECKING

from metering.audit.freshness import Freshness
from metering.hours import hour_of
from metering.ledger.commits import CommitRecord
from metering.ledger.markers import Marker, conflict_seen_item
from metering.ledger.notes.checks import CANARY_BYTES, CanaryRun, CanaryVerdict, canary_batch_id, slot_of
from metering.ledger.usage.reading import UsageReading
from metering.operations.canary import Canary
from metering.operations.watch import Watch
from metering.stores.objects import staging_key
from metering.stores.queues import Redelivery
from metering.stores.writes import Put, Table
from metering.units import DAY_S, HOUR_S, MINUTE_S
from metering.usage.totals import Total
from tests.support.memory.queues import MemoryQueue

if TYPE_CHECKING:
    from collections.abc import Mapping

    from load_tests.scale.bench import Bench

# The watch reads at most this many notes of a kind.
_NOTES = 2_000
_CANARY_EVERY_S = 5 * MINUTE_S


class QueueFigures:
    """`QueueFacts` of a queue that is never empty."""

    def oldest_age_s(self) -> int | None:
        return 30

    def longest_retention_s(self) -> int:
        return 14 * DAY_S

    def redelivery(self) -> Redelivery:
        return Redelivery(visibility_s=420, max_receives=7)


class NoGauges:
    """`Gauges` that nobody reads."""

    def publish(self, figures: Mapping[str, int]) -> None:
        del figures


def fill_notes(bench: Bench) -> None:
    """Write the notes that other jobs and bad producers leave for the watch."""
    now_s = bench.clock.now_ms() // 1_000
    for number in range(_NOTES):
        item = conflict_seen_item(f"{number:032d}", "0" * 64, now_s - number)
        bench.items.put(Put(table=Table.LEDGER, item=item))
    for run in _canary_runs(now_s):
        bench.items.put(Put(table=Table.LEDGER, item=run.to_item()))


def freshness_of(bench: Bench) -> Freshness:
    """Time up to which a region's reports are complete; its queue is not empty."""
    ingest = MemoryQueue(bench.clock)
    ingest.send_many(["{}"])
    return Freshness(
        items=bench.items,
        ingest=ingest,
        dead=MemoryQueue(bench.clock),
        queue_facts=QueueFigures(),
        clock=bench.clock,
        region="us-east-1",
        stage="prod",
        shards=bench.settings.shards,
        window_s=bench.settings.window_s,
    )


def watch_of(bench: Bench) -> Watch:
    """The watch of a region."""
    freshness = freshness_of(bench)
    return Watch(
        items=bench.items,
        ingest=freshness.ingest,
        dead=freshness.dead,
        queue_facts=QueueFigures(),
        gauges=NoGauges(),
        clock=bench.clock,
        freshness=freshness,
        shards=bench.settings.shards,
        window_s=bench.settings.window_s,
        marker_life_s=bench.settings.marker_life_s,
    )


def canary_of(bench: Bench) -> Canary:
    """The canary of a region, with the runs of the last two hours and the outcome of their batches."""
    now_s = bench.clock.now_ms() // 1_000
    for run in _canary_runs(now_s):
        bench.items.put(Put(table=Table.LEDGER, item=run.to_item()))
        hour_s = hour_of(run.slot_s)
        commit_id = f"canary{run.slot_s:026d}"
        commit = CommitRecord(
            commit_id=commit_id,
            state="committed",
            hours=(hour_s,),
            staging_key=staging_key(commit_id, hour_s),
            rows=1,
            bytes=CANARY_BYTES,
        )
        marker = Marker(
            batch_id=canary_batch_id(run.slot_s),
            verdict="accepted",
            content_hash="0" * 64,
            hash_version=1,
            commit_id=commit_id,
            source_id="",
            sequence=None,
            sender_id="",
            records=1,
            metered=1,
            refused=0,
            hours={hour_s: Total(CANARY_BYTES, 1)},
            decided_at_ms=now_s * 1_000,
            expires_at_s=now_s + 50 * DAY_S,
        )
        bench.items.put(Put(table=Table.LEDGER, item=marker.to_item()))
        bench.items.put(Put(table=Table.LEDGER, item=commit.to_item()))
    view = bench.jobs.view
    return Canary(
        items=bench.items,
        usage=UsageReading(bench.items),
        queue=MemoryQueue(bench.clock),
        view=view,
        clock=bench.clock,
        region="us-east-1",
        rollup_every_s=bench.settings.rollup_every_s,
    )


def _canary_runs(now_s: int) -> list[CanaryRun]:
    """Successful runs of the last two hours; their pointers are cleaned, so each look reads its hour's files."""
    slots = [slot_of(now_s - ago_s) for ago_s in range(_CANARY_EVERY_S, 2 * HOUR_S, _CANARY_EVERY_S)]
    return [
        CanaryRun(slot_s=slot_s, sent_s=slot_s, verdict=CanaryVerdict.GOOD, settled_s=slot_s + MINUTE_S)
        for slot_s in slots
    ]

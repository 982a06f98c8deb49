"""At rest, every line can be traced to its batches: report, rows and markers agree on an account."""

from __future__ import annotations

from typing import TYPE_CHECKING

from metering.audit.figures import Figures
from metering.audit.hour_check import OneHour
from metering.hours import month_of, rfc3339
from metering.lake.view import LakeView
from metering.ledger.usage.reading import UsageReading
from metering.reports.query import TraceParameters
from metering.reports.source import ReportSource
from metering.reports.trace import Tracer
from metering.rollup.as_of_now import UsageNow
from metering.units import HOUR_S
from tests.simulation.checks.watch import ViolationError
from tests.support.memory.clock import ManualClock
from tests.support.memory.frozen import PlainFrozenFiles
from tests.support.memory.lake import PlainLake
from tests.support.stage import STAGE
from tests.support.usage_items import usage_of

if TYPE_CHECKING:
    from tests.simulation.region.world import World


def check_trace(world: World, *, shards: int) -> None:
    """Trace one account over all time, and one of its hours separately.

    The tracer uses threads, which simulated processes lack: it reads the stores directly.

    Raises:
        ViolationError: The trace's sums differ, or the hour does not agree.
    """
    view = LakeView(items=world.items, objects=world.objects, reader=PlainLake(world.objects), shards=shards)
    reading = UsageReading(world.items)
    source = ReportSource(
        region="",
        items=world.items,
        objects=world.objects,
        view=view,
        frozen=PlainFrozenFiles(world.objects),
        as_of_now=UsageNow(reading=reading, objects=world.objects, staged=PlainLake(world.objects), shards=shards),
    )
    tracer = Tracer(source=source, marker_life_s=STAGE.marker_life_s)
    keys = [entry.key for entry in usage_of(world.items)]
    now_s = world.scheduler.now_ms // 1000
    accounts = sorted({key.account_id for key in keys})
    # One history in three, to save time.
    if not accounts or len(keys) % 3:
        return
    account = accounts[len(keys) // 3 % len(accounts)]
    hours = [key.hour_s for key in keys if key.account_id == account]
    asked = TraceParameters(account=account, start=rfc3339(min(hours)), end=rfc3339(max(hours) + HOUR_S))
    trace = tracer.trace(asked.query(now_s=max(now_s, *hours)), now_s=now_s)
    world.faults.histogram["batches traced"] += len(trace.batches)
    if not trace.equal:
        different = [hour for hour in trace.hours if hour.differences]
        doubtful = [batch for batch in trace.batches if batch.vouching not in {"agrees", "expired"}]
        raise ViolationError(f"trace: {account} is not equal: {different[:1] or doubtful[:1]}")
    clock = ManualClock(world.scheduler.now_ms)
    figures = Figures.counted(items=world.items, view=view, clock=clock, marker_life_s=STAGE.marker_life_s)
    look = OneHour(figures=figures).look(max(hours), now_s=now_s)
    # Usage of a closed month can be wrong in the table, and is not repaired.
    if look.check is not None and not look.check.agrees and month_of(max(hours)) not in world.watch.frozen:
        raise ViolationError(f"one hour: {look.check.differences[:2]}")

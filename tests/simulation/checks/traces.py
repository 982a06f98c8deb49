"""At rest every line comes down to its batches: report, rows and markers say the same of an account."""

from __future__ import annotations

from typing import TYPE_CHECKING

from metering.adapters.memory.frozen import PlainFrozenFiles
from metering.adapters.memory.lake import PlainLake
from metering.hours import rfc3339
from metering.lake.view import LakeView
from metering.ledger.usage_items import usage_entries
from metering.reports.source import ReportSource
from metering.reports.trace.question import TraceParameters
from metering.reports.trace.tracing import Tracer
from metering.stores.writes import Table
from metering.units import HOUR_S
from tests.simulation.checks.watch import ViolationError
from tests.support.stage import STAGE

if TYPE_CHECKING:
    from tests.simulation.region.world import World


def check_trace(world: World, *, shards: int) -> None:
    """Trace one account over all time.

    The tracer has threads of its own, and the processes of a simulation have not: it reads the stores themselves.

    Raises:
        ViolationError: Its sums are not equal.
    """
    view = LakeView(items=world.items, objects=world.objects, reader=PlainLake(world.objects), shards=shards)
    source = ReportSource(
        region="", items=world.items, objects=world.objects, view=view, frozen=PlainFrozenFiles(world.objects)
    )
    tracer = Tracer(source=source, marker_life_s=STAGE.marker_life_s)
    keys = [e.key for item in world.items.everything(Table.USAGE) for e in usage_entries(item)]
    now_s = world.scheduler.now_ms // 1000
    accounts = sorted({key.account_id for key in keys})
    if not accounts:
        return
    account = accounts[len(keys) % len(accounts)]
    hours = [key.hour_s for key in keys if key.account_id == account]
    asked = TraceParameters(account=account, start=rfc3339(min(hours)), end=rfc3339(max(hours) + HOUR_S))
    trace = tracer.trace(asked.query(now_s=max(now_s, *hours)), now_s=now_s)
    world.faults.histogram["batches traced"] += len(trace.batches)
    if trace.equal:
        return
    different = [hour for hour in trace.hours if hour.differences]
    doubtful = [batch for batch in trace.batches if batch.vouching not in {"agrees", "expired"}]
    raise ViolationError(f"trace: {account} is not equal: {different[:1] or doubtful[:1]}")

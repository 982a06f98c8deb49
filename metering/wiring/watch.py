"""Builds a region's watch, and the metrics to which the watch publishes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from metering.adapters.aws.alerts import CloudWatchGauges
from metering.operations import watch
from metering.operations.alarms import WATCH_NAMESPACE
from metering.wiring import reports

if TYPE_CHECKING:
    from metering.wiring.region import FunctionParts


def build_watch(parts: FunctionParts) -> watch.Watch:
    """Build the watch of a function."""
    settings = parts.settings
    gauges = CloudWatchGauges(parts.clients.cloudwatch, dimensions={"Stage": settings.stage}, namespace=WATCH_NAMESPACE)
    return watch.Watch(
        items=parts.items,
        ingest=parts.ingest,
        dead=parts.dead_letters,
        queue_facts=parts.queue_facts,
        gauges=gauges,
        clock=parts.clock,
        freshness=reports.build_freshness(parts),
        shards=settings.shards,
        window_s=settings.window_s,
        marker_life_s=settings.marker_life_s,
    )

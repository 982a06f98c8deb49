"""What the watch function is made of, built on first use."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache

from aws_lambda_powertools import Logger

from metering.adapters.aws.alerts import CloudWatchMetrics
from metering.adapters.aws.runtime import SystemClock
from metering.adapters.aws.session import Clients
from metering.operations.alarms import WATCH_NAMESPACE
from metering.operations.watch import Watch
from metering.settings import Settings
from metering.wiring.region import RegionPorts

SERVICE = "watch"


@dataclass(frozen=True, slots=True, kw_only=True)
class Dependencies:
    """The use case, and what the handler says about it."""

    watch: Watch
    logger: Logger


@cache
def dependencies() -> Dependencies:
    """The function's parts, from its environment.

    Raises:
        SettingsError: With every problem of the environment.
        FormatTooNewError: Newer code wrote the ledger.
        UnavailableError: The ledger does not say its format now; the next invocation asks again.
    """
    settings = Settings.from_env(os.environ)
    return Dependencies(watch=build_watch(Clients.from_env(os.environ), settings), logger=Logger(service=SERVICE))


def build_watch(clients: Clients, settings: Settings) -> Watch:
    """The watch of a region."""
    region = RegionPorts(clients, settings)
    return Watch(
        items=region.items,
        ingest=region.ingest,
        dead=region.dead_letters,
        queue_facts=region.queue_facts,
        gauges=CloudWatchMetrics(clients.cloudwatch, dimensions={"Stage": settings.stage}, namespace=WATCH_NAMESPACE),
        clock=SystemClock(),
        shards=settings.shards,
        window_s=settings.window_s,
        marker_life_s=settings.marker_life_s,
    )

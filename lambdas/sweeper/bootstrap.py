"""What the sweeper function is made of, built on first use."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache

from aws_lambda_powertools import Logger

from metering.adapters.aws.emf import EmfMetrics
from metering.adapters.aws.runtime import SystemClock, SystemEntropy
from metering.adapters.aws.session import Clients
from metering.commit.sweeper import Sweeper
from metering.settings import Settings
from metering.wiring.region import RegionPorts

SERVICE = "sweeper"


@dataclass(frozen=True, slots=True, kw_only=True)
class Dependencies:
    """The use case, and what the handler says about it."""

    sweeper: Sweeper
    metrics: EmfMetrics
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
    region = RegionPorts(Clients.from_env(os.environ), settings)
    metrics = EmfMetrics(service=SERVICE, stage=settings.stage)
    sweeper = Sweeper(
        items=region.items,
        objects=region.objects,
        clock=SystemClock(),
        entropy=SystemEntropy(),
        metrics=metrics,
        settings=settings,
    )
    return Dependencies(sweeper=sweeper, metrics=metrics, logger=Logger(service=SERVICE))

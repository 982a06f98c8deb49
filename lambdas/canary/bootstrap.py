"""What the canary function is made of, built on first use."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache

from aws_lambda_powertools import Logger

from metering.adapters.aws.emf import EmfMetrics
from metering.adapters.aws.runtime import SystemClock
from metering.adapters.aws.session import Clients
from metering.lake.parquet.reader import ParquetLakeReader
from metering.lake.view import LakeView
from metering.operations.canary import Canary
from metering.settings import Settings
from metering.wiring.region import RegionPorts

SERVICE = "canary"


@dataclass(frozen=True, slots=True, kw_only=True)
class Dependencies:
    """The use case, and what the handler says about it."""

    canary: Canary
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
    canary = Canary(
        items=region.items,
        queue=region.ingest,
        view=LakeView(
            items=region.items,
            objects=region.objects,
            reader=ParquetLakeReader(region.objects),
            shards=settings.shards,
        ),
        clock=SystemClock(),
        region=region.clients.access.region,
    )
    return Dependencies(
        canary=canary,
        metrics=EmfMetrics(service=SERVICE, stage=settings.stage),
        logger=Logger(service=SERVICE),
    )

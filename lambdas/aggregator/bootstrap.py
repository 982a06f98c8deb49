"""What the aggregator function is made of, built on first use."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache

from aws_lambda_powertools import Logger

from metering.adapters.aws.emf import EmfMetrics
from metering.adapters.aws.runtime import SystemClock, SystemEntropy
from metering.adapters.aws.session import Clients
from metering.commit.aggregator import Aggregator
from metering.intake.reader import ReadLimits, RecordBatchReader
from metering.lake.parquet.codec import ParquetRowCodec
from metering.ledger.format_version import remember_format
from metering.settings import Settings
from metering.version import package_version
from metering.wiring.region import RegionPorts

SERVICE = "aggregator"


@dataclass(frozen=True, slots=True, kw_only=True)
class Dependencies:
    """The use case, and what the handler says about it."""

    aggregator: Aggregator
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
    # The first batch of a region makes its format known, the canary's if no other.
    remember_format(region.items, written_by=package_version())
    metrics = EmfMetrics(service=SERVICE, stage=settings.stage)
    aggregator = Aggregator(
        items=region.items,
        objects=region.objects,
        reader=RecordBatchReader(
            region.objects, bucket=settings.data_bucket, limits=ReadLimits(object_bytes=settings.object_bytes)
        ),
        codec=ParquetRowCodec(),
        clock=SystemClock(),
        entropy=SystemEntropy(),
        metrics=metrics,
        settings=settings,
        alerts=region.alerts,
    )
    return Dependencies(aggregator=aggregator, metrics=metrics, logger=Logger(service=SERVICE))

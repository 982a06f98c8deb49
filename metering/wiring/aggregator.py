"""Aggregator of a region, with the reader of batches and the codec of staging."""

from __future__ import annotations

from typing import TYPE_CHECKING

from metering.commit.aggregator import Aggregator
from metering.intake.reader import RecordBatchReader
from metering.intake.work import ReadLimits
from metering.lake.parquet.codec import ParquetRowCodec

if TYPE_CHECKING:
    from metering.stores.telemetry import Metrics
    from metering.wiring.ports import ServicePorts


def build_aggregator(ports: ServicePorts, metrics: Metrics) -> Aggregator:
    """Build the aggregator of a region."""
    settings = ports.settings
    limits = ReadLimits(object_bytes=settings.object_bytes)
    return Aggregator(
        items=ports.items,
        objects=ports.objects,
        reader=RecordBatchReader(objects=ports.objects, bucket=settings.data_bucket, limits=limits),
        codec=ParquetRowCodec(),
        clock=ports.clock,
        entropy=ports.entropy,
        metrics=metrics,
        settings=settings,
        alerts=ports.alerts,
    )

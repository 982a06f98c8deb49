"""The aggregator of a region, over the formats that it reads."""

from __future__ import annotations

from typing import TYPE_CHECKING

from metering.commit.aggregator import Aggregator
from metering.intake.reader import ReadLimits, RecordBatchReader
from metering.lake.parquet.codec import ParquetRowCodec

if TYPE_CHECKING:
    from metering.stores.telemetry import Metrics
    from metering.wiring.functions import FunctionParts


def build_aggregator(parts: FunctionParts, metrics: Metrics) -> Aggregator:
    """Build the aggregator of a function."""
    settings = parts.settings
    limits = ReadLimits(object_bytes=settings.object_bytes)
    return Aggregator(
        items=parts.items,
        objects=parts.objects,
        reader=RecordBatchReader(parts.objects, bucket=settings.data_bucket, limits=limits),
        codec=ParquetRowCodec(),
        clock=parts.clock,
        entropy=parts.entropy,
        metrics=metrics,
        settings=settings,
        alerts=parts.alerts,
    )

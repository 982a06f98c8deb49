"""Canary of a region."""

from __future__ import annotations

from typing import TYPE_CHECKING

from metering.ledger.usage.reading import UsageReading
from metering.operations.canary import Canary
from metering.wiring import lake

if TYPE_CHECKING:
    from metering.wiring.region import FunctionParts


def build_canary(parts: FunctionParts) -> Canary:
    """Build the canary of a function."""
    return Canary(
        items=parts.items,
        usage=UsageReading(parts.items),
        queue=parts.ingest,
        view=lake.lake_view(parts.items, parts.objects, shards=parts.settings.shards),
        clock=parts.clock,
        region=parts.region,
        rollup_every_s=parts.settings.rollup_every_s,
    )

"""The sweeper of a region, for its own function and for the compactor's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from metering.commit.sweeper import Sweeper

if TYPE_CHECKING:
    from metering.stores.telemetry import Metrics
    from metering.wiring.functions import FunctionParts


def build_sweeper(parts: FunctionParts, metrics: Metrics) -> Sweeper:
    """Build the sweeper of a function."""
    return Sweeper(
        items=parts.items,
        objects=parts.objects,
        clock=parts.clock,
        entropy=parts.entropy,
        metrics=metrics,
        settings=parts.settings,
    )

"""Sweeper of a region, for its own function and for the compactor's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from metering.commit.sweeper import Sweeper

if TYPE_CHECKING:
    from metering.stores.telemetry import Metrics
    from metering.wiring.ports import ServicePorts


def build_sweeper(ports: ServicePorts, metrics: Metrics) -> Sweeper:
    """Build the sweeper of a region."""
    return Sweeper(
        items=ports.items,
        objects=ports.objects,
        clock=ports.clock,
        entropy=ports.entropy,
        metrics=metrics,
        settings=ports.settings,
    )

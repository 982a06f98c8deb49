"""What was refused, read without the right to send anything again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from metering.adapters.no_queue import NoQueue
from metering.quarantine.entries import QuarantineEntries

if TYPE_CHECKING:
    from metering.wiring.answers.ports import ReadableRegion


def quarantine_of(region: ReadableRegion) -> QuarantineEntries:
    """The quarantine of a region, to be read: a retry by it fails before anything is sent."""
    return QuarantineEntries(
        items=region.items,
        objects=region.objects,
        queue=NoQueue(),
        clock=region.clock,
        bucket="",
        marker_life_s=region.settings.marker_life_s,
    )

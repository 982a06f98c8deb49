"""Status of a region, and the checks before a month is closed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from metering.billing.checklist import CheckedClose
from metering.operations.own_costs import batch_usd
from metering.operations.status import StatusReader
from metering.quarantine.entries import QuarantineEntries
from metering.wiring import biller, reports

if TYPE_CHECKING:
    from metering.wiring.connection import RegionConnection


def build_status(region: RegionConnection) -> StatusReader:
    """Build the reader of a connected region's status."""
    return StatusReader(
        items=region.items,
        ingest=region.ingest,
        dead=region.dead_letters,
        queue_facts=region.queue_facts,
        clock=region.clock,
        freshness=reports.build_freshness(region),
        alarms=region.alarms,
        subscribers=region.alerts,
        region=region.region,
        stage=region.stage,
        version=region.version,
        batch_usd=batch_usd(marker_life_s=region.settings.marker_life_s, scan_every_s=region.settings.scan_every_s),
        sums=biller.build_keeper(region),
    )


def build_close(region: RegionConnection) -> CheckedClose:
    """Build the close of a month in a connected region, with the checklist."""
    return CheckedClose(
        closer=region.jobs.closer,
        items=region.items,
        ingest=region.ingest,
        dead=region.dead_letters,
        quarantine=build_quarantine(region),
        freshness=reports.build_freshness(region),
        clock=region.clock,
        region=region.region,
        stage=region.stage,
    )


def build_quarantine(region: RegionConnection) -> QuarantineEntries:
    """Build the quarantine of a connected region."""
    return QuarantineEntries(
        items=region.items,
        objects=region.objects,
        queue=region.ingest,
        clock=region.clock,
        bucket=region.names.data_bucket,
        marker_life_s=region.settings.marker_life_s,
    )

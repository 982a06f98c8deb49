"""Builds what a region's reports and checks need: the source of totals, the completeness, the verifier."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Protocol

from metering.audit import freshness
from metering.ledger.usage.kinds import all_accounts
from metering.ledger.usage.reading import UsageReading
from metering.reports import query
from metering.reports.source import ReportSource
from metering.rollup.as_of_now import UsageNow
from metering.stores.clock import CALLS_AT_ONCE, scans_at_once
from metering.units import MIB

if TYPE_CHECKING:
    from metering.audit.verifier import Verifier
    from metering.lake.view import LakeView
    from metering.ledger.usage.kinds import KindNames
    from metering.stores import writes
    from metering.stores.objects import ObjectStore
    from metering.wiring import connection, lake
    from metering.wiring.region import FunctionParts


class UsageStores(Protocol):
    """Stores of a region's usage, as a command's connection, a report or a function has them."""

    @property
    def region(self) -> str: ...
    @property
    def items(self) -> writes.ItemStore: ...
    @property
    def objects(self) -> ObjectStore: ...
    @property
    def view(self) -> LakeView: ...


# An answer as of now reads at most this many staging objects. At full load, about 20 wait, for some 15 seconds.
_MOST_WAITING = 1_000
# With more accounts, an open month is read hour by hour, and budgets have the biller's sums.
MOST_ACCOUNTS = 2_000


def report_source(region: lake.ReadableRegion, meter: query.Meter = query.UNCOUNTED) -> ReportSource:
    """Build the source of a region's reports. `meter` counts all reads for reports."""
    # The watch is built here, too, and must not load a Parquet library.
    from metering.lake.parquet.frozen_months import ParquetFrozenFiles

    return ReportSource(
        region=region.region,
        items=region.items,
        objects=region.objects,
        view=region.view,
        frozen=ParquetFrozenFiles(region.objects),
        meter=meter,
        names=region.kind_names,
        as_of_now=usage_now(region, region.kind_names),
    )


def few_accounts(items: writes.ItemStore, most: int = MOST_ACCOUNTS) -> bool:
    """Whether the directory has at most `most` accounts."""
    return sum(1 for _ in islice(all_accounts(items), most + 1)) <= most


def usage_now(region: UsageStores, names: KindNames | None = None) -> UsageNow:
    """Build the reader of a region's usage as of now, for answers. `names` keeps the names of kinds between answers."""
    from metering.lake.parquet.reader import ParquetStagedUsage

    return UsageNow(
        reading=UsageReading(region.items, names),
        objects=region.objects,
        staged=ParquetStagedUsage(region.objects),
        shards=region.view.shards,
        threads=CALLS_AT_ONCE,
        most=_MOST_WAITING,
    )


def build_freshness(region: connection.RegionConnection | FunctionParts) -> freshness.Freshness:
    """Build what computes the completeness that a region's reports state."""
    return freshness.Freshness(
        items=region.items,
        ingest=region.ingest,
        dead=region.dead_letters,
        queue_facts=region.queue_facts,
        clock=region.clock,
        region=region.region,
        stage=region.settings.stage,
        shards=region.settings.shards,
        window_s=region.settings.window_s,
    )


def build_verifier(region: connection.RegionConnection) -> Verifier:
    """Build the verifier of a connected region."""
    # It takes as long to import as a report on the whole region takes.
    from metering.audit.verifier import Verifier

    return Verifier(
        items=region.items,
        objects=region.objects,
        view=region.view,
        ingest=region.ingest,
        dead_letters=region.dead_letters,
        clock=region.clock,
        drops=region.jobs.drop_ids,
        marker_life_s=region.settings.marker_life_s,
        feeders=() if region.onramp is None else (region.onramp.events,),
        threads=scans_at_once(emulated=region.emulated),
        memory_bytes=region.settings.scan_memory_mb * MIB,
    )

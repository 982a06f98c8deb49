"""Up to when the counts of regions are complete: as their watches last said, or measured now."""

from __future__ import annotations

from typing import TYPE_CHECKING

from metering.audit.held_back import Complete, HeldBack, complete_of, merged
from metering.ledger.notes.completeness import COMPLETENESS_KEY, Completeness
from metering.reports.source import naming
from metering.stores.writes import Table
from metering.wiring.reports import build_freshness

if TYPE_CHECKING:
    from collections.abc import Sequence

    from metering.wiring.answers.ports import ReadableRegion
    from metering.wiring.connection import RegionConnection


def stored_completeness(regions: Sequence[ReadableRegion]) -> Complete:
    """Up to when all of the regions are complete, without measuring: nothing but the ledger is read.

    Raises:
        UnavailableError: A ledger gives no answer; the error names the region.
    """
    known: dict[str, Complete] = {}
    for region in regions:
        with naming(region.region):
            known[region.region] = stored_of(region)
    return merged(known)


def measured_completeness(regions: Sequence[RegionConnection]) -> Complete:
    """Up to when all of the regions are complete, measured where a watch has not just done so: queues are asked, too.

    Raises:
        UnavailableError: A region gives no answer; the error names it.
    """
    known: dict[str, Complete] = {}
    for region in regions:
        with naming(region.region):
            known[region.region] = build_freshness(region).answer()
    return merged(known)


def in_short(complete: Complete) -> Complete:
    """The same for somebody who does not run the service: since when, but not what its parts are called."""
    held = tuple(
        HeldBack(what="usage that is not counted yet", since_s=each.since_s, cure="Ask again later.", usual=each.usual)
        for each in complete.held_back_by
    )
    return Complete(through_s=complete.through_s, held_back_by=tuple(dict.fromkeys(held)))


def stored_of(region: ReadableRegion) -> Complete:
    """Up to when one region is complete, without measuring.

    Raises:
        UnavailableError: Its ledger gives no answer.
    """
    item = region.items.get(Table.LEDGER, COMPLETENESS_KEY)
    if item is None:
        cure = f"metering status --region {region.region} --stage {region.stage}"
        held = HeldBack(what="the watch, which has not measured yet", since_s=None, cure=cure)
        return Complete(through_s=0, held_back_by=(held,))
    now_s = region.clock.now_ms() // 1_000
    return complete_of(Completeness.from_item(item), now_s=now_s, region=region.region, stage=region.stage)

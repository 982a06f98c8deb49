"""How far the sums go that budgets, unusual days and lists of accounts are made of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from metering.billing.day_sums.uncounted import reach_of
from metering.reports.source import naming
from metering.wiring.billing.biller import build_keeper

if TYPE_CHECKING:
    from collections.abc import Iterable

    from metering.billing.day_sums.uncounted import Reach
    from metering.wiring.answers.ports import ReadableRegion


def connected_reach(regions: Iterable[ReadableRegion]) -> Reach:
    """How far the day sums of regions go now, and what they lack, of whatever account.

    Raises:
        UnavailableError: A region gives no answer; the error names it.
        LedgerCorruptError: What is kept or waits in a region cannot be read.
    """
    found: list[Reach] = []
    for region in regions:
        with naming(region.region):
            found.append(build_keeper(region).reach())
    return reach_of(found)

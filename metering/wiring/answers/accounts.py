"""The accounts of a month, in one or several regions."""

from __future__ import annotations

from itertools import repeat
from typing import TYPE_CHECKING

from metering.billing.day_sums.index import Reach, reach_of
from metering.lake.parquet.frozen_months import ParquetFrozenFiles
from metering.reports.accounts import AccountsQuery, AccountsSource, accounts_answer, listed, summed
from metering.reports.source import naming
from metering.wiring import biller

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from metering.billing.day_sums.index import DayIndex
    from metering.reports.answer import Answer
    from metering.wiring.lake import ReadableRegion


def connected_reach(regions: Iterable[ReadableRegion], indexes: Iterable[DayIndex | None] = repeat(None)) -> Reach:
    """For all accounts, the current completeness of the regions' day sums, and the usage that these sums lack.

    `indexes` are the sums' own indexes, so that usage which the biller counts meanwhile is not left out.

    Raises:
        UnavailableError: A region does not respond; the error names the region.
        LedgerCorruptError: Stored or waiting data of a region cannot be read.
    """
    found: list[Reach] = []
    for region, index in zip(regions, indexes, strict=False):
        with naming(region.region):
            found.append(biller.build_keeper(region).reach(index))
    return reach_of(found)


def accounts_of(regions: Sequence[ReadableRegion], query: AccountsQuery, *, now_s: int, merged: bool = False) -> Answer:
    """List the accounts of a month, summed over regions; if `merged`, the answer names the regions.

    Raises:
        AccountsNotKeptError: A region has not summed the month.
        UnavailableError: A region did not respond; the error names the region.
        LedgerCorruptError: The stored sums cannot be read.
        ObjectDamagedError: The accounts of an open month are damaged.
    """
    months = []
    for region in regions:
        with naming(region.region):
            source = AccountsSource(
                region=region.region,
                items=region.items,
                objects=region.objects,
                frozen=ParquetFrozenFiles(region.objects),
            )
            months.append(source.month(query))
    listing = listed(summed(month.sums for month in months), query.order, most=query.top)
    names = [region.region for region in regions] if merged else []
    is_open = any(month.as_of_s is not None for month in months)
    # Waiting usage is known only over all accounts, so a caller with access to some accounts learns nothing about it.
    indexes = [month.index for month in months]
    left = connected_reach(regions, indexes).left if is_open and not (query.accounts or query.prefix) else None
    return accounts_answer(query, months, listing, now_s=now_s, regions=names, left=left)

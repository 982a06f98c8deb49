"""The accounts of a month, of one region or several."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from metering.lake.parquet.frozen import ParquetFrozenFiles
from metering.reports.accounts.answer import accounts_answer
from metering.reports.accounts.listing import listed, place_of, summed
from metering.reports.accounts.source import AccountsSource
from metering.reports.source import naming

if TYPE_CHECKING:
    from collections.abc import Sequence

    from metering.reports.accounts.listing import Place
    from metering.reports.accounts.query import AccountsQuery
    from metering.reports.answer import Answer
    from metering.wiring.answers.ports import ReadableRegion


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountsPage:
    """A part of a list of accounts.

    Attributes:
        next: The place that the next part begins after; None if this is the last one.
    """

    answer: Answer
    next: Place | None


def accounts_page(
    regions: Sequence[ReadableRegion],
    query: AccountsQuery,
    *,
    now_s: int,
    after: Place | None = None,
    most: int | None = None,
    merged: bool = False,
) -> AccountsPage:
    """List accounts of a month.

    Args:
        regions: Whose usage is listed, summed by account.
        query: Which accounts, and in which order.
        now_s: The time now, epoch seconds.
        after: Begin after this place.
        most: So many rows; None: all, or as many as `top` of the query says.
        merged: Whether the answer names its regions.

    Raises:
        AccountsNotKeptError: A region has not summed the month.
        UnavailableError: A region gave no answer; the error names it.
        LedgerCorruptError: What is kept cannot be read.
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
    sums = summed(month.sums for month in months)
    listing = listed(sums, query.order, after=after, most=query.top if most is None else most)
    answer = accounts_answer(
        query, months, listing, now_s=now_s, regions=[region.region for region in regions] if merged else ()
    )
    return AccountsPage(answer=answer, next=place_of(listing.rows[-1], query.order) if listing.more else None)


def accounts_list(
    regions: Sequence[ReadableRegion], query: AccountsQuery, *, now_s: int, merged: bool = False
) -> Answer:
    """All accounts that a query asks for. Arguments and errors are those of `accounts_page`."""
    return accounts_page(regions, query, now_s=now_s, merged=merged).answer

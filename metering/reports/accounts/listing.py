"""The order of accounts, the first of them, and the exact sum of the others. No more than the first are held."""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import TYPE_CHECKING

from metering.billing.day_sums.accounts import AccountSum, merged
from metering.reports.accounts.query import BY_ID
from metering.usage.totals import ZERO, Total

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from metering.reports.query import Order

_FIGURES: Mapping[str, Callable[[AccountSum], int]] = {
    "account_id": lambda each: int(each.account_id),
    "bytes": lambda each: each.bytes,
    "records": lambda each: each.records,
    "first_hour": lambda each: each.first_s,
    "last_hour": lambda each: each.last_s,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """Accounts in an order.

    Attributes:
        rows: The first accounts, in order.
        total: Sum of all accounts that were asked for, whether they are among the rows or not.
        count: Number of them.
    """

    rows: Sequence[AccountSum]
    total: Total
    count: int


def summed(parts: Iterable[Iterable[AccountSum]]) -> Iterator[AccountSum]:
    """Accounts of several regions as one: each part is in the order of accounts."""
    several = list(parts)
    # Of one region there is nothing to merge, which would take half of the time of a list.
    return iter(several[0]) if len(several) == 1 else merged(heapq.merge(*several))


def listed(sums: Iterable[AccountSum], order: Order, *, most: int | None = None) -> Listing:
    """Accounts in an order.

    Args:
        sums: One for each account, by their ids.
        order: By which column. Accounts that are equal in it stay in the order of their ids.
        most: Only so many of them; None: all.
    """
    if most is None:
        rows = list(sums)
        if order != BY_ID:
            rows.sort(key=_place(order))
        total = Total(sum(each.bytes for each in rows), sum(each.records for each in rows))
        return Listing(rows=rows, total=total, count=len(rows))
    total, count = ZERO, 0

    def counted() -> Iterator[AccountSum]:
        nonlocal total, count
        for each in sums:
            total, count = Total(total.bytes + each.bytes, total.records + each.records), count + 1
            yield each

    first = heapq.nsmallest(most, counted(), key=_place(order))
    return Listing(rows=first, total=total, count=count)


def _place(order: Order) -> Callable[[AccountSum], tuple[int, str]]:
    value, turned = _FIGURES[order.column], -1 if order.descending else 1
    return lambda each: (turned * value(each), each.account_id)

"""The order of accounts, the first of them, and the exact sum of the others. No more than the first are held."""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import TYPE_CHECKING

from metering.billing.day_sums.accounts import AccountSum, merged
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
    return merged(heapq.merge(*parts))


def listed(sums: Iterable[AccountSum], order: Order, *, most: int | None = None) -> Listing:
    """Accounts in an order.

    Args:
        sums: One for each account, by their ids.
        order: By which column. Accounts that are equal in it stay in the order of their ids.
        most: Only so many of them; None: all.
    """
    total, count = ZERO, 0

    def counted() -> Iterator[AccountSum]:
        nonlocal total, count
        for each in sums:
            total, count = Total(total.bytes + each.bytes, total.records + each.records), count + 1
            yield each

    value, turned = _FIGURES[order.column], -1 if order.descending else 1

    def place(each: AccountSum) -> tuple[int, str]:
        return turned * value(each), each.account_id

    rows = sorted(counted(), key=place) if most is None else heapq.nsmallest(most, counted(), key=place)
    return Listing(rows=rows, total=total, count=count)

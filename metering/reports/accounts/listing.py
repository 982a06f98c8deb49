"""The order of accounts, the first of them, and the exact sum of the others. No more than the first are held."""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import TYPE_CHECKING

from metering.billing.day_sums.accounts import AccountSum, merged
from metering.usage.totals import ZERO, Total

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from metering.reports.query import Order

Place = tuple[int, str]
"""Where an account stands in an order: its figure, turned round where the largest comes first, and its id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """Accounts in an order.

    Attributes:
        rows: The first accounts after a place, in order.
        total: Sum of all accounts that were asked for, whether they are among the rows or not.
        count: Number of them.
        more: Whether accounts follow after the rows.
    """

    rows: tuple[AccountSum, ...]
    total: Total
    count: int
    more: bool


def summed(parts: Iterable[Iterable[AccountSum]]) -> Iterator[AccountSum]:
    """Accounts of several regions as one: each part is in the order of accounts."""
    return merged(heapq.merge(*parts))


def place_of(each: AccountSum, order: Order) -> Place:
    """Where an account stands."""
    value = {
        "account_id": int(each.account_id),
        "bytes": each.bytes,
        "records": each.records,
        "first_hour": each.first_s,
        "last_hour": each.last_s,
    }[order.column]
    return (-value if order.descending else value), each.account_id


def listed(sums: Iterable[AccountSum], order: Order, *, after: Place | None = None, most: int | None = None) -> Listing:
    """Accounts in an order.

    Args:
        sums: One for each account.
        order: By which column.
        after: Only those that stand after this place; None: all.
        most: Only so many of them; None: all.
    """
    total, count = ZERO, 0

    def following() -> Iterator[AccountSum]:
        nonlocal total, count
        for each in sums:
            total, count = Total(total.bytes + each.bytes, total.records + each.records), count + 1
            if after is None or place_of(each, order) > after:
                yield each

    def place(each: AccountSum) -> Place:
        return place_of(each, order)

    if most is None:
        rows = sorted(following(), key=place)
        return Listing(rows=tuple(rows), total=total, count=count, more=False)
    rows = heapq.nsmallest(most + 1, following(), key=place)
    return Listing(rows=tuple(rows[:most]), total=total, count=count, more=len(rows) > most)

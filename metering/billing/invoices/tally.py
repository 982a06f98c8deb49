"""Rated lines of a payer added up to the lines of an invoice. It holds a sum a line and account, and no rated line."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

from metering.billing.charges import region_of
from metering.billing.invoices.document import (
    AccountDetail,
    InvoiceLine,
    LineKey,
    PricePart,
    Share,
    Unbilled,
)
from metering.billing.money import cents_of
from metering.billing.rating.lines import PriceState

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from metering.billing.rating.lines import RatedLine
    from metering.usage.totals import Service, UsageType


class _Cost(NamedTuple):
    bytes: int
    exact: int


_NOTHING = _Cost(0, 0)


class LineSums:
    """What one line adds up to. Mutable.

    Attributes:
        parts: (price, list price) -> bytes.
        hours: First and last hour of use; None before the first rated line.
    """

    __slots__ = ("hours", "parts", "usage_types")

    def __init__(self) -> None:
        self.parts: dict[tuple[int, int], int] = {}
        self.usage_types: set[str] = set()
        self.hours: tuple[int, int] | None = None

    def add(self, rated: RatedLine) -> None:
        """Take in one rated line."""
        line, price = rated.line, (rated.price, rated.list_price)
        self.parts[price] = self.parts.get(price, 0) + line.bytes
        self.usage_types.add(line.usage_type)
        first_s, last_s = self.hours or (line.hour_s, line.hour_s)
        self.hours = (min(first_s, line.hour_s), max(last_s, line.hour_s))


class Tally:
    """Adds up rated lines. Mutable.

    Attributes:
        unrated, unpriced: (month, region, service, usage type) -> bytes.
    """

    def __init__(self) -> None:
        self.sums: dict[LineKey, LineSums] = {}
        self.shares: dict[tuple[str, LineKey], _Cost] = {}
        self.unrated: dict[tuple[str, str, Service, UsageType], int] = defaultdict(int)
        self.unpriced: dict[tuple[str, str, Service, UsageType], int] = defaultdict(int)

    def add(self, month: str, rated: Iterable[RatedLine]) -> None:
        """Take in lines about the usage of one month."""
        for each in rated:
            line = each.line
            region = region_of(line)
            if each.state is not PriceState.PRICED:
                into = self.unrated if each.state is PriceState.UNRATED else self.unpriced
                into[month, region, line.service, line.usage_type] += line.bytes
                continue
            key = LineKey(month, region, each.sku, each.rate_code, each.allowance)
            sums = self.sums.get(key)
            if sums is None:
                sums = self.sums[key] = LineSums()
            sums.add(each)
            before = self.shares.get((line.account_id, key), _NOTHING)
            self.shares[line.account_id, key] = _Cost(before.bytes + line.bytes, before.exact + each.exact)

    def lines(self, month: str) -> tuple[tuple[InvoiceLine, ...], tuple[InvoiceLine, ...]]:
        """Lines of the invoice's month, and of the months that it corrects; lines without any bytes are left out.

        What only moved from one account to another is a line of 0 bytes: each account has its share of it.
        """
        made = [_line(key, sums, own=key.month == month) for key, sums in sorted(self.sums.items())]
        shared = {key for (_, key), cost in self.shares.items() if cost != _NOTHING}
        kept = [line for line in made if line.parts or line.key in shared]
        own = tuple(line for line in kept if line.month == month)
        return own, tuple(line for line in kept if line.month != month)

    def accounts(self, lines: Iterable[InvoiceLine], names: Mapping[str, str]) -> tuple[AccountDetail, ...]:
        """What each account has of the lines, by account id."""
        places = {line.key: place for place, line in enumerate(lines)}
        by_account: dict[str, list[Share]] = defaultdict(list)
        for (account_id, key), cost in self.shares.items():
            if key in places and cost != _NOTHING:
                by_account[account_id].append(Share(places[key], cost.bytes, cost.exact))
        return tuple(
            AccountDetail(account_id=account_id, name=names.get(account_id, ""), shares=tuple(sorted(shares)))
            for account_id, shares in sorted(by_account.items())
        )


def unbilled(sums: Mapping[tuple[str, str, Service, UsageType], int]) -> tuple[Unbilled, ...]:
    """Usage without a price, in order; what a correction took back to nothing is left out."""
    return tuple(Unbilled(*key, total) for key, total in sorted(sums.items()) if total)


def _line(key: LineKey, sums: LineSums, *, own: bool) -> InvoiceLine:
    parts = tuple(PricePart(*price, total) for price, total in sorted(sums.parts.items()) if total)
    return InvoiceLine(
        **key._asdict(),
        usage_types=tuple(sorted(sums.usage_types)),
        parts=parts,
        cents=cents_of(sum(part.bytes * part.price for part in parts)),
        hours=None if own else sums.hours,
    )

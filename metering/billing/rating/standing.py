"""How many bytes of a product stand before a line: what explains why it is free, or in its tier."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from metering.billing.rating.cuts import SkuPositions
from metering.billing.rating.stretches import sales_of, stretches_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from metering.billing.rating.cuts import Cut, Positions
    from metering.billing.rating.payer_prices import PayerPrices
    from metering.billing.rating.stretches import Stretch
    from metering.billing.usage.ports import PayerUsage


class Standing(NamedTuple):
    """A payer's bytes of one product before a place, over all its accounts.

    Attributes:
        bytes: All of them that have a price.
        may_be_free_bytes: Those of them that may be free.
        free_bytes: Those of them that are.
    """

    bytes: int
    may_be_free_bytes: int
    free_bytes: int

    @property
    def paid_bytes(self) -> int:
        """The position in the tiers."""
        return self.bytes - self.free_bytes


def standing(prices: PayerPrices, usage: PayerUsage, cuts: Positions, sku: str, place: Cut) -> Standing:
    """What stands before a place, such as `Cut(hour_s)`, or `Cut(*line[:6])` of a line.

    Reads sums of days, and lines of the day, or the hour, of the place.

    Args:
        prices: What the payer pays.
        usage: The payer's usage of the month.
        cuts: The positions of the same usage.
        sku: The product. Nothing stands before anything of a product without usage.
        place: Bytes into a line count, too.
    """
    sales = sales_of(prices, usage).get(sku)
    total = eligible = 0
    if sales is not None:
        for stretch in _until(place, stretches_of(prices, usage, sales)):
            if stretch.to_s <= place.hour_s:
                total, eligible = total + stretch.bytes, eligible + stretch.eligible_bytes
                continue
            for line in stretch.lines():
                size = line.bytes if line[:6] < place[:6] else place.into_bytes if line[:6] == place[:6] else 0
                total += size
                eligible += size if prices.takes_allowance(sales.product, line.account_id, line.hour_s) else 0
    free_bytes = cuts.skus.get(sku, SkuPositions()).free_bytes
    return Standing(total, eligible, min(eligible, free_bytes))


def _until(place: Cut, stretches: Iterable[Stretch]) -> Iterator[Stretch]:
    """Stretches that begin before a place or at it, those of its day by the hour if the usage has sums of hours."""
    for stretch in stretches:
        within = stretch.from_s <= place.hour_s < stretch.to_s
        for each in (stretch.hours() if within else ()) or (stretch,):
            if each.from_s < place.hour_s or (each.from_s == place.hour_s and place.account_id):
                yield each

"""The usage of a payer's month, rated."""

from __future__ import annotations

from typing import TYPE_CHECKING

from metering.billing.rating.positions import positions
from metering.billing.rating.rater import Rater

if TYPE_CHECKING:
    from collections.abc import Iterator

    from metering.billing.rating.lines import RatedLine
    from metering.billing.rating.payer_prices import PayerPrices
    from metering.billing.usage.ports import PayerUsage


def rated_month(prices: PayerPrices, usage: PayerUsage) -> Iterator[RatedLine]:
    """All lines of the month by the hour, in the order in which the usage has them.

    Accounts add up to their payer (R9), also where they have overrides of their own: each line is priced by the cuts of
    all accounts and by the prices of its own.
    """
    return Rater(prices, positions(prices, usage)).rated(usage.lines())

"""Why usage of one hour costs what it costs: the position before it, cuts, price version, overrides, allowance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from metering.billing.prices.book import NotSold, Product
from metering.billing.rating.lines import PriceState
from metering.billing.rating.positions import positions
from metering.billing.rating.rater import Rater
from metering.billing.usage.ports import Sold
from metering.units import DAY_S

if TYPE_CHECKING:
    from collections.abc import Iterator

    from metering.billing.prices.book import Override, PriceVersion
    from metering.billing.rating.cuts import SkuPositions
    from metering.billing.rating.lines import RatedLine
    from metering.billing.usage.merged import MergedUsage
    from metering.billing.usage.ports import UsageLine
    from metering.reports.costs.source import MonthPlan


@dataclass(frozen=True, slots=True, kw_only=True)
class Inquiry:
    """What is to be explained: an account's usage of a type in one hour.

    Attributes:
        service: Empty for every service.
    """

    account_id: str
    hour_s: int
    usage_type: str
    service: str = ""

    def asks(self, line: UsageLine) -> bool:
        """Whether it is about a line."""
        return (line.hour_s, line.account_id, line.usage_type) == (self.hour_s, self.account_id, self.usage_type) and (
            not self.service or line.service == self.service
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Before:
    """Bytes of a payer's product that come before a line in the order of rating, in its month.

    Attributes:
        free: Those that an allowance made free.
        paid: The others: tiers count them.
    """

    free: int = 0
    paid: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class LineStory:
    """One line and what it costs.

    Attributes:
        found: Its product; the rule that it is not sold here; or None, if the book knows nothing of it.
        version: Prices in force in its hour.
        overrides: In force in its hour for its account, the account's own first.
        pieces: The line, split where an allowance or a tier ends in it.
        cuts: Where allowances and tiers of its product end in the month.
    """

    line: UsageLine
    found: Product | NotSold | None
    pieces: tuple[RatedLine, ...]
    before: Before = Before()
    version: PriceVersion | None = None
    overrides: tuple[Override, ...] = ()
    cuts: SkuPositions | None = None

    @property
    def exact(self) -> int:
        """Exact cost (L0)."""
        return sum(piece.exact for piece in self.pieces)


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """All lines of an inquiry.

    Attributes:
        plan: How the month is rated.
        digests: Digest of the closed month of each region that has closed it.
        regions: Whose usage counts in the positions.
    """

    inquiry: Inquiry
    payer_id: str
    plan: MonthPlan
    lines: tuple[LineStory, ...]
    digests: dict[str, str]
    regions: tuple[str, ...]

    @property
    def exact(self) -> int:
        """Exact cost (L0) of all lines."""
        return sum(line.exact for line in self.lines)


def explained(inquiry: Inquiry, plan: MonthPlan, usage: MergedUsage) -> Explanation:
    """Rate the lines of an inquiry, and find what their prices depend on.

    Args:
        inquiry: The question.
        plan: How the month of its hour is rated.
        usage: All usage of the payer in that month.

    Raises:
        UnavailableError: A region gives no answer.
    """
    prices = plan.loaded.prices(usage.payer_id)
    found_positions = positions(prices, usage)
    rater = Rater(prices, found_positions)
    mine = usage.of_accounts(frozenset([inquiry.account_id]))
    day_s = inquiry.hour_s - inquiry.hour_s % DAY_S
    sold = frozenset(
        Sold(line.service, line.usage_type)
        for line in mine.day_lines()
        if line.hour_s == day_s and line.usage_type == inquiry.usage_type
    )
    stories: list[LineStory] = []
    for line in filter(inquiry.asks, mine.lines_of(sold, day_s) if sold else ()):
        found, pieces = prices.found(Sold(line.service, line.usage_type)), tuple(rater.rate(line))
        if not isinstance(found, Product):
            stories.append(LineStory(line=line, found=found, pieces=pieces))
            continue
        stories.append(
            LineStory(
                line=line,
                found=found,
                pieces=pieces,
                before=_before(line, _same_product(found, usage), usage, rater),
                version=found.version_at(line.hour_s),
                overrides=tuple(prices.in_force(found.sku, line.account_id, line.hour_s)),
                cuts=found_positions.skus.get(found.sku),
            )
        )
    return Explanation(
        inquiry=inquiry,
        payer_id=usage.payer_id,
        plan=plan,
        lines=tuple(stories),
        digests={region.region: region.digest for region in usage.regions if region.digest},
        regions=tuple(region.region for region in usage.regions),
    )


def _same_product(product: Product, usage: MergedUsage) -> frozenset[Sold]:
    """What is sold as the product: tiers count over services."""
    return frozenset(
        sold for sold in usage.days() if sold.usage_type == product.usage_type and product.services.takes(sold.service)
    )


def _before(line: UsageLine, sold: frozenset[Sold], usage: MergedUsage, rater: Rater) -> Before:
    free = paid = 0
    for rated in _rated_before(line, sold, usage, rater):
        if rated.allowance:
            free += rated.line.bytes
        elif rated.state is PriceState.PRICED:
            # What was used before the first price has no place in the tiers.
            paid += rated.line.bytes
    return Before(free=free, paid=paid)


def _rated_before(line: UsageLine, sold: frozenset[Sold], usage: MergedUsage, rater: Rater) -> Iterator[RatedLine]:
    own_day_s = line.hour_s - line.hour_s % DAY_S
    by_hour: set[int] = {own_day_s}
    for day in usage.day_lines():
        if Sold(day.service, day.usage_type) not in sold or day.hour_s >= own_day_s:
            continue
        if any(rater.needs_hours(each, day.hour_s) for each in sold):
            by_hour.add(day.hour_s)
        else:
            yield from rater.rate(day)
    for day_s in sorted(by_hour):
        yield from rater.rated(_until(line, usage.lines_of(sold, day_s)))


def _until(line: UsageLine, lines: Iterator[UsageLine]) -> Iterator[UsageLine]:
    return (each for each in lines if each.key < line.key)

"""Usage of one product in time order, in pieces of known size; the lines of a piece are read only on request.

Within a span, the payer's prices of the product do not change. A stretch is the part of a span that lies in one day. A
day in which a span ends is read by the hour, because the day's sum does not show each span's bytes.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from metering.billing.prices.book import PriceVersion, Product
from metering.billing.usage.months import HourlyUsage, PayerUsage, Sold, UsageLine
from metering.hours import month_bounds_s
from metering.units import DAY_S, HOUR_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from metering.billing.rating.payer_prices import PayerPrices


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Hours `[from_s, to_s)` of a month in which a payer's prices of a product do not change.

    Attributes:
        takes_allowance: Whether bytes of the span may be free, except those of accounts whose own override excludes
            them.
    """

    from_s: int
    to_s: int
    version: PriceVersion
    takes_allowance: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """Usage of one product in the hours `[from_s, to_s)` of one day and one span.

    Attributes:
        eligible_bytes: Bytes that may be free.
        lines: Reads the stretch's lines, in the order of rating.
        hours: Splits a stretch of several hours if hourly sums of the usage exist; otherwise returns an empty tuple.
        late: Whether this is late usage, which is placed at the end of its span, regardless of its hours.
    """

    span: Span
    from_s: int
    to_s: int
    bytes: int
    eligible_bytes: int
    lines: Callable[[], Iterable[UsageLine]]
    hours: Callable[[], Sequence[Stretch]] = tuple
    late: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Sales:
    """Usage of one product (one usage type, one or more services) in a payer's month.

    Attributes:
        days: Bytes by day.
        by_account: Whether eligibility for free bytes depends on the account, so that daily sums are not enough.
    """

    product: Product
    spans: tuple[Span, ...]
    sold: frozenset[Sold]
    by_account: bool
    days: Mapping[int, int]

    @property
    def bounds(self) -> tuple[int, ...]:
        """Byte counts at which tiers of the month's price versions begin, in order, without 0."""
        return tuple(sorted({tier.from_bytes for span in self.spans for tier in span.version.tiers} - {0}))


def sales_in(prices: PayerPrices, month: str, days: Mapping[Sold, Mapping[int, int]]) -> dict[str, Sales]:
    """Usage of each product of the book, by SKU, from daily sums."""
    solds: dict[str, set[Sold]] = defaultdict(set)
    products: dict[str, Product] = {}
    for sold in days:
        found = prices.found(sold)
        if isinstance(found, Product):
            products[found.sku] = found
            solds[found.sku].add(sold)
    bounds_s = month_bounds_s(month)
    with_allowance = {sku for allowance in prices.book.allowances for sku in allowance.skus}
    return {
        sku: Sales(
            product=product,
            spans=spans_of(prices, product, month),
            sold=frozenset(solds[sku]),
            by_account=sku in with_allowance and prices.apart_from_allowances(sku, *bounds_s),
            days=_summed(days[sold] for sold in solds[sku]),
        )
        for sku, product in sorted(products.items())
    }


def spans_of(prices: PayerPrices, product: Product, month: str) -> tuple[Span, ...]:
    """Spans of a product in a month, in order, beginning with the product's first price."""
    first_s, after_s = month_bounds_s(month)
    begins = sorted({first_s, *(hour_s for hour_s in prices.changes(product, "") if first_s < hour_s < after_s)})
    spans = []
    for from_s, to_s in zip(begins, [*begins[1:], after_s], strict=True):
        version = product.version_at(from_s)
        if version is not None:
            takes = prices.takes_allowance(product, "", from_s)
            spans.append(Span(from_s=from_s, to_s=to_s, version=version, takes_allowance=takes))
    return tuple(spans)


def stretches_of(prices: PayerPrices, usage: PayerUsage, sales: Sales) -> list[Stretch]:
    """Usage of a product in time order, without the hours that have no price."""
    return [
        stretch
        for day_s in sorted(sales.days)
        if sales.days[day_s]
        for stretch in _DayOf(prices, usage, sales, day_s).stretches()
        if stretch.bytes
    ]


@dataclass(frozen=True, slots=True)
class _DayOf:
    prices: PayerPrices
    usage: PayerUsage
    sales: Sales
    day_s: int

    def stretches(self) -> Iterator[Stretch]:
        for span in self.sales.spans:
            from_s, to_s = max(span.from_s, self.day_s), min(span.to_s, self.day_s + DAY_S)
            if from_s < to_s:
                yield self._stretch(span, from_s, to_s)

    def _stretch(self, span: Span, from_s: int, to_s: int) -> Stretch:
        total, eligible = self._sums(span, from_s, to_s)
        return Stretch(
            span=span,
            from_s=from_s,
            to_s=to_s,
            bytes=total,
            eligible_bytes=eligible,
            lines=lambda: self._lines(from_s, to_s),
            hours=lambda: self._hours(span, from_s, to_s),
        )

    def _sums(self, span: Span, from_s: int, to_s: int) -> tuple[int, int]:
        """Total bytes, and the bytes among them that may be free."""
        if self.sales.by_account:
            return self._by_account(from_s, to_s)
        if to_s - from_s == DAY_S:
            total = self.sales.days[self.day_s]
        elif isinstance(self.usage, HourlyUsage):
            hours = self.usage.hours(self.sales.sold, self.day_s)
            total = sum(size for hour_s, size in hours.items() if from_s <= hour_s < to_s)
        else:
            total = sum(line.bytes for line in self._lines(from_s, to_s))
        return total, total if span.takes_allowance else 0

    def _by_account(self, from_s: int, to_s: int) -> tuple[int, int]:
        total = eligible = 0
        for line in self._lines(from_s, to_s):
            total += line.bytes
            if self.prices.takes_allowance(self.sales.product, line.account_id, line.hour_s):
                eligible += line.bytes
        return total, eligible

    def _lines(self, from_s: int, to_s: int) -> Iterator[UsageLine]:
        if to_s - from_s == HOUR_S and isinstance(self.usage, HourlyUsage):
            return self.usage.lines_of_hour(self.sales.sold, from_s)
        of_day = self.usage.lines_of(self.sales.sold, self.day_s)
        return (line for line in of_day if from_s <= line.hour_s < to_s)

    def _hours(self, span: Span, from_s: int, to_s: int) -> Sequence[Stretch]:
        if self.sales.by_account or to_s - from_s == HOUR_S or not isinstance(self.usage, HourlyUsage):
            return ()
        hours = self.usage.hours(self.sales.sold, self.day_s)
        return tuple(
            Stretch(
                span=span,
                from_s=hour_s,
                to_s=hour_s + HOUR_S,
                bytes=hours[hour_s],
                eligible_bytes=hours[hour_s] if span.takes_allowance else 0,
                lines=partial(self._lines, hour_s, hour_s + HOUR_S),
            )
            for hour_s in sorted(hours)
            if from_s <= hour_s < to_s
        )


def _summed(parts: Iterable[Mapping[int, int]]) -> dict[int, int]:
    days: dict[int, int] = defaultdict(int)
    for part in parts:
        for day_s, total in part.items():
            days[day_s] += total
    return dict(days)

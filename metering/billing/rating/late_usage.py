"""Late usage of a closed month, and the month's usage together with it."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from heapq import merge
from typing import TYPE_CHECKING

from metering.billing.rating.stretches import Stretch
from metering.billing.usage.merged import merged
from metering.billing.usage.ports import Sold
from metering.hours import month_bounds_s
from metering.units import DAY_S

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from metering.billing.rating.payer_prices import PayerPrices
    from metering.billing.rating.stretches import Sales
    from metering.billing.usage.ports import LineKey, PayerUsage, UsageLine


class LateUsage:
    """Late lines of one payer and one closed month; all of them are held in memory.

    Attributes:
        lines: One a key and hour, in the order of rating, without those of 0 bytes.
    """

    def __init__(self, month: str, lines: Iterable[UsageLine]) -> None:
        """Add up lines of one key and hour.

        Raises:
            ValueError: A line is of another month, or has less than 0 bytes.
        """
        first_s, after_s = month_bounds_s(month)
        sums: dict[LineKey, UsageLine] = {}
        for line in lines:
            if not first_s <= line.hour_s < after_s:
                raise ValueError(f"{line} is no usage of {month}")
            if line.bytes < 0:
                raise ValueError(f"{line} has less than 0 bytes")
            known = sums.get(line.key)
            sums[line.key] = line if known is None else line._replace(bytes=known.bytes + line.bytes)
        self.lines = tuple(sorted(line for line in sums.values() if line.bytes))

    def of(self, sold: frozenset[Sold]) -> Iterator[UsageLine]:
        """Lines of what is sold, in the order of rating."""
        return (line for each in sorted(self._by_sold) if each in sold for line in self._by_sold[each])

    def bytes_of(self, line: UsageLine) -> int:
        """Late bytes of the key and hour of a line."""
        return self._by_key.get(line.key, 0)

    def stretches(self, prices: PayerPrices, sales: Sales) -> Iterator[Stretch]:
        """Its lines of a product, one stretch a span."""
        lines = sorted(self.of(sales.sold))
        for span in sales.spans:
            of_span = [line for line in lines if span.from_s <= line.hour_s < span.to_s]
            eligible = (
                line.bytes for line in of_span if prices.takes_allowance(sales.product, line.account_id, line.hour_s)
            )
            if of_span:
                yield Stretch(
                    span=span,
                    from_s=span.from_s,
                    to_s=span.to_s,
                    bytes=sum(line.bytes for line in of_span),
                    eligible_bytes=sum(eligible),
                    lines=of_span.__iter__,
                    late=True,
                )

    @cached_property
    def _by_sold(self) -> Mapping[Sold, list[UsageLine]]:
        by: dict[Sold, list[UsageLine]] = defaultdict(list)
        for line in self.lines:
            by[Sold(line.service, line.usage_type)].append(line)
        return by

    @cached_property
    def _by_key(self) -> Mapping[LineKey, int]:
        return {line.key: line.bytes for line in self.lines}


@dataclass(frozen=True)
class Together:
    """A payer's usage and late usage of the same month, as one usage."""

    old: PayerUsage
    late: LateUsage

    @property
    def month(self) -> str:
        return self.old.month

    @cached_property
    def old_days(self) -> Mapping[Sold, Mapping[int, int]]:
        """Sums of days without late usage. They may be a pass over the month, so they are asked for once."""
        return self.old.days()

    def days(self) -> Mapping[Sold, Mapping[int, int]]:
        days = {sold: defaultdict(int, of) for sold, of in self.old_days.items()}
        for line in self.late.lines:
            of = days.setdefault(Sold(line.service, line.usage_type), defaultdict(int))
            of[line.hour_s - line.hour_s % DAY_S] += line.bytes
        return days

    def lines_of(self, sold: frozenset[Sold], day_s: int) -> Iterator[UsageLine]:
        late = sorted(line for line in self.late.of(sold) if day_s <= line.hour_s < day_s + DAY_S)
        return merged(merge(self.old.lines_of(sold, day_s), late))

    def lines(self) -> Iterator[UsageLine]:
        days = self.days()
        every = frozenset(days)
        for day_s in sorted({day_s for of in days.values() for day_s in of}):
            yield from self.lines_of(every, day_s)

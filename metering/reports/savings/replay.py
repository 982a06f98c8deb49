"""A payer's month, rated as it was and as it would be: by the same prices, tiers and allowances."""

from __future__ import annotations

import heapq
from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING

from metering.billing.rating.rater import Rater, positions, rated_by_days
from metering.billing.usage.months import MergedUsage, Sold, UsageLine, by_day, days_of, merged
from metering.errors import LedgerCorruptError
from metering.reports.costs.rows import Figures
from metering.units import DAY_S

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from metering.billing.rating.payer_prices import PayerPrices
    from metering.usage.totals import UsageType


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangedUsage:
    """A payer's usage in a month with changes (a `PayerUsage`).

    Attributes:
        of_days: All lines of the month without changes, by the day.
        changes: Lines by the hour, in the order of rating. Negative bytes are taken away.
    """

    whole: MergedUsage
    of_days: Sequence[UsageLine]
    changes: Sequence[UsageLine]

    @property
    def month(self) -> str:
        return self.whole.month

    def days(self) -> Mapping[Sold, Mapping[int, int]]:
        return days_of(self.day_lines())

    def day_lines(self) -> Iterator[UsageLine]:
        """Lines by the day.

        Raises:
            LedgerCorruptError: More bytes are taken away than there are.
        """
        return _whole(by_day(chain(self.of_days, self.changes)))

    def lines_of(self, sold: frozenset[Sold], day_s: int) -> Iterator[UsageLine]:
        """Lines of a day by the hour. Raises as `day_lines` does."""
        changes = (each for each in self.changes if each.sold in sold and day_s <= each.hour_s < day_s + DAY_S)
        return _whole(merged(heapq.merge(self.whole.lines_of(sold, day_s), changes)))


def _whole(lines: Iterable[UsageLine]) -> Iterator[UsageLine]:
    for line in lines:
        if line.bytes < 0:
            where = f"{line.usage_type} of account {line.account_id}"
            raise LedgerCorruptError(f"the causes of {where} have more bytes than its usage")
        if line.bytes:
            yield line


@dataclass(frozen=True, kw_only=True)
class Replay:
    """Rates a payer's month with changes. The month is read once."""

    prices: PayerPrices
    usage: MergedUsage

    def compared(self, changes: Iterable[UsageLine]) -> dict[UsageType, tuple[Figures, Figures]]:
        """Sums by usage type: of the month as it was, and with changes by the hour.

        Raises:
            LedgerCorruptError: More bytes are taken away than there are.
            UnavailableError: A region does not respond.
        """
        was, would = self._was, self._rated(changes)
        return {name: (was.get(name, Figures()), would.get(name, Figures())) for name in sorted({*was, *would})}

    @cached_property
    def _was(self) -> Mapping[UsageType, Figures]:
        return self._rated(())

    @cached_property
    def _days(self) -> Sequence[UsageLine]:
        return list(self.usage.day_lines())

    def _rated(self, changes: Iterable[UsageLine]) -> Mapping[UsageType, Figures]:
        usage = ChangedUsage(whole=self.usage, of_days=self._days, changes=sorted(changes))
        rater = Rater(self.prices, positions(self.prices, usage))
        sums: dict[UsageType, Figures] = defaultdict(Figures)
        for _, rated in rated_by_days(rater, {"": usage}):
            sums[rated.line.usage_type].add(rated)
        return sums

"""Costs of one payer's month line by line: of few accounts, and wherever sums are not enough."""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import TYPE_CHECKING

from metering.billing.rating.regions import regions_rated
from metering.billing.usage.ports import Sold
from metering.reports.costs.labels import Labels
from metering.reports.costs.rows import Entry
from metering.units import DAY_S

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from metering.billing.prices.book import PriceBook
    from metering.billing.rating.lines import RatedLine
    from metering.billing.rating.rater import Rater
    from metering.billing.usage.merged import MergedUsage
    from metering.billing.usage.ports import UsageLine
    from metering.reports.costs.query import CostQuery

_Part = tuple["UsageLine", str]


@dataclass(frozen=True, kw_only=True)
class PayerLines:
    """Rates the lines of one payer's month.

    Attributes:
        usage: Of the payer, or of some of its accounts.
        rater: With the positions of the whole payer.
        book: What its tiers are named by.
    """

    query: CostQuery
    usage: MergedUsage
    rater: Rater
    book: PriceBook

    def entries(self) -> Iterator[Entry]:
        """Its lines on their way into rows: a day at once where it has one price, else by the hour.

        Raises:
            UnavailableError: A region gives no answer.
        """
        hours: dict[int, set[Sold]] = {}
        for region, usage in self._parts():
            if not self.query.takes_region(region):
                continue
            labels = self.labels(region)
            for line in usage.day_lines():
                if self.needs(line) and not self._divided(line, hours):
                    for rated in self.rater.rate(line):
                        yield self.entry(rated, labels)
        for day_s, sold in sorted(hours.items()):
            yield from self._of_hours(frozenset(sold), day_s)

    def labels(self, region: str) -> Labels:
        """Names of rows, of lines in a region."""
        return Labels(self.query, self.book, payer_id=self.usage.payer_id, region=region)

    def needs(self, line: UsageLine) -> bool:
        """Whether a line of a day has to be rated at all."""
        usage = self.query.usage
        return line.hour_s < usage.to_s and line.hour_s + DAY_S > usage.from_s and self.query.takes(line)

    def entry(self, rated: RatedLine, labels: Labels) -> Entry:
        """A rated line with its values."""
        return Entry(labels.of(rated), rated)

    def _parts(self) -> Iterator[tuple[str, MergedUsage]]:
        if not self.query.by_region:
            yield "", self.usage
            return
        for region in self.usage.regions:
            yield region.region, self.usage.of_region(region)

    def _divided(self, line: UsageLine, hours: dict[int, set[Sold]]) -> bool:
        """Whether the hours of a day must be told apart; it is noted then."""
        sold = Sold(line.service, line.usage_type)
        of_day = hours.get(line.hour_s)
        if of_day is not None and sold in of_day:
            return True
        if self.query.usage.splits_day(line.hour_s) or self.rater.needs_hours(sold, line.hour_s):
            hours.setdefault(line.hour_s, set()).add(sold)
            return True
        return False

    def _of_hours(self, sold: frozenset[Sold], day_s: int) -> Iterator[Entry]:
        labels = {region: self.labels(region) for region, _ in self._parts()}
        for region, rated in self._rated(sold, day_s):
            if not self.query.takes_region(region):
                continue
            if self.query.covers(rated.line.hour_s) and self.query.takes(rated.line):
                yield self.entry(rated, labels[region])

    def _rated(self, sold: frozenset[Sold], day_s: int) -> Iterator[tuple[str, RatedLine]]:
        parts = list(self._parts())
        if len(parts) == 1:
            region, usage = parts[0]
            yield from ((region, rated) for rated in self.rater.rated(usage.lines_of(sold, day_s)))
            return
        streams = [_named(usage.lines_of(sold, day_s), region) for region, usage in parts]
        yield from regions_rated(heapq.merge(*streams), self.rater)


def _named(lines: Iterable[UsageLine], region: str) -> Iterator[_Part]:
    return ((line, region) for line in lines)

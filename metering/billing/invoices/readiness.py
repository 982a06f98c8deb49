"""What keeps a month from being invoiced, each with its cure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from metering.billing.prices.book import Product
from metering.billing.prices.matching import find
from metering.billing.usage.ports import Sold
from metering.errors import OperationFailedError
from metering.hours import month_bounds_s, month_of, rfc3339
from metering.units import DAY_S

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from metering.billing.invoices.document import Unbilled
    from metering.billing.invoices.ports import UsageSource
    from metering.billing.prices.book import PriceBook
    from metering.billing.rating.lines import UsageLine
    from metering.billing.usage.ports import RegionMonth

_TOLD = 40
_IMPORT = "Import a book that has them, or list them there as not sold: metering prices import"


class Obstacle(NamedTuple):
    """Something that keeps a month from being invoiced, and what to do about it."""

    what: str
    cure: str


class IssueRefusedError(OperationFailedError):
    """An invoice or a credit note is refused. Nothing was issued.

    Attributes:
        obstacles: All that was found.
    """

    def __init__(self, what: str, obstacles: Sequence[Obstacle]) -> None:
        told = [each.what for each in obstacles[:_TOLD]]
        more = [f"and {len(obstacles) - _TOLD} more"] if len(obstacles) > _TOLD else []
        cures = dict.fromkeys(each.cure for each in obstacles[:_TOLD])
        super().__init__(f"{what} is not issued: {'; '.join([*told, *more])}.", " ".join(cures))
        self.what = what
        self.obstacles = tuple(obstacles)

    def __reduce__(self) -> tuple[object, ...]:
        return (IssueRefusedError, (self.what, self.obstacles))


@dataclass(frozen=True, slots=True, kw_only=True)
class Readiness:
    """Looks for obstacles of a month."""

    usage: UsageSource

    def not_over(self, month: str, now_s: int) -> Iterator[Obstacle]:
        """The month has not ended."""
        first_s, after_s = month_bounds_s(month)
        if now_s < first_s:
            yield Obstacle(f"it begins on {rfc3339(first_s)}", "Name a month that has ended.")
        elif now_s < after_s:
            yield Obstacle(
                f"it ends on {rfc3339(after_s)}",
                f"Until then there are drafts: metering invoice draft --month {month}",
            )

    def unreadable(self) -> Iterator[Obstacle]:
        """Regions that give no answer: an invoice without one of them would be too small."""
        for region, why in sorted(self.usage.left_out.items()):
            yield Obstacle(f"region {region} cannot be read ({why})", "Run the command again when all regions answer.")

    def open_regions(self, month: str, closed: Mapping[str, str], *, among: Iterable[str] = ()) -> Iterator[Obstacle]:
        """Regions that have not closed a month.

        Args:
            month: The month.
            closed: Regions that have, with their digests.
            among: Regions that must have; none: all of the stage.
        """
        for region in sorted(set(among or self.usage.regions) - closed.keys() - self.usage.left_out.keys()):
            yield Obstacle(
                f"region {region} has not closed {month}",
                f"Close it, from three days after its end on: metering period close {month} --region {region}",
            )

    def unpriced(self, month: str, book: PriceBook) -> Iterator[Obstacle]:
        """Usage of the month, of whatever payer, that the book says nothing about. Reads all of it once, by the day."""
        first: dict[Sold, int] = {}
        for region in self.usage.month(month):
            for line in region.day_lines():
                sold = Sold(line.service, line.usage_type)
                first[sold] = min(first.get(sold, line.hour_s), line.hour_s)
        for sold, day_s in sorted(first.items()):
            problem = self._without_price(month, book, sold, day_s)
            if problem:
                yield Obstacle(problem, _IMPORT)

    def _without_price(self, month: str, book: PriceBook, sold: Sold, day_s: int) -> str:
        found = find(book, sold)
        named = f"{sold.service} {sold.usage_type}"
        if found is None:
            return f"{named} has no price in {book.name} version {book.version}"
        if not isinstance(found, Product):
            return ""
        begins_s = found.versions[0].from_s
        hour_s = day_s
        if day_s < begins_s < day_s + DAY_S:
            hour_s = min(_hours_of(self.usage.month(month), sold, day_s), default=begins_s)
        if hour_s >= begins_s:
            return ""
        return (
            f"{named} was used from {rfc3339(hour_s)} on, and its first price in {book.name} version {book.version} "
            f"begins on {rfc3339(begins_s)}"
        )


def _hours_of(regions: Iterable[RegionMonth], sold: Sold, day_s: int) -> Iterator[int]:
    for region in regions:
        for line in region.hour_lines(day_s=day_s, sold=frozenset([sold])):
            yield line.hour_s


def unpriced_late(lines: Iterable[UsageLine], book: PriceBook) -> Iterator[Obstacle]:
    """Late rows of earlier months without a price, by what was used."""
    for (month, sold), total in sorted(_added_up(lines).items()):
        yield Obstacle(
            f"{sold.service} {sold.usage_type} ({total:,} bytes of {month}, which came late) has no price in "
            f"{book.name} version {book.version}",
            _IMPORT,
        )


def _added_up(lines: Iterable[UsageLine]) -> dict[tuple[str, Sold], int]:
    sums: dict[tuple[str, Sold], int] = {}
    for line in lines:
        key = (month_of(line.hour_s), Sold(line.service, line.usage_type))
        sums[key] = sums.get(key, 0) + line.bytes
    return sums


def unpriced_of(invoice_id: str, found: Iterable[Unbilled]) -> Iterator[Obstacle]:
    """What an invoice would leave out because nothing is known of its price."""
    for each in found:
        yield Obstacle(
            f"{each.service} {each.usage_type} in {each.region} ({each.bytes:,} bytes of {each.month}, {invoice_id}) "
            "has no price",
            _IMPORT,
        )

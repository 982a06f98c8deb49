"""What keeps a month from being invoiced, each with its cure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from metering.billing.prices.book import Product
from metering.billing.prices.matching import find, traffic_of
from metering.billing.usage.ports import Sold
from metering.errors import OperationFailedError
from metering.hours import month_bounds_s, month_of, rfc3339
from metering.units import DAY_S
from metering.usage.network_charges import TRAFFIC

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from metering.billing.invoices.document import Invoice
    from metering.billing.invoices.ports import UsageSource
    from metering.billing.organization.payers import Organization
    from metering.billing.prices.book import PriceBook
    from metering.billing.usage.ports import UsageLine

_TOLD = 40
_IMPORT = "Import a book that has them, or list them there as not sold: metering prices import FILE… Then run it again."
_IMPORT_BESIDE = (
    "Import AWS's offers AmazonVPC and AmazonEC2 of the region, which have it (where to find them says"
    " metering prices import --help): metering prices import FILE… Then run it again."
)


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

    def unpriced(self, month: str, book: PriceBook, organization: Organization) -> dict[str, list[Obstacle]]:
        """Payers with usage of the month that the book says nothing about, and what it is.

        Reads all of the month once, by the day. Usage of the day in which a product gets its first price, and that of
        an account on the day in which its payer changes, is judged when its invoice is made.
        """
        sizes: dict[tuple[str, Sold], int] = {}
        for region in self.usage.month(month):
            for line in region.day_lines():
                sold = Sold(line.service, line.usage_type)
                if _without_price(book, sold, line.hour_s):
                    key = organization.payer_of(line.account_id, line.hour_s), sold
                    sizes[key] = sizes.get(key, 0) + line.bytes
        found: dict[str, list[Obstacle]] = {}
        for (payer_id, sold), size in sorted(sizes.items()):
            found.setdefault(payer_id, []).append(no_price(sold, f"{size:,} bytes of {month}, payer {payer_id}", book))
        return found


def _without_price(book: PriceBook, sold: Sold, day_s: int) -> bool:
    found = find(book, sold)
    return found is None or (isinstance(found, Product) and found.versions[0].from_s >= day_s + DAY_S)


def no_price(sold: Sold, what: str, book: PriceBook) -> Obstacle:
    """Usage that a book has no price for in its hour, with the command that cures it."""
    found = find(book, sold)
    first = ""
    if isinstance(found, Product):
        first = f"; its first price begins on {rfc3339(found.versions[0].from_s)}"
    return Obstacle(
        f"{sold.service} {sold.usage_type} has no price in {book.name} version {book.version} ({what}{first})",
        _IMPORT_BESIDE if traffic_of(sold.usage_type) in TRAFFIC else _IMPORT,
    )


def unpriced_late(
    lines: Iterable[UsageLine], book: PriceBook, payer_of: Callable[[UsageLine], str]
) -> dict[str, list[Obstacle]]:
    """Late rows of earlier months without a price, by payer and by what was used."""
    sums: dict[tuple[str, str, Sold], int] = {}
    for line in lines:
        key = payer_of(line), month_of(line.hour_s), Sold(line.service, line.usage_type)
        sums[key] = sums.get(key, 0) + line.bytes
    found: dict[str, list[Obstacle]] = {}
    for (payer_id, month, sold), total in sorted(sums.items()):
        what = f"{total:,} bytes of {month}, which came late, payer {payer_id}"
        found.setdefault(payer_id, []).append(no_price(sold, what, book))
    return found


def unpriced_of(invoice: Invoice, book: PriceBook) -> Iterator[Obstacle]:
    """What a document would leave out because nothing is known of its price."""
    for each in invoice.unpriced:
        what = f"{each.bytes:,} bytes of {each.month} in {each.region}, {invoice.id}"
        yield no_price(Sold(each.service, each.usage_type), what, book)

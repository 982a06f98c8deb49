"""A stage's billing in memory: usage in lists, versions of price books, and a home region with bucket and ledger."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from metering.billing.invoices.composing import Charge, Composer, Tally, region_of, unbilled
from metering.billing.invoices.credits import Crediting, Verification
from metering.billing.invoices.document import Invoice, InvoiceStore
from metering.billing.invoices.inputs import BookPin, Inputs, Pin, Rates, RateShelf
from metering.billing.invoices.issuing import Asked, Issued, Issuer
from metering.billing.invoices.planning import Planner
from metering.billing.organization import OrganizationStore
from metering.billing.payers import Payer
from metering.billing.prices.store import AllBooks, OverrideStore, PriceStore
from metering.billing.rating.corrections import corrected
from metering.billing.rating.payer_prices import PayerPrices, RatedLine
from metering.billing.rating.rater import rated_month
from metering.hours import month_bounds_s
from metering.reports.exports.exporting import ExportSource
from metering.stores.clock import Retrier
from tests.support.memory.clock import ManualClock, SeededEntropy
from tests.support.memory.items import MemoryItemStore
from tests.support.memory.objects import MemoryObjectStore
from tests.support.priced import US_TIERS, ListedUsage, MemoryMonth, allowance, book, product
from tests.support.small_world import Calls

if TYPE_CHECKING:
    from metering.billing.prices.book import Override, PriceBook
    from metering.billing.usage.months import RegionMonth, UsageLine

MONTH = "2026-11"
NEXT = "2026-12"
PAYER = "111111111111"
OUT = "DataTransfer-Out-Bytes"
SAO_PAULO = "SAE1-DataTransfer-Out-Bytes"
REGIONS = ("sa-east-1", "us-east-1")


def aws_list(price: str = "0.09") -> PriceBook:
    """A price book of two regions that share an allowance."""
    tiers = (("10240", price), *US_TIERS[1:])
    sold = (product("OUTUSE1", OUT, tiers), product("OUTSAE1", SAO_PAULO, ((None, "0.15"),)))
    return replace(book(sold, allowance("100", "OUTSAE1", "OUTUSE1")), name="aws-list")


class MemoryUsage:
    """A `UsageSource`. Mutable."""

    def __init__(self, regions: Sequence[str] = REGIONS) -> None:
        self.regions = tuple(regions)
        self.lines: dict[tuple[str, str], list[UsageLine]] = {}
        self.late: dict[tuple[str, str], list[UsageLine]] = {}
        self.digests: dict[tuple[str, str], str] = {}
        self.left_out: Mapping[str, str] = {}
        self.damaged: list[str] = []

    def month(self, month: str) -> Sequence[RegionMonth]:
        return [
            MemoryMonth(
                region=region,
                month=month,
                usage=tuple(self.lines.get((month, region), ())),
                late_lines=tuple(self.late.get((month, region), ())),
                digest=self.digests.get((month, region), ""),
            )
            for region in self.regions
            if region not in self.left_out
        ]

    def damages(self, month: str) -> Iterator[str]:
        return (each for each in self.damaged if month in each)


class BillingWorld:
    """One stage."""

    def __init__(self, *, now_s: int | None = None, prices: PriceBook | None = None) -> None:
        self.calls = Calls()
        now_s = month_bounds_s(MONTH)[1] + 4 * 86_400 if now_s is None else now_s
        self.clock = ManualClock(1000 * now_s)
        self.objects = MemoryObjectStore(self.clock, on_call=self._on_call, on_reply=self._on_reply)
        self.items = MemoryItemStore(on_call=self._on_call, on_reply=self._on_reply)
        self.usage = MemoryUsage()
        self.books = PriceStore(self.objects)
        self.overrides = OverrideStore(self.objects)
        self.organizations = OrganizationStore(self.objects)
        self.store = InvoiceStore(self.objects)
        self.books.put(prices or aws_list())

    def _on_call(self, name: str) -> None:
        self.calls.on_call(name)

    def _on_reply(self, name: str) -> None:
        self.calls.on_reply(name)

    def use(self, *lines: UsageLine, month: str = MONTH, region: str = "us-east-1") -> None:
        self.usage.lines.setdefault((month, region), []).extend(lines)

    def come_late(self, *lines: UsageLine, booked: str = NEXT, region: str = "us-east-1") -> None:
        """Book late usage of one month in a later month."""
        self.usage.late.setdefault((booked, region), []).extend(lines)

    def close(self, month: str, *regions: str) -> None:
        """Close a month in the named regions (default: all regions)."""
        for region in regions or self.usage.regions:
            self.usage.digests[month, region] = f"digest of {month} in {region}"

    def pass_month(self, month: str) -> None:
        """Set the clock to four days after the end of a month."""
        self.clock.advance_s(month_bounds_s(month)[1] + 4 * 86_400 - self.clock.now_ms() // 1000)

    def issue_next(self, month: str = NEXT) -> None:
        """Close a month that has ended, and issue its invoices."""
        self.close(month)
        self.pass_month(month)
        self.issue(Asked(month=month))

    @property
    def issuer(self) -> Issuer:
        """The issuer, as in a new process without caches."""
        books = AllBooks(imported=self.books)
        shelf = RateShelf(books=books, overrides=self.overrides, organizations=self.organizations)
        composer = Composer(usage=self.usage, shelf=shelf)
        return Issuer(
            store=self.store,
            items=self.items,
            composer=composer,
            planner=Planner(store=self.store, composer=composer),
            clock=self.clock,
            retrier=Retrier(clock=self.clock, entropy=SeededEntropy(1), attempts=3),
        )

    @property
    def crediting(self) -> Crediting:
        return Crediting(issuer=self.issuer)

    def issue(self, asked: Asked) -> list[Issued]:
        return list(self.issuer.issue(asked))

    def verify(self, invoice_id: str) -> list[str]:
        issuer = self.issuer
        return Verification(issuer=issuer, crediting=Crediting(issuer=issuer)).verify(invoice_id)


Rated = Sequence[tuple[str, Sequence["RatedLine"]]]
"""Rated lines by month of use."""

ACME = Payer(payer_id="123456789012", name="Acme", issuer="Example Metering")


def inputs_of(book: PriceBook, months: Iterable[str]) -> Inputs:
    """Invoice inputs: a price book, and a closed month in one region."""
    pin = BookPin(name=book.name, version=book.version, sha256=book.sha256)
    rates = Rates(book=pin, overrides=Pin(), organization=Pin())
    return Inputs(
        engine=1,
        closed={month: {"us-east-1": "ab" * 32} for month in months},
        rates=dict.fromkeys(months, rates),
        billed={},
    )


def document_of(
    rated: Sequence[tuple[str, Sequence[RatedLine]]],
    month: str,
    book: PriceBook,
    *,
    payer: Payer = ACME,
    draft: bool = False,
) -> Invoice:
    tally = Tally()
    for of_month, lines in rated:
        tally.add(of_month, lines)
    own, corrections = tally.lines(month)
    return Invoice(
        kind="invoice",
        payer_id=payer.payer_id,
        payer_name=payer.name,
        issuer=payer.issuer,
        currency=payer.currency,
        month=month,
        number=1,
        billing_month=month,
        inputs=inputs_of(book, [of_month for of_month, _ in rated]),
        lines=own,
        corrections=corrections,
        unrated=unbilled(tally.unrated),
        unpriced=unbilled(tally.unpriced),
        draft=draft,
    )


def charges_of(rated: Rated, document: Invoice, *, payer: Payer = ACME) -> list[Charge]:
    return [
        Charge(payer, line, document.id, region_of(line.line), document.billing_month, month != document.month)
        for month, lines in rated
        for line in lines
    ]


def billed(
    book: PriceBook,
    usage: Iterable[UsageLine],
    month: str,
    *,
    earlier: tuple[str, Sequence[UsageLine], Sequence[UsageLine]] | None = None,
    overrides: tuple[Override, ...] = (),
    draft: bool = False,
) -> ExportSource:
    """A rated month of the payer, with its invoice. `earlier` is a closed month, its usage, and its late usage."""
    prices = PayerPrices(book, ACME.payer_id, overrides)
    rated = [(month, list(rated_month(prices, ListedUsage(usage, month))))]
    if earlier is not None:
        corrects, closed, late = earlier
        rated.append((corrects, list(corrected(prices, ListedUsage(closed, corrects), late))))
    document = document_of(rated, month, book, draft=draft)
    charges = charges_of(rated, document)
    return ExportSource(charges=[(charge, "") for charge in charges], invoices=[document], books=[book])

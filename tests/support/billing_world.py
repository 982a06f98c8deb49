"""A stage's billing in memory: usage in lists, versions of price books, and a home region with bucket and ledger."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from metering.billing.invoices.composing import Composer
from metering.billing.invoices.credits import Crediting, Verification
from metering.billing.invoices.document import InvoiceStore
from metering.billing.invoices.inputs import RateShelf
from metering.billing.invoices.issuing import Asked, Issued, Issuer
from metering.billing.invoices.planning import Planner
from metering.billing.organization import OrganizationStore
from metering.billing.prices.store import AllBooks, OverrideStore, PriceStore
from metering.hours import month_bounds_s
from metering.stores.clock import Retrier
from tests.support.memory.clock import ManualClock
from tests.support.memory.entropy import SeededEntropy
from tests.support.memory.items import MemoryItemStore
from tests.support.memory.objects import MemoryObjectStore
from tests.support.month_usage import MemoryMonth
from tests.support.priced import US_TIERS, allowance, book, product
from tests.support.small_world import Calls

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from metering.billing.prices.book import PriceBook
    from metering.billing.usage.months import RegionMonth, UsageLine

MONTH = "2026-11"
NEXT = "2026-12"
PAYER = "111111111111"
OUT = "DataTransfer-Out-Bytes"
SAO_PAULO = "SAE1-DataTransfer-Out-Bytes"
REGIONS = ("sa-east-1", "us-east-1")


def aws_list(price: str = "0.09") -> PriceBook:
    """A book of two regions with an allowance over both."""
    tiers = (("10240", price), *US_TIERS[1:])
    sold = (product("OUTUSE1", OUT, tiers), product("OUTSAE1", SAO_PAULO, ((None, "0.15"),)))
    return replace(book(sold, allowance("100", "OUTSAE1", "OUTUSE1")), name="aws-list")


class MemoryUsage:
    """A `UsageSource`. Mutable.

    Attributes:
        lines: (month, region) -> usage.
        late: (month that books it, region) -> late usage at its own hours.
        digests: (month, region) -> digest, of closed months.
        left_out: Unreadable regions.
    """

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
    """One stage.

    Attributes:
        calls: Numbers the calls to the home region's stores, and lets some fail.
    """

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
        """Book usage of an earlier month in another one."""
        self.usage.late.setdefault((booked, region), []).extend(lines)

    def close(self, month: str, *regions: str) -> None:
        """Close a month in the named regions, by default in all."""
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
        """The issuer of a new process that has loaded nothing yet."""
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

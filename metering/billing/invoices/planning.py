"""Inputs of an invoice: closed months, and the rates of the invoice's month and of the months that it corrects."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from metering.billing.invoices import composing, document
from metering.billing.invoices.inputs import ENGINE_VERSION, Inputs, Rates
from metering.billing.prices import difference
from metering.billing.prices.book import NotSold, PriceBook
from metering.billing.rating.payer_prices import find, is_unpriced
from metering.billing.usage.months import Sold, UsageLine
from metering.hours import month_bounds_s, month_of, months_between
from metering.usage.totals import Service, UsageType


@dataclass(frozen=True, slots=True, kw_only=True)
class Planner:
    """Finds the inputs of invoices."""

    store: document.InvoiceStore
    composer: composing.Composer
    # A month's corrections are read once for all payers, so that all payers have the same state.
    _corrected: dict[str, list[str]] = field(default_factory=dict)

    def shared(self, month: str, rates: Rates) -> Inputs:
        """Inputs that all invoices of a month would share as of now; this call does not fix them."""
        return Inputs(engine=ENGINE_VERSION, closed={month: self.closed(month)}, rates={month: rates}, billed={})

    def of(self, subject: composing.Subject, shared: Inputs) -> Inputs:
        """Inputs of a payer's invoice: the shared inputs, and the inputs of the payer's corrections."""
        rates, closed = dict(shared.rates), dict(shared.closed)
        for month in self.corrected_months(subject.month):
            found = self.rates_of_correction(subject, month, shared.rates[subject.month])
            if found is None:
                continue
            rates[month] = found
            for each in (month, *months_between(month, subject.month)):
                closed[each] = self.closed(each)
        return replace(shared, closed=closed, rates=rates)

    def longer(self, month: str, shared: Inputs) -> Inputs | None:
        """Shared inputs with the newest version of the price book, if that version only adds prices.

        None if no newer version exists, or if the version changes prices that earlier documents may have used.
        """
        shelf, own = self.composer.shelf, shared.rates[month]
        newest = shelf.newest(own.book.name)
        if newest.book == own.book:
            return None
        rates = replace(own, book=newest.book)
        if not _only_longer(shelf.load(own).book, shelf.load(rates).book, month):
            return None
        return replace(shared, rates={**shared.rates, month: rates})

    def payer_of_late(self, rates: Rates, line: UsageLine) -> str:
        """The payer of a late row, according to the organization of the row's month of use."""
        shared = self.store.inputs(corrects := month_of(line.hour_s))
        of = rates if shared is None else shared.rates[corrects]
        return self.composer.shelf.load(of).organization.payer_of(line.account_id, line.hour_s)

    def payers(self, month: str, rates: Rates) -> Iterator[str]:
        """Payers with usage of a month, or with corrections that are booked in the month, in order."""
        found = set(self.composer.booked_in(month, rates).payers())
        found.update(self.payer_of_late(rates, line) for line in self._late(month))
        return iter(sorted(found))

    def corrected_months(self, month: str) -> list[str]:
        known = self._corrected.get(month)
        if known is None:
            known = self._corrected[month] = sorted({month_of(line.hour_s) for line in self._late(month)})
        return known

    def rates_of_correction(self, subject: composing.Subject, corrects: str, own: Rates) -> Rates | None:
        """Rates of a payer's late rows for an earlier month; None if there are no such rows.

        The rates come from the payer's newest document about that month, so that invoice, credit notes and corrections
        together equal one rating of the month. The organization is that of the corrected month. If the document's price
        book lacks a product, the product was never billed: the rates are then those of the booking month.

        Args:
            subject: Payer, and the month in which the rows are booked.
            corrects: The month of use.
            own: Rates of the month in which the rows are booked.
        """
        shared = self.store.inputs(corrects)
        rates = own if shared is None else shared.rates[corrects]
        newest = None if shared is None else self.newest(subject.payer_id, corrects)
        if newest is not None:
            rates = replace(newest.invoice.inputs.rates[corrects], organization=rates.organization)
        late = self.composer.late(subject, corrects, rates)
        if not late:
            return None
        book = self.composer.shelf.load(rates).book
        if any(is_unpriced(book, line.sold, line.hour_s) for line in late):
            return replace(own, organization=rates.organization)
        return rates

    def newest(self, payer_id: str, month: str) -> document.Stored | None:
        found, number = None, document.INVOICE_NUMBER
        while (one := self.store.find(month, payer_id, number)) is not None:
            found, number = one, number + 1
        return found

    def unpriced_late(self, month: str, rates: Rates) -> Iterator[UsageLine]:
        """Late rows that have no price, neither in the rates of their own month nor in those of the booking month."""
        book = self.composer.shelf.load(rates).book
        for line in self._late(month):
            if is_unpriced(book, line.sold, line.hour_s):
                shared = self.store.inputs(corrects := month_of(line.hour_s))
                own = None if shared is None else self.composer.shelf.load(shared.rates[corrects]).book
                if own is None or is_unpriced(own, line.sold, line.hour_s):
                    yield line

    def closed(self, month: str) -> Mapping[str, str]:
        """Digest of the closed month, by region. Regions that were added after the first invoice are omitted."""
        shared = self.store.inputs(month)
        known = None if shared is None else shared.closed[month]
        return {
            each.region: each.digest
            for each in self.composer.usage.month(month)
            if each.digest and (known is None or each.region in known)
        }

    def _late(self, month: str) -> Iterator[UsageLine]:
        for region in self.composer.usage.month(month):
            yield from (late.line for late in region.late())


def _only_longer(before: PriceBook, after: PriceBook, month: str) -> bool:
    """Whether a later version of a price book changes nothing for usage of a month."""
    changed_s = difference.reprices_from(before, after)
    if changed_s is not None and changed_s < month_bounds_s(month)[1]:
        return False
    if not before.by_sku.keys() <= after.by_sku.keys() or not set(before.not_sold) <= set(after.not_sold):
        return False
    new = (product for sku, product in after.by_sku.items() if sku not in before.by_sku)
    return not any(
        isinstance(find(before, Sold(Service(""), UsageType(product.usage_type))), NotSold) for product in new
    )

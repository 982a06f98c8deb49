"""An invoice of its inputs: the same inputs give the same document, whoever asks, whenever, and however often."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from metering.billing.invoices.document import INVOICE_NUMBER, Invoice
from metering.billing.invoices.tally import Tally, unbilled
from metering.billing.rating.corrections import corrected
from metering.billing.rating.late_usage import LateUsage, Together
from metering.billing.rating.months import rated_month
from metering.billing.rating.positions import positions
from metering.billing.rating.rater import Rater
from metering.billing.usage.months import MonthUsage
from metering.billing.usage.ports import Sold
from metering.hours import months_between
from metering.units import DAY_S

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from metering.billing.invoices.inputs import Inputs, Rates
    from metering.billing.invoices.ports import UsageSource
    from metering.billing.invoices.rates import RateShelf
    from metering.billing.rating.lines import RatedLine
    from metering.billing.rating.payer_prices import PayerPrices
    from metering.billing.usage.merged import MergedUsage
    from metering.billing.usage.ports import UsageLine


class Subject(NamedTuple):
    """Whose invoice of which month."""

    payer_id: str
    month: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Composer:
    """Makes invoices of inputs. It decides nothing: what is open, missing or unpriced is in what it makes."""

    usage: UsageSource
    shelf: RateShelf

    def invoice(self, subject: Subject, inputs: Inputs, *, draft: bool = False) -> Invoice:
        """The invoice of a payer's month.

        Raises:
            InputChangedError: What was pinned is not what is there.
            MeteringError: An input is missing or damaged; the error names it.
        """
        tally = Tally()
        for month, rated in self.rated(subject, inputs, hours=False):
            tally.add(month, rated)
        lines, corrections = tally.lines(subject.month)
        organization = self.shelf.load(inputs.rates[subject.month]).organization
        payer = organization.payer(subject.payer_id)
        return Invoice(
            kind="invoice",
            payer_id=subject.payer_id,
            payer_name=payer.name,
            issuer=payer.issuer,
            currency=payer.currency,
            month=subject.month,
            number=INVOICE_NUMBER,
            billing_month=subject.month,
            inputs=inputs,
            lines=lines,
            corrections=corrections,
            accounts=tally.accounts((*lines, *corrections), organization.names),
            unrated=unbilled(tally.unrated),
            unpriced=unbilled(tally.unpriced),
            draft=draft,
        )

    def late(self, subject: Subject, corrects: str, rates: Rates) -> tuple[UsageLine, ...]:
        """Rows of a payer that its month books for an earlier one."""
        booked = self.booked_in(subject.month, rates).corrections(subject.payer_id)
        return LateUsage(corrects, (each.line for each in booked if each.month == corrects)).lines

    def rated(self, subject: Subject, inputs: Inputs, *, hours: bool) -> Iterator[tuple[str, Iterable[RatedLine]]]:
        """The month itself, then those that it corrects, in order; each with its rated lines.

        Args:
            subject: Whose invoice.
            inputs: What it is made of.
            hours: Every line by the hour; else by the day where that says the same.
        """
        rates = inputs.rates[subject.month]
        own = self.booked_in(subject.month, rates).of(subject.payer_id)
        prices = self.shelf.load(rates).prices(subject.payer_id)
        yield subject.month, rated_month(prices, own) if hours else rated_by_days(prices, own)
        for corrects in sorted(inputs.rates.keys() - {subject.month}):
            yield corrects, self.correction(subject, corrects, inputs.rates[corrects])

    def correction(self, subject: Subject, corrects: str, rates: Rates) -> Iterator[RatedLine]:
        """What a payer's month has to bill about an earlier month, beside what was billed for that before."""
        before = (
            each.line
            for month in months_between(corrects, subject.month)
            for each in self.booked_in(month, rates).corrections(subject.payer_id)
            if each.month == corrects
        )
        frozen = self.booked_in(corrects, rates).of(subject.payer_id)
        prices = self.shelf.load(rates).prices(subject.payer_id)
        billed = Together(frozen, LateUsage(corrects, before))
        return corrected(prices, billed, self.late(subject, corrects, rates))

    def booked_in(self, month: str, rates: Rates) -> MonthUsage:
        """Usage that a month books, with the payers of some rates."""
        organization = self.shelf.load(rates).organization
        return MonthUsage(regions=self.usage.month(month), month=month, organization=organization)


def rated_by_days(prices: PayerPrices, usage: MergedUsage) -> Iterator[RatedLine]:
    """The month's rated lines, by the day where the whole day has one price, and by the hour elsewhere.

    They add up to what `rated_month` gives, and are up to 24 times fewer.
    """
    rater = Rater(prices, positions(prices, usage))
    by_hour: dict[int, set[Sold]] = {}
    for line in usage.day_lines():
        sold, day_s = Sold(line.service, line.usage_type), line.hour_s - line.hour_s % DAY_S
        if rater.needs_hours(sold, day_s):
            by_hour.setdefault(day_s, set()).add(sold)
        else:
            yield from rater.rate(line)
    for day_s, wanted in sorted(by_hour.items()):
        yield from rater.rated(usage.lines_of(frozenset(wanted), day_s))

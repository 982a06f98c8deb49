"""Makes an invoice from its inputs: the same inputs always give the same document."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from metering.billing import money
from metering.billing.invoices.document import (
    INVOICE_NUMBER,
    NO_SHARE,
    AccountDetail,
    Invoice,
    InvoiceLine,
    InvoiceStore,
    LineKey,
    PricePart,
    Share,
    Unbilled,
)
from metering.billing.rating.corrections import LateUsage, Together, corrected
from metering.billing.rating.payer_prices import PayerPrices, PriceState, RatedLine
from metering.billing.rating.rater import Rater, positions, rated_by_days, rated_month
from metering.billing.usage.months import Correction, MergedUsage, MonthUsage, UsageLine
from metering.hours import months_between
from metering.usage import usage_types

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from metering.billing.invoices.inputs import Inputs, Rates, RateShelf, UsageSource
    from metering.billing.payers import Payer
    from metering.usage.totals import Service, UsageType

    _Priced = tuple[MergedUsage, PayerPrices]

GLOBAL_REGION = "global"
"""Region of usage that is in none, such as that of an edge of CloudFront."""
_REGION_NAME = re.compile(r"[a-z]{2,}(-[a-z]+)+-[0-9]+(?=-)")
# Usage types that have no region prefix in AWS's us-east-1.
_BARE = ("DataTransfer-", "C3DataTransfer-", "CloudFront-", "Unclassified-")
_BARE_REGION = "us-east-1"
# Producers may invent any number of usage types.
_REMEMBERED = 4_096


class Charge(NamedTuple):
    """One rated line of an invoice, a draft or a credit note.

    Attributes:
        rated: The line. In a credit note: the billed line with negative bytes, or the corrected line.
        invoice_id: Id of the document that bills the line; for a draft, the id that the document will have.
        region: As `region_of` gives it.
        billing_month: Month in which the line is booked, `2026-11`. For a correction or a credit note, this month is
            later than the month of use.
        corrects: Whether the line corrects a closed month: FOCUS's ChargeClass is `Correction`.
        credit_of: Id of the invoice that a credit note corrects; empty for an invoice.
    """

    payer: Payer
    rated: RatedLine
    invoice_id: str
    region: str
    billing_month: str
    corrects: bool
    credit_of: str = ""


def region_of(line: UsageLine) -> str:
    """The region in which a line is billed, from its usage type or, failing that, from its locations."""
    if line.service != usage_types.CLOUDFRONT_SERVICE:
        named = _named_region(line.usage_type)
        if named:
            return named
    sides = (location.partition("/")[0] for location in (line.from_location, line.to_location))
    return next(filter(usage_types.is_region, sides), GLOBAL_REGION)


@lru_cache(maxsize=_REMEMBERED)
def _named_region(usage_type: str) -> str:
    prefixed = _regions().get(usage_type.partition("-")[0])
    if prefixed:
        return prefixed
    # If the region has no known prefix, the region's name replaces the prefix.
    spelled = _REGION_NAME.match(usage_type)
    if spelled:
        return spelled.group()
    return _BARE_REGION if usage_type.startswith(_BARE) else ""


@cache
def _regions() -> Mapping[str, str]:
    return {prefix: region for region, prefix in usage_types.billing_prefixes().items()}


class LineSums:
    """Sums of one invoice line: bytes by (price, list price), usage types, first and last hour of use. Mutable."""

    __slots__ = ("hours", "parts", "usage_types")

    def __init__(self) -> None:
        self.parts: dict[tuple[int, int], int] = {}
        self.usage_types: set[str] = set()
        self.hours: tuple[int, int] | None = None

    def add(self, rated: RatedLine) -> None:
        line, price = rated.line, (rated.price, rated.list_price)
        self.parts[price] = self.parts.get(price, 0) + line.bytes
        self.usage_types.add(line.usage_type)
        first_s, last_s = self.hours or (line.hour_s, line.hour_s)
        self.hours = (min(first_s, line.hour_s), max(last_s, line.hour_s))


class Tally:
    """Adds up rated lines. Mutable.

    Attributes:
        unrated, unpriced: Bytes by (month, region, service, usage type).
    """

    def __init__(self) -> None:
        self.sums: dict[LineKey, LineSums] = {}
        self.shares: dict[tuple[str, LineKey], Share] = {}
        self.unrated: dict[tuple[str, str, Service, UsageType], int] = defaultdict(int)
        self.unpriced: dict[tuple[str, str, Service, UsageType], int] = defaultdict(int)

    def add(self, month: str, rated: Iterable[RatedLine]) -> None:
        for each in rated:
            line = each.line
            region = region_of(line)
            if each.state is not PriceState.PRICED:
                into = self.unrated if each.state is PriceState.UNRATED else self.unpriced
                into[month, region, line.service, line.usage_type] += line.bytes
                continue
            key = LineKey(month, region, each.sku, each.rate_code, each.allowance)
            sums = self.sums.get(key)
            if sums is None:
                sums = self.sums[key] = LineSums()
            sums.add(each)
            before = self.shares.get((line.account_id, key), NO_SHARE)
            self.shares[line.account_id, key] = before.plus(line.bytes, each.exact)

    def lines(self, month: str) -> tuple[tuple[InvoiceLine, ...], tuple[InvoiceLine, ...]]:
        """Lines of the invoice's month, and of the months that it corrects; empty lines are omitted.

        If bytes only move between accounts, the line has 0 bytes and a share for each account.
        """
        made = [_line(key, sums, own=key.month == month) for key, sums in sorted(self.sums.items())]
        shared = {key for (_, key), share in self.shares.items() if share != NO_SHARE}
        kept = [line for line in made if line.parts or line.key in shared]
        own = tuple(line for line in kept if line.month == month)
        return own, tuple(line for line in kept if line.month != month)

    def accounts(self, lines: Iterable[InvoiceLine], names: Mapping[str, str]) -> tuple[AccountDetail, ...]:
        places = {line.key: place for place, line in enumerate(lines)}
        by_account: dict[str, list[Share]] = defaultdict(list)
        for (account_id, key), share in self.shares.items():
            if key in places and share != NO_SHARE:
                by_account[account_id].append(share._replace(line=places[key]))
        return tuple(
            AccountDetail(account_id=account_id, name=names.get(account_id, ""), shares=tuple(sorted(shares)))
            for account_id, shares in sorted(by_account.items())
        )


def unbilled(sums: Mapping[tuple[str, str, Service, UsageType], int]) -> tuple[Unbilled, ...]:
    """Usage without a price, sorted; sums of 0 are omitted."""
    return tuple(Unbilled(*key, total) for key, total in sorted(sums.items()) if total)


def _line(key: LineKey, sums: LineSums, *, own: bool) -> InvoiceLine:
    parts = tuple(PricePart(*price, total) for price, total in sorted(sums.parts.items()) if total)
    return InvoiceLine(
        **key._asdict(),
        usage_types=tuple(sorted(sums.usage_types)),
        parts=parts,
        cents=money.cents_of(sum(part.bytes * part.price for part in parts)),
        hours=None if own else sums.hours,
    )


_Part = TypeVar("_Part", bound=tuple[int | str, ...])


class Subject(NamedTuple):
    """Identity of an invoice: its payer and month."""

    payer_id: str
    month: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Composer:
    """Makes invoices of inputs. A composer decides nothing: the invoice records what is open, missing or unpriced."""

    usage: UsageSource
    shelf: RateShelf

    def invoice(self, subject: Subject, inputs: Inputs, *, draft: bool = False) -> Invoice:
        """The invoice of a payer's month.

        Raises:
            InputChangedError: A pinned input has changed.
            MeteringError: An input is missing or damaged; the error names the input.
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
        """A payer's late rows for the earlier month `corrects`, booked in the subject's month."""
        return LateUsage(corrects, (each.line for each in self._late(subject, corrects, rates))).lines

    def rated(self, subject: Subject, inputs: Inputs, *, hours: bool) -> Iterator[tuple[str, Iterable[RatedLine]]]:
        """Rated lines of the subject's month, then of each month that it corrects, in order.

        Args:
            subject: Payer and month.
            inputs: Its inputs.
            hours: Whether to rate all lines by hour; otherwise they are rated by day where the cost is the same.
        """
        own, prices = self.priced(subject.payer_id, subject.month, inputs.rates[subject.month])
        if hours:
            yield subject.month, rated_month(prices, own)
        else:
            by_days = rated_by_days(Rater(prices, positions(prices, own)), {"": own})
            yield subject.month, (rated for _, rated in by_days)
        for corrects in sorted(inputs.rates.keys() - {subject.month}):
            yield corrects, self.correction(subject, corrects, inputs.rates[corrects])

    def correction(self, subject: Subject, corrects: str, rates: Rates) -> Iterator[RatedLine]:
        """Rated lines of a payer's correction of an earlier month, rated after all lines that were billed before."""
        return (rated for _, _, rated in self.correction_parts(subject, corrects, rates, lambda _late: ()))

    def correction_parts(
        self, subject: Subject, corrects: str, rates: Rates, part_of: Callable[[Correction], _Part]
    ) -> Iterator[tuple[_Part, int, RatedLine]]:
        """`correction` in parts, each rated after the previous parts: yields (part, first booking hour, line)."""
        parts: dict[_Part, list[Correction]] = defaultdict(list)
        for each in self._late(subject, corrects, rates):
            parts[part_of(each)].append(each)
        frozen = self.booked_in(corrects, rates).of(subject.payer_id)
        prices = self.shelf.load(rates).prices(subject.payer_id)
        before = [
            each.line
            for month in months_between(corrects, subject.month)
            for each in self._late(Subject(subject.payer_id, month), corrects, rates)
        ]
        for part, late in sorted(parts.items(), key=lambda item: item[0]):
            lines = [each.line for each in late]
            billed = Together(frozen, LateUsage(corrects, before))
            for rated in corrected(prices, billed, lines):
                yield part, min(each.booked_s for each in late), rated
            before += lines

    def _late(self, subject: Subject, corrects: str, rates: Rates) -> Iterator[Correction]:
        booked = self.booked_in(subject.month, rates).corrections(subject.payer_id)
        return (each for each in booked if each.month == corrects)

    def priced(self, payer_id: str, month: str, rates: Rates) -> _Priced:
        """A payer's usage of a month, and its prices."""
        return self.booked_in(month, rates).of(payer_id), self.shelf.load(rates).prices(payer_id)

    def booked_in(self, month: str, rates: Rates) -> MonthUsage:
        """Usage booked in a month, assigned to payers by the organization of `rates`."""
        organization = self.shelf.load(rates).organization
        return MonthUsage(regions=self.usage.month(month), month=month, organization=organization)


def charges(document: Invoice, composer: Composer, store: InvoiceStore) -> Iterator[Charge]:
    """The charges of an invoice, a draft or a credit note.

    A credit note has, for each difference, the billed lines with negative bytes, and the correct lines.

    Raises:
        InvoiceMissingError: A document that precedes a credit note no longer exists.
        MeteringError: As `Composer.invoice` does.
    """
    subject = Subject(document.payer_id, document.month)
    payer = composer.shelf.load(document.inputs.rates[document.month]).organization.payer(document.payer_id)
    if document.kind == "credit":
        before = store.find(document.month, document.payer_id, document.number - 1)
        billed = document.inputs if before is None else before.invoice.inputs
        rated = _changes(composer, subject, billed, document.inputs)
    else:
        rated = composer.rated(subject, document.inputs, hours=True)
    for month, lines in rated:
        corrects = document.kind == "credit" or month != document.month
        for each in lines:
            yield Charge(
                payer=payer,
                rated=each,
                invoice_id=document.id,
                region=region_of(each.line),
                billing_month=document.billing_month,
                corrects=corrects,
                credit_of=document.credit_of,
            )


def _changes(
    composer: Composer, subject: Subject, billed: Inputs, right: Inputs
) -> Iterator[tuple[str, Iterable[RatedLine]]]:
    sides = [composer.priced(*subject, inputs.rates[subject.month]) for inputs in (billed, right)]
    yield subject.month, _own_changes(*sides)
    for month in sorted((billed.rates.keys() | right.rates.keys()) - {subject.month}):
        if billed.rates.get(month) == right.rates.get(month):
            continue
        for inputs, back in ((billed, True), (right, False)):
            if month in inputs.rates:
                lines = composer.correction(subject, month, inputs.rates[month])
                yield month, map(_taken_back, lines) if back else lines


def _own_changes(billed: _Priced, right: _Priced) -> Iterator[RatedLine]:
    old, new = billed[0], right[0]
    old_rater, new_rater = (Rater(prices, positions(prices, usage)) for usage, prices in (billed, right))
    for line in new.lines():
        now = tuple(new_rater.rate(line))
        before = tuple(old_rater.rate(line)) if old.pays_for(line.account_id, line.hour_s) else ()
        if now != before:
            yield from map(_taken_back, before)
            yield from now
    for line in old.lines():
        # Lines of accounts that now have a different payer.
        if not new.pays_for(line.account_id, line.hour_s):
            yield from map(_taken_back, old_rater.rate(line))


def _taken_back(rated: RatedLine) -> RatedLine:
    return rated._replace(line=rated.line._replace(bytes=-rated.line.bytes))

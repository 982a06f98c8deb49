"""Drafts and issued invoices: each invoice is put once, then recorded in the ledger as issued.

The writes of an issue have this order; any number of concurrent processes may lose, repeat or abort each:

1. `invoices/<month>/inputs.json`, put if absent: the inputs of all invoices of the month. Usage without a price blocks
   only the payer of this usage. The payer's invoice is issued later, with a version of the price book that only adds
   prices: `inputs-2.json`, put if absent, and so on.
2. `invoices/<month>/<payer>/1.json`, put if absent: a pure function of its inputs.
3. The item `issued` in the ledger, put if absent.

A later process finds the objects that exist, and completes the work.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from metering.billing.documents import MOST_TOLD, first_of
from metering.billing.invoices.composing import Composer, Subject
from metering.billing.invoices.document import INVOICE_NUMBER, Invoice, InvoiceStore, LeftOut, Stored
from metering.billing.invoices.inputs import DEFAULT_BOOK, Inputs, UsageSource
from metering.billing.prices.book import PriceBook, Product
from metering.billing.rating.payer_prices import find, is_unpriced, traffic_of
from metering.billing.usage.months import Sold
from metering.errors import OperationFailedError
from metering.hours import month_bounds_s, month_of, months_between, rfc3339
from metering.ledger.notes.money import IssuedInvoice, issued_item, record_issued
from metering.units import DAY_S, HOUR_S
from metering.usage.usage_types import TRAFFIC

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from metering.billing.invoices import planning
    from metering.billing.payers import Organization
    from metering.stores import writes
    from metering.stores.clock import Clock, Retrier
    from metering.stores.objects import ObjectStore

_IMPORT = "Import a book that has them, or list them there as not sold: metering prices import FILE… Then run it again."
_IMPORT_BESIDE = (
    "Import AWS's offers AmazonVPC and AmazonEC2 of the region, which have it (where to find them says"
    " metering prices import --help): metering prices import FILE… Then run it again."
)


class Obstacle(NamedTuple):
    """A reason why a month cannot be invoiced, and what to do about it."""

    what: str
    cure: str


class IssueRefusedError(OperationFailedError):
    """An invoice or a credit note is refused. Nothing was issued.

    Attributes:
        obstacles: All of them.
    """

    def __init__(self, what: str, obstacles: Sequence[Obstacle]) -> None:
        cures = dict.fromkeys(each.cure for each in obstacles[:MOST_TOLD])
        super().__init__(f"{what} is not issued: {first_of([each.what for each in obstacles])}.", " ".join(cures))
        self.what = what
        self.obstacles = tuple(obstacles)

    def __reduce__(self) -> tuple[object, ...]:
        return (IssueRefusedError, (self.what, self.obstacles))


def _not_over(month: str, now_s: int) -> Iterator[Obstacle]:
    first_s, after_s = month_bounds_s(month)
    if now_s < first_s:
        yield Obstacle(f"it begins on {rfc3339(first_s)}", "Name a month that has ended.")
    elif now_s < after_s:
        yield Obstacle(
            f"it ends on {rfc3339(after_s)}", f"Until then there are drafts: metering invoice draft --month {month}"
        )


def unreadable(usage: UsageSource) -> Iterator[Obstacle]:
    """Obstacles for regions that do not respond: an invoice without their usage would be too low."""
    for region, why in sorted(usage.left_out.items()):
        yield Obstacle(f"region {region} cannot be read ({why})", "Run the command again when all regions answer.")


def _open_regions(
    usage: UsageSource, month: str, closed: Mapping[str, str], *, among: Iterable[str] = ()
) -> Iterator[Obstacle]:
    """Obstacles for regions (all of the stage, or `among`) that have not closed a month. `closed`: those that have."""
    for region in sorted(set(among or usage.regions) - closed.keys() - usage.left_out.keys()):
        yield Obstacle(
            f"region {region} has not closed {month}",
            f"Close it, from three days after its end on: metering period close {month} --region {region}",
        )


def _unpriced(usage: UsageSource, month: str, book: PriceBook, organization: Organization) -> dict[str, list[Obstacle]]:
    """Obstacles, by payer, for usage of the month whose products are not in the price book.

    The whole month is read once, by day. Two kinds of usage are checked only when the invoice is made: usage on the day
    of a product's first price, and usage of an account on the day when its payer changes.
    """
    sizes = Counter[tuple[str, str, Sold]]()
    for region in usage.month(month):
        for line in region.day_lines():
            sold = line.sold
            if is_unpriced(book, sold, line.hour_s + DAY_S - HOUR_S):
                sizes[organization.payer_of(line.account_id, line.hour_s), month, sold] += line.bytes
    return _no_prices(sizes, book)


def no_price(sold: Sold, what: str, book: PriceBook) -> Obstacle:
    """Obstacle for usage that has no price in its hour, with the command that removes the obstacle."""
    found = find(book, sold)
    first = ""
    if isinstance(found, Product):
        first = f"; its first price begins on {rfc3339(found.versions[0].from_s)}"
    return Obstacle(
        f"{sold.service} {sold.usage_type} has no price in {book.name} version {book.version} ({what}{first})",
        _IMPORT_BESIDE if traffic_of(sold.usage_type) in TRAFFIC else _IMPORT,
    )


def _no_prices(sums: Mapping[tuple[str, str, Sold], int], book: PriceBook, how: str = "") -> dict[str, list[Obstacle]]:
    found: dict[str, list[Obstacle]] = {}
    for (payer_id, month, sold), total in sorted(sums.items()):
        what = f"{total:,} bytes of {month}{how}, payer {payer_id}"
        found.setdefault(payer_id, []).append(no_price(sold, what, book))
    return found


def unpriced_of(invoice: Invoice, book: PriceBook) -> Iterator[Obstacle]:
    """Obstacles for usage that a document omits because the price is unknown."""
    for each in invoice.unpriced:
        what = f"{each.bytes:,} bytes of {each.month} in {each.region}, {invoice.id}"
        yield no_price(Sold(each.service, each.usage_type), what, book)


def issued_of(stored: Stored, issued_s: int) -> IssuedInvoice:
    """The ledger's record of a document."""
    invoice = stored.invoice
    return IssuedInvoice(
        billing_month=invoice.billing_month,
        payer_id=invoice.payer_id,
        month=invoice.month,
        number=invoice.number,
        kind=invoice.kind,
        sha256=stored.sha256,
        issued_s=issued_s,
    )


def issued_documents(objects: ObjectStore, issued_s: int) -> Iterator[IssuedInvoice]:
    """Records of all documents in S3, as if each was issued now. For a ledger that has lost its own.

    Raises:
        LedgerCorruptError: A document cannot be read.
    """
    store = InvoiceStore(objects)
    return (issued_of(each, issued_s) for month in store.months() for each in store.all_stored(month))


@dataclass(frozen=True, slots=True, kw_only=True)
class Issued:
    """A document that counts.

    Attributes:
        new: Whether this call put the document; False if the document already existed.
    """

    stored: Stored
    new: bool

    @property
    def invoice(self) -> Invoice:
        return self.stored.invoice


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request for invoices.

    Attributes:
        payer_id: One payer; empty for all payers.
        book: Name of a price book; empty for the book of the month's issued invoices, or for the default book.
        drafted: Digest that the invoice's inputs must have, taken from a draft; empty to accept any inputs.
    """

    month: str
    payer_id: str = ""
    book: str = ""
    drafted: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Issuer:
    """Makes drafts, and issues invoices."""

    store: InvoiceStore
    items: writes.ItemStore
    composer: Composer
    planner: planning.Planner
    clock: Clock
    retrier: Retrier

    def draft(self, payer_id: str, month: str, *, book: str = "") -> Invoice:
        """A draft of a payer's invoice for a month, as of now. The draft lists what is missing or not final.

        Raises:
            OperationFailedError: The month has not begun, or the book does not exist.
        """
        return next(self.drafts(Asked(month=month, payer_id=payer_id, book=book)))

    def drafts(self, asked: Asked) -> Iterator[Invoice]:
        """Drafts for one payer, or for all payers. Raises as `draft`."""
        month, now_s = asked.month, self.clock.now_ms() // 1000
        if now_s < month_bounds_s(month)[0]:
            begins = rfc3339(month_bounds_s(month)[0])
            raise OperationFailedError(f"{month} has not begun: it begins on {begins}.", "Name an earlier month.")
        shared = self.store.inputs(month)
        if shared is None or asked.book:
            shared = self.planner.shared(month, self.composer.shelf.newest(asked.book or DEFAULT_BOOK))
        for payer_id in self._payers(asked, shared):
            subject = Subject(payer_id, month)
            inputs = self.planner.of(subject, shared)
            draft = self.composer.invoice(subject, inputs, draft=True)
            if draft.unpriced and (longer := self.planner.longer(month, shared)) is not None:
                inputs = self.planner.of(subject, longer)
                draft = self.composer.invoice(subject, inputs, draft=True)
            yield replace(draft, left_out=tuple(self._left_out(inputs)))

    def issue(self, asked: Asked) -> Iterator[Issued]:
        """Issue the invoices of a closed month; also yields invoices that were issued before.

        Raises:
            IssueRefusedError: The month cannot be invoiced now; the error states what to do. The error is raised at the
                end if usage of some payers has no price: by then, all other payers have their invoices.
            OperationFailedError: There is no such price book.
            LedgerCorruptError: The ledger and the bucket contradict each other.
            UnavailableError: A store did not respond. The same call resumes.
        """
        shared = self._fixed(asked)
        blocked: dict[str, list[Obstacle]] = {}
        for payer_id in self._payers(asked, shared):
            issued = self._issue_one(Subject(payer_id, asked.month), shared, asked.drafted, blocked)
            if issued is not None:
                yield issued
        refuse(f"{asked.month} of {', '.join(blocked)}", [each for of in blocked.values() for each in of])

    def record(self, stored: Stored) -> None:
        """Record in the ledger that a document was issued. It may be repeated.

        Raises:
            LedgerCorruptError: Another document was issued under this number.
        """
        record_issued(self.items, self.retrier, issued_of(stored, self.clock.now_ms() // 1000))

    def is_issued(self, invoice: Invoice) -> bool:
        """Whether the ledger records a document as issued. Until then, the object in the bucket is unfinished."""
        of = (invoice.billing_month, invoice.payer_id, invoice.month, invoice.number)
        return issued_item(self.items, *of) is not None

    def _issue_one(
        self, subject: Subject, shared: Inputs, drafted: str, blocked: dict[str, list[Obstacle]]
    ) -> Issued | None:
        stands = self.retrier.call(lambda: self.store.find(subject.month, subject.payer_id, INVOICE_NUMBER))
        new = stands is None
        if stands is None:
            made = self._made(subject, shared, drafted)
            if made is not None and made.unpriced:
                book = self.composer.shelf.load(made.inputs.rates[subject.month]).book
                blocked[subject.payer_id] = list(unpriced_of(made, book))
                return None
            if made is None:
                return None
            stands = self.retrier.call(lambda: self.store.put(made))
        self.record(stands)
        return Issued(stored=stands, new=new)

    def _made(self, subject: Subject, shared: Inputs, drafted: str) -> Invoice | None:
        """Make the invoice; None if the invoice would be empty."""
        inputs = self.planner.of(subject, shared)
        what = f"The invoice of {subject.payer_id} for {subject.month}"
        obstacles = list(self._open_for(subject.month, inputs))
        if drafted and drafted != inputs.digest:
            obstacles.append(_other_than_drafted(inputs, drafted))
        refuse(what, obstacles)
        made = self.composer.invoice(subject, inputs)
        return made if made.all_lines or made.unrated or made.unpriced else None

    def _fixed(self, asked: Asked) -> Inputs:
        """Inputs that all invoices of the month share; this call fixes them if they are not fixed yet."""
        month = what = asked.month
        usage = self.composer.usage
        refuse(what, [*_not_over(month, self.clock.now_ms() // 1000), *unreadable(usage)])
        number, stands = self.retrier.call(lambda: self.store.numbered_inputs(month))
        if stands is None:
            # The sample price book is for trials: it is used only if it is named.
            rates = self.composer.shelf.newest(asked.book or DEFAULT_BOOK)
            shared = self.planner.shared(month, rates)
            refuse(what, [*_open_regions(usage, month, shared.closed[month]), *self._open_before(month)])
            blocked = self._without_price(asked, shared)
            refuse(what, [*self._if_all(blocked, asked, shared), *self._not_drafted(asked, shared)])
            return self.retrier.call(lambda: self.store.put_inputs(month, shared))
        refuse(what, list(_other_book(asked, stands)))
        longer = self.planner.longer(month, stands)
        if longer is not None and self._helps(longer, stands, asked):
            return self.retrier.call(lambda: self.store.put_inputs(month, longer, number + 1))
        return stands

    def _helps(self, longer: Inputs, stands: Inputs, asked: Asked) -> bool:
        """Whether the longer price book has prices that the fixed price book lacks, for at least one payer."""
        before = self._without_price(asked, stands)
        return bool(before) and not before.keys() <= self._without_price(asked, longer).keys()

    def _without_price(self, asked: Asked, shared: Inputs) -> dict[str, list[Obstacle]]:
        """For each payer whose usage lacks a price: the obstacles."""
        month, rates = asked.month, shared.rates[asked.month]
        loaded = self.composer.shelf.load(rates)
        found = _unpriced(self.composer.usage, month, loaded.book, loaded.organization)
        late = Counter[tuple[str, str, Sold]]()
        for line in self.planner.unpriced_late(month, rates):
            sold = line.sold
            late[self.planner.payer_of_late(rates, line), month_of(line.hour_s), sold] += line.bytes
        for payer_id, each in _no_prices(late, loaded.book, ", which came late").items():
            found.setdefault(payer_id, []).extend(each)
        return {payer_id: found[payer_id] for payer_id in found if asked.payer_id in ("", payer_id)}

    def _if_all(self, blocked: Mapping[str, list[Obstacle]], asked: Asked, shared: Inputs) -> Iterator[Obstacle]:
        """If no payer could get an invoice: obstacles of all payers, so that no inputs are fixed."""
        if blocked and all(payer_id in blocked for payer_id in self._payers(asked, shared)):
            yield from (each for payer_id in sorted(blocked) for each in blocked[payer_id])

    def _open_before(self, month: str) -> Iterator[Obstacle]:
        """Obstacles for regions that have not closed a corrected month, or a later month before this one."""
        corrected = self.planner.corrected_months(month)
        for each in [*corrected[:1], *(months_between(corrected[0], month) if corrected else ())]:
            yield from self._open_in(each, self.planner.closed(each))

    def _open_in(self, month: str, closed: Mapping[str, str]) -> Iterator[Obstacle]:
        shared = self.store.inputs(month)
        yield from _open_regions(
            self.composer.usage, month, closed, among=() if shared is None else tuple(shared.closed[month])
        )

    def _not_drafted(self, asked: Asked, shared: Inputs) -> Iterator[Obstacle]:
        """Before inputs are fixed for all payers, check that they are the inputs of the draft."""
        if asked.drafted and asked.payer_id:
            inputs = self.planner.of(Subject(asked.payer_id, asked.month), shared)
            if inputs.digest != asked.drafted:
                yield _other_than_drafted(inputs, asked.drafted)

    def _open_for(self, month: str, inputs: Inputs) -> Iterator[Obstacle]:
        """Obstacles for regions that have not closed a month of the invoice, or that closed it with another digest."""
        for each, closed in sorted(inputs.closed.items()):
            now = closed if each != month else self.planner.closed(each)
            yield from self._open_in(each, now)
            for region, digest in sorted(closed.items()):
                if now.get(region, digest) != digest:
                    yield Obstacle(
                        f"the closed month {each} of {region} is not the one that the month's invoices are made of",
                        f"See what became of it: metering period verify {each} --region {region}",
                    )

    def _payers(self, asked: Asked, shared: Inputs) -> Sequence[str] | Iterator[str]:
        return [asked.payer_id] if asked.payer_id else self.planner.payers(asked.month, shared.rates[asked.month])

    def _left_out(self, inputs: Inputs) -> Iterator[LeftOut]:
        usage = self.composer.usage
        for region, why in sorted(usage.left_out.items()):
            yield LeftOut(region, why)
        for month, closed in sorted(inputs.closed.items()):
            for region in sorted(set(usage.regions) - closed.keys() - usage.left_out.keys()):
                yield LeftOut(region, f"{month} is not closed there: its figures are as of now")


def refuse(what: str, obstacles: Sequence[Obstacle]) -> None:
    """Raise `IssueRefusedError` if there are obstacles.

    Raises:
        IssueRefusedError: With all of them.
    """
    if obstacles:
        raise IssueRefusedError(what, obstacles)


def _other_than_drafted(inputs: Inputs, drafted: str) -> Obstacle:
    rates = "; ".join(f"{month}: {each.book}" for month, each in sorted(inputs.rates.items()))
    return Obstacle(
        f"the draft had the inputs {drafted}, and now they are {inputs.digest} ({rates})",
        "Look at a new draft: prices, payers or usage have changed since.",
    )


def _other_book(asked: Asked, stands: Inputs) -> Iterator[Obstacle]:
    book = stands.rates[asked.month].book
    if asked.book and asked.book != book.name:
        yield Obstacle(
            f"invoices of {asked.month} have the prices of {book}, for all payers",
            "Issue it without --prices, then credit the difference: metering invoice credit <id> --because … "
            f"--prices {asked.book}",
        )

"""Credit notes: the correct invoice minus the billed invoice, line by line. Issued documents never change.

A credit note gets the next number in its payer's month, and each number is put once. Two processes therefore cannot
credit the same difference: the second process finds no difference.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from metering.billing.invoices import composing, document
from metering.billing.invoices.inputs import ENGINE_VERSION, Inputs, Rates
from metering.billing.invoices.issuing import Issued, Issuer, Obstacle, refuse, unpriced_of, unreadable
from metering.errors import LedgerCorruptError, ObjectDamagedError, ObjectMissingError, OperationFailedError
from metering.hours import month_of
from metering.ledger.notes.money import issued_item

_LONGEST_REASON = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Crediting:
    """Issues credit notes."""

    issuer: Issuer

    def credit(self, invoice_id: str, because: str, *, book: str = "") -> Issued:
        """Rate an invoice again with the current rates, and issue the difference as a credit note.

        Args:
            invoice_id: Id of the invoice; the id of a credit note is refused.
            because: Reason in plain language, written to the document.
            book: Name of a price book; empty for the invoice's own book.

        Raises:
            IssueRefusedError: The new rating does not differ from the billed documents, or some usage has no price.
            InvoiceMissingError: There is no such invoice.
            OperationFailedError: There is no such price book.
            UnavailableError: A store did not respond. The same call resumes.
        """
        store, retrier = self.issuer.store, self.issuer.retrier
        invoice = retrier.call(lambda: store.get(invoice_id))
        what = f"A credit note to {invoice_id}"
        refuse(what, [*_wrong(invoice, because), *unreadable(self.issuer.composer.usage)])
        while True:
            billed = self.billed(invoice)
            for each in billed:
                # If a process died between storing a document and recording it, the document is recorded first.
                self.issuer.record(each)
            note = self._note(billed, because.strip(), book)
            loaded = self.issuer.composer.shelf.load(note.inputs.rates[note.month])
            refuse(what, [*unpriced_of(note, loaded.book), *_nothing(note, billed)])
            stored = retrier.call(partial(store.put, note))
            if stored.invoice == note:
                self.issuer.record(stored)
                return Issued(stored=stored, new=True)

    def billed(self, invoice: document.Invoice) -> list[document.Stored]:
        """The invoice and its existing credit notes, in order."""
        store, retrier = self.issuer.store, self.issuer.retrier
        found: list[document.Stored] = []
        number = document.INVOICE_NUMBER
        while True:
            one = retrier.call(partial(store.find, invoice.month, invoice.payer_id, number))
            if one is None:
                return found
            found.append(one)
            number += 1

    def made(self, note: document.Invoice, billed: Sequence[document.Stored]) -> document.Invoice:
        """Compose an existing credit note again, from its inputs and all earlier documents of its month."""
        return self._difference(note.inputs, billed, note)

    def _note(self, billed: Sequence[document.Stored], because: str, book: str) -> document.Invoice:
        first, last = billed[0].invoice, billed[-1].invoice
        note = replace(
            first,
            kind="credit",
            number=last.number + 1,
            billing_month=month_of(self.issuer.clock.now_ms() // 1000),
            credit_of=first.id,
            because=because,
        )
        return self._difference(self._inputs(billed, book), billed, note)

    def _inputs(self, billed: Sequence[document.Stored], book: str) -> Inputs:
        """Inputs of the next credit note: digests of the closed months, current rates, and billed documents."""
        first = billed[0].invoice
        before = billed[-1].invoice.inputs.rates
        own = self.issuer.composer.shelf.newest(book or before[first.month].book.name)
        # Late rows belong to the payer of their own month's organization, because no other invoice includes them.
        rates = {month: replace(own, organization=each.organization) for month, each in before.items()}
        rates[first.month] = own
        return replace(
            first.inputs, engine=ENGINE_VERSION, rates=rates, billed={each.invoice.id: each.sha256 for each in billed}
        )

    def _difference(
        self, inputs: Inputs, billed: Sequence[document.Stored], note: document.Invoice
    ) -> document.Invoice:
        target = self.issuer.composer.invoice(composing.Subject(note.payer_id, note.month), inputs)
        return difference(target, [each.invoice for each in billed], note)


def difference(
    target: document.Invoice, billed: Iterable[document.Invoice], note: document.Invoice
) -> document.Invoice:
    """A credit note: `target` minus all billed documents, with the number and reason of `note`."""
    sums = _Sums()
    for sign, invoice in [(1, target), *((-1, each) for each in billed)]:
        sums.add(sign, invoice)
    lines = sums.changed(target.month)
    places = {line.key: place for place, line in enumerate(lines)}
    return replace(
        note,
        payer_name=target.payer_name,
        issuer=target.issuer,
        currency=target.currency,
        inputs=target.inputs,
        lines=tuple(line for line in lines if line.month == target.month),
        corrections=tuple(line for line in lines if line.month != target.month),
        accounts=tuple(sums.accounts(places)),
        unrated=tuple(each._replace(bytes=total) for each, total in sorted(sums.unrated.items()) if total),
        unpriced=target.unpriced,
        left_out=(),
    )


class _Sums:
    """Sums of documents, added or subtracted. Mutable."""

    def __init__(self) -> None:
        self.unrated = Counter[document.Unbilled]()
        self._lines: dict[document.LineKey, document.InvoiceLine] = {}
        self._cents = Counter[document.LineKey]()
        self._parts = defaultdict[document.LineKey, Counter[document.PricePart]](Counter)
        self._names: dict[str, str] = {}
        self._shares = defaultdict[str, dict[document.LineKey, document.Share]](dict)

    def add(self, sign: int, invoice: document.Invoice) -> None:
        lines = invoice.all_lines
        for line in lines:
            self._lines.setdefault(line.key, line)
            self._cents[line.key] += sign * line.cents
            for part in line.parts:
                self._parts[line.key][part._replace(bytes=0)] += sign * part.bytes
        for account in invoice.accounts:
            self._names.setdefault(account.account_id, account.name)
            of = self._shares[account.account_id]
            for share in account.shares:
                key = lines[share.line].key
                of[key] = of.get(key, document.NO_SHARE).plus(sign * share.bytes, sign * share.exact)
        for each in invoice.unrated:
            self.unrated[each._replace(bytes=0)] += sign * each.bytes

    def changed(self, month: str) -> list[document.InvoiceLine]:
        """Lines whose total or account shares differ: first the month's own lines, then corrections."""
        shared = {key for of in self._shares.values() for key, share in of.items() if share != document.NO_SHARE}
        made = [self._line(key) for key in sorted(self._lines, key=lambda key: (key.month != month, key))]
        return [line for line in made if line.parts or line.cents or line.key in shared]

    def _line(self, key: document.LineKey) -> document.InvoiceLine:
        parts = (part._replace(bytes=total) for part, total in sorted(self._parts[key].items()) if total)
        return replace(self._lines[key], parts=tuple(parts), cents=self._cents[key])

    def accounts(self, places: Mapping[document.LineKey, int]) -> Iterator[document.AccountDetail]:
        for account_id, of in sorted(self._shares.items()):
            changed = ((key, share) for key, share in of.items() if key in places and share != document.NO_SHARE)
            shares = tuple(sorted(share._replace(line=places[key]) for key, share in changed))
            if shares:
                yield document.AccountDetail(account_id=account_id, name=self._names[account_id], shares=shares)


def _wrong(invoice: document.Invoice, because: str) -> list[Obstacle]:
    found = []
    if invoice.kind == "credit":
        found.append(
            Obstacle(f"{invoice.id} is a credit note itself", f"Name the invoice that it corrects: {invoice.credit_of}")
        )
    if not because.strip() or len(because) > _LONGEST_REASON or not because.isprintable():
        found.append(
            Obstacle(
                f"--because has to say why, in up to {_LONGEST_REASON} characters on one line",
                "Whoever gets the credit note reads it there.",
            )
        )
    return found


def _nothing(note: document.Invoice, billed: Sequence[document.Stored]) -> list[Obstacle]:
    if note.all_lines or note.unrated:
        return []
    notes = [each.invoice.id for each in billed[1:]]
    beside = f" and {', '.join(notes)}" if notes else ""
    rates = note.inputs.rates[note.month]
    return [
        Obstacle(
            f"there is no difference between {note.credit_of}{beside} and what it costs by {rates.book}",
            "If prices, overrides or payers were to change, put them first; then credit again.",
        )
    ]


_WRONG = (LedgerCorruptError, ObjectDamagedError, ObjectMissingError, OperationFailedError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """Makes documents again."""

    issuer: Issuer
    crediting: Crediting

    def verify(self, invoice_id: str) -> list[str]:
        """Problems of a document, one sentence per problem; empty if every byte is correct.

        Raises:
            InvoiceMissingError: There is no such document.
            UnavailableError: A store did not respond.
        """
        try:
            stored = self.issuer.store.stored(invoice_id)
        except LedgerCorruptError as error:
            return [str(error)]
        problems = [*self._ledger(stored), *self._inputs(stored.invoice)]
        return problems or _told(partial(self._again, stored))

    def _ledger(self, stored: document.Stored) -> Iterator[str]:
        invoice = stored.invoice
        of = (invoice.billing_month, invoice.payer_id, invoice.month, invoice.number)
        item = issued_item(self.issuer.items, *of)
        if item is None:
            yield f"{invoice.id} was put, and the ledger does not say that it was issued: run issue or credit again"
        elif item.sha256 != stored.sha256:
            yield f"{invoice.id} has SHA-256 {stored.sha256}, and the one that was issued had {item.sha256}"

    def _inputs(self, invoice: document.Invoice) -> Iterator[str]:
        inputs = invoice.inputs
        if inputs.engine != ENGINE_VERSION:
            yield f"version {inputs.engine} of the rules made it, and this release has version {ENGINE_VERSION}"
        for month, closed in sorted(inputs.closed.items()):
            yield from _told(partial(self._closed, month, closed))
        for _, rates in sorted(inputs.rates.items()):
            yield from _told(partial(self._rates, rates))
        for invoice_id, sha256 in sorted(inputs.billed.items()):
            yield from _told(partial(self._billed, invoice_id, sha256))

    def _closed(self, month: str, pinned: Mapping[str, str]) -> Iterator[str]:
        usage = self.issuer.composer.usage
        for region, why in usage.left_out.items():
            if region in pinned:
                yield f"region {region} cannot be read: {why}"
        now = {each.region: each.digest for each in usage.month(month)}
        for region, digest in sorted(pinned.items()):
            if region not in usage.left_out and now.get(region) != digest:
                found = now.get(region) or "none"
                yield f"the closed month {month} of {region} has SHA-256 {found}, and {digest} was pinned"
        yield from usage.damages(month)

    def _rates(self, rates: Rates) -> Iterable[str]:
        self.issuer.composer.shelf.load(rates)
        return ()

    def _billed(self, invoice_id: str, sha256: str) -> Iterable[str]:
        stored = self.issuer.store.stored(invoice_id)
        if stored.sha256 != sha256:
            yield f"{invoice_id} has SHA-256 {stored.sha256}, and {sha256} was pinned"

    def _again(self, stored: document.Stored) -> Iterator[str]:
        invoice = stored.invoice
        if invoice.kind == "credit":
            before = [each for each in self.crediting.billed(invoice) if each.invoice.number < invoice.number]
            made = self.crediting.made(invoice, before)
        else:
            subject = composing.Subject(invoice.payer_id, invoice.month)
            made = self.issuer.composer.invoice(subject, invoice.inputs)
        if document.invoice_bytes(made) == stored.body:
            return
        yield f"{invoice.id} is not what its inputs make: {_first_difference(invoice, made)}"


def _first_difference(invoice: document.Invoice, made: document.Invoice) -> str:
    mine, others = ({line.key: line for line in each.all_lines} for each in (invoice, made))
    for key in sorted(mine.keys() | others.keys()):
        if mine.get(key) != others.get(key):
            return f"its line {key.region} {key.rate_code} of {key.month} is another one"
    return "its lines are the same, and something beside them is not"


def _told(look: Callable[[], Iterable[str]]) -> list[str]:
    """Problems found by `look`, or the error that it raised."""
    try:
        return list(look())
    except _WRONG as error:
        return [str(error)]

"""Credit notes: what an invoice should have been, less what was billed, line by line. Nothing issued ever changes.

A credit note has the number after the newest document of its payer's month and is put once, so that two processes
cannot credit the same difference: the one that comes second finds no difference any more.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from metering.billing.invoices.composing import Subject
from metering.billing.invoices.document import (
    INVOICE_NUMBER,
    AccountDetail,
    Invoice,
    InvoiceLine,
    LineKey,
    PricePart,
    Share,
    Stored,
    Unbilled,
    invoice_bytes,
)
from metering.billing.invoices.inputs import ENGINE_VERSION, Inputs, Rates
from metering.billing.invoices.issuing import Issued, Issuer, Obstacle, Readiness, refuse, unpriced_of
from metering.errors import LedgerCorruptError, ObjectDamagedError, ObjectMissingError, OperationFailedError
from metering.hours import month_of
from metering.ledger.notes.money import issued_item

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence


_LONGEST_REASON = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Crediting:
    """Issues credit notes."""

    issuer: Issuer

    def credit(self, invoice_id: str, because: str, *, book: str = "") -> Issued:
        """Rate an invoice again with what is in force now, and issue the difference.

        Args:
            invoice_id: The invoice, not a credit note.
            because: Words for people; they stand in the document.
            book: Name of a price book; empty for the one that the invoice has.

        Raises:
            IssueRefusedError: There is no difference, or something has no price.
            InvoiceMissingError: There is no such invoice.
            OperationFailedError: There is no such book.
            UnavailableError: A store gave no answer. The same call continues where this one ended.
        """
        store, retrier = self.issuer.store, self.issuer.retrier
        invoice = retrier.call(lambda: store.get(invoice_id))
        what = f"A credit note to {invoice_id}"
        refuse(what, [*_wrong(invoice, because), *Readiness(usage=self.issuer.composer.usage).unreadable()])
        while True:
            billed = self.billed(invoice)
            for each in billed:
                # One that was put by a process that died is finished first.
                self.issuer.record(each)
            note = self._note(billed, because.strip(), book)
            refuse(what, [*self._unpriced(note), *_nothing(note, billed)])
            stored = retrier.call(partial(store.put, note))
            if stored.invoice == note:
                self.issuer.record(stored)
                return Issued(stored=stored, new=True)

    def billed(self, invoice: Invoice) -> list[Stored]:
        """The invoice and its credit notes so far, in order."""
        store, retrier = self.issuer.store, self.issuer.retrier
        found: list[Stored] = []
        number = INVOICE_NUMBER
        while True:
            one = retrier.call(partial(store.find, invoice.month, invoice.payer_id, number))
            if one is None:
                return found
            found.append(one)
            number += 1

    def made(self, note: Invoice, billed: Sequence[Stored]) -> Invoice:
        """A credit note made again of its own inputs, and of the documents that came before it."""
        return self._difference(note.inputs, billed, note)

    def _note(self, billed: Sequence[Stored], because: str, book: str) -> Invoice:
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

    def _inputs(self, billed: Sequence[Stored], book: str) -> Inputs:
        """The months as they were closed, the rates that are in force now, and what was billed."""
        first = billed[0].invoice
        before = billed[-1].invoice.inputs.rates
        own = self.issuer.composer.shelf.newest(book or before[first.month].book.name)
        # Late rows stay with the payer that the organization of their own month named: no other invoice has them.
        rates = {month: replace(own, organization=each.organization) for month, each in before.items()}
        rates[first.month] = own
        return replace(
            first.inputs,
            engine=ENGINE_VERSION,
            rates=rates,
            billed={each.invoice.id: each.sha256 for each in billed},
        )

    def _unpriced(self, note: Invoice) -> Iterator[Obstacle]:
        return unpriced_of(note, self.issuer.composer.shelf.load(note.inputs.rates[note.month]).book)

    def _difference(self, inputs: Inputs, billed: Sequence[Stored], note: Invoice) -> Invoice:
        target = self.issuer.composer.invoice(Subject(note.payer_id, note.month), inputs)
        return difference(target, [each.invoice for each in billed], note)


def difference(target: Invoice, billed: Iterable[Invoice], note: Invoice) -> Invoice:
    """A credit note: `target` less all that was billed, under the number and words of `note`."""
    before = list(billed)
    lines = _line_differences(target, before, _shared(target, before))
    places = {line.key: place for place, line in enumerate(lines)}
    return replace(
        note,
        payer_name=target.payer_name,
        issuer=target.issuer,
        currency=target.currency,
        inputs=target.inputs,
        lines=tuple(line for line in lines if line.month == target.month),
        corrections=tuple(line for line in lines if line.month != target.month),
        accounts=_account_differences(target, before, places),
        unrated=_unrated_differences(target, before),
        unpriced=target.unpriced,
        left_out=(),
    )


def _line_differences(target: Invoice, billed: Sequence[Invoice], shared: set[LineKey]) -> list[InvoiceLine]:
    """Lines with a difference, of the whole or of an account: those of the month itself first, then corrections."""
    cents, parts = Counter[LineKey](), defaultdict[LineKey, Counter[PricePart]](Counter)
    known: dict[LineKey, InvoiceLine] = {}
    for sign, invoice in [(1, target), *((-1, each) for each in billed)]:
        for line in invoice.all_lines:
            known.setdefault(line.key, line)
            cents[line.key] += sign * line.cents
            for part in line.parts:
                parts[line.key][part._replace(bytes=0)] += sign * part.bytes
    made = [
        replace(known[key], parts=_parts(parts[key]), cents=cents[key])
        for key in sorted(known, key=lambda key: (key.month != target.month, key))
    ]
    return [line for line in made if line.parts or line.cents or line.key in shared]


def _shared(target: Invoice, billed: Sequence[Invoice]) -> set[LineKey]:
    """Lines of which an account has another share than was billed."""
    sums = _share_sums(target, billed)
    return {key for of in sums.values() for key, share in of.items() if share.bytes or share.exact}


def _share_sums(target: Invoice, billed: Sequence[Invoice]) -> dict[str, dict[LineKey, Share]]:
    sums: dict[str, dict[LineKey, Share]] = defaultdict(dict)
    for sign, invoice in [(1, target), *((-1, each) for each in billed)]:
        lines = invoice.all_lines
        for account in invoice.accounts:
            of = sums[account.account_id]
            for share in account.shares:
                key = lines[share.line].key
                before = of.get(key, Share(0, 0, 0))
                of[key] = Share(0, before.bytes + sign * share.bytes, before.exact + sign * share.exact)
    return sums


def _parts(sums: Counter[PricePart]) -> tuple[PricePart, ...]:
    return tuple(part._replace(bytes=total) for part, total in sorted(sums.items()) if total)


def _account_differences(
    target: Invoice, billed: Sequence[Invoice], places: dict[LineKey, int]
) -> tuple[AccountDetail, ...]:
    names: dict[str, str] = {}
    for invoice in (target, *billed):
        for account in invoice.accounts:
            names.setdefault(account.account_id, account.name)
    return tuple(
        AccountDetail(account_id=account_id, name=names[account_id], shares=shares)
        for account_id, of in sorted(_share_sums(target, billed).items())
        if (shares := _shares(of, places))
    )


def _shares(of: dict[LineKey, Share], places: dict[LineKey, int]) -> tuple[Share, ...]:
    kept = (share._replace(line=places[key]) for key, share in of.items() if key in places)
    return tuple(sorted(share for share in kept if share.bytes or share.exact))


def _unrated_differences(target: Invoice, billed: Sequence[Invoice]) -> tuple[Unbilled, ...]:
    sums = Counter[Unbilled]()
    for sign, invoice in [(1, target), *((-1, each) for each in billed)]:
        for each in invoice.unrated:
            sums[each._replace(bytes=0)] += sign * each.bytes
    return tuple(each._replace(bytes=total) for each, total in sorted(sums.items()) if total)


def _wrong(invoice: Invoice, because: str) -> list[Obstacle]:
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


def _nothing(note: Invoice, billed: Sequence[Stored]) -> list[Obstacle]:
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
        """What is wrong with a document, a sentence each; empty if it is right to the last byte.

        Raises:
            InvoiceMissingError: There is no such document.
            UnavailableError: A store gave no answer.
        """
        try:
            stored = self.issuer.store.stored(invoice_id)
        except LedgerCorruptError as error:
            return [str(error)]
        problems = [*self._ledger(stored), *self._inputs(stored.invoice)]
        return problems or _told(partial(self._again, stored))

    def _ledger(self, stored: Stored) -> Iterator[str]:
        invoice = stored.invoice
        of = (invoice.billing_month, invoice.payer_id, invoice.month, invoice.number)
        item = issued_item(self.issuer.items, *of)
        if item is None:
            yield f"{invoice.id} was put, and the ledger does not say that it was issued: run issue or credit again"
        elif item.sha256 != stored.sha256:
            yield f"{invoice.id} has SHA-256 {stored.sha256}, and the one that was issued had {item.sha256}"

    def _inputs(self, invoice: Invoice) -> Iterator[str]:
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

    def _again(self, stored: Stored) -> Iterator[str]:
        invoice = stored.invoice
        if invoice.kind == "credit":
            before = [each for each in self.crediting.billed(invoice) if each.invoice.number < invoice.number]
            made = self.crediting.made(invoice, before)
        else:
            subject = Subject(invoice.payer_id, invoice.month)
            made = self.issuer.composer.invoice(subject, invoice.inputs)
        if invoice_bytes(made) == stored.body:
            return
        yield f"{invoice.id} is not what its inputs make: {_first_difference(invoice, made)}"


def _first_difference(invoice: Invoice, made: Invoice) -> str:
    mine, others = ({line.key: line for line in each.all_lines} for each in (invoice, made))
    for key in sorted(mine.keys() | others.keys()):
        if mine.get(key) != others.get(key):
            return f"its line {key.region} {key.rate_code} of {key.month} is another one"
    return "its lines are the same, and something beside them is not"


def _told(look: Callable[[], Iterable[str]]) -> list[str]:
    """Problems that are found, or the error that looking for them ended with."""
    try:
        return list(look())
    except _WRONG as error:
        return [str(error)]

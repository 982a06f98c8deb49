"""Issued invoices: `I#<billing month>`, `<payer>#<month>#<number>`. The item says that a document counts, and which.

The document is put first, and lies at its key for good; then its item. Without its item a document is not issued yet:
whoever issues again finds it, and writes the item. An item never changes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from metering.errors import ConditionFailedError, LedgerCorruptError
from metering.ledger import partitions
from metering.stores.fields import Fields
from metering.stores.writes import Absent, Key, Put, Table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from metering.stores.items import ItemStore
    from metering.stores.retrying import Retrier
    from metering.stores.writes import Item, Value

IssuedKind = Literal["invoice", "credit"]
_KINDS: tuple[IssuedKind, ...] = ("invoice", "credit")


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuedInvoice:
    """An invoice or credit note that counts.

    Attributes:
        billing_month: Month that books it.
        month: Month of use that it is about; of a credit note it is earlier than, or the same as, `billing_month`.
        number: 1 for an invoice, more for its credit notes.
        sha256: Of the document's bytes.
        issued_s: When the item was written, epoch seconds. It is not part of the document.
    """

    billing_month: str
    payer_id: str
    month: str
    number: int
    kind: IssuedKind
    sha256: str
    issued_s: int

    @property
    def key(self) -> Key:
        return issued_key(self.billing_month, self.payer_id, self.month, self.number)

    def to_item(self) -> dict[str, Value]:
        return {
            **self.key._asdict(),
            "state": "issued",
            "payer": self.payer_id,
            "month": self.month,
            "number": self.number,
            "kind": self.kind,
            "sha256": self.sha256,
            "issued_s": self.issued_s,
        }

    @classmethod
    def from_item(cls, item: Item) -> IssuedInvoice:
        fields = Fields.of_item(item)
        fields.one_of("state", ("issued",))
        made = cls(
            billing_month=fields.after("pk", partitions.INVOICES),
            payer_id=fields.text("payer"),
            month=fields.text("month"),
            number=fields.whole("number", least=1),
            kind=fields.one_of("kind", _KINDS),
            sha256=fields.text("sha256"),
            issued_s=fields.whole("issued_s"),
        )
        fields.check_key(made.key)
        return made


def issued_key(billing_month: str, payer_id: str, month: str, number: int) -> Key:
    """Key of the item of a document."""
    return Key(f"{partitions.INVOICES}{billing_month}", f"{payer_id}#{month}#{number}")


def record_issued(items: ItemStore, retrier: Retrier, issued: IssuedInvoice) -> IssuedInvoice:
    """Write the item of a document, once; returns the one that stands there.

    Raises:
        LedgerCorruptError: Another document was issued under this number.
    """
    put = Put(table=Table.LEDGER, item=issued.to_item(), condition=Absent())
    try:
        retrier.call(lambda: items.put(put))
    except ConditionFailedError:
        item = retrier.call(lambda: items.get(Table.LEDGER, issued.key))
        found = issued if item is None else IssuedInvoice.from_item(item)
        if found.sha256 != issued.sha256:
            raise LedgerCorruptError(
                f"{issued.key.pk} / {issued.key.sk}: a document with SHA-256 {found.sha256} was issued, and the one at "
                f"its key has {issued.sha256}"
            ) from None
        return found
    return issued


def issued_in(items: ItemStore, billing_month: str, payer_id: str = "") -> Iterator[IssuedInvoice]:
    """What a month books, in the order of payers, months and numbers; of one payer, if it is named."""
    first, after = (f"{payer_id}#", f"{payer_id}$") if payer_id else ("", "\U0010ffff")
    for item in items.query(Table.LEDGER, f"{partitions.INVOICES}{billing_month}", sk_from=first, sk_to=after):
        yield IssuedInvoice.from_item(item)


def issued_item(items: ItemStore, billing_month: str, payer_id: str, month: str, number: int) -> IssuedInvoice | None:
    """The item of a document; None if it is not issued."""
    item = items.get(Table.LEDGER, issued_key(billing_month, payer_id, month, number))
    return None if item is None else IssuedInvoice.from_item(item)

"""Billing notes: budgets and their alerts, results of the biller, and issued invoices."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, NamedTuple

from metering.errors import ConditionFailedError, LedgerCorruptError
from metering.ledger import partitions
from metering.ledger.partitions import NOTE
from metering.stores.codec import (
    AnyText,
    DecimalText,
    Fields,
    FromOne,
    SortKey,
    StoredItem,
    Unwritten,
    after,
    item_of,
    struct_of,
)
from metering.stores.writes import Absent, Item, ItemStore, Key, Put, Table, Value
from metering.units import DAY_S

if TYPE_CHECKING:
    from metering.stores import clock

BUDGETS_PK = f"{NOTE}budgets"
ALERTS_PK = f"{NOTE}budget-alerts"
AlertState = Literal["new", "sent"]


def budget_key(name: str) -> Key:
    """Key of a budget."""
    return Key(BUDGETS_PK, name)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredBudget(StoredItem):
    """A budget as stored.

    Attributes:
        document: Fields of the budget as strings; the thresholds are one string with one threshold per line.
    """

    name: SortKey
    document: Mapping[str, AnyText]
    set_s: int

    @property
    def key(self) -> Key:
        return budget_key(self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredAlert(StoredItem):
    """An alert, which is resent until the SNS topic accepts it.

    Attributes:
        id: Id of the alert, the same in every attempt to send it.
        period: Month or day of the alert.
        severity: Topic: `page` or `ticket`.
        fields: Other fields of the message.
        made_s: Time when the biller found that the threshold was crossed, epoch seconds.
        state: `new` until the topic has accepted the alert.
    """

    id: str
    period: str
    severity: str
    subject: str
    fields: Mapping[str, AnyText]
    made_s: int
    state: AlertState = "new"

    @property
    def key(self) -> Key:
        # Alerts are sorted by their period, which is a month or a day.
        return Key(ALERTS_PK, f"{self.period}#{self.id}")

    def as_sent(self) -> StoredAlert:
        return replace(self, state="sent")


BILLER_KEY = Key(f"{NOTE}biller", "W")


@dataclass(frozen=True, slots=True, kw_only=True)
class BillerFigures(StoredItem):
    """Figures of one run.

    Attributes:
        first_s: When the biller of this region first ran, epoch seconds.
        finished_s: When the last complete run ended.
        counted_s: The day sums, and the causes, include all rows that the compactor had published by this time.
        unpriced_bytes: Bytes of open months without a price in the price book.
        unpriced_types: Number of usage types of the unpriced bytes.
        blocked_months: Months that have ended and cannot be invoiced.
        crossed_s: Times at which the alerts of the last days were made.
        left_out: Regions that did not answer, so that their usage is missing from the figures.
        looked: Region -> last day that was checked for unusual usage, `2026-11-24`.
        quiet: Whether thresholds that are crossed count as told, until all usage is counted. A restore without the old
            ledger sets this, because the alerts before it are unknown.
        why: A sentence about what blocks the first of `blocked_months`; empty if no month is blocked.
    """

    key: ClassVar[Key] = BILLER_KEY
    first_s: int
    finished_s: int
    counted_s: int
    unpriced_bytes: DecimalText = 0
    unpriced_types: int = 0
    blocked_months: tuple[str, ...] = ()
    crossed_s: tuple[int, ...] = ()
    left_out: tuple[str, ...] = ()
    looked: Mapping[str, str] = field(default_factory=dict)
    quiet: Annotated[bool, Unwritten(False)] = False
    why: str = ""


class BillState(StrEnum):
    """Result of the last look at a month of an export of AWS's own bill."""

    COMPARED = "compared"
    WAITING = "waiting"
    ABSENT = "absent"
    REFUSED = "refused"
    UNREADABLE = "unreadable"
    OTHER_ACCOUNTS = "other accounts"
    TOO_LARGE = "too large"


class BillDifference(NamedTuple):
    """Billed and metered bytes of an account, a usage type and a UTC day (`2026-11-24`)."""

    account_id: str
    usage_type: str
    day: str
    billed: DecimalText
    metered: DecimalText


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedMonth:
    """Result for one content of a month of an export.

    Attributes:
        content: Identity of what was compared: the manifest's ETag, the comparison's settings, a hash of the day sums.
        at_s: Time of the comparison, epoch seconds.
        from_day, to_day: First compared day, and the day after the last one; empty if nothing was compared.
        beyond: Rows that differ by more than the stage tolerates.
        differences: The largest of these rows.
        why: A sentence for people.
    """

    content: str
    state: BillState
    at_s: int
    from_day: str = ""
    to_day: str = ""
    billed: DecimalText = 0
    metered: DecimalText = 0
    rows: int = 0
    beyond: int = 0
    differences: tuple[BillDifference, ...] = ()
    why: str = ""


BILLS_PREFIX = "bill#"
# An export that no setting names any more is forgotten after this time.
BILL_LIFE_S = 7 * DAY_S
# AWS delivers an export at least once a day. After three days without a comparison, somebody should look.
BILL_PATIENCE_S = 3 * DAY_S


@dataclass(frozen=True, slots=True, kw_only=True)
class BillCheckState(StoredItem):
    """State of the comparison with one export of AWS's own bill.

    Attributes:
        export: Bucket and prefix of the export.
        first_s: Time of the first look, epoch seconds.
        looked_s: Time of the last look.
        compared_s: Time of the last comparison; 0 before the first.
        state, why: Result of the last look.
        months: Result by billing month, the newest two.
    """

    export: Annotated[str, after("sk", BILLS_PREFIX)]
    first_s: int
    looked_s: int
    compared_s: int = 0
    state: BillState = BillState.ABSENT
    why: str = ""
    months: Mapping[str, ComparedMonth] = field(default_factory=dict)

    @property
    def key(self) -> Key:
        return bill_key(self.export)

    def to_item(self) -> dict[str, Value]:
        return item_of(self) | {"expires_at": self.looked_s + BILL_LIFE_S}

    def problems(self, now_s: int) -> int:
        """Rows beyond the tolerance; at least 1 if nothing was compared for days; 0 if the export is forgotten."""
        if now_s - self.looked_s > BILL_LIFE_S:
            return 0
        beyond = sum(month.beyond for month in self.months.values())
        return beyond or int(now_s - max(self.compared_s, self.first_s) > BILL_PATIENCE_S)


def bill_key(export: str) -> Key:
    """Key of the state of an export. The biller may write in this partition."""
    return Key(BILLER_KEY.pk, f"{BILLS_PREFIX}{export}")


def bill_checks(items: ItemStore) -> list[BillCheckState]:
    """States of all exports."""
    pages = items.query(Table.LEDGER, BILLER_KEY.pk, sk_from=BILLS_PREFIX, sk_to=f"{BILLS_PREFIX}~")
    return list(map(BillCheckState.from_item, pages))


# Issued invoices: `I#<billing month>`, `<payer>#<month>#<number>`. The item names the document that is valid.
#
# The document is put first, permanently under its key, and then the item. If a document has no item, it is not issued
# yet: the next attempt finds the document and writes the item. An item never changes.


IssuedKind = Literal["invoice", "credit"]


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuedInvoice(StoredItem):
    """An invoice or credit note that is in force.

    Attributes:
        billing_month: Month that books it.
        month: Billed month of use; for a credit note, `billing_month` or an earlier month.
        number: 1 for an invoice, 2 and more for the invoice's credit notes.
        sha256: Of the document's bytes.
        issued_s: When the item was written, epoch seconds. The document does not contain this time.
    """

    billing_month: Annotated[str, after("pk", partitions.INVOICES)]
    payer_id: Annotated[str, "payer"]
    month: str
    number: FromOne
    kind: IssuedKind
    sha256: str
    issued_s: int

    @property
    def key(self) -> Key:
        return issued_key(self.billing_month, self.payer_id, self.month, self.number)

    def to_item(self) -> dict[str, Value]:
        return item_of(self) | {"state": "issued"}

    @classmethod
    def from_item(cls, item: Item) -> IssuedInvoice:
        Fields.of_item(item).one_of("state", ("issued",))
        return struct_of(cls, item)


def issued_key(billing_month: str, payer_id: str, month: str, number: int) -> Key:
    """Key of the item of a document."""
    return Key(f"{partitions.INVOICES}{billing_month}", f"{payer_id}#{month}#{number}")


def record_issued(items: ItemStore, retrier: clock.Retrier, issued: IssuedInvoice) -> IssuedInvoice:
    """Write the item of a document, once; returns the stored item.

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
    """Documents booked in a month, by payer, month and number; limited to a payer if given."""
    first, after = (f"{payer_id}#", f"{payer_id}$") if payer_id else ("", "\U0010ffff")
    for item in items.query(Table.LEDGER, f"{partitions.INVOICES}{billing_month}", sk_from=first, sk_to=after):
        yield IssuedInvoice.from_item(item)


def issued_item(items: ItemStore, billing_month: str, payer_id: str, month: str, number: int) -> IssuedInvoice | None:
    """The item of a document; None if the document is not issued."""
    item = items.get(Table.LEDGER, issued_key(billing_month, payer_id, month, number))
    return None if item is None else IssuedInvoice.from_item(item)

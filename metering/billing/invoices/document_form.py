"""The bytes of an invoice: canonical JSON, in which amounts are decimal texts with all their digits.

The same invoice has the same bytes for ever. `read_invoice` refuses what `invoice_bytes` would not have written.
"""

from __future__ import annotations

from metering.billing.documents.strict_json import canonical
from metering.billing.invoices.document import (
    KINDS,
    AccountDetail,
    Invoice,
    InvoiceLine,
    LeftOut,
    PricePart,
    Share,
    Unbilled,
)
from metering.billing.invoices.inputs import Inputs
from metering.billing.money import exact_text, usd_text
from metering.errors import LedgerCorruptError
from metering.hours import hour_label
from metering.stores.fields import Fields
from metering.usage.totals import Service, UsageType

SCHEMA = "metering.invoice/1"
_UNBILLED = ("month", "region", "service", "usage_type", "bytes")
_SHARE = ("line", "bytes", "exact_usd")
_PART = ("price_usd", "list_price_usd", "bytes")
_CENT = 2


def invoice_bytes(invoice: Invoice) -> bytes:
    """The document as it is put: one line, with a line break at its end."""
    return canonical(invoice_value(invoice)) + b"\n"


def invoice_value(invoice: Invoice) -> dict[str, object]:
    """The document as a JSON value."""
    return {
        "schema": SCHEMA,
        "id": invoice.id,
        "kind": invoice.kind,
        "draft": invoice.draft,
        "number": invoice.number,
        "payer": {"id": invoice.payer_id, "name": invoice.payer_name},
        "issuer": invoice.issuer,
        "currency": invoice.currency,
        "month": invoice.month,
        "billing_month": invoice.billing_month,
        "credit_of": invoice.credit_of,
        "because": invoice.because,
        "inputs": invoice.inputs.to_value(),
        "lines": [_line(line) for line in invoice.lines],
        "corrections": [_line(line) for line in invoice.corrections],
        "accounts": [_account(account) for account in invoice.accounts],
        "unrated": [_unbilled(each) for each in invoice.unrated],
        "unpriced": [_unbilled(each) for each in invoice.unpriced],
        "left_out": [each._asdict() for each in invoice.left_out],
        "total": {
            "usd": usd_text(invoice.cents, decimals=_CENT),
            "exact_usd": exact_text(invoice.exact),
            "rounding_usd": exact_text(invoice.rounding),
        },
    }


def read_invoice(body: bytes, key: str) -> Invoice:
    """Inverse of `invoice_bytes`.

    Args:
        body: The object's content.
        key: Its key, for errors.

    Raises:
        LedgerCorruptError: It is no invoice, or not in the one spelling: its totals are not those of its lines, or a
            byte is not as it was written.
    """
    fields = Fields.of_json(body, key)
    fields.one_of("schema", (SCHEMA,))
    payer = fields.nested("payer")
    try:
        made = Invoice(
            kind=fields.one_of("kind", KINDS),
            payer_id=payer.text("id"),
            payer_name=payer.any_text("name"),
            issuer=fields.any_text("issuer"),
            currency=fields.text("currency"),
            month=fields.text("month"),
            number=fields.whole("number", least=1),
            billing_month=fields.text("billing_month"),
            inputs=Inputs.from_fields(fields.nested("inputs")),
            lines=tuple(map(_line_of, fields.objects("lines"))),
            corrections=tuple(map(_line_of, fields.objects("corrections"))),
            accounts=tuple(map(_account_of, fields.objects("accounts"))),
            unrated=tuple(map(_unbilled_of, fields.rows("unrated", _UNBILLED))),
            unpriced=tuple(map(_unbilled_of, fields.rows("unpriced", _UNBILLED))),
            left_out=tuple(LeftOut(each.text("region"), each.text("why")) for each in fields.objects("left_out")),
            credit_of=fields.any_text("credit_of"),
            because=fields.any_text("because"),
            draft=fields.flag("draft"),
        )
    except ValueError as error:
        raise LedgerCorruptError(f"{key}: {error}") from error
    if invoice_bytes(made) != body:
        raise LedgerCorruptError(f"{key} is not the document that was written: its totals or its spelling differ")
    return made


def _line(line: InvoiceLine) -> dict[str, object]:
    hours = [hour_label(hour_s) for hour_s in line.hours or ()]
    return {
        "month": line.month,
        "region": line.region,
        "sku": line.sku,
        "rate_code": line.rate_code,
        "allowance": line.allowance,
        "usage_types": list(line.usage_types),
        "hours": hours,
        "prices": [[usd_text(part.price), usd_text(part.list_price), str(part.bytes)] for part in line.parts],
        "bytes": str(line.bytes),
        "exact_usd": exact_text(line.exact),
        "usd": usd_text(line.cents, decimals=_CENT),
    }


def _line_of(fields: Fields) -> InvoiceLine:
    hours = fields.hours("hours")
    return InvoiceLine(
        month=fields.text("month"),
        region=fields.text("region"),
        sku=fields.text("sku"),
        rate_code=fields.text("rate_code"),
        allowance=fields.any_text("allowance"),
        usage_types=fields.texts("usage_types"),
        parts=tuple(map(_part_of, fields.rows("prices", _PART))),
        cents=_scaled(fields.text("usd"), _CENT),
        hours=(hours[0], hours[-1]) if hours else None,
    )


def _part_of(row: Fields) -> PricePart:
    return PricePart(
        price=_scaled(row.text("price_usd"), 10),
        list_price=_scaled(row.text("list_price_usd"), 10),
        bytes=row.decimal("bytes"),
    )


def _account(account: AccountDetail) -> dict[str, object]:
    return {
        "account_id": account.account_id,
        "name": account.name,
        "bytes": str(account.bytes),
        "exact_usd": exact_text(account.exact),
        "lines": [[share.line, str(share.bytes), exact_text(share.exact)] for share in account.shares],
    }


def _account_of(fields: Fields) -> AccountDetail:
    shares = (
        Share(row.whole("line"), row.decimal("bytes"), _exact(row.text("exact_usd")))
        for row in fields.rows("lines", _SHARE)
    )
    return AccountDetail(account_id=fields.text("account_id"), name=fields.any_text("name"), shares=tuple(shares))


def _unbilled(each: Unbilled) -> list[object]:
    return [each.month, each.region, each.service, each.usage_type, str(each.bytes)]


def _unbilled_of(row: Fields) -> Unbilled:
    month, region, service, usage_type = (row.any_text(name) for name in _UNBILLED[:-1])
    return Unbilled(month, region, Service(service), UsageType(usage_type), row.decimal("bytes"))


def _scaled(text: str, decimals: int) -> int:
    """A decimal text as a whole number of 10^-`decimals`; `invoice_bytes` then says whether it was spelled so."""
    whole, _, part = text.partition(".")
    return int(whole + part.ljust(decimals, "0"))


def _exact(text: str) -> int:
    # An exact cost is a whole number of 1e-10 / 2^30, so of 10^-40 when multiplied by 5^30.
    return _scaled(text, 40) // 5**30

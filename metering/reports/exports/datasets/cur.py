"""AWS's CUR 2.0: what its 113 columns say of a charge. Those of reservations, savings plans and the like stay empty.

Readers of CUR go by position, so a file has all columns in AWS's order. In Parquet amounts are doubles, as in AWS's own
files, the only ones of this package; a double holds the ten decimals of any amount below 524,288. CSV has all digits.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pyarrow as pa

from metering.billing.money import DECIMALS, usd_text
from metering.hours import month_bounds_s, rfc3339
from metering.reports.exports.batches import Batch, Billed, Priced, costs, whole_numbers
from metering.reports.exports.datasets.columns import (
    AnyColumn,
    BilledColumn,
    EmptyColumn,
    FileFormat,
    Identities,
    LineColumn,
    PricedColumn,
    UsedColumn,
    Value,
    cur_names,
    line_numbers,
    location_name,
    location_type,
    moments,
    money,
    parts_of,
    region_code,
    zone_of,
)
from metering.reports.exports.datasets.focus import SKU_METER, description, operation
from metering.reports.exports.grains import Grain, ends_of

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from metering.billing.prices.book import PriceBook

# AWS's word for 2^30 bytes.
UNIT = "GB"
_PRODUCT = "AWS Data Transfer"
_OFFER = "AWSDataTransfer"
# There are no discounts: contract prices are in the rates.
_ZERO = ("discount_total_discount",)
_MAPS = ("cost_category", "discount", "resource_tags")


@dataclass(frozen=True, slots=True, kw_only=True)
class CurTerms:
    """What columns need beside charges.

    Attributes:
        books: Tell the kind of transfer of a SKU.
        names: Names of accounts.
        blended: Blended rate of a payer's SKU in a month of use, 1e-10 USD a GB, by payer, month and SKU.
        drafts: Ids of documents that are not issued: AWS has no invoice id then.
    """

    grain: Grain
    books: Sequence[PriceBook] = ()
    names: Mapping[str, str] = field(default_factory=dict)
    blended: Mapping[tuple[str, str, str], int] = field(default_factory=dict)
    drafts: Collection[str] = ()


def cur_columns(terms: CurTerms) -> list[AnyColumn]:
    """All columns, in AWS's order."""
    said: dict[str, AnyColumn] = {
        column.name: column for column in (*_billed(terms), *_priced(terms), *_used(terms), *_lines(terms))
    }
    said |= {name: BilledColumn(name=name, kind="map", value=lambda _: ()) for name in _MAPS}
    said |= {name: BilledColumn(name=name, kind="double", value=lambda _: 0) for name in _ZERO}
    return [said.get(name) or EmptyColumn(name=name) for name in cur_names()]


def time_text(epoch_s: int) -> str:
    """A time as CUR has it in CSV: `2026-11-01T00:00:00.000Z`."""
    return rfc3339(epoch_s).replace("Z", ".000Z")


def _billed(terms: CurTerms) -> list[AnyColumn]:
    def invoice_id(part: Billed) -> Value:
        return None if part.invoice_id in terms.drafts else part.invoice_id

    return [
        BilledColumn(name="bill_bill_type", value=lambda _: "Anniversary"),
        BilledColumn(name="bill_billing_entity", value=lambda part: part.payer.issuer),
        BilledColumn(name="bill_invoicing_entity", value=lambda part: part.payer.issuer),
        BilledColumn(name="bill_invoice_id", value=invoice_id),
        BilledColumn(name="bill_payer_account_id", value=lambda part: part.payer.payer_id),
        BilledColumn(name="bill_payer_account_name", value=lambda part: part.payer.name),
        BilledColumn(
            name="bill_billing_period_start_date", kind="time", value=lambda part: month_bounds_s(part.billing_month)[0]
        ),
        BilledColumn(
            name="bill_billing_period_end_date", kind="time", value=lambda part: month_bounds_s(part.billing_month)[1]
        ),
        BilledColumn(name="line_item_currency_code", value=lambda part: part.payer.currency),
        BilledColumn(name="line_item_legal_entity", value=lambda part: part.payer.issuer),
        BilledColumn(name="line_item_line_item_type", value=lambda part: "Credit" if part.credit_of else "Usage"),
        BilledColumn(name="pricing_currency", value=lambda part: part.payer.currency),
        BilledColumn(name="pricing_term", value=lambda _: "OnDemand"),
        BilledColumn(name="pricing_unit", value=lambda _: UNIT),
        BilledColumn(name="product_pricing_unit", value=lambda _: UNIT),
        BilledColumn(name="product_product_family", value=lambda _: SKU_METER),
        BilledColumn(name="product_servicecode", value=lambda _: _OFFER),
    ]


def _priced(terms: CurTerms) -> list[AnyColumn]:
    return [
        PricedColumn(name="line_item_availability_zone", value=lambda part: zone_of(part.rated.line, part.region)),
        PricedColumn(name="line_item_line_item_description", value=description),
        PricedColumn(name="line_item_operation", value=operation),
        PricedColumn(name="line_item_product_code", value=lambda part: part.rated.line.service),
        PricedColumn(name="line_item_unblended_rate", kind="number", value=lambda part: _rate(part.rated.price)),
        PricedColumn(name="line_item_net_unblended_rate", kind="number", value=lambda part: _rate(part.rated.price)),
        PricedColumn(name="line_item_usage_type", value=lambda part: part.rated.line.usage_type),
        PricedColumn(
            name="pricing_public_on_demand_rate", kind="number", value=lambda part: _rate(part.rated.list_price)
        ),
        PricedColumn(name="pricing_rate_code", value=lambda part: part.rated.rate_code),
        PricedColumn(name="pricing_rate_id", value=lambda part: part.rated.rate_code.rpartition(".")[2] or None),
        PricedColumn(name="product", kind="map", value=lambda part: _product(part, terms.books)),
        PricedColumn(name="product_from_location", value=lambda part: location_name(part.rated.line.from_location)),
        PricedColumn(
            name="product_from_location_type", value=lambda part: location_type(part.rated.line.from_location)
        ),
        PricedColumn(name="product_from_region_code", value=lambda part: region_code(part.rated.line.from_location)),
        PricedColumn(name="product_operation", value=operation),
        PricedColumn(name="product_region_code", value=lambda part: part.region),
        PricedColumn(name="product_sku", value=lambda part: part.rated.sku),
        PricedColumn(name="product_to_location", value=lambda part: location_name(part.rated.line.to_location)),
        PricedColumn(name="product_to_location_type", value=lambda part: location_type(part.rated.line.to_location)),
        PricedColumn(name="product_to_region_code", value=lambda part: region_code(part.rated.line.to_location)),
        PricedColumn(name="product_usagetype", value=lambda part: part.rated.line.usage_type),
    ]


def _used(terms: CurTerms) -> list[AnyColumn]:
    return [
        UsedColumn(name="line_item_usage_account_id", value=lambda part: part.account_id),
        UsedColumn(
            name="line_item_usage_account_name", value=lambda part: terms.names.get(part.account_id, part.account_id)
        ),
    ]


def _lines(terms: CurTerms) -> list[AnyColumn]:
    known, blended = Identities(), _Blended(terms)

    def ends(batch: Batch, form: FileFormat) -> pa.Array:
        return moments(ends_of(batch.starts, terms.grain), form, time_text)

    def amount(name: str, of: str) -> LineColumn:
        return LineColumn(
            name=name, kind="double", values=lambda batch, form: money(getattr(batch, of), form, double=True)
        )

    return [
        amount("line_item_unblended_cost", "cost"),
        amount("line_item_net_unblended_cost", "cost"),
        amount("line_item_usage_amount", "quantity"),
        amount("pricing_public_on_demand_cost", "list_cost"),
        LineColumn(name="line_item_blended_cost", kind="double", values=blended.costs),
        LineColumn(
            name="line_item_blended_rate",
            kind="number",
            values=lambda batch, _: blended.rate_texts(batch),
            repeats=True,
        ),
        LineColumn(name="identity_line_item_id", kind="text", values=lambda batch, _: known.charge_keys(batch)),
        LineColumn(
            name="identity_time_interval",
            kind="text",
            values=lambda batch, _: _intervals(batch, terms.grain),
            repeats=True,
        ),
        LineColumn(
            name="line_item_usage_start_date",
            kind="time",
            values=lambda batch, form: moments(batch.starts, form, time_text),
            repeats=True,
        ),
        LineColumn(name="line_item_usage_end_date", kind="time", values=ends, repeats=True),
    ]


@dataclass(slots=True)
class _Blended:
    """Blended rates: what a payer pays for a SKU in a month, by the GB. Mutable: it remembers those of a batch."""

    terms: CurTerms
    _last: tuple[Batch, pa.Array] | None = None

    def costs(self, batch: Batch, form: FileFormat) -> pa.Array:
        rates = self._rates(batch)
        # Where a SKU has one price, its blended rate is that.
        own = whole_numbers([part.rated.price for part in batch.parts.priced]).take(batch.priced)
        units = batch.cost if rates.equals(own) else costs(batch.bytes, batch.quantity, rates)
        return money(units, form, double=True)

    def rate_texts(self, batch: Batch) -> pa.Array:
        encoded = self._rates(batch).dictionary_encode()
        texts = pa.array([_rate(int(rate)) for rate in encoded.dictionary.to_pylist()], pa.string())
        return pa.DictionaryArray.from_arrays(encoded.indices, texts)

    def _rates(self, batch: Batch) -> pa.Array:
        if self._last is None or self._last[0] is not batch:
            encoded = line_numbers(batch).dictionary_encode()
            rates = [self._rate(*parts_of(batch.parts, number)) for number in encoded.dictionary.to_pylist()]
            self._last = batch, whole_numbers(rates).take(encoded.indices)
        return self._last[1]

    def _rate(self, billed: Billed, priced: Priced) -> int:
        rated = priced.rated
        return self.terms.blended.get((billed.payer.payer_id, billed.month, rated.sku), rated.price)


def _rate(price: int) -> str:
    return usd_text(price, decimals=DECIMALS)


def _product(part: Priced, books: Sequence[PriceBook]) -> Value:
    sold = next((book.by_sku[part.rated.sku] for book in books if part.rated.sku in book.by_sku), None)
    return (("product_name", _PRODUCT), *((("transfer_type", sold.transfer),) if sold else ()))


def _intervals(batch: Batch, grain: Grain) -> pa.Array:
    encoded = batch.starts.dictionary_encode()
    ends = ends_of(encoded.dictionary, grain).to_pylist()
    pairs = zip(encoded.dictionary.to_pylist(), ends, strict=True)
    texts = pa.array([f"{rfc3339(start_s)}/{rfc3339(end_s)}" for start_s, end_s in pairs], pa.string())
    return pa.DictionaryArray.from_arrays(encoded.indices, texts)

"""AWS's CUR 2.0: its 113 columns for a charge. Columns of reservations, savings plans and the like stay empty.

Readers of CUR rely on column positions, so a file has all columns in AWS's order. Only in Parquet are amounts doubles,
as in AWS's files; a double represents the ten decimals of any amount below 524,288. CSV has all digits.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pyarrow as pa

from metering.billing.money import DECIMALS, usd_text
from metering.hours import rfc3339
from metering.reports.exports import batches, grains
from metering.reports.exports.batches import Batch, Billed, Column, Layout, Priced, Value, costs, whole_numbers
from metering.reports.exports.datasets.focus import SKU_METER, description, operation

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from metering.billing.prices.book import PriceBook

# AWS calls 2^30 bytes a GB.
UNIT = "GB"
_PRODUCT = "AWS Data Transfer"
_OFFER = "AWSDataTransfer"


@dataclass(frozen=True, slots=True, kw_only=True)
class CurTerms:
    """Inputs that columns need besides charges; blended rates are 1e-10 USD per GB, by payer, month of use and SKU."""

    grain: grains.Grain
    books: Sequence[PriceBook] = ()
    names: Mapping[str, str] = field(default_factory=dict)
    blended: Mapping[tuple[str, str, str], int] = field(default_factory=dict)
    drafts: Collection[str] = ()


def cur_columns(terms: CurTerms) -> list[Column]:
    """All columns, in AWS's order."""
    said = {column.name: column for column in (*_billed(terms), *_priced(terms), *_lines(terms))}
    return [said.get(name) or next(batches.empty(name)) for name in batches.cur_names()]


def time_text(epoch_s: int) -> str:
    """A time in CUR's CSV form: `2026-11-01T00:00:00.000Z`."""
    return rfc3339(epoch_s).replace("Z", ".000Z")


def _billed(terms: CurTerms) -> Iterator[Column]:
    yield from batches.always("Anniversary", "bill_bill_type")
    yield from batches.billed("payer.issuer", "bill_billing_entity", "bill_invoicing_entity", "line_item_legal_entity")
    yield from batches.billed(lambda it: None if it.invoice_id in terms.drafts else it.invoice_id, "bill_invoice_id")
    yield from batches.billed("payer.payer_id", "bill_payer_account_id")
    yield from batches.billed("payer.name", "bill_payer_account_name")
    yield from batches.billed("begins_s", "bill_billing_period_start_date", kind="time")
    yield from batches.billed("ends_s", "bill_billing_period_end_date", kind="time")
    yield from batches.billed("payer.currency", "line_item_currency_code", "pricing_currency")
    yield from batches.billed(lambda it: "Credit" if it.credit_of else "Usage", "line_item_line_item_type")
    yield from batches.always("OnDemand", "pricing_term")
    yield from batches.always(UNIT, "pricing_unit", "product_pricing_unit")
    yield from batches.always(SKU_METER, "product_product_family")
    yield from batches.always(_OFFER, "product_servicecode")
    yield from batches.always((), "cost_category", "discount", "resource_tags", kind="map")
    # There are no discounts, because contract prices are in the rates.
    yield from batches.always(0, "discount_total_discount", kind="double")


def _priced(terms: CurTerms) -> Iterator[Column]:
    def product(it: Priced) -> Value:
        sold = next((book.by_sku[it.rated.sku] for book in terms.books if it.rated.sku in book.by_sku), None)
        return (("product_name", _PRODUCT), *((("transfer_type", sold.transfer),) if sold else ()))

    rates = ("line_item_unblended_rate", "line_item_net_unblended_rate")
    yield from batches.priced(lambda it: batches.zone_of(it.rated.line, it.region), "line_item_availability_zone")
    yield from batches.priced(description, "line_item_line_item_description")
    yield from batches.priced(operation, "line_item_operation", "product_operation")
    yield from batches.priced("rated.line.service", "line_item_product_code")
    yield from batches.priced(lambda it: _rate(it.rated.price), *rates, kind="number")
    yield from batches.priced(lambda it: _rate(it.rated.list_price), "pricing_public_on_demand_rate", kind="number")
    yield from batches.priced("rated.line.usage_type", "line_item_usage_type", "product_usagetype")
    yield from batches.priced("rated.rate_code", "pricing_rate_code")
    yield from batches.priced(lambda it: it.rated.rate_code.rpartition(".")[2] or None, "pricing_rate_id")
    yield from batches.priced(product, "product", kind="map")
    yield from batches.priced("region", "product_region_code")
    yield from batches.priced("rated.sku", "product_sku")
    yield from batches.priced(lambda it: batches.location_name(it.rated.line.from_location), "product_from_location")
    yield from batches.priced(
        lambda it: batches.location_type(it.rated.line.from_location), "product_from_location_type"
    )
    yield from batches.priced(lambda it: batches.region_code(it.rated.line.from_location), "product_from_region_code")
    yield from batches.priced(lambda it: batches.location_name(it.rated.line.to_location), "product_to_location")
    yield from batches.priced(lambda it: batches.location_type(it.rated.line.to_location), "product_to_location_type")
    yield from batches.priced(lambda it: batches.region_code(it.rated.line.to_location), "product_to_region_code")


def _lines(terms: CurTerms) -> Iterator[Column]:
    blended = _Blended(terms)
    yield from batches.used("account_id", "line_item_usage_account_id")
    yield from batches.used(lambda it: terms.names.get(it.account_id, it.account_id), "line_item_usage_account_name")
    yield from batches.amounts("cost", "line_item_unblended_cost", "line_item_net_unblended_cost", kind="double")
    yield from batches.amounts("quantity", "line_item_usage_amount", kind="double")
    yield from batches.amounts("list_cost", "pricing_public_on_demand_cost", kind="double")
    yield Column(name="line_item_blended_cost", kind="double", values=blended.costs)
    yield batches.texts("line_item_blended_rate", blended.rate_texts, kind="number", repeats=True)
    yield batches.charge_key("identity_line_item_id")
    yield batches.texts("identity_time_interval", lambda batch: _intervals(batch, terms.grain), repeats=True)
    yield from batches.period("line_item_usage_start_date", "line_item_usage_end_date", terms.grain)


@dataclass(slots=True)
class _Blended:
    """Blended rates: a payer's average price per GB of a SKU in a month. Mutable: caches a batch's rates."""

    terms: CurTerms
    _last: tuple[Batch, pa.Array] | None = None

    def costs(self, batch: Batch, layout: Layout) -> pa.Array:
        rates = self._rates(batch)
        # If a SKU has one price, its blended rate equals that price.
        own = whole_numbers([part.rated.price for part in batch.parts.priced]).take(batch.priced)
        units = batch.cost if rates.equals(own) else costs(batch.bytes, batch.quantity, rates)
        return batches.money(units, layout.form, double=True)

    def rate_texts(self, batch: Batch) -> pa.Array:
        encoded = self._rates(batch).dictionary_encode()
        texts = pa.array([_rate(int(rate)) for rate in encoded.dictionary.to_pylist()], pa.string())
        return pa.DictionaryArray.from_arrays(encoded.indices, texts)

    def _rates(self, batch: Batch) -> pa.Array:
        if self._last is None or self._last[0] is not batch:
            encoded = batches.line_numbers(batch).dictionary_encode()
            rates = [self._rate(*batches.parts_of(batch.parts, number)) for number in encoded.dictionary.to_pylist()]
            self._last = batch, whole_numbers(rates).take(encoded.indices)
        return self._last[1]

    def _rate(self, billed: Billed, priced: Priced) -> int:
        rated = priced.rated
        return self.terms.blended.get((billed.payer.payer_id, billed.month, rated.sku), rated.price)


def _rate(price: int) -> str:
    return usd_text(price, decimals=DECIMALS)


def _intervals(batch: Batch, grain: grains.Grain) -> pa.Array:
    encoded = batch.starts.dictionary_encode()
    ends = grains.ends_of(encoded.dictionary, grain).to_pylist()
    pairs = zip(encoded.dictionary.to_pylist(), ends, strict=True)
    texts = pa.array([f"{rfc3339(start_s)}/{rfc3339(end_s)}" for start_s, end_s in pairs], pa.string())
    return pa.DictionaryArray.from_arrays(encoded.indices, texts)

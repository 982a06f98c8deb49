"""FOCUS 1.2 and 1.4, dataset CostAndUsage: every column, and the column's value for a charge.

Columns that do not apply to data transfer are null, but present: the official validator requires all columns. Amounts
follow the line rule of AWS's bills, quantities are GiB (a GB of FOCUS is 10^9 bytes), ids are texts, times are UTC.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Literal

import pyarrow as pa
import pyarrow.compute as pc

from metering.billing.money import DECIMALS, usd_text
from metering.reports.exports import batches
from metering.reports.exports.allocation import ALLOCATED
from metering.reports.exports.batches import Batch, Column, Layout, Priced

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from metering.reports.exports import grains

FocusVersion = Literal["1.2", "1.4"]
UNIT = "GiB"
SKU_METER = "Data Transfer"

_NULL_TEXTS = (
    "CapacityReservationId", "CapacityReservationStatus", "CommitmentDiscountCategory", "CommitmentDiscountId",
    "CommitmentDiscountName", "CommitmentDiscountStatus", "CommitmentDiscountType", "CommitmentDiscountUnit",
)  # fmt: skip
# Columns for split costs, contracts and commitment programs, which data transfer does not have.
_NULL_TEXTS_OF_1_4 = (
    *ALLOCATED,
    "CommitmentProgramEligibilityDetails", "ContractApplied",
)  # fmt: skip


def focus_columns(version: FocusVersion, grain: grains.Grain, names: Mapping[str, str]) -> list[Column]:
    """The 57 columns of CostAndUsage 1.2 or the 65 columns of 1.4, sorted by name, followed by our own columns."""
    standard = (*_billed(), *_priced(), *_lines(grain, names), *_of_version(version))
    return [*sorted(standard, key=lambda column: column.name), *_own()]


def _of_version(version: FocusVersion) -> Iterator[Column]:
    if version == "1.2":
        yield from batches.billed("payer.issuer", "ProviderName", "PublisherName")
    else:
        yield from batches.billed("payer.issuer", "HostProviderName", "ServiceProviderName")
        yield from batches.empty(*_NULL_TEXTS_OF_1_4)
        yield batches.texts("InvoiceDetailId", batches.detail_ids)


def _billed() -> Iterator[Column]:
    yield from batches.billed("payer.payer_id", "BillingAccountId")
    yield from batches.billed("payer.name", "BillingAccountName")
    yield from batches.always("Payer", "BillingAccountType")
    yield from batches.billed("payer.currency", "BillingCurrency", "PricingCurrency")
    yield from batches.billed("begins_s", "BillingPeriodStart", kind="time")
    yield from batches.billed("ends_s", "BillingPeriodEnd", kind="time")
    # Credit notes reverse lines and bill them again, so the sign of their lines varies.
    yield from batches.billed(lambda it: "Adjustment" if it.credit_of else "Usage", "ChargeCategory")
    yield from batches.billed(lambda it: "Correction" if it.later else None, "ChargeClass")
    yield from batches.always("Usage-Based", "ChargeFrequency")
    yield from batches.billed("invoice_id", "InvoiceId")
    yield from batches.billed("payer.issuer", "InvoiceIssuerName")
    yield from batches.always("Standard", "PricingCategory")
    yield from batches.always(UNIT, "PricingUnit")
    # Only usage consumes.
    yield from batches.billed(lambda it: None if it.credit_of else UNIT, "ConsumedUnit")
    yield from batches.always(SKU_METER, "SkuMeter")
    yield from batches.always("Member", "SubAccountType")
    yield from batches.always("{}", "Tags")
    yield from batches.empty(*_NULL_TEXTS)
    yield from batches.empty("CommitmentDiscountQuantity", kind="money")


def _priced() -> Iterator[Column]:
    yield from batches.priced(lambda it: batches.zone_of(it.rated.line, it.region), "AvailabilityZone")
    yield from batches.priced(description, "ChargeDescription")
    yield from batches.priced("rated.price", "ContractedUnitPrice", "PricingCurrencyContractedUnitPrice", kind="money")
    yield from batches.priced("rated.list_price", "ListUnitPrice", "PricingCurrencyListUnitPrice", kind="money")
    yield from batches.priced("region", "RegionId")
    yield from batches.priced(lambda it: batches.region_name(it.region), "RegionName")
    yield from batches.priced("rated.line.service", "ServiceName")
    yield from batches.priced(lambda it: batches.service_category(it.rated.line.service)[0], "ServiceCategory")
    yield from batches.priced(lambda it: batches.service_category(it.rated.line.service)[1], "ServiceSubcategory")
    yield from batches.priced("rated.sku", "SkuId")
    yield from batches.priced("rated.rate_code", "SkuPriceId")
    yield from batches.priced(_price_details, "SkuPriceDetails")


def _lines(grain: grains.Grain, names: Mapping[str, str]) -> Iterator[Column]:
    yield from batches.used(lambda it: it.resource_id or None, "ResourceId")
    # Records contain ids, but no names.
    yield from batches.empty("ResourceName")
    yield from batches.used(lambda it: batches.resource_type(it.resource_id), "ResourceType")
    yield from batches.used("account_id", "SubAccountId")
    yield from batches.used(lambda it: names.get(it.account_id, it.account_id), "SubAccountName")
    yield from batches.amounts("cost", "BilledCost", "ContractedCost", "EffectiveCost", "PricingCurrencyEffectiveCost")
    yield from batches.amounts("list_cost", "ListCost")
    yield from batches.amounts("quantity", "PricingQuantity")
    yield Column(name="ConsumedQuantity", kind="money", values=_consumed)
    yield from batches.period("ChargePeriodStart", "ChargePeriodEnd", grain)


def _own() -> Iterator[Column]:
    """Columns that FOCUS does not define, whose names begin with `x_`, as FOCUS requires."""
    yield from batches.priced("rated.line.usage_type", "x_UsageType")
    yield from batches.priced("rated.line.service", "x_ServiceCode")
    yield from batches.priced(operation, "x_Operation")
    yield from batches.priced("rated.line.from_location", "x_FromLocation")
    yield from batches.priced("rated.line.to_location", "x_ToLocation")
    yield batches.texts("x_Bytes", lambda batch: batch.bytes.cast(pa.string()), kind="number")
    yield Column(name="x_CorrectsHour", kind="time", values=_corrected)
    yield from batches.billed(lambda it: it.credit_of or None, "x_CreditOf")
    yield batches.charge_key("x_ChargeKey")


def description(part: Priced) -> str:
    """A sentence that describes the charge, made of the line's own fields. Nothing may parse it."""
    rated, line = part.rated, part.rated.line
    way = f"{line.usage_type} of {line.service} from {line.from_location} to {line.to_location}"
    if rated.allowance:
        return f"Free by the allowance {rated.allowance}: {way}"
    upper = "on" if rated.tier_to_bytes is None else f"to {rated.tier_to_bytes:,}"
    tier = (
        f", from byte {rated.tier_from_bytes:,} {upper} of the month" if rated.tier_from_bytes or upper != "on" else ""
    )
    return f"{usd_text(rated.price, decimals=DECIMALS)} USD a GB{tier}: {way}"


def operation(part: Priced) -> str | None:
    """AWS's operation for traffic between regions; None for other traffic, because records do not state it."""
    usage_type = part.rated.line.usage_type
    if usage_type.endswith("-AWS-Out-Bytes"):
        return "PublicIP-Out"
    return "PublicIP-In" if usage_type.endswith("-AWS-In-Bytes") else None


def _price_details(part: Priced) -> str:
    rated = part.rated
    details = {
        "x_UsageType": rated.line.usage_type,
        "x_TierFrom": str(rated.tier_from_bytes),
        "x_TierTo": None if rated.tier_to_bytes is None else str(rated.tier_to_bytes),
    }
    return json.dumps(details | ({"x_Allowance": rated.allowance} if rated.allowance else {}))


def _consumed(batch: Batch, layout: Layout) -> pa.Array:
    flags = pa.array([not part.credit_of for part in batch.parts.billed], pa.bool_())
    return _where(flags.take(batch.billed), batches.money(batch.quantity, layout.form))


def _corrected(batch: Batch, layout: Layout) -> pa.Array:
    flags = pa.array([part.later for part in batch.parts.billed], pa.bool_())
    return _where(flags.take(batch.billed), batches.moments(batch.starts, layout.form, layout.time_text))


def _where(flags: pa.Array, values: pa.Array) -> pa.Array:
    if pc.all(flags).as_py():
        return values
    if not pc.any(flags).as_py():
        kind = values.type.value_type if pa.types.is_dictionary(values.type) else values.type
        return pa.nulls(len(values), kind)
    dense = values.dictionary_decode() if pa.types.is_dictionary(values.type) else values
    return pc.if_else(flags, dense, pa.scalar(None, dense.type))

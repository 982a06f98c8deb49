"""FOCUS 1.2 and 1.4, dataset CostAndUsage: every column and what it says of a charge.

What is not applicable to data transfer is there and null: the official validator asks for all columns. Amounts follow
the line rule of AWS's bills, quantities are GiB (a GB of FOCUS is 10^9 bytes), ids are texts, times are UTC.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Literal

import pyarrow as pa
import pyarrow.compute as pc

from metering.billing.money import DECIMALS, usd_text
from metering.reports.exports.datasets.columns import (
    Column,
    Identities,
    Layout,
    always,
    amounts,
    billed,
    empty,
    moments,
    money,
    period,
    priced,
    region_name,
    resource_type,
    service_category,
    texts,
    used,
    zone_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from metering.reports.exports.batches import Batch, Priced
    from metering.reports.exports.grains import Grain

FocusVersion = Literal["1.2", "1.4"]
UNIT = "GiB"
SKU_METER = "Data Transfer"

_NULL_TEXTS = (
    "CapacityReservationId", "CapacityReservationStatus", "CommitmentDiscountCategory", "CommitmentDiscountId",
    "CommitmentDiscountName", "CommitmentDiscountStatus", "CommitmentDiscountType", "CommitmentDiscountUnit",
)  # fmt: skip
# Split costs, contracts and commitment programs, which data transfer of ours has none of.
_NULL_TEXTS_OF_1_4 = (
    "AllocatedMethodDetails", "AllocatedMethodId", "AllocatedResourceId", "AllocatedResourceName", "AllocatedTags",
    "CommitmentProgramEligibilityDetails", "ContractApplied",
)  # fmt: skip


def focus_columns(version: FocusVersion, grain: Grain, names: Mapping[str, str]) -> list[Column]:
    """The 57 columns of CostAndUsage 1.2 or the 65 of 1.4, sorted by name, and ours after them."""
    known = Identities()
    standard = (*_billed(), *_priced(), *_lines(grain, names), *_of_version(version, known))
    return [*sorted(standard, key=lambda column: column.name), *_own(known)]


def _of_version(version: FocusVersion, known: Identities) -> Iterator[Column]:
    if version == "1.2":
        yield from billed("payer.issuer", "ProviderName", "PublisherName")
    else:
        yield from billed("payer.issuer", "HostProviderName", "ServiceProviderName")
        yield from empty(*_NULL_TEXTS_OF_1_4)
        yield texts("InvoiceDetailId", known.detail_ids)


def _billed() -> Iterator[Column]:
    yield from billed("payer.payer_id", "BillingAccountId")
    yield from billed("payer.name", "BillingAccountName")
    yield from always("Payer", "BillingAccountType")
    yield from billed("payer.currency", "BillingCurrency", "PricingCurrency")
    yield from billed("begins_s", "BillingPeriodStart", kind="time")
    yield from billed("ends_s", "BillingPeriodEnd", kind="time")
    # Credit notes take back and bill anew, so one of their lines may be of either sign.
    yield from billed(lambda it: "Adjustment" if it.credit_of else "Usage", "ChargeCategory")
    yield from billed(lambda it: "Correction" if it.later else None, "ChargeClass")
    yield from always("Usage-Based", "ChargeFrequency")
    yield from billed("invoice_id", "InvoiceId")
    yield from billed("payer.issuer", "InvoiceIssuerName")
    yield from always("Standard", "PricingCategory")
    yield from always(UNIT, "PricingUnit")
    # Only usage consumes.
    yield from billed(lambda it: None if it.credit_of else UNIT, "ConsumedUnit")
    yield from always(SKU_METER, "SkuMeter")
    yield from always("Member", "SubAccountType")
    yield from always("{}", "Tags")
    yield from empty(*_NULL_TEXTS)
    yield from empty("CommitmentDiscountQuantity", kind="money")


def _priced() -> Iterator[Column]:
    yield from priced(lambda it: zone_of(it.rated.line, it.region), "AvailabilityZone")
    yield from priced(description, "ChargeDescription")
    yield from priced("rated.price", "ContractedUnitPrice", "PricingCurrencyContractedUnitPrice", kind="money")
    yield from priced("rated.list_price", "ListUnitPrice", "PricingCurrencyListUnitPrice", kind="money")
    yield from priced("region", "RegionId")
    yield from priced(lambda it: region_name(it.region), "RegionName")
    yield from priced("rated.line.service", "ServiceName")
    yield from priced(lambda it: service_category(it.rated.line.service)[0], "ServiceCategory")
    yield from priced(lambda it: service_category(it.rated.line.service)[1], "ServiceSubcategory")
    yield from priced("rated.sku", "SkuId")
    yield from priced("rated.rate_code", "SkuPriceId")
    yield from priced(_price_details, "SkuPriceDetails")


def _lines(grain: Grain, names: Mapping[str, str]) -> Iterator[Column]:
    yield from used(lambda it: it.resource_id or None, "ResourceId")
    # Records carry ids, and no names.
    yield from empty("ResourceName")
    yield from used(lambda it: resource_type(it.resource_id), "ResourceType")
    yield from used("account_id", "SubAccountId")
    yield from used(lambda it: names.get(it.account_id, it.account_id), "SubAccountName")
    yield from amounts("cost", "BilledCost", "ContractedCost", "EffectiveCost", "PricingCurrencyEffectiveCost")
    yield from amounts("list_cost", "ListCost")
    yield from amounts("quantity", "PricingQuantity")
    yield Column(name="ConsumedQuantity", kind="money", values=_consumed)
    yield from period("ChargePeriodStart", "ChargePeriodEnd", grain)


def _own(known: Identities) -> Iterator[Column]:
    """Columns of our own, whose names begin with `x_`, as FOCUS demands it."""
    yield from priced("rated.line.usage_type", "x_UsageType")
    yield from priced("rated.line.service", "x_ServiceCode")
    yield from priced(operation, "x_Operation")
    yield from priced("rated.line.from_location", "x_FromLocation")
    yield from priced("rated.line.to_location", "x_ToLocation")
    yield texts("x_Bytes", lambda batch: batch.bytes.cast(pa.string()), kind="number")
    yield Column(name="x_CorrectsHour", kind="time", values=_corrected)
    yield from billed(lambda it: it.credit_of or None, "x_CreditOf")
    yield texts("x_ChargeKey", known.charge_keys)


def description(part: Priced) -> str:
    """A sentence for people, made of the line's own fields. Nothing may parse it."""
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
    """AWS's operation of traffic between regions; a record does not carry it, and of other traffic nothing tells it."""
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
    return _where(flags.take(batch.billed), money(batch.quantity, layout.form))


def _corrected(batch: Batch, layout: Layout) -> pa.Array:
    flags = pa.array([part.later for part in batch.parts.billed], pa.bool_())
    return _where(flags.take(batch.billed), moments(batch.starts, layout.form, layout.time_text))


def _where(flags: pa.Array, values: pa.Array) -> pa.Array:
    if pc.all(flags).as_py():
        return values
    if not pc.any(flags).as_py():
        kind = values.type.value_type if pa.types.is_dictionary(values.type) else values.type
        return pa.nulls(len(values), kind)
    dense = values.dictionary_decode() if pa.types.is_dictionary(values.type) else values
    return pc.if_else(flags, dense, pa.scalar(None, dense.type))

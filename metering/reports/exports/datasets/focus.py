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
from metering.hours import month_bounds_s, rfc3339
from metering.reports.exports.datasets.columns import (
    AnyColumn,
    BilledColumn,
    EmptyColumn,
    FileFormat,
    Identities,
    LineColumn,
    PricedColumn,
    UsedColumn,
    moments,
    money,
    region_name,
    resource_type,
    service_category,
    zone_of,
)
from metering.reports.exports.grains import Grain, ends_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from metering.reports.exports.batches import Batch, Billed, Priced

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


def focus_columns(version: FocusVersion, grain: Grain, names: Mapping[str, str]) -> list[AnyColumn]:
    """Columns of CostAndUsage, those of the specification first, each sorted by name.

    Args:
        version: 1.2 has 57 columns, 1.4 has 65; ours come after them.
        grain: Period of a line.
        names: Names of accounts.
    """
    known = Identities()
    standard = [*_billed(), *_priced(), *_used(names), *_lines(grain), *_of_version(version, known)]
    standard += [EmptyColumn(name=name) for name in _NULL_TEXTS]
    standard.append(EmptyColumn(name="CommitmentDiscountQuantity", kind="money"))
    return [*sorted(standard, key=lambda column: column.name), *_own(known)]


def charge_category(billed: Billed) -> str:
    """`Adjustment` on credit notes: they take back and bill anew, so one of their lines may be of either sign."""
    return "Adjustment" if billed.credit_of else "Usage"


def _of_version(version: FocusVersion, known: Identities) -> list[AnyColumn]:
    providers = ("ProviderName", "PublisherName") if version == "1.2" else ("HostProviderName", "ServiceProviderName")
    columns: list[AnyColumn] = [BilledColumn(name=name, value=lambda part: part.payer.issuer) for name in providers]
    if version == "1.4":
        columns += [EmptyColumn(name=name) for name in _NULL_TEXTS_OF_1_4]
        columns.append(LineColumn(name="InvoiceDetailId", kind="text", values=lambda batch, _: known.detail_ids(batch)))
    return columns


def _billed() -> list[AnyColumn]:
    return [
        BilledColumn(name="BillingAccountId", value=lambda part: part.payer.payer_id),
        BilledColumn(name="BillingAccountName", value=lambda part: part.payer.name),
        BilledColumn(name="BillingAccountType", value=lambda _: "Payer"),
        BilledColumn(name="BillingCurrency", value=lambda part: part.payer.currency),
        BilledColumn(name="BillingPeriodStart", kind="time", value=lambda part: month_bounds_s(part.billing_month)[0]),
        BilledColumn(name="BillingPeriodEnd", kind="time", value=lambda part: month_bounds_s(part.billing_month)[1]),
        BilledColumn(name="ChargeCategory", value=charge_category),
        BilledColumn(name="ChargeClass", value=lambda part: "Correction" if part.later else None),
        BilledColumn(name="ChargeFrequency", value=lambda _: "Usage-Based"),
        BilledColumn(name="InvoiceId", value=lambda part: part.invoice_id),
        BilledColumn(name="InvoiceIssuerName", value=lambda part: part.payer.issuer),
        BilledColumn(name="PricingCategory", value=lambda _: "Standard"),
        BilledColumn(name="PricingCurrency", value=lambda part: part.payer.currency),
        BilledColumn(name="PricingUnit", value=lambda _: UNIT),
        # Only usage consumes.
        BilledColumn(name="ConsumedUnit", value=lambda part: None if part.credit_of else UNIT),
        BilledColumn(name="SkuMeter", value=lambda _: SKU_METER),
        BilledColumn(name="SubAccountType", value=lambda _: "Member"),
        BilledColumn(name="Tags", value=lambda _: "{}"),
    ]


def _priced() -> list[AnyColumn]:
    return [
        PricedColumn(name="AvailabilityZone", value=lambda part: zone_of(part.rated.line, part.region)),
        PricedColumn(name="ChargeDescription", value=description),
        PricedColumn(name="ContractedUnitPrice", kind="money", value=lambda part: part.rated.price),
        PricedColumn(name="ListUnitPrice", kind="money", value=lambda part: part.rated.list_price),
        PricedColumn(name="PricingCurrencyContractedUnitPrice", kind="money", value=lambda part: part.rated.price),
        PricedColumn(name="PricingCurrencyListUnitPrice", kind="money", value=lambda part: part.rated.list_price),
        PricedColumn(name="RegionId", value=lambda part: part.region),
        PricedColumn(name="RegionName", value=lambda part: region_name(part.region)),
        PricedColumn(name="ServiceName", value=lambda part: part.rated.line.service),
        PricedColumn(name="ServiceCategory", value=lambda part: service_category(part.rated.line.service)[0]),
        PricedColumn(name="ServiceSubcategory", value=lambda part: service_category(part.rated.line.service)[1]),
        PricedColumn(name="SkuId", value=lambda part: part.rated.sku),
        PricedColumn(name="SkuPriceId", value=lambda part: part.rated.rate_code),
        PricedColumn(name="SkuPriceDetails", value=_price_details),
    ]


def _used(names: Mapping[str, str]) -> list[AnyColumn]:
    return [
        UsedColumn(name="ResourceId", value=lambda part: part.resource_id or None),
        # Records carry ids, and no names.
        EmptyColumn(name="ResourceName"),
        UsedColumn(name="ResourceType", value=lambda part: resource_type(part.resource_id)),
        UsedColumn(name="SubAccountId", value=lambda part: part.account_id),
        UsedColumn(name="SubAccountName", value=lambda part: names.get(part.account_id, part.account_id)),
    ]


def _lines(grain: Grain) -> list[AnyColumn]:
    costs = ("BilledCost", "ContractedCost", "EffectiveCost", "PricingCurrencyEffectiveCost")
    return [
        *(LineColumn(name=name, kind="money", values=lambda batch, form: money(batch.cost, form)) for name in costs),
        LineColumn(name="ListCost", kind="money", values=lambda batch, form: money(batch.list_cost, form)),
        LineColumn(name="PricingQuantity", kind="money", values=lambda batch, form: money(batch.quantity, form)),
        LineColumn(name="ConsumedQuantity", kind="money", values=_consumed),
        LineColumn(name="ChargePeriodStart", kind="time", values=_starts, repeats=True),
        LineColumn(
            name="ChargePeriodEnd",
            kind="time",
            values=lambda batch, form: moments(ends_of(batch.starts, grain), form, rfc3339),
            repeats=True,
        ),
    ]


def _own(known: Identities) -> list[AnyColumn]:
    """Columns of our own, whose names begin with `x_`, as FOCUS demands it."""
    return [
        PricedColumn(name="x_UsageType", value=lambda part: part.rated.line.usage_type),
        PricedColumn(name="x_ServiceCode", value=lambda part: part.rated.line.service),
        PricedColumn(name="x_Operation", value=operation),
        PricedColumn(name="x_FromLocation", value=lambda part: part.rated.line.from_location),
        PricedColumn(name="x_ToLocation", value=lambda part: part.rated.line.to_location),
        LineColumn(name="x_Bytes", kind="number", values=lambda batch, _: batch.bytes.cast(pa.string())),
        LineColumn(name="x_CorrectsHour", kind="time", values=_corrected),
        BilledColumn(name="x_CreditOf", value=lambda part: part.credit_of or None),
        LineColumn(name="x_ChargeKey", kind="text", values=lambda batch, _: known.charge_keys(batch)),
    ]


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


def _starts(batch: Batch, form: FileFormat) -> pa.Array:
    return moments(batch.starts, form, rfc3339)


def _consumed(batch: Batch, form: FileFormat) -> pa.Array:
    flags = pa.array([not part.credit_of for part in batch.parts.billed], pa.bool_())
    return _where(flags.take(batch.billed), money(batch.quantity, form))


def _corrected(batch: Batch, form: FileFormat) -> pa.Array:
    flags = pa.array([part.later for part in batch.parts.billed], pa.bool_())
    return _where(flags.take(batch.billed), _starts(batch, form))


def _where(flags: pa.Array, values: pa.Array) -> pa.Array:
    """Values where the flag is set, and null elsewhere."""
    if pc.all(flags).as_py():
        return values
    if not pc.any(flags).as_py():
        kind = values.type.value_type if pa.types.is_dictionary(values.type) else values.type
        return pa.nulls(len(values), kind)
    dense = values.dictionary_decode() if pa.types.is_dictionary(values.type) else values
    return pc.if_else(flags, dense, pa.scalar(None, dense.type))

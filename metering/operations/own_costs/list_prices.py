"""List prices of us-east-1, for every cost that the service or its load tests print.

Source: secondary pages, first tier, read in autumn 2026; a bill may differ. Each printed cost names the prices it was
computed with.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING

from metering.units import GIB, KIB

if TYPE_CHECKING:
    from collections.abc import Mapping

_STORAGE_USD_GB_MONTH = {
    "STANDARD": Decimal("0.023"),
    "STANDARD_IA": Decimal("0.0125"),
    "GLACIER_IR": Decimal("0.004"),
}
_SMALLEST_BILLED_BYTES = {"STANDARD_IA": 128 * KIB, "GLACIER_IR": 128 * KIB}
_S3_PUT_USD = Decimal("0.005") / 1_000
_S3_GET_USD = Decimal("0.0004") / 1_000

PROCESSING_USD: Mapping[str, Decimal] = {
    "DynamoDB write request unit (on demand)": Decimal("0.625") / 1_000_000,
    "DynamoDB read request unit (on demand)": Decimal("0.125") / 1_000_000,
    "SQS request (standard, 64 KiB)": Decimal("0.40") / 1_000_000,
    "Lambda request": Decimal("0.20") / 1_000_000,
    "Lambda GB-second (arm64)": Decimal("0.0000133334"),
    "S3 PUT": _S3_PUT_USD,
}
"""Prices of one unit of the services that a batch passes through."""

STORED_ITEMS_USD_GB_MONTH: Mapping[str, Decimal] = {
    "DynamoDB storage": Decimal("0.25"),
    "point-in-time recovery": Decimal("0.20"),
}
"""Prices of a GB of items for a month."""

FLOW_LOG_USD: Mapping[str, Decimal] = {
    "delivery to S3, first 10 TB a month": Decimal("0.25"),
    "conversion to Parquet (not confirmed)": Decimal("0.035"),
    "S3 storage a month": _STORAGE_USD_GB_MONTH["STANDARD"],
}
"""Prices of a GB of flow logs; delivery and conversion count it before compression (CloudWatch, vended logs)."""

STANDING_USD: Mapping[str, Decimal] = {
    "alarm": Decimal("0.10"),
    "composite alarm": Decimal("0.50"),
    "dashboard": Decimal("3.00"),
    "custom metric": Decimal("0.30"),
    "customer managed key": Decimal("1.00"),
}
"""Prices of what a region has whether it meters or not, each a month."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoragePrices:
    """S3 prices.

    Attributes:
        storage_usd_gb_month: Price by storage class; a GB is 2^30 bytes.
        put_usd: Price of one PUT.
        get_usd: Price of one GET.
        smallest_billed_bytes: Size that smaller objects are billed as, by storage class.
    """

    storage_usd_gb_month: Mapping[str, Decimal] = field(default_factory=lambda: dict(_STORAGE_USD_GB_MONTH))
    put_usd: Decimal = _S3_PUT_USD
    get_usd: Decimal = _S3_GET_USD
    smallest_billed_bytes: Mapping[str, int] = field(default_factory=lambda: dict(_SMALLEST_BILLED_BYTES))

    def month_usd(self, storage_class: str, stored_bytes: int) -> Decimal:
        """Price of keeping `stored_bytes` for a month."""
        price = self.storage_usd_gb_month.get(storage_class, self.storage_usd_gb_month["STANDARD"])
        return Decimal(stored_bytes) / GIB * price

    def billed_bytes(self, storage_class: str, size_bytes: int) -> int:
        """Bytes that an object is billed for."""
        return max(size_bytes, self.smallest_billed_bytes.get(storage_class, 0))

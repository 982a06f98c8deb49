"""List prices that figures of cost are computed with. Every such figure is printed with the table it comes from."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING

from metering.units import GIB

if TYPE_CHECKING:
    from collections.abc import Mapping

_STORAGE_USD_GB_MONTH = {
    "STANDARD": Decimal("0.023"),
    "STANDARD_IA": Decimal("0.0125"),
    "GLACIER_IR": Decimal("0.004"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class StoragePrices:
    """S3 prices. The defaults are the list prices of us-east-1, first tier, from secondary pages of 2026.

    Attributes:
        storage_usd_gb_month: By storage class; a GB is 2^30 bytes.
        put_usd, get_usd: One request.
        smallest_billed_bytes: By storage class, where smaller objects are billed as if they were so large.
    """

    storage_usd_gb_month: Mapping[str, Decimal] = field(default_factory=lambda: dict(_STORAGE_USD_GB_MONTH))
    put_usd: Decimal = Decimal("0.000005")
    get_usd: Decimal = Decimal("0.0000004")
    smallest_billed_bytes: Mapping[str, int] = field(
        default_factory=lambda: {"STANDARD_IA": 128 * 1024, "GLACIER_IR": 128 * 1024}
    )

    def month_usd(self, storage_class: str, stored_bytes: int) -> Decimal:
        """Keeping so many bytes for a month."""
        price = self.storage_usd_gb_month.get(storage_class, self.storage_usd_gb_month["STANDARD"])
        return Decimal(stored_bytes) / GIB * price

    def billed_bytes(self, storage_class: str, size_bytes: int) -> int:
        """What an object counts for."""
        return max(size_bytes, self.smallest_billed_bytes.get(storage_class, 0))

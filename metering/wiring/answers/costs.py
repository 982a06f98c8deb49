"""Costs of usage: where money is, and the answer to one question about it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from metering.wiring.answers.ports import ReadableRegion


@dataclass(frozen=True, slots=True, kw_only=True)
class BillingRegions:
    """Regions that are rated together: a payer's tiers and allowances count over all of them.

    Attributes:
        home: The region with price books, payers and invoices.
        regions: Every region that holds data of the stage, sorted by name.
        left_out: Parts of the service that regions run without, by region.
    """

    home: ReadableRegion
    regions: Sequence[ReadableRegion]
    left_out: Mapping[str, Sequence[str]] = field(default_factory=dict)

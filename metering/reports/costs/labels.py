"""Values of the columns that a report of costs is grouped by."""

from __future__ import annotations

from typing import TYPE_CHECKING

from metering.billing.money import UNITS_A_USD, quantity_of, usd_text
from metering.billing.rating.lines import PriceState
from metering.reports.usage_rows import value_functions
from metering.usage.totals import UsageKey

if TYPE_CHECKING:
    from metering.billing.prices.book import PriceBook
    from metering.billing.rating.lines import RatedLine
    from metering.reports.costs.query import CostQuery
    from metering.reports.usage_rows import Values

_DECIMALS = len(str(UNITS_A_USD)) - 1


class Labels:
    """Names the rows that lines of one payer and month count in. Mutable: it remembers tiers.

    Args:
        query: The question.
        book: Names the tiers.
        payer_id: Who pays.
        region: Whose ledger has the lines.
    """

    def __init__(self, query: CostQuery, book: PriceBook, *, payer_id: str, region: str = "") -> None:
        self._of_key = value_functions(query.usage, region, {"tier": _nothing, "payer": lambda _key: payer_id})
        columns = query.usage.group_by
        self._tier_at = columns.index("tier") if "tier" in columns else None
        self._book = book
        self._tiers: dict[tuple[str, str, int, int | None], str] = {}

    def of(self, rated: RatedLine, *, booked_s: int | None = None) -> Values:
        """Values of a rated line.

        Args:
            rated: The line.
            booked_s: Of a correction, the hour that books it.
        """
        line = rated.line
        key = UsageKey(
            line.hour_s if booked_s is None else booked_s,
            line.account_id,
            line.usage_type,
            line.service,
            line.from_location,
            line.to_location,
            None if booked_s is None else line.hour_s,
        )
        values = tuple([value(key) for value in self._of_key])
        if self._tier_at is None:
            return values
        return (*values[: self._tier_at], self.tier(rated), *values[self._tier_at + 1 :])

    def tier(self, rated: RatedLine) -> str:
        """Name of a line's tier, such as `tier 2 (10240-51200 GB)`; or why it has none."""
        if rated.state is not PriceState.PRICED:
            return rated.state.value
        if rated.allowance:
            return f"free ({rated.allowance})"
        named = (rated.sku, rated.rate_code, rated.tier_from_bytes, rated.tier_to_bytes)
        known = self._tiers.get(named)
        if known is None:
            known = self._tiers[named] = _tier_name(self._book, rated)
        return known


def gb_text(size: int) -> str:
    """A number of bytes in GB of 2^30, without zeros that say nothing: `10240`, `0.5`."""
    text = usd_text(quantity_of(size), decimals=_DECIMALS)
    return text.rstrip("0").rstrip(".")


def _tier_name(book: PriceBook, rated: RatedLine) -> str:
    named = (rated.tier_from_bytes, rated.tier_to_bytes, rated.rate_code)
    # Not the version in force in the line's hour: a sum of days has none.
    tiers = next(
        version.tiers
        for version in reversed(book.by_sku[rated.sku].versions)
        if any((tier.from_bytes, tier.to_bytes, tier.rate_code) == named for tier in version.tiers)
    )
    if len(tiers) == 1:
        return "flat"
    place = sum(tier.from_bytes <= rated.tier_from_bytes for tier in tiers)
    first = gb_text(rated.tier_from_bytes)
    if rated.tier_to_bytes is None:
        return f"tier {place} ({first}+ GB)"
    return f"tier {place} ({first}-{gb_text(rated.tier_to_bytes)} GB)"


def _nothing(_key: UsageKey) -> str:
    return ""

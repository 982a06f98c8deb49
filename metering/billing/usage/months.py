"""Usage of a month over all regions, payer by payer.

Regions' ledgers do not know each other, and tiers count over all of them: whoever rates a payer needs all its regions.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from metering.billing.usage.merged import MergedUsage
from metering.billing.usage.ports import Correction
from metering.hours import month_bounds_s, month_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from metering.billing.organization.payers import Organization
    from metering.billing.usage.ports import Late, RegionMonth


@dataclass(frozen=True, slots=True, kw_only=True)
class MonthUsage:
    """Usage of one month.

    Attributes:
        regions: One for each region that holds data of the stage. Each may be open or closed.
        month: `2026-11`, that of all regions.
        organization: Who pays for whom.
    """

    regions: Sequence[RegionMonth]
    month: str
    organization: Organization

    @property
    def closed(self) -> Mapping[str, str]:
        """Region -> digest of its frozen month, of the regions whose month is closed."""
        return {each.region: each.digest for each in self.regions if each.digest}

    @property
    def is_closed(self) -> bool:
        """Whether the month is closed in every region."""
        return all(each.digest for each in self.regions)

    def accounts(self) -> Iterator[str]:
        """Accounts with usage or corrections in any region, in order, each once."""
        return (account_id for account_id, _ in groupby(heapq.merge(*(each.accounts() for each in self.regions))))

    def payers(self) -> Iterator[str]:
        """Payers that have usage or corrections in the month, in order, each once.

        Memory grows with the number of payers, not with usage.
        """
        found: set[str] = set()
        for account_id in self.accounts():
            found |= self.payers_of(account_id)
        for each in self.corrections():
            found.add(each.payer_id)
        return iter(sorted(found))

    def of(self, payer_id: str) -> MergedUsage:
        """The usage of a payer; empty if it has none."""
        return MergedUsage(
            regions=tuple(self.regions), month=self.month, organization=self.organization, payer_id=payer_id
        )

    def corrections(self, payer_id: str | None = None) -> Iterator[Correction]:
        """Usage of earlier months that is booked in this one, of one payer or of all; region by region.

        Args:
            payer_id: Only the corrections that this payer pays.
        """
        accounts = None if payer_id is None else self.organization.accounts_of(payer_id)
        for region in self.regions:
            for _, line in region.late(accounts):
                payer = self.organization.payer_of(line.account_id, line.hour_s)
                if payer_id is None or payer == payer_id:
                    yield Correction(payer, month_of(line.hour_s), line)

    def late(self, payer_id: str) -> Iterator[tuple[str, Late]]:
        """The same of one payer, with the region and the hour that book it."""
        accounts = self.organization.accounts_of(payer_id)
        for region in self.regions:
            for late in region.late(accounts):
                if self.organization.payer_of(late.line.account_id, late.line.hour_s) == payer_id:
                    yield region.region, late

    def payers_of(self, account_id: str) -> set[str]:
        """Who pays for an account in any hour of the month."""
        first_s, after_s = month_bounds_s(self.month)
        hours = (first_s, *(hour_s for hour_s in self.organization.changes(account_id) if first_s < hour_s < after_s))
        return {self.organization.payer_of(account_id, hour_s) for hour_s in hours}

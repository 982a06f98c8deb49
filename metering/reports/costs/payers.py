"""Who pays for the accounts of a month, and which of them cannot be summed together with others."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from metering.hours import month_bounds_s

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from metering.billing.organization.payers import Organization
    from metering.billing.usage.months import MonthUsage
    from metering.reports.costs.query import CostQuery

# Payers whose sums by product and day are held at once: with 20 products, 240,000 of them.
_TOGETHER = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class PayersTogether:
    """Some payers with all their accounts.

    Attributes:
        payers: In order; the place of one is its number.
        accounts: Account -> number of its payer, of those that it has all month and with its prices.
        whole: They are all payers of the month, so nothing has to be left out when it is read.
        apart: Number of a payer -> accounts that move to or from it within the month, or have prices of their own.
    """

    payers: tuple[str, ...]
    accounts: Mapping[str, int]
    apart: Mapping[int, frozenset[str]]
    whole: bool = False

    @property
    def wanted(self) -> frozenset[str] | None:
        """Accounts to read; None for all."""
        return None if self.whole else frozenset(self.accounts)

    @property
    def alone(self) -> bool:
        """Whether all usage of the month is one payer's, at the prices that its accounts share."""
        return self.whole and len(self.payers) == 1 and not self.apart

    @property
    def everything(self) -> frozenset[str]:
        """All of the accounts."""
        return frozenset(self.accounts).union(*self.apart.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class MonthPayers:
    """Payers of a month's accounts.

    Attributes:
        whole: Payer -> accounts that it has all month and with its prices.
        apart: Payer -> accounts that move to or from it within the month, or have prices of their own.
        all_of_month: No payer of the month is left out.
    """

    whole: Mapping[str, set[str]]
    apart: Mapping[str, set[str]]
    all_of_month: bool

    @property
    def of_sums(self) -> PayersTogether | None:
        """All of those whose accounts may be summed together, if there are any."""
        names = sorted(self.whole.keys() - self.apart.keys())
        return self._of(names, len(names)) if names else None

    def together(self, payers: Collection[str]) -> Iterator[PayersTogether]:
        """Some payers, some hundred at a time."""
        names = sorted(payers)
        for first in range(0, len(names), _TOGETHER):
            yield self._of(names[first : first + _TOGETHER], len(names))

    def _of(self, names: Sequence[str], of: int) -> PayersTogether:
        whole = self.all_of_month and of == len(self.whole) == len(names)
        return replace(_together(names, self.whole, self.apart), whole=whole)


def payers_of_month(usage: MonthUsage, *, payers: frozenset[str], own_prices: frozenset[str]) -> MonthPayers:
    """The payers of a month's accounts.

    Args:
        usage: The month.
        payers: Only these; empty: all.
        own_prices: Accounts with overrides of their own.
    """
    whole: dict[str, set[str]] = {}
    apart: dict[str, set[str]] = {}
    first_s, after_s = month_bounds_s(usage.month)
    for account_id in usage.accounts():
        moves = any(first_s < hour_s < after_s for hour_s in usage.organization.changes(account_id))
        for payer_id in usage.payers_of(account_id):
            if not payers or payer_id in payers:
                whole.setdefault(payer_id, set())
                into = apart if moves or account_id in own_prices else whole
                into.setdefault(payer_id, set()).add(account_id)
    return MonthPayers(whole=whole, apart=apart, all_of_month=not payers)


def _together(names: Sequence[str], whole: Mapping[str, set[str]], apart: Mapping[str, set[str]]) -> PayersTogether:
    return PayersTogether(
        payers=tuple(names),
        accounts={account_id: number for number, payer_id in enumerate(names) for account_id in whole[payer_id]},
        apart={number: frozenset(apart[payer_id]) for number, payer_id in enumerate(names) if payer_id in apart},
    )


def payers_asked(query: CostQuery, organization: Organization, month: str) -> frozenset[str]:
    """Payers that a report is about in a month, by its filters; empty if it is about all of them."""
    accounts, payers = query.usage.accounts, query.payers
    if not accounts:
        return payers
    first_s, after_s = month_bounds_s(month)
    found = frozenset[str]().union(*(organization.payers_between(each, first_s, after_s) for each in accounts))
    # No payer has the empty id: an account of another payer than those asked for has no costs here.
    return found & payers or frozenset([""]) if payers else found


def accounts_that_share(query: CostQuery, organization: Organization, month: str) -> frozenset[str]:
    """Accounts whose usage of a month has a part in what a report says: all that its payers pay for then."""
    first_s, after_s = month_bounds_s(month)
    return frozenset(
        account_id
        for payer_id in payers_asked(query, organization, month) - {""}
        for account_id in organization.accounts_of(payer_id)
        if payer_id in organization.payers_between(account_id, first_s, after_s)
    )

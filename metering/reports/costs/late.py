"""Costs of usage that arrived after its month was closed: changes of that month's cost, booked in a later month."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC
from typing import TYPE_CHECKING, NamedTuple

from metering.billing.invoices import composing
from metering.hours import month_bounds_s, month_of, rfc3339
from metering.reports.costs.rows import CostQuery, Entry, Labels
from metering.reports.time_range import shown

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from metering.billing.invoices import inputs
    from metering.billing.invoices.planning import Planner
    from metering.billing.payers import Organization
    from metering.billing.usage.months import Correction, MonthUsage, UsageLine


# Number of payers whose sums by product and day are in memory at once: with 20 products, 240,000 sums.
_TOGETHER = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class PayersTogether:
    """Some payers, and all accounts of these payers.

    Attributes:
        payers: Payers in order; a payer's index is its number.
        accounts: Account -> payer's number, for accounts that belong to the payer all month at the payer's prices.
        whole: Whether `payers` are all payers of the month, so that a read needs no filter.
        apart: Payer's number -> accounts that join or leave the payer within the month, or have their own prices.
    """

    payers: tuple[str, ...]
    accounts: Mapping[str, int]
    apart: Mapping[int, frozenset[str]]
    whole: bool

    @property
    def wanted(self) -> frozenset[str] | None:
        """Accounts to read; None for all accounts."""
        return None if self.whole else frozenset(self.accounts)

    @property
    def alone(self) -> bool:
        """Whether all usage of the month belongs to one payer, whose accounts all have the same prices."""
        return self.whole and len(self.payers) == 1 and not self.apart

    @property
    def everything(self) -> frozenset[str]:
        """All of the accounts."""
        return frozenset(self.accounts).union(*self.apart.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class MonthPayers:
    """Payers of a month, each with its accounts of the whole month at the payer's prices, and its separate accounts."""

    whole: Mapping[str, set[str]]
    apart: Mapping[str, set[str]]
    all_of_month: bool

    @property
    def of_sums(self) -> PayersTogether | None:
        """All accounts that may be summed together."""
        names = sorted(self.whole.keys() - self.apart.keys())
        return self._of(names, len(names)) if names else None

    def together(self, payers: Collection[str]) -> Iterator[PayersTogether]:
        """The payers in groups of a few hundred."""
        names = sorted(payers)
        for first in range(0, len(names), _TOGETHER):
            yield self._of(names[first : first + _TOGETHER], len(names))

    def _of(self, names: Sequence[str], of: int) -> PayersTogether:
        return PayersTogether(
            payers=tuple(names),
            accounts={each: number for number, payer_id in enumerate(names) for each in self.whole[payer_id]},
            apart={n: frozenset(self.apart[payer_id]) for n, payer_id in enumerate(names) if payer_id in self.apart},
            whole=self.all_of_month and of == len(self.whole) == len(names),
        )


def payers_of_month(usage: MonthUsage, *, payers: frozenset[str], own_prices: frozenset[str]) -> MonthPayers:
    """Some or all payers of a month's accounts; `own_prices` are accounts that have their own overrides."""
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


def payers_asked(query: CostQuery, organization: Organization, month: str) -> frozenset[str]:
    """Payers that a report's filters select in a month; empty for all payers."""
    accounts, payers = query.usage.accounts, query.payers
    if not accounts:
        return payers
    first_s, after_s = month_bounds_s(month)
    found = frozenset[str]().union(*(organization.payers_between(each, first_s, after_s) for each in accounts))
    # No payer has an empty id, so an account whose payer is outside the query has no costs here.
    return found & payers or frozenset([""]) if payers else found


def accounts_that_share(query: CostQuery, organization: Organization, month: str) -> frozenset[str]:
    """Accounts whose usage in a month affects a report: all accounts that the report's payers pay for in this month."""
    first_s, after_s = month_bounds_s(month)
    return frozenset(
        account_id
        for payer_id in payers_asked(query, organization, month) - {""}
        for account_id in organization.accounts_of(payer_id)
        if payer_id in organization.payers_between(account_id, first_s, after_s)
    )


_IN = 1


class _Bucket(NamedTuple):
    """Late rows of one report row: booked before (0), in (1) or after (2) the range, by booking hour or day."""

    place: int
    label: str
    region: str


@dataclass(frozen=True, kw_only=True)
class LateCosts:
    """Costs of late rows that one month books, at the named rates, or at the invoice rates of their month of use.

    Rows before the range are rated before rows in the range, so that the corrections of all parts of a month add up to
    the whole.
    """

    query: CostQuery
    planner: Planner
    month: str
    rates: inputs.Rates
    named: bool = False

    def entries(self) -> Iterator[Entry]:
        """Lines of corrections, to be added to rows.

        Raises:
            MeteringError: A price book, an invoice or a closed month cannot be read.
        """
        for payer_id, corrects in self._subjects():
            subject = composing.Subject(payer_id, self.month)
            rates = self.rates if self.named else self._rates_of(subject, corrects)
            if rates is not None and self._may_count(corrects):
                yield from self._of(subject, corrects, rates)

    def _rates_of(self, subject: composing.Subject, corrects: str) -> inputs.Rates | None:
        """The rates that the payer's invoice pinned, if any. Later credit notes leave these rates unchanged."""
        issued = self.planner.store.find(self.month, subject.payer_id)
        pinned = None if issued is None else issued.invoice.inputs.rates.get(corrects)
        return pinned or self.planner.rates_of_correction(subject, corrects, self.rates)

    def _subjects(self) -> list[tuple[str, str]]:
        """Payers that the report covers, and the months that these payers' late rows correct, in order."""
        composer, store = self.planner.composer, self.planner.store
        found: set[tuple[str, str]] = set()
        for region in composer.usage.month(self.month):
            for _, line in region.late():
                corrects = month_of(line.hour_s)
                shared = None if self.named else store.inputs(corrects)
                rates = self.rates if shared is None else shared.rates[corrects]
                organization = composer.shelf.load(rates).organization
                payer_id = organization.payer_of(line.account_id, line.hour_s)
                # Late rows are paid by the payer of the month of use, who may differ from the payer of this month.
                asked = payers_asked(self.query, organization, corrects)
                if not asked or payer_id in asked:
                    found.add((payer_id, corrects))
        return sorted(found)

    def _may_count(self, corrects: str) -> bool:
        usage = self.query.usage
        return any(
            first_s < usage.to_s and usage.from_s < after_s
            for first_s, after_s in map(month_bounds_s, (self.month, *([corrects] if usage.with_corrections else [])))
        )

    def _of(self, subject: composing.Subject, corrects: str, rates: inputs.Rates) -> Iterator[Entry]:
        composer = self.planner.composer
        labels = Labels(self.query, composer.shelf.load(rates).book, subject.payer_id)
        for bucket, booked_s, rated in composer.correction_parts(subject, corrects, rates, self._bucket):
            if self._counts(bucket, rated.line):
                yield Entry(labels.of(rated, bucket.region, booked_s=booked_s), rated, late=True)

    def _counts(self, bucket: _Bucket, line: UsageLine) -> bool:
        booked_here = bucket.place == _IN
        corrects_here = self.query.usage.with_corrections and self.query.covers(line.hour_s)
        return (booked_here or corrects_here) and self.query.takes(line) and self.query.takes_region(bucket.region)

    def _bucket(self, late: Correction) -> _Bucket:
        query, usage, booked_s = self.query, self.query.usage, late.booked_s
        place = 0 if booked_s < usage.from_s else _IN if booked_s < usage.to_s else 2
        label = ""
        if query.has_column("hour"):
            label = rfc3339(booked_s)
        elif query.has_column("day") or (query.has_column("month") and usage.zone is not UTC):
            label = shown(booked_s, usage.zone)[:10]
        return _Bucket(place, label, late.region if query.by_region else "")

"""Costs of usage over all regions, rated on read: at the rates in force, or the rates pinned by invoices.

Positions cover a payer's whole month, even if the report covers only part of it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import TYPE_CHECKING

from metering.billing.invoices import composing
from metering.billing.invoices.inputs import BookPin, Inputs, Loaded, Rates
from metering.billing.money import cents_text, exact_text, quantity_of, rounded, usd_text
from metering.billing.rating.rater import Rater, positions
from metering.billing.usage.months import FEW_ACCOUNTS, MonthUsage
from metering.errors import ObjectMissingError, OperationFailedError
from metering.hours import month_bounds_s, month_of
from metering.reports import usage_rows
from metering.reports.answer import KEEP, ROOMY, Answer, Json, RowType, cents, exact, money, sized
from metering.reports.costs.late import LateCosts, accounts_that_share, payers_asked
from metering.reports.costs.rows import COST, CostQuery, CostRows, Entry, Figures, entries_of, rows_of, total_of
from metering.reports.query import months_between
from metering.reports.usage_answer import completeness_lines, head_document, query_document, rows_answer, title_of
from metering.units import DAY_S, GIB, counted, exact_and_size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from metering.audit.freshness import Complete
    from metering.billing.budgets.open_months import KeptPositions
    from metering.billing.invoices import planning
    from metering.billing.payers import Organization


@dataclass(frozen=True, slots=True, kw_only=True)
class BookName:
    """A requested price book, or the version in force. A named book replaces the books pinned by invoices."""

    name: str
    version: int | None = None
    named: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class MonthPlan:
    """Rates of one month; `kept` contains the payers whose positions the biller has stored."""

    month: str
    rates: Rates
    loaded: Loaded
    kept: Mapping[str, KeptPositions]


@dataclass(frozen=True, kw_only=True)
class Costs:
    """Rows of a report, the state (`invoice` or `draft`) of each month, and the months closed in every region."""

    rows: CostRows
    plans: Sequence[MonthPlan]
    periods: Mapping[str, str]
    closed: frozenset[str]


@dataclass(frozen=True, kw_only=True)
class CostPlanner:
    """Decides how the months of a report are rated, and which accounts must be read.

    Attributes:
        planner: Finds what invoices pinned. Usage is not read through this planner.
        kept: Finds the positions that the biller stored by month and payer. None to always compute positions.
        late_s: Maximum time between usage and the month that books its late rows.
    """

    query: CostQuery
    book: BookName
    planner: planning.Planner
    now_s: int
    kept: Callable[[str, str], KeptPositions | None] | None = None
    late_s: int = 100 * DAY_S
    _inputs: dict[str, Inputs | None] = field(default_factory=dict)

    def plans(self, first_month: str) -> list[MonthPlan]:
        """One plan for each month of the range that can have usage, starting with `first_month`.

        Raises:
            MeteringError: The price book does not exist, or cannot be read.
        """
        last = month_of(self.now_s)
        months = months_between(max(self.query.usage.from_s, month_bounds_s(first_month)[0]), self.query.usage.to_s)
        return [self.plan(month) for month in months if month <= last]

    def plan(self, month: str) -> MonthPlan:
        """How a month is rated. Raises as `plans` does."""
        rates = self.rates(month)
        loaded = self.planner.composer.shelf.load(rates)
        return MonthPlan(month=month, rates=rates, loaded=loaded, kept=self._kept(month, rates, loaded))

    def rates(self, month: str) -> Rates:
        """Rates that a month's invoices pinned; without invoices, or if a price book was named, the rates in force."""
        shared = self._invoiced(month)
        if shared is not None:
            return shared.rates[month]
        shelf = self.planner.composer.shelf
        newest = shelf.newest(self.book.name)
        if self.book.version is None:
            return newest
        try:
            book = shelf.books.get(self.book.name, self.book.version)
        except ObjectMissingError as error:
            raise OperationFailedError(
                f"There is no version {self.book.version} of price book {self.book.name}.",
                "List them: metering prices history",
            ) from error
        return replace(newest, book=BookPin(name=book.name, version=book.version, sha256=book.sha256))

    def accounts(self, plans: Sequence[MonthPlan]) -> frozenset[str]:
        """Accounts to read; empty for all. Unless stored, a payer's positions depend on all its accounts.

        Late rows belong to the payer of their month of use, with the payer's accounts in that month.
        """
        asked = self.query.usage.accounts
        if not asked and not self.query.payers:
            return frozenset()
        found: set[str] = set(asked)
        for plan in plans:
            for month, organization in self._organizations(plan):
                for payer_id in payers_asked(self.query, organization, month) - plan.kept.keys():
                    found |= organization.accounts_of(payer_id)
        return frozenset(found)

    def sharing(self, plans: Sequence[MonthPlan]) -> frozenset[str]:
        """Accounts whose usage affects the answer through shared tiers. Accounts are asked for."""
        months = ((month, organization) for plan in plans for month, organization in self._organizations(plan))
        return frozenset[str]().union(
            *(accounts_that_share(self.query, organization, month) for month, organization in months)
        )

    def _organizations(self, plan: MonthPlan) -> Iterator[tuple[str, Organization]]:
        """Organizations of a month, and of earlier months whose late rows this month may book."""
        yield plan.month, plan.loaded.organization
        begin_s = month_bounds_s(plan.month)[0]
        for month in months_between(max(begin_s - self.late_s, 0), begin_s):
            yield month, self.planner.composer.shelf.load(self._rates_of_use(month, plan)).organization

    def _rates_of_use(self, month: str, plan: MonthPlan) -> Rates:
        """Rates pinned by an earlier month's invoices; without invoices, or if a book was named, the plan's rates."""
        shared = self._invoiced(month)
        return plan.rates if shared is None else shared.rates[month]

    def _invoiced(self, month: str) -> Inputs | None:
        if self.book.named:
            return None
        if month not in self._inputs:
            self._inputs[month] = self.planner.store.inputs(month)
        return self._inputs[month]

    def _kept(self, month: str, rates: Rates, loaded: Loaded) -> dict[str, KeptPositions]:
        # Kept positions of a past month may predate its last usage. Columns compute positions of many accounts.
        asked = self.query.usage.accounts
        if self.kept is None or month != month_of(self.now_s) or len(asked) > FEW_ACCOUNTS:
            return {}
        found: dict[str, KeptPositions] = {}
        for payer_id in payers_asked(self.query, loaded.organization, month):
            if not asked or loaded.organization.accounts_of(payer_id) <= asked:
                continue
            kept, regions = self.kept(month, payer_id), self.planner.composer.usage.regions
            if kept is None or not kept.is_current(regions, self.now_s):
                continue
            if kept.fits(loaded.book, rates.overrides.version, rates.organization.version):
                found[payer_id] = kept
        return found


@dataclass(frozen=True, kw_only=True)
class CostSource:
    """Rates the usage of a report: the usage of the accounts that `CostPlanner.accounts` returns."""

    query: CostQuery
    book: BookName
    planner: planning.Planner
    now_s: int

    def costs(self, plans: Sequence[MonthPlan], *, most_rows: int | None = None) -> Costs:
        """The rows of the report.

        Raises:
            InvalidParametersError: There are more rows than `most_rows`.
            UnavailableError: A region does not respond.
            MeteringError: A price book, an invoice or a closed month cannot be read.
        """
        rows = rows_of(self.entries(plans), most=most_rows)
        periods = {plan.month: self._state(plan) for plan in plans}
        booked = (self.planner.composer.booked_in(plan.month, plan.rates) for plan in plans)
        closed = frozenset(usage.month for usage in booked if usage.is_closed)
        return Costs(rows=rows, plans=plans, periods=periods, closed=closed)

    def entries(self, plans: Sequence[MonthPlan]) -> Iterator[Entry]:
        """Rated lines, each at one price, before they are added to rows. Raises as `costs` does."""
        for plan in plans:
            yield from self._month(plan)
        for plan in self._booked_later(plans):
            yield from self._late(plan)

    def _month(self, plan: MonthPlan) -> Iterator[Entry]:
        usage = self.planner.composer.booked_in(plan.month, plan.rates)
        payers = payers_asked(self.query, plan.loaded.organization, plan.month)
        accounts = frozenset[str]().union(*(plan.loaded.organization.accounts_of(payer_id) for payer_id in payers))
        if payers and len(self.query.usage.accounts or accounts) <= FEW_ACCOUNTS:
            for payer_id in sorted(payers):
                yield from self._payer(plan, usage, payer_id)
        else:
            # Importing Arrow is slow, and a report about one account does not need it.
            from metering.reports.costs import column_costs

            yield from column_costs.ColumnCosts(
                query=self.query, usage=usage, book=plan.loaded.book, prices_of=plan.loaded.prices, payers=payers,
                own_prices=frozenset(each.account for each in plan.loaded.overrides if each.account),
            ).entries()  # fmt: skip
        yield from self._late(plan)

    def _payer(self, plan: MonthPlan, usage: MonthUsage, payer_id: str) -> Iterator[Entry]:
        prices, whole = plan.loaded.prices(payer_id), usage.of(payer_id)
        kept = plan.kept.get(payer_id)
        rater = Rater(prices, positions(prices, whole) if kept is None else kept.positions)
        asked = self.query.usage.accounts
        part = whole.of_accounts(asked) if asked else whole
        return entries_of(self.query, plan.loaded.book, part, rater)

    def _late(self, plan: MonthPlan) -> Iterator[Entry]:
        late = LateCosts(
            query=self.query, planner=self.planner, month=plan.month, rates=plan.rates, named=self.book.named
        )
        return late.entries()

    def _booked_later(self, plans: Sequence[MonthPlan]) -> Iterator[MonthPlan]:
        """Months after the range that may book corrections of usage in the range."""
        if not plans or not self.query.usage.with_corrections:
            return
        finder = CostPlanner(query=self.query, book=self.book, planner=self.planner, now_s=self.now_s)
        for month in months_between(month_bounds_s(plans[-1].month)[1], self.now_s + 1):
            yield finder.plan(month)

    def _state(self, plan: MonthPlan) -> str:
        """`invoice` if every payer of the report has an invoice of the month, and these invoices rate the month."""
        store = self.planner.store
        shared = None if self.book.named else store.inputs(plan.month)
        # The invoice may have been issued during this query.
        if shared is None or shared.rates[plan.month] != plan.rates:
            return "draft"
        payers = payers_asked(self.query, plan.loaded.organization, plan.month)
        asked = payers or frozenset(self.planner.payers(plan.month, plan.rates))
        missing = (payer_id for payer_id in sorted(asked) if store.find(plan.month, payer_id) is None)
        return "draft" if any(self._bills(plan, payer_id) for payer_id in missing) else "invoice"

    def _bills(self, plan: MonthPlan, payer_id: str) -> bool:
        """Whether a payer has anything to be billed in a month: a payer with 0 bytes gets no invoice."""
        days = self.planner.composer.booked_in(plan.month, plan.rates).of(payer_id).days()
        if any(size for of in days.values() for size in of.values()):
            return True
        planner, subject = self.planner, composing.Subject(payer_id, plan.month)
        corrected = planner.corrected_months(plan.month)
        return any(planner.rates_of_correction(subject, each, plan.rates) is not None for each in corrected)


# The contract's answer to a report of costs.

# At most this many usage types that have no price are named.
_NAMED = 5


def _decimal(units: int) -> Decimal:
    return Decimal(usd_text(units))


_FIGURES: RowType[Figures] = RowType(
    sized("bytes", priority=ROOMY),
    money("quantity_gb", of=lambda it: _decimal(quantity_of(it.bytes))),
    # An unknown cost is omitted, because it is not 0.
    cents(COST, of=lambda it: _decimal(rounded(it.exact)) if it.known else None, priority=KEEP),
    exact("unpriced_bytes", of=lambda it: it.unpriced),
    exact("unrated_bytes", of=lambda it: it.unrated, priority=ROOMY),
)
_ORDER: Mapping[str, Callable[[Figures], int]] = {
    # An unknown cost sorts below every known cost.
    COST: lambda it: it.exact if it.known else -(10**60),
    "bytes": lambda it: it.bytes,
    "quantity_gb": lambda it: it.bytes,
    "unpriced_bytes": lambda it: it.unpriced,
    "unrated_bytes": lambda it: it.unrated,
}


def _notes(query: CostQuery, costs: Costs, cut: usage_rows.Ranked[Figures], *, regions: Sequence[str]) -> Iterator[str]:
    total = costs.rows.total
    yield from usage_rows.cut_lines(len(cut.rows), cut.rows_total)
    yield f"Total: {cents_text(Decimal(exact_text(total.exact)))} USD, for {exact_and_size(total.bytes)}."
    yield from _without_price(costs, total)
    yield from _corrections(query, total)
    yield f"Exactly: {exact_text(total.exact)} USD. With all digits of each row: --wide, or --format json"
    yield from _rounding([row.total for row in cut.rows])
    yield from _prices(costs)
    yield from _states(costs)
    yield from _kept(costs)
    yield from _scope(query, regions)


def _rounding(shown: Sequence[Figures]) -> Iterator[str]:
    known = [figures for figures in shown if figures.known]
    added, exact = sum(rounded(figures.exact) for figures in known), sum(figures.exact for figures in known)
    difference = added * GIB - exact
    if difference:
        yield (
            f"The ten decimals of a row are rounded half up from its exact sum: they add up to {usd_text(added)}, "
            f"which is {exact_text(abs(difference))} USD too {'much' if difference > 0 else 'little'}."
        )


def _corrections(query: CostQuery, total: Figures) -> Iterator[str]:
    if total.late:
        apart = "" if query.usage.with_corrections else " To see them apart: --with-corrections"
        yield (
            f"In the total: {exact_text(total.late)} USD for usage that came late for closed months, at the prices of "
            f"the invoices that book it.{apart}"
        )


def _without_price(costs: Costs, total: Figures) -> Iterator[str]:
    if total.unpriced:
        named = [f"{usage_type} of {service}" for usage_type, service in sorted(costs.rows.unpriced)]
        more = f" and {len(named) - _NAMED} more" if len(named) > _NAMED else ""
        yield (
            f"Without a price, and not in the total: {exact_and_size(total.unpriced)}, of "
            f"{exact_and_size(total.bytes)} in all. {counted(len(named), 'usage type has', 'usage types have')} none: "
            f"{', '.join(named[:_NAMED])}{more}. To see them: {_check_of(costs)}"
        )
    if total.unrated:
        yield f"Not sold here by a rule of the price book, so without a cost: {exact_and_size(total.unrated)}."


def _check_of(costs: Costs) -> str:
    """The command that lists unpriced usage of the report's last month, with the report's price book."""
    last = max(costs.plans, key=lambda plan: plan.month, default=None)
    return (
        f"metering prices check --month {last.month} --prices {last.rates.book.name}"
        if last
        else "metering prices check"
    )


def _prices(costs: Costs) -> Iterator[str]:
    seen: dict[str, list[str]] = {}
    for plan in costs.plans:
        seen.setdefault(plan.rates.told, []).append(plan.month)
    for told, months in seen.items():
        yield f"Prices: {told}." if len(seen) == 1 else f"Prices of {', '.join(months)}: {told}."


def _states(costs: Costs) -> Iterator[str]:
    drafts = [month for month, state in costs.periods.items() if state == "draft"]
    invoiced = [month for month, state in costs.periods.items() if state == "invoice"]
    if drafts:
        yield f"{', '.join(drafts)}: a draft, which changes until it is invoiced."
    if invoiced:
        yield f"{', '.join(invoiced)}: as invoiced. Credit notes stand apart: metering invoice list"


def _kept(costs: Costs) -> Iterator[str]:
    for plan in costs.plans:
        for payer_id, kept in sorted(plan.kept.items()):
            yield (
                f"{plan.month}: tiers and allowances by the positions of payer {payer_id} as of {kept.as_of}, and "
                "corrections by this account's late rows alone. To compute all of it now: --exact"
            )


def _scope(query: CostQuery, regions: Sequence[str]) -> Iterator[str]:
    if query.regions:
        yield f"Only usage of {', '.join(sorted(query.regions))}, at the positions of all {len(regions)} regions."
    elif len(regions) > 1:
        yield f"All {len(regions)} regions together, because a payer's tiers count over all: {', '.join(regions)}."


def cost_answer(
    query: CostQuery,
    costs: Costs,
    *,
    as_of_s: int,
    complete: Complete,
    regions: Sequence[str],
    left_out: Mapping[str, Sequence[str]] | None = None,
) -> Answer:
    """Convert the rows of a report to an answer in the contract's form.

    `regions` were rated together; `left_out` lists parts of the service that regions lack.
    """
    rows = usage_rows.ordered(costs.rows.rows, query.usage, _ORDER)
    cut = usage_rows.ranked(rows, query.usage, lambda some: total_of(row.total for row in some))
    usage, left_out = query.usage, left_out or {}
    closed = {plan.month: "closed" if plan.month in costs.closed else "open" for plan in costs.plans}
    meta: dict[str, Json] = {
        **head_document(_query_document(query), costs.periods, as_of_s=as_of_s, complete=complete),
        "currency": "USD",
        **books_of(costs.plans),
        "total_usd": exact_text(costs.rows.total.exact),
        "unpriced": [
            {"service": service, "usage_type": usage_type, "bytes": str(size)}
            for (usage_type, service), size in sorted(costs.rows.unpriced.items())
        ],
        "positions": {payer: kept.as_of for plan in costs.plans for payer, kept in plan.kept.items()},
        "regions": list(regions),
    }
    return rows_answer(
        usage,
        cut,
        _FIGURES,
        meta=meta,
        title=title_of("Cost", usage, as_of_s),
        empty="No usage matches.",
        footer=(
            *_notes(query, costs, cut, regions=regions),
            *completeness_lines(usage, complete, as_of_s, closed, left_out),
        ),
    )


def _query_document(query: CostQuery) -> dict[str, Json]:
    document = query_document(query.usage)
    for name, values in (("payers", query.payers), ("regions", query.regions)):
        if values:
            document[name] = sorted(values)
    return document


def books_of(plans: Sequence[MonthPlan]) -> dict[str, Json]:
    """The fields of an answer that name its price book, or those of its months."""
    pins = {plan.month: plan.rates.book for plan in plans}
    books: dict[str, Json] = {month: {"name": pin.name, "version": pin.version} for month, pin in pins.items()}
    newest = next(reversed(books.values()), None)
    several = len(set(pins.values())) > 1
    return {"price_book": newest, **({"price_books": dict(books)} if several else {})}

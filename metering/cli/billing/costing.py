"""Costs and budgets for commands: usage of all regions, their prices, and the state of budgets."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from metering.cli import connecting, failures
from metering.cli.billing.home import billing_home, billing_regions, readable_regions
from metering.cli.command import Session, progress
from metering.errors import MeteringError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from rich.progress import TaskID

    from metering.billing.budgets import budget
    from metering.billing.usage.months import HoursDone
    from metering.reports.answer import Answer
    from metering.reports.costs import source
    from metering.reports.costs.explanation import Explanation
    from metering.reports.costs.rows import CostQuery
    from metering.wiring.answers.budgets import Judged
    from metering.wiring.answers.costs import BillingRegions, CostsFound
    from metering.wiring.answers.savings import Asked
    from metering.wiring.answers.who import Prices
    from metering.wiring.connection import RegionConnection

_TOO_LITTLE = "Nothing is shown, because it would be too little: tiers count over all regions. Run it again later."


def costs_here(session: Session, query: CostQuery, *, prices: str | None, exact: bool, now_s: int) -> CostsFound:
    """Answer a question about costs, rated with the price book of `--prices`.

    Raises:
        CommandFailedError: A region does not respond or has no data, or the price book does not exist.
        WrongUsageError: `prices` does not name a book.
    """
    from metering.wiring.answers.costs import costs_of
    from metering.wiring.answers.usage import measured_completeness

    book = book_of(prices)
    home = billing_home(session)
    regions = _all_answering(session, home, query.regions)
    complete = measured_completeness(regions)
    return costs_of(
        _billing(session, home, regions), query, book=book, now_s=now_s, complete=complete, exact=exact, progress=_bar
    )


def _billing(session: Session, home: RegionConnection, regions: Sequence[RegionConnection]) -> BillingRegions:
    from metering.wiring.answers.costs import BillingRegions

    return BillingRegions(home=home, regions=regions, left_out=session.regions.left_out)


def prices_here(session: Session, regions: Iterable[str], *, prices: str | None, now_s: int) -> Prices:
    """Prices of costs of causes of some regions. Raises as `costs_here` does."""
    from metering.wiring.answers.who import Prices

    home = billing_home(session)
    billing = _billing(session, home, _all_answering(session, home, regions))
    return Prices(billing=billing, book=book_of(prices), now_s=now_s, progress=_bar)


def explanation_of(session: Session, asked: Mapping[str, str], *, prices: str | None, now_s: int) -> Explanation:
    """Explain the cost of an account's usage of one usage type in one hour.

    Args:
        session: Names the place.
        asked: `account`, `hour`, `usage_type` and `service`, as the user typed them.
        prices: Book of `--prices`.
        now_s: The time now.

    Raises:
        InvalidParametersError: An argument is invalid.
        CommandFailedError: As `costs_here` does.
    """
    from metering.reports.costs.explanation import Inquiry, explained
    from metering.reports.costs.rows import CostParameters
    from metering.wiring.answers.costs import rating

    parameters = CostParameters(
        start=asked["hour"], end="", filters={name: [text] for name, text in asked.items() if text and name != "hour"}
    )
    query = parameters.hour_query(now_s=now_s)
    book = book_of(prices)
    home = billing_home(session)
    billing = _billing(session, home, _all_answering(session, home, query.regions))
    with rating(billing, query, book=book, now_s=now_s, exact=True, progress=_bar) as parts:
        [plan] = parts.plans
        inquiry = Inquiry(
            account_id=asked["account"], hour_s=query.usage.from_s, usage_type=asked["usage_type"],
            service=asked["service"],
        )  # fmt: skip
        payer_id = plan.loaded.organization.payer_of(inquiry.account_id, inquiry.hour_s)
        usage = parts.source.planner.composer.booked_in(plan.month, plan.rates).of(payer_id)
        return explained(inquiry, plan, usage)


def savings_here(session: Session, asked: Asked, *, prices: str | None) -> Answer:
    """Answer what rules would save in a month, rated with the price book of `--prices`. Raises as `costs_here` does."""
    from metering.reports.costs.rows import CostParameters
    from metering.wiring.answers.savings import savings_of

    now_s, region = int(time.time()), one_region(session)
    home, query = billing_home(session), CostParameters(region=region).cost_query(now_s=now_s)
    billing = _billing(session, home, _all_answering(session, home, query.regions))
    return savings_of(billing, asked, region=region, book=book_of(prices), now_s=now_s, progress=_bar)


def one_region(session: Session) -> str | None:
    """Region of `--region`; None if it is not given, or is `all`."""
    return None if session.named_region == connecting.ALL_REGIONS else session.named_region


def book_of(prices: str | None) -> source.BookName:
    """The price book of `--prices`: `aws-list`, `aws-list@3`."""
    from metering.wiring.answers.costs import book_named

    found = book_named(prices)
    if found is None:
        raise failures.WrongUsageError(
            f"--prices {prices} is no price book.", "Write it as aws-list, or with a version: aws-list@3"
        )
    return found


def _all_answering(session: Session, home: RegionConnection, asked: Iterable[str]) -> list[RegionConnection]:
    """Connect to every region that holds data of the stage; fail if any region does not respond."""
    regions, silent = readable_regions(session, home)
    if silent:
        told = "; ".join(f"region {region} cannot be read ({why})" for region, why in sorted(silent.items()))
        raise failures.CommandFailedError(f"Costs are not known: {told}.", _TOO_LITTLE)
    known = {region.region for region in regions}
    unknown = sorted(set(asked) - known)
    if unknown:
        raise failures.CommandFailedError(
            f"Region {unknown[0]} holds no data of stage {session.stage}.",
            f"Those that do: {', '.join(sorted(known))}.",
        )
    return regions


@contextmanager
def _bar() -> Iterator[HoursDone]:
    """Show a progress bar on stderr, from the first hour that was read."""
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn

    with progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()) as bar:
        tasks: dict[str, TaskID] = {}

        def on_hour(region: str, done: int, of: int) -> None:
            if region not in tasks:
                tasks[region] = bar.add_task(f"hours of {region}", total=of)
            bar.update(tasks[region], completed=done)

        yield on_hour


def budget_named(store: budget.BudgetStore, name: str) -> budget.Budget:
    """The budget with this name.

    Raises:
        CommandFailedError: It does not exist.
    """
    found = store.get(name)
    if found is None:
        raise failures.CommandFailedError(f"There is no budget {name}.", "List them: metering budget list")
    return found


def judged(session: Session, home: RegionConnection, name: str | None, *, forecast: bool = True) -> Judged:
    """State of all budgets, or of one named budget; forecasts take a moment.

    Raises:
        CommandFailedError: The budget does not exist.
    """
    from metering.wiring.answers import budgets
    from metering.wiring.biller import build_budgets

    store = build_budgets(home)
    asked = store.list() if name is None else [budget_named(store, name)]
    return budgets.judged(home, billing_regions(session, home), asked, now_s=int(time.time()), forecast=forecast)


def known_account(session: Session, home: RegionConnection, account_id: str) -> bool:
    """Whether an account has a payer, is a payer, or has usage in the current or the previous month in any region."""
    from metering.hours import hour_of, month_bounds_s, month_of
    from metering.ledger.usage.items import usage_partition
    from metering.stores.writes import Table
    from metering.units import HOUR_S
    from metering.wiring.billing import build_organization

    organization = build_organization(home).newest()
    for payer in organization.payers:
        if account_id == payer.payer_id or any(account_id == each.account_id for each in payer.members):
            return True
    this = month_of(hour_of(int(time.time())))
    first_s, _ = month_bounds_s(this)
    for region in billing_regions(session, home):
        for month in (this, month_of(first_s - HOUR_S)):
            if next(region.items.query(Table.USAGE, usage_partition(account_id, month)), None) is not None:
                return True
    return False


def is_home(session: Session, region: str) -> bool:
    """Whether a region evaluates budgets: the home region, or the only region of an emulated stage.

    Because of this check, commands on other regions need no access to the home region.
    """
    from metering.adapters.aws.errors import refusals_explained
    from metering.wiring.region import is_absent

    stage = session.regions
    if region == stage.home or not session.emulated:
        return region == stage.home
    try:
        with refusals_explained():
            stage.connect(stage.home)
    except MeteringError as error:
        return is_absent(error)
    return False

"""What commands on budgets share: budgets as they stand, and whether an account is known."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from metering.cli.billing.home import billing_regions
from metering.cli.failures import CommandFailedError
from metering.errors import MeteringError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from metering.billing.budgets.budget import Budget
    from metering.billing.budgets.evaluation import Standing
    from metering.billing.budgets.open_months import OpenMonths
    from metering.billing.budgets.store import BudgetStore
    from metering.billing.day_sums.uncounted import Reach
    from metering.cli.command import Session
    from metering.ledger.notes.budgets import StoredAlert
    from metering.reports.budgets.budget_answer import Counted
    from metering.wiring.connection import RegionConnection


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """Budgets as they stand now."""

    months: OpenMonths
    standings: Sequence[Standing]
    alerts: Sequence[StoredAlert]
    through_s: int
    reach: Reach


def summed_regions(session: Session, home: RegionConnection) -> Sequence[RegionConnection]:
    """Every region whose day sums budgets are judged by.

    Raises:
        CommandFailedError: A region that holds data gives no answer.
    """
    return billing_regions(session, home)


def budget_named(store: BudgetStore, name: str) -> Budget:
    """A budget by its name.

    Raises:
        CommandFailedError: There is none.
    """
    found = store.get(name)
    if found is None:
        raise CommandFailedError(f"There is no budget {name}.", "List them: metering budget list")
    return found


def judged(session: Session, home: RegionConnection, name: str | None) -> Judged:
    """Where all budgets stand, or one of them.

    Raises:
        CommandFailedError: There is no budget of this name.
    """
    from metering.billing.budgets.alerts import AlertBook
    from metering.billing.budgets.evaluation import Evaluation, period_at
    from metering.wiring.answers.reach import connected_reach
    from metering.wiring.billing.biller import build_budgets, connected_months

    store = build_budgets(home)
    budgets = store.list() if name is None else [budget_named(store, name)]
    regions = summed_regions(session, home)
    months = connected_months(home, regions, budgets)
    now_s = int(time.time())
    through_s = months.through_s
    evaluation = Evaluation(months=months, through_s=through_s or now_s)
    standings = [evaluation.standing(each, period_at(each, now_s), forecast=True) for each in budgets]
    since = min((each.period.month for each in standings), default="")
    alerts = AlertBook(items=home.items, alerts=home.alerts, clock=home.clock).known(since) if standings else iter(())
    return Judged(
        months=months,
        standings=standings,
        alerts=list(alerts),
        through_s=through_s,
        reach=connected_reach(regions),
    )


def how_far(view: Judged) -> Counted:
    """How far what is counted goes."""
    from metering.billing.budgets.blockers import unpriced_in
    from metering.reports.budgets.budget_answer import Counted

    book = view.months.terms.book
    names = sorted({each.period.month for each in view.standings})
    unpriced: dict[str, int] = {}
    for solds in unpriced_in(view.months, names).bytes.values():
        for sold, size in solds.items():
            unpriced[sold.usage_type] = unpriced.get(sold.usage_type, 0) + size
    return Counted(
        as_of_s=min((region.index.counted_s for region in view.months.regions), default=0),
        through_s=view.through_s,
        reach=view.reach,
        prices="" if book is None else f"{book.name} {book.version}",
        unpriced=unpriced,
    )


def known_account(session: Session, home: RegionConnection, account_id: str) -> bool:
    """Whether an account has a payer, is one, or has usage in this month or the last one, in any region."""
    from metering.hours import hour_of, month_bounds_s, month_of
    from metering.ledger.usage.items import usage_partition
    from metering.stores.writes import Table
    from metering.units import HOUR_S
    from metering.wiring.billing.stores import build_organization

    organization = build_organization(home).newest()
    for payer in organization.payers:
        if account_id == payer.payer_id or any(account_id == each.account_id for each in payer.members):
            return True
    this = month_of(hour_of(int(time.time())))
    first_s, _ = month_bounds_s(this)
    for region in summed_regions(session, home):
        for month in (this, month_of(first_s - HOUR_S)):
            if next(region.items.query(Table.USAGE, usage_partition(account_id, month)), None) is not None:
                return True
    return False


def is_home(session: Session, region: str) -> bool:
    """Whether a region judges budgets: the home region, or on an emulator the only one of a stage.

    Who works on another region needs no access to the home region.
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

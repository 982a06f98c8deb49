"""The state of budgets, and how complete the usage is that they are compared with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from metering.billing.budgets.evaluation import Evaluation, period_at
from metering.billing.budgets.open_months import unpriced_in
from metering.ledger.notes.money import ALERTS_PK, StoredAlert
from metering.reports.budgets import Counted
from metering.stores.writes import Table
from metering.wiring.answers.accounts import connected_reach
from metering.wiring.biller import connected_months
from metering.wiring.reports import MOST_ACCOUNTS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from metering.billing.budgets.budget import Budget
    from metering.billing.budgets.evaluation import Standing
    from metering.billing.budgets.open_months import OpenMonths
    from metering.billing.day_sums.index import Reach
    from metering.wiring import lake


def reach_now(months: OpenMonths, regions: Sequence[lake.ReadableRegion]) -> Reach:
    """How complete the day sums of an answer are, and the usage that they lack. Raises as `connected_reach`."""
    return months.reach if months.is_now else connected_reach(regions)


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """Budgets and their current state, with the alerts about their periods."""

    months: OpenMonths
    standings: Sequence[Standing]
    alerts: Sequence[StoredAlert]
    counted: Counted


def judged(
    home: lake.ReadableRegion,
    regions: Sequence[lake.ReadableRegion],
    budgets: Sequence[Budget],
    *,
    now_s: int,
    forecast: bool = True,
    most_accounts: int = MOST_ACCOUNTS,
) -> Judged:
    """Compare budgets with the usage of all regions, as of now (`connected_months`); forecasts take a moment.

    Raises:
        UnavailableError: A region does not respond.
        MeteringError: Stored prices, payers or sums cannot be read.
    """
    months = connected_months(home, regions, budgets, most_accounts=most_accounts)
    evaluation = Evaluation(months=months, through_s=months.through_s or now_s)
    standings = [evaluation.standing(each, period_at(each, now_s), forecast=forecast) for each in budgets]
    since = min((each.period.month for each in standings), default="")
    alerts = home.items.query(Table.LEDGER, ALERTS_PK, sk_from=since) if standings else ()
    unpriced: dict[str, int] = {}
    for solds in unpriced_in(months, sorted({each.period.month for each in standings})).values():
        for sold, size in solds.items():
            unpriced[sold.usage_type] = unpriced.get(sold.usage_type, 0) + size
    book = months.terms.book
    counted = Counted(
        as_of_s=min((region.index.counted_s for region in months.regions), default=0),
        through_s=months.through_s,
        now=months.is_now,
        reach=reach_now(months, regions),
        prices="" if book is None else f"{book.name} {book.version}",
        unpriced=unpriced,
    )
    told = [StoredAlert.from_item(each) for each in alerts]
    return Judged(months=months, standings=standings, alerts=told, counted=counted)

"""`metering anomalies`: days on which an account used far more of something than in the weeks before."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from metering.cli.billing.budgeting import summed_regions
from metering.cli.billing.home import billing_home
from metering.cli.command import Session, command
from metering.cli.failures import CommandFailedError, WrongUsageError

if TYPE_CHECKING:
    from metering.billing.budgets.anomalies import AnomalyRules

anomalies_app = typer.Typer()

_EXAMPLES = """Examples:

    metering anomalies --format table

    metering anomalies --day 2026-11-24 --floor 100
"""


@command(anomalies_app, "anomalies", reads=True, everywhere=True, epilog=_EXAMPLES)
def anomalies(
    session: Session,
    day: Annotated[
        str | None, typer.Option("--day", metavar="YYYY-MM-DD", help="Default: the last seven whole days.")
    ] = None,
    deviations: Annotated[float, typer.Option("--deviations", min=0, help="Deviations above the median.")] = 4.0,
    percent: Annotated[int, typer.Option("--percent", min=0, help="Percent above the median.")] = 25,
    floor: Annotated[
        str, typer.Option("--floor", metavar="USD", help="Least cost, at list prices, of what is above it.")
    ] = "10",
) -> None:
    """Show days on which an account used far more of a usage type than on the same day of up to eight weeks before.

    Bytes are compared, because tiers and allowances make cost jump without a reason. With each of the dearest stands
    what to type to see its three largest resources. Only whole days are looked at, as the biller last counted them.
    """
    from metering.billing.budgets.anomalies import anomalies_of
    from metering.hours import date_of
    from metering.reports.budgets.anomaly_answer import anomalies_answer
    from metering.units import DAY_S
    from metering.wiring.answers.reach import connected_reach
    from metering.wiring.billing.biller import connected_months

    rules = _rules(deviations, percent, floor)
    home = billing_home(session)
    regions = summed_regions(session, home)
    months = connected_months(home, regions, ())
    book = months.terms.book
    if book is None:
        raise CommandFailedError(
            "No price book was imported, so nobody can tell what is dear.", "Import one: metering prices import --help"
        )
    last_s = months.last_whole_day()
    days = [_day(day)] if day else [] if last_s is None else [last_s - back * DAY_S for back in range(6, -1, -1)]
    found = [
        each
        for day_s in days
        for region in months.regions
        for each in anomalies_of(region.month(date_of(day_s)[:7]), day_s, book, rules)
    ]
    found.sort(key=lambda each: (-each.excess, each.day_s, each.region, each.series))
    session.write(
        anomalies_answer(
            found,
            stage=session.stage,
            days=days,
            book=f"{book.name} {book.version}",
            reach=connected_reach(regions),
        )
    )


def _rules(deviations: float, percent: int, floor: str) -> AnomalyRules:
    from metering.billing.budgets.anomalies import AnomalyRules
    from metering.billing.money import EXACT_A_USD, UNITS_A_USD, price_of

    try:
        least = price_of(floor) * (EXACT_A_USD // UNITS_A_USD)
    except ValueError as error:
        raise WrongUsageError(f"--floor {error}.", "Write an amount in USD, such as 10 or 2.5.") from error
    return AnomalyRules(deviations=deviations, percent=percent, floor=least)


def _day(text: str) -> int:
    try:
        made = datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        raise WrongUsageError(f"--day {text} is no day.", "Write it as 2026-11-24.") from None
    return int(made.timestamp())

"""`metering budget` and `anomalies`: actual and forecast spend of budgets, and days of unusual usage."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from metering.cli import fleet
from metering.cli.billing.costing import book_of, budget_named, is_home, judged, known_account
from metering.cli.billing.home import billing_home, billing_regions, home_ground, named_book
from metering.cli.command import Session, command, say
from metering.cli.failures import CommandFailedError, WrongUsageError
from metering.cli.options import argument, family, option, switch
from metering.hours import date_of
from metering.reports.answer import RowType, integer
from metering.units import DAY_S, counted

if TYPE_CHECKING:
    from metering.billing.budgets import biller
    from metering.billing.budgets.evaluation import AnomalyRules


budget = family("Budgets in USD or bytes, with forecasts and early alerts.")

_SET = """Examples:

    metering budget set egress --payer 123456789012 --amount "500 USD"

    metering budget set backups --account 123456789012 --usage-type DataTransfer-Out-Bytes --amount "10 TB" \\
        --threshold "actual 50%" --threshold "actual 9 TB"
"""
NameArgument = Annotated[str, argument("BUDGET", "Name of the budget.")]


@command(budget, "set", reads=True, changes=True, everywhere=True, epilog=_SET)
def set_(
    session: Session,
    name: NameArgument,
    amount: Annotated[str, option("--amount", "AMOUNT", "Amount for each period: 500 USD, 10 TB or 4096 bytes.")],
    threshold: Annotated[
        list[str] | None,
        option(
            "--threshold",
            "WORDS",
            "Threshold of an alert, such as `actual 80%`, `forecast 100%` or `actual 450 USD`; may be repeated. "
            "Default: actual 80%, actual 100% and forecast 100%.",
        ),
    ] = None,
    payer: Annotated[str | None, option("--payer", "ACCOUNT", "Only usage that this payer pays.")] = None,
    account: Annotated[str | None, option("--account", "ACCOUNT", "Only usage of this account.")] = None,
    in_region: Annotated[
        str | None, option("--in-region", "REGION", "Only usage that is metered in this region.")
    ] = None,
    usage_type: Annotated[str | None, option("--usage-type", "NAME", "Only this usage type.")] = None,
    period: Annotated[
        str, option("--period", "month|day", "Period after which the budget starts again, in UTC.")
    ] = "month",
    severity: Annotated[
        str, option("--severity", "ticket|page", "SNS topic that the budget's alerts go to.")
    ] = "ticket",
    new_account: Annotated[
        bool, switch("--new-account", "Accept an account that has no payer and no usage yet.")
    ] = False,
) -> None:
    """Set a budget for a payer, account, region or usage type; this replaces a budget of the same name.

    Each threshold causes one alert per period, which is sent to the topic of its severity until SNS accepts it. If the
    amount changes, the thresholds can cause alerts again. The budget counts the usage that matches all given fields.
    """
    from metering.billing.budgets.budget import Scope, budget_of
    from metering.reports.budgets import budgets_answer
    from metering.wiring.biller import build_budgets

    scope = Scope(payer=payer or "", account=account or "", region=in_region or "", usage_type=usage_type or "")
    thresholds = threshold or ["actual 80%", "actual 100%", "forecast 100%"]
    made = budget_of(name, amount=amount, thresholds=thresholds, scope=scope, period=period, severity=severity)
    home = billing_home(session)
    for unknown in () if new_account else filter(None, (payer, account)):
        if not known_account(session, home, unknown):
            raise CommandFailedError(
                f"Account {unknown} is unknown: it has no payer, is none, and has no usage this month or last month.",
                "Nothing was set. If the number is right, add --new-account.",
            )
    store = build_budgets(home)
    before = store.get(name)
    with session.deed(
        what="budget set",
        subject=name,
        consequence=f"It {'replaces one of' if before else 'is new:'} {made.amount.text} a {made.period} for {scope}.",
        ground=home_ground(session, home),
    ) as done:
        store.set(made)
        done.result = f"{made.amount.text} a {made.period}, {', '.join(each.text for each in made.thresholds)}"
    session.write(budgets_answer([made]))


@command(budget, "list", reads=True, everywhere=True)
def list_(session: Session) -> None:
    """List every budget with scope, amount and thresholds, and what is spent in its period so far, in per cent too.

    What is spent is counted as of now; with more than 2,000 accounts, as of the biller's last run. Forecasts and alerts
    are shown by: metering budget check
    """
    from metering.reports.budgets import budget_list_answer

    view = judged(session, billing_home(session), None, forecast=False)
    session.write(budget_list_answer(view.standings, view.counted))


@command(budget, "remove", reads=True, changes=True, everywhere=True)
def remove(session: Session, name: NameArgument) -> None:
    """Remove a budget. Alerts already made remain, and unsent alerts are still sent."""
    from metering.reports.budgets import budgets_answer
    from metering.wiring.biller import build_budgets

    home = billing_home(session)
    store = build_budgets(home)
    found = budget_named(store, name)
    with session.deed(
        what="budget remove",
        subject=name,
        consequence=f"Nobody hears any more when {found.scope} comes to {found.amount.text} a {found.period}.",
        ground=home_ground(session, home),
    ) as done:
        store.remove(name)
        done.result = "removed"
    session.write(budgets_answer(store.list()))


@command(budget, "check", "metering budget check --format table", reads=True, everywhere=True)
def check(session: Session, name: Annotated[str | None, argument("[BUDGET]", "Only this budget.")] = None) -> None:
    """Show the state of budgets in this period: actual, forecast, crossed thresholds, and the alerts that were made.

    All figures are as of now; with more than 2,000 accounts, as of the biller's last run. The biller sends alerts, and
    counts what the compactor has published. To run it now: metering budget update
    """
    from metering.reports.budgets import standings_answer

    home = billing_home(session)
    view = judged(session, home, name)
    session.write(standings_answer(view.standings, view.alerts, view.counted))


@command(budget, "forecast", reads=True, everywhere=True)
def forecast(session: Session, name: NameArgument) -> None:
    """Forecast the total of a budget at the end of its period. The forecast is an estimate, with an 80 % interval.

    Bytes are projected from the last four weeks, by day of the week, and then rated in the payer's tiers. With less
    than 14 days of history, the forecast is based on the mean day; with less than 3 days, there is none.
    """
    from metering.reports.budgets import standings_answer

    home = billing_home(session)
    view = judged(session, home, name)
    session.write(standings_answer(view.standings, (), view.counted))
    for each in view.standings:
        if each.forecast is not None and each.forecast.known:
            say(f"Expected by {each.forecast.method.value}, {counted(each.forecast.history_days, 'day')} of history.")


@command(budget, "update", reads=True, everywhere=True)
def update(session: Session) -> None:
    """Run the biller's job now: count usage published since the last run, evaluate budgets, and send alerts.

    The scheduled job does the same within an hour. Budgets are evaluated only in the home region. On an emulator, the
    command compacts first; on AWS, the compactor publishes new usage within a day. To compact immediately: metering
    compact
    """
    from metering.cli.commands.analyst.lake import NoDeadline, compact_now
    from metering.wiring.biller import connected_biller

    if fleet.asks_for_all(session):
        home = billing_home(session)
        regions = billing_regions(session, home)
    else:
        regions = [session.region()]
    result: biller.BillerResult | None = None
    files = 0
    # The home region comes last: it evaluates budgets over the usage of all regions.
    for region in sorted(regions, key=lambda each: is_home(session, each.region)):
        if region.emulated:
            compact_now(region.jobs)
        everywhere = billing_regions(session, region) if is_home(session, region.region) else ()
        result = connected_biller(region, everywhere).run(NoDeadline())
        files += result.files
        say(f"{region.region}: {counted(result.files, 'lake file')} counted.")
    if result is None:
        raise WrongUsageError("There is no region to count.", "Name one with --region.")
    table: RowType[biller.BillerResult] = RowType(
        integer("files", of=lambda _: files, about="lake files that were counted"),
        integer("budgets", about="judged"),
        integer("alerts", of=lambda it: it.made, about="new"),
        integer("sent", about="messages"),
        integer("unusual", about="days of series"),
    )
    session.write(table.one(result))


anomalies_app = typer.Typer()

_EXAMPLES = """Examples:

    metering anomalies --format table

    metering anomalies --day 2026-11-24 --floor 100 --prices sample
"""


@command(anomalies_app, "anomalies", reads=True, everywhere=True, epilog=_EXAMPLES)
def anomalies(
    session: Session,
    day: Annotated[str | None, option("--day", "YYYY-MM-DD", "Default: the last seven whole days.")] = None,
    deviations: Annotated[float, typer.Option("--deviations", min=0, help="Deviations above the median.")] = 4.0,
    percent: Annotated[int, typer.Option("--percent", min=0, help="Percent above the median.")] = 25,
    floor: Annotated[
        str, option("--floor", "USD", "Minimum cost, at list prices, of the bytes above the median.")
    ] = "10",
    prices: Annotated[
        str | None,
        option("--prices", "BOOK[@N]", "Judge what is dear by this price book: sample, or an imported one."),
    ] = None,
) -> None:
    """Show days on which an account used far more of a usage type than on that weekday in the eight weeks before.

    Bytes are compared, because tiers and allowances can raise the cost sharply even if usage is steady. For each of the
    most expensive days, the answer has a command that shows the day's three largest resources. Only complete days are
    compared, as of now; with more than 2,000 accounts, as of the biller's last run.
    """
    from metering.billing.budgets.evaluation import anomalies_of
    from metering.reports.budgets import anomalies_answer
    from metering.wiring.answers.budgets import reach_now
    from metering.wiring.biller import connected_months
    from metering.wiring.billing import build_prices

    rules = _rules(deviations, percent, floor)
    home = billing_home(session)
    regions = billing_regions(session, home)
    months = connected_months(home, regions, ())
    asked = book_of(prices)
    book = named_book(build_prices(home), asked.name, asked.version) if asked.named else months.terms.book
    if book is None:
        raise CommandFailedError(
            "No price book was imported, so nobody can tell what is dear.",
            "Import one with `metering prices import FILE…`, or take the prices of a few real bill lines with "
            "--prices sample.",
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
            reach=reach_now(months, regions),
        )
    )


def _rules(deviations: float, percent: int, floor: str) -> AnomalyRules:
    from metering.billing.budgets.evaluation import AnomalyRules
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

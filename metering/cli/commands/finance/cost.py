"""`metering cost`: what usage costs, rated on read."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from metering.cli.billing.costing import costs_here, one_region
from metering.cli.command import Session, command, say
from metering.cli.commands.analyst.report import (
    AccountOption,
    ChartOption,
    CorrectionsOption,
    FromLocationOption,
    FromOption,
    ServiceOption,
    ToLocationOption,
    ToOption,
    UsageTypeOption,
)
from metering.cli.failures import CommandFailedError
from metering.cli.times import LastOption, ZoneOption
from metering.reports.query import COST_COLUMNS

if TYPE_CHECKING:
    from metering.cli.printing.table import Chart
    from metering.reports.costs.source import Costs
    from metering.reports.query import UsageQuery

cost_app = typer.Typer()

_EXAMPLES = """Examples:

    metering cost
    metering cost --month 2026-10 --group-by account_id,usage_type --format csv --output october.csv
    metering cost --account 123456789012 --group-by day,tier
    metering cost --payer 123456789012 --group-by account_id --top 20
    metering cost --last 7d --group-by payer,day --prices sample
    metering cost --strict --format json
"""
_EXPLAIN_EXAMPLES = """Examples:

    metering cost explain --account 123456789012 --hour 2026-11-24T13:00:00Z --usage-type DataTransfer-Out-Bytes
"""
_NAMED = 40

PayerOption = Annotated[
    list[str] | None, typer.Option("--payer", metavar="ID", help="Only what this payer pays; may be given again.")
]
GroupByOption = Annotated[
    str | None,
    typer.Option(
        "--group-by", metavar="COLUMNS", help=f"Comma-separated: {', '.join(COST_COLUMNS)}. Default: usage_type."
    ),
]
MonthOption = Annotated[
    str | None, typer.Option("--month", metavar="YYYY-MM", help="One billing month, in place of --from and --to.")
]
SortOption = Annotated[
    str | None,
    typer.Option("--sort", metavar="COLUMN", help="Sort by this column; COLUMN:desc for the largest first."),
]
TopOption = Annotated[
    int | None,
    typer.Option(
        "--top",
        metavar="N",
        help="Only the first N rows, by cost unless --sort says otherwise; the others become one sum.",
    ),
]
PricesOption = Annotated[
    str | None,
    typer.Option(
        "--prices",
        metavar="BOOK[@N]",
        help="Price book, and a version of it: to ask what the usage would cost with it. Default: what the month was "
        "invoiced with, or aws-list as it is in force.",
    ),
]
ExactOption = Annotated[
    bool,
    typer.Option(
        "--exact",
        help="Compute a payer's tiers anew, where an account of an open month is rated by those that the biller keeps.",
    ),
]
StrictOption = Annotated[bool, typer.Option("--strict", help="Fail, with a list, if any usage has no price.")]


@command(cost_app, "cost", reads=True, everywhere=True, group=True, epilog=_EXAMPLES)
def cost(
    session: Session,
    account: AccountOption = None,
    payer: PayerOption = None,
    service: ServiceOption = None,
    usage_type: UsageTypeOption = None,
    from_location: FromLocationOption = None,
    to_location: ToLocationOption = None,
    group_by: GroupByOption = None,
    month: MonthOption = None,
    start: FromOption = None,
    end: ToOption = None,
    last: LastOption = None,
    zone: ZoneOption = None,
    sort: SortOption = None,
    top: TopOption = None,
    with_corrections: CorrectionsOption = False,
    prices: PricesOption = None,
    exact: ExactOption = False,
    strict: StrictOption = False,
    chart: ChartOption = False,
) -> None:
    """Show what usage costs: exact sums, by the price book in force, or as it was invoiced.

    All regions of the stage are rated together, because a payer's tiers and allowances count over all of them. With
    --region NAME, only usage of that region is shown, at those positions.

    Usage without a price has no cost: it stands in unpriced_bytes. Usage that is not sold here, by a rule of the price
    book, stands in unrated_bytes. Nothing is written.
    """
    from metering.reports.costs.query import CostParameters

    now_s = int(time.time())
    query = CostParameters(
        start=start, end=end, last=last, zone=zone, month=month, group_by=group_by, accounts=account or (),
        services=service or (), usage_types=usage_type or (), from_locations=from_location or (),
        to_locations=to_location or (), payers=payer or (), sort=sort, top=top, with_corrections=with_corrections,
        region=one_region(session),
    ).cost_query(now_s=now_s)  # fmt: skip
    found = costs_here(session, query, prices=prices, exact=exact, now_s=now_s)
    session.write(found.answer, chart=_bars(found.costs, query.usage) if chart else None)
    if not found.costs.rows.rows:
        say("No matching usage is booked in this time.", style="yellow")
    if strict:
        _refuse_unpriced(found.costs)


@command(cost_app, "explain", reads=True, everywhere=True, epilog=_EXPLAIN_EXAMPLES)
def cost_explain(
    session: Session,
    account: Annotated[str, typer.Option("--account", metavar="ID", help="The account.")],
    hour: Annotated[str, typer.Option("--hour", metavar="TIME", help="The full hour, such as 2026-11-24T13:00:00Z.")],
    usage_type: Annotated[str, typer.Option("--usage-type", metavar="TYPE", help="The usage type.")],
    service: Annotated[str | None, typer.Option("--service", metavar="CODE", help="Only this service.")] = None,
    prices: PricesOption = None,
) -> None:
    """Show why usage of an hour costs what it costs: the position before it, prices, allowances, and the sum.

    The answer has where allowances and tiers end in the payer's month, the price version in force, overrides, the cost
    as arithmetic, and the command that shows the batches that the usage came in.
    """
    from metering.cli.billing.costing import explanation_of
    from metering.reports.costs.explanation_answer import explanation_answer

    now_s = int(time.time())
    asked = {"account": account, "hour": hour, "usage_type": usage_type, "service": service or ""}
    explanation = explanation_of(session, asked, prices=prices, now_s=now_s)
    session.write(explanation_answer(explanation, as_of_s=now_s))


def _bars(costs: Costs, query: UsageQuery) -> Chart:
    """Bars of what has a cost."""
    from metering.billing.money import rounded
    from metering.cli.printing.table import bars

    known = [row for row in costs.rows.rows if row.figures.known]
    sizes = [(" ".join(row.values), rounded(row.figures.exact)) for row in known]
    return bars(sizes, columns=query.columns, most=query.top, money=True)


def _refuse_unpriced(costs: Costs) -> None:
    """Fail if anything has no price.

    Raises:
        CommandFailedError: It names what.
    """
    unpriced = sorted(costs.rows.unpriced.items())
    if not unpriced:
        return
    named = [f"{usage_type} of {service} ({size:,} bytes)" for (usage_type, service), size in unpriced]
    more = [f"and {len(named) - _NAMED} more"] if len(named) > _NAMED else []
    raise CommandFailedError(
        f"Without a price: {', '.join([*named[:_NAMED], *more])}.",
        "Import a price book that has them, or list them there as not sold: metering prices import",
    )

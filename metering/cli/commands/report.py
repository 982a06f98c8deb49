"""`metering report`: totals of usage."""

import time
from typing import Annotated

import typer

from metering.cli.all_regions import asks_for_all, connections, left_out
from metering.cli.command import Session, command, say
from metering.cli.table import bars
from metering.hours import rfc3339
from metering.reports.query import DETAIL_COLUMNS, GROUP_COLUMNS, UsageParameters
from metering.reports.source import report_rows
from metering.reports.usage_answer import usage_answer
from metering.wiring.reports import build_freshness, report_source

report = typer.Typer(help="Totals of usage: who moved how many bytes from where to where.", no_args_is_help=True)

_EXAMPLES = """Examples:

    metering report usage
    metering report usage --account 123456789012 --from 2026-11-01 --to 2026-11-08 --group-by day
    metering report usage --from 2026-11 --group-by account_id,usage_type --format csv --output november.csv
    metering report usage --group-by account_id --chart
    metering report usage --account 123456789012 --detail resource_id
"""

AccountOption = Annotated[
    list[str] | None, typer.Option("--account", metavar="ID", help="Only this account; may be given again.")
]
ServiceOption = Annotated[
    list[str] | None, typer.Option("--service", metavar="CODE", help="Only this service; may be given again.")
]
UsageTypeOption = Annotated[
    list[str] | None, typer.Option("--usage-type", metavar="TYPE", help="Only this usage type; may be given again.")
]
GroupByOption = Annotated[
    str | None,
    typer.Option(
        "--group-by", metavar="COLUMNS", help=f"Comma-separated: {', '.join(GROUP_COLUMNS)}. Default: usage_type."
    ),
]
DetailOption = Annotated[
    str | None,
    typer.Option(
        "--detail",
        metavar="COLUMNS",
        help=f"Also group by these columns, which only the lake has; comma-separated: {', '.join(DETAIL_COLUMNS)}.",
    ),
]
FromOption = Annotated[
    str | None, typer.Option("--from", metavar="TIME", help="RFC 3339, date or month; included. Default: this month.")
]
ToOption = Annotated[
    str | None,
    typer.Option("--to", metavar="TIME", help="Not included. Default: the end of --from, or the end of this hour."),
]
CorrectionsOption = Annotated[
    bool, typer.Option("--with-corrections", help="Also rows booked later for closed months, marked as corrections.")
]
ChartOption = Annotated[bool, typer.Option("--chart", help="Draw bars below the table, largest first.")]


@command(report, "usage", reads=True, epilog=_EXAMPLES)
def usage(
    session: Session,
    account: AccountOption = None,
    service: ServiceOption = None,
    usage_type: UsageTypeOption = None,
    group_by: GroupByOption = None,
    detail: DetailOption = None,
    start: FromOption = None,
    end: ToOption = None,
    with_corrections: CorrectionsOption = False,
    chart: ChartOption = False,
) -> None:
    """Show exact totals, sorted by the columns. A transfer counts in the UTC hour that it started in.

    Totals are kept by the hour, so --from and --to must be on the hour. With --detail, rows are read instead, and any
    second is allowed.
    """
    now_s = int(time.time())
    asked = UsageParameters(
        start=start, end=end, group_by=group_by, detail=detail, accounts=account or (), services=service or (),
        usage_types=usage_type or (), with_corrections=with_corrections,
    )  # fmt: skip
    query = asked.query(now_s=now_s)
    regions = connections(session)
    complete_s = min(build_freshness(region).complete_through_s() for region in regions)
    rows = report_rows([report_source(region) for region in regions], query, now_s=now_s)
    merged = asks_for_all(session)
    answer = usage_answer(
        query, rows, as_of_s=now_s, complete_s=complete_s,
        regions=[region.region for region in regions] if merged else (),
        left_out=left_out(session) if merged else {},
    )  # fmt: skip
    session.write(answer, chart=bars([(" ".join(row.values), row.total.bytes) for row in rows]) if chart else None)
    if not rows:
        say(f"No matching usage is booked from {rfc3339(query.from_s)} to {rfc3339(query.to_s)}.", style="yellow")

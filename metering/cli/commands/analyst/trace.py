"""`metering trace`: from a number of a report down to the batches that it is the sum of."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from metering.cli.all_regions import asks_for_all, connections
from metering.cli.command import Session, command, say
from metering.cli.failures import CommandFailedError
from metering.cli.times import LastOption
from metering.reports.trace.question import TraceParameters
from metering.units import counted

if TYPE_CHECKING:
    from metering.reports.query import UsageQuery
    from metering.wiring.answers.trace import Traced

trace_app = typer.Typer()

# About ten seconds' work; the HTTP API refuses more.
_QUICK_HOURS = 168
_EXAMPLES = """Examples:

    metering trace --account 123456789012 --usage-type DataTransfer-Out-Bytes --hour 2026-11-24T13:00:00Z
    metering trace --account 123456789012 --from 2026-11-24
    metering trace --account 123456789012 --service AmazonEC2 --last 24h --format csv --output batches.csv

Exit 0 if all sums are equal, 1 if they are not.
"""


@command(trace_app, "trace", reads=True, everywhere=True, epilog=_EXAMPLES)
def trace(
    session: Session,
    account: Annotated[str, typer.Option("--account", metavar="ID", help="The account of the line.")],
    usage_type: Annotated[
        str | None, typer.Option("--usage-type", metavar="TYPE", help="Only this usage type.")
    ] = None,
    service: Annotated[str | None, typer.Option("--service", metavar="CODE", help="Only this service.")] = None,
    from_location: Annotated[
        str | None, typer.Option("--from-location", metavar="PLACE", help="Only from here, such as us-east-1.")
    ] = None,
    to_location: Annotated[
        str | None, typer.Option("--to-location", metavar="PLACE", help="Only to here, such as internet.")
    ] = None,
    hour: Annotated[
        str | None, typer.Option("--hour", metavar="TIME", help="One full hour, such as 2026-11-24T13:00:00Z.")
    ] = None,
    start: Annotated[
        str | None,
        typer.Option("--from", metavar="TIME", help="RFC 3339, date or month; included. Default: this month."),
    ] = None,
    end: Annotated[
        str | None,
        typer.Option("--to", metavar="TIME", help="Not included. Default: the end of --from, or of this hour."),
    ] = None,
    last: LastOption = None,
) -> None:
    """Show what a number of a report is made of: its hours, batches and files, and three sums that must be equal.

    The sums are what the report says, what the rows add up to, and what the markers of their batches say. A marker
    lives for 50 days by default; then two sums remain. All rows of the range are read: a month takes long.
    """
    from metering.reports.source import naming
    from metering.wiring.answers.trace import trace_of

    now_s = int(time.time())
    asked = TraceParameters(
        account=account, usage_type=usage_type, service=service, from_location=from_location, to_location=to_location,
        hour=hour, start=start, end=end, last=last,
    )  # fmt: skip
    query = asked.query(now_s=now_s)
    regions = connections(session)
    hours = 0
    for region in regions:
        with naming(region.region):
            hours += len(region.view.hours(from_s=query.from_s, to_s=query.to_s))
    if hours > _QUICK_HOURS:
        say(f"The rows of {counted(hours, 'hour')} are read; that takes a while. With --hour it is quick.")
    found = trace_of(regions, query, now_s=now_s, everywhere=asks_for_all(session))
    session.write(found.answer)
    _judge(found, query)


def _judge(found: Traced, query: UsageQuery) -> None:
    """Tell of an empty line, and fail if the sums differ.

    Raises:
        CommandFailedError: They differ.
    """
    if not any(each.hours for each in found.traces):
        [account] = query.accounts
        say(f"Nothing is booked on this line. To see the account's lines: metering report usage --account {account}")
    if found.equal:
        return
    if found.unsettled:
        raise CommandFailedError(
            "The sums are not equal yet: batches of these hours are coming in.", "Run it again in a minute."
        )
    raise CommandFailedError(
        "The sums are not equal: the number of the report is not what the rows say.",
        "Keep this answer. To see all that differs, and the cure: metering runbook reconciliation-differences",
    )

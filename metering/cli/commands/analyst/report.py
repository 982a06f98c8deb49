"""`metering report`: totals of usage."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from metering.cli.all_regions import asks_for_all, connections
from metering.cli.command import Session, command, say
from metering.cli.printing.output import Format
from metering.cli.times import LastOption, ZoneOption
from metering.cli.usage_html import check_page, write_page
from metering.hours import month_of
from metering.ledger.notes.canary_batches import CANARY_ACCOUNT_ID, of_canary
from metering.reports.query import DETAIL_COLUMNS, GROUP_COLUMNS, UsageParameters
from metering.reports.time_range import shown
from metering.reports.usage_answer import waiting_lines

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from metering.cli.printing.table import Chart
    from metering.reports.names import MissingName
    from metering.reports.query import UsageQuery
    from metering.reports.usage_rows import UsageRow
    from metering.wiring.answers.usage import UsageFound

report = typer.Typer(help="Totals of usage: who moved how many bytes from where to where.", no_args_is_help=True)

_EXAMPLES = """Examples:

    metering report usage
    metering report usage --account 123456789012 --from 2026-11-01 --to 2026-11-08 --group-by day
    metering report usage --from 2026-11 --group-by account_id,usage_type --format csv --output november.csv
    metering report usage --from yesterday --group-by account_id --top 10 --chart
    metering report usage --last 7d --group-by day --tz Europe/Berlin
    metering report usage --account 123456789012 --now
    metering report usage --account 123456789012 --detail resource_id
    metering report usage --to-location internet --group-by from,day
    metering report usage --region all --group-by region,account_id --top 20
    metering report usage --from last-month --html october.html
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
FromLocationOption = Annotated[
    list[str] | None,
    typer.Option(
        "--from-location",
        metavar="PLACE",
        help="Only transfers from here, as the column `from` has it: us-east-1/use1-az2, internet; may be given again.",
    ),
]
ToLocationOption = Annotated[
    list[str] | None,
    typer.Option("--to-location", metavar="PLACE", help="Only transfers to here; may be given again."),
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
    str | None,
    typer.Option(
        "--from",
        metavar="TIME",
        help="RFC 3339, date, month, today, yesterday, this-month or last-month; included. Default: this month.",
    ),
]
ToOption = Annotated[
    str | None,
    typer.Option("--to", metavar="TIME", help="Not included. Default: the end of --from, or the end of this hour."),
]
CorrectionsOption = Annotated[
    bool, typer.Option("--with-corrections", help="Also rows booked later for closed months, marked as corrections.")
]
NowOption = Annotated[
    bool,
    typer.Option("--now", help="Exact as of now, also of what is not rolled up yet (some seconds). It takes longer."),
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
        help="Only the first N rows, by bytes unless --sort says otherwise; the others become one sum.",
    ),
]
HtmlOption = Annotated[
    Path | None,
    typer.Option(
        "--html",
        metavar="FILE",
        help="Write a page to mail instead: trend, accounts, regions, freshness, proof. It needs no network.",
    ),
]
ChartOption = Annotated[
    bool, typer.Option("--chart", help="Draw bars below the table: in the order of time, or the largest first.")
]


@command(report, "usage", reads=True, everywhere=True, epilog=_EXAMPLES)
def usage(
    session: Session,
    account: AccountOption = None,
    service: ServiceOption = None,
    usage_type: UsageTypeOption = None,
    from_location: FromLocationOption = None,
    to_location: ToLocationOption = None,
    group_by: GroupByOption = None,
    detail: DetailOption = None,
    start: FromOption = None,
    end: ToOption = None,
    last: LastOption = None,
    zone: ZoneOption = None,
    sort: SortOption = None,
    top: TopOption = None,
    with_corrections: CorrectionsOption = False,
    now: NowOption = False,
    chart: ChartOption = False,
    html: HtmlOption = None,
) -> None:
    """Show exact totals, sorted by the columns. A transfer counts in the UTC hour that it started in.

    Totals are kept by the hour, so --from and --to must be on the hour. With --detail, rows are read instead, and any
    second is allowed. With --tz, a day is that zone's: the sum of its UTC hours.
    """
    from metering.wiring.answers.completeness import measured_completeness
    from metering.wiring.answers.usage import Everywhere, read_warnings, usage_of

    now_s = int(time.time())
    if html is not None:
        own = {"group-by": group_by, "detail": detail, "sort": sort, "chart": chart}
        check_page(session, others=own, top=top)
        group_by = "day"
    asked = UsageParameters(
        start=start, end=end, group_by=group_by, detail=detail, accounts=account or (), services=service or (),
        usage_types=usage_type or (), from_locations=from_location or (), to_locations=to_location or (),
        with_corrections=with_corrections, now=now, last=last, zone=zone, sort=sort, top=top,
    )  # fmt: skip
    query = asked.query(now_s=now_s)
    if html is not None:
        write_page(session, query, html, now_s=now_s)
        return
    regions = connections(session)
    for text in read_warnings(regions, query, now_s=now_s):
        say(text, style="yellow")
    everywhere = Everywhere(left_out=session.regions.left_out) if asks_for_all(session) else None
    found = usage_of(
        regions,
        query,
        now_s=now_s,
        complete=measured_completeness(regions),
        named_beginning=bool(start or last),
        everywhere=everywhere,
    )
    session.write(found.answer, chart=_bars(found.rows, query) if chart else None)
    # A table says itself that it is empty.
    told = session.chosen_format is Format.TABLE
    for text in _notes(query, found, told=told):
        say(text, style="yellow")


def _bars(rows: Sequence[UsageRow], query: UsageQuery) -> Chart:
    from metering.cli.printing.table import bars

    return bars([(" ".join(row.values), row.total.bytes) for row in rows], columns=query.columns, most=query.top)


_WORDS = {
    "account": "account",
    "service": "service",
    "usage_type": "usage type",
    "from_location": "beginning",
    "to_location": "destination",
}


def _notes(query: UsageQuery, found: UsageFound, *, told: bool) -> Iterator[str]:
    """What a reader of the rows should know: what was not found or waits, and where there is something."""
    empty = not found.rows
    if empty and not told:
        yield f"No matching usage is booked from {shown(query.from_s, query.zone)} to {shown(query.to_s, query.zone)}."
    if not told:
        yield from waiting_lines(found.lacks)
    alone = len(query.filters()) == 1
    yield from (_missing_note(name, alone=alone) for name in found.missing)
    if found.booked_s is None:
        if empty and found.lacks.since_s is None:
            yield "Nothing is booked yet, in any hour. `metering replay --scenario mixed` sends some traffic."
        return
    first, after = (shown(moment_s, query.zone) for moment_s in found.booked_s)
    if found.booked_s[0] >= query.to_s or found.booked_s[1] <= query.from_s:
        yield f"There is usage from {first} to {after}. Try --from {month_of(found.booked_s[1] - 1)}."
    elif query.from_s < found.booked_s[0]:
        yield f"Nothing is booked before {first}."


def _missing_note(name: MissingName, *, alone: bool) -> str:
    """Why a name is not in the rows. `alone`: no other filter than that of the name is given."""
    what = _WORDS[name.parameter]
    if of_canary(name.value):
        return f"The canary is left out unless its account is named: --account {CANARY_ACCOUNT_ID}."
    if name.elsewhere and alone:
        # What waits for the roll-up is in the rows of the range, and not in a report on accounts.
        return f"The {what} {name.value} has usage in this range that is not rolled up yet."
    if name.elsewhere:
        return f"The {what} {name.value} has usage in this range, but none with the other filters."
    near = f"Nearest: {', '.join(name.nearest)}." if name.nearest else f"No {what} of the range is near it."
    return f"No {what} {name.value} in this range. {near}{' Only its newest hours were searched.' if name.cut else ''}"

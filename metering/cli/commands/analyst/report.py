"""`metering report`, `accounts` and `trace`: totals of usage, accounts with usage, and the batches behind a total."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from metering.cli.command import Session, command, say
from metering.cli.failures import CommandFailedError, WrongUsageError
from metering.cli.fleet import asks_for_all, connections
from metering.cli.options import LastOption, ZoneOption, family, option, switch
from metering.cli.printing import output
from metering.hours import month_of
from metering.ledger.notes import checks
from metering.reports import time_range, usage_answer, usage_rows
from metering.reports.accounts import COLUMNS, AccountsParameters
from metering.reports.query import (
    DETAIL_COLUMNS,
    FILTERS,
    GROUP_COLUMNS,
    LINE_FILTERS,
    TraceParameters,
    UsageParameters,
    UsageQuery,
)
from metering.reports.source import naming
from metering.units import counted

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from metering.audit.freshness import Complete
    from metering.cli.printing.table import Chart
    from metering.wiring.answers.trace import Traced
    from metering.wiring.answers.usage import UsageFound

_KB = 1_000


def check_page(session: Session, *, others: Mapping[str, object], top: int | None) -> None:
    """Refuse options that have no effect on a page.

    Raises:
        WrongUsageError: One was given.
    """
    given = {**others, "format": session.form, "output": session.output}
    useless = [f"--{name}" for name, value in given.items() if value]
    if useless:
        raise WrongUsageError(
            f"--html writes a page with tables of its own, and does not take {', '.join(useless)}.",
            "Leave --html out, or the others. --top says how many accounts the page lists.",
        )
    from metering.reports.page import MOST_ACCOUNTS

    if top is not None and top > MOST_ACCOUNTS:
        raise WrongUsageError(f"--html lists {MOST_ACCOUNTS} accounts at most.", "The others are one exact sum.")


def write_page(session: Session, query: UsageQuery, target: Path, *, now_s: int) -> None:
    """Write the HTML page of a query to a file, completely or not at all."""
    from metering.cli.billing.costing import costs_here
    from metering.wiring.answers.pages import usage_page
    from metering.wiring.reports import build_freshness

    regions = connections(session)
    complete: dict[str, Complete] = {}
    for region in regions:
        with naming(region.region):
            complete[region.region] = build_freshness(region).answer()
    costs = partial(costs_here, session, prices=None, exact=False, now_s=now_s)
    page = usage_page(regions, query, complete, now_s=now_s, place=session.region_name, costs=costs)
    output.write_whole(target, [page])
    say(f"Wrote {target}: a page of {(len(page) + _KB // 2) // _KB} kB that needs no other file.")


report = family("Totals of usage: who moved how many bytes from where to where.")

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

UsageFilters = Annotated[list[str] | None, FILTERS]
GroupByOption = Annotated[
    str | None, option("--group-by", "COLUMNS", f"Comma-separated: {', '.join(GROUP_COLUMNS)}. Default: usage_type.")
]
DetailOption = Annotated[
    str | None,
    option(
        "--detail",
        "COLUMNS",
        f"Also group by columns that only the lake has, comma-separated: {', '.join(DETAIL_COLUMNS)}.",
    ),
]
FromOption = Annotated[
    str | None,
    option(
        "--from",
        "TIME",
        "Start of the range, included: a time (RFC 3339), date, month, today, yesterday, this-month or last-month. "
        "Default: this month.",
    ),
]
ToOption = Annotated[
    str | None,
    option("--to", "TIME", "Not included. Default: the end of --from's day or month, or the end of the current hour."),
]
CorrectionsOption = Annotated[
    bool, switch("--with-corrections", "Also show rows booked later for closed months, marked as corrections.")
]
NowOption = Annotated[
    bool,
    switch("--now", "Exact as of now: also count usage that is not rolled up yet. It takes longer."),
]
SortOption = Annotated[
    str | None, option("--sort", "COLUMN", "Sort by this column; COLUMN:desc for the largest first.")
]
TopOption = Annotated[
    int | None,
    option("--top", "N", "Only the first N rows, by bytes unless --sort is given; the other rows become one sum."),
]
HtmlOption = Annotated[
    Path | None,
    option(
        "--html",
        "FILE",
        "Write an HTML page to mail, with trend, accounts, regions, freshness and proof. The page needs no network.",
    ),
]
ChartOption = Annotated[
    bool, switch("--chart", "Draw a bar chart below the table, in order of time or with the largest first.")
]


@command(report, "usage", reads=True, everywhere=True, epilog=_EXAMPLES)
def usage(
    session: Session,
    /,
    *,
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
    **filters: UsageFilters,
) -> None:
    """Show exact totals of usage, sorted by the grouping columns. A transfer counts in the UTC hour that it started in.

    Totals are stored by the hour, so --from and --to must be on the hour. With --detail, the command reads the rows
    themselves, and --from and --to may be any second. With --tz, a day is a day in that time zone: the sum of the day's
    UTC hours. Sums over usage types leave out what gateways and endpoints process, a second count, and name it beside.
    """
    from metering.wiring.answers.usage import Everywhere, measured_completeness, read_warnings, usage_of

    now_s = int(time.time())
    if html is not None:
        own = {"group-by": group_by, "detail": detail, "sort": sort, "chart": chart}
        check_page(session, others=own, top=top)
        group_by = "day"
    asked = UsageParameters(
        start=start, end=end, group_by=group_by, detail=detail, filters=filters, with_corrections=with_corrections,
        now=now, last=last, zone=zone, sort=sort, top=top,
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
    # An empty table already says that there are no rows.
    told = session.chosen_format is output.Format.TABLE
    for text in _notes(query, found, told=told):
        say(text, style="yellow")


def _bars(rows: Sequence[usage_rows.UsageRow], query: UsageQuery) -> Chart:
    from metering.cli.printing.table import bars

    return bars([(" ".join(row.values), row.total.bytes) for row in rows], columns=query.columns, most=query.top)


def _notes(query: UsageQuery, found: UsageFound, *, told: bool) -> Iterator[str]:
    """Notes on the rows: unknown names, usage that is not rolled up yet, and hours that have data."""
    empty = not found.rows
    if empty and not told:
        begin, end = (time_range.shown(each_s, query.zone) for each_s in (query.from_s, query.to_s))
        yield f"No matching usage is booked from {begin} to {end}."
    if not told:
        yield from usage_answer.waiting_lines(found.lacks)
    alone = len(query.filters()) == 1
    yield from (_missing_note(name, alone=alone) for name in found.missing)
    if found.booked_s is None:
        if empty and found.lacks.since_s is None:
            yield "Nothing is booked yet, in any hour. `metering replay --scenario mixed` sends some traffic."
        return
    first, after = (time_range.shown(moment_s, query.zone) for moment_s in found.booked_s)
    if found.booked_s[0] >= query.to_s or found.booked_s[1] <= query.from_s:
        yield f"There is usage from {first} to {after}. Try --from {month_of(found.booked_s[1] - 1)}."
    elif query.from_s < found.booked_s[0]:
        yield f"Nothing is booked before {first}."


def _missing_note(name: usage_answer.MissingName, *, alone: bool) -> str:
    """Reason why no row matches a filter's value. `alone`: whether this is the only filter."""
    what = FILTERS[name.parameter].noun
    if checks.of_canary(name.value):
        return f"The canary is left out unless its account is named: --account {checks.CANARY_ACCOUNT_ID}."
    if name.elsewhere and alone:
        # The rows of the range include usage that is not rolled up yet, but a report on accounts does not.
        return f"The {what} {name.value} has usage in this range that is not rolled up yet."
    if name.elsewhere:
        return f"The {what} {name.value} has usage in this range, but none with the other filters."
    near = f"Nearest: {', '.join(name.nearest)}." if name.nearest else f"No {what} of the range is near it."
    return f"No {what} {name.value} in this range. {near}{' Only its newest hours were searched.' if name.cut else ''}"


accounts_app = typer.Typer()

_ACCOUNTS_EXAMPLES = """Examples:

    metering accounts
    metering accounts --month 2026-10 --top 20
    metering accounts --prefix 1234 --sort last_hour:desc
    metering accounts --region all --format csv --output accounts.csv
"""


@command(accounts_app, "accounts", reads=True, everywhere=True, epilog=_ACCOUNTS_EXAMPLES)
def accounts(
    session: Session,
    month: Annotated[str | None, option("--month", "YYYY-MM", "One billing month. Default: the current month.")] = None,
    account: Annotated[list[str] | None, option("--account", "ID", "Only this account; may be repeated.")] = None,
    prefix: Annotated[
        str | None, option("--prefix", "DIGITS", "Only accounts whose id begins with this prefix.")
    ] = None,
    sort: Annotated[
        str | None, option("--sort", "COLUMN", f"Sort by {', '.join(COLUMNS)}; COLUMN:desc for the largest first.")
    ] = None,
    top: Annotated[
        int | None,
        option(
            "--top",
            "N",
            "Only the first N accounts, by bytes unless --sort is given; the other accounts become one sum.",
        ),
    ] = None,
) -> None:
    """List the accounts of a month: bytes, records, first and last hour. One read returns the whole list.

    The biller maintains this list, and the reconciler compares it with the lake. The list covers the usage that was in
    the lake at the biller's last run. To see all usage as of now: metering report usage --group-by account_id
    """
    from metering.wiring.answers.accounts import accounts_of

    now_s = int(time.time())
    asked = AccountsParameters(month=month, accounts=account or (), prefix=prefix, sort=sort, top=top)
    query = asked.query(now_s=now_s)
    session.write(accounts_of(connections(session), query, now_s=now_s, merged=asks_for_all(session)))


trace_app = typer.Typer()

# Ranges up to this length take about ten seconds; the HTTP API refuses longer ranges.
_QUICK_HOURS = 168
LineFilters = Annotated[str | None, LINE_FILTERS]
_TRACE_EXAMPLES = """Examples:

    metering trace --account 123456789012 --usage-type DataTransfer-Out-Bytes --hour 2026-11-24T13:00:00Z
    metering trace --account 123456789012 --from 2026-11-24
    metering trace --account 123456789012 --service AmazonEC2 --last 24h --format csv --output batches.csv

Exit 0 if all sums are equal, 1 if they are not.
"""


@command(trace_app, "trace", reads=True, everywhere=True, epilog=_TRACE_EXAMPLES)
def trace(
    session: Session,
    /,
    account: Annotated[str, option("--account", "ID", "Account of the line in the report.")],
    *,
    hour: Annotated[str | None, option("--hour", "TIME", "One full hour, such as 2026-11-24T13:00:00Z.")] = None,
    start: Annotated[
        str | None,
        option("--from", "TIME", "Start, included: a time (RFC 3339), date or month. Default: this month."),
    ] = None,
    end: Annotated[
        str | None,
        option(
            "--to", "TIME", "Not included. Default: the end of --from's day or month, or the end of the current hour."
        ),
    ] = None,
    last: LastOption = None,
    **filters: LineFilters,
) -> None:
    """Show what a number of a report is made of: its hours, batches and files, and three sums that must be equal.

    The three sums come from the report, from its rows, and from the markers of the rows' batches. A marker expires
    after 50 days by default; after that, only two sums can be compared. The command reads all rows of the range, so a
    range of a month takes a long time.
    """
    from metering.reports.source import naming
    from metering.wiring.answers.trace import trace_of

    now_s = int(time.time())
    asked = TraceParameters(
        account=account, filters=filters, hour=hour, start=start, end=end, last=last,
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
    """Report if a line has no usage, and fail if its sums differ."""
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

"""`metering report`: totals of usage."""

import re
import time
from collections.abc import Iterable, Mapping
from typing import Annotated, cast

import typer
from rich.console import Group
from rich.table import Table as RichTable
from rich.text import Text

from metering.adapters.aws.runtime import SystemClock
from metering.audit.freshness import Freshness
from metering.cli.all_regions import asks_for_all, connections, left_out
from metering.cli.command import Session, command, say
from metering.cli.failures import WrongUsageError
from metering.cli.output import Answer, Column
from metering.cli.safety import printable
from metering.cli.times import parse_range
from metering.hours import hour_of, month_bounds_s, month_of, rfc3339
from metering.reports.source import DETAIL_COLUMNS, ReportSource, summed
from metering.reports.usage_table import GROUP_COLUMNS, GroupColumn, UsageQuery, UsageRow, grouped
from metering.units import HOUR_S, billed_gb
from metering.wiring.connection import RegionConnection

report = typer.Typer(help="Totals of usage: who moved how many bytes from where to where.", no_args_is_help=True)

_ACCOUNT_ID = re.compile(r"[0-9]{12}")
_BAR_WIDTH = 40
_MOST_BARS = 20

_EXAMPLES = """Examples:

    metering report usage
    metering report usage --account 123456789012 --from 2026-11-01 --to 2026-11-08 --group-by day
    metering report usage --from 2026-11 --group-by account_id,usage_type --format csv --output november.csv
    metering report usage --group-by account_id --chart
    metering report usage --account 123456789012 --detail resource_id
"""


@command(report, "usage", reads=True, epilog=_EXAMPLES)
def usage(
    session: Session,
    account: Annotated[
        list[str] | None, typer.Option("--account", metavar="ID", help="Only this account; may be given again.")
    ] = None,
    service: Annotated[
        list[str] | None, typer.Option("--service", metavar="CODE", help="Only this service; may be given again.")
    ] = None,
    usage_type: Annotated[
        list[str] | None, typer.Option("--usage-type", metavar="TYPE", help="Only this one; may be given again.")
    ] = None,
    group_by: Annotated[
        str | None,
        typer.Option(
            "--group-by", metavar="COLUMNS", help=f"Comma-separated: {', '.join(GROUP_COLUMNS)}. Default: usage_type."
        ),
    ] = None,
    detail: Annotated[
        str | None,
        typer.Option(
            "--detail",
            metavar="COLUMNS",
            help=f"Also by these, read from the lake; comma-separated: {', '.join(DETAIL_COLUMNS)}.",
        ),
    ] = None,
    start: Annotated[
        str | None,
        typer.Option("--from", metavar="TIME", help="RFC 3339, date or month; included. Default: this month."),
    ] = None,
    end: Annotated[
        str | None,
        typer.Option("--to", metavar="TIME", help="Not included. Default: this hour's end, or the end of --from."),
    ] = None,
    with_corrections: Annotated[
        bool, typer.Option("--with-corrections", help="Also what was booked later for closed months, marked.")
    ] = False,
    chart: Annotated[bool, typer.Option("--chart", help="Bars below the table, largest first.")] = False,
) -> None:
    """Exact totals, an hour being the hour that a transfer started in (UTC). Sorted by the columns.

    Totals are kept by the hour, so --from and --to must be on it; with --detail rows are read, and any second will do.
    """
    now_s = int(time.time())
    details = _details(detail)
    query = usage_query(
        now_s, details=details, accounts=account, services=service, usage_types=usage_type, group_by=group_by,
        start=start, end=end, with_corrections=with_corrections,
    )  # fmt: skip
    regions = connections(session)
    complete_s = min(freshness(region).complete_through_s() for region in regions)
    rows = usage_rows([report_source(region) for region in regions], query, details, now_s=now_s)
    merged = asks_for_all(session)
    session.write(
        usage_answer(
            query, rows, as_of_s=now_s, complete_s=complete_s, chart=chart, details=details,
            regions=tuple(region.region for region in regions) if merged else (),
            without=left_out(session) if merged else {},
        )
    )  # fmt: skip
    if not rows:
        say(
            f"Nothing that this asks for is booked from {rfc3339(query.from_s)} to {rfc3339(query.to_s)}.",
            style="yellow",
        )


def usage_rows(
    sources: Iterable[ReportSource], query: UsageQuery, details: tuple[str, ...], *, now_s: int
) -> list[UsageRow]:
    """The rows of a report over one region or several, sorted."""
    if details:
        return summed(row for source in sources for row in source.detailed(query, details, now_s=now_s))
    return grouped((entry for source in sources for entry in source.usage(query, now_s=now_s)), query)


def report_source(region: RegionConnection) -> ReportSource:
    """Where the reports of a region come from."""
    return ReportSource(items=region.items, objects=region.objects, view=region.view)


def _details(detail: str | None) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(name.strip() for name in (detail or "").split(",") if name.strip()))
    unknown = [name for name in names if name not in DETAIL_COLUMNS]
    if unknown:
        raise WrongUsageError(
            f"--detail: there is no column {', '.join(unknown)}.", f"There are: {', '.join(DETAIL_COLUMNS)}."
        )
    return names


def freshness(region: RegionConnection) -> Freshness:
    """Up to when the reports of a region are complete."""
    return Freshness(
        items=region.items,
        ingest=region.ingest,
        dead=region.dead_letters,
        queue_facts=region.queue_facts,
        clock=SystemClock(),
        shards=region.settings.shards,
        window_s=region.settings.window_s,
    )


def usage_query(
    now_s: int,
    *,
    details: tuple[str, ...] = (),
    accounts: list[str] | None,
    services: list[str] | None,
    usage_types: list[str] | None,
    group_by: str | None,
    start: str | None,
    end: str | None,
    with_corrections: bool = False,
) -> UsageQuery:
    """The query that options ask for.

    Raises:
        WrongUsageError: A column, time or account is none, or the range cuts an hour of which only totals are kept.
    """
    first_s, _ = month_bounds_s(month_of(now_s))
    from_s, to_s = parse_range(
        start,
        end,
        default_s=(first_s, hour_of(now_s) + HOUR_S),
        # Rows know when they start; a correction only knows the hour that it corrects.
        whole_hours=not details or with_corrections,
        now_s=now_s,
    )
    columns = _columns(group_by)
    if with_corrections and "corrects" not in columns:
        columns = (*columns, "corrects")
    return UsageQuery(
        from_s=from_s,
        to_s=to_s,
        group_by=columns,
        accounts=_accounts(accounts),
        services=_split(services),
        usage_types=_split(usage_types),
        with_corrections=with_corrections,
    )


def usage_answer(
    query: UsageQuery,
    rows: list[UsageRow],
    *,
    as_of_s: int,
    complete_s: int,
    chart: bool = False,
    regions: tuple[str, ...] = (),
    details: tuple[str, ...] = (),
    without: Mapping[str, list[str]] | None = None,
) -> Answer:
    """The contract's answer to `report usage`; it names the regions where several are merged, and what they lack."""
    names = (*query.group_by, *details)
    columns = tuple(Column(name=name, kind="time" if name == "hour" else "text") for name in names)
    total = sum(row.total.bytes for row in rows)
    return Answer(
        columns=(*columns, Column(name="bytes", kind="bytes"), Column(name="records", kind="integer")),
        rows=[
            {
                **dict(zip(names, row.values, strict=True)),
                "bytes": row.total.bytes,
                "records": row.total.records,
            }
            for row in rows
        ],
        meta={
            "query": _query_document(query),
            "as_of": rfc3339(as_of_s),
            "complete_through": rfc3339(min(complete_s, as_of_s)),
            **({"regions": list(regions), "left_out": dict(without or {})} if regions else {}),
        },
        title=f"Usage from {rfc3339(query.from_s)} to {rfc3339(query.to_s)}",
        footer=(
            f"Total: {total:,} bytes = {billed_gb(total):,.3f} GB (2^30 bytes) in "
            f"{sum(row.total.records for row in rows):,} records.",
            f"As of {rfc3339(as_of_s)}, complete through {rfc3339(min(complete_s, as_of_s))}.",
            *(f"{region} goes without {', '.join(parts)}." for region, parts in (without or {}).items()),
        ),
        chart=bars([(" ".join(row.values), row.total.bytes) for row in rows]) if chart else None,
    )


def bars(sizes: list[tuple[str, int]], *, most: int = _MOST_BARS) -> Group:
    """Horizontal bars of the largest sizes, all to the scale of the first."""
    largest = sorted(sizes, key=lambda size: (-size[1], size[0]))[:most]
    scale = max((size for _, size in largest), default=0) or 1
    table = RichTable.grid(padding=(0, 1))
    for name, size in largest:
        # Integers only: a float would round a total before it is drawn.
        eighths = size * _BAR_WIDTH * 8 // scale
        bar = "█" * (eighths // 8) + " ▏▎▍▌▋▊▉"[eighths % 8].strip()
        table.add_row(Text(printable(name)), Text(bar, style="cyan"), Text(f"{billed_gb(size):,.3f} GB"))
    return Group(Text(), table)


def _columns(group_by: str | None) -> tuple[GroupColumn, ...]:
    names = [name.strip() for name in (group_by or "usage_type").split(",") if name.strip()]
    unknown = [name for name in names if name not in GROUP_COLUMNS]
    if unknown or not names:
        raise WrongUsageError(
            f"--group-by: there is no column {', '.join(unknown) or 'named'}.",
            f"There are: {', '.join(GROUP_COLUMNS)}.",
        )
    return cast("tuple[GroupColumn, ...]", tuple(dict.fromkeys(names)))


def _accounts(values: list[str] | None) -> frozenset[str]:
    accounts = _split(values)
    for account in sorted(accounts):
        if not _ACCOUNT_ID.fullmatch(account):
            raise WrongUsageError(f"--account {account}: an account has 12 digits.")
    return accounts


def _split(values: list[str] | None) -> frozenset[str]:
    return frozenset(part.strip() for value in values or () for part in value.split(",") if part.strip())


def _query_document(query: UsageQuery) -> dict[str, str | list[str] | bool]:
    document: dict[str, str | list[str] | bool] = {
        "from": rfc3339(query.from_s),
        "to": rfc3339(query.to_s),
        "group_by": list(query.group_by),
    }
    for name in ("accounts", "services", "usage_types"):
        if chosen := sorted(getattr(query, name)):
            document[name] = chosen
    if query.with_corrections:
        document["with_corrections"] = True
    return document

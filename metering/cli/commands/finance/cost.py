"""`metering cost`, `compare` and `organization`: costs of usage, comparison with AWS bills, and payers of accounts."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from metering.cli import fleet
from metering.cli.billing.costing import costs_here, one_region
from metering.cli.billing.home import billing_home, home_ground
from metering.cli.command import Session, command, say, spinner
from metering.cli.commands.analyst.report import ChartOption, CorrectionsOption, FromOption, SortOption, ToOption
from metering.cli.failures import CommandFailedError, WrongUsageError
from metering.cli.options import LastOption, ZoneOption, argument, family, option, switch
from metering.errors import ObjectMissingError, OperationFailedError
from metering.hours import date_of, hour_of, month_bounds_s, month_of
from metering.reports.query import COST_COLUMNS, COST_FILTERS, UsageQuery
from metering.reports.time_range import time_range
from metering.units import DAY_S, HOUR_S

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from metering.billing.payers import Organization
    from metering.cli.printing.table import Chart
    from metering.onramps.bill import Bill, Comparison, Tolerance
    from metering.onramps.bill_lines import Wanted
    from metering.reports.costs.source import Costs


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

CostFilters = Annotated[list[str] | None, COST_FILTERS]
GroupByOption = Annotated[
    str | None, option("--group-by", "COLUMNS", f"Comma-separated: {', '.join(COST_COLUMNS)}. Default: usage_type.")
]
MonthOption = Annotated[str | None, option("--month", "YYYY-MM", "One billing month, instead of --from and --to.")]
TopOption = Annotated[
    int | None,
    option("--top", "N", "Only the first N rows, by cost unless --sort is given; the other rows become one sum."),
]
PricesOption = Annotated[
    str | None,
    option(
        "--prices",
        "BOOK[@N]",
        "Rate with this price book, or with one version of it. Default: the price book that the month was invoiced "
        "with, or the aws-list version in force.",
    ),
]
ExactOption = Annotated[
    bool,
    switch(
        "--exact",
        "Recompute a payer's tiers; without this, an account of an open month is rated with the tiers that the "
        "biller stores.",
    ),
]
StrictOption = Annotated[bool, switch("--strict", "Fail if any usage has no price, and list that usage.")]


@command(cost_app, "cost", reads=True, everywhere=True, group=True, epilog=_EXAMPLES)
def cost(
    session: Session,
    /,
    *,
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
    **filters: CostFilters,
) -> None:
    """Show the exact cost of usage, by the price book in force or as invoiced.

    All regions of the stage are rated together, because a payer's tiers and allowances count usage of all regions. With
    --region NAME, only usage of that region is shown, rated in the tiers that it reaches over all regions.

    Usage without a price has no cost; the column unpriced_bytes has its bytes. The column unrated_bytes has the bytes
    of usage that is not sold here, according to a rule of the price book. Nothing is written.
    """
    from metering.reports.costs.rows import CostParameters

    now_s = int(time.time())
    query = CostParameters(
        start=start, end=end, last=last, zone=zone, month=month, group_by=group_by, filters=filters, sort=sort,
        top=top, with_corrections=with_corrections, region=one_region(session),
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
    account: Annotated[str, option("--account", "ID", "The account.")],
    hour: Annotated[str, option("--hour", "TIME", "The full hour of the usage, such as 2026-11-24T13:00:00Z.")],
    usage_type: Annotated[str, option("--usage-type", "TYPE", "The usage type.")],
    service: Annotated[str | None, option("--service", "CODE", "Only this service.")] = None,
    prices: PricesOption = None,
) -> None:
    """Explain the cost of an hour's usage: the payer's usage before the hour, prices, allowances, and the sum.

    The answer shows where allowances and tiers end in the payer's month, the price version in force, overrides, the
    calculation of the cost, and the command that shows the batches of the usage.
    """
    from metering.cli.billing.costing import explanation_of
    from metering.reports.costs.explanation import explanation_answer

    now_s = int(time.time())
    asked = {"account": account, "hour": hour, "usage_type": usage_type, "service": service or ""}
    explanation = explanation_of(session, asked, prices=prices, now_s=now_s)
    session.write(explanation_answer(explanation, as_of_s=now_s))


def _bars(costs: Costs, query: UsageQuery) -> Chart:
    from metering.billing.money import rounded
    from metering.cli.printing.table import bars

    known = [row for row in costs.rows.rows if row.total.known]
    sizes = [(" ".join(row.values), rounded(row.total.exact)) for row in known]
    return bars(sizes, columns=query.columns, most=query.top, money=True)


def _refuse_unpriced(costs: Costs) -> None:
    unpriced = sorted(costs.rows.unpriced.items())
    if not unpriced:
        return
    named = [f"{usage_type} of {service} ({size:,} bytes)" for (usage_type, service), size in unpriced]
    more = [f"and {len(named) - _NAMED} more"] if len(named) > _NAMED else []
    raise CommandFailedError(
        f"Without a price: {', '.join([*named[:_NAMED], *more])}.",
        "Import a price book that has them, or list them there as not sold: metering prices import",
    )


compare_app = typer.Typer()

_COMPARE_EXAMPLES = """Examples:

    metering compare cur/BILLING_PERIOD=2026-11/
    metering compare focus.parquet --region all --tolerance 0.1% --tolerance 1MB
    metering compare bill.csv.gz --account 123456789012 --from 2026-11 --top 20
    metering compare cur/ --by month --format csv --output compared.csv
    metering compare
"""
_BY = ("day", "month")
# Epoch seconds of the year 9999: a bill may have any date.
_END_S = 253_370_764_800


@command(compare_app, "compare", reads=True, everywhere=True, epilog=_COMPARE_EXAMPLES)
def compare(
    session: Session,
    files: Annotated[
        list[Path] | None,
        argument(
            "BILL…",
            "Files or folders of a bill export in CUR 2.0, CUR or FOCUS, as CSV or Parquet. Default: show the last "
            "comparison with each export of the setting bill_exports.",
        ),
    ] = None,
    account: Annotated[list[str] | None, option("--account", "ID", "Only this account; may be repeated.")] = None,
    start: Annotated[
        str | None, option("--from", "TIME", "First hour. Default: the beginning of the bill's first day.")
    ] = None,
    end: Annotated[str | None, option("--to", "TIME", "Not included. Default: the end of the bill's last day.")] = None,
    by: Annotated[str, option("--by", "UNIT", "Compare by day or by month.")] = "day",
    tolerance: Annotated[
        list[str] | None,
        option(
            "--tolerance",
            "HOW-FAR",
            "Exit with 1 if a row differs by more than this: 0.5% of the billed bytes, 1000 or 10MB. If two are "
            "given, meeting either one is enough.",
        ),
    ] = None,
    top: Annotated[
        int | None, option("--top", "N", "Only the N largest differences; the other rows become one sum.")
    ] = None,
) -> None:
    """Compare an AWS bill with metered usage, by account, usage type and day; it fails only with --tolerance.

    Only the data transfer of the bill's accounts is compared; all other lines are counted, by the reason for which they
    are omitted. With --region all, the usage of all regions is added up, because a bill covers all regions. Traffic
    within a zone and unclassified traffic never appear on a bill, and are therefore listed separately.
    """
    if not files:
        if account or start or end or tolerance or top or by != "day":
            raise WrongUsageError(
                "Without a bill there is nothing to choose from.", "Name the bill's files or folders."
            )
        _show_last(session)
        return
    from metering.onramps.bill import compare as put_beside
    from metering.reports.bills import Asked, comparison_answer, metered_bytes
    from metering.wiring.reports import report_source

    now_s, tolerated = int(time.time()), _tolerance(tolerance or [])
    _check(by, top)
    wanted, asked_s = _wanted(by, account or [], (start, end), now_s)
    regions = fleet.connections(session)
    bill, ignored = _read(files, wanted)
    range_s, compared = _range(bill, wanted, asked_s), bill.accounts | wanted.accounts
    sources = [report_source(region) for region in regions]
    metered = metered_bytes(sources, wanted, accounts=compared, range_s=range_s, now_s=now_s) if compared else {}
    found = put_beside(bill.bytes, metered, tolerated)
    names = [each.region for each in regions]
    asked = Asked(wanted=wanted, range_s=range_s, as_of_s=now_s, regions=names, top=top, ignored=ignored)
    session.write(comparison_answer(found, bill, asked))
    for text in _notes(found, bill, ignored):
        say(text, style="yellow")
    if found.beyond or (tolerated is not None and bill.broken):
        raise typer.Exit(1)


def _show_last(session: Session) -> None:
    """Show what the home region's biller compared last."""
    from metering.ledger.notes.money import bill_checks
    from metering.reports.bills import bill_checks_answer

    checks = bill_checks(billing_home(session).items)
    session.write(bill_checks_answer(checks))
    if any(check.problems(int(time.time())) for check in checks):
        raise typer.Exit(1)


def _check(by: str, top: int | None) -> None:
    if by not in _BY:
        raise WrongUsageError(f"--by {by} is not one of {', '.join(_BY)}.", "Write --by day or --by month.")
    if top is not None and top < 1:
        raise WrongUsageError(f"--top {top} is not a number of rows: 1 or more.", "Leave it out to see all rows.")


def _tolerance(texts: Sequence[str]) -> Tolerance | None:
    from metering.onramps.bill import tolerance_of

    try:
        return tolerance_of(texts)
    except OperationFailedError as error:
        raise WrongUsageError(f"--tolerance: {error.reason}", error.advice) from error


def _wanted(
    by: str, accounts: Sequence[str], times: tuple[str | None, str | None], now_s: int
) -> tuple[Wanted, tuple[int, int]]:
    """The filter for lines of the bill, and the time range that the user named."""
    from metering.onramps.bill_lines import Wanted

    for each in accounts:
        if not (each.isascii() and each.isdecimal() and len(each) == 12):
            raise WrongUsageError(f"{each} is not an account: an account has 12 digits.", "Write all 12 digits.")
    from_s, to_s = time_range(*times, default_s=(0, _END_S), now_s=now_s, whole_hours=True)
    wanted = Wanted(by=by, accounts=frozenset(accounts), from_s=from_s, to_s=to_s)
    return wanted, (from_s if times[0] else 0, to_s if times[0] or times[1] else _END_S)


def _read(files: Sequence[Path], wanted: Wanted) -> tuple[Bill, int]:
    """Read the bill; returns the bill and the number of files that do not belong to any bill."""
    from metering.onramps.bill import bill_files, read_bill

    try:
        paths, ignored = bill_files(files)
        with spinner("reading the bill") as move:
            bill = read_bill(paths, wanted, lambda path, rows: move(description=f"{Path(path).name}: {rows:,} rows"))
    except OperationFailedError as error:
        raise CommandFailedError(error.reason, error.advice) from error
    return bill, len(ignored)


def _range(bill: Bill, wanted: Wanted, asked_s: tuple[int, int]) -> tuple[int, int]:
    """The whole days or months that the bill covers, limited to the requested range."""
    if bill.first_s is None or bill.last_s is None:
        first_s = hour_of(asked_s[0])
        return first_s, min(asked_s[1], first_s + HOUR_S)
    if wanted.by == "month":
        own_s = month_bounds_s(month_of(hour_of(bill.first_s)))[0], month_bounds_s(month_of(hour_of(bill.last_s)))[1]
    else:
        own_s = bill.first_s - bill.first_s % DAY_S, bill.last_s - bill.last_s % DAY_S + DAY_S
    return max(own_s[0], asked_s[0]), min(own_s[1], asked_s[1])


def _notes(found: Comparison, bill: Bill, ignored: int) -> Iterator[str]:
    """Notes on the rows."""
    if bill.first_s is not None and bill.last_s is not None:
        yield f"The bill is about {date_of(bill.first_s)} to {date_of(bill.last_s)}, UTC."
    for what, count in sorted(bill.broken.items()):
        yield f"Lines of data transfer that cannot be read: {count:,} with {what.value}."
    yield from bill.examples
    if ignored:
        yield f"Files in the folders that are none of a bill, and were not read: {ignored:,}."
    if found.tolerance is None:
        yield "Nothing was judged: --tolerance says how far a row may be off."
    elif found.beyond:
        yield f"{found.beyond:,} of {len(found.rows):,} rows differ by more than is tolerated."
    else:
        yield f"All {len(found.rows):,} rows are within what is tolerated."


organization = family("Payers and their accounts, effective by the hour, in immutable versions.")

_ORGANIZATION_EXAMPLES = """Example:

    metering organization set payers.json
"""


@command(organization, "set", reads=True, changes=True, everywhere=True, epilog=_ORGANIZATION_EXAMPLES)
def set_(
    session: Session,
    file: Annotated[
        Path, argument("FILE", "JSON file of payers, and of accounts with the hours in which each belongs to a payer.")
    ],
) -> None:
    """Replace all payers and accounts, as the next version. A file with contradictions is refused.

    The file has `payers` (id, name, issuer) and `accounts` (id, payer, from, to, name): an account belongs to a payer
    from the full hour `from` on, and only until `to`, if given. An account that belongs to no payer is its own payer.
    Importing the same content again changes nothing.
    """
    from metering.billing.organization import read_organization
    from metering.reports.prices import organization_answer
    from metering.wiring.billing import build_organization, build_overrides

    # Permission is checked before the file is read.
    home = billing_home(session)
    if not file.is_file():
        raise WrongUsageError(f"{file} is no file.", "Name a JSON file; see: metering organization set --help")
    made = read_organization(file.read_bytes(), file.name)
    store = build_organization(home)
    before = store.newest()
    known = {payer.payer_id for payer in made.payers}
    for lost in sorted({each.payer for each in build_overrides(home).newest().overrides if each.payer} - known):
        say(f"Overrides name payer {lost}, which this organization does not have.", "yellow")
    accounts = len({member.account_id for payer in made.payers for member in payer.members})
    with session.deed(
        what="organization set",
        subject=f"version {before.version + 1}",
        consequence=f"{len(made.payers)} payers pay for {accounts} accounts; issued invoices stay as they are.",
        ground=home_ground(session, home),
    ) as done:
        written = store.put(made)
        done.result = f"version {written.version}, {written.sha256[:16]}"
    if written.version == before.version:
        say(f"Nothing was written: version {before.version} says the same.")
    session.write(organization_answer(written))


@command(organization, "show", reads=True, everywhere=True)
def show(
    session: Session,
    version: Annotated[int | None, option("--version", "N", "Default: the version in force.", min=1)] = None,
    payer: Annotated[str | None, option("--payer", "ID", "Only this payer.")] = None,
) -> None:
    """Show payers and accounts, and the time range in which each account belongs to its payer."""
    from metering.reports.prices import organization_answer

    found = _found(session, version)
    if payer is not None:
        chosen = tuple(each for each in found.payers if each.payer_id == payer)
        if not chosen:
            raise CommandFailedError(f"The organization has no payer {payer}.", "List them: metering organization show")
        found = replace(found, payers=chosen)
    session.write(organization_answer(found))


@command(organization, "history", reads=True, everywhere=True)
def history(session: Session) -> None:
    """List the versions, newest first, each with its time and digest."""
    from metering.reports.prices import organizations_answer
    from metering.wiring.billing import build_organization

    store = build_organization(billing_home(session))
    session.write(organizations_answer([(store.get(number), at_s) for number, at_s in reversed(store.listed())]))


def _found(session: Session, version: int | None) -> Organization:
    from metering.wiring.billing import build_organization

    store = build_organization(billing_home(session))
    try:
        return store.newest() if version is None else store.get(version)
    except ObjectMissingError as error:
        raise CommandFailedError(
            f"There is no version {version} of the organization.", "List them: metering organization history"
        ) from error

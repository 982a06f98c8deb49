"""`metering compare`: a bill of AWS beside what was metered."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from metering.cli.all_regions import connections
from metering.cli.command import Session, command, progress, say
from metering.cli.failures import CommandFailedError, WrongUsageError
from metering.errors import OperationFailedError
from metering.hours import date_of, hour_of, month_bounds_s, month_of
from metering.reports.time_range import time_range
from metering.units import DAY_S, HOUR_S

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from metering.onramps.compare.bill import Bill
    from metering.onramps.compare.comparison import Comparison, Tolerance
    from metering.onramps.compare.lines import Wanted

compare_app = typer.Typer()

_EXAMPLES = """Examples:

    metering compare cur/BILLING_PERIOD=2026-11/
    metering compare focus.parquet --region all --tolerance 0.1% --tolerance 1MB
    metering compare bill.csv.gz --account 123456789012 --from 2026-11 --top 20
    metering compare cur/ --by month --format csv --output compared.csv
"""
_BY = ("day", "month")
# Epoch seconds of the year 9999: a bill may be of any time.
_END_S = 253_370_764_800


@command(compare_app, "compare", reads=True, everywhere=True, epilog=_EXAMPLES)
def compare(
    session: Session,
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="BILL…", help="Files or folders of an export: CUR 2.0, CUR or FOCUS, as CSV or Parquet."
        ),
    ],
    account: Annotated[
        list[str] | None, typer.Option("--account", metavar="ID", help="Only this account; may be given again.")
    ] = None,
    start: Annotated[
        str | None,
        typer.Option("--from", metavar="TIME", help="First hour. Default: the beginning of the bill's first day."),
    ] = None,
    end: Annotated[
        str | None, typer.Option("--to", metavar="TIME", help="Not included. Default: the end of the bill's last day.")
    ] = None,
    by: Annotated[str, typer.Option("--by", metavar="UNIT", help="Compare by day or by month.")] = "day",
    tolerance: Annotated[
        list[str] | None,
        typer.Option(
            "--tolerance",
            metavar="HOW-FAR",
            help="Exit 1 if a row differs by more: 0.5% of what was billed, 1000 or 10MB. Of two, either is enough.",
        ),
    ] = None,
    top: Annotated[
        int | None,
        typer.Option("--top", metavar="N", help="Only the N largest differences; the others become one sum."),
    ] = None,
) -> None:
    """Compare a bill of AWS with what was metered, by account, usage type and day; judge it only with --tolerance.

    Only data transfer of the accounts in the bill is compared; what is left out is counted with its reason. With
    --region all, usage of all regions is added up, as a bill is about all of them. Traffic within a zone, and what no
    log could classify, is on no bill, and stands apart.
    """
    from metering.onramps.compare.comparison import compare as put_beside
    from metering.reports.bills.answer import Asked, comparison_answer
    from metering.reports.bills.metered import metered_bytes
    from metering.wiring.reports import report_source

    now_s, tolerated = int(time.time()), _tolerance(tolerance or [])
    _check(by, top)
    wanted, asked_s = _wanted(by, account or [], (start, end), now_s)
    regions = connections(session)
    bill, ignored = _read(files, wanted)
    range_s = _range(bill, wanted, asked_s)
    metered = metered_bytes(
        [report_source(region) for region in regions], wanted,
        accounts=bill.accounts | wanted.accounts, range_s=range_s, now_s=now_s,
    ) if bill.accounts | wanted.accounts else {}  # fmt: skip
    found = put_beside(bill.bytes, metered, tolerated)
    asked = Asked(
        wanted=wanted,
        range_s=range_s,
        as_of_s=now_s,
        regions=[each.region for each in regions],
        top=top,
        ignored=ignored,
    )
    session.write(comparison_answer(found, bill, asked))
    for text in _notes(found, bill, ignored):
        say(text, style="yellow")
    if found.beyond or (tolerated is not None and bill.broken):
        raise typer.Exit(1)


def _check(by: str, top: int | None) -> None:
    if by not in _BY:
        raise WrongUsageError(f"--by {by} is not one of {', '.join(_BY)}.", "Write --by day or --by month.")
    if top is not None and top < 1:
        raise WrongUsageError(f"--top {top} is not a number of rows: 1 or more.", "Leave it out to see all rows.")


def _tolerance(texts: Sequence[str]) -> Tolerance | None:
    from metering.onramps.compare.comparison import tolerance_of

    try:
        return tolerance_of(texts)
    except OperationFailedError as error:
        raise WrongUsageError(f"--tolerance: {error.reason}", error.advice) from error


def _wanted(
    by: str, accounts: Sequence[str], times: tuple[str | None, str | None], now_s: int
) -> tuple[Wanted, tuple[int, int]]:
    """The lines that are asked for, and the range that was named."""
    from metering.onramps.compare.lines import Wanted

    for each in accounts:
        if not (each.isascii() and each.isdecimal() and len(each) == 12):
            raise WrongUsageError(f"{each} is not an account: an account has 12 digits.", "Write all 12 digits.")
    from_s, to_s = time_range(*times, default_s=(0, _END_S), now_s=now_s, whole_hours=True)
    wanted = Wanted(by=by, accounts=frozenset(accounts), from_s=from_s, to_s=to_s)
    return wanted, (from_s if times[0] else 0, to_s if times[0] or times[1] else _END_S)


def _read(files: Sequence[Path], wanted: Wanted) -> tuple[Bill, int]:
    """The bill, and how many files of the folders are none."""
    from rich.progress import SpinnerColumn, TextColumn

    from metering.onramps.compare.bill import read_bill
    from metering.onramps.compare.files import bill_files

    try:
        paths, ignored = bill_files(files)
        with progress(SpinnerColumn(), TextColumn("{task.description}")) as shown:
            task = shown.add_task("reading the bill", total=None)
            bill = read_bill(
                paths, wanted, lambda path, rows: shown.update(task, description=f"{path.name}: {rows:,} rows")
            )
    except OperationFailedError as error:
        raise CommandFailedError(error.reason, error.advice) from error
    return bill, len(ignored)


def _range(bill: Bill, wanted: Wanted, asked_s: tuple[int, int]) -> tuple[int, int]:
    """Whole days or months that the bill is about, cut to what was asked for."""
    if bill.first_s is None or bill.last_s is None:
        first_s = hour_of(asked_s[0])
        return first_s, min(asked_s[1], first_s + HOUR_S)
    if wanted.by == "month":
        own_s = month_bounds_s(month_of(hour_of(bill.first_s)))[0], month_bounds_s(month_of(hour_of(bill.last_s)))[1]
    else:
        own_s = bill.first_s - bill.first_s % DAY_S, bill.last_s - bill.last_s % DAY_S + DAY_S
    return max(own_s[0], asked_s[0]), min(own_s[1], asked_s[1])


def _notes(found: Comparison, bill: Bill, ignored: int) -> Iterator[str]:
    """What a reader should know before the rows are believed."""
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

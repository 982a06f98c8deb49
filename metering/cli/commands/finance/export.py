"""`metering export`: a month's charges in the forms that tools for bills read."""

from __future__ import annotations

from typing import Annotated

import typer

from metering.cli.billing.exporting import run_export
from metering.cli.command import Session, command
from metering.cli.failures import WrongUsageError

export = typer.Typer(
    help="A month's charges in the forms that tools for bills read: FOCUS, and AWS's CUR 2.0.", no_args_is_help=True
)

MonthOption = Annotated[str, typer.Option("--month", metavar="YYYY-MM", help="Month that books them, such as 2026-11.")]
PlaceOption = Annotated[
    str,
    typer.Option(
        "--output", "-o", metavar="PLACE", help="An empty or new folder, or s3://bucket/prefix without objects."
    ),
]
PayerOption = Annotated[
    str | None, typer.Option("--payer", metavar="ACCOUNT", help="Only this payer, 12 digits. Default: all payers.")
]
GrainOption = Annotated[
    str, typer.Option("--grain", metavar="hour|day|month", help="Period of a line: one line a key, price and period.")
]
FilesOption = Annotated[
    str, typer.Option("--files", metavar="parquet|csv", help="Format of the files; CSV is packed with gzip.")
]
BookOption = Annotated[
    str | None,
    typer.Option("--prices", metavar="BOOK", help="Price book of drafts. Default: aws-list, or that of the invoices."),
]
DetailOption = Annotated[
    str | None,
    typer.Option(
        "--detail", metavar="resource_id", help="Cut lines into resources, which the lake knows; with --payer."
    ),
]
StrictOption = Annotated[bool, typer.Option("--strict", help="Write nothing, and fail, if usage has no price.")]
VersionOption = Annotated[str, typer.Option("--version", metavar="1.2|1.4", help="Version of FOCUS.")]

_VERSIONS = ("1.2", "1.4")
_DETAIL = "resource_id"
_FOCUS_EXAMPLES = """Examples:

    metering export focus --month 2026-11 --output november/
    metering export focus --version 1.2 --month 2026-11 --grain day --files csv --output s3://acme-bills/focus/2026-11
"""


@command(export, "focus", everywhere=True, epilog=_FOCUS_EXAMPLES)
def focus(
    session: Session,
    month: MonthOption,
    output: PlaceOption,
    version: VersionOption = "1.4",
    payer: PayerOption = None,
    grain: GrainOption = "hour",
    files: FilesOption = "parquet",
    detail: DetailOption = None,
    prices: BookOption = None,
    strict: StrictOption = False,
) -> None:
    """Export the charges that a month books as FOCUS: CostAndUsage, and with 1.4 InvoiceDetail and BillingPeriod.

    Every line is checked while it is written, and all of them add up exactly to the invoices, or there is no manifest:
    files without manifest.json are no export. The same export again changes nothing. A month that is not issued is
    exported as a draft, with the invoice ids that it will have, and says so.
    """
    if version not in _VERSIONS:
        raise WrongUsageError(f"There is no export of FOCUS {version}.", f"It is one of {', '.join(_VERSIONS)}.")
    if detail not in (None, _DETAIL):
        raise WrongUsageError(f"There is no detail {detail}.", f"It is {_DETAIL}.")
    if detail and not payer:
        raise WrongUsageError("--detail reads the rows of one payer's accounts.", "Name it with --payer.")
    run_export(
        session, kind="focus", version=version, month=month, output=output, payer=payer, grain=grain, form=files,
        prices=prices, strict=strict, resources=detail is not None,
    )  # fmt: skip


@command(
    export,
    "cur",
    everywhere=True,
    epilog="Examples:\n\n    metering export cur --month 2026-11 --files csv --output november-cur/",
)
def cur(
    session: Session,
    month: MonthOption,
    output: PlaceOption,
    payer: PayerOption = None,
    grain: GrainOption = "hour",
    files: FilesOption = "parquet",
    prices: BookOption = None,
    strict: StrictOption = False,
) -> None:
    """Export the charges that a month books as AWS's CUR 2.0: its 113 columns, in AWS's order.

    Columns that data transfer has nothing for are there and empty. Checks and manifest are those of `export focus`.
    """
    run_export(
        session, kind="cur", version="2.0", month=month, output=output, payer=payer, grain=grain, form=files,
        prices=prices, strict=strict,
    )  # fmt: skip

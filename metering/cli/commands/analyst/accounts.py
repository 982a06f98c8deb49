"""`metering accounts`: who has usage in a month."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from metering.cli.all_regions import asks_for_all, connections
from metering.cli.command import Session, command
from metering.reports.accounts.query import COLUMNS, AccountsParameters

accounts_app = typer.Typer()

_EXAMPLES = """Examples:

    metering accounts
    metering accounts --month 2026-10 --top 20
    metering accounts --prefix 1234 --sort last_hour:desc
    metering accounts --region all --format csv --output accounts.csv
"""


@command(accounts_app, "accounts", reads=True, everywhere=True, epilog=_EXAMPLES)
def accounts(
    session: Session,
    month: Annotated[
        str | None, typer.Option("--month", metavar="YYYY-MM", help="One billing month. Default: the one that runs.")
    ] = None,
    account: Annotated[
        list[str] | None, typer.Option("--account", metavar="ID", help="Only this account; may be given again.")
    ] = None,
    prefix: Annotated[
        str | None, typer.Option("--prefix", metavar="DIGITS", help="Only accounts that begin so.")
    ] = None,
    sort: Annotated[
        str | None,
        typer.Option(
            "--sort", metavar="COLUMN", help=f"One of {', '.join(COLUMNS)}; COLUMN:desc for the largest first."
        ),
    ] = None,
    top: Annotated[
        int | None,
        typer.Option(
            "--top",
            metavar="N",
            help="Only the first N accounts, by bytes unless --sort says otherwise; the others become one sum.",
        ),
    ] = None,
) -> None:
    """List the accounts of a month: bytes, records, first and last hour. It takes one read, however many there are.

    The biller keeps the list, and the reconciler compares it. It is as of the biller's last run: what was in the lake
    by then. For all usage as of now: metering report usage --group-by account_id
    """
    from metering.wiring.answers.accounts import accounts_of

    now_s = int(time.time())
    query = AccountsParameters(month=month, accounts=account or (), prefix=prefix, sort=sort, top=top).query(
        now_s=now_s
    )
    session.write(accounts_of(connections(session), query, now_s=now_s, merged=asks_for_all(session)))

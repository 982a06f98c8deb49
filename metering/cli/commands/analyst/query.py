"""`metering query` and `serve`: SQL over the exact view of the lake, and the HTTP API with its page on this machine."""

from __future__ import annotations

import importlib.util
import secrets
import sys
import time
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, tzinfo
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from metering.cli import fleet, options
from metering.cli.command import Session, command, say
from metering.cli.failures import CommandFailedError, WrongUsageError
from metering.cli.printing.output import Format
from metering.hours import hour_of
from metering.ledger.notes.checks import CANARY_ACCOUNT_ID, CANARY_SERVICE
from metering.reports.time_range import shown, splits_an_hour, time_range, zone_of
from metering.units import DAY_S, HOUR_S, MIB

if TYPE_CHECKING:
    from collections.abc import Sequence

    from metering.api.parts import ApiParts
    from metering.api.serving import LocalServer
    from metering.reports.answer import Answer
    from metering.reports.sql.query import LakeQuery, QueryError
    from metering.wiring.answers.costs import BillingRegions
    from metering.wiring.connection import RegionConnection


query_app = typer.Typer()

# A person can still read a table of this many rows.
TABLE_ROWS = 1_000
# A table is laid out in memory, because each column is as wide as its longest value.
_MOST_TABLE_ROWS = 100_000
_MOST_SQL_BYTES = MIB

_EXAMPLES = """Examples:

    metering query "SELECT account_id, sum(bytes) AS b FROM transfers GROUP BY 1 ORDER BY b DESC LIMIT 10"
    metering query "SELECT hour, sum(bytes) FROM usage WHERE account_id = '123456789012' GROUP BY 1 ORDER BY 1"
    metering query "SELECT * FROM transfers" --last 24h --output transfers.parquet
    metering query --file top.sql --tz Europe/Berlin
    metering query "DESCRIBE transfers"

A sum over usage types also counts processing, a second count of bytes: docs/contract/reports.md#processing.
"""


@command(query_app, "query", reads=True, everywhere=True, epilog=_EXAMPLES)
def query(
    session: Session,
    sql: Annotated[str | None, options.argument("SQL", "One SQL statement for DuckDB; - reads it from stdin.")] = None,
    file: Annotated[Path | None, options.option("--file", "FILE.sql", "Read the SQL statement from this file.")] = None,
    start: Annotated[str | None, options.FROM_OPTION] = None,
    end: Annotated[str | None, options.TO_OPTION] = None,
    last: options.LastOption = None,
    zone: options.ZoneOption = None,
    limit: Annotated[
        int | None,
        options.option(
            "--limit",
            "ROWS",
            f"Maximum number of rows; 0 shows all. Default: {TABLE_ROWS:,} rows in a table, else all.",
        ),
    ] = None,
    with_canary: Annotated[
        bool, options.switch("--with-canary", "Also show the canary's rows, which reports leave out.")
    ] = False,
    timeout: Annotated[
        str, options.option("--timeout", "DURATION", "Stop the query after this time, such as 90s, 10m or 1h.")
    ] = "10m",
) -> None:
    """Run SQL over `transfers` (every accepted record) and `usage` (exact totals), as of now, with DuckDB.

    --from and --to select rows by the start of the transfer, with a precision of seconds. A correction of a closed
    month counts at the start of the hour in which it is booked. A result can be of any size: DuckDB spills to TMPDIR
    when memory is full. The view `causes` has the parts of usage that `metering who` adds up, by the hour.
    """
    from metering.reports.sql.query import QueryError, expect_one_statement, result_answer

    timeout_s = options.parse_duration(timeout, "--timeout")
    if timeout_s == 0:
        raise WrongUsageError("--timeout 0 leaves the query no time.", "Write it as 90s, 10m or 1h.")
    if limit is not None and limit < 0:
        raise WrongUsageError(f"--limit {limit} is not a number of rows.", "0 shows all rows.")
    statement = _statement(sql, file)
    now_s, clock = int(time.time()), zone_of(zone)
    from_s, to_s = time_range(start, end, default_s=(0, now_s + DAY_S), now_s=now_s, last=last, zone=clock)
    try:
        expect_one_statement(statement)
        regions = fleet.connections(session)
        fleet.say_what_is_kept(regions, from_s)
        lake = _lake(regions)
        result = lake.run(statement, from_s=from_s, to_s=to_s, timeout_s=timeout_s, with_canary=with_canary, zone=clock)
    except QueryError as error:
        _end(error)
    session.write(_cut(result_answer(result), limit, session.chosen_format))
    if not result.parts and (start or end or last):
        say(
            f"Nothing is booked from {shown(from_s, clock)} to {shown(to_s, clock)}: the views are empty.",
            style="yellow",
        )
    _tell_of_canary(statement, with_canary=with_canary)
    _tell_of_hours(clock, now_s)


def query_answer(regions: Sequence[RegionConnection], sql: str, *, from_s: int, to_s: int, timeout_s: int) -> Answer:
    """Run a query. Integers are exact in every format, whatever their size.

    Raises:
        QueryError: The statement is wrong.
        QueryStoppedError: The query ran longer than `timeout_s`.
    """
    from metering.reports.sql.query import result_answer

    return result_answer(_lake(regions).run(sql, from_s=from_s, to_s=to_s, timeout_s=timeout_s))


def _lake(regions: Sequence[RegionConnection]) -> LakeQuery:
    from metering.reports.sql.query import LakeQuery, RegionLake

    lakes = [RegionLake(region=each.region, view=each.jobs.view, objects=each.objects) for each in regions]
    return LakeQuery(lakes=lakes)


def _statement(sql: str | None, file: Path | None) -> str:
    if (sql is None) == (file is None):
        raise WrongUsageError(
            "The query has no SQL." if file is None else "The query is given twice, as SQL and as --file.",
            'Write it as metering query "SELECT …", metering query --file top.sql, or metering query - to read stdin.',
        )
    if file is None and sql != "-":
        return sql or ""
    place = "stdin" if file is None else str(file)
    try:
        content = _content(file)
        if len(content) > _MOST_SQL_BYTES:
            raise WrongUsageError(f"{place} is longer than 1 MiB.", "Name a file that holds one SQL statement.")
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise WrongUsageError(f"{place} is not text in UTF-8.", "Name a file that holds one SQL statement.") from error
    except OSError as error:
        raise WrongUsageError(f"Cannot read {place}: {error.strerror or error}.", "Name another --file.") from error


def _content(file: Path | None) -> bytes:
    """Read a whole statement, but at most one byte more than the maximum length."""
    if file is not None:
        with file.open("rb") as stream:
            return stream.read(_MOST_SQL_BYTES + 1)
    if sys.stdin is None:
        raise WrongUsageError("There is no stdin to read SQL from.", "Name a --file.")
    return sys.stdin.buffer.read(_MOST_SQL_BYTES + 1)


def _end(error: QueryError) -> NoReturn:
    """Print DuckDB's message unwrapped, line by line, so that its caret is below the wrong token."""
    # stderr may be full; the exit code reports the wrong query anyway.
    with suppress(OSError):
        say("Error: The query failed.", style="bold red")
        for line in str(error).split("\n"):
            say(line.replace("\t", " "))
        if error.advice:
            say(error.advice)
    raise typer.Exit(2) from error


def _cut(answer: Answer, limit: int | None, form: Format) -> Answer:
    """Limit the rows shown, and print on stderr the number of rows left out."""
    table, size = form is Format.TABLE, len(answer.rows)
    most = TABLE_ROWS if limit is None and table else limit or size
    if table and min(most, size) > _MOST_TABLE_ROWS:
        raise WrongUsageError(
            f"The result has {size:,} rows, and a table has {_MOST_TABLE_ROWS:,} at most.",
            "Write all rows to a file: --output FILE.csv, or .parquet.",
        )
    if size <= most:
        return answer
    rest = "--limit 0 shows all, " if table else ""
    say(f"{most:,} of {size:,} rows; {rest}--output FILE.csv without --limit writes all.", style="yellow")
    return replace(answer, rows=answer.rows[:most])


def _tell_of_canary(sql: str, *, with_canary: bool) -> None:
    if not with_canary and (CANARY_ACCOUNT_ID in sql or CANARY_SERVICE.lower() in sql.lower()):
        say("The canary's rows are left out, as in reports. --with-canary shows them.", style="yellow")


def _tell_of_hours(zone: tzinfo, now_s: int) -> None:
    if zone is not UTC and splits_an_hour(hour_of(now_s), hour_of(now_s) + HOUR_S, zone):
        say(f"`hour` is a UTC hour. Days of {zone} begin within one: group by start_time instead.", style="yellow")


serve_app = typer.Typer()

_SERVE_EXAMPLES = """Examples:

    metering serve

    metering serve --region all --stage prod --port 8090
"""
_NEEDED = ("fastapi", "uvicorn")
_MOST_PORT = 65_535


@command(serve_app, "serve", everywhere=True, epilog=_SERVE_EXAMPLES)
def serve(
    session: Session,
    port: Annotated[
        int, options.option("--port", "PORT", "Port on 127.0.0.1; 0 means any free port.", min=0, max=_MOST_PORT)
    ] = 8080,
) -> None:
    """Serve the read-only HTTP API and the usage explorer on this machine, with your own credentials.

    Nothing is deployed, and the server cannot be reached from other machines. The command prints a link with a new
    token, which is valid until the server stops. The server makes no AWS call that changes anything, even if the
    credentials allow such calls. With --region all, the regions are merged, as in reports.
    """
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise WrongUsageError(
            f"This needs {' and '.join(missing)}, which this installation lacks.",
            "Install it: pip install 'transfer-metering[cli,serve]'",
        )
    # The secret has the form of the API's tokens, so that the page and programs accept it.
    secret = f"mtr_{secrets.token_hex(8)}_{secrets.token_hex(32)}"
    parts = _parts(session, secret)
    server = _server(parts, port)
    where = "all its regions" if parts.everywhere else parts.regions[0].region
    say(f"The usage explorer of stage {session.stage} in {where}, and the HTTP API behind it. It only reads.")
    sys.stdout.write(f"{server.url}#token={secret}\n")
    sys.stdout.flush()
    say("The link holds the token: whoever has it sees all usage, as long as this runs. Ctrl-C stops it.")
    try:
        server.run()
    except KeyboardInterrupt:
        # Ctrl-C is the regular way to stop the server.
        say("Stopped.")


def _parts(session: Session, secret: str) -> ApiParts:
    opened: dict[str, RegionConnection] = {}
    regions = [_read_only(each, opened) for each in fleet.connections(session)]
    billing = _billing(session, opened)
    # This import is slow, and a command that cannot reach its region does not need it.
    from metering.api.authentication import Limits, OneToken
    from metering.api.parts import ApiParts
    from metering.wiring.answers.usage import Everywhere

    return ApiParts(
        regions=regions,
        tokens=OneToken(secret=secret),
        # The only user is the person who pays, so no rate limit is needed. The budgets of each request still apply.
        limits=Limits(
            token_rate_per_s=1_000.0,
            token_burst=1_000,
            token_reads_per_s=1_000.0,
            token_reads=100_000,
            deadline_s=300.0,
        ),
        clock=regions[0].clock,
        everywhere=Everywhere(left_out=session.regions.left_out) if fleet.asks_for_all(session) else None,
        home=None if billing is None else lambda: billing.home,
        billing=None if billing is None else lambda: billing,
    )


def _read_only(region: RegionConnection, opened: dict[str, RegionConnection]) -> RegionConnection:
    """Open a region with read-only clients; each region is opened only once.

    The region's shared clients and stores are created now, so that errors appear early and no two threads create the
    same one.
    """
    if region.region not in opened:
        made = opened[region.region] = region.read_only()
        _ = (made.items, made.objects, made.settings, made.view)
    return opened[region.region]


def _billing(session: Session, opened: dict[str, RegionConnection]) -> BillingRegions | None:
    from metering.cli.billing.home import billing_home, billing_regions
    from metering.wiring.answers.costs import BillingRegions

    try:
        home = billing_home(session)
        regions = billing_regions(session, home)
    except CommandFailedError as error:
        say(f"Costs are not served: {error}", "yellow")
        return None
    read = [_read_only(each, opened) for each in regions]
    return BillingRegions(home=_read_only(home, opened), regions=read, left_out=session.regions.left_out)


def _server(parts: ApiParts, port: int) -> LocalServer:
    from metering.api.app import build
    from metering.api.serving import LocalServer

    try:
        return LocalServer(app=build(parts), port=port)
    except OSError as error:
        raise CommandFailedError(
            f"Port {port} of this machine cannot be had ({error.strerror}).",
            "Name another one with --port, or 0 for any that is free.",
        ) from error

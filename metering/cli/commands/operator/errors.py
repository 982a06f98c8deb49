"""`metering errors`: what the functions logged as errors."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from metering.cli.all_regions import everywhere, of_region
from metering.cli.command import Session, command, say
from metering.cli.durations import parse_duration
from metering.cli.failures import WrongUsageError
from metering.cli.printing.output import Format
from metering.hours import rfc3339
from metering.operations.logged_errors import LoggedError, grouped
from metering.reports.answer import KEEP, ROOMY, Answer, Cell, Column

if TYPE_CHECKING:
    from metering.wiring.connection import RegionConnection

errors_app = typer.Typer()

_COLUMNS = (
    Column(name="function", text="copied", priority=KEEP),
    Column(name="error", text="prose", priority=KEEP),
    Column(name="count", kind="integer", priority=KEEP),
    Column(name="first", kind="time", priority=ROOMY),
    Column(name="last", kind="time"),
    Column(name="request_id", text="copied", priority=ROOMY, about="invocation of the newest"),
    Column(name="version", text="copied", priority=ROOMY),
)


@command(
    errors_app,
    "errors",
    reads=True,
    everywhere=True,
    epilog="Examples:\n\n    metering errors --since 1d\n    metering errors aggregator --since 15m --format table",
)
def errors(
    session: Session,
    function: Annotated[
        str | None,
        typer.Argument(metavar="FUNCTION", help="Such as aggregator. Default: all functions of the stage."),
    ] = None,
    since: Annotated[
        str, typer.Option("--since", metavar="DURATION", help="How far back to look, such as 15m, 1h or 2d.")
    ] = "1h",
    limit: Annotated[
        int, typer.Option("--limit", min=1, max=10_000, help="Read at most this many lines, the newest.")
    ] = 1_000,
) -> None:
    """Show what the functions logged as errors, grouped by what they say, the newest kind first.

    It searches the logs in CloudWatch Logs, at about 0.005 USD for each GB of log in that time.
    """
    span_s = parse_duration(since, "--since")
    now_s = int(time.time())
    by = "No errors were logged" if function is None else f"{function} logged no errors"
    empty = f"{by} in the last {since}."
    full: list[str] = []

    def logged(region: RegionConnection) -> Answer:
        logs = region.function_logs
        if function is not None and function not in logs.functions:
            known = ", ".join(logs.functions)
            raise WrongUsageError(f"There is no function {function}.", f"The functions are {known}.")
        names = logs.functions if function is None else [function]
        lines = logs.errors(names, from_s=now_s - span_s, to_s=now_s + 1, limit=limit)
        if len(lines) >= limit:
            full.append(region.region)
        return Answer(
            columns=_COLUMNS,
            rows=[_row(each) for each in grouped(lines)],
            meta={"from": rfc3339(now_s - span_s), "to": rfc3339(now_s), "truncated": len(lines) >= limit},
            empty=empty,
        )

    answer = everywhere(session, logged, newest="last")
    session.write(answer)
    if not answer.rows and session.chosen_format is not Format.TABLE:
        say(empty)
    for name in full:
        begun = of_region(session, name)
        only = f"only the newest {limit} lines were read"
        say(f"{begun}There may be older ones: {only}. Use --limit, or a function.", "yellow")


def _row(one: LoggedError) -> dict[str, Cell]:
    return {
        "function": one.function,
        "error": one.text,
        "count": one.count,
        "first": rfc3339(one.first_ms // 1000),
        "last": rfc3339(one.last_ms // 1000),
        "request_id": one.request_id,
        "version": one.version,
    }

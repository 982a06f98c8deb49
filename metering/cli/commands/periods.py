"""`metering period` and `metering rebuild`: closed months, and derived items made again from the rows."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn

from metering.audit.rebuild import RebuildStep
from metering.cli.command import Session, command, progress, say
from metering.cli.commands.lake import FROM_OPTION, TO_OPTION, NoDeadline, counts_answer
from metering.cli.failures import CommandFailedError, WrongUsageError
from metering.hours import hour_label, month_bounds_s, month_of
from metering.ledger.frozen_months import FrozenMonth
from metering.reports.answer import Answer, Column
from metering.reports.time_range import time_range
from metering.units import DAY_S, billed_gb

period = typer.Typer(help="Billing months: close one for good, show it, verify it.", no_args_is_help=True)
rebuild = typer.Typer(help="Make derived items again from the rows, while the workers run.", no_args_is_help=True)

MonthArgument = Annotated[str, typer.Argument(metavar="YYYY-MM", help="Billing month, such as 2026-11.")]


@command(period, "close", reads=True)
def period_close(session: Session, month: MonthArgument) -> None:
    """Close a month for good, at the earliest 72 hours after its end. A second run continues where one stopped."""
    _month(month)
    closed = session.region().jobs.closer.close(month, NoDeadline())
    session.write(_closed_answer(closed, "closed"))


@command(period, "show", reads=True)
def period_show(session: Session, month: MonthArgument) -> None:
    """Show whether a month is open, closing or closed, and the frozen totals of a closed one."""
    _month(month)
    closer = session.region().jobs.closer
    closed = closer.frozen(month)
    known = closer.show(month)
    state = known.state if known else "open"
    session.write(_closed_answer(closed or FrozenMonth(month=month, hours=()), state))
    if closed is None:
        say(f"{month} is {state}: its totals are not frozen. Totals so far: metering report usage --from {month}")


@command(period, "verify", reads=True)
def period_verify(session: Session, month: MonthArgument) -> None:
    """Compute a closed month again from its files; exit 0 only if it is unchanged."""
    _month(month)
    problems = session.region().jobs.closer.verify(month)
    session.write(Answer(columns=(Column(name="problem"),), rows=[{"problem": problem} for problem in problems]))
    if problems:
        raise typer.Exit(1)
    say(f"{month} is unchanged since it was closed.", style="green")


def _month(month: str) -> None:
    try:
        month_bounds_s(month)
    except ValueError as error:
        raise WrongUsageError(f"{month} is not a month.", "Write it as 2026-11.") from error


def _closed_answer(closed: FrozenMonth, state: str) -> Answer:
    sums: dict[str, int] = {}
    for key, total in closed.usage():
        sums[key.usage_type] = sums.get(key.usage_type, 0) + total.bytes
    total = closed.total
    return Answer(
        columns=(Column(name="usage_type"), Column(name="bytes", kind="bytes")),
        rows=[{"usage_type": usage_type, "bytes": size} for usage_type, size in sorted(sums.items())],
        meta={
            "month": closed.month,
            "state": state,
            "records": total.records,
            "bytes": str(total.bytes),
            "hours": len(closed.hours),
            "files": sum(len(hour.files) for hour in closed.hours),
        },
        title=f"{closed.month} is {state}",
        footer=(f"{total.bytes:,} bytes = {billed_gb(total.bytes):,.3f} GB in {total.records:,} records.",),
    )


@command(rebuild, "usage", reads=True)
def rebuild_usage(
    session: Session, start: Annotated[str | None, FROM_OPTION] = None, end: Annotated[str | None, TO_OPTION] = None
) -> None:
    """Repair usage totals that differ from the rows, once a second measurement a minute later confirms it.

    It works hour by hour. Stopping it does no harm, and a second run does the rest. Closed months are never changed.
    """
    now_s = int(time.time())
    from_s, to_s = time_range(start, end, default_s=(0, now_s + DAY_S), now_s=now_s, whole_hours=True)
    jobs = session.region().jobs
    with _hours() as tell:
        result = jobs.rebuilder.usage(from_s=from_s, to_s=to_s, tell=tell)
    counts = {
        "hours": result.hours,
        "repaired": result.repaired,
        "unsettled": len(result.unstable),
        "closed": len(result.closed),
        "damaged": len(result.damaged),
    }
    session.write(counts_answer(counts))
    if result.closed:
        say(
            f"In {len(result.closed)} hours of closed months usage items differ and were left as they are. Reports use "
            "the frozen totals, so no bill is wrong and nothing needs a correction.",
            style="yellow",
        )
    if result.damaged:
        month = month_of(result.damaged[0])
        raise CommandFailedError(
            f"In {len(result.damaged)} hours of closed months the rows differ from the frozen totals.",
            f"To see which files: metering period verify {month}",
        )
    if result.unstable:
        raise CommandFailedError(
            f"{len(result.unstable)} hours were being written to and were not repaired.", "Run the command again."
        )


@contextmanager
def _hours() -> Iterator[Callable[[RebuildStep], None]]:
    """Progress in hours, on stderr."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with progress(*columns) as bar:
        task = bar.add_task("reading the usage table", total=None)

        def tell(step: RebuildStep) -> None:
            text = f"{step.doing} {hour_label(step.hour_s)}"
            bar.update(task, description=text, completed=step.done, total=step.hours)

        yield tell


@command(rebuild, "markers", reads=True)
def rebuild_markers(session: Session) -> None:
    """Restore missing markers of batches that have rows. A later copy of such a batch is a flagged duplicate."""
    result = session.region().jobs.rebuilder.markers()
    counts = {"batches": result.batches, "rebuilt": result.rebuilt, "unsettled": len(result.unstable)}
    session.write(counts_answer(counts))
    if result.unstable:
        raise CommandFailedError(
            f"Batches of {len(result.unstable)} hours were left out, because a commit is open there.",
            "Run the command again.",
        )

"""`metering period` and `metering rebuild`: closed months, and items recomputed from the rows."""

from __future__ import annotations

import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from metering.audit import hour_check
from metering.billing import freezing
from metering.billing.checklist import ACCEPTABLE, Checklist
from metering.cli import fleet
from metering.cli.command import Session, bar, command, say
from metering.cli.commands.analyst.lake import RESUME_OPTION, NoDeadline, ScanFile, ScanOf
from metering.cli.failures import CommandFailedError, WrongUsageError
from metering.cli.options import FROM_OPTION, TO_OPTION, argument, family, option, switch
from metering.hours import hour_label, month_bounds_s, month_of, rfc3339
from metering.reports import query
from metering.reports.answer import Answer, Json, ListedRows, RowType, integer, prose
from metering.reports.operators.sources_answer import checklist_answer, corrections_since, frozen_answer, months_answer
from metering.reports.time_range import time_range
from metering.units import DAY_S, counted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from metering.audit import census_state
    from metering.audit.rebuild import MarkerRebuild, UsageRebuild
    from metering.audit.repair import Repair
    from metering.wiring.connection import RegionConnection

period = family("Billing months: list them, close one for good, show it, verify it.")
rebuild = family("Rebuild derived items from the rows, while the workers run.")

# At most this many repairs are listed on stderr and in the audit trail.
_NAMED = 5

MonthArgument = Annotated[str, argument("YYYY-MM", "Billing month, such as 2026-11.")]

DryRunOption = Annotated[bool, switch("--dry-run", "Show the checklist, and change nothing.")]
AcceptOption = Annotated[
    list[str] | None,
    option(
        "--accept", "CHECK", f"Close even though this check blocks; may be repeated. One of: {', '.join(ACCEPTABLE)}."
    ),
]
GroupByOption = Annotated[str, option("--group-by", "COLUMNS", f"Comma-separated: {', '.join(query.MONTH_COLUMNS)}.")]
CorrectionsOption = Annotated[
    bool,
    switch(
        "--corrections",
        "Also show rows that were booked later for closed months. Reads all rows since the first closed month.",
    ),
]

_CLOSE_EXAMPLES = """Examples:

    metering period close 2026-10 --dry-run --format table
    metering period close 2026-10
    metering period close 2026-10 --accept dead-letters
    metering period close 2026-10 --resume october.scan
"""


@command(period, "close", reads=True, changes=True, epilog=_CLOSE_EXAMPLES)
def period_close(
    session: Session,
    month: MonthArgument,
    dry_run: DryRunOption = False,
    accept: AcceptOption = None,
    resume: Annotated[Path | None, RESUME_OPTION] = None,
) -> None:
    """Close a month for good, at the earliest 72 hours after its end. If a run stops, the next run resumes it.

    Before that, it shows a checklist of batches that are in flight, missing, refused or different. A blocking check
    prevents the close and says what to do; --accept closes anyway, which the audit trail records.
    """
    from metering.wiring.status import build_close

    _month(month)
    accepted = _accepted(accept or [])
    close = build_close(session.region())
    frozen = close.closer.frozen(month)
    if frozen is not None:
        session.write(frozen_answer(frozen, close.closer.files, month=month, state="closed", group_by=("usage_type",)))
        say(f"{month} is closed already, and was not changed.")
        return
    checklist = close.look(month)
    if dry_run:
        session.write(checklist_answer(checklist, accepted=accepted))
        if checklist.blocking(accepted):
            raise typer.Exit(1)
        return
    file = ScanFile(resume, ScanOf(command="period close", region=session.region_name, stage=session.stage))
    known = file.kept(session.region().items, deep=True, range_s=month_bounds_s(month))
    _say_checklist(checklist, accepted)
    checklist.demand(accepted)
    with session.deed(
        what="period close", subject=month, consequence=_consequence(month, checklist, accepted), typed=month
    ) as done:
        with _hours("reading the ledger") as tell, removed_at_the_end(file):
            closed = close.close(checklist, NoDeadline(), accepted=accepted, tell=tell, counted=known, keep=file.keep)
        done.result = f"closed, {counted(len(closed.hours), 'hour')}, {counted(closed.total.records, 'record')}"
    session.write(frozen_answer(closed, close.closer.files, month=month, state="closed", group_by=("usage_type",)))


@command(period, "list", "metering period list --corrections --format table", reads=True, everywhere=True)
def period_list(session: Session, corrections: CorrectionsOption = False) -> None:
    """List the months since the first row: state, frozen totals, when and by whom each was closed."""
    from metering.ledger.notes.deeds import DeedState
    from metering.operations.logged_errors import DeedTrail
    from metering.wiring.reports import report_source

    now_s = int(time.time())

    def months_of(region: RegionConnection) -> Answer:
        months = region.jobs.closer.months()
        deeds = DeedTrail(items=region.items).between(0, now_s + DAY_S)
        # Deeds are listed newest first, so if two closes succeeded, the earlier of them closed the month.
        by = {each.subject: each.who for each in deeds if each.what == "period close" and each.state is DeedState.OK}
        closed = [each.month for each in months if each.state == "closed"]
        later = corrections_since([report_source(region)], closed, now_s=now_s) if corrections else None
        return months_answer(months, closed_by=by, corrections=later)

    session.write(fleet.everywhere(session, months_of))


@command(period, "show", "metering period show 2026-10 --group-by account_id,usage_type", reads=True, everywhere=True)
def period_show(session: Session, month: MonthArgument, group_by: GroupByOption = "usage_type") -> None:
    """Show whether a month is open, closing or closed, and the frozen totals of a closed month."""
    _month(month)
    columns = query.month_columns(group_by)
    told: list[str] = []

    def frozen(region: RegionConnection) -> Answer:
        closed, known = region.jobs.closer.frozen(month), region.jobs.closer.show(month)
        state = known.state if known else "open"
        if closed is None:
            told.append(f"{fleet.of_region(session, region.region)}{month} is {state}: its totals are not frozen.")
        return frozen_answer(closed, region.jobs.frozen_files, month=month, state=state, group_by=columns)

    session.write(fleet.everywhere(session, frozen))
    so_far = f"metering report usage --from {month} --region {session.region_name} --stage {session.stage}"
    for text in told:
        say(f"{text} Totals so far: {so_far}")


@command(period, "verify", reads=True, everywhere=True)
def period_verify(session: Session, month: MonthArgument) -> None:
    """Recompute a closed month from its files; exit 0 only if it is unchanged."""
    _month(month)

    def verified(region: RegionConnection) -> Answer:
        problems = region.jobs.closer.verify(month)
        return ListedRows(prose("problem")).answer([(each,) for each in problems], empty="No problem.")

    answer = fleet.everywhere(session, verified)
    session.write(answer)
    if answer.rows:
        raise typer.Exit(1)
    say(f"{month} is unchanged since it was closed.", style="green")


@contextmanager
def removed_at_the_end(file: ScanFile) -> Iterator[None]:
    """Remove the scan's file after the month is closed, or if totals differ, because a repair requires a new count."""
    try:
        yield
    except freezing.PeriodNotClosableError as error:
        if error.cause in (freezing.NotClosable.TOTALS_DIFFER, freezing.NotClosable.OBJECT_DIFFERS):
            file.remove()
        raise
    file.remove()


def _month(month: str) -> None:
    try:
        month_bounds_s(month)
    except ValueError as error:
        raise WrongUsageError(f"{month} is not a month.", "Write it as 2026-11.") from error


def _accepted(names: list[str]) -> frozenset[str]:
    unknown = [name for name in names if name not in ACCEPTABLE]
    if unknown:
        raise WrongUsageError(
            f"--accept {unknown[0]} is not a check that can be accepted.", f"Write one of: {', '.join(ACCEPTABLE)}."
        )
    return frozenset(names)


def _consequence(month: str, checklist: Checklist, accepted: frozenset[str]) -> str:
    taken = [check.name for check in checklist.blocking() if check.name in accepted]
    although = f" Accepted although it blocks: {', '.join(taken)}." if taken else ""
    return f"{month} never changes again; what comes later for it is a correction in a later month.{although}"


def _say_checklist(checklist: Checklist, accepted: frozenset[str]) -> None:
    for row in checklist_answer(checklist, accepted=accepted).rows:
        todo = f" -> {row['todo']}" if row["todo"] else ""
        style = {"ok": "", "attention": "yellow"}.get(str(row["state"]), "bold red")
        say(f"{row['state']:>9}  {row['check']}: {row['value']}{todo}", style)


@command(rebuild, "usage", reads=True, changes=True)
def rebuild_usage(
    session: Session,
    start: Annotated[str | None, FROM_OPTION] = None,
    end: Annotated[str | None, TO_OPTION] = None,
) -> None:
    """Repair usage totals that differ from the rows or, in closed months, from the frozen totals.

    The repair runs hour by hour, while the service keeps running. Stopping the repair does no harm, and a second run
    completes it.
    """
    now_s = int(time.time())
    from_s, to_s = time_range(start, end, default_s=(0, now_s + DAY_S), now_s=now_s, whole_hours=True)
    region = session.region()
    rebuilder = region.jobs.rebuilder
    consequence = "Usage totals that differ from the rows become those of the rows. The totals of closed months stay."
    span = " ".join(([f"--from {start}"] if start else []) + ([f"--to {end}"] if end else []))
    with session.deed(what="rebuild usage", subject=span, consequence=consequence) as done:
        with region.on_demand(say), _hours() as tell:
            result = rebuilder.usage(from_s=from_s, to_s=to_s, tell=tell)
        done.result = _repaired(result)
    session.write(_rebuilt_answer(result))
    _tell_repairs(result)
    _tell_unrepaired(result, f"--region {session.region_name} --stage {session.stage}")


def _repaired(result: UsageRebuild) -> str:
    """Name the repaired figures, up to the length of an audit-trail line."""
    if not result.repaired:
        nothing = f"nothing to repair in {counted(result.hours, 'hour')}"
        return f"{nothing}; {counted(len(result.mended), 'item')} mended" if result.mended else nothing
    named = "; ".join(_repair(each) for each in result.repairs[:_NAMED])
    rest = f"; and {result.repaired - _NAMED} more" if result.repaired > _NAMED else ""
    return f"{result.repaired} repaired: {named}{rest}"


def _repair(repair: Repair) -> str:
    before, after, place = repair.before, repair.after, hour_check.describe_key(repair.key)
    return (
        f"{hour_label(repair.key.hour_s)} {place}: {before.bytes:,} -> {after.bytes:,} bytes, "
        f"{before.records:,} -> {counted(after.records, 'record')}"
    )


def _rebuilt_answer(result: UsageRebuild) -> Answer:
    table: RowType[UsageRebuild] = RowType(
        integer("hours", about="checked"),
        integer("repaired", about="usage totals that were wrong"),
        integer("unsettled", of=lambda it: len(it.unstable), about="hours left out: being written to"),
        integer("closed", of=lambda it: len(it.closed), about="hours of closed months that were wrong"),
        integer("damaged", of=lambda it: len(it.damaged), about="hours whose rows are wrong"),
    )
    repairs: list[Json] = [
        {
            "hour": rfc3339(each.key.hour_s),
            "key": hour_check.describe_key(each.key),
            "bytes_before": str(each.before.bytes),
            "bytes_after": str(each.after.bytes),
            "records_before": each.before.records,
            "records_after": each.after.records,
        }
        for each in result.repairs
    ]
    more: dict[str, Json] = {"repairs": repairs, "mended": list(result.mended)}
    return table.one(result, document={**table.document(result), **more})


def _tell_repairs(result: UsageRebuild) -> None:
    for text in result.mended[:_NAMED]:
        say(f"Mended: {text}")
    if len(result.mended) > _NAMED:
        say(f"And {len(result.mended) - _NAMED} more items mended; --format json lists them.")
    for each in result.repairs[:_NAMED]:
        say(_repair(each))
    if result.repaired > _NAMED:
        say(f"And {result.repaired - _NAMED} more; --format json lists the first {len(result.repairs)}.")


def _tell_unrepaired(result: UsageRebuild, place: str) -> None:
    if result.closed:
        say(
            f"In {len(result.closed)} hours of closed months usage items differed from the frozen totals and were put "
            "right. Reports use the frozen totals, so no bill was wrong and nothing needs a correction.",
            style="yellow",
        )
    if result.unreadable:
        raise CommandFailedError(
            f"{result.unreadable[0]}. All else was done.",
            f"What to do: metering runbook reconciliation-differences {place}",
        )
    if result.damaged:
        month = month_of(result.damaged[0])
        raise CommandFailedError(
            f"In {len(result.damaged)} hours the lake files do not hold what was accepted, the first in {month}.",
            f"To see which files of a closed month: metering period verify {month} {place}. Of an open one: metering "
            f"runbook reconciliation-differences {place}",
        )
    if result.unstable:
        raise CommandFailedError(
            f"{len(result.unstable)} hours were being written to and were not repaired.", "Run the command again."
        )


@contextmanager
def _hours(first: str = "reading the usage table") -> Iterator[Callable[[census_state.HourStep], None]]:
    with bar(first) as move:

        def tell(step: census_state.HourStep) -> None:
            move(description=f"{step.doing} {hour_label(step.hour_s)}", completed=step.done, total=step.hours)

        yield tell


@command(rebuild, "markers", reads=True, changes=True)
def rebuild_markers(session: Session) -> None:
    """Restore missing markers of batches that have rows, with the content hash if the bucket has a copy of the marker.

    Without content hash, later batches under the id are compared by their totals alone.
    """
    region = session.region()
    rebuilder = region.jobs.rebuilder
    consequence = "Batches that have rows and no marker get one. A later copy of such a batch is then not counted."
    with session.deed(what="rebuild markers", subject="", consequence=consequence) as done:
        with region.on_demand(say):
            result = rebuilder.markers()
        whole = f", {result.whole} with content hash" if result.rebuilt else ""
        done.result = f"{result.rebuilt} of {result.batches} batches got their marker back{whole}"
    table: RowType[MarkerRebuild] = RowType(
        integer("batches", about="with rows"), integer("rebuilt", about="markers that were missing")
    )
    session.write(table.one(result))
    if result.rebuilt > result.whole:
        without = counted(result.rebuilt - result.whole, "marker")
        say(f"{without} came back without content hash: what comes later under these ids is compared by its totals.")

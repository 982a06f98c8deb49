"""`metering quarantine`: refused batches and records with their reasons, and how to send them again."""

import time
from itertools import islice
from typing import Annotated

import typer

from metering.adapters.aws.runtime import SystemClock
from metering.cli.command import Session, command, say
from metering.cli.failures import CommandFailedError, WrongUsageError
from metering.errors import OperationFailedError
from metering.quarantine.entries import QuarantineEntries, Retry
from metering.reports.answer import Answer, Cell, Column
from metering.reports.quarantine_answer import entries_answer, entry_answer
from metering.reports.time_range import time_range

quarantine = typer.Typer(
    help="Refused batches and records, with every reason. Nothing in quarantine is metered.",
    no_args_is_help=True,
)

EntryArgument = Annotated[str, typer.Argument(metavar="BATCH", help="Batch id, or key of a quarantine object.")]

_FAR_S = 4_102_444_800  # the year 2100


@command(quarantine, "list", reads=True, epilog="Example:\n\n    metering quarantine list --reason too_late")
def list_(
    session: Session,
    start: Annotated[str | None, typer.Option("--from", help="Refused at or after this time, date or month.")] = None,
    end: Annotated[str | None, typer.Option("--to", help="Refused before this time, date or month.")] = None,
    reason: Annotated[str | None, typer.Option("--reason", help="Only entries with this reason.")] = None,
    kind: Annotated[str | None, typer.Option("--kind", help="Only this kind: records, refused or conflict.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most this many entries.")] = 1000,
) -> None:
    """List refused batches, refused records of accepted batches, and conflicts."""
    if kind not in {None, "records", "refused", "conflict"}:
        raise WrongUsageError(f"--kind {kind} is not a kind.", "Write records, refused or conflict.")
    from_s, to_s = time_range(start, end, default_s=(0, _FAR_S), now_s=int(time.time()))
    found = (
        entry
        for entry in _entries(session).entries(from_s=from_s, to_s=to_s)
        if kind in {None, entry.kind} and (reason is None or reason in entry.reasons)
    )
    entries = list(islice(found, limit + 1))
    session.write(entries_answer(entries[:limit]))
    if len(entries) > limit:
        say(f"There are more than {limit}. Use --limit, or narrow it down with --from, --to, --reason or --kind.")


@command(quarantine, "show", reads=True, epilog="Example:\n\n    metering quarantine show edge-7f3a-000184")
def show(session: Session, name: EntryArgument) -> None:
    """Show all of one entry: each refused record with its reasons, or the message as it came."""
    session.write(entry_answer(_entries(session).find(name)))


@command(
    quarantine,
    "retry",
    reads=True,
    epilog="Examples:\n\n    metering quarantine retry edge-7f3a-000184\n\n    metering quarantine retry --reason "
    "invalid_from --from 2026-11-24",
)
def retry(
    session: Session,
    name: Annotated[str | None, typer.Argument(metavar="BATCH", help="Batch id or key. Or choose by --reason.")] = None,
    reason: Annotated[
        str | None, typer.Option("--reason", help="All with this reason that were not retried yet.")
    ] = None,
    start: Annotated[str | None, typer.Option("--from", help="With --reason: refused at or after this time.")] = None,
    end: Annotated[str | None, typer.Option("--to", help="With --reason: refused before this time.")] = None,
    as_new_id: Annotated[
        bool, typer.Option("--as-new-id", help="Send a conflict under a new id, because other content has its id.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be sent, but send nothing.")] = False,
) -> None:
    """Send refused batches again under their own ids, and refused records as new batches.

    A second retry is a duplicate and does no harm. Fix the cause first, or the content is refused again.
    """
    if (name is None) == (reason is None):
        raise WrongUsageError("Either name a batch, or choose by --reason.")
    tool = _entries(session)
    if name is not None:
        chosen = list(tool.find(name))
    else:
        from_s, to_s = time_range(start, end, default_s=(0, _FAR_S), now_s=int(time.time()))
        chosen = [e for e in tool.entries(from_s=from_s, to_s=to_s) if reason in e.reasons and not e.retried_as]
    done: list[Retry] = []
    failed: list[OperationFailedError] = []
    for entry in chosen:
        try:
            done.append(tool.retry(entry, as_new_id=as_new_id, dry_run=dry_run))
        except OperationFailedError as error:
            failed.append(error)
            say(f"{entry.batch_id or entry.key}: {error.reason} {error.advice}", "yellow")
    session.write(_retried(done))
    if failed:
        raise CommandFailedError(f"{len(failed)} of {len(chosen)} could not be sent again.")


def _entries(session: Session) -> QuarantineEntries:
    region = session.region()
    return QuarantineEntries(
        items=region.items,
        objects=region.objects,
        queue=region.ingest,
        clock=SystemClock(),
        bucket=region.names.data_bucket,
        marker_life_s=region.settings.marker_life_s,
    )


def _retried(done: list[Retry]) -> Answer:
    columns = (
        Column(name="batch_id"),
        Column(name="retried_as"),
        Column(name="records", kind="integer"),
        Column(name="skipped", kind="integer"),
    )
    rows: list[dict[str, Cell]] = [
        {
            "batch_id": each.entry.batch_id,
            "retried_as": each.retry_id,
            "records": each.records,
            "skipped": len(each.skipped),
        }
        for each in done
    ]
    return Answer(columns=columns, rows=rows)

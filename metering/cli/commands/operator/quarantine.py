"""`metering quarantine` and `batch`: what was refused and for which reasons, and one batch by its id."""

from __future__ import annotations

import time
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Annotated

import typer

from metering.cli.command import Session, command, say
from metering.cli.failures import CommandFailedError, WrongUsageError
from metering.cli.fleet import asks_for_all, connections, everywhere, of_region
from metering.cli.options import argument, family, option, switch
from metering.errors import OperationFailedError
from metering.reports.answer import KEEP, Answer, RowType, copied, integer
from metering.reports.operators.quarantine_answer import entry_answer
from metering.reports.time_range import time_range
from metering.units import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from metering.quarantine.entries import Entry, QuarantineEntries, Retry
    from metering.wiring.connection import RegionConnection


quarantine = family("Refused batches and records, with every reason. Nothing in quarantine is metered.")

EntryArgument = Annotated[
    str, argument("BATCH", "Batch id, key of a quarantine object, or identity or location of a log file.")
]

SourceOption = Annotated[str | None, option("--source", "SOURCE", "Only batches of this source_id.")]
SenderOption = Annotated[str | None, option("--sender", "SENDER", "Only whole batches of this sender (see `list`).")]

_FAR_S = 4_102_444_800  # the year 2100


@command(quarantine, "list", "metering quarantine list --reason too_late", reads=True, everywhere=True)
def list_(
    session: Session,
    start: Annotated[
        str | None, option("--from", "TIME", "Only entries refused from this time, date or month on.")
    ] = None,
    end: Annotated[str | None, option("--to", "TIME", "Only entries refused before this time, date or month.")] = None,
    reason: Annotated[str | None, typer.Option("--reason", help="Only entries with this reason.")] = None,
    kind: Annotated[
        str | None,
        typer.Option("--kind", help="Only this kind: records, refused, conflict, unverified, lines or file."),
    ] = None,
    source: SourceOption = None,
    sender: SenderOption = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most this many entries.")] = 1000,
) -> None:
    """List refused batches, refused records of accepted batches, conflicts, and refused log files and lines.

    The column `became` has the outcome of each entry: where its content is metered now, or the verdict on its retry.
    """
    from metering.wiring.answers.operators import refused_answer, refused_in, refused_query

    query = refused_query(
        now_s=int(time.time()), start=start, end=end, reason=reason, kind=kind, source=source, sender=sender
    )
    regions = connections(session)
    found = (each for each in refused_in(regions, query) if query.takes(each.entry))
    answer = refused_answer(regions, list(islice(found, limit + 1)), everywhere=asks_for_all(session))
    session.write(replace(answer, rows=answer.rows[:limit]))
    if len(answer.rows) > limit:
        say(f"There are more than {limit}. Use --limit, or narrow it down: --from, --to, --reason, --kind, --source.")


@command(quarantine, "show", "metering quarantine show edge-7f3a-000184", reads=True, everywhere=True)
def show(session: Session, name: EntryArgument) -> None:
    """Show one entry in full: each refused record with its reasons, or else the message and its records as received.

    For a conflict, it also shows the differences from the batch metered under the same id, as far as the ledger has
    them.
    """
    from metering.wiring.status import build_quarantine

    found: list[Entry] = []

    def entries(region: RegionConnection) -> Answer:
        tool = build_quarantine(region)
        try:
            here = tool.find(name)
        except OperationFailedError:
            # If all regions are selected, one region that has the entry is enough.
            if not asks_for_all(session):
                raise
            here = ()
        found.extend(here)
        return entry_answer(here)

    answer = everywhere(session, entries)
    if not found:
        raise CommandFailedError(
            f"There is nothing in quarantine for {name} in any region.",
            "List what is there: metering quarantine list --region all",
        )
    session.write(answer)


@command(
    quarantine,
    "retry",
    reads=True,
    changes=True,
    epilog="Examples:\n\n    metering quarantine retry edge-7f3a-000184\n\n    metering quarantine retry --reason "
    "invalid_from --from 2026-11-24\n    metering quarantine retry --reason conflict --source edge-7f3a --as-new-id "
    "--dry-run",
)
def retry(
    session: Session,
    name: Annotated[str | None, argument("BATCH", "Batch id or key. Or choose by --reason.")] = None,
    reason: Annotated[
        str | None, typer.Option("--reason", help="All entries with this reason that were not retried yet.")
    ] = None,
    start: Annotated[
        str | None, option("--from", "TIME", "With --reason, only entries refused from this time on.")
    ] = None,
    end: Annotated[str | None, option("--to", "TIME", "With --reason, only entries refused before this time.")] = None,
    source: SourceOption = None,
    sender: SenderOption = None,
    as_new_id: Annotated[
        bool, switch("--as-new-id", "Send a conflict under a new id, because its id belongs to other content.")
    ] = False,
    dry_run: Annotated[bool, switch("--dry-run", "Show what would be sent, but send nothing.")] = False,
) -> None:
    """Send refused batches again under their own ids, and refused records as new batches.

    A second retry is judged a duplicate and does no harm. Fix the cause first; otherwise the service refuses the
    content again.
    """
    from metering.wiring.aggregator import need_operator
    from metering.wiring.answers.operators import check_reason
    from metering.wiring.status import build_quarantine

    if (name is None) == (reason is None):
        raise WrongUsageError("Either name a batch, or choose by --reason.")
    if name is not None and any(given is not None for given in (source, sender, start, end)):
        raise WrongUsageError("--source, --sender, --from and --to choose by --reason; a batch is named already.")
    check_reason(reason)
    tool = build_quarantine(session.region())
    if name is not None:
        chosen = list(tool.find(name))
    else:
        from_s, to_s = time_range(start, end, default_s=(0, _FAR_S), now_s=int(time.time()))
        found = tool.entries(from_s=from_s, to_s=to_s)
        chosen = [e for e in found if reason in e.reasons and not e.retried_as and _is_of(e, source, sender)]
    # Batches that cannot be sent are listed before the question, which concerns only the other batches.
    planned = _retry_all(tool, chosen, as_new_id=as_new_id, dry_run=True)
    done = planned
    if planned and not dry_run:
        need_operator(session.region())
        records = sum(each.records for each in planned)
        consequence = (
            f"{len(planned)} of {len(chosen)} entries, with {counted(records, 'record')} as far as is known, "
            "go into the ingest queue again, to be metered or refused."
        )
        given = {"--reason": reason, "--from": start, "--to": end, "--source": source, "--sender": sender}
        subject = name or " ".join(word for option_, value in given.items() if value for word in (option_, value))
        with session.deed(what="quarantine retry", subject=subject, consequence=consequence) as deed:
            done = _retry_all(tool, [each.entry for each in planned], as_new_id=as_new_id, dry_run=False)
            deed.result, deed.failed = f"{len(done)} of {len(chosen)} entries sent again", len(done) < len(planned)
    session.write(_retried(done))
    if done and not dry_run:
        say("To see what became of them: metering quarantine list")
    if len(done) < len(chosen):
        raise CommandFailedError(f"{len(chosen) - len(done)} of {len(chosen)} could not be sent again.")


def _retry_all(tool: QuarantineEntries, chosen: Sequence[Entry], *, as_new_id: bool, dry_run: bool) -> list[Retry]:
    """Retry each entry, or only plan the retries, and name the entries that cannot be sent again."""
    done: list[Retry] = []
    for entry in chosen:
        try:
            done.append(tool.retry(entry, as_new_id=as_new_id, dry_run=dry_run))
        except OperationFailedError as error:
            say(f"{entry.batch_id or entry.key}: {error.reason} {error.advice}", "yellow")
    return done


def _is_of(entry: Entry, source: str | None, sender: str | None) -> bool:
    return source in {None, entry.source_id} and sender in {None, entry.sender_id}


def _retried(done: list[Retry]) -> Answer:
    table: RowType[Retry] = RowType(
        copied("batch_id", of=lambda it: it.entry.batch_id, priority=KEEP),
        copied("retried_as", of=lambda it: it.retry_id, priority=KEEP),
        integer("records"),
        integer("skipped", of=lambda it: len(it.skipped)),
    )
    return table.answer(done, empty="Nothing was sent again.")


batch = family("One batch: its verdict, and everything that happened to it.")

_EXAMPLES = """Examples:

    metering batch show edge-7f3a-000184
    metering batch show edge-7f3a-000184 --from 2026-09 --to 2026-11

A batch whose marker has expired is found by its rows, in the range that you name.
"""


@command(batch, "show", reads=True, everywhere=True, epilog=_EXAMPLES)
def show_batch(
    session: Session,
    batch_id: Annotated[str, argument("BATCH", "The batch id.")],
    start: Annotated[
        str | None,
        option("--from", "TIME", "If the batch's marker has expired, search for its rows from this time on."),
    ] = None,
    end: Annotated[
        str | None, option("--to", "TIME", "Not included. Default: the end of --from's day or month, or now.")
    ] = None,
) -> None:
    """Show the history of a batch: verdict, reason, hours, commit, files, conflicts, quarantine and retries.

    The exit code is 1 if the marker and the rows of the batch disagree.
    """
    from metering.wiring.answers.trace import batch_of, checked_batch_id, not_found

    now_s = int(time.time())
    checked_batch_id(batch_id)
    within_s = time_range(start, end, default_s=(0, now_s + 1), now_s=now_s) if start or end else None
    told: list[str] = []
    differs: list[str] = []
    advice = ""

    def ask(region: RegionConnection) -> Answer:
        nonlocal advice
        answer = batch_of(region, batch_id, now_s=now_s, within_s=within_s)
        if answer is None:
            advice = not_found(region, batch_id)[1].replace("from and to", "--from and --to")
            return Answer(columns=(), rows=[], document={"batch_id": batch_id, "verdict": None})
        told.append(region.region)
        proof = (answer.document or {}).get("proof")
        if isinstance(proof, dict) and not proof["equal"]:
            differs.append(of_region(session, region.region))
        return answer

    answer = everywhere(session, ask)
    if not told:
        raise CommandFailedError(f"There is no marker of batch {batch_id}.", advice)
    session.write(answer)
    if differs:
        raise CommandFailedError(
            f"{differs[0]}Marker and rows of {batch_id} are not equal.",
            "Run it again in a minute. If they still differ: metering runbook reconciliation-differences",
        )

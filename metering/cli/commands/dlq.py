"""`metering dlq`: dead letters, why they failed, and how to put them back safely."""

from typing import Annotated

import typer

from metering.cli.command import Session, command, say
from metering.cli.dead_letter_reader import ANSWER_S, LOOK_S, DeadLetterReader, dead_letters, reader_command
from metering.cli.failures import CommandFailedError, WrongUsageError
from metering.hours import rfc3339
from metering.operations.dead_letters import DeadLetter
from metering.reports.answer import Answer, Cell, Column

dlq = typer.Typer(
    help="Dead letters: batches that failed five times. They are not metered until they are redriven.",
    no_args_is_help=True,
)

_COLUMNS = (
    Column(name="batch_id"),
    Column(name="redrive", title="a redrive would"),
    Column(name="why"),
    Column(name="records", kind="integer"),
    Column(name="source_id"),
    Column(name="sent", kind="time"),
    Column(name="receives", kind="integer"),
    Column(name="admitted_until", kind="time"),
    Column(name="kept_until", kind="time"),
    Column(name="message_id"),
)


@command(dlq, "list", reads=True, epilog="Example:\n\n    metering dlq list --format table")
def list_(
    session: Session,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Show at most this many.")] = 100,
    deep: Annotated[
        bool,
        typer.Option("--deep", help=f"Read their records too, in a child process: up to {LOOK_S} s each."),
    ] = False,
) -> None:
    """Show dead letters with the facts that are known without their records. --deep predicts a redrive.

    Without --deep no record is read, because reading may be what killed the workers. The letters stay in the queue.
    They are hidden from others while this command runs, and for a while after it was killed.
    """
    letters = _looked_at(session, limit=limit, deep=deep)
    rows: list[dict[str, Cell]] = [
        {
            "batch_id": letter.batch_id,
            "redrive": letter.effect.value,
            "why": letter.why,
            "records": letter.records,
            "source_id": letter.source_id,
            "sent": rfc3339(letter.sent_at_s),
            "receives": letter.receives,
            "admitted_until": None if letter.admitted_until_s is None else rfc3339(letter.admitted_until_s),
            "kept_until": rfc3339(letter.kept_until_s),
            "message_id": letter.message_id,
        }
        for letter in letters
    ]
    session.write(Answer(columns=_COLUMNS, rows=rows))


@command(dlq, "redrive", reads=True, epilog="Example:\n\n    metering dlq redrive --max 1000 --rate 50")
def redrive(
    session: Session,
    maximum: Annotated[int | None, typer.Option("--max", help="Put back at most this many. Default: all.")] = None,
    rate: Annotated[int | None, typer.Option("--rate", help="At most this many a second.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count them, but move nothing.")] = False,
    by_hand: Annotated[
        bool, typer.Option("--by-hand", help="Move them from here, although the queue service could do it itself.")
    ] = False,
) -> None:
    """Put dead letters back into the ingest queue. Repeating or stopping it is safe: each batch id counts once."""
    if (maximum is not None and maximum < 1) or (rate is not None and rate < 1):
        raise WrongUsageError("--max and --rate must be at least 1.")
    done = dead_letters(session.region()).redrive(maximum=maximum, per_s=rate, dry_run=dry_run, by_hand=by_hand)
    row: dict[str, str | int | bool | None] = {
        "waiting": done.waiting,
        "moved": done.moved,
        "kept": done.kept,
        "task": done.task,
        "dry_run": dry_run,
    }
    columns = (
        Column(name="waiting", kind="integer"),
        Column(name="moved", kind="integer"),
        Column(name="kept", kind="integer"),
        Column(name="task"),
        Column(name="dry_run", kind="flag"),
    )
    session.write(Answer(columns=columns, rows=[row], document=row))
    if done.task is not None:
        say("The queue service is moving them. See what is left: metering dlq list")
    if done.kept:
        raise CommandFailedError(
            f"The ingest queue did not take {done.kept} messages; they are still dead letters.", "Run it again."
        )


def _looked_at(session: Session, *, limit: int, deep: bool) -> list[DeadLetter]:
    letters = dead_letters(session.region())
    if not deep:
        return letters.letters(limit=limit)
    with DeadLetterReader(reader_command(session), letters, timeout_s=ANSWER_S) as reader:
        return letters.letters(limit=limit, look=reader.look, look_s=ANSWER_S)

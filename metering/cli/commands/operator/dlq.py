"""`metering dlq` and `drops`: show and redrive dead letters, and find objects that S3 never announced."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from metering.cli import dead_letter_reader, fleet
from metering.cli.command import Session, command, say
from metering.cli.failures import CommandFailedError, WrongUsageError
from metering.cli.options import family, option, parse_duration, switch
from metering.reports.answer import KEEP, ROOMY, Answer, Fields, RowType, copied, flag, integer, prose, short, timed
from metering.units import DAY_S, counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from metering.ledger.notes.checks import LostDrop
    from metering.operations.dead_letters import DeadLetter, DeadLogFile, Redriven
    from metering.wiring.connection import RegionConnection


dlq = family(
    "Dead letters: batches that failed at every receive. Dead letters are not metered until they are redriven."
)

_LETTERS: RowType[DeadLetter] = RowType(
    copied("batch_id", priority=KEEP),
    prose("redrive", of=lambda it: it.effect, title="a redrive would", priority=KEEP),
    prose("why"),
    integer("records"),
    copied("source_id", priority=ROOMY + 1),
    timed("sent", of=lambda it: it.sent_at_s, about="to the queue"),
    integer("receives", priority=ROOMY + 2, about="times that a worker took it"),
    timed(
        "admitted_until", of=lambda it: it.admitted_until_s, priority=ROOMY, about="after it, its records are too late"
    ),
    timed("kept_until", of=lambda it: it.kept_until_s, priority=ROOMY + 1, about="after it, the letter is lost"),
    copied("message_id", priority=ROOMY + 3),
)
_LOG_FILES: RowType[DeadLogFile] = RowType(
    copied("file", priority=KEEP),
    prose("why", priority=KEEP),
    short("log_source", priority=ROOMY),
    timed("sent", of=lambda it: it.sent_at_s, about="to the queue"),
    integer("age_s", about="seconds since then"),
    integer("receives", priority=ROOMY + 2, about="times that the function took it"),
    timed(
        "kept_until",
        of=lambda it: it.kept_until_s,
        priority=ROOMY + 1,
        about="after it, the event is lost and the file stays",
    ),
    copied("message_id", priority=ROOMY + 3),
)


@command(dlq, "list", "metering dlq list --format table", reads=True, everywhere=True)
def list_(
    session: Session,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Show at most this many dead letters.")] = 100,
    deep: Annotated[
        bool, switch("--deep", f"Read their records too, in a child process: up to {dead_letter_reader.LOOK_S} s each.")
    ] = False,
    log_files: Annotated[bool, switch("--log-files", "Instead, show log files that failed at every attempt.")] = False,
) -> None:
    """Show dead letters, with the facts that are known without reading their records.

    --deep predicts the result of a redrive. Without --deep, the command reads no records, because reading them may have
    crashed the workers. The dead letters stay in the queue. Other consumers cannot receive them while this command
    runs, and for some time after the command was killed.
    """
    if deep and log_files:
        raise WrongUsageError(
            "--deep reads batches, and --log-files shows log files.", "Try a file: metering ingest --dry-run PLACE"
        )

    def letters(region: RegionConnection) -> Answer:
        if log_files:
            return _log_files_answer(region, limit=limit)
        return _LETTERS.answer(_looked_at(session, region, limit=limit, deep=deep), empty="No dead letters.")

    session.write(fleet.everywhere(session, letters, most=limit))


def _log_files_answer(region: RegionConnection, *, limit: int) -> Answer:
    if region.onramp is None:
        return _LOG_FILES.answer([], empty=f"{region.region} has no log sources.")
    found = dead_letter_reader.dead_log_files(region, region.onramp.dead).files(limit=limit)
    return _LOG_FILES.answer(found, empty="No dead letters of log files.")


@command(dlq, "redrive", "metering dlq redrive --max 1000 --rate 50", reads=True, changes=True)
def redrive(
    session: Session,
    maximum: Annotated[
        int | None, typer.Option("--max", help="Redrive at most this many messages. Default: all.")
    ] = None,
    rate: Annotated[int | None, typer.Option("--rate", help="Redrive at most this many messages a second.")] = None,
    dry_run: Annotated[bool, switch("--dry-run", "Count the dead letters, but move nothing.")] = False,
    by_hand: Annotated[
        bool, switch("--by-hand", "Move messages one by one, instead of letting SQS move them.")
    ] = False,
    log_files: Annotated[
        bool, switch("--log-files", "Instead, redrive the events of log files, into their own queue.")
    ] = False,
) -> None:
    """Redrive dead letters to the ingest queue. To repeat or stop the command is safe: each batch id counts once.

    With --log-files, the command redrives log files that failed at every attempt. Each log file, too, counts only once.
    """
    from metering.wiring.aggregator import need_operator

    if (maximum is not None and maximum < 1) or (rate is not None and rate < 1):
        raise WrongUsageError("--max and --rate must be at least 1.")
    region = session.region()
    if log_files and region.onramp is None:
        known = "See them: metering settings show --stage NAME"
        raise CommandFailedError(f"{region.region} has no log sources.", known)
    tool = dead_letter_reader.dead_letters(region, queues=region.onramp if log_files else None)
    waiting = tool.waiting()
    if dry_run or not waiting:
        redriven = tool.redrive(dry_run=True)
    else:
        moved = waiting if maximum is None else min(maximum, waiting)
        queue = "the queue of log files" if log_files else "the ingest queue"
        letters = f"{moved} of {counted(waiting, 'dead letter')}"
        consequence = f"About {letters} go back into {queue} and are metered or refused."
        if not log_files:
            need_operator(region)
        subject = " ".join([*(["--log-files"] if log_files else []), "all" if maximum is None else f"--max {maximum}"])
        with session.deed(what="dlq redrive", subject=subject, consequence=consequence) as done:
            redriven = tool.redrive(maximum=maximum, per_s=rate, by_hand=by_hand)
            done.result, done.failed = _result(redriven), redriven.kept > 0
    session.write(_redriven_answer(redriven, dry_run=dry_run))
    if redriven.task is not None:
        listing = "metering dlq list --log-files" if log_files else "metering dlq list"
        say(f"The queue service is moving them. See what is left: {listing}")
    if redriven.kept:
        problem = f"The queue did not take {redriven.kept} messages; they are still dead letters."
        raise CommandFailedError(problem, "Run it again.")


def _result(redriven: Redriven) -> str:
    if redriven.task is not None:
        return f"the queue service moves about {redriven.waiting}"
    return f"{redriven.moved} moved, {redriven.kept} not taken by the queue"


def _redriven_answer(done: Redriven, *, dry_run: bool) -> Answer:
    table: RowType[Redriven] = RowType(
        integer("waiting", about="dead letters, before"),
        integer("moved", about="put back into the ingest queue"),
        integer("kept", about="that the ingest queue did not take"),
        copied("task", about="of the queue service"),
        flag("dry_run", of=lambda _: dry_run, about="counted only, nothing moved"),
    )
    return table.one(done)


def _looked_at(session: Session, region: RegionConnection, *, limit: int, deep: bool) -> list[DeadLetter]:
    letters = dead_letter_reader.dead_letters(region)
    if not deep:
        return letters.letters(limit=limit)
    with dead_letter_reader.DeadLetterReader(
        dead_letter_reader.reader_command(session, region.region), letters, timeout_s=dead_letter_reader.ANSWER_S
    ) as reader:
        return letters.letters(limit=limit, look=reader.look, look_s=dead_letter_reader.ANSWER_S)


drops = family("Objects below `drop/` that S3 never announced, so they became no batch.")

_SinceOption = Annotated[
    str | None, option("--since", "DURATION", "Check objects that were put within this time. Default: 35d.")
]
# Records older than this can no longer be metered.
_SINCE_S = 35 * DAY_S
_LOST: Fields[LostDrop] = (
    *timed("put_at", of=lambda it: it.put_s, priority=KEEP),
    *copied("object", of=lambda it: it.key, priority=KEEP),
)


@command(drops, "list", "metering drops list --since 2d", reads=True, everywhere=True)
def list_drops(session: Session, since: _SinceOption = None) -> None:
    """List objects below `drop/` that have no verdict yet; this lists the whole prefix `drop/`.

    Objects that are younger than 15 minutes, or may still be in a queue, are not checked.
    """
    since_s = _since_s(since)
    session.write(fleet.everywhere(session, lambda region: _answer(_lost(region, since_s))))


@command(drops, "send", "metering drops send --since 2d", reads=True, changes=True)
def send(session: Session, since: _SinceOption = None) -> None:
    """Announce the objects that S3 failed to announce. Each object becomes one batch, however often it is announced."""
    since_s = _since_s(since)
    region = session.region()
    consequence = "What `metering drops list` lists is sent to the ingest queue, and metered."
    with session.deed(what="drops send", subject=since or "35d", consequence=consequence) as done:
        lost = _lost(region, since_s)
        refused = region.jobs.drop_check.announce(lost, region.ingest)
        done.result = f"{len(lost) - len(refused)} of {counted(len(lost), 'object')} announced"
        done.failed = bool(refused)
    say(done.result)
    states = {each.key: "refused" for each in refused}
    session.write(_answer(lost, states=states))
    if refused:
        raise CommandFailedError(
            f"The queue did not take {len(refused)} of {counted(len(lost), 'message')}.",
            "Run it again: it sends what is left.",
        )


def _since_s(since: str | None) -> int:
    return parse_duration(since, "--since") if since else _SINCE_S


def _lost(region: RegionConnection, since_s: int) -> list[LostDrop]:
    return region.jobs.drop_check.look(since_s=region.clock.now_ms() // 1000 - since_s)


def _answer(lost: Sequence[LostDrop], *, states: dict[str, str] | None = None) -> Answer:
    state: Fields[LostDrop] = copied("state", of=lambda it: (states or {}).get(it.key, "announced"), priority=KEEP)
    return RowType(_LOST, () if states is None else state).answer(lost, empty="Every object below drop/ was announced.")

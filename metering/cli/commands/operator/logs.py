"""`metering logs`: sources of logs, what came of each, and what did not."""

from __future__ import annotations

import re
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, Annotated

import typer

from metering.cli.all_regions import everywhere
from metering.cli.command import Session, command, progress, say
from metering.cli.commands.operator.logs_format import log_format, logs
from metering.cli.commands.platform.logs_add import add_source
from metering.cli.failures import CommandFailedError, WrongUsageError
from metering.hours import date_of, hour_of, rfc3339
from metering.reports.answer import Answer, Column
from metering.units import DAY_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from metering.audit.log_overlap import Overlap
    from metering.ledger.notes.log_sources import LogRulingKind, LogSourceState
    from metering.wiring.connection import RegionConnection

# Their modules add them to the family when they are imported.
__all__ = ["add_source", "log_format", "logs"]

_RULING_COLUMNS = (
    Column(name="source", text="copied"),
    Column(name="ruling", text="copied"),
    Column(name="first", kind="time", about="slot that it is about"),
    Column(name="last", kind="time"),
    Column(name="missing", kind="integer", about="slots that are no gap any more"),
    Column(name="by", text="copied"),
    Column(name="at", kind="time"),
)
_SLOT = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}(:\d{2})?Z")
_DAYS = 7
_OVERLAPS_NAMED = 1_000


@command(logs, "list", reads=True, everywhere=True, epilog="Example:\n\n    metering logs list --format table")
def list_sources(session: Session) -> None:
    """Show the sources of logs: those of the settings, those that were ingested by hand, and how each stands.

    The function that keeps the context looks every 5 minutes. To look now: metering logs coverage
    """
    from metering.ledger.notes.log_sources import LogFigures
    from metering.onramps.sources import ORGANIZATION_WARNING
    from metering.reports.operators.log_answer import list_answer

    now_s = int(time.time())

    def known(region: RegionConnection) -> Answer:
        job = region.coverage
        elsewhere = [log for log in job.expected().logs if not log.in_s3]
        figures = job.figures() or LogFigures(looked_s=0)
        for source in region.log_sources:
            if source.bills_organization:
                say(f"{source.name}: {ORGANIZATION_WARNING}.", "yellow")
        return list_answer(job.states(), region.log_sources, elsewhere, figures, job, now_s=now_s)

    session.write(everywhere(session, known))


@command(
    logs,
    "coverage",
    reads=True,
    epilog="Examples:\n\n    metering logs coverage\n    metering logs coverage --from 2026-11-01 --format json",
)
def coverage(
    session: Session,
    start: Annotated[
        str | None, typer.Option("--from", metavar="DATE", help="First day of the sums. Default: seven days ago.")
    ] = None,
    end: Annotated[
        str | None, typer.Option("--to", metavar="DATE", help="Day after the last one. Default: now.")
    ] = None,
    source: Annotated[
        str | None, typer.Option("--source", metavar="LOG", help="Only this one: a flow log, a distribution, a bucket.")
    ] = None,
    gaps: Annotated[bool, typer.Option("--gaps", help="Only sources with gaps, or that never delivered.")] = False,
    overlap: Annotated[
        bool, typer.Option("--overlap", help="Also look, in the rows, for resources that two flow logs metered.")
    ] = False,
) -> None:
    """Look at what came of each source of logs and what did not: gaps, refused lines, unclassified bytes.

    A flow log writes a file every 5 minutes; a slot without a file counts as a gap once it is 30 minutes old.

    It does what the schedule does every 5 minutes, for everything that can still be metered, and reads no file twice.
    """
    from metering.ledger.notes.log_sums import sum_log_sums
    from metering.onramps.coverage.sums import sums_between
    from metering.reports.operators.log_answer import coverage_answer

    now_s = int(time.time())
    from_s, to_s = _days(start, end, now_s)
    job = session.region().coverage
    with _looking() as tell:
        figures = job.run(now_s, whole=True, tell=tell)
    shown = [
        state
        for state in job.states()
        if (source is None or state.source == source) and (not gaps or state.missing or not state.came)
    ]
    if source is not None and not shown and not gaps:
        raise CommandFailedError(f"There is no source of logs {source}.", "To see all: metering logs list")
    sums = (
        (state, sum_log_sums(state.kind, state.source, "", sums_between(
            job.items, state.kind, state.source, from_s=from_s, to_s=to_s, unslotted=not start and not end
        )))
        for state in shown
    )  # fmt: skip
    days = (date_of(from_s), date_of(to_s - 1))
    twice = _overlaps(session, from_s, to_s) if overlap else None
    session.write(coverage_answer(sums, figures, job, now_s=now_s, days=days, overlaps=twice))


def _overlaps(session: Session, from_s: int, to_s: int) -> list[Overlap]:
    """Resources that two flow logs metered in an hour, the first of them."""
    from metering.audit.log_overlap import overlaps

    view = session.region().view
    return list(islice(overlaps(view, view.hours(from_s=hour_of(from_s), to_s=to_s)), _OVERLAPS_NAMED))


@command(
    logs,
    "accept-gap",
    reads=True,
    changes=True,
    epilog="Examples:\n\n    metering logs accept-gap fl-0abc 2026-11-24T13:05:00Z\n"
    "    metering logs accept-gap fl-0abc all",
)
def accept_gap(
    session: Session,
    source: Annotated[str, typer.Argument(metavar="LOG", help="Flow log, as `metering logs coverage` names it.")],
    slots: Annotated[
        str,
        typer.Argument(metavar="SLOTS", help="One slot by its time, FIRST/LAST, or `all` that are missing now."),
    ],
) -> None:
    """Accept that files of some slots never came. They are no longer a gap, and no report waits for them.

    A file that still comes is metered as usual. The schedule applies this within 5 minutes.
    """
    from metering.ledger.notes.log_sources import LogRulingKind

    state = _known(session, source)
    first_s, last_s = _slots(slots, state)
    missing = _within(state, first_s, last_s)
    times = rfc3339(first_s) if first_s == last_s else f"{rfc3339(first_s)} to {rfc3339(last_s)}"
    consequence = f"{missing} missing slots of {source} ({times}) are no gap any more, and no report waits for them."
    _rule(session, state, LogRulingKind.ACCEPT_GAP, (first_s, last_s), missing, consequence)


@command(logs, "forget", reads=True, changes=True, epilog="Example:\n\n    metering logs forget fl-0abc")
def forget(
    session: Session,
    source: Annotated[str, typer.Argument(metavar="LOG", help="Flow log, as `metering logs coverage` names it.")],
) -> None:
    """Forget a source of logs that has ended: its gaps and its silence. What it delivered stays metered.

    If another file of it comes, it begins anew with that one. The schedule applies this within 5 minutes.
    """
    from metering.ledger.notes.log_sources import LogRulingKind
    from metering.onramps.coverage.slots import count

    state = _known(session, source)
    missing = count(state.missing) + state.unlisted
    consequence = f"The {missing} missing slots of {source} and its silence are forgotten; no report waits for it."
    _rule(session, state, LogRulingKind.FORGET, (0, 0), missing, consequence)


def _rule(
    session: Session,
    state: LogSourceState,
    kind: LogRulingKind,
    slots: tuple[int, int],
    missing: int,
    consequence: str,
) -> None:
    from metering.ledger.notes.log_sources import LogRuling
    from metering.stores.writes import Put, Table

    region = session.region()
    subject = state.source if slots == (0, 0) else f"{state.source} {rfc3339(slots[0])}/{rfc3339(slots[1])}"
    with session.deed(what=f"logs {kind.value}", subject=subject, consequence=consequence) as done:
        now_s = int(time.time())
        ruling = LogRuling(
            kind=state.kind,
            source=state.source,
            ruling=kind,
            at_s=now_s,
            by=region.caller(),
            # Older slots can no longer be metered, and are no gaps.
            expires_at=now_s + region.settings.window_s + DAY_S,
            first_s=slots[0],
            last_s=slots[1],
        )
        region.items.put(Put(table=Table.LEDGER, item=ruling.to_item()))
        done.result = f"{missing} missing slots are no gap any more"
    row: dict[str, str | int | bool | None] = {
        "source": state.source,
        "ruling": kind.value,
        "first": rfc3339(slots[0]) if slots[0] else None,
        "last": rfc3339(slots[1]) if slots[1] else None,
        "missing": missing,
        "by": ruling.by,
        "at": rfc3339(now_s),
    }
    session.write(Answer(columns=_RULING_COLUMNS, rows=[row], document=row))
    say("The schedule applies this within 5 minutes. To apply it now: metering logs coverage")


def _known(session: Session, source: str) -> LogSourceState:
    found = [state for state in session.region().coverage.states() if state.source == source]
    if not found:
        raise CommandFailedError(f"There is no source of logs {source}.", "To see all: metering logs list")
    return found[0]


def _slots(text: str, state: LogSourceState) -> tuple[int, int]:
    """First and last slot that a person named."""
    from metering.onramps.coverage.slots import slot_of

    if text == "all":
        if not state.missing:
            raise CommandFailedError(f"{state.source} has no gap.", "To see all: metering logs coverage --gaps")
        return state.missing[0][0], state.missing[-1][1]
    first, _, last = text.partition("/")
    times = [slot_of(_moment(each)) for each in (first, last or first)]
    if times[0] > times[1]:
        raise WrongUsageError(f"{text} ends before it begins.", "Write FIRST/LAST, or one time.")
    return times[0], times[1]


def _moment(text: str) -> int:
    if not _SLOT.fullmatch(text):
        raise WrongUsageError(f"{text} is no time of a slot.", "Write it as 2026-11-24T13:05:00Z, FIRST/LAST, or all.")
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


def _within(state: LogSourceState, first_s: int, last_s: int) -> int:
    from metering.onramps.coverage.slots import count

    inside = [(max(a, first_s), min(b, last_s)) for a, b in state.missing if a <= last_s and b >= first_s]
    return count(inside)


def _days(start: str | None, end: str | None, now_s: int) -> tuple[int, int]:
    from metering.reports.time_range import time_range

    return time_range(start, end, default_s=(now_s - _DAYS * DAY_S, now_s + 1), now_s=now_s, whole_hours=False)


@contextmanager
def _looking() -> Iterator[Callable[[int, int], object]]:
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with progress(*columns) as bar:
        task = bar.add_task("sources", total=None)
        yield lambda done, whole: bar.update(task, completed=done, total=whole)

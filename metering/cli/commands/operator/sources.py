"""`metering sources`: producers that number their batches, their gaps and silence, and rulings on them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated

import typer

from metering.adapters.aws.runtime import SystemClock
from metering.audit.source_keeping import GAP_GRACE_S
from metering.cli.all_regions import everywhere, of_region
from metering.cli.command import Session, command, say
from metering.cli.durations import parse_duration
from metering.cli.failures import CommandFailedError, WrongUsageError
from metering.hours import rfc3339
from metering.ledger.notes.sources import SILENCE_S, Ruling, RulingKind, SourceState
from metering.reports.answer import Answer, Column
from metering.reports.operators.sources_answer import intervals
from metering.stores.writes import Put, Table
from metering.units import DAY_S, MINUTE_S

if TYPE_CHECKING:
    from collections.abc import Iterator

    from metering.ledger.notes.sources import SourceFigures
    from metering.wiring.connection import RegionConnection

sources_app = typer.Typer()

_RULING_COLUMNS = (
    Column(name="source_id", text="copied"),
    Column(name="ruling", text="copied"),
    Column(name="numbers", text="copied", about="that it is about"),
    Column(name="missing", kind="integer", about="of them, that never came"),
    Column(name="gaps", text="prose", about="those numbers"),
    Column(name="by", text="copied"),
    Column(name="at", kind="time"),
)
_NUMBERS = re.compile(r"([0-9]{1,19})(?:-([0-9]{1,19}))?")


@command(
    sources_app,
    "sources",
    reads=True,
    everywhere=True,
    group=True,
    epilog="Example:\n\n    metering sources --gaps --format table",
)
def sources(
    session: Session,
    gaps: Annotated[
        bool, typer.Option("--gaps", help="Only producers with gaps, or with a number far beyond the one before.")
    ] = False,
    silent: Annotated[bool, typer.Option("--silent", help="Only producers that went silent.")] = False,
    silence: Annotated[
        str | None,
        typer.Option("--silence", metavar="DURATION", help="Time without a batch that counts as silence. Default: 1d."),
    ] = None,
) -> None:
    """Show the producers that number their batches: last number, last batch, and numbers that never arrived.

    The figures are as old as the reconciler's last full scan of the markers. To scan now: metering reconcile

    A number counts as missing if two scans, 15 minutes apart or more, did not find it.
    """
    from metering.wiring.answers.operators import sources_of

    silence_s = parse_duration(silence, "--silence") if silence else SILENCE_S
    told: list[tuple[str, str]] = []

    def known(region: RegionConnection) -> Answer:
        answer, figures = sources_of(region, gaps=gaps, silent=silent, silence_s=silence_s)
        told.extend((f"{of_region(session, region.region)}{text}", style) for text, style in _notes(figures))
        return answer

    session.write(everywhere(session, known))
    for text, style in told:
        say(text, style)


def _notes(figures: SourceFigures) -> Iterator[tuple[str, str]]:
    """What people should know of the figures, with its style."""
    if not figures.scanned_ms // 1000:
        yield "The reconciler has not done a full scan yet. To do it now: metering reconcile", ""
    else:
        yield f"Gaps that are younger than {GAP_GRACE_S // MINUTE_S} minutes are not shown yet.", ""
    if figures.unkept:
        names = ", ".join(figures.names)
        yield f"{figures.unkept} more sources or batches are not tracked, such as: {names}", "yellow"


@command(
    sources_app,
    "accept-gap",
    reads=True,
    changes=True,
    epilog="Example:\n\n    metering sources accept-gap edge-7f3a 17-19",
)
def accept_gap(
    session: Session,
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="The producer's source_id.")],
    numbers: Annotated[
        str,
        typer.Argument(metavar="NUMBERS", help="One number, a range FIRST-LAST, or `all` that are missing now."),
    ],
) -> None:
    """Accept that some numbers never arrived. They are no longer a gap, and no report waits for them.

    A batch that still comes with such a number is metered as usual. The reconciler applies this at its next tick.
    """
    _rule(session, source, RulingKind.ACCEPT_GAP, _numbers(numbers))


@command(sources_app, "forget", reads=True, changes=True, epilog="Example:\n\n    metering sources forget edge-7f3a")
def forget(
    session: Session,
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="The producer's source_id.")],
) -> None:
    """Forget a producer: its last number, its gaps and its silence. The batches that it sent stay metered.

    If it sends again, its numbers start with that batch. The reconciler applies this at its next tick.
    """
    _rule(session, source, RulingKind.FORGET, None)


def _rule(session: Session, source: str, kind: RulingKind, numbers: tuple[int, int] | None) -> None:
    region = session.region()
    state = next((each for each in region.jobs.source_keeper.states() if each.source_id == source), None)
    if state is None:
        raise CommandFailedError(f"There is no source {source}.", "To see all sources: metering sources")
    first, last = numbers or (0, max((end for _, end in state.gaps), default=0))
    touched = [(max(start, first), min(end, last)) for start, end in state.gaps if start <= last and end >= first]
    missing = sum(end - start + 1 for start, end in touched) + (state.unlisted_numbers if numbers is None else 0)
    chosen = "all" if numbers is None else intervals([numbers])
    subject = source if kind is RulingKind.FORGET else f"{source} {chosen}"
    consequence = _consequence(state, kind, missing=missing, gaps=intervals(touched))
    with session.deed(what=f"sources {kind.value}", subject=subject, consequence=consequence) as done:
        at_ms = SystemClock().now_ms()
        ruling = Ruling(
            source_id=source,
            kind=kind,
            at_ms=at_ms,
            by=region.caller(),
            # It must outlive today's markers, because each scan derives the source from them again.
            expires_at=at_ms // 1000 + region.settings.marker_life_s + DAY_S,
            numbers=numbers,
        )
        region.items.put(Put(table=Table.LEDGER, item=ruling.to_item()))
        done.result = f"{missing} missing numbers are no gap any more"
    row: dict[str, str | int | bool | None] = {
        "source_id": source,
        "ruling": kind.value,
        "numbers": chosen,
        "missing": missing,
        "gaps": intervals(touched),
        "by": ruling.by,
        "at": rfc3339(at_ms // 1000),
    }
    session.write(Answer(columns=_RULING_COLUMNS, rows=[row], document=row))
    say("The reconciler applies this at its next tick. To apply it now: metering reconcile")


def _consequence(state: SourceState, kind: RulingKind, *, missing: int, gaps: str) -> str:
    if kind is RulingKind.FORGET:
        return (
            f"Its last number {state.last_sequence}, its {missing} missing numbers and its silence are forgotten; "
            "no report waits for it, until it sends again."
        )
    listed = f" ({gaps})" if gaps else ""
    return f"{missing} missing numbers{listed} of {state.source_id} are no gap any more, and no report waits for them."


def _numbers(text: str) -> tuple[int, int] | None:
    if text == "all":
        return None
    match = _NUMBERS.fullmatch(text)
    first, last = (0, -1) if match is None else (int(match[1]), int(match[2] or match[1]))
    if first > last:
        raise WrongUsageError(f"{text} is neither a number nor a range.", "Write one number, FIRST-LAST, or all.")
    return first, last

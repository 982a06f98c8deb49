"""`metering drops`: objects below `drop/` that S3 never announced."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from metering.cli.all_regions import everywhere
from metering.cli.command import Session, command, say
from metering.cli.durations import parse_duration
from metering.cli.failures import CommandFailedError
from metering.hours import rfc3339
from metering.reports.answer import KEEP, Answer, Cell, Column
from metering.units import DAY_S, counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from metering.ledger.notes.checks import LostDrop
    from metering.wiring.connection import RegionConnection

drops = typer.Typer(help="Objects below `drop/` that S3 never announced: no batch came of them.", no_args_is_help=True)

_SinceOption = Annotated[
    str | None,
    typer.Option("--since", metavar="DURATION", help="Look at objects that were put within this time. Default: 35d."),
]
# Older records are too old to be metered.
_SINCE_S = 35 * DAY_S
_KEY = Column(name="object", text="copied", priority=KEEP)
_PUT = Column(name="put_at", kind="time", priority=KEEP)


@command(drops, "list", reads=True, everywhere=True, epilog="Example:\n\n    metering drops list --since 2d")
def list_(session: Session, since: _SinceOption = None) -> None:
    """List objects below `drop/` without a verdict, as of now; it lists all of `drop/`.

    What is younger than a quarter of an hour, or may still wait in a queue, is not judged.
    """
    since_s = _since_s(since)
    session.write(everywhere(session, lambda region: _answer(_lost(region, since_s))))


@command(drops, "send", reads=True, changes=True, epilog="Example:\n\n    metering drops send --since 2d")
def send(session: Session, since: _SinceOption = None) -> None:
    """Announce objects again that S3 did not announce. Each becomes the batch that it would have been, once."""
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
    rows: list[dict[str, Cell]] = [{"object": each.key, "put_at": rfc3339(each.put_s)} for each in lost]
    if states is not None:
        for row, each in zip(rows, lost, strict=True):
            row["state"] = states.get(each.key, "announced")
    state = () if states is None else (Column(name="state", text="copied", priority=KEEP),)
    return Answer(columns=(_PUT, _KEY, *state), rows=rows, empty="Every object below drop/ was announced.")

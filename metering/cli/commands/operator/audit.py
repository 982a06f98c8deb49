"""`metering audit`: who changed or deleted what by command, and how it ended."""

from __future__ import annotations

import time
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Annotated

import typer

from metering.cli.all_regions import everywhere
from metering.cli.command import Session, command, say
from metering.cli.printing.output import Format

if TYPE_CHECKING:
    from metering.reports.answer import Answer
    from metering.wiring.connection import RegionConnection

audit_app = typer.Typer()


@command(
    audit_app,
    "audit",
    reads=True,
    everywhere=True,
    epilog="Examples:\n\n    metering audit --from 2026-11\n    metering audit --what 'period close' --format table",
)
def audit(
    session: Session,
    start: Annotated[
        str | None, typer.Option("--from", metavar="TIME", help="Begun at or after this time, date or month.")
    ] = None,
    end: Annotated[
        str | None, typer.Option("--to", metavar="TIME", help="Begun before this time, date or month.")
    ] = None,
    what: Annotated[
        str | None, typer.Option("--what", metavar="COMMAND", help="Only this command or family, such as `period`.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most this many, the newest.")] = 100,
) -> None:
    """Show what was changed or deleted by command, newest first: who, when, what, and how it ended.

    A deed that was killed has begun and has no end. Deeds on regions are in the ledger of the home region.
    """
    from metering.operations.deed_trail import FIRST_MONTH_S, DeedTrail
    from metering.reports.operators.deeds_answer import deeds_answer
    from metering.reports.time_range import time_range
    from metering.units import DAY_S

    now_s = int(time.time())
    from_s, to_s = time_range(start, end, default_s=(FIRST_MONTH_S, now_s + DAY_S), now_s=now_s)

    def trail(region: RegionConnection) -> Answer:
        deeds = DeedTrail(items=region.items).between(from_s, min(to_s, now_s + DAY_S))
        found = (deed for deed in deeds if what is None or _is(deed.what, what))
        return deeds_answer(list(islice(found, limit + 1)))

    answer = everywhere(session, trail, newest="at", most=limit + 1)
    session.write(replace(answer, rows=answer.rows[:limit]))
    if len(answer.rows) > limit:
        say(f"There are more than {limit}. Use --limit, or narrow it down with --from, --to or --what.")
    if not answer.rows and session.chosen_format is not Format.TABLE:
        say(answer.empty)


def _is(what: str, wanted: str) -> bool:
    return what == wanted or what.startswith(f"{wanted} ")

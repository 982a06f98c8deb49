"""`metering sources`: producers that number their batches, what never arrived, and who went silent."""

import time
from typing import Annotated

import typer

from metering.cli.command import Session, command, say
from metering.cli.output import Answer, Cell, Column, Json
from metering.cli.times import parse_duration
from metering.domain.alarms import SILENCE_S
from metering.domain.hours import rfc3339
from metering.domain.items import Table
from metering.domain.watch_items import RECONCILIATION_KEY, SOURCE_PK, Reconciliation, SourceState

sources_app = typer.Typer()

_COLUMNS = (
    Column(name="source_id"),
    Column(name="last_sequence", kind="integer"),
    Column(name="last_seen", kind="time"),
    Column(name="silent", kind="flag"),
    Column(name="missing", kind="integer"),
    Column(name="gaps"),
)


@command(sources_app, "sources", reads=True, epilog="Example:\n\n    metering sources --gaps --format table")
def sources(
    session: Session,
    gaps: Annotated[bool, typer.Option("--gaps", help="Only producers with gaps.")] = False,
    silent: Annotated[bool, typer.Option("--silent", help="Only producers that went silent.")] = False,
    silence: Annotated[
        str | None, typer.Option("--silence", metavar="DURATION", help="Silent after so long. Default: 1d.")
    ] = None,
) -> None:
    """Show each numbered producer: its last sequence, when it was last heard of, and which numbers never arrived.

    The reconciler derives this from the markers; `metering reconcile` brings it up to date.
    """
    region = session.region()
    silent_s = int(time.time()) - (parse_duration(silence, "--silence") if silence else SILENCE_S)
    states = [SourceState.from_item(item) for item in region.items.query(Table.LEDGER, SOURCE_PK)]
    chosen = [state for state in states if (not gaps or state.gaps) and (not silent or state.last_seen_s < silent_s)]
    as_of = region.items.get(Table.LEDGER, RECONCILIATION_KEY)
    finished_s = 0 if as_of is None else Reconciliation.from_item(as_of).finished_s
    rows = [_row(state, silent_s) for state in chosen]
    document: dict[str, Json] = {
        "as_of": rfc3339(finished_s) if finished_s else None,
        "rows": [{**_json(state, silent_s)} for state in chosen],
    }
    session.write(Answer(columns=_COLUMNS, rows=rows, document=document))
    if not finished_s:
        say("The reconciler has not run yet; run it now: metering reconcile")


def _row(state: SourceState, silent_s: int) -> dict[str, Cell]:
    return {
        "source_id": state.source_id,
        "last_sequence": state.last_sequence,
        "last_seen": rfc3339(state.last_seen_s),
        "silent": state.last_seen_s < silent_s,
        "missing": state.missing,
        "gaps": ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in state.gaps),
    }


def _json(state: SourceState, silent_s: int) -> dict[str, Json]:
    gaps: list[Json] = [[first, last] for first, last in state.gaps]
    return {
        "source_id": state.source_id,
        "last_sequence": state.last_sequence,
        "last_seen": rfc3339(state.last_seen_s),
        "silent": state.last_seen_s < silent_s,
        "missing": state.missing,
        "gaps": gaps,
    }

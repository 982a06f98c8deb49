"""`metering batch`: one batch, by its id."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from metering.cli.all_regions import everywhere, of_region
from metering.cli.command import Session, command
from metering.cli.failures import CommandFailedError
from metering.reports.answer import Answer
from metering.reports.time_range import time_range

if TYPE_CHECKING:
    from metering.wiring.connection import RegionConnection

batch = typer.Typer(help="One batch: its verdict, and all that became of it.", no_args_is_help=True)

_EXAMPLES = """Examples:

    metering batch show edge-7f3a-000184
    metering batch show edge-7f3a-000184 --from 2026-09 --to 2026-11

A batch whose marker has expired is found by its rows, in the range that you name.
"""


@command(batch, "show", reads=True, everywhere=True, epilog=_EXAMPLES)
def show(
    session: Session,
    batch_id: Annotated[str, typer.Argument(metavar="BATCH", help="The batch id.")],
    start: Annotated[
        str | None,
        typer.Option("--from", metavar="TIME", help="Look for its rows in this range if its marker has expired."),
    ] = None,
    end: Annotated[
        str | None, typer.Option("--to", metavar="TIME", help="Not included. Default: the end of --from, or now.")
    ] = None,
) -> None:
    """Show the story of a batch: verdict, reason, hours, commit, files, conflicts, quarantine and retries.

    Its marker and its rows must say the same; exit 1 if they do not.
    """
    from metering.wiring.answers.batches import batch_of, checked_batch_id, not_found

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

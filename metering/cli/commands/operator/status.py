"""`metering status`: one page that says how a region is, and what to do about what is not well."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

import typer

from metering.cli.all_regions import answering, connections
from metering.cli.command import Session, command, say
from metering.hours import rfc3339
from metering.operations.runbooks import command_of
from metering.reports.answer import KEEP, Answer, Column
from metering.reports.usage_answer import held_back_document

if TYPE_CHECKING:
    from metering.operations.status import RegionStatus
    from metering.reports.answer import Json

status_app = typer.Typer()

_EXAMPLES = """Examples:

    metering status
    metering status --region all --stage prod
    metering status --format json
"""

# How a cure names a runbook, if it is not a command.
_RUNBOOK = re.compile(r"(?:^|, )runbook ([a-z-]+)")

_COLUMNS = {
    "region": Column(name="region", text="copied", priority=KEEP),
    "what": Column(name="what", text="copied", priority=KEEP),
    "state": Column(name="state", text="copied", priority=KEEP),
    "value": Column(name="value", text="prose", priority=KEEP),
    "cure": Column(name="cure", text="copied", priority=KEEP),
}


@command(status_app, "status", reads=True, everywhere=True, epilog=_EXAMPLES)
def status(session: Session) -> None:
    """Show how a region is: version, completeness, queues, jobs, canary, alarms, sources, months and pager.

    Each line that is not well names its cure: a command, or a runbook. Exits with 1 if something needs a person now.
    With --region all: every region of the stage.
    """
    from metering.wiring.status import build_status

    found: list[RegionStatus] = []
    for region in connections(session):
        with answering(region.region):
            found.append(build_status(region).read())
    session.write(status_answer(found, stage=session.stage, as_of_s=int(time.time())))
    waiting = [each.region for each in found if each.needs_a_person]
    if waiting:
        say(f"A person is needed in {', '.join(waiting)}: see the lines that say act.", style="bold red")
        raise typer.Exit(1)


def _runbooks(found: list[RegionStatus], stage: str) -> tuple[str, ...]:
    """Commands that show the runbooks which cures name, to be copied."""
    named = [(each.region, name) for each in found for line in each.lines for name in _RUNBOOK.findall(line.cure)]
    return tuple(command_of(name, region=region, stage=stage) for region, name in dict.fromkeys(named))


def status_answer(found: list[RegionStatus], *, stage: str, as_of_s: int) -> Answer:
    """The lines of all regions, side by side."""
    regions: dict[str, Json] = {
        each.region: {
            "version": each.version,
            "complete_through": rfc3339(min(each.complete.through_s, as_of_s)),
            "held_back_by": held_back_document(each.complete.held_back_by),
            "periods": dict(each.periods),
            "alarms": list(each.firing),
            "figures": dict(each.figures),
        }
        for each in found
    }
    several, runbooks = len(found) > 1, _runbooks(found, stage)
    names = ("region", "what", "state", "value", "cure") if several else ("what", "state", "value", "cure")
    return Answer(
        columns=tuple(_COLUMNS[name] for name in names),
        rows=[
            {
                "region": each.region,
                "what": line.what,
                "state": line.state.value,
                "value": line.value,
                "cure": line.cure,
            }
            for each in found
            for line in each.lines
        ],
        meta={
            "stage": stage,
            "as_of": rfc3339(as_of_s),
            "well": not any(each.needs_a_person for each in found),
            "regions": regions,
        },
        title=f"Stage {stage} in {', '.join(each.region for each in found)}, as of {rfc3339(as_of_s)}",
        footer=("To read the runbooks:",) if runbooks else (),
        commands=runbooks,
    )

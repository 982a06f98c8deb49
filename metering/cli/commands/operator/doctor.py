"""`metering doctor`: does AWS do here what the service relies on?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from metering.cli.command import Session, command, say
from metering.cli.failures import WrongUsageError
from metering.reports.answer import KEEP, ROOMY, Answer, Cell, Column

if TYPE_CHECKING:
    from collections.abc import Sequence

    from metering.operations.doctor.checks import Check, Observation

doctor_app = typer.Typer()

_EXAMPLES = """Examples:

    metering doctor
    metering doctor --thorough --stage prod
    metering doctor --only missing-key --only large-put
"""
_QUICK = "It makes and deletes objects, items and queues of its own, and sends one batch of the canary's account."
_THOROUGH = (
    "It also pages whoever is subscribed, sends thousands of batches of the canary's account, puts and deletes 100,000 "
    "objects, and makes a table of its own for two minutes."
)
_COLUMNS = (
    Column(name="check", text="copied", priority=KEEP),
    Column(name="verdict", text="copied", priority=KEEP),
    Column(name="question", text="prose", priority=ROOMY),
    Column(name="saw", text="prose", priority=KEEP),
    Column(name="advice", text="prose", priority=KEEP),
)


@command(doctor_app, "doctor", reads=True, changes=True, epilog=_EXAMPLES)
def doctor(
    session: Session,
    thorough: Annotated[
        bool, typer.Option("--thorough", help="Also what costs up to a dollar, takes minutes, or pages people.")
    ] = False,
    only: Annotated[
        list[str] | None, typer.Option("--only", metavar="CHECK", help="Make this check alone; repeat it for more.")
    ] = None,
) -> None:
    """Try whether AWS does here what the service relies on: on the first day, and after a change of roles.

    Each check says ok, differs with what to do, or unknown: an emulator, or a caller without a permission, cannot show
    everything. Exits with 1 if something differs.
    """
    from metering.operations.doctor.catalogue import CHECKS
    from metering.operations.doctor.checks import Verdict, examine
    from metering.wiring.doctor import doctor_bench

    chosen = _chosen(CHECKS, only or ())
    region = session.region()
    rows: list[dict[str, Cell]] = []
    with session.deed(
        what="doctor",
        subject=" ".join(only or ()) or ("thorough" if thorough else "quick"),
        consequence=f"{_QUICK} {_THOROUGH}" if thorough else _QUICK,
    ) as done:
        bench = doctor_bench(region, thorough=thorough)
        for check, observation in examine(bench, chosen, thorough=thorough):
            say(f"{check.name}: {observation.verdict.value}")
            rows.append(_row(check, observation))
        counts = {verdict: sum(row["verdict"] == verdict.value for row in rows) for verdict in Verdict}
        done.result = ", ".join(f"{number} {verdict.value}" for verdict, number in counts.items())
    session.write(
        Answer(
            columns=_COLUMNS,
            rows=rows,
            meta={"stage": session.stage, "region": session.region_name, "thorough": thorough},
            title=f"Stage {session.stage} in {session.region_name}: {done.result}",
        )
    )
    if counts[Verdict.DIFFERS]:
        raise typer.Exit(1)


def _chosen(checks: Sequence[Check], only: Sequence[str]) -> Sequence[Check]:
    names = [check.name for check in checks]
    if unknown := [name for name in only if name not in names]:
        raise WrongUsageError(f"--only {unknown[0]} is no check.", f"The checks are {', '.join(names)}.")
    return [check for check in checks if not only or check.name in only]


def _row(check: Check, observation: Observation) -> dict[str, Cell]:
    return {
        "check": check.name,
        "verdict": observation.verdict.value,
        "question": check.question,
        "saw": observation.saw,
        "advice": observation.advice,
    }

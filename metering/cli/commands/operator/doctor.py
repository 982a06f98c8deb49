"""`metering doctor` and `runbook`: check that AWS behaves as the service expects, and show how to handle an alarm."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from metering.adapters.checkout import runbooks_dir
from metering.cli import fleet
from metering.cli.command import Session, command, say
from metering.cli.connecting import checked_region, checked_stage
from metering.cli.failures import WrongUsageError
from metering.cli.options import argument, option, switch
from metering.errors import MeteringError
from metering.operations import runbooks
from metering.operations.alarms import ALARMS, AlarmSpec, alarm_name
from metering.reports.answer import KEEP, ROOMY, Answer, Json, ListedRows, RowType, copied, prose
from metering.units import counted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from metering.operations.doctor.bench import Check, Verdict
    from metering.wiring.connection import RegionConnection


doctor_app = typer.Typer()

_EXAMPLES = """Examples:

    metering doctor
    metering doctor --thorough --stage prod
    metering doctor --only missing-key --only large-put
"""
_QUICK = (
    "It makes and deletes objects, items and queues of its own, asks the compactor one question, and sends one batch "
    "of the canary's account."
)
_THOROUGH = (
    "It also pages whoever is subscribed, sends 25,000 batches of the canary's account in three minutes, puts and "
    "deletes 100,000 objects, and makes a table of its own for two minutes."
)
_CHECKS = ListedRows(
    copied("check", "verdict", priority=KEEP), prose("question", priority=ROOMY), prose("saw", "advice", priority=KEEP)
)


@command(doctor_app, "doctor", reads=True, changes=True, epilog=_EXAMPLES)
def doctor(
    session: Session,
    thorough: Annotated[
        bool,
        switch("--thorough", "Also run checks that cost up to a dollar, take minutes, or page the people on call."),
    ] = False,
    only: Annotated[list[str] | None, option("--only", "CHECK", "Run only this check; may be repeated.")] = None,
) -> None:
    """Check that AWS behaves as the service expects: on the first day, and after a change of roles.

    Each check answers ok, differs (with a cure), or unknown if an emulator or a missing permission prevents the check.
    The exit code is 1 if any check differs.
    """
    from metering.operations.doctor.bench import NOT_HERE, Verdict, examine
    from metering.operations.doctor.catalogue import CHECKS
    from metering.wiring.fleet import doctor_bench

    chosen = _chosen(CHECKS, only or ())
    region = session.region()
    rows: list[tuple[str, Verdict, str, str, str]] = []
    with session.deed(
        what="doctor",
        subject=" ".join(only or ()) or ("thorough" if thorough else "quick"),
        consequence=f"{_QUICK} {_THOROUGH}" if thorough else _QUICK,
    ) as done:
        bench = doctor_bench(region, thorough=thorough)
        for check, observation in examine(bench, chosen, thorough=thorough):
            say(f"{check.name}: {observation.verdict.value}")
            rows.append((check.name, observation.verdict, check.question, observation.saw, observation.advice))
        counts = {verdict: sum(found is verdict for _, found, *_ in rows) for verdict in Verdict}
        done.result = ", ".join(f"{number} {verdict.value}" for verdict, number in counts.items())
    title = f"Stage {session.stage} in {session.region_name}: {done.result}"
    meta: dict[str, Json] = {"stage": session.stage, "region": session.region_name, "thorough": thorough}
    session.write(_CHECKS.answer(rows, meta=meta, title=title))
    if away := sum(saw.startswith(NOT_HERE) for _, _, _, saw, _ in rows):
        say(f"As expected: an emulator cannot answer {counted(away, 'check')} about AWS itself.")
    if counts[Verdict.DIFFERS]:
        raise typer.Exit(1)


def _chosen(checks: Sequence[Check], only: Sequence[str]) -> Sequence[Check]:
    names = [check.name for check in checks]
    if unknown := [name for name in only if name not in names]:
        raise WrongUsageError(f"--only {unknown[0]} is no check.", f"The checks are {', '.join(names)}.")
    return [check for check in checks if not only or check.name in only]


runbook_app = typer.Typer()

_COMMANDS = ListedRows(copied("part", priority=ROOMY), copied("command", priority=KEEP))
_UNKNOWN = "unknown"


@command(
    runbook_app,
    "runbook",
    "metering runbook",
    "metering runbook dead-letters --region eu-west-1 --stage prod",
    "metering runbook metering-prod-dead-letters",
    reads=True,
    everywhere=True,
)
def runbook(
    session: Session,
    name: Annotated[
        str | None, argument("ALARM", "Name or ARN of an alarm, as stated in an alert. Default: list all.")
    ] = None,
    raw: Annotated[bool, switch("--raw", "Print the Markdown source of the page, even on a terminal.")] = False,
) -> None:
    """Show what to do about an alarm: its runbook, with the region and the stage in every command.

    Without a name, the command lists all alarms with their state and their runbook, active alarms first. The command
    also works without a network, but then it shows no alarm states.
    """
    if name is None:
        _list(session)
        return
    if fleet.asks_for_all(session):
        raise WrongUsageError("The commands of a runbook are for one region.", "Name it, as in --region eu-west-1.")
    subject = runbooks.subject_of(name)
    region, stage = _place(session, subject)
    page = (runbooks_dir() / f"{runbooks.page_of(subject.runbook)}.md").read_text(encoding="utf-8")
    text = runbooks.placed(runbooks.runbook_in(page, subject.runbook), region=region, stage=stage)
    if session.form is not None or session.output is not None:
        session.write(_answer(subject.runbook, text, region=region, stage=stage))
    elif raw or not sys.stdout.isatty():
        sys.stdout.write(text)
    else:
        _print(text, region=region, stage=stage)


def _place(session: Session, subject: runbooks.Subject) -> tuple[str, str]:
    """Region and stage for the printed commands: from the options, else the alarm's name, else the defaults."""
    if subject.stage and session.named_stage and session.named_stage != subject.stage:
        raise WrongUsageError(
            f"The alarm is of stage {subject.stage}, and --stage names {session.named_stage}.", "Leave --stage out."
        )
    if subject.region and session.named_region and session.named_region != subject.region:
        raise WrongUsageError(
            f"The alarm is in {subject.region}, and --region names {session.named_region}.", "Leave --region out."
        )
    # An alert is only an e-mail, so its stage and region go into a command only if they are valid names.
    return checked_region(subject.region or session.stated_region), checked_stage(subject.stage or session.stage)


def _print(text: str, *, region: str, stage: str) -> None:
    from rich.console import Console

    from metering.cli.printing.table import print_page

    console = Console()
    print_page(text, console)
    others = runbooks.linked_runbooks(text)
    if others:
        console.print("\nThe runbooks that it names:\n")
    for other in others:
        console.print(
            f"    {runbooks.command_of(other, region=region, stage=stage)}", style="bold cyan", soft_wrap=True
        )


def _answer(name: str, text: str, *, region: str, stage: str) -> Answer:
    return _COMMANDS.answer(
        runbooks.commands_by_part(text),
        document={
            "runbook": name,
            "region": region,
            "stage": stage,
            "alarms": [alarm_name(stage, spec.name) for spec in runbooks.alarms_of(name)],
            "commands": [{"part": part, "command": line} for part, line in runbooks.commands_by_part(text)],
            "text": text,
        },
    )


def _list(session: Session) -> None:
    if fleet.asks_for_all(session):
        session.write(fleet.everywhere(session, lambda region: _alarms(region.stage, _states_of(region))))
        region = "REGION"
    else:
        states = _states(session)
        session.write(_alarms(session.stage, states))
        region = session.stated_region if states is None else session.region_name
    say(f"To read one: {runbooks.command_of('RUNBOOK', region=region, stage=session.stage)}")


def _alarms(stage: str, states: Mapping[str, str] | None) -> Answer:
    def state(alarm: AlarmSpec) -> str:
        return _UNKNOWN if states is None else states.get(alarm_name(stage, alarm.name), "not deployed")

    table: RowType[AlarmSpec] = RowType(
        copied("alarm", of=lambda it: it.name, priority=KEEP),
        copied("severity"),
        copied("state", of=state, priority=KEEP),
        copied("runbook", priority=KEEP),
        prose("meaning", priority=ROOMY),
    )
    # Alarms that are firing come first.
    return table.answer(sorted(ALARMS, key=lambda alarm: state(alarm) != "ALARM"))


def _states_of(region: RegionConnection) -> dict[str, str]:
    return {alarm.name: alarm.state for alarm in region.alarms.states()}


def _states(session: Session) -> Mapping[str, str] | None:
    """State of each alarm, by the alarm's physical name; None if the region does not respond."""
    from metering.adapters.aws.errors import refusals_explained

    try:
        with refusals_explained():
            return _states_of(session.region())
    except MeteringError as error:
        say(f"No state is known: {error}", "yellow")
        return None

"""`metering region`: build regions without editing a file, show their state, take them out of service."""

from __future__ import annotations

from typing import Annotated

import typer

from metering.adapters.checkout import checkout_dir
from metering.cli.command import Session, command, say
from metering.cli.commands.platform.states import (
    DEPLOYED_COLUMNS,
    STATE_COLUMNS,
    check_rules,
    deployed_row,
    ended,
    fail_unless_ready,
    need_home,
    state_row,
    states_answer,
    tell_changes,
    write_states,
)
from metering.cli.failures import WrongUsageError
from metering.cli.fleet import deploying_fleet, home_of
from metering.cli.places import checked_region
from metering.cli.stages.options import (
    ApiOption,
    FileOption,
    NoPagerOption,
    OutsideRulesOption,
    SetOption,
    SettingsOptions,
    UnsetOption,
    VerboseOption,
)
from metering.errors import OperationFailedError
from metering.fleet.regions import Answered, Phase, RegionState
from metering.reports.answer import KEEP, Answer, Cell, Column
from metering.version import package_version

region = typer.Typer(
    help="Regions of the stage: build them, show their state, take them out of service. Every command may be "
    "stopped and run again. The home region keeps the state of all: the stage's own, or the one that --region names.",
    no_args_is_help=True,
)

RegionArgument = Annotated[str, typer.Argument(metavar="REGION", help="Region name, such as ap-southeast-9.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Show what would be done, but do nothing.")]
RedeployOption = Annotated[bool, typer.Option("--redeploy", help="Also deploy this version to regions that are ready.")]


@command(region, "plan", reads=True, everywhere=True)
def plan(
    session: Session, settings: SetOption = None, unset: UnsetOption = None, settings_file: FileOption = None
) -> None:
    """Show which regions `reconcile` would build, in which waves, and why it skips others."""
    _write_plan(session, SettingsOptions.of(settings, unset, settings_file), redeploy=False)


def _write_plan(session: Session, options: SettingsOptions, *, redeploy: bool) -> None:
    fleet = deploying_fleet(session, options=options)
    found = fleet.manager.plan(redeploy=redeploy)
    tell_changes(fleet, [name for wave in found.waves for name in wave])
    planned = {name for wave in found.waves for name in wave}
    rows: list[dict[str, Cell]] = [
        {"region": name, "wave": number, "plan": "build"} for number, wave in enumerate(found.waves, 1) for name in wave
    ]
    rows += [{"region": name, "wave": None, "plan": "ready"} for name in found.ready if name not in planned]
    rows += [{"region": name, "wave": None, "plan": why} for name, why in sorted(found.skipped.items())]
    columns = (
        Column(name="region", text="copied", priority=KEEP),
        Column(name="wave", kind="integer"),
        Column(name="plan", text="prose", priority=KEEP),
    )
    session.write(Answer(columns=columns, rows=rows, empty="No region is known."))


@command(
    region, "add", reads=True, changes=True, checkout=True, epilog="Example:\n\n    metering region add ap-southeast-9"
)
def add(
    session: Session,
    name: RegionArgument,
    settings: SetOption = None,
    unset: UnsetOption = None,
    settings_file: FileOption = None,
    api: ApiOption = None,
    dry_run: DryRunOption = False,
    no_pager: NoPagerOption = False,
    redeploy: RedeployOption = False,
    outside_rules: OutsideRulesOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Bring a region to ready: opt in, bootstrap, preflight, deploy, canary, bake.

    It continues where an earlier run stopped. A region that the account API does not list is built too; one that the
    stage's own rules leave out only with --outside-rules.
    """
    checked_region(name, every=False)
    if not dry_run:
        # Said before the first step is done, and not by a step that failed.
        checkout_dir()
    options = SettingsOptions.of(settings, unset, settings_file, api=api)
    fleet = deploying_fleet(session, options=options, no_pager=no_pager, verbose=verbose)
    before = fleet.states.load(name) or RegionState(region=name)
    if before.phase is Phase.READY and not redeploy:
        _refuse_in_vain(name, options)
        say(f"{name} is ready already. Use --redeploy to deploy this version.")
        session.write(states_answer([before]))
        return
    outside = check_rules(fleet, [name], outside=outside_rules)
    changes = tell_changes(fleet, [name])
    if dry_run:
        todo = fleet.manager.todo(name, redeploy=redeploy)
        say(f"{name} is {before.phase}; to do: {', '.join(todo) or 'nothing'}")
        session.write(states_answer([before]))
        return
    consequence = f"Deploys version {package_version()} of the service to {name}. {changes}{outside}"
    with session.deed(what="region add", subject=name, consequence=consequence, ground=home_of(session, fleet)) as done:
        if name != fleet.home:
            need_home(fleet)
        # A run that did not end may have deployed other settings.
        again = redeploy or bool(fleet.settings.change(name).differences)
        state = fleet.manager.add(name, redeploy=again)
        done.result, done.failed = f"{ended([state])}. {changes}", state.phase is not Phase.READY
    write_states(session, [state])
    fail_unless_ready([state])


@command(region, "reconcile", reads=True, everywhere=True, changes=True, checkout=True)
def reconcile(
    session: Session,
    settings: SetOption = None,
    unset: UnsetOption = None,
    settings_file: FileOption = None,
    dry_run: DryRunOption = False,
    no_pager: NoPagerOption = False,
    redeploy: RedeployOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Build all missing regions that the account has and the stage's rules allow, wave by wave."""
    options = SettingsOptions.of(settings, unset, settings_file)
    if dry_run:
        _write_plan(session, options, redeploy=redeploy)
        return
    # As in `add`.
    checkout_dir()
    fleet = deploying_fleet(session, options=options, no_pager=no_pager, verbose=verbose)
    planned = fleet.manager.plan(redeploy=redeploy)
    names = [name for wave in planned.waves for name in wave]
    if not names:
        say("No region is missing.")
        write_states(session, [*fleet.states.everything()])
        return
    changes = tell_changes(fleet, names)
    consequence = f"Deploys version {package_version()} of the service to {', '.join(names)}. {changes}"
    ground = home_of(session, fleet)
    with session.deed(what="region reconcile", subject="", consequence=consequence, ground=ground) as done:
        result = fleet.manager.reconcile(redeploy=redeploy, plan=planned)
        done.result, done.failed = f"{ended(result.built)}. {changes}", not result.succeeded
    write_states(session, [*fleet.states.everything()])
    fail_unless_ready(result.built)
    if not result.succeeded:
        raise typer.Exit(1)


@command(region, "status", reads=True, everywhere=True)
def status(
    session: Session,
    name: Annotated[str | None, typer.Argument(metavar="REGION", help="One region. Default: all.")] = None,
    findings: Annotated[bool, typer.Option("--findings", help="Show the findings of the preflight checks.")] = False,
    drift: Annotated[
        bool, typer.Option("--drift", help="Let CloudFormation compare the stacks with their resources.")
    ] = False,
) -> None:
    """Show the state of each region, its stacks, their drift, and how many subscribers are paged."""
    fleet = deploying_fleet(session)
    known = {state.region: state for state in fleet.states.everything()}
    if name is not None:
        checked_region(name, every=False)
    # The home region may be deployed and have no state: `local up` deploys it without the steps.
    names = [name] if name is not None else sorted({fleet.home, *known})
    states = [known.get(each) or RegionState(region=each) for each in names]
    if findings:
        session.write(_findings_answer(states))
        return
    rows = [{**state_row(state), **deployed_row(fleet, state, detect=drift)} for state in states]
    session.write(Answer(columns=(*STATE_COLUMNS, *DEPLOYED_COLUMNS), rows=rows))
    for state, row in zip(states, rows, strict=True):
        if row["pagers"] == 0 and state.phase is not Phase.REMOVED:
            say(f"{row['region']}: the page topic has no confirmed subscription, so alarms page no one.", "yellow")
        if "DRIFTED" in str(row["drift"]):
            say(f"{row['region']}: resources were changed by hand; CloudFormation's console shows which.", "yellow")


@command(region, "remove", reads=True, changes=True)
def remove(session: Session, name: RegionArgument, dry_run: DryRunOption = False) -> None:
    """Take a region out of service: stop its intake, drain it, delete its pipeline, API and alarms. Its data stays.

    It is refused while batches are in flight or in the dead-letter queue, and to the home region while others stand.
    """
    checked_region(name, every=False)
    fleet = deploying_fleet(session)
    if dry_run:
        try:
            fleet.removal.check(name)
            say(f"{name} would lose its pipeline, API and observability stacks")
        except OperationFailedError as error:
            say(f"{name} would be refused: {error} {error.advice}", "yellow")
        session.write(states_answer([fleet.states.load(name) or RegionState(region=name)]))
        return
    fleet.removal.check(name)
    consequence = f"{name} takes in no more batches, and its pipeline, API and alarms are deleted. Its data stays."
    with session.deed(
        what="region remove", subject=name, consequence=consequence, typed=name, ground=home_of(session, fleet)
    ) as done:
        state = fleet.removal.remove(name)
        done.result = ended([state])
    session.write(states_answer([state]))


def _refuse_in_vain(name: str, options: SettingsOptions) -> None:
    """Refuse settings for a region that would not be deployed."""
    if options.given or options.unset:
        raise WrongUsageError(f"{name} is ready already, so nothing was set.", "Add --redeploy to deploy it.")


def _findings_answer(states: list[RegionState]) -> Answer:
    rows: list[dict[str, Cell]] = [
        {"region": s.region, "check": f.check, "answer": f.answered.value, "detail": f.detail}
        for s in states
        for f in sorted(s.findings, key=lambda each: (each.answered is Answered.PASSED, each.check))
    ]
    columns = (
        Column(name="region", text="copied", priority=KEEP),
        Column(name="check", text="copied", priority=KEEP),
        Column(name="answer", text="copied", priority=KEEP),
        Column(name="detail", text="prose"),
    )
    return Answer(columns=columns, rows=rows, empty="No findings: the preflight checks did not run.")

"""`metering region`: build regions without editing a file, show their state, take them out of service."""

from typing import Annotated

import typer

from metering.adapters.checkout import checkout_dir
from metering.cli.command import Session, command, say
from metering.cli.failures import CommandFailedError, WrongUsageError
from metering.cli.fleet import fleet_of
from metering.errors import SettingsError
from metering.fleet.regions import Answered, Phase, RegionState
from metering.hours import rfc3339
from metering.reports.answer import Answer, Cell, Column
from metering.usage.locations import is_region
from metering.wiring.fleet import Fleet

region = typer.Typer(
    help="Regions of the stage: build them, show their state, take them out of service. Every command may be "
    "stopped and run again. The home region keeps the state of all: the stage's own, or the one that --region names.",
    no_args_is_help=True,
)

RegionArgument = Annotated[str, typer.Argument(metavar="REGION", help="Region name, such as ap-southeast-9.")]
SettingsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="FIELD=VALUE", help="A field of the stage's configuration (metering/fleet/stage.py)."
    ),
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Show what would be done, but do nothing.")]
NoPagerOption = Annotated[bool, typer.Option("--no-pager", help="Accept a region whose alarms would page no one.")]
VerboseOption = Annotated[bool, typer.Option("--verbose", "-v", help="Show each resource as it is created.")]
RedeployOption = Annotated[bool, typer.Option("--redeploy", help="Also deploy this version to regions that are ready.")]

_COLUMNS = (
    Column(name="region"),
    Column(name="state"),
    Column(name="step"),
    Column(name="reason"),
    Column(name="next", title="next run"),
    Column(name="left_out", title="without"),
    Column(name="architecture"),
    Column(name="listed", kind="flag"),
    Column(name="attempts", kind="integer"),
    Column(name="updated", kind="time"),
)


@command(region, "plan", reads=True)
def plan(session: Session, settings: SettingsOption = None) -> None:
    """Show which regions `reconcile` would build, in which waves, and why it skips others."""
    _write_plan(session, settings, redeploy=False)


def _write_plan(session: Session, settings: list[str] | None, *, redeploy: bool) -> None:
    found = fleet_of(session, settings=settings or ()).manager.plan(redeploy=redeploy)
    planned = {name for wave in found.waves for name in wave}
    rows: list[dict[str, Cell]] = [
        {"region": name, "wave": number, "plan": "build"} for number, wave in enumerate(found.waves, 1) for name in wave
    ]
    rows += [{"region": name, "wave": None, "plan": "ready"} for name in found.ready if name not in planned]
    rows += [{"region": name, "wave": None, "plan": why} for name, why in sorted(found.skipped.items())]
    columns = (Column(name="region"), Column(name="wave", kind="integer"), Column(name="plan"))
    session.write(Answer(columns=columns, rows=rows))


@command(region, "add", reads=True, epilog="Example:\n\n    metering region add ap-southeast-9")
def add(
    session: Session,
    name: RegionArgument,
    settings: SettingsOption = None,
    dry_run: DryRunOption = False,
    no_pager: NoPagerOption = False,
    redeploy: RedeployOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Bring a region to ready: opt in, bootstrap, preflight, deploy, canary, bake.

    It continues where an earlier run stopped. A region that the account API does not list is built too.
    """
    _check_name(name)
    if not dry_run:
        # Said before the first step is done, and not by a step that failed.
        checkout_dir()
    fleet = fleet_of(session, settings=settings or (), no_pager=no_pager, verbose=verbose)
    before = fleet.states.load(name) or RegionState(region=name)
    if dry_run:
        todo = fleet.manager.todo(name, redeploy=redeploy)
        say(f"{name} is {before.phase}; to do: {', '.join(todo) or 'nothing'}")
        session.write(_answer([before]))
        return
    if before.phase is Phase.READY and not redeploy:
        say(f"{name} is ready already. Use --redeploy to deploy this version.")
    if name != fleet.rules.home:
        _need_home(fleet)
    state = fleet.manager.add(name, redeploy=redeploy)
    session.write(_answer([state]))
    _fail_unless_ready([state])


@command(region, "reconcile", reads=True)
def reconcile(
    session: Session,
    settings: SettingsOption = None,
    dry_run: DryRunOption = False,
    no_pager: NoPagerOption = False,
    redeploy: RedeployOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Build all missing regions that the account has and the stage's rules allow, wave by wave."""
    if dry_run:
        _write_plan(session, settings, redeploy=redeploy)
        return
    # As in `add`.
    checkout_dir()
    fleet = fleet_of(session, settings=settings or (), no_pager=no_pager, verbose=verbose)
    result = fleet.manager.reconcile(redeploy=redeploy)
    if not result.built:
        say("No region is missing.")
    session.write(_answer([*fleet.states.everything()]))
    _fail_unless_ready(result.built)
    if not result.succeeded:
        raise typer.Exit(1)


@command(region, "status", reads=True)
def status(
    session: Session,
    name: Annotated[str | None, typer.Argument(metavar="REGION", help="One region. Default: all.")] = None,
    findings: Annotated[bool, typer.Option("--findings", help="Show the findings of the preflight checks.")] = False,
    drift: Annotated[
        bool, typer.Option("--drift", help="Let CloudFormation compare the stacks with their resources.")
    ] = False,
) -> None:
    """Show the state of each region, its stacks, their drift, and how many subscribers are paged."""
    fleet = fleet_of(session)
    known = {state.region: state for state in fleet.states.everything()}
    if name is not None:
        _check_name(name)
    # The home region may be deployed and have no state: `local up` deploys it without the steps.
    names = [name] if name is not None else sorted({fleet.rules.home, *known})
    states = [known.get(each) or RegionState(region=each) for each in names]
    if findings:
        session.write(_findings_answer(states))
        return
    rows = [{**_row(state), **_deployed(fleet, state, detect=drift)} for state in states]
    extra = (Column(name="stacks"), Column(name="drift"), Column(name="pagers", kind="integer"))
    session.write(Answer(columns=(*_COLUMNS, *extra), rows=rows))
    for state, row in zip(states, rows, strict=True):
        if row["pagers"] == 0 and state.phase is not Phase.REMOVED:
            say(f"{row['region']}: the page topic has no confirmed subscription, so alarms page no one.", "yellow")
        if "DRIFTED" in str(row["drift"]):
            say(f"{row['region']}: resources were changed by hand; CloudFormation's console shows which.", "yellow")


@command(region, "remove", reads=True)
def remove(session: Session, name: RegionArgument, dry_run: DryRunOption = False) -> None:
    """Take a region out of service: stop its intake, drain it, delete its pipeline and alarms. Its data stays.

    It is refused while batches are in flight or in the dead-letter queue.
    """
    _check_name(name)
    fleet = fleet_of(session)
    if dry_run:
        waiting = ", ".join(f"{n} {kind}" for kind, n in fleet.ports.deployed.in_flight(name).items() if n)
        refused = f"would be refused: in flight are {waiting}"
        say(f"{name} {refused if waiting else 'would lose its pipeline and observability stacks'}")
        session.write(_answer([fleet.states.load(name) or RegionState(region=name)]))
        return
    session.write(_answer([fleet.removal.remove(name)]))


def _check_name(name: str) -> None:
    if not is_region(name):
        raise WrongUsageError(f"{name} is not the name of a region.", "Write it as eu-west-1 or ap-southeast-9.")


def _need_home(fleet: Fleet) -> None:
    """Build the home region first if it is missing: it keeps the state of all regions."""
    home = fleet.rules.home
    if fleet.ports.stacks.describe(home, fleet.ports.builder.stacks().data) is None:
        fleet.say(home, "the home region is not built yet; it comes first")
        _fail_unless_ready([fleet.manager.add(home)])


def _fail_unless_ready(states: list[RegionState] | tuple[RegionState, ...]) -> None:
    failed = [state for state in states if state.phase is not Phase.READY]
    if failed:
        first = failed[0]
        raise CommandFailedError(f"{first.region} is not ready: {first.step}: {first.reason}", first.advice)


def _answer(states: list[RegionState]) -> Answer:
    return Answer(columns=_COLUMNS, rows=[_row(state) for state in states])


def _row(state: RegionState) -> dict[str, Cell]:
    return {
        "region": state.region,
        "state": state.phase.value,
        "step": "" if state.step is None else state.step.value,
        "reason": state.reason,
        "next": state.advice,
        "left_out": ", ".join(state.left_out),
        "architecture": state.architecture,
        "listed": state.listed,
        "attempts": state.attempts,
        "updated": rfc3339(state.updated_s) if state.updated_s else None,
    }


def _deployed(fleet: Fleet, state: RegionState, *, detect: bool) -> dict[str, Cell]:
    ports = fleet.ports
    found = [s for s in (ports.stacks.describe(state.region, name) for name in ports.builder.stacks().in_order) if s]
    drift = {s.name: ports.stacks.detect_drift(state.region, s.name) if detect else s.drift for s in found}
    try:
        pagers: int | None = ports.deployed.pager_subscriptions(state.region)
    except SettingsError:
        pagers = None
    by_hand = state.phase is Phase.ABSENT and found
    return {
        **({"reason": f"deployed without `region add {state.region}`, which takes it over"} if by_hand else {}),
        "stacks": ", ".join(f"{s.name.rpartition('-')[2]} {s.status}" for s in found),
        "drift": ", ".join(f"{name.rpartition('-')[2]} {value}" for name, value in drift.items()),
        "pagers": pagers,
    }


def _findings_answer(states: list[RegionState]) -> Answer:
    rows: list[dict[str, Cell]] = [
        {"region": s.region, "check": f.check, "answer": f.answered.value, "detail": f.detail}
        for s in states
        for f in sorted(s.findings, key=lambda each: (each.answered is Answered.PASSED, each.check))
    ]
    columns = (Column(name="region"), Column(name="check"), Column(name="answer"), Column(name="detail"))
    return Answer(columns=columns, rows=rows)

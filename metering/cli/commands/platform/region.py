"""`metering region`: build regions without editing files, show their state, and take them out of service."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from metering.adapters.checkout import need
from metering.cli import connecting, stages
from metering.cli.command import Session, command, say
from metering.cli.failures import CommandFailedError, WrongUsageError
from metering.cli.fleet import changes_of, deploying_fleet, home_of
from metering.cli.options import argument, family, switch
from metering.cli.printing.output import Format, chosen_format
from metering.errors import OperationFailedError, SettingsError
from metering.fleet.ports import LAST_SILENT_VERSION, StackStatus
from metering.fleet.regions import Answered, Phase, RegionState
from metering.reports.answer import KEEP, ROOMY, Answer, Cell, ListedRows, RowType, copied, flag, integer, prose, timed
from metering.version import package_version

if TYPE_CHECKING:
    from collections.abc import Sequence

    from metering.wiring.fleet import Fleet


STATES: RowType[RegionState] = RowType(
    copied("region", priority=KEEP),
    copied("state", of=lambda it: it.phase, priority=KEEP),
    copied("step", of=lambda it: it.step or ""),
    prose("reason"),
    prose("next", of=lambda it: it.advice, title="next run"),
    prose("left_out", title="without", priority=ROOMY + 1),
    copied("architecture", priority=ROOMY + 3),
    flag("listed", priority=ROOMY + 3, about="by the account API"),
    integer("attempts", priority=ROOMY + 2, about="of its step"),
    timed("updated", of=lambda it: it.updated_s or None, priority=ROOMY + 1),
)
_DEPLOYED = ListedRows(
    prose("stacks", priority=ROOMY),
    prose("drift", priority=ROOMY + 1),
    integer("pagers", about="confirmed subscriptions of the page topic"),
    copied("version"),
    integer("data_format", title="format", priority=ROOMY + 2),
    copied("commit", priority=ROOMY + 2),
    flag("rehearsal", priority=ROOMY + 3, about="of a stage of an account, on an emulator"),
)


def need_home(fleet: Fleet) -> None:
    """If there is no home region, build it first: it stores the state of all regions."""
    home = fleet.home
    if fleet.ports.stacks.describe(home, fleet.ports.builder.stacks().data) is None:
        fleet.say(home, "the home region is not built yet; it comes first")
        fail_unless_ready([fleet.manager.add(home)])


def check_rules(fleet: Fleet, regions: Sequence[str], *, outside: bool) -> str:
    """Refuse to build regions outside the stage's own rules; the base's rules refuse nothing, and repairs are allowed.

    Args:
        fleet: The stage's regions.
        regions: Regions that are to be built or deployed to.
        outside: `--outside-rules` was given.

    Returns:
        A sentence about regions outside the rules, with a leading space; empty if there are none.

    Raises:
        WrongUsageError: A region is outside the rules, but `outside` is false.
    """
    with stages.settings_explained():
        settings = fleet.settings.of(fleet.home)
    given = [name for name in ("rollout.allow", "rollout.deny") if settings.source(name) in {"file", "set"}]
    rules = settings.config.rollout
    excluded = [name for name in regions if name != rules.home and rules.excludes(name)]
    strangers = [name for name in excluded if not _stands(fleet.states.load(name))]
    if not given or not strangers:
        return ""
    left_out = f"{', '.join(strangers)}: outside the rules of stage {settings.config.stage} ({', '.join(given)})"
    if not outside:
        raise WrongUsageError(
            f"{left_out}. Nothing is built there.",
            f"Its home region is {rules.home}; all that it may have: metering region plan --stage "
            f"{settings.config.stage}. To build it all the same: --outside-rules.",
        )
    say(f"{left_out}, and --outside-rules was given.", "yellow")
    return f" {left_out}, by --outside-rules."


def _stands(state: RegionState | None) -> bool:
    return state is not None and state.phase not in {Phase.ABSENT, Phase.REMOVED}


def fail_unless_ready(states: Sequence[RegionState]) -> None:
    """Fail if a region is not ready. The reason has already been printed, when the region failed.

    Raises:
        CommandFailedError: A region is not ready; the error has the advice for the first such region.
    """
    first = next((state for state in states if state.phase is not Phase.READY), None)
    if first is not None:
        raise CommandFailedError(f"{first.region} is not ready: it failed at {first.step}.", first.advice)


def tell_changes(fleet: Fleet, regions: Sequence[str]) -> str:
    """Print the changes to the regions' settings; returns one sentence about these changes."""
    lines = changes_of(fleet, regions)
    for line in lines:
        say(line, "yellow")
    if not lines:
        for text, names in _unchanged(fleet, regions).items():
            say(f"{', '.join(names)}: settings: {text}")
    return f"Settings: {' | '.join(lines)}." if lines else "Settings: nothing changes."


def _unchanged(fleet: Fleet, regions: Sequence[str]) -> dict[str, list[str]]:
    """Group regions, whose settings are unchanged or new, by the text to print about the settings."""
    found: dict[str, list[str]] = {}
    for region in regions:
        text = "nothing changes"
        if fleet.settings.before(region).given is None:
            given = fleet.settings.of(region).given
            names = sorted({*given.by_file, *given.by_option})
            text = f"as stage {given.like}{', but ' if names else ''}{', '.join(names)}"
        found.setdefault(text, []).append(region)
    return found


def write_states(session: Session, states: Sequence[RegionState]) -> None:
    """Write the states of regions, but after a failure no table, because the reason was already printed."""
    form = chosen_format(session.form, session.output, terminal=sys.stdout.isatty())
    if form is Format.TABLE and any(state.phase is Phase.FAILED for state in states):
        return
    session.write(STATES.answer(states))


def ended(states: Sequence[RegionState]) -> str:
    """Outcome of each region, for the audit trail."""
    return "; ".join(
        f"{state.region} is {state.phase}" + (f": {state.step}: {state.reason}" if state.reason else "")
        for state in states
    )


def deployed_row(fleet: Fleet, state: RegionState, *, detect: bool) -> dict[str, Cell]:
    """Table cells about a region's stacks; if the region has no recorded state, also about its problem.

    With `detect`, CloudFormation compares the stacks with their resources.
    """
    ports = fleet.ports
    own = _found(fleet, state.region, *ports.builder.stacks().in_order)
    # The region's first deployment may have failed at the bootstrap. The stacks' roles see only the stage's stacks.
    toolkit = fleet.config.bootstrap.toolkit_stack
    broken = [s for s in own or _found(fleet, state.region, toolkit) if not s.complete and not s.busy]
    drift = {s.name: ports.stacks.detect_drift(state.region, s.name) if detect else s.drift for s in own}
    return {
        **(_unknown(state, own, broken, stage=fleet.asked.stage) if _unnoted(state, own) else {}),
        **_stuck(state.region, broken),
        "stacks": ", ".join(f"{_part(s)} {s.status}" for s in (*own, *(b for b in broken if b not in own))),
        "drift": ", ".join(f"{name.rpartition('-')[2]} {value}" for name, value in drift.items()),
        "pagers": _pagers(fleet, state.region),
        **_release(own),
    }


def _found(fleet: Fleet, region: str, *names: str) -> list[StackStatus]:
    return [stack for name in names if (stack := fleet.ports.stacks.describe(region, name))]


def _unnoted(state: RegionState, own: Sequence[StackStatus]) -> bool:
    """Whether the region's stacks were deployed without recording its state, as `local up` or the CDK does."""
    return state.phase is Phase.ABSENT or (state.phase is Phase.REMOVED and _run(own))


def _run(own: Sequence[StackStatus]) -> bool:
    return any(stack.name.endswith("-pipeline") for stack in own)


def _unknown(
    state: RegionState, own: Sequence[StackStatus], broken: Sequence[StackStatus], *, stage: str
) -> dict[str, Cell]:
    """Table cells for a region that has stacks, but whose recorded state is missing or outdated."""
    if broken:
        first = broken[0]
        again = "deleted and made again" if first.deletable else "deployed again"
        return {
            "state": Phase.FAILED.value,
            "reason": str(first),
            "next": f"It is {again}: metering deploy --region {state.region} --stage {stage}",
        }
    if own:
        named = {"state": "deployed"} if _run(own) else {}
        return {**named, "reason": f"deployed without `region add {state.region} --stage {stage}`, which takes it over"}
    return {}


def _stuck(region: str, broken: Sequence[StackStatus]) -> dict[str, Cell]:
    """Table cells about a stack that only a person can repair, even if the region's recorded state is `ready`."""
    return next(({"reason": str(each), "next": cure} for each in broken if (cure := each.cure(region))), {})


def _release(stacks: Sequence[StackStatus]) -> dict[str, Cell]:
    if not stacks:
        return {"version": None, "data_format": None, "commit": None, "rehearsal": None}
    # The functions' release is used, because it is the code that runs. A region out of service has only its data stack.
    telling = next((stack for stack in stacks if stack.name.endswith("-pipeline")), stacks[0])
    release = telling.release
    return {
        "version": release.version if release else f"{LAST_SILENT_VERSION} or older",
        "data_format": release.data_format if release else None,
        "commit": release.commit if release else None,
        "rehearsal": telling.rehearsal,
    }


def _pagers(fleet: Fleet, region: str) -> int | None:
    try:
        return fleet.ports.deployed.pager_subscriptions(region)
    except SettingsError:
        return None


def _part(stack: StackStatus) -> str:
    return stack.name.rpartition("-")[2]


region = family(
    "Regions of the stage: build them, show their state, take them out of service. Every command may be stopped and "
    "run again. The home region stores the state of all regions; it is the stage's own, or the one that --region "
    "names."
)

RegionArgument = Annotated[str, argument("REGION", "Region name, such as ap-southeast-9.")]
DryRunOption = Annotated[bool, switch("--dry-run", "Show what would be done, but do nothing.")]
RedeployOption = Annotated[bool, switch("--redeploy", "Also deploy this version to regions that are ready.")]


@command(region, "plan", reads=True, everywhere=True)
def plan(
    session: Session,
    settings: stages.SetOption = None,
    unset: stages.UnsetOption = None,
    settings_file: stages.FileOption = None,
) -> None:
    """Show which regions `reconcile` would build, in which waves, and why it would skip others."""
    _write_plan(session, stages.SettingsOptions.of(settings, unset, settings_file), redeploy=False)


def _write_plan(session: Session, options: stages.SettingsOptions, *, redeploy: bool) -> None:
    fleet = deploying_fleet(session, options=options)
    found = fleet.manager.plan(redeploy=redeploy)
    tell_changes(fleet, [name for wave in found.waves for name in wave])
    planned = {name for wave in found.waves for name in wave}
    lines: list[tuple[str, int | None, str]] = [
        *((name, number, "build") for number, wave in enumerate(found.waves, 1) for name in wave),
        *((name, None, "ready") for name in found.ready if name not in planned),
        *((name, None, why) for name, why in sorted(found.skipped.items())),
    ]
    table = ListedRows(copied("region", priority=KEEP), integer("wave"), prose("plan", priority=KEEP))
    session.write(table.answer(lines, empty="No region is known."))


@command(region, "add", "metering region add ap-southeast-9", reads=True, changes=True)
def add(
    session: Session,
    name: RegionArgument,
    settings: stages.SetOption = None,
    unset: stages.UnsetOption = None,
    settings_file: stages.FileOption = None,
    api: stages.ApiOption = None,
    dry_run: DryRunOption = False,
    no_pager: stages.NoPagerOption = False,
    redeploy: RedeployOption = False,
    outside_rules: stages.OutsideRulesOption = False,
    without_home: stages.WithoutHomeOption = False,
    verbose: stages.VerboseOption = False,
) -> None:
    """Build a region until it is ready: opt in, bootstrap, preflight, deploy, canary, bake.

    The command resumes where an earlier run stopped. A region is built even if the account API does not list it. A
    region excluded by the stage's rules requires --outside-rules.
    """
    connecting.checked_region(name, every=False)
    if not dry_run:
        # The check fails before the first step runs, not within a step.
        need("deploy")
    options = stages.SettingsOptions.of(settings, unset, settings_file, api=api)
    fleet = deploying_fleet(
        session, options=options, no_pager=no_pager, verbose=verbose, without_home=name if without_home else ""
    )
    before = fleet.states.load(name) or RegionState(region=name)
    if before.phase is Phase.READY and not redeploy:
        if options.given or options.unset:
            raise WrongUsageError(f"{name} is ready already, so nothing was set.", "Add --redeploy to deploy it.")
        say(f"{name} is ready already. Use --redeploy to deploy this version.")
        session.write(STATES.answer([before]))
        return
    outside = check_rules(fleet, [name], outside=outside_rules)
    changes = tell_changes(fleet, [name])
    if dry_run:
        todo = fleet.manager.todo(name, redeploy=redeploy)
        say(f"{name} is {before.phase}; to do: {', '.join(todo) or 'nothing'}")
        session.write(STATES.answer([before]))
        return
    consequence = f"Deploys version {package_version()} of the service to {name}. {changes}{outside}"
    with session.deed(what="region add", subject=name, consequence=consequence, ground=home_of(session, fleet)) as done:
        if name != fleet.home:
            need_home(fleet)
        # An unfinished run may have deployed other settings.
        again = redeploy or bool(fleet.settings.change(name).differences)
        state = fleet.manager.add(name, redeploy=again)
        done.result, done.failed = f"{ended([state])}. {changes}", state.phase is not Phase.READY
    write_states(session, [state])
    fail_unless_ready([state])


@command(region, "reconcile", reads=True, everywhere=True, changes=True)
def reconcile(
    session: Session,
    settings: stages.SetOption = None,
    unset: stages.UnsetOption = None,
    settings_file: stages.FileOption = None,
    dry_run: DryRunOption = False,
    no_pager: stages.NoPagerOption = False,
    redeploy: RedeployOption = False,
    verbose: stages.VerboseOption = False,
) -> None:
    """Wave by wave, build all missing regions that the account has and the stage's rules allow."""
    options = stages.SettingsOptions.of(settings, unset, settings_file)
    if dry_run:
        _write_plan(session, options, redeploy=redeploy)
        return
    # As in `add`.
    need("deploy")
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
    name: Annotated[str | None, argument("REGION", "One region. Default: all.")] = None,
    findings: Annotated[bool, switch("--findings", "Show the findings of the preflight checks.")] = False,
    drift: Annotated[bool, switch("--drift", "Let CloudFormation detect the drift of the stacks.")] = False,
) -> None:
    """Show the state of each region, its stacks, their drift, and how many subscribers are paged."""
    fleet = deploying_fleet(session)
    known = {state.region: state for state in fleet.states.everything()}
    if name is not None:
        connecting.checked_region(name, every=False)
    # The home region may be deployed without a recorded state: `local up` skips the steps.
    names = [name] if name is not None else sorted({fleet.home, *known})
    states = [known.get(each) or RegionState(region=each) for each in names]
    if findings:
        session.write(_findings_answer(states))
        return
    rows = [{**STATES.row(state), **deployed_row(fleet, state, detect=drift)} for state in states]
    session.write(Answer(columns=(*STATES.columns, *_DEPLOYED.columns), rows=rows))
    for state, row in zip(states, rows, strict=True):
        if row["pagers"] == 0 and state.phase is not Phase.REMOVED:
            say(f"{row['region']}: the page topic has no confirmed subscription, so alarms page no one.", "yellow")
        if "DRIFTED" in str(row["drift"]):
            say(f"{row['region']}: resources were changed by hand; CloudFormation's console shows which.", "yellow")


@command(region, "remove", reads=True, changes=True)
def remove(session: Session, name: RegionArgument, dry_run: DryRunOption = False) -> None:
    """Take a region out of service: stop its intake, drain it, delete its pipeline, API and alarms. Its data stays.

    The command is refused while batches are in flight or in the dead-letter queue; for the home region, it is refused
    while other regions exist.
    """
    connecting.checked_region(name, every=False)
    fleet = deploying_fleet(session)
    if dry_run:
        try:
            fleet.removal.check(name)
            say(f"{name} would lose its pipeline, API and observability stacks")
        except OperationFailedError as error:
            say(f"{name} would be refused: {error} {error.advice}", "yellow")
        session.write(STATES.answer([fleet.states.load(name) or RegionState(region=name)]))
        return
    fleet.removal.check(name)
    consequence = f"{name} takes in no more batches, and its pipeline, API and alarms are deleted. Its data stays."
    with session.deed(
        what="region remove", subject=name, consequence=consequence, typed=name, ground=home_of(session, fleet)
    ) as done:
        state = fleet.removal.remove(name)
        done.result = ended([state])
    session.write(STATES.answer([state]))


def _findings_answer(states: list[RegionState]) -> Answer:
    lines = [
        (state.region, each.check, each.answered, each.detail)
        for state in states
        for each in sorted(state.findings, key=lambda each: (each.answered is Answered.PASSED, each.check))
    ]
    table = ListedRows(copied("region", "check", "answer", priority=KEEP), prose("detail"))
    return table.answer(lines, empty="No findings: the preflight checks did not run.")

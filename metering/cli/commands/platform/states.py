"""States of regions as commands answer them, and what each region has in CloudFormation."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from metering.cli.command import say
from metering.cli.failures import CommandFailedError, WrongUsageError
from metering.cli.fleet import changes_of
from metering.cli.printing.output import Format, chosen_format
from metering.cli.stages.options import settings_explained
from metering.errors import SettingsError
from metering.fleet.ports import TOOLKIT_STACK
from metering.fleet.regions import Phase, RegionState
from metering.fleet.versions import LAST_SILENT_VERSION
from metering.hours import rfc3339
from metering.reports.answer import KEEP, ROOMY, Answer, Cell, Column

if TYPE_CHECKING:
    from collections.abc import Sequence

    from metering.cli.command import Session
    from metering.fleet.ports import StackStatus
    from metering.wiring.fleet import Fleet

STATE_COLUMNS = (
    Column(name="region", text="copied", priority=KEEP),
    Column(name="state", text="copied", priority=KEEP),
    Column(name="step", text="copied"),
    Column(name="reason", text="prose"),
    Column(name="next", title="next run", text="prose"),
    Column(name="left_out", title="without", text="prose", priority=ROOMY + 1),
    Column(name="architecture", text="copied", priority=ROOMY + 3),
    Column(name="listed", kind="flag", priority=ROOMY + 3, about="by the account API"),
    Column(name="attempts", kind="integer", priority=ROOMY + 2, about="of its step"),
    Column(name="updated", kind="time", priority=ROOMY + 1),
)
DEPLOYED_COLUMNS = (
    Column(name="stacks", text="prose", priority=ROOMY),
    Column(name="drift", text="prose", priority=ROOMY + 1),
    Column(name="pagers", kind="integer", about="confirmed subscriptions of the page topic"),
    Column(name="version", text="copied"),
    Column(name="data_format", title="format", kind="integer", priority=ROOMY + 2),
    Column(name="commit", text="copied", priority=ROOMY + 2),
    Column(name="rehearsal", kind="flag", priority=ROOMY + 3, about="of a stage of an account, on an emulator"),
)


def need_home(fleet: Fleet) -> None:
    """Build the home region first if it is missing: it keeps the state of all regions."""
    home = fleet.home
    if fleet.ports.stacks.describe(home, fleet.ports.builder.stacks().data) is None:
        fleet.say(home, "the home region is not built yet; it comes first")
        fail_unless_ready([fleet.manager.add(home)])


def check_rules(fleet: Fleet, regions: Sequence[str], *, outside: bool) -> str:
    """Refuse to build regions that rules leave out which somebody gave the stage; a base's rules refuse nothing.

    A region that stands is deployed to again, for a repair must not wait for a rule.

    Args:
        fleet: The stage's regions.
        regions: Those that the command is about to build or to deploy to.
        outside: `--outside-rules` was given.

    Returns:
        What is to be said and kept of regions outside the rules, as a sentence with a blank before it; else empty.

    Raises:
        WrongUsageError: A region is outside the rules, and `outside` is false.
    """
    with settings_explained():
        settings = fleet.settings.of(fleet.home)
    given = [name for name in ("rollout.allow", "rollout.deny") if settings.source(name) in {"file", "set"}]
    rules = settings.config.rollout
    strangers = [
        name
        for name in regions
        if name != rules.home and not rules.admits(name) and not _stands(fleet.states.load(name))
    ]
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
    """End the command with exit code 1 if a region is not ready. Its reason was said when it failed, and only then.

    Raises:
        CommandFailedError: With the advice of the first of them.
    """
    failed = [state for state in states if state.phase is not Phase.READY]
    if failed:
        first = failed[0]
        raise CommandFailedError(f"{first.region} is not ready: it failed at {first.step}.", first.advice)


def tell_changes(fleet: Fleet, regions: Sequence[str]) -> str:
    """Say what is different in the settings of the regions, and return it as a sentence."""
    lines = changes_of(fleet, regions)
    for line in lines:
        say(line, "yellow")
    if not lines:
        for text, names in _unchanged(fleet, regions).items():
            say(f"{', '.join(names)}: settings: {text}")
    return f"Settings: {' | '.join(lines)}." if lines else "Settings: nothing changes."


def _unchanged(fleet: Fleet, regions: Sequence[str]) -> dict[str, list[str]]:
    """Regions whose settings do not change, by what is to be said: a new one has none that could change."""
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
    """Write the states. A table of a failure is left out: its reason was said, and a person reads it once."""
    form = chosen_format(session.form, session.output, terminal=sys.stdout.isatty())
    if form is Format.TABLE and any(state.phase is Phase.FAILED for state in states):
        return
    session.write(states_answer(states))


def ended(states: Sequence[RegionState]) -> str:
    """What became of the regions, for the audit trail."""
    return "; ".join(
        f"{state.region} is {state.phase}" + (f": {state.step}: {state.reason}" if state.reason else "")
        for state in states
    )


def states_answer(states: Sequence[RegionState]) -> Answer:
    """The states as a table."""
    return Answer(columns=STATE_COLUMNS, rows=[state_row(state) for state in states])


def state_row(state: RegionState) -> dict[str, Cell]:
    """One row of that table."""
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


def deployed_row(fleet: Fleet, state: RegionState, *, detect: bool) -> dict[str, Cell]:
    """The cells of `DEPLOYED_COLUMNS`; a region without a state says what is wrong with its stacks.

    Args:
        fleet: The stage's regions.
        state: The region.
        detect: Let CloudFormation compare the stacks with their resources.
    """
    ports = fleet.ports
    own = _found(fleet, state.region, *ports.builder.stacks().in_order)
    # A first deployment may have failed at the bootstrap. Roles of the stacks may look at the stage's own stacks only.
    broken = [s for s in own or _found(fleet, state.region, TOOLKIT_STACK) if not s.complete and not s.busy]
    drift = {s.name: ports.stacks.detect_drift(state.region, s.name) if detect else s.drift for s in own}
    return {
        **(_unknown(state, own, broken, stage=fleet.asked.stage) if _unnoted(state, own) else {}),
        "stacks": ", ".join(f"{_part(s)} {s.status}" for s in (*own, *(b for b in broken if b not in own))),
        "drift": ", ".join(f"{name.rpartition('-')[2]} {value}" for name, value in drift.items()),
        "pagers": _pagers(fleet, state.region),
        **_release(own),
    }


def _found(fleet: Fleet, region: str, *names: str) -> list[StackStatus]:
    return [stack for name in names if (stack := fleet.ports.stacks.describe(region, name))]


def _unnoted(state: RegionState, own: Sequence[StackStatus]) -> bool:
    """Whether its stacks came without the steps that keep its state: `local up` or the CDK deployed them."""
    return state.phase is Phase.ABSENT or (state.phase is Phase.REMOVED and _run(own))


def _run(own: Sequence[StackStatus]) -> bool:
    return any(stack.name.endswith("-pipeline") for stack in own)


def _unknown(
    state: RegionState, own: Sequence[StackStatus], broken: Sequence[StackStatus], *, stage: str
) -> dict[str, Cell]:
    """What is said of a region that has stacks, and no state or that of before."""
    if broken:
        first = broken[0]
        again = "deleted and made again" if first.never_created else "deployed again"
        return {
            "state": Phase.FAILED.value,
            "reason": f"{first.name} is {first.status}{': ' if first.why else ''}{first.why}",
            "next": f"It is {again}: metering deploy --region {state.region} --stage {stage}",
        }
    if own:
        named = {"state": "deployed"} if _run(own) else {}
        return {**named, "reason": f"deployed without `region add {state.region} --stage {stage}`, which takes it over"}
    return {}


def _release(stacks: Sequence[StackStatus]) -> dict[str, Cell]:
    if not stacks:
        return {"version": None, "data_format": None, "commit": None, "rehearsal": None}
    # The functions' release counts: they are what runs. A region out of service has its data stack alone.
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

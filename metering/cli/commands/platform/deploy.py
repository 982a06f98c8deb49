"""`metering deploy`: bring this checkout to a region of a stage, or to all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from metering.adapters.checkout import checkout_dir
from metering.cli.command import Session, command, say
from metering.cli.commands.platform.plan import check_formats, plan_lines
from metering.cli.commands.platform.states import check_rules, ended, fail_unless_ready, tell_changes, write_states
from metering.cli.fleet import deploying_fleet, home_of
from metering.cli.stages.options import (
    FileOption,
    NoPagerOption,
    OutsideRulesOption,
    SetOption,
    SettingsOptions,
    UnsetOption,
    VerboseOption,
    settings_explained,
)
from metering.fleet.regions import Phase, RegionState
from metering.fleet.versions import Direction

if TYPE_CHECKING:
    from collections.abc import Sequence

    from metering.fleet.rollout import RolloutPlan
    from metering.fleet.survey import Surveyed
    from metering.wiring.fleet import Fleet

deploy_app = typer.Typer()

DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Show the plan, but do nothing.")]

_EXAMPLES = """Examples:

    metering deploy --stage prod --dry-run
    metering deploy --stage prod --region eu-west-1
    metering deploy --stage prod --region all
"""


@command(deploy_app, "deploy", reads=True, everywhere=True, changes=True, checkout=True, epilog=_EXAMPLES)
def deploy(
    session: Session,
    settings: SetOption = None,
    unset: UnsetOption = None,
    settings_file: FileOption = None,
    dry_run: DryRunOption = False,
    no_pager: NoPagerOption = False,
    outside_rules: OutsideRulesOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Deploy this checkout to a region: opt in, bootstrap, preflight, deploy, canary, bake.

    --region names the region, or all that the stage's rules allow; default is the stage's home region, which comes
    first in any case. What an earlier run began is continued. On an emulator, a stage of an account is rehearsed.
    """
    checkout_dir()
    options = SettingsOptions.of(settings, unset, settings_file)
    fleet = deploying_fleet(session, options=options, no_pager=no_pager, verbose=verbose, names_home=False)
    planned = _planned(session, fleet)
    names = [name for wave in planned.waves for name in wave]
    outside = check_rules(fleet, names, outside=outside_rules)
    phases = {state.region: state.phase for state in fleet.states.everything()}
    with settings_explained():
        surveyed = [fleet.survey(name, phases.get(name)) for name in names]
    for line in plan_lines(fleet, surveyed, len(planned.waves)) if surveyed else ["There is no region to deploy to."]:
        say(line)
    check_formats(surveyed)
    changes = tell_changes(fleet, names)
    if dry_run or not surveyed:
        return
    consequence = f"The stacks there are made or changed; batches are processed meanwhile. {changes}{outside}"
    with session.deed(
        what="deploy", subject=", ".join(names), consequence=consequence, ground=home_of(session, fleet)
    ) as done:
        states = _deploy(session, fleet, surveyed, planned)
        done.result, done.failed = ended(states), any(state.phase is not Phase.READY for state in states)
    write_states(session, states)
    fail_unless_ready(states)


def _planned(session: Session, fleet: Fleet) -> RolloutPlan:
    """Regions to deploy to, in waves."""
    from metering.fleet import rollout

    home = fleet.home
    target = session.named_region or home
    if target == "all":
        return fleet.manager.plan(redeploy=True)
    # The home region keeps the state of all, so it comes first.
    first = target != home and fleet.ports.stacks.describe(home, fleet.ports.builder.stacks().data) is None
    return rollout.RolloutPlan(waves=((home,), (target,)) if first else ((target,),), ready=(), skipped={})


def _deploy(session: Session, fleet: Fleet, surveyed: Sequence[Surveyed], planned: RolloutPlan) -> list[RegionState]:
    """Deploy to regions, and stop after one that is not ready."""
    if session.named_region == "all":
        return [*fleet.manager.reconcile(redeploy=True, plan=planned).built]
    states: list[RegionState] = []
    for each in surveyed:
        # A run that did not end is continued, unless it deployed another version or other settings.
        same = each.way is Direction.SAME and each.same_settings
        states.append(fleet.manager.add(each.region, redeploy=each.phase is Phase.READY or not same))
        if states[-1].phase is not Phase.READY:
            break
    return states

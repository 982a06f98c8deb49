"""`metering deploy`, `upgrade` and `uninstall`: the versions of a stage's regions, and plans of changes."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Annotated

import typer

from metering.adapters.checkout import need
from metering.cli import failures, stages
from metering.cli.command import Session, command, say
from metering.cli.commands.platform.region import check_rules, ended, fail_unless_ready, tell_changes, write_states
from metering.cli.fleet import deploying_fleet, home_of
from metering.cli.options import switch
from metering.errors import FormatTooNewError, FormatTooOldError
from metering.fleet.ports import LAST_SILENT_VERSION, Direction, own_release
from metering.fleet.regions import ROLLUP_EVERY_MIN, Phase, RegionState
from metering.fleet.survey import Surveyed, deployed_regions, to_deploy
from metering.operations.own_costs import (
    Tick,
    break_even_batches,
    break_even_use,
    project_month_usd,
    provisioned_day_usd,
    standing_month_usd,
)
from metering.reports.answer import KEEP, ROOMY, Answer, ListedRows, copied, flag, integer

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from metering.fleet import stage
    from metering.fleet.ports import Deployment
    from metering.fleet.rollout import Remaining, RolloutPlan
    from metering.wiring.fleet import Fleet

# Minutes of a stack's first and of each later deployment on AWS, as others report; the alarms are deployed twice.
_STACK_MIN = {"data": (4, 1), "pipeline": (3, 2), "api": (2, 1), "observability": (4, 2), "rollout": (2, 1)}
_BOOTSTRAP_MIN = 2
# Deploying a region on an emulator took 59 to 91 s on two cores.
_EMULATOR_MIN = 2
# List prices of us-east-1, from secondary pages: an endpoint for 730 hours at 0.01, and symmetric keys.
_ENDPOINT_USD = Decimal("7.30")
_KEY_REQUESTS_USD = Decimal("0.03")

_WORDS = {
    Direction.SAME: "the same version",
    Direction.UPGRADE: "an upgrade",
    Direction.ROLLBACK: "a ROLLBACK",
    Direction.REFUSED: "refused: the data has another format",
}


def check_formats(surveyed: Sequence[Surveyed]) -> None:
    """Refuse to deploy code that does not support the data format of a region.

    Raises:
        CommandFailedError: The data format of a region is not supported; the error says what to do.
    """
    for each in surveyed:
        try:
            each.check_format()
        except FormatTooNewError as error:
            raise failures.CommandFailedError(
                f"{each.region}: {error}",
                "There is no rollback across data formats. Use that version (docs/operator-guide.md, Rollback).",
            ) from error
        except FormatTooOldError as error:
            raise failures.CommandFailedError(
                f"{each.region}: {error}",
                "Run it from a checkout of release 0.2.0 first, the last one that upgrades format 1 "
                "(docs/releasing.md).",
            ) from error


def plan_lines(fleet: Fleet, surveyed: Sequence[Surveyed], waves: int) -> Iterator[str]:
    """Lines of the plan, from the surveyed regions (at least one) and the number of waves."""
    config = fleet.config
    yield f"{'Rehearsal of' if fleet.rehearsal else 'Deployment of'} stage {config.stage}, version {surveyed[0].own}:"
    for each in surveyed:
        yield f"  {each.region}: {_change(each)}"
    if config.emulated:
        yield f"  time: about {_EMULATOR_MIN * len(surveyed)} minutes; cost: none, for it is an emulator"
        return
    yield from _time_and_cost(fleet, surveyed, waves)
    yield from (f"  by itself: {each}" for each in acting(fleet))
    if not fleet.rehearsal:
        yield "  permissions: a deployer's, as docs/operator-guide.md lists them"
        yield from _organisation(config)
    if not all(each.runs for each in surveyed) and _lacks_pager(fleet):
        yield "  pager: nobody is subscribed, so it will not be ready; add a subscription"
        yield "    with severity page to metering.toml and confirm it, or say --no-pager"


def _time_and_cost(fleet: Fleet, surveyed: Sequence[Surveyed], waves: int) -> Iterator[str]:
    slowest = max((_minutes(fleet, each) for each in surveyed), key=lambda found: sum(found.values()))
    parts = ", ".join(f"{name} {minutes}" for name, minutes in slowest.items())
    time = f"about {waves * sum(slowest.values())} minutes in {waves} wave{'s' if waves > 1 else ''} ({parts})"
    usd = standing_usd(fleet.config)
    cost = f"about USD {usd} a month and region before the first batch (list prices of us-east-1)"
    rest = "batches, storage and logs come on top"
    if fleet.rehearsal:
        yield f"  time: about {_EMULATOR_MIN * len(surveyed)} minutes here; on AWS {time}"
        yield f"  cost: none here; on AWS {cost}; {rest}"
        return
    yield f"  time: {time}"
    yield f"  cost: {'as now' if all(each.runs for each in surveyed) else cost}; {rest}"
    yield f"  ledger: {_billing(fleet.config)}"


def _billing(config: stage.StageConfig) -> str:
    """The ledger's billing, and where the other one begins to be cheaper."""
    least, most = zip(config.reads_per_s, config.writes_per_s, strict=True)
    batches = f"{break_even_batches(*least) / 1e6:.1f} million batches a day"
    use = f"{break_even_use():.0%} of capacity in use"
    if config.ledger_scales is None:
        return f"on demand; billing = provisioned is cheaper above {batches} ({use})"
    usd = f"USD {provisioned_day_usd(*least):.2f} to {provisioned_day_usd(*most):.2f} a day by load"
    return f"provisioned, {usd}; on demand is cheaper below {batches} ({use})"


def _minutes(fleet: Fleet, surveyed: Surveyed) -> dict[str, int]:
    """Minutes on AWS of each stack of a region, and of what comes before and after."""
    # The rollout rules of a rehearsal have no bake time.
    bake_min, there = fleet.config.rollout.bake_min, {each.name.rpartition("-")[2] for each in surveyed.stacks}
    parts = ["data", "pipeline", *(["api"] if fleet.config.api else []), "observability"]
    if fleet.ports.has_project(surveyed.region):
        parts.append("rollout")
    before = {} if surveyed.exists else {"bootstrap": _BOOTSTRAP_MIN}
    # Functions that run already are watched by CloudFormation, which may roll them back, before the bake begins.
    watched = {"watched by alarms": bake_min} if surveyed.runs else {}
    return {**before, **{each: _STACK_MIN[each][each in there] for each in parts}, **watched, "bake": bake_min}


def acting(fleet: Fleet) -> Iterator[str]:
    """Parts that work by themselves once they are deployed, and their monthly cost, in one sentence each."""
    config, ports, home = fleet.config, fleet.ports, fleet.home
    ticks = _ticks(config).items()
    jobs = ", ".join(f"{name} each {tick.every_min} min (USD {tick.month_usd:.2f})" for name, tick in ticks)
    yield f"schedules in each region, with their idle cost a month: {jobs}"
    for each in config.subscriptions:
        yield f"each {each.severity} goes to {each.protocol} {each.endpoint}"
    for channel in config.chat:
        yield f"alerts ({channel.severity}) go to the {channel.kind} channel {channel.name}"
    for source in config.log_sources:
        yield f"log files of s3://{source.bucket}/{source.prefix} are metered in {source.region}"
    project = ports.builder.stacks().rollout
    if ports.has_project(home):
        builds = ", ".join(config.rollout.allow) or "no region, for rollout.allow is unset"
        stays = "" if config.rollout_project else "; it stands, and stays until rollout_project is false"
        yield (
            f"project {project} in {home} builds {builds}, each {config.rollout_every_h} h, about "
            f"USD {project_month_usd(config.rollout_every_h)} a month{stays}"
        )
    elif ports.stacks.describe(home, project) is not None:
        yield f"no project: {project} in {home} is deleted, for rollout_project is false"
    else:
        yield "no project builds regions"
    yield "disabled regions are opted in to (rollout.opt_in)" if config.rollout.opt_in else "no region is opted in to"


def _organisation(config: stage.StageConfig) -> Iterator[str]:
    """Lines on people who may act on the data, and on the cost of the organisation's network and key."""
    named = ", ".join(config.operator_principals) or "whoever the account lets, for operator_principals is unset"
    yield f"  readers and operators: {named}"
    if config.vpc:
        yield f"  network: USD {_ENDPOINT_USD} a month for each interface endpoint and zone that you make for it"
    if config.kms_key_arn:
        yield f"  key: USD {_KEY_REQUESTS_USD} for 10,000 requests, about one a minute for each function and service"


def standing_usd(config: stage.StageConfig) -> str:
    """Monthly cost of an idle region, in USD."""
    alarms, logs = int(config.composite_alarms), bool(config.log_sources)
    ticks = _ticks(config).values()
    bills = bool(config.bill_exports)
    return str(standing_month_usd(ticks, composite_alarms=alarms, log_sources=logs, bill_exports=bills, api=config.api))


def _ticks(config: stage.StageConfig) -> dict[str, Tick]:
    schedules = {
        "compactor": (config.compactor_every_min, config.job_memory_mb),
        "reconciler": (config.reconciler_every_min, config.job_memory_mb),
        "rollup": (ROLLUP_EVERY_MIN, config.rollup_memory_mb),
        "canary": (config.canary_every_min, config.small_job_memory_mb),
        "watch": (config.watch_every_min, config.small_job_memory_mb),
        "biller": (config.biller_every_min, config.biller_memory_mb),
        **({"log-context": (config.log_context_every_min, config.onramp_memory_mb)} if config.log_sources else {}),
    }
    return {name: Tick(every_min=every, memory_mb=memory) for name, (every, memory) in schedules.items()}


def from_to(surveyed: Surveyed) -> str:
    """Deployed version, and version of this code: `0.1.0 or older -> 0.2.0`."""
    return f"{deployed_version(surveyed)} -> {surveyed.own}"


def deployed_version(surveyed: Surveyed) -> str:
    """Deployed version, as stated by the region's stacks if they do so."""
    return str(surveyed.deployed) if surveyed.deployed else f"{LAST_SILENT_VERSION} or older"


def _lacks_pager(fleet: Fleet) -> bool:
    """Whether the deployment would fail at its last step, because a new region's settings have no pager."""
    paged = any(each.severity == "page" for each in fleet.config.subscriptions)
    return fleet.rules.pager_needed and not fleet.no_pager and not paged


def _change(surveyed: Surveyed) -> str:
    for stack in surveyed.broken:
        if cure := stack.cure(surveyed.region):
            return f"refused: {stack.name} is {stack.status}. {cure}"
    if surveyed.way is None:
        broken = "; ".join(f"{stack.name} is {stack.status} and is deleted first" for stack in surveyed.broken)
        return f"nothing is deployed yet{f' ({broken})' if broken else ''}"
    settings = "" if surveyed.same_settings else ", with other settings"
    if not surveyed.runs:
        known = "" if surveyed.way is Direction.SAME else f" ({from_to(surveyed)}, {_WORDS[surveyed.way]})"
        return f"nothing runs there; its data stands, and all else is deployed anew{known}{settings}"
    rest = ", continues a deployment that did not end" if surveyed.unfinished else ""
    return f"{from_to(surveyed)}, {_WORDS[surveyed.way]}{settings}{rest}"


deploy_app = typer.Typer()

DryRunOption = Annotated[bool, switch("--dry-run", "Show the plan, but do nothing.")]

_EXAMPLES = """Examples:

    metering deploy --stage prod --dry-run
    metering deploy --stage prod --region eu-west-1
    metering deploy --stage prod --region all
"""


@command(deploy_app, "deploy", reads=True, everywhere=True, changes=True, epilog=_EXAMPLES)
def deploy(
    session: Session,
    settings: stages.SetOption = None,
    unset: stages.UnsetOption = None,
    settings_file: stages.FileOption = None,
    dry_run: DryRunOption = False,
    no_pager: stages.NoPagerOption = False,
    outside_rules: stages.OutsideRulesOption = False,
    assembly: stages.AssemblyOption = None,
    make_assembly: stages.MakeAssemblyOption = None,
    without_home: stages.WithoutHomeOption = False,
    verbose: stages.VerboseOption = False,
) -> None:
    """Deploy this version to a region: opt in, bootstrap, preflight, deploy, canary, bake.

    --region names one region, or all regions that the stage's rules allow. The default is the home region, which is
    always deployed first. The command resumes where an earlier run stopped. If a stage meant for AWS is deployed to an
    emulator, this is only a rehearsal.
    """
    if assembly is not None and make_assembly is not None:
        raise failures.WrongUsageError(
            "--assembly is deployed, and --make-assembly is made from the settings.", "Give one of them."
        )
    options = stages.SettingsOptions.of(settings, unset, settings_file)
    fleet = deploying_fleet(
        session, options=options, no_pager=no_pager, verbose=verbose, names_home=False, assembly=assembly,
        without_home=alone(session) if without_home else "",
    )  # fmt: skip
    planned = _planned(session, fleet)
    names = [name for wave in planned.waves for name in wave]
    outside = check_rules(fleet, names, outside=outside_rules)
    phases = {state.region: state.phase for state in fleet.states.everything()}
    with stages.settings_explained():
        surveyed = [fleet.survey(name, phases.get(name)) for name in names]
    if make_assembly is not None:
        if not names:
            raise failures.CommandFailedError("There is no region to make an assembly for.", "Name one with --region.")
        _make_assembly(fleet, names, make_assembly)
        return
    for line in plan_lines(fleet, surveyed, len(planned.waves)) if surveyed else ["There is no region to deploy to."]:
        say(line)
    check_formats(surveyed)
    changes = tell_changes(fleet, names)
    _check_assembly(fleet, names)
    if dry_run or not surveyed:
        return
    if not fleet.assembly:
        need("deploy")
    works = "" if fleet.config.emulated else f" By itself: {'; '.join(acting(fleet))}."
    consequence = f"The stacks there are made or changed; batches are processed meanwhile. {changes}{outside}{works}"
    with session.deed(
        what="deploy", subject=", ".join(names), consequence=consequence, ground=home_of(session, fleet)
    ) as done:
        states = _deploy(session, fleet, surveyed, planned)
        done.result, done.failed = ended(states), any(state.phase is not Phase.READY for state in states)
    write_states(session, states)
    fail_unless_ready(states)


def _check_assembly(fleet: Fleet, names: Sequence[str]) -> None:
    """Check before the question that the folder, if one is named, has an assembly for the settings of each region."""
    for sha256 in {fleet.builder.check_assembly(_next(fleet, name)) for name in names if fleet.assembly}:
        say(f"  assembly: {fleet.assembly}, SHA-256 of its release.json {sha256}")


def _next(fleet: Fleet, region: str) -> Deployment:
    """Next deployment of a region, with its own architecture, project and left-out parts."""
    from metering.fleet.steps import next_deployment

    return next_deployment(fleet.ports, fleet.states.load(region) or RegionState(region=region))


def _make_assembly(fleet: Fleet, names: Sequence[str], folder: Path) -> None:
    need("deploy")
    for name in names:
        sha256 = fleet.builder.make_assembly(_next(fleet, name), str(folder.resolve()))
        say(f"{folder} can be deployed to {name} with --assembly. SHA-256 of its release.json: {sha256}")


def alone(session: Session) -> str:
    """The one region that `--region` names for a deployment without the home region.

    Raises:
        WrongUsageError: The option is missing, or names all regions.
    """
    named = session.named_region
    if named is None or named == "all":
        raise failures.WrongUsageError("--without-home deploys to one region.", "Name it with --region.")
    return named


def _planned(session: Session, fleet: Fleet) -> RolloutPlan:
    """The regions to which this run deploys, in waves."""
    from metering.fleet.rollout import RolloutPlan

    home = fleet.home
    target = session.named_region or home
    if target == "all":
        return fleet.manager.plan(redeploy=True)
    # The home region keeps the state of all regions, so it is deployed first.
    first = target != home and fleet.ports.stacks.describe(home, fleet.ports.builder.stacks().data) is None
    return RolloutPlan(waves=((home,), (target,)) if first else ((target,),), ready=(), skipped={})


def _deploy(session: Session, fleet: Fleet, surveyed: Sequence[Surveyed], planned: RolloutPlan) -> list[RegionState]:
    """Deploy to regions in order; stop after a region that does not become ready."""
    if session.named_region == "all":
        return [*fleet.manager.reconcile(redeploy=True, plan=planned).built]
    states: list[RegionState] = []
    for each in surveyed:
        # An unfinished run is continued, unless it deployed another version or other settings.
        same = each.way is Direction.SAME and each.same_settings
        states.append(fleet.manager.add(each.region, redeploy=each.phase is Phase.READY or not same))
        if states[-1].phase is not Phase.READY:
            break
    return states


upgrade_app = typer.Typer()

_UPGRADE_EXAMPLES = """Examples:

    metering upgrade --stage prod --region all --check
    metering upgrade --stage prod --region eu-west-1
    metering upgrade --stage prod --region all
"""

_UPGRADES = ListedRows(
    copied("region", priority=KEEP),
    copied("state", about="of its last deployment"),
    copied("deployed", priority=KEEP, about="version there"),
    integer("deployed_format", title="its format", priority=ROOMY, about="of the data there"),
    copied("this", about="installed version"),
    integer("this_format", title="this format", priority=ROOMY, about="newest that it knows"),
    copied("way", priority=KEEP),
    copied("settings", about="against what the next deployment brings"),
    flag("deploys", priority=KEEP, about="`metering upgrade` deploys there"),
)


@command(upgrade_app, "upgrade", reads=True, everywhere=True, changes=True, epilog=_UPGRADE_EXAMPLES)
def upgrade(
    session: Session,
    check: Annotated[bool, switch("--check", "Only show the plan; exit with 1 if a region would be changed.")] = False,
    settings: stages.SetOption = None,
    unset: stages.UnsetOption = None,
    settings_file: stages.FileOption = None,
    no_pager: stages.NoPagerOption = False,
    assembly: stages.AssemblyOption = None,
    without_home: stages.WithoutHomeOption = False,
    verbose: stages.VerboseOption = False,
) -> None:
    """Bring the regions where the stage is deployed to the installed version, newer or older.

    Regions are upgraded wave by wave. The default is the home region; --region names another region, or all regions. A
    change to an older version is a rollback; it is refused if the older version does not support the data format. The
    command resumes where an earlier run stopped.
    """
    options = stages.SettingsOptions.of(settings, unset, settings_file)
    fleet = deploying_fleet(
        session, options=options, no_pager=no_pager, verbose=verbose, names_home=False, assembly=assembly,
        without_home=alone(session) if without_home else "",
    )  # fmt: skip
    with stages.settings_explained():
        surveyed = _surveyed(session, fleet)
    names = to_deploy(surveyed)
    changes = tell_changes(fleet, names)
    if check:
        session.write(_UPGRADES.answer(_values(each, names) for each in surveyed))
        if names:
            raise typer.Exit(1)
        return
    check_formats(surveyed)
    chosen = [each for each in surveyed if each.region in names]
    if not chosen:
        say(f"Nothing to do: version {own_release()} is deployed, with the same settings.")
        return
    for line in plan_lines(fleet, chosen, len(chosen)):
        say(line)
    _check_assembly(fleet, names)
    if not fleet.assembly:
        need("deploy")
    back = any(each.way is Direction.ROLLBACK for each in chosen)
    with session.deed(
        what="upgrade",
        subject=f"{own_release().version}: {', '.join(names)}",
        consequence=f"{'This is a ROLLBACK to an older version. ' if back else ''}The functions there are replaced; "
        f"data is kept, and batches are processed meanwhile. {changes}",
        ground=home_of(session, fleet),
    ) as done:
        result = fleet.manager.redeploy(names)
        done.result, done.failed = ended(result.built), not result.succeeded
    write_states(session, result.built)
    fail_unless_ready(result.built)


def _surveyed(session: Session, fleet: Fleet) -> list[Surveyed]:
    asked = session.named_region or fleet.home
    try:
        known = deployed_regions(fleet.states, home=fleet.home)
    except FormatTooNewError as error:
        # The ledger with all regions' states has a format that this version does not know.
        raise failures.CommandFailedError(
            f"{fleet.home}: {error}",
            "There is no rollback across data formats: see docs/operator-guide.md under Rollback.",
        ) from error
    found = [fleet.survey(name, phase) for name, phase in known if asked in {name, "all"}]
    there = [each for each in found if each.exists]
    if not there:
        raise failures.CommandFailedError(
            f"Stage {session.stage} is not deployed in {asked}.", "Deploy it first: metering deploy --help"
        )
    return there


def _values(surveyed: Surveyed, names: list[str]) -> tuple[object, ...]:
    own, way = surveyed.own, surveyed.way
    there = (surveyed.phase or "", deployed_version(surveyed) if way else "", surveyed.data_format)
    settings = "same" if surveyed.same_settings else "differ"
    return (surveyed.region, *there, str(own), own.data_format, way or "", settings, surveyed.region in names)


uninstall_app = typer.Typer()

_REMAINING = ListedRows(
    copied("region", "kind", "name", priority=KEEP),
    flag("orphaned", priority=ROOMY, about="in no stack, so no command finds it again"),
    copied("delete_with", title="delete it with", priority=KEEP),
)
# Commands that delete an orphaned resource. A table is protected, a bucket must be empty, and a key waits a week.
_ENDS = {
    "bucket": "{aws} s3api delete-bucket --bucket {name} --region {region}",
    "table": "{aws} dynamodb update-table --table-name {name} --no-deletion-protection-enabled --region {region} && "
    "{aws} dynamodb delete-table --table-name {name} --region {region}",
    "key": "{aws} kms schedule-key-deletion --key-id {name} --pending-window-in-days 7 --region {region}",
    "queue": "{aws} sqs delete-queue --queue-url {name} --region {region}",
    "log": "{aws} logs delete-log-group --log-group-name {name} --region {region}",
}


@command(uninstall_app, "uninstall", "metering uninstall --stage dev", reads=True, everywhere=True, changes=True)
def uninstall(
    session: Session,
    delete_data: Annotated[
        bool, switch("--delete-data", "Also delete the data stacks: tables, bucket, queues. For good.")
    ] = False,
    dry_run: Annotated[bool, switch("--dry-run", "Show what would remain, but do nothing.")] = False,
) -> None:
    """Take the stage out of service in all its regions, the home region last, and list what remains.

    Without --delete-data, all data stays, and a later `metering deploy` uses it again. With --delete-data, resources
    that the stage retains (prod: tables, bucket, key, queues, logs) remain outside of any stack: the list says how to
    delete each of them. The command is refused while batches are in flight or in a dead-letter queue.
    """
    fleet = deploying_fleet(session)
    regions = fleet.uninstall.regions()
    if not regions:
        nowhere = f"Stage {session.stage} is not deployed: there is nothing to remove."
        session.write(_REMAINING.answer([], meta={"regions": []}, empty=nowhere))
        return
    if dry_run:
        would = [each for name in regions for each in fleet.uninstall.would_remain(name, delete_data=delete_data)]
        title = f"Stage {session.stage} would leave, in this order: {', '.join(regions)}"
        session.write(_answer(would, regions, title=title, endpoint=session.endpoint))
        return
    consequence = (
        "Functions, alarms and dashboards are deleted in all regions, and so is the data, for good."
        if delete_data
        else "Functions, alarms and dashboards are deleted in all regions; no batch counts until the next deployment."
    )
    with session.deed(
        what="uninstall",
        subject=f"{session.stage}{' with its data' if delete_data else ''}",
        consequence=f"{consequence} Regions: {', '.join(regions)}.",
        typed=session.stage,
        ground=home_of(session, fleet),
    ) as done:
        remaining = fleet.uninstall.run(delete_data=delete_data)
        done.result = f"{len(regions)} regions left, {len(remaining)} resources remain"
    title = f"Stage {session.stage} left {', '.join(regions)}"
    session.write(_answer(remaining, regions, title=title, endpoint=session.endpoint))


def _answer(remaining: list[Remaining], regions: list[str], *, title: str, endpoint: str | None) -> Answer:
    return _REMAINING.answer(
        [(each.region, each.kind, each.name, each.orphaned, _end_of(each, endpoint)) for each in remaining],
        meta={"regions": regions},
        title=title,
        empty="Nothing of the stage remains but the bootstrap of the CDK, which other projects may use too.",
        footer=tuple(_end(remaining)),
    )


def _end(remaining: list[Remaining]) -> Iterator[str]:
    orphans = [each for each in remaining if each.orphaned]
    if kept := len(remaining) - len(orphans):
        yield f"{_resources(kept)} in the data stacks: `metering deploy` takes up again what is there."
    if orphans:
        yield f"{_resources(len(orphans))} and in no stack: delete what nobody needs."
    if any(each.kind == "bucket" for each in orphans):
        yield "Empty a bucket before you delete it, with all versions of its objects."


def _resources(number: int) -> str:
    return f"{number} resource{'' if number == 1 else 's'} kept"


def _end_of(each: Remaining, endpoint: str | None) -> str:
    # Version 1 of the AWS CLI ignores `AWS_ENDPOINT_URL` for some services.
    aws = f"aws --endpoint-url {endpoint}" if endpoint else "aws"
    return _ENDS.get(each.kind, "").format(aws=aws, name=each.name, region=each.region) if each.orphaned else ""

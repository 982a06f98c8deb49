"""`metering local`: the stacks in the built-in AWS emulator on 127.0.0.1, or in an emulator started separately."""

from __future__ import annotations

import os
import shlex
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from metering.adapters import checkout
from metering.adapters.aws import deployment
from metering.adapters.emulator import ministack
from metering.adapters.emulator import ministack as emulator
from metering.adapters.emulator.state import LocalState, forget_state, is_running, load_state, save_state
from metering.cli.command import Session, command, say, spinner
from metering.cli.connecting import checked_endpoint, connect, emulated
from metering.cli.failures import CommandFailedError, WrongUsageError
from metering.cli.options import family
from metering.cli.stages import FileOption, SetOption, SettingsOptions, UnsetOption, asked_for, settings_explained
from metering.errors import MeteringError, SettingsError
from metering.fleet.ports import RegionStacks, StackResource
from metering.fleet.rollout import made_outside, outliving
from metering.fleet.settings import bases
from metering.reports.answer import KEEP, Answer, ListedRows, copied, flag, ordinal
from metering.units import DAY_S

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from metering.adapters.aws.deployed_regions import DeployedRegions
    from metering.adapters.aws.session import Clients
    from metering.fleet.settings.layers import Asked
    from metering.fleet.settings.regions import RegionSettings
    from metering.settings import GivenSettings

    # Stack outputs, in the order in which the stacks are deployed.
    Outputs = Mapping[str, Mapping[str, str]]


def checked(stage: str, options: SettingsOptions) -> GivenSettings:
    """Settings of a new emulator, from the settings file and the options.

    Raises:
        WrongUsageError: The settings file or an option is invalid.
    """
    from metering.fleet.settings.layers import planned

    with settings_explained():
        return planned(asked_for(stage, options), None).given


def deployed_by(state: LocalState) -> DeployedRegions:
    """Regions deployed in the emulator.

    Raises:
        CommandFailedError: The emulator does not respond, or the stage is not deployed in it.
    """
    from metering.adapters.aws.deployed_regions import DeployedRegions

    clients = connect(endpoint=state.endpoint, region=state.region, stage=state.stage).clients
    return DeployedRegions(lambda _: clients, stage=state.stage)


def settings_to_keep(state: LocalState) -> GivenSettings:
    """Settings with which the emulator was deployed, overridden by the current settings file.

    Raises:
        WrongUsageError: The settings file is invalid.
    """
    asked = asked_for(state.stage, SettingsOptions())
    try:
        before = _settings_of(state, asked)
    except MeteringError as error:
        say(f"What it was given with --set is not known ({error}), and is lost.", style="yellow")
        return checked(state.stage, SettingsOptions())
    with settings_explained():
        return before.of(state.region).given


def check_settings(state: LocalState, options: SettingsOptions) -> None:
    """Compare the settings of the running emulator with the requested settings.

    Raises:
        CommandFailedError: An option requests settings that differ from those of the emulator.
        WrongUsageError: The settings are wrong.
    """
    with settings_explained():
        change = _settings_of(state, asked_for(state.stage, options)).change(state.region)
    if not change.differences:
        return
    advice = (
        f"Deploy them (metering region add {state.region} --stage {state.stage} --redeploy, with the same --set), "
        "or stop it first: metering local down"
    )
    if options.given or options.unset:
        raise CommandFailedError(f"It is up at {state.endpoint} with other settings: {change}.", advice)
    say(f"The settings file says otherwise than what is up: {change}. {advice}", style="yellow")


def _settings_of(state: LocalState, asked: Asked) -> RegionSettings:
    """Settings of the emulator's region, read now because the emulator may be stopped soon."""
    from metering.fleet.settings.regions import RegionSettings

    settings = RegionSettings(asked=asked, home=state.region, deployed=deployed_by(state))
    settings.before(state.region)
    return settings


_NAMING = ("AWS_ENDPOINT_URL", "LOCALSTACK_HOST")
# Access keys that an emulator may require if somebody else started it.
_KEYS = (*emulator.ROOT_KEYS, "AWS_SESSION_TOKEN", "AWS_CA_BUNDLE")


def emulator_named(session: Session) -> str | None:
    """The endpoint of a running emulator named by `--endpoint` or the environment; None if neither names any.

    Raises:
        CommandFailedError: No emulator responds at `--endpoint`.
    """
    named = checked_endpoint(session.named_endpoint)
    if named is not None:
        if emulated(endpoint=named, region=session.region_name):
            return named.rstrip("/")
        raise CommandFailedError(f"{named} is no emulator.", "Name MiniStack or LocalStack, or leave --endpoint out.")
    if not any(map(os.environ.get, _NAMING)):
        return None
    # This import is slow, as in `connect`.
    from metering.adapters.aws.session import Access

    by_environment = checked_endpoint(Access.from_env(os.environ).custom_endpoint_url)
    if by_environment is None:
        return None
    try:
        return by_environment.rstrip("/") if emulated(endpoint=by_environment, region=session.region_name) else None
    except CommandFailedError:
        # The shell's environment names an emulator that is no longer running.
        return None


def state_of(session: Session) -> LocalState | None:
    """The emulator of a command: the emulator at `--endpoint`, otherwise the emulator that `local up` recorded.

    If neither exists, it is the emulator that the environment names.
    """
    state = load_state()
    if session.named_endpoint is None and state is not None:
        return state
    named = emulator_named(session)
    if named is None or (state is not None and state.endpoint == named):
        return state
    return LocalState(endpoint=named, region=session.region_name, stage=session.stage, pid=None)


def take_away(state: LocalState) -> None:
    """Delete the stage's stacks, with all their data. The emulator runs on.

    Raises:
        CommandFailedError: The endpoint is not an emulator.
        OperationFailedError: A stack could not be deleted.
    """
    # This import is slow, as in `connect`.
    from metering.adapters.aws.cloudformation import CloudFormationStacks
    from metering.adapters.aws.deployed_regions import DeployedRegions

    if not emulated(endpoint=state.endpoint, region=state.region):
        raise CommandFailedError(f"{state.endpoint} is no emulator.", "A stage on AWS leaves by `metering uninstall`.")
    clients = clients_of(state)
    stacks, names = CloudFormationStacks(lambda _: clients), RegionStacks.of(state.stage)
    found = {name: stacks.describe(state.region, name) for name in (*names.working, names.data)}
    there = {name: status for name, status in found.items() if status is not None}
    if not there:
        say(f"Stage {state.stage} is not at {state.endpoint} ({state.region}).")
        return
    regions = DeployedRegions(lambda _: clients, stage=state.stage)
    kept, tables = list[str](), list[StackResource]()
    for name, status in there.items():
        if name == names.data and not status.unusable:
            found_there = stacks.resources(state.region, name)
            outside = made_outside(found_there, regions.tables(state.region))
            retained, tables = outliving([*found_there, *outside])
            kept = [each.name for each in retained if each.name]
            regions.empty_bucket(state.region)
        stacks.remove(state.region, name)
    for table in tables:
        regions.delete_table(state.region, table.name)
    say(f"Took stage {state.stage} out of the emulator at {state.endpoint}, with all its data. The emulator runs on.")
    if kept:
        say(f"A stage that keeps its data leaves: {', '.join(kept)}")


def clear_remains(state: LocalState) -> None:
    """Delete stacks whose creation never completed, because a deployment failed or was stopped."""
    from metering.adapters.aws.cloudformation import CloudFormationStacks

    clients = clients_of(state)
    stacks = CloudFormationStacks(lambda _: clients)
    for name in reversed(RegionStacks.of(state.stage).in_order):
        status = stacks.describe(state.region, name)
        if status is not None and status.deletable:
            stacks.remove(state.region, name)


def gone(state: LocalState) -> str:
    """Message about an emulator that is no longer running."""
    if state.borrowed:
        return f"Nothing answers at {state.endpoint} any more."
    return f"The emulator (pid {state.pid}) is gone, and so is all that it held."


def check_place(state: LocalState, named: str | None, port: int | None) -> None:
    """Refuse an endpoint or port that is not the running emulator's.

    Raises:
        CommandFailedError: The stage is running at another endpoint or port.
    """
    if named is not None and named != state.endpoint:
        raise CommandFailedError(
            f"It is up at {state.endpoint}, not at {named}.", "Take it away first: metering local down"
        )
    if port is not None and not state.endpoint.endswith(f":{port}"):
        raise CommandFailedError(
            f"It is up at {state.endpoint}, not on port {port}.", "Take it away first: metering local down"
        )


def clients_of(state: LocalState) -> Clients:
    """Clients with the emulator's root key or, if the emulator was started separately, the environment's keys."""
    from metering.adapters.aws.session import Access, Clients

    if state.borrowed:
        return Clients.from_env(os.environ, region=state.region, endpoint_url=state.endpoint)
    # The emulator's own key is used: its user needs no AWS account, and the SDK would search for credentials.
    return Clients(Access(region=state.region, endpoint_url=state.endpoint, access_key=emulator.ROOT_KEY))


def client_environment_of(state: LocalState) -> dict[str, str]:
    """Environment variables of a client; if the emulator was started separately, with the environment's keys."""
    own = {name: os.environ[name] for name in _KEYS if state.borrowed and name in os.environ}
    return {**emulator.client_environment(state.endpoint, None, region=state.region), **own}


# Prefix of outputs that only CloudFormation needs, to link stacks.
_EXPORTS = "ExportsOutput"
# On an emulator, the raw output is a host name without a DNS entry.
_API = "ApiUrl"
# Version 1 of the AWS CLI ignores the endpoint variable for SQS, and would send a message to AWS.
_AWS_CLI = (
    "# The AWS CLI: aws --endpoint-url $AWS_ENDPOINT_URL sqs send-message --queue-url $INGEST_QUEUE_URL "
    "--message-body file://batch.json\n"
)
# Shell variable -> output of the data stack.
_NAMES = {
    "INGEST_QUEUE_URL": "IngestQueueUrl",
    "DEAD_LETTER_QUEUE_URL": "DeadLetterQueueUrl",
    "DATA_BUCKET": "DataBucketName",
    "LEDGER_TABLE": "LedgerTableName",
    "USAGE_TABLE": "UsageTableName",
}


def stands(state: LocalState) -> bool:
    """Ask the emulator whether the stacks are deployed.

    Raises:
        UnavailableError: The emulator does not respond.
    """
    from metering.adapters.aws.stacks import read_outputs

    try:
        for stack in RegionStacks.of(state.stage).everywhere:
            read_outputs(clients_of(state), stack)
    except SettingsError:
        return False
    return True


def outputs_of(state: LocalState) -> Outputs:
    """Outputs by stack, in the order of deployment, without exports that are only for other stacks."""
    from metering.adapters.aws.stacks import read_outputs

    clients, stacks = clients_of(state), RegionStacks.of(state.stage)
    found: dict[str, Mapping[str, str]] = {}
    for stack in stacks.in_order:
        try:
            outputs = read_outputs(clients, stack)
        except SettingsError:
            if stack in stacks.everywhere:
                raise
            continue
        if address := outputs.get(_API):
            outputs = {**outputs, _API: ministack.api_address(address, state.endpoint).url}
        found[stack] = {name: outputs[name] for name in sorted(outputs) if not name.startswith(_EXPORTS)}
    return found


def outputs_answer(found: Outputs) -> Answer:
    """All outputs; in JSON, one object with the output names as keys."""
    return ListedRows(copied("output", "value", priority=KEEP), copied("stack")).answer(
        [(name, value, stack) for stack, outputs in found.items() for name, value in outputs.items()],
        document={name: value for outputs in found.values() for name, value in outputs.items()},
    )


def environment(state: LocalState, found: Outputs) -> dict[str, str]:
    """Environment variables of a client, and the names of the stage's queues, bucket and tables."""
    data = found[RegionStacks.of(state.stage).data]
    return {
        **client_environment_of(state),
        "METERING_STAGE": state.stage,
        **{name: data[output] for name, output in _NAMES.items() if output in data},
    }


def shell_lines(values: Mapping[str, str]) -> str:
    """Shell lines that export the variables, with a comment about the AWS CLI."""
    return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in values.items()) + _AWS_CLI


def environment_answer(values: Mapping[str, str]) -> Answer:
    """Variables as rows; in JSON, one object with the variable names as keys."""
    return ListedRows(copied("name", "value", priority=KEEP)).answer(values.items(), document={**values})


# Longer than anybody runs an emulator. When the emulator stops, it loses all data.
_LIFE_S = 30 * DAY_S


def page_link(state: LocalState) -> str | None:
    """Make an operator's token, and return a link to the page with this token; None for a stage without an API.

    The token is in the URL's fragment, which browsers never send to a server.

    Raises:
        UnavailableError: The emulator does not respond.
    """
    from metering.adapters.aws.runtime import SystemClock
    from metering.adapters.aws.stacks import read_outputs, stack_outputs
    from metering.ledger.notes.access import Role
    from metering.operations.access import TokenBook
    from metering.wiring.region import RegionPorts

    clients = clients_of(state)
    try:
        outputs = read_outputs(clients, RegionStacks.of(state.stage).api)
    except SettingsError:
        return None
    region = RegionPorts(clients, stack_outputs(clients, state.stage))
    made = TokenBook(items=region.items, clock=SystemClock()).create(
        role=Role.OPERATOR, accounts=None, life_s=_LIFE_S, made_by="metering local", label="this machine"
    )
    return f"{ministack.api_address(outputs['ApiUrl'], state.endpoint).url}#token={made.text}"


local = family("The whole service on this machine: an AWS emulator on 127.0.0.1 with the stacks deployed.")

PortOption = Annotated[
    int | None,
    typer.Option(
        "--port", min=1, max=65535, help="Port on 127.0.0.1. Default: 4566, or any free port if 4566 is taken."
    ),
]
_UP_EXAMPLES = """Examples:

    metering local up
    metering replay --scenario mixed --batches 2000 --manifest m.json
    metering verify --manifest m.json --wait 2m
    metering local down

Into an emulator that runs already, such as LocalStack; `local up` remembers it for all commands of the stage:

    metering local up --endpoint http://127.0.0.1:4566
    metering local down
"""


_ENV_EXAMPLES = """Examples:

    eval "$(metering local env)"
    metering local env --format json
"""


@command(local, "up", reads=True, epilog=_UP_EXAMPLES)
def up(
    session: Session,
    port: PortOption = None,
    settings: SetOption = None,
    unset: UnsetOption = None,
    settings_file: FileOption = None,
) -> None:
    """Start the emulator and deploy the stacks. Nothing changes if the stacks are already deployed.

    Stacks that were deleted are deployed again to the same emulator. If --endpoint or the environment names a running
    emulator, the stacks are deployed to that emulator and no emulator is started.
    """
    options = SettingsOptions.of(settings, unset, settings_file)
    given = checked(session.stage, options)
    state, named = load_state(), emulator_named(session)
    if state is None or not (is_running(state) and state.deployed):
        stop_leftovers()
        if named is None:
            state = start_local(session.stated_region, session.stage, port=port, given=given)
        else:
            state = _borrow(session, named, port=port, options=options)
    else:
        if state.stage != session.stage:
            other = f"Stage {state.stage} is up at {state.endpoint}, not {session.stage}."
            raise CommandFailedError(other, "Stop it first: metering local down")
        check_place(state, named, port)
        if stands(state):
            check_settings(state, options)
            say(f"Already up at {state.endpoint}.")
        else:
            say(f"The emulator runs at {state.endpoint}, and its stacks were deleted: they are deployed again.")
            with spinner() as step:
                _deploy(state, given, step)
    session.write(_status_answer(state, running=True, deployed=True))
    tell_what_next(state)


@command(local, "down")
def down(session: Session) -> None:
    """Stop the emulator and its functions. Its data is lost. If no emulator is running, nothing happens.

    The emulator holds all data in memory, so nothing can be kept; `metering replay` with the same seed sends the same
    traffic again. If `local up` did not start the emulator, only the stage and its data are deleted, and the emulator
    keeps running.
    """
    state, remembered = state_of(session), load_state()
    if state is None or not is_running(state):
        say("Nothing is running." if state is None or not state.borrowed else gone(state))
    elif state.pid is None:
        take_away(state)
    else:
        emulator.stop(state.pid)
        say(f"Stopped the emulator at {state.endpoint} (pid {state.pid}). All that it held is gone.")
    if remembered is None or state is None or remembered.endpoint == state.endpoint:
        forget_state()


@command(local, "status", reads=True)
def status(session: Session) -> None:
    """Show where the emulator runs, and whether the stacks are deployed to it. Exits with 1 if no emulator runs."""
    state = state_of(session)
    running = state is not None and is_running(state)
    deployed = state is not None and running and stands(state)
    session.write(_status_answer(state, running=running, deployed=deployed))
    if state is not None and not running:
        say(f"{gone(state)} A new one: metering local up")
    elif not running or state is None:
        say("Nothing is running. To start it: metering local up")
    elif not deployed:
        say("The stacks are not deployed. To deploy them: metering local up")
    if not running or state is None:
        raise typer.Exit(1)
    if deployed and not _has_pager(state):
        say("An alarm would page no one: the page topic has no confirmed subscription.", style="yellow")


@command(local, "env", reads=True, epilog=_ENV_EXAMPLES)
def env(session: Session) -> None:
    """Print the variables for using the emulator from a shell: endpoint, region, test credentials, resource names.

    The output is shell code, unless --format or --output is given.
    """
    state = _standing(session)
    values = environment(state, outputs_of(state))
    if session.form is None and session.output is None:
        sys.stdout.write(shell_lines(values))
    else:
        session.write(environment_answer(values))


@command(local, "outputs", reads=True)
def outputs(session: Session) -> None:
    """Show the outputs of the stacks in the emulator: queues, bucket, tables, topics, functions."""
    session.write(outputs_answer(outputs_of(_standing(session))))


@command(local, "reset", reads=True)
def reset(session: Session) -> None:
    """Start over with no data: stop the emulator, start it on the same port, and deploy the stacks.

    It keeps its settings. The settings file has precedence over the emulator's settings. If `local up` did not start
    the emulator, the emulator keeps running: the stage is deleted from it and deployed again.
    """
    state = load_state()
    if state is None or not is_running(state):
        raise CommandFailedError("Nothing is running, so nothing can be reset.", "To start it: metering local up")
    given = settings_to_keep(state)
    if state.borrowed:
        take_away(state)
        fresh = _put_up(state, given)
    else:
        stop_leftovers()
        fresh = start_local(state.region, state.stage, port=int(state.endpoint.rpartition(":")[2]), given=given)
    session.write(_status_answer(fresh, running=True, deployed=True))
    tell_what_next(fresh)


def tell_what_next(state: LocalState) -> None:
    """Print the next commands and links on stderr, even if it is no terminal; stdout contains only data."""
    if link := page_link(state):
        say(f"Explore usage: {link}")
    say("Next: metering replay --scenario mixed --batches 2000 --manifest m.json")
    say('For a shell or a program of your own: eval "$(metering local env)"')


def _standing(session: Session) -> LocalState:
    """The running emulator; an error if the stacks are not deployed to it."""
    state = state_of(session)
    if state is None or not is_running(state) or not stands(state):
        raise CommandFailedError("Nothing is running and deployed here.", "To start it: metering local up")
    return state


def start_local(
    region: str, stage: str, *, port: int | None = None, given: GivenSettings | None = None, name: str = "emulator"
) -> LocalState:
    """Start the emulator on the given port, or on a free port, and deploy the stacks.

    Args:
        region: Region to deploy to.
        stage: Stage to deploy.
        port: Port of the emulator; None for a free port.
        given: Settings that differ from the stage's base; None if no setting differs.
        name: Name under which the state of the emulator is stored.

    Raises:
        WrongUsageError: The port is taken.
        OperationFailedError: The packages of the emulator are not installed.
        MeteringError: The emulator or the deployment failed; no emulator is left running.
    """
    # If the check fails, it fails before the emulator starts.
    checkout.need("demo")
    if port is not None and emulator.is_port_used(port):
        raise WrongUsageError(f"Port {port} is taken.", "Without --port, a free one is used.")
    began = time.monotonic()
    chosen = port or emulator.free_port()
    if port is None and chosen != emulator.DEFAULT_PORT:
        say(f"Port {emulator.DEFAULT_PORT} is taken: the emulator takes {chosen}.")
    with spinner() as step:
        step(description="starting the emulator")
        running = emulator.start(chosen, region=region)
        state = LocalState(endpoint=running.endpoint, region=region, stage=stage, pid=running.pid, began=running.began)
        save_state(state, name)
        try:
            _deploy(state, given, step)
        except BaseException:
            emulator.stop(running.pid)
            forget_state(name)
            raise
    return _up(state, began, name)


def stop_leftovers(name: str = "emulator") -> None:
    """Stop the emulator that an earlier start under `name` left running, and delete its state."""
    state = load_state(name)
    if state is not None and state.pid is not None and is_running(state):
        emulator.stop(state.pid)
    forget_state(name)


def _borrow(session: Session, endpoint: str, *, port: int | None, options: SettingsOptions) -> LocalState:
    """Deploy the stacks to a separately started emulator, unless the stacks exist there, and store its state."""
    if port is not None:
        raise WrongUsageError(
            f"--port is for an emulator that this command starts, and one runs at {endpoint}.",
            "Leave --port out, or name no endpoint (--endpoint, AWS_ENDPOINT_URL).",
        )
    state = LocalState(endpoint=endpoint, region=session.region_name, stage=session.stage, pid=None)
    if not stands(state):
        return _put_up(state, checked(session.stage, options))
    check_settings(state, options)
    say(f"Already up at {endpoint}.")
    there = replace(state, deployed=True)
    save_state(there)
    return there


def _put_up(state: LocalState, given: GivenSettings | None) -> LocalState:
    began = time.monotonic()
    with spinner() as step:
        clear_remains(state)
        try:
            _deploy(state, given, step)
        except BaseException:
            clear_remains(state)
            raise
    return _up(state, began)


def _up(state: LocalState, began: float, name: str = "emulator") -> LocalState:
    deployed = replace(state, deployed=True)
    save_state(deployed, name)
    say(f"Up at {state.endpoint} in {time.monotonic() - began:.0f} s ({state.stage}, {state.region}).")
    return deployed


def _deploy(state: LocalState, given: GivenSettings | None, step: Callable[..., None]) -> None:
    def tell(event: Mapping[str, object]) -> None:
        if event.get("event") == "phase":
            step(description=f"deploying: {event.get('phase')}")
        elif event.get("event") == "resource":
            step(description=f"deploying: {event.get('stack')} {event.get('done')}/{event.get('total') or '?'}")

    deployment.run_deployment(
        stage=state.stage,
        region=state.region,
        endpoint=state.endpoint,
        environ={**os.environ, **client_environment_of(state)},
        progress=tell,
        given=given,
        # A stage that belongs to an account leaves out the resources that an emulator lacks.
        arguments=() if bases.runs_on_emulator(state.stage) else ("--rehearsal",),
    )


def _has_pager(state: LocalState) -> bool:
    return deployed_by(state).pager_subscriptions(state.region) > 0


def _status_answer(state: LocalState | None, *, running: bool, deployed: bool) -> Answer:
    table = ListedRows(
        flag("running", about="the emulator"),
        flag("deployed", about="the stacks in it"),
        copied("endpoint", "region", "stage"),
        ordinal("pid", about="of its process"),
    )
    up = (state.endpoint, state.region, state.stage, state.pid) if state is not None and running else (None,) * 4
    commands = ('eval "$(metering local env)"',) if running else ()
    return table.one((running, deployed, *up), commands=commands)

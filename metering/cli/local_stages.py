"""Stages on an emulator: that of `metering local`, or one that runs by itself, such as LocalStack."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from metering.adapters.emulator import ministack as emulator
from metering.adapters.emulator.state import LocalState, load_state
from metering.cli.command import Session, say
from metering.cli.connecting import checked_endpoint, connect, emulated
from metering.cli.failures import CommandFailedError
from metering.cli.stages import SettingsOptions, asked_for, settings_explained
from metering.errors import MeteringError
from metering.fleet.ports import RegionStacks

if TYPE_CHECKING:
    from metering.adapters.aws.deployed_regions import DeployedRegions
    from metering.adapters.aws.session import Clients
    from metering.fleet.settings.layers import Asked
    from metering.fleet.settings.regions import RegionSettings
    from metering.settings import GivenSettings


def checked(stage: str, options: SettingsOptions) -> GivenSettings:
    """Settings of a new emulator, by the settings file and the options.

    Raises:
        WrongUsageError: The file or an option is wrong.
    """
    from metering.fleet.settings.layers import planned

    with settings_explained():
        return planned(asked_for(stage, options), None).given


def deployed_by(state: LocalState) -> DeployedRegions:
    """Deployed regions of the emulator.

    Raises:
        CommandFailedError: It does not answer, or the stage is not deployed there.
    """
    from metering.adapters.aws.deployed_regions import DeployedRegions

    clients = connect(endpoint=state.endpoint, region=state.region, stage=state.stage).clients
    return DeployedRegions(lambda _: clients, stage=state.stage)


def settings_to_keep(state: LocalState) -> GivenSettings:
    """Settings that the emulator was given, and those of the settings file now.

    Raises:
        WrongUsageError: The settings file is wrong.
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
    """Compare the settings of the running emulator with those that are asked for.

    Raises:
        CommandFailedError: An option asks for others.
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
    """Settings of its region, read at once: the emulator may be about to stop."""
    from metering.fleet.settings.regions import RegionSettings

    settings = RegionSettings(asked=asked, home=state.region, deployed=deployed_by(state))
    settings.before(state.region)
    return settings


_NAMING = ("AWS_ENDPOINT_URL", "LOCALSTACK_HOST")
# Access keys that an independently started emulator may require of its clients.
_KEYS = (*emulator.ROOT_KEYS, "AWS_SESSION_TOKEN", "AWS_CA_BUNDLE")


def emulator_named(session: Session) -> str | None:
    """The endpoint of a running emulator that `--endpoint` or the environment names; None if they name none.

    Raises:
        CommandFailedError: No emulator answers at `--endpoint`.
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
        # The shell's environment names an emulator that has stopped since.
        return None


def state_of(session: Session) -> LocalState | None:
    """The emulator that a command means: the one that `--endpoint` names, else the one that `local up` remembers.

    Without either it is the one of the environment.
    """
    state = load_state()
    if session.named_endpoint is None and state is not None:
        return state
    named = emulator_named(session)
    if named is None or (state is not None and state.endpoint == named):
        return state
    return LocalState(endpoint=named, region=session.region_name, stage=session.stage, pid=None)


def take_away(state: LocalState) -> None:
    """Delete the stage's stacks with all that they hold. The emulator runs on.

    Raises:
        CommandFailedError: Something else than an emulator answers.
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
    kept: list[str] = []
    for name, status in there.items():
        if name == names.data and not status.never_created:
            kept = [each.name for each in stacks.resources(state.region, name) if each.retained and each.name]
            DeployedRegions(lambda _: clients, stage=state.stage).empty_bucket(state.region)
        stacks.remove(state.region, name)
    say(f"Took stage {state.stage} out of the emulator at {state.endpoint}, with all its data. The emulator runs on.")
    if kept:
        say(f"A stage that keeps its data leaves: {', '.join(kept)}")


def clear_remains(state: LocalState) -> None:
    """Delete stacks that were never created whole: what a deployment that failed or was stopped has left."""
    from metering.adapters.aws.cloudformation import CloudFormationStacks

    clients = clients_of(state)
    stacks = CloudFormationStacks(lambda _: clients)
    for name in reversed(RegionStacks.of(state.stage).in_order):
        status = stacks.describe(state.region, name)
        if status is not None and status.never_created:
            stacks.remove(state.region, name)


def gone(state: LocalState) -> str:
    """Sentence about an emulator that does not run any more."""
    if state.borrowed:
        return f"Nothing answers at {state.endpoint} any more."
    return f"The emulator (pid {state.pid}) is gone, and so is all that it held."


def check_place(state: LocalState, named: str | None, port: int | None) -> None:
    """Refuse another emulator than the one in which a stage is up.

    Raises:
        CommandFailedError: A stage is up elsewhere.
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
    """Clients of the emulator, as its root; of one that runs by itself, as the environment says."""
    from metering.adapters.aws.session import Access, Clients

    if state.borrowed:
        return Clients.from_env(os.environ, region=state.region, endpoint_url=state.endpoint)
    # The emulator's own key is used, because its user needs no AWS account and the SDK would search for credentials.
    return Clients(Access(region=state.region, endpoint_url=state.endpoint, access_key=emulator.ROOT_KEY))


def client_environment_of(state: LocalState) -> dict[str, str]:
    """The variables of a client; for an emulator that runs by itself, with the keys that are there."""
    own = {name: os.environ[name] for name in _KEYS if state.borrowed and name in os.environ}
    return {**emulator.client_environment(state.endpoint, None, region=state.region), **own}

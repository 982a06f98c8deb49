"""An emulator that runs by itself, such as LocalStack: which one a command means, and how a stage leaves it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from metering.adapters.emulator import ministack as emulator
from metering.adapters.emulator.state import LocalState, load_state
from metering.cli.command import say
from metering.cli.connecting import emulated
from metering.cli.failures import CommandFailedError
from metering.cli.places import checked_endpoint
from metering.fleet.ports import RegionStacks

if TYPE_CHECKING:
    from metering.adapters.aws.session import Clients
    from metering.cli.command import Session

_NAMING = ("AWS_ENDPOINT_URL", "LOCALSTACK_HOST")
# What an emulator that runs by itself may ask of its clients.
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
    # Slow to import, as in `connect`.
    from metering.adapters.aws.session import Access

    by_environment = checked_endpoint(Access.from_env(os.environ).custom_endpoint_url)
    if by_environment is None:
        return None
    try:
        return by_environment.rstrip("/") if emulated(endpoint=by_environment, region=session.region_name) else None
    except CommandFailedError:
        # A shell remembers an emulator that was stopped meanwhile.
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
        CommandFailedError: What answers there is no emulator.
        OperationFailedError: A stack could not be deleted.
    """
    # Slow to import, as in `connect`.
    from metering.adapters.aws.fleet.cloudformation import CloudFormationStacks
    from metering.adapters.aws.fleet.deployed_regions import DeployedRegions

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
    from metering.adapters.aws.fleet.cloudformation import CloudFormationStacks

    clients = clients_of(state)
    stacks = CloudFormationStacks(lambda _: clients)
    for name in reversed(RegionStacks.of(state.stage).in_order):
        status = stacks.describe(state.region, name)
        if status is not None and status.never_created:
            stacks.remove(state.region, name)


def gone(state: LocalState) -> str:
    """What is said of an emulator that does not run any more."""
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
    # Its own key: whoever starts it needs no account, and the SDK would look for the credentials of one.
    return Clients(Access(region=state.region, endpoint_url=state.endpoint, access_key=emulator.ROOT_KEY))


def client_environment_of(state: LocalState) -> dict[str, str]:
    """The variables of a client; for an emulator that runs by itself, with the keys that are there."""
    own = {name: os.environ[name] for name in _KEYS if state.borrowed and name in os.environ}
    return {**emulator.client_environment(state.endpoint, None, region=state.region), **own}

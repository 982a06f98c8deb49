"""Connections from commands to a deployed region, with errors that say what to do."""

from __future__ import annotations

import os
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from metering.cli.failures import CommandFailedError, WrongUsageError
from metering.errors import MeteringError, SettingsError, UnavailableError
from metering.fleet.settings.bases import STAGE_NAME
from metering.usage.usage_types import is_region

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from metering.adapters.emulator.state import LocalState
    from metering.wiring.connection import RegionConnection

# Names of regions and stages are checked before any request or output, because people copy them into a shell.

# This name means all regions, so no region has it.
ALL_REGIONS = "all"


def checked_endpoint(endpoint: str | None) -> str | None:
    """Return the endpoint if it is a valid URL.

    Raises:
        WrongUsageError: It is something else.
    """
    if endpoint is None:
        return None
    try:
        parts = urlsplit(endpoint)
        right = parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        right = False
    if not right or any(character.isspace() for character in endpoint):
        raise WrongUsageError(
            f"The endpoint {shown_endpoint(endpoint)} is not a URL.",
            "Write it as http://127.0.0.1:4566 (--endpoint or AWS_ENDPOINT_URL).",
        )
    return endpoint


def shown_endpoint(endpoint: str) -> str:
    """Return an endpoint as it may be printed: without a user and password before the host."""
    scheme, separator, rest = endpoint.rpartition("://")
    return f"{scheme}{separator}***@{rest.rpartition('@')[2]}" if "@" in rest else endpoint


def checked_stage(stage: str) -> str:
    """Return the name of the stage if it is valid.

    Raises:
        WrongUsageError: None can have it.
    """
    if re.fullmatch(STAGE_NAME, stage) is None:
        raise WrongUsageError(
            f"{stage} is not the name of a stage.",
            "It is a letter, then up to 15 of a-z, 0-9 and dashes (--stage or METERING_STAGE).",
        )
    return stage


def checked_region(region: str, *, every: bool = True) -> str:
    """Return the name of a region if it is well-formed, even if unknown, or `all` if `every` allows it.

    Raises:
        WrongUsageError: The name cannot be the name of a region.
    """
    if not (every and region == ALL_REGIONS) and not is_region(region):
        raise WrongUsageError(
            f"{region} is not the name of a region.",
            "Write it as eu-west-1 or ap-southeast-9 (--region or AWS_REGION).",
        )
    return region


def refuse_several(region: str | None, *, command: str) -> None:
    """Refuse `--region all` for a command that works on only one region.

    Raises:
        WrongUsageError: `--region all` was given.
    """
    if region == ALL_REGIONS:
        raise WrongUsageError(f"`{command}` works on one region, not on all.", "Name it, as in --region eu-west-1.")


def connect(
    *,
    endpoint: str | None,
    region: str,
    stage: str,
    environ: Mapping[str, str] | None = None,
    home: Callable[[], str | None] | None = None,
) -> RegionConnection:
    """Look up the stacks of a stage, and connect to the resources that the stacks name.

    Args:
        endpoint: Endpoint of an emulator; None: AWS.
        region: Name of the region.
        stage: Name of the stage.
        environ: Environment of the AWS SDK; None for that of this process.
        home: Returns the home region; if the stage is not deployed in `region`, the error names this home region.

    Raises:
        CommandFailedError: The endpoint does not respond, or the stage is not deployed there.
    """
    # This import is slow, and a command that is refused or only explained does not connect.
    from metering.adapters.aws.session import Clients
    from metering.wiring.connection import connected

    clients = Clients.from_env(os.environ if environ is None else environ, region=region, endpoint_url=endpoint)
    try:
        with reaching(endpoint, region):
            return connected(clients, stage)
    except SettingsError as error:
        raise not_deployed(error, region=region, stage=stage, home=home and home()) from error


@contextmanager
def reaching(endpoint: str | None, region: str) -> Iterator[None]:
    """If a region does not respond, raise an error that explains this.

    Raises:
        CommandFailedError: The region does not respond.
    """
    try:
        yield
    except UnavailableError as error:
        raise no_answer(error, endpoint=endpoint, region=region) from error


def not_deployed(error: SettingsError, *, region: str, stage: str, home: str | None = None) -> CommandFailedError:
    """The error if a stage is not deployed in a region. The advice never suggests building an unnamed region."""
    from metering.fleet.settings.bases import runs_on_emulator

    if runs_on_emulator(stage):
        deploy = f"metering region add {region} --stage {stage}"
        advice = f"Deploy it with `{deploy}`, or `metering local up` on this machine; or"
    elif home is not None and home != region:
        advice = f"The home region of stage {stage} is {home}: add --region {home}. Or"
    else:
        advice = f"Deploy the stage to its home region with `metering deploy --stage {stage}`; or"
    return CommandFailedError(f"{error}.", f"{advice} name another --stage, --region or --endpoint.")


def emulated(*, endpoint: str | None, region: str) -> bool:
    """Whether the commands' clients would call an emulator, judged by the endpoint's URL and its response.

    Raises:
        CommandFailedError: Nothing answers there.
    """
    from metering.adapters.aws.session import Access
    from metering.adapters.emulator.ministack import is_emulator

    access = Access.from_env(os.environ, region=region, endpoint_url=endpoint)
    asked = access.custom_endpoint_url
    if asked is None:
        return False
    try:
        return is_emulator(asked, ca_bundle=access.ca_bundle)
    except UnavailableError as error:
        raise no_answer(error, endpoint=asked, region=region) from error


def refuse_aws_for_emulated(stage: str, *, endpoint: str | None, region: str) -> None:
    """Refuse AWS for a stage that is for emulators only, because such a stage retains no data and pages nobody.

    Raises:
        CommandFailedError: No emulator answers there.
    """
    from metering.adapters.emulator.state import is_running, load_state
    from metering.fleet.settings.bases import runs_on_emulator

    if not runs_on_emulator(stage) or emulated(endpoint=endpoint, region=region):
        return
    if endpoint is not None:
        raise CommandFailedError(
            f"Stage {stage} runs on an emulator, and {endpoint} is none.",
            "Name an emulator with --endpoint, or another --stage.",
        )
    state = load_state()
    if state is not None and not is_running(state):
        raise _gone(state)
    raise CommandFailedError(
        f"Stage {stage} runs on an emulator, and none runs here.",
        "Start one with `metering local up`, name one with --endpoint, or name another --stage.",
    )


def no_answer(error: UnavailableError, *, endpoint: str | None, region: str) -> CommandFailedError:
    """The error for a command whose first call received no response."""
    from metering.adapters.emulator.state import is_running, load_state

    state = load_state()
    if state is not None and state.endpoint == endpoint and not is_running(state):
        return _gone(state)
    if endpoint is None:
        return CommandFailedError(
            f"AWS in {region} gives no answer ({error.detail}).",
            "See whether this machine reaches AWS, and the region's name is right. For an emulator, name --endpoint.",
        )
    return CommandFailedError(
        f"{endpoint} gives no answer ({error.detail}).",
        "Start the emulator with `metering local up`, or name another one with --endpoint or AWS_ENDPOINT_URL.",
    )


@contextmanager
def dead_emulator_told() -> Iterator[None]:
    """If an emulator stops during the command, report this instead of the call that failed.

    Raises:
        CommandFailedError: The emulator was running at the beginning of the command, and has stopped since.
    """
    from metering.adapters.emulator.state import is_running, load_state

    state = load_state()
    ran = state is not None and is_running(state)
    try:
        yield
    except MeteringError as error:
        unanswered = isinstance(error, UnavailableError) or isinstance(error.__cause__, UnavailableError)
        if state is not None and ran and unanswered and not is_running(state):
            raise _gone(state) from error
        raise


def _gone(state: LocalState) -> CommandFailedError:
    """The error if an emulator of `metering local up` has stopped unexpectedly."""
    if state.borrowed:
        return CommandFailedError(
            f"Nothing answers at {state.endpoint} any more, where stage {state.stage} was put up.",
            f"Start that emulator, then put the stage up again: metering local up --endpoint {state.endpoint}",
        )
    return CommandFailedError(
        f"The emulator at {state.endpoint} (pid {state.pid}) is gone, and so is all that it held.",
        "Start a new one, which is empty: metering local up",
    )

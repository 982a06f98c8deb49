"""Connections of commands to a deployed region, with errors that say what to do."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from metering.adapters.aws.session import Clients
from metering.adapters.aws.stacks import stack_outputs
from metering.cli.failures import CommandFailedError
from metering.errors import SettingsError, UnavailableError
from metering.wiring.connection import RegionConnection

if TYPE_CHECKING:
    from collections.abc import Mapping


def connect(
    *, endpoint: str | None, region: str, stage: str, environ: Mapping[str, str] | None = None
) -> RegionConnection:
    """Look up the stacks of a stage, and connect to the resources that they name.

    Raises:
        CommandFailedError: The endpoint does not answer, or the stage is not deployed there.
    """
    clients = Clients.from_env(os.environ if environ is None else environ, region=region, endpoint_url=endpoint)
    try:
        return RegionConnection(clients=clients, names=stack_outputs(clients, stage))
    except UnavailableError as error:
        raise no_answer(error, endpoint=endpoint, region=region) from error
    except SettingsError as error:
        raise CommandFailedError(
            f"{error}.",
            f"Deploy it with `metering region add {region} --stage {stage}`, or `metering local up` on this machine; "
            "or name another --stage, --region or --endpoint.",
        ) from error


def no_answer(error: UnavailableError, *, endpoint: str | None, region: str) -> CommandFailedError:
    """The error for a command whose first call got no answer."""
    return CommandFailedError(
        f"{endpoint or f'AWS in {region}'} gives no answer ({error.detail}).",
        "Start the emulator with `metering local up`, or name another one with --endpoint or AWS_ENDPOINT_URL.",
    )

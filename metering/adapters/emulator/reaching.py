"""The endpoint of a stage for Python programs: a stage that only emulators run never reaches AWS."""

from __future__ import annotations

from typing import TYPE_CHECKING

from metering.adapters.emulator.health import is_emulator
from metering.adapters.emulator.state import running_endpoint
from metering.errors import OperationFailedError
from metering.fleet.settings.bases import runs_on_emulator

if TYPE_CHECKING:
    from collections.abc import Mapping


def endpoint_for(stage: str, endpoint: str | None, environ: Mapping[str, str]) -> str | None:
    """The endpoint to ask for a stage; None for AWS itself.

    Args:
        stage: Name of the stage.
        endpoint: What a program names; None for `AWS_ENDPOINT_URL`, and without it, for a stage of emulators, the one
            that `metering local up` started or used.
        environ: Environment of the AWS SDK.

    Raises:
        OperationFailedError: The stage is for emulators only, and none is there.
        UnavailableError: Nothing answers at the endpoint.
    """
    endpoint = endpoint or environ.get("AWS_ENDPOINT_URL") or None
    if not runs_on_emulator(stage):
        return endpoint
    endpoint = endpoint or running_endpoint()
    if endpoint is None or not is_emulator(endpoint, ca_bundle=environ.get("AWS_CA_BUNDLE") or None):
        where = "none runs here" if endpoint is None else f"{endpoint} is none"
        raise OperationFailedError(
            f"Stage {stage} runs on an emulator, and {where}.",
            "Start one with `metering local up`, or name another stage or endpoint.",
        )
    return endpoint

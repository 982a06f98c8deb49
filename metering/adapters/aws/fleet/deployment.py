"""Runs the project's deployment module, `python -m infra.deploy`, for one stage and region."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

from metering.adapters.checkout import checkout_dir
from metering.errors import OperationFailedError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    Progress = Callable[[Mapping[str, object]], None]


def run_deployment(
    *,
    stage: str,
    region: str,
    endpoint: str | None,
    environ: Mapping[str, str],
    progress: Progress,
    settings: Sequence[str] = (),
    arguments: Sequence[str] = (),
    advice: str = "",
) -> Mapping[str, object]:
    """Run the deployment to its end. Without `arguments` it deploys all stacks; a second run changes nothing.

    Args:
        stage: Name of the stage.
        region: Name of the region.
        endpoint: Endpoint of an emulator; None for AWS.
        environ: Environment of the process: credentials, certificates.
        progress: Told of each phase and each resource.
        settings: Fields of the stage's configuration, each as `field=value`.
        arguments: Further options of the module.
        advice: Advice to people if it fails.

    Returns:
        The last event that it printed.

    Raises:
        OperationFailedError: The deployment failed, with its own reason; or the package runs outside a checkout.
    """
    root = checkout_dir()
    places = [f"--stage={stage}", f"--region={region}", *([f"--endpoint={endpoint}"] if endpoint is not None else [])]
    changes = [f"--set={setting}" for setting in settings]
    last: Mapping[str, object] = {"message": "it said nothing"}
    with subprocess.Popen(  # noqa: S603 - our own interpreter and module
        [sys.executable, "-m", "infra.deploy", *places, *changes, *arguments],
        cwd=root,
        env=dict(environ),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        errors="replace",
    ) as process:
        for line in process.stdout or ():
            last = _event(line)
            progress(last)
    if process.returncode:
        raise OperationFailedError(_reason(last), advice)
    return last


def _reason(last: Mapping[str, object]) -> str:
    """Message of the last event, in one line."""
    lines = [line.strip() for line in str(last.get("message", last)).splitlines()]
    return " | ".join(filter(None, lines))


def _event(line: str) -> Mapping[str, object]:
    try:
        value = json.loads(line)
    except ValueError:
        return {"message": line.rstrip()}
    return value if isinstance(value, dict) else {"message": line.rstrip()}

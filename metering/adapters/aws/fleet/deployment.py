"""Runs the project's deployment module, `python -m infra.deploy`, for one stage and region."""

from __future__ import annotations

import json
import subprocess
import sys
from threading import Thread
from typing import TYPE_CHECKING

from metering.adapters.checkout import checkout_dir
from metering.errors import OperationFailedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from metering.stage_settings import GivenSettings

    Progress = Callable[[Mapping[str, object]], None]

_CHATTER = "Bundling asset "


def run_deployment(
    *,
    stage: str,
    region: str,
    endpoint: str | None,
    environ: Mapping[str, str],
    progress: Progress,
    given: GivenSettings | None = None,
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
        given: What the stage differs in from its base; None for nothing.
        arguments: Further options of the module.
        advice: Advice to people if it fails.

    Returns:
        The last event that it printed.

    Raises:
        OperationFailedError: The deployment failed, with its own reason; or the package runs outside a checkout.
    """
    root = checkout_dir()
    places = [f"--stage={stage}", f"--region={region}", *([f"--endpoint={endpoint}"] if endpoint is not None else [])]
    changes = [f"--given={given.model_dump_json(by_alias=True)}"] if given is not None else []
    last: Mapping[str, object] = {"message": "it said nothing"}
    with subprocess.Popen(  # noqa: S603 - our own interpreter and module
        [sys.executable, "-m", "infra.deploy", *places, *changes, *arguments],
        cwd=root,
        env=dict(environ),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    ) as process:
        told = Thread(target=_pass_on, args=(process.stderr or (),), daemon=True)
        told.start()
        for line in process.stdout or ():
            last = _event(line)
            progress(last)
        told.join()
    if process.returncode:
        raise OperationFailedError(_reason(last), advice)
    return last


def _pass_on(lines: Iterable[str]) -> None:
    """Print what the deployment says about itself, but for the CDK's chatter, which would break a progress display."""
    for line in lines:
        if not line.startswith(_CHATTER):
            sys.stderr.write(line)


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

"""The project's own deployment module as a process: `python -m infra.deploy`, for one stage and region."""

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
    """Run it to its end; without `arguments` it deploys all stacks, and doing that again changes nothing.

    Args:
        stage: Stage name.
        region: Any region.
        endpoint: Of an emulator; None for AWS.
        environ: Environment of the process: credentials, certificates.
        progress: Told of each phase and each resource.
        settings: Fields of the stage's configuration, each as `field=value`.
        arguments: More of the module's options.
        advice: What to tell people to do if it fails.

    Returns:
        Its last word.

    Raises:
        OperationFailedError: It failed, with the reason that it gave; or this is no checkout of the project.
    """
    root = checkout_dir()
    command = [sys.executable, "-m", "infra.deploy", f"--stage={stage}", f"--region={region}"]
    if endpoint is not None:
        command.append(f"--endpoint={endpoint}")
    last: Mapping[str, object] = {"message": "it said nothing"}
    with subprocess.Popen(  # noqa: S603 - our own interpreter and module
        [*command, *(f"--set={setting}" for setting in settings), *arguments],
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
        lines = [line.strip() for line in str(last.get("message", last)).splitlines()]
        raise OperationFailedError(" | ".join(filter(None, lines)), advice)
    return last


def _event(line: str) -> Mapping[str, object]:
    try:
        value = json.loads(line)
    except ValueError:
        return {"message": line.rstrip()}
    return value if isinstance(value, dict) else {"message": line.rstrip()}

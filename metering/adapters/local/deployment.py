"""Deploys the stacks to a local emulator, as `cdk deploy` from the project's own environment."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

from metering.adapters.local.state import project_dir
from metering.errors import OperationFailedError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    Progress = Callable[[Mapping[str, object]], None]


class LocalDeploymentError(OperationFailedError):
    """The stacks could not be deployed. Says what the deployment said last."""


def deploy_stage(
    *,
    stage: str,
    region: str,
    endpoint: str,
    environ: Mapping[str, str],
    progress: Progress,
    overrides: Sequence[str] = (),
) -> None:
    """Deploy the three stacks; doing it again changes nothing.

    Args:
        stage: Stage name.
        region: Any region.
        endpoint: Of the emulator.
        environ: Keys and certificates of the emulator (`client_environment`).
        progress: Told of each phase and each resource.
        overrides: Fields of the stage's configuration, each as `field=value`.

    Raises:
        LocalDeploymentError: It failed.
    """
    if not (project_dir() / "infra").is_dir():
        raise LocalDeploymentError(
            "the stacks are deployed from a checkout of the project; this is an installed package"
        )
    command = [sys.executable, "-m", "infra.deploy", "--stage", stage, "--region", region, "--endpoint", endpoint]
    command += [f"--set={override}" for override in overrides]
    last: Mapping[str, object] = {"message": "no output"}
    with subprocess.Popen(  # noqa: S603  # our own interpreter and module
        command,
        cwd=project_dir(),
        env={**os.environ, **environ},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        for line in process.stdout or ():
            last = _event(line)
            progress(last)
    if process.returncode:
        raise LocalDeploymentError(f"deploying stage {stage} to {region} failed: {last.get('message', last)}")


def _event(line: str) -> Mapping[str, object]:
    try:
        value = json.loads(line)
    except ValueError:
        return {"message": line.rstrip()}
    return value if isinstance(value, dict) else {"message": line.rstrip()}

"""`Builder`: the project's own deployment module, one process a step."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, cast

from metering.errors import OperationFailedError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from metering.region_ports import Deployment

_ROOT = Path(__file__).parents[3]
_PARTS = ("data", "pipeline", "observability")


class CdkBuilder:
    """Runs `python -m infra.deploy` for one stage.

    Args:
        endpoint: Of an emulator; None for AWS.
        environ: Environment of the deployment: credentials, certificates.
        settings: Fields of the stage's configuration, each as `field=value`.
        home: The region that also gets the project which builds regions; empty where there is none.
        say: Told of what happens, as region and message.
    """

    def __init__(
        self,
        *,
        stage: str,
        endpoint: str | None,
        environ: Mapping[str, str],
        settings: Sequence[str] = (),
        home: str = "",
        say: Callable[[str, str], None],
    ) -> None:
        self._stage = stage
        self._endpoint = endpoint
        self._environ = environ
        self._settings = tuple(settings)
        self._home = home
        self._say = say

    def stacks(self) -> tuple[str, ...]:
        return tuple(f"metering-{self._stage}-{part}" for part in _PARTS)

    def bootstrap(self, region: str) -> None:
        self._run(region, ["--step=bootstrap"])

    def resource_types(self, deployment: Deployment) -> Sequence[str]:
        answer = self._run(deployment.region, ["--step=synth", *_overrides(deployment)])
        return cast("list[str]", answer["types"])

    def deploy(self, deployment: Deployment) -> None:
        triggers = [f"--rollback-alarm={arn}" for arn in deployment.rollback_alarms]
        self._run(deployment.region, [*_overrides(deployment), *triggers, f"--bake-min={deployment.watch_min}"])

    def _run(self, region: str, arguments: Sequence[str]) -> Mapping[str, object]:
        """Run one step; returns its last word.

        Raises:
            OperationFailedError: It failed, with the reason that it gave.
        """
        command = [sys.executable, "-m", "infra.deploy", f"--stage={self._stage}", f"--region={region}"]
        if self._endpoint is not None:
            command.append(f"--endpoint={self._endpoint}")
        command += [f"--set={setting}" for setting in self._settings]
        if region == self._home:
            command.append("--set=rollout_project=true")
        last: Mapping[str, object] = {"message": "it said nothing"}
        with subprocess.Popen(  # noqa: S603 - our own interpreter and module
            [*command, *arguments],
            cwd=_ROOT,
            env=dict(self._environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            errors="replace",
        ) as process:
            for line in process.stdout or ():
                last = _event(line)
                self._tell(region, last)
        if process.returncode:
            lines = [line.strip() for line in str(last.get("message", last)).splitlines()]
            raise OperationFailedError(" | ".join(filter(None, lines)), "The next run repeats this step.")
        return last

    def _tell(self, region: str, event: Mapping[str, object]) -> None:
        if event.get("event") == "resource" and str(event.get("status", "")).endswith(("_COMPLETE", "_FAILED")):
            self._say(region, f"{event.get('status')} {event.get('type')} {event.get('resource')}")


def _overrides(deployment: Deployment) -> list[str]:
    return [
        f"--set=architecture={deployment.architecture}",
        *(f"--set={part}=false" for part in deployment.left_out),
    ]


def _event(line: str) -> Mapping[str, object]:
    try:
        value = json.loads(line)
    except ValueError:
        return {"message": line.rstrip()}
    return value if isinstance(value, dict) else {"message": line.rstrip()}

"""Runs the project's deployment module, `python -m infra.deploy`, for one stage and region."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import partial
from threading import Thread
from typing import TYPE_CHECKING, cast

from metering.adapters.checkout import project_dir
from metering.errors import OperationFailedError
from metering.fleet.ports import Deployment, RegionStacks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from metering.settings import GivenSettings


if TYPE_CHECKING:
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
    """Run the deployment to completion. Without `arguments`, deploy all stacks; a second run changes nothing.

    Each event that the deployment prints is passed to `progress`; the last event is returned. `endpoint` is the URL of
    an emulator; None for AWS.

    Raises:
        OperationFailedError: The deployment failed (the error has the reason and `advice`).
    """
    places = [f"--stage={stage}", f"--region={region}", *([f"--endpoint={endpoint}"] if endpoint is not None else [])]
    changes = [f"--given={given.model_dump_json(by_alias=True)}"] if given is not None else []
    last: Mapping[str, object] = {"message": "it said nothing"}
    with subprocess.Popen(  # noqa: S603 - our own interpreter and module
        [sys.executable, "-m", "infra.deploy", *places, *changes, *arguments],
        cwd=project_dir(),
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
    """Print only the deployment's own lines: the CDK's output would break a progress display."""
    for line in lines:
        if not line.startswith(_CHATTER):
            sys.stderr.write(line)


def _reason(last: Mapping[str, object]) -> str:
    lines = [line.strip() for line in str(last.get("message", last)).splitlines()]
    return " | ".join(filter(None, lines))


def _event(line: str) -> Mapping[str, object]:
    try:
        value = json.loads(line)
    except ValueError:
        return {"message": line.rstrip()}
    return value if isinstance(value, dict) else {"message": line.rstrip()}


class CdkBuilder:
    """Runs `python -m infra.deploy` for one stage.

    Args:
        given: Returns those of a region's settings that differ from the stage's base.
        rehearsal: The endpoint is an emulator, but the stage belongs to an AWS account.
        assembly: Folder of assemblies to deploy; empty if they are synthesised.
    """

    def __init__(
        self,
        *,
        stage: str,
        endpoint: str | None,
        environ: Mapping[str, str],
        given: Callable[[str], GivenSettings],
        rehearsal: bool = False,
        assembly: str = "",
        say: Callable[[str, str], None],
    ) -> None:
        self._stage = stage
        self._endpoint = endpoint
        self._environ = environ
        self._given = given
        self._always = (*(("--rehearsal",) if rehearsal else ()), *((f"--assembly={assembly}",) if assembly else ()))
        self._say = say
        self._answers: dict[Deployment, Mapping[str, object]] = {}

    def stacks(self) -> RegionStacks:
        return RegionStacks.of(self._stage)

    def bootstrap(self, region: str) -> None:
        self._run(region, ["--step=bootstrap"])

    def resource_types(self, deployment: Deployment) -> Sequence[str]:
        return cast("list[str]", self._synthesised(deployment)["types"])

    def called_services(self, deployment: Deployment) -> Mapping[str, Sequence[str]]:
        return cast("dict[str, list[str]]", self._synthesised(deployment).get("services", {}))

    def _synthesised(self, deployment: Deployment) -> Mapping[str, object]:
        if deployment not in self._answers:
            self._answers[deployment] = self._run(deployment.region, ["--step=synth", *self._own(deployment)])
        return self._answers[deployment]

    def deploy(self, deployment: Deployment) -> None:
        triggers = [f"--rollback-alarm={arn}" for arn in deployment.rollback_alarms]
        self._run(deployment.region, [*self._own(deployment), *triggers, f"--bake-min={deployment.watch_min}"])

    def check_assembly(self, deployment: Deployment) -> str:
        """Check that the folder has a sound assembly for a deployment; returns the hash that vouches for all."""
        advice = "Make it anew where Node is, with the same settings: metering deploy --make-assembly FOLDER"
        return str(self._run(deployment.region, ["--step=synth", *self._own(deployment)], advice=advice)["sha256"])

    def make_assembly(self, deployment: Deployment, folder: str) -> str:
        """Add assemblies for a deployment to a folder; returns the hash that vouches for all."""
        arguments = ["--step=assemble", f"--assembly={folder}", *self._own(deployment)]
        return str(self._run(deployment.region, arguments, advice="Name another folder.")["sha256"])

    def _run(
        self, region: str, arguments: Sequence[str], *, advice: str = "The next run repeats this step."
    ) -> Mapping[str, object]:
        return run_deployment(
            stage=self._stage,
            region=region,
            endpoint=self._endpoint,
            environ=self._environ,
            progress=partial(self._tell, region),
            given=self._given(region),
            arguments=[*arguments, *self._always],
            advice=advice,
        )

    def _tell(self, region: str, event: Mapping[str, object]) -> None:
        if event.get("event") == "resource" and str(event.get("status", "")).endswith(("_COMPLETE", "_FAILED")):
            self._say(region, f"{event.get('status')} {event.get('type')} {event.get('resource')}")

    def _own(self, deployment: Deployment) -> list[str]:
        """Settings that depend on the region, determined anew for each deployment."""
        given = self._given(deployment.region)
        said = bool({**given.by_file, **given.by_option}.get("rollout_project"))
        project = [] if said == deployment.project else [f"--own=rollout_project={str(deployment.project).lower()}"]
        other = [f"--own=architecture={deployment.architecture}"] if deployment.architecture != "arm64" else []
        before = [f"--own=usage_before={deployment.usage_before}"] if deployment.usage_before else []
        return [*other, *before, *project, *(f"--own={part}=false" for part in deployment.left_out)]

"""`Builder` over the project's deployment module, one process a step."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, cast

from metering.adapters.aws.fleet.deployment import run_deployment
from metering.fleet.ports import RegionStacks

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from metering.fleet.ports import Deployment


class CdkBuilder:
    """Runs `python -m infra.deploy` for one stage.

    Args:
        endpoint: Endpoint of an emulator; None for AWS.
        environ: Environment of the deployment: credentials, certificates.
        settings: Fields of the stage's configuration, each as `field=value`.
        home: Region that also gets the project that builds regions; empty if none does.
        say: Told of each resource, as region and message.
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

    def stacks(self) -> RegionStacks:
        return RegionStacks.of(self._stage)

    def bootstrap(self, region: str) -> None:
        self._run(region, ["--step=bootstrap"])

    def resource_types(self, deployment: Deployment) -> Sequence[str]:
        answer = self._run(deployment.region, ["--step=synth", *_overrides(deployment)])
        return cast("list[str]", answer["types"])

    def deploy(self, deployment: Deployment) -> None:
        triggers = [f"--rollback-alarm={arn}" for arn in deployment.rollback_alarms]
        self._run(deployment.region, [*_overrides(deployment), *triggers, f"--bake-min={deployment.watch_min}"])

    def _run(self, region: str, arguments: Sequence[str]) -> Mapping[str, object]:
        """Run one step and return its last event.

        Raises:
            OperationFailedError: The step failed; the reason is its own.
        """
        settings = (*self._settings, *(("rollout_project=true",) if region == self._home else ()))
        return run_deployment(
            stage=self._stage,
            region=region,
            endpoint=self._endpoint,
            environ=self._environ,
            progress=partial(self._tell, region),
            settings=settings,
            arguments=arguments,
            advice="The next run repeats this step.",
        )

    def _tell(self, region: str, event: Mapping[str, object]) -> None:
        if event.get("event") == "resource" and str(event.get("status", "")).endswith(("_COMPLETE", "_FAILED")):
            self._say(region, f"{event.get('status')} {event.get('type')} {event.get('resource')}")


def _overrides(deployment: Deployment) -> list[str]:
    return [
        f"--set=architecture={deployment.architecture}",
        *(f"--set={part}=false" for part in deployment.left_out),
    ]

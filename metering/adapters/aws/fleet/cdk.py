"""`Builder` over the project's deployment module, one process a step."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, cast

from metering.adapters.aws.fleet.deployment import run_deployment
from metering.fleet.ports import RegionStacks

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from metering.fleet.ports import Deployment
    from metering.stage_settings import GivenSettings


class CdkBuilder:
    """Runs `python -m infra.deploy` for one stage.

    Args:
        endpoint: Endpoint of an emulator; None for AWS.
        environ: Environment of the deployment: credentials, certificates.
        given: Gives what a region's settings differ in from their base.
        rehearsal: The endpoint is an emulator, and the stage is one of an account.
        home: Region that also gets the project that builds regions; empty if none does.
        say: Told of each resource, as region and message.
    """

    def __init__(
        self,
        *,
        stage: str,
        endpoint: str | None,
        environ: Mapping[str, str],
        given: Callable[[str], GivenSettings],
        rehearsal: bool = False,
        home: str = "",
        say: Callable[[str, str], None],
    ) -> None:
        self._stage = stage
        self._endpoint = endpoint
        self._environ = environ
        self._given = given
        self._always = ("--rehearsal",) if rehearsal else ()
        self._home = home
        self._say = say

    def stacks(self) -> RegionStacks:
        return RegionStacks.of(self._stage)

    def bootstrap(self, region: str) -> None:
        self._run(region, ["--step=bootstrap"])

    def resource_types(self, deployment: Deployment) -> Sequence[str]:
        answer = self._run(deployment.region, ["--step=synth", *_own(deployment)])
        return cast("list[str]", answer["types"])

    def deploy(self, deployment: Deployment) -> None:
        triggers = [f"--rollback-alarm={arn}" for arn in deployment.rollback_alarms]
        self._run(deployment.region, [*_own(deployment), *triggers, f"--bake-min={deployment.watch_min}"])

    def _run(self, region: str, arguments: Sequence[str]) -> Mapping[str, object]:
        """Run one step and return its last event.

        Raises:
            OperationFailedError: The step failed; the reason is its own.
        """
        given = self._given(region)
        said = {**given.by_file, **given.by_option}
        own = ["--own=rollout_project=true"] if region == self._home and "rollout_project" not in said else []
        return run_deployment(
            stage=self._stage,
            region=region,
            endpoint=self._endpoint,
            environ=self._environ,
            progress=partial(self._tell, region),
            given=given,
            arguments=[*arguments, *own, *self._always],
            advice="The next run repeats this step.",
        )

    def _tell(self, region: str, event: Mapping[str, object]) -> None:
        if event.get("event") == "resource" and str(event.get("status", "")).endswith(("_COMPLETE", "_FAILED")):
            self._say(region, f"{event.get('status')} {event.get('type')} {event.get('resource')}")


def _own(deployment: Deployment) -> list[str]:
    """What the region decides, and nobody gave: it is found out anew each time."""
    other = [f"--own=architecture={deployment.architecture}"] if deployment.architecture != "arm64" else []
    before = [f"--own=usage_before={deployment.usage_before}"] if deployment.usage_before else []
    return [*other, *before, *(f"--own={part}=false" for part in deployment.left_out)]

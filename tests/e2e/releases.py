"""The previous release, in a separate checkout, and both command lines against one emulator.

The previous release's commit is the last older one in the table of docs/releasing.md.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infra.bundle import find_uv
from metering.adapters.aws.session import Access, Clients
from metering.fleet.ports import order
from metering.hours import hour_of, rfc3339
from metering.units import HOUR_S
from metering.version import DISTRIBUTION
from tests import ROOT

if TYPE_CHECKING:
    from collections.abc import Sequence

HOME = "us-east-1"
# MiniStack kills the running invocations of a function that is replaced. Here their messages reappear after 20 s.
STAGE = "killtest"
# `| 0.1.0 | 1 | 9598dc1 |`
_RELEASE = re.compile(
    r"^\| (?P<version>\d+\.\d+\.\d+) \| (?P<format>\d+) \| `(?P<commit>[0-9a-f]{7,40})` \|", re.MULTILINE
)
_PROGRAM = "from metering.cli.start import main; main()"
ACCOUNT = "210000000001"
SIZES = tuple(range(1_000, 1_020))


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkout:
    """A checkout whose command line is used against an emulator.

    Attributes:
        version: Its version, as in docs/releasing.md.
    """

    folder: Path
    python: Path
    endpoint: str
    version: str

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a command in its own process group, so that all of it can be killed."""
        plain = {n: v for n, v in os.environ.items() if not n.startswith(("AWS_", "METERING_", "LOCALST"))}
        return subprocess.Popen(
            [self.python, "-P", "-c", _PROGRAM, *arguments, "--endpoint", self.endpoint, "--stage", STAGE],
            cwd=self.folder,
            # The older release comes before the environment's packages, which have this checkout as `metering`.
            env={**plain, "PYTHONPATH": str(self.folder)},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    def run(self, *arguments: str, code: int = 0) -> str:
        return finished(self.start(*arguments), code=code)

    def ask(self, *arguments: str, code: int = 0) -> Any:
        return json.loads(self.run(*arguments, "--format", "json", code=code))

    def replay(self, manifest: Path, *, seed: int, rate: int = 1_000) -> subprocess.Popen[str]:
        sent = ("--batches", "60", "--records-per-batch", "10", "--seed", str(seed), "--rate", str(rate))
        return self.start("replay", "--scenario", "mixed", *sent, "--manifest", str(manifest))

    def proves(self, *manifests: Path) -> None:
        """Everything sent is counted once, according to this checkout's own proof."""
        named = [word for manifest in manifests for word in ("--manifest", str(manifest))]
        found = self.ask("verify", *named, "--wait", "3m")
        assert found["passed"], found
        assert (found["lost"], found["doubled"]) == ([], [])

    def total(self) -> int:
        now_s = int(time.time())
        times = ("--from", rfc3339(hour_of(now_s) - 48 * HOUR_S), "--to", rfc3339(hour_of(now_s) + HOUR_S))
        return sum(int(row["bytes"]) for row in self.ask("report", "usage", "--account", ACCOUNT, *times)["rows"])


def finished(process: subprocess.Popen[str], *, code: int = 0) -> str:
    out, err = process.communicate(timeout=400)
    assert process.returncode == code, f"{process.args!r}: exit {process.returncode}\n{out}\n{err}"
    return out


def release_before(version: str, text: str) -> tuple[str, int, str]:
    """Version, data format and commit of the last release before a version."""
    older = [
        (match["version"], int(match["format"]), match["commit"])
        for match in _RELEASE.finditer(text)
        if order(match["version"]) < order(version)
    ]
    return max(older, key=lambda each: order(each[0]))


def environment_of(folder: Path, version: str) -> Path:
    """The Python of a release: this one with the release's metadata if its packages are equal, else its own."""
    if dependencies(folder) == dependencies(ROOT):
        metadata = folder / f"{DISTRIBUTION.replace('-', '_')}-{version}.dist-info" / "METADATA"
        metadata.parent.mkdir()
        metadata.write_text(f"Metadata-Version: 2.1\nName: {DISTRIBUTION}\nVersion: {version}\n")
        return Path(sys.executable)
    plain = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
    command = [find_uv(), "sync", "--quiet", "--frozen", "--all-extras", "--python", sys.executable]
    subprocess.run(command, cwd=folder, env=plain, check=True)
    return folder / ".venv" / "bin" / "python"


def dependencies(folder: Path) -> str:
    """The lock file without the project's own version."""
    return re.sub(r'(name = "transfer-metering"\nversion = )"[^"]+"', r"\1", (folder / "uv.lock").read_text())


def git(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)


def record(size: int, start_s: int) -> dict[str, str | int]:
    """A record of an account whose total is checked separately."""
    return {
        "account_id": ACCOUNT, "service": "AmazonEC2", "resource_id": "i-0", "direction": "out", "from": HOME,
        "to": "internet", "bytes": size, "start": start_s, "end": start_s,
    }  # fmt: skip


def batch(batch_id: str, records: Sequence[dict[str, str | int]]) -> str:
    """A message with a batch."""
    body = {"schema": "metering.batch/1", "batch_id": batch_id, "record_count": len(records), "records": [*records]}
    return json.dumps(body)


def send(endpoint: str, queue: str, *messages: str) -> None:
    """Send messages to a queue of the stage: `IngestQueue` or `IngestDeadLetters`."""
    clients = Clients(Access(region=HOME, endpoint_url=endpoint, access_key=("test", "test")))
    [url] = [u for u in clients.sqs.list_queues()["QueueUrls"] if f"{STAGE}-data-{queue}" in u]
    for message in messages:
        clients.sqs.send_message(QueueUrl=url, MessageBody=message)


def send_own(endpoint: str) -> None:
    """Send batches whose total is checked separately."""
    start_s = int(time.time()) - HOUR_S
    send(endpoint, "IngestQueue", *(batch(f"own-{size}", [record(size, start_s)]) for size in SIZES))

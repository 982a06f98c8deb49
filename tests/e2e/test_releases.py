"""The release before this one is deployed with traffic, upgraded, rolled back by its own checkout, and upgraded again.

Its commit is the last older one in the table of docs/releasing.md. A clone without that commit skips the drill; where
CI is set it fails, for nobody would read the reason.
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

import pytest

from infra.bundle import find_uv
from metering.adapters.aws.session import Access, Clients
from metering.adapters.emulator import ministack as emulator
from metering.fleet.versions import LAST_SILENT_VERSION, order
from metering.hours import hour_of, rfc3339
from metering.units import HOUR_S
from metering.version import package_version

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.emulator, pytest.mark.drill]

ROOT = Path(__file__).resolve().parents[2]
HOME = "us-east-1"
# MiniStack kills the running invocations of a function that is replaced. Here their messages are back after 20 s.
STAGE = "killtest"
# `| 0.1.0 | 1 | 9598dc1 |`
_RELEASE = re.compile(r"^\| (?P<version>\d+\.\d+\.\d+) \| \d+ \| `(?P<commit>[0-9a-f]{7,40})` \|", re.MULTILINE)
_PROGRAM = "from metering.cli.start import main; main()"
ACCOUNT = "210000000001"
SIZES = tuple(range(1_000, 1_020))


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkout:
    """A checkout whose command line is used against an emulator."""

    folder: Path
    python: Path
    endpoint: str

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        plain = {n: v for n, v in os.environ.items() if not n.startswith(("AWS_", "METERING_", "LOCALST"))}
        return subprocess.Popen(
            [self.python, "-P", "-c", _PROGRAM, *arguments, "--endpoint", self.endpoint, "--stage", STAGE],
            cwd=self.folder,
            # Before the packages of the environment, which has this checkout as `metering`.
            env={**plain, "PYTHONPATH": str(self.folder)},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def run(self, *arguments: str, code: int = 0) -> str:
        return finished(self.start(*arguments), code=code)

    def ask(self, *arguments: str, code: int = 0) -> Any:
        return json.loads(self.run(*arguments, "--format", "json", code=code))

    def replay(self, manifest: Path, *, seed: int, rate: int = 1_000) -> subprocess.Popen[str]:
        sent = ("--batches", "60", "--records-per-batch", "10", "--seed", str(seed), "--rate", str(rate))
        return self.start("replay", "--scenario", "mixed", *sent, "--manifest", str(manifest))

    def proves(self, *manifests: Path) -> None:
        """Everything that was sent is counted once, by this checkout's own proof."""
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


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    running = emulator.start(emulator.free_port(4670), region=HOME)
    try:
        yield running.endpoint
    finally:
        emulator.stop(running.pid)


@pytest.fixture(scope="module")
def new(endpoint: str) -> Checkout:
    return Checkout(folder=ROOT, python=Path(sys.executable), endpoint=endpoint)


@pytest.fixture(scope="module")
def old(endpoint: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checkout]:
    version, commit = release_before(package_version(), (ROOT / "docs" / "releasing.md").read_text())
    if git("cat-file", "-e", f"{commit}^{{commit}}").returncode:
        why = f"this clone lacks {commit}, release {version}: git fetch --unshallow"
        if os.environ.get("CI"):
            pytest.fail(why)
        pytest.skip(why)
    folder = tmp_path_factory.mktemp("release") / version
    assert git("worktree", "add", "--detach", str(folder), commit).returncode == 0
    try:
        yield Checkout(folder=folder, python=environment_of(folder, version), endpoint=endpoint)
    finally:
        git("worktree", "remove", "--force", str(folder))


def release_before(version: str, text: str) -> tuple[str, str]:
    """Version and commit of the last release before a version."""
    older = [
        (match["version"], match["commit"])
        for match in _RELEASE.finditer(text)
        if order(match["version"]) < order(version)
    ]
    return max(older, key=lambda each: order(each[0]))


def environment_of(folder: Path, version: str) -> Path:
    """The Python of a release: this one with the release's metadata if its packages are the same, else its own."""
    if dependencies(folder) == dependencies(ROOT):
        metadata = folder / f"metering-{version}.dist-info" / "METADATA"
        metadata.parent.mkdir()
        metadata.write_text(f"Metadata-Version: 2.1\nName: metering\nVersion: {version}\n")
        return Path(sys.executable)
    plain = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
    command = [find_uv(), "sync", "--quiet", "--frozen", "--all-extras", "--python", sys.executable]
    subprocess.run(command, cwd=folder, env=plain, check=True)
    return folder / ".venv" / "bin" / "python"


def dependencies(folder: Path) -> str:
    """The lock without the version of the project itself."""
    return re.sub(r'(name = "metering"\nversion = )"[^"]+"', r"\1", (folder / "uv.lock").read_text())


def git(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)


def send_own(endpoint: str) -> None:
    """Batches whose total is known by itself."""
    clients = Clients(Access(region=HOME, endpoint_url=endpoint, access_key=("test", "test")))
    [url] = [u for u in clients.sqs.list_queues()["QueueUrls"] if f"{STAGE}-data-IngestQueue" in u]
    now_s = int(time.time())
    for size in SIZES:
        record = {
            "account_id": ACCOUNT, "service": "AmazonEC2", "resource_id": "i-0", "direction": "out", "from": HOME,
            "to": "internet", "bytes": size, "start": now_s - HOUR_S, "end": now_s - HOUR_S,
        }  # fmt: skip
        body = {"schema": "metering.batch/1", "batch_id": f"own-{size}", "record_count": 1, "records": [record]}
        clients.sqs.send_message(QueueUrl=url, MessageBody=json.dumps(body))


def test_totals_stay_equal_through_an_upgrade_a_rollback_and_an_upgrade_beside_traffic(
    old: Checkout, new: Checkout, tmp_path: Path
) -> None:
    first, second, third, fourth = (tmp_path / f"{number}.ndjson" for number in range(4))
    [row] = old.ask("region", "add", HOME)["rows"]
    assert row["state"] == "ready"
    send_own(old.endpoint)
    finished(old.replay(first, seed=1))
    old.proves(first)
    assert old.total() == sum(SIZES)

    [found] = new.ask("upgrade", "--check", code=1)["rows"]
    assert (found["way"], found["deployed"]) == ("upgrade", f"{LAST_SILENT_VERSION} or older")
    traffic = old.replay(second, seed=2, rate=3)
    new.run("upgrade")
    finished(traffic)
    new.proves(first, second)
    assert new.total() == sum(SIZES)
    [found] = new.ask("upgrade", "--check")["rows"]
    assert (found["way"], found["settings"]) == ("same", "same")

    # The way back: the older checkout deploys itself, as docs/operator-guide.md says.
    traffic = new.replay(third, seed=3, rate=3)
    old.run("region", "add", HOME, "--redeploy")
    finished(traffic)
    old.proves(first, second, third)
    assert old.total() == sum(SIZES)

    traffic = old.replay(fourth, seed=4, rate=3)
    new.run("deploy")
    finished(traffic)
    new.proves(first, second, third, fourth)
    new.run("compact")
    assert new.ask("reconcile", "--deep")["different"] == 0
    assert new.total() == sum(SIZES)
    [row] = new.ask("region", "status")["rows"]
    assert row["version"] == package_version()


def test_the_release_before_is_the_newest_older_one() -> None:
    table = "| version |\n| 0.1.0 | 1 | `aaaaaaa` |\n| 0.10.0 | 1 | `bbbbbbb` |\n| 0.9.0 | 1 | `ccccccc` |"

    assert release_before("0.10.0.dev0", table) == ("0.9.0", "ccccccc")
    assert release_before("0.10.1", table) == ("0.10.0", "bbbbbbb")

"""The previous release is deployed with traffic, upgraded, rolled back by its own checkout, and upgraded again.

Totals, the closed month and its invoice stay equal. A clone without the release's commit skips the drill; under CI it
fails, because a skip would go unnoticed.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import duckdb
import pytest

from infra.bundle import find_uv
from metering.adapters.aws.items import DynamoDbItemStore
from metering.adapters.aws.stacks import stack_outputs
from metering.fleet.ports import order
from metering.hours import hour_of, month_bounds_s, rfc3339
from metering.ledger.format_version import FORMAT_VERSION
from metering.ledger.markers import Marker, is_marker
from metering.ledger.notes.checks import CANARY_ACCOUNT_ID, CANARY_PREFIX
from metering.stores.writes import Table
from metering.units import DAY_S, HOUR_S
from metering.version import DISTRIBUTION, package_version
from tests import ROOT
from tests.e2e.conftest import plain_environment
from tests.support.emulated import clients_of, running_emulator

if TYPE_CHECKING:
    from metering.adapters.aws.session import Clients

HOME = "us-east-1"
# When a function is replaced, MiniStack kills its running invocations. Here, their messages are visible again in 20 s.
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
    """A checkout of a release, whose command line is run against an emulator."""

    folder: Path
    python: Path
    endpoint: str
    version: str

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a command in its own process group, so that its children can be killed."""
        return subprocess.Popen(
            [self.python, "-P", "-c", _PROGRAM, *arguments, "--endpoint", self.endpoint, "--stage", STAGE],
            cwd=self.folder,
            # The older release is first, because `metering` in the environment's packages is this checkout.
            env={**plain_environment(), "PYTHONPATH": str(self.folder)},
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
        """Check, with this checkout's `verify`, that all sent data is counted once."""
        named = [word for manifest in manifests for word in ("--manifest", str(manifest))]
        found = self.ask("verify", *named, "--wait", "3m")
        assert found["passed"], found
        assert (found["lost"], found["doubled"]) == ([], [])

    @property
    def clients(self) -> Clients:
        return cached_clients(self.endpoint)

    def accepted(self, table: str = "") -> dict[str, Marker]:
        """Markers of accepted batches by id; of the ledger in use, or of a copy. The canary's are left out."""
        # Item stores change how their client decodes items.
        dynamodb, name = clients_of(self.endpoint).dynamodb, table or stack_outputs(self.clients, STAGE).ledger_table
        items = DynamoDbItemStore(dynamodb, {Table.LEDGER: name})
        found = (Marker.from_item(item) for item in items.scan(Table.LEDGER) if is_marker(item))
        return {
            each.batch_id: each
            for each in found
            if each.verdict == "accepted" and not each.batch_id.startswith(CANARY_PREFIX)
        }

    def views(self, manifests: Sequence[Path], *, beside: int) -> dict[str, int]:
        """Bytes of all accepted batches by five independent counts. Call it once all is compacted.

        Args:
            manifests: The sender's count.
            beside: Bytes that were sent without a manifest.
        """
        now_s = int(time.time())
        times = ("--from", rfc3339(hour_of(now_s) - 35 * DAY_S), "--to", rfc3339(hour_of(now_s) + HOUR_S))
        named = [word for manifest in manifests for word in ("--manifest", str(manifest))]
        usage = self.ask("report", "usage", *times, "--group-by", "usage_type")["rows"]
        [queried] = self.ask("query", "SELECT sum(bytes) AS bytes FROM transfers")["rows"]
        return {
            "sender": int(self.ask("verify", *named)["promised"]["bytes"]) + beside,
            "markers": sum(total.bytes for marker in self.accepted().values() for total in marker.hours.values()),
            "usage": sum(int(row["bytes"]) for row in usage),
            "rows": int(queried["bytes"]),
            "lake prefix": self._lake_prefix(),
        }

    def _lake_prefix(self) -> int:
        """Bytes of all rows below `lake/` by plain DuckDB, the canary's left out."""
        s3, bucket = self.clients.s3, stack_outputs(self.clients, STAGE).data_bucket
        with TemporaryDirectory() as folder:
            for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix="lake/"):
                for each in page.get("Contents", []):
                    body = s3.get_object(Bucket=bucket, Key=each["Key"])["Body"].read()
                    Path(folder, each["Key"].replace("/", "_")).write_bytes(body)
            rows = duckdb.read_parquet(f"{folder}/*.parquet").filter(f"account_id <> '{CANARY_ACCOUNT_ID}'")
            [(total,)] = rows.sum("bytes").fetchall()
        return int(total)

    def total(self) -> int:
        now_s = int(time.time())
        times = ("--from", rfc3339(hour_of(now_s) - 48 * HOUR_S), "--to", rfc3339(hour_of(now_s) + HOUR_S))
        return sum(int(row["bytes"]) for row in self.ask("report", "usage", "--account", ACCOUNT, *times)["rows"])


# New clients take a fifth of a second. The emulator does one thing after the other, so a call may wait for a restore.
cached_clients = cache(partial(clients_of, attempts=12))


def finished(process: subprocess.Popen[str], *, code: int = 0, limit_s: int = 400) -> str:
    out, err = process.communicate(timeout=limit_s)
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
    """Python for a release: the current one plus the release's metadata if dependencies are equal, else a new one."""
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
    """Text of the lock file without the project's own version."""
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
    body = {"schema": "metering.batch/1", "batch_id": batch_id, "record_count": len(records), "records": [*records]}
    return json.dumps(body)


def send(endpoint: str, queue: str, *messages: str) -> None:
    """Send messages to a queue of the stage: `IngestQueue` or `IngestDeadLetters`."""
    clients = cached_clients(endpoint)
    [url] = [u for u in clients.sqs.list_queues()["QueueUrls"] if f"{STAGE}-data-{queue}" in u]
    for message in messages:
        clients.sqs.send_message(QueueUrl=url, MessageBody=message)


def send_own(endpoint: str) -> None:
    """Send batches whose total is checked separately."""
    start_s = int(time.time()) - HOUR_S
    send(endpoint, "IngestQueue", *(batch(f"own-{size}", [record(size, start_s)]) for size in SIZES))


pytestmark = [pytest.mark.emulator, pytest.mark.drill]

LAST_MONTH = 7_654_321


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with running_emulator(4670) as running:
        yield running.endpoint


@pytest.fixture(scope="module")
def new(endpoint: str) -> Checkout:
    return Checkout(folder=ROOT, python=Path(sys.executable), endpoint=endpoint, version=package_version())


@pytest.fixture(scope="module")
def old(endpoint: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checkout]:
    version, data_format, commit = release_before(package_version(), (ROOT / "docs" / "releasing.md").read_text())
    if git("cat-file", "-e", f"{commit}^{{commit}}").returncode:
        why = f"this clone lacks {commit}, release {version}: git fetch --unshallow"
        if os.environ.get("CI"):
            pytest.fail(why)
        pytest.skip(why)
    assert data_format == FORMAT_VERSION, "there is no rollback across data formats: drill the upgrade instead"
    folder = tmp_path_factory.mktemp("release") / version
    assert git("worktree", "add", "--detach", str(folder), commit).returncode == 0
    try:
        yield Checkout(folder=folder, python=environment_of(folder, version), endpoint=endpoint, version=version)
    finally:
        git("worktree", "remove", "--force", str(folder))


def test_totals_stay_equal_through_an_upgrade_a_rollback_and_an_upgrade_beside_traffic(
    old: Checkout, new: Checkout, tmp_path: Path
) -> None:
    first, second, third, fourth = (tmp_path / f"{number}.ndjson" for number in range(4))
    [row] = old.ask("region", "add", HOME)["rows"]
    assert row["state"] == "ready"
    send_own(old.endpoint)
    month = send_last_month(old.endpoint)
    finished(old.replay(first, seed=1))
    old.proves(first)
    assert old.total() == sum(SIZES)
    if month:
        old.run("period", "close", month)
        old.run("invoice", "issue", "--month", month, "--prices", "sample", "--payer", ACCOUNT, "--yes")

    [found] = new.ask("upgrade", "--check", code=1)["rows"]
    assert (found["way"], found["deployed_format"]) == ("upgrade", FORMAT_VERSION)
    assert found["deployed"].startswith(old.version)
    traffic = old.replay(second, seed=2, rate=3)
    new.run("upgrade")
    finished(traffic)
    new.proves(first, second)
    assert new.total() == sum(SIZES)
    keeps(new, month)
    [found] = new.ask("upgrade", "--check")["rows"]
    assert (found["way"], found["settings"]) == ("same", "same")

    # Rollback: the older checkout deploys itself, as docs/operator-guide.md says.
    traffic = new.replay(third, seed=3, rate=3)
    old.run("upgrade")
    finished(traffic)
    old.proves(first, second, third)
    assert old.total() == sum(SIZES)
    keeps(old, month)

    traffic = old.replay(fourth, seed=4, rate=3)
    new.run("upgrade")
    finished(traffic)
    new.proves(first, second, third, fourth)
    new.run("compact")
    assert new.ask("reconcile", "--deep")["different"] == 0
    assert new.total() == sum(SIZES)
    seen = new.views([first, second, third, fourth], beside=sum(SIZES) + (LAST_MONTH if month else 0))
    assert len(set(seen.values())) == 1, seen
    keeps(new, month)
    [row] = new.ask("region", "status")["rows"]
    assert row["version"] == package_version()


def keeps(checkout: Checkout, month: str) -> None:
    """Check, with this checkout's commands, that the closed month and its invoice are unchanged."""
    if month:
        checkout.run("period", "verify", month)
        checkout.run("invoice", "verify", f"{ACCOUNT}-{month}-1")


def send_last_month(endpoint: str) -> str:
    """If last month can be closed today, send a batch of it and return the month, else ""."""
    now_s = int(time.time())
    month = datetime.fromtimestamp(month_bounds_s(f"{datetime.fromtimestamp(now_s, UTC):%Y-%m}")[0] - 1, UTC)
    name = f"{month:%Y-%m}"
    end_s = month_bounds_s(name)[1]
    if not 3 * DAY_S < now_s - end_s < 33 * DAY_S:
        return ""
    send(endpoint, "IngestQueue", batch("own-last-month", [record(LAST_MONTH, end_s - HOUR_S)]))
    return name


def test_the_release_before_is_the_newest_older_one() -> None:
    table = "| version |\n| 0.1.0 | 1 | `aaaaaaa` |\n| 0.10.0 | 1 | `bbbbbbb` |\n| 0.9.0 | 1 | `ccccccc` |"

    assert release_before("0.10.0.dev0", table) == ("0.9.0", 1, "ccccccc")
    assert release_before("0.10.1", table) == ("0.10.0", 1, "bbbbbbb")

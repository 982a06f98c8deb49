"""A region is restored to a copy of its ledger by two operators whose commands are killed; then from nothing.

`METERING_DRILL_BATCHES` sets the number of batches that are metered before the damage, 20,000 by default.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import duckdb
import pytest

from metering.adapters.aws.items import DynamoDbItemStore
from metering.adapters.aws.restoring import DynamoDbTables
from metering.adapters.aws.session import Access, Clients
from metering.adapters.aws.stacks import stack_outputs
from metering.hours import hour_of, rfc3339
from metering.ledger.markers import Marker, is_marker
from metering.ledger.notes.checks import CANARY_ACCOUNT_ID
from metering.ledger.notes.money import ALERTS_PK
from metering.stores.writes import Table
from metering.units import DAY_S, HOUR_S
from metering.version import package_version
from tests import ROOT
from tests.e2e.test_releases import ACCOUNT, HOME, STAGE, Checkout, batch, finished, record, send, send_last_month
from tests.support.emulated import running_emulator

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.emulator, pytest.mark.drill]

BATCHES = int(os.environ.get("METERING_DRILL_BATCHES", "20000"))
KILLS = 20
COPY = "ledger-of-an-hour-ago"
BUDGET = "drill"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage(Checkout):
    """A stage of this checkout, with the stores behind it."""

    @property
    def clients(self) -> Clients:
        return Clients(Access(region=HOME, endpoint_url=self.endpoint, access_key=("test", "test")))

    def ledger(self) -> DynamoDbItemStore:
        resources = stack_outputs(self.clients, STAGE)
        tables = {Table.LEDGER: resources.ledger_table, Table.USAGE: resources.usage_table}
        return DynamoDbItemStore(self.clients.dynamodb, tables)

    def markers(self) -> dict[str, tuple[object, ...]]:
        """Facts of each accepted batch's marker, by id."""
        found = (Marker.from_item(item) for item in self.ledger().scan(Table.LEDGER) if is_marker(item))
        return {
            each.batch_id: (
                each.content_hash,
                each.records,
                each.metered,
                each.refused,
                each.sender_id,
                each.source_id,
                each.sequence,
            )
            for each in found
            if each.verdict == "accepted"
        }

    def alerts(self) -> Counter[str]:
        return Counter(str(item["sk"]) for item in self.ledger().query(Table.LEDGER, ALERTS_PK))

    def traffic(self, manifest: Path, batches: int, *, seed: int, rate: int = 100_000) -> Any:
        sent = ("--batches", str(batches), "--records-per-batch", "10", "--seed", str(seed), "--rate", str(rate))
        return self.start("replay", "--scenario", "mixed", *sent, "--manifest", str(manifest))

    def prefix_bytes(self, folder: Path) -> int:
        """Bytes of all rows below `lake/`, as an engine that knows no ledger counts them, without the canary's."""
        s3, bucket = self.clients.s3, stack_outputs(self.clients, STAGE).data_bucket
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix="lake/"):
            for each in page.get("Contents", []):
                body = s3.get_object(Bucket=bucket, Key=each["Key"])["Body"].read()
                (folder / each["Key"].replace("/", "_")).write_bytes(body)
        rows = duckdb.read_parquet(str(folder / "*.parquet")).filter(f"account_id <> '{CANARY_ACCOUNT_ID}'")
        [(total,)] = rows.sum("bytes").fetchall()
        return int(total)

    def usage_bytes(self) -> int:
        now_s = int(time.time())
        times = ("--from", rfc3339(hour_of(now_s) - 35 * DAY_S), "--to", rfc3339(hour_of(now_s) + HOUR_S))
        return sum(int(row["bytes"]) for row in self.ask("report", "usage", *times, "--group-by", "usage_type")["rows"])


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    from pathlib import Path

    with running_emulator(4690) as running:
        yield Stage(folder=ROOT, python=Path(sys.executable), endpoint=running.endpoint, version=package_version())


def next_step(stage: Stage) -> str:
    return next((row["step"] for row in stage.ask("restore", "show")["rows"] if row["state"] == "next"), "")


def killed_and_ended(stage: Stage, *request: str) -> None:
    """Two operators give the same command; it is killed at random times, and given again, `KILLS` times."""
    chance = random.Random(27)
    other = stage.start("restore", *request, "--yes")
    for kills in range(KILLS):
        if kills == KILLS // 4:
            # All other kills hit the steps after the wait for functions.
            while next_step(stage) in {"table", "fence"}:
                if other.poll() is not None:
                    other = stage.start("restore", *request, "--yes")
                time.sleep(5)
        one = stage.start("restore", *request, "--yes")
        time.sleep(chance.uniform(2, 14))
        killed = [each for each in (one, other) if each.poll() is None]
        for each in killed[: 1 + (kills % 3 == 0)]:
            os.killpg(each.pid, signal.SIGKILL)
            each.communicate()
        if one.poll() is not None:
            one.communicate()
        if one.returncode == 0:
            break
    other.communicate()
    last = stage.start("restore", *request, "--yes")
    out, err = last.communicate(timeout=1_800)
    assert last.returncode == 0, f"{out}\n{err}"


def test_a_restored_ledger_has_everything_that_was_accepted(stage: Stage, tmp_path: Path) -> None:
    manifests = [tmp_path / f"{number}.ndjson" for number in range(4)]
    [row] = stage.ask("region", "add", HOME, "--set", "job_timeout_s=30")["rows"]
    assert row["state"] == "ready"
    send(stage.endpoint, "IngestQueue", batch("own", [record(5_000_000_000, int(time.time()) - HOUR_S)]))
    month = send_last_month(stage.endpoint)
    finished(stage.traffic(manifests[0], BATCHES, seed=1))
    stage.proves(manifests[0])
    stage.run("budget", "set", BUDGET, "--account", ACCOUNT, "--amount", "1 GB", "--threshold", "actual 100%")
    stage.run("token", "create", "--role", "operator", "--label", "drill", "--yes")
    [token] = stage.ask("token", "list")["rows"]

    resources = stack_outputs(stage.clients, STAGE)
    to = rfc3339(int(time.time()))
    tables = DynamoDbTables(stage.clients, like=resources.ledger_table, retained=False)
    tables.copy(resources.ledger_table, COPY)

    # What the copy lacks: a tenth of the batches, a closed month with its invoice, a revoked token, an alert.
    finished(stage.traffic(manifests[1], BATCHES // 8, seed=2))
    stage.proves(*manifests[:2])
    stage.run("compact")
    stage.run("token", "revoke", token["token_id"], "--yes")
    if month:
        stage.run("period", "close", month, "--yes")
        stage.run("invoice", "issue", "--month", month, "--prices", "sample", "--payer", ACCOUNT, "--yes")
    stage.run("budget", "update")
    alerts, accounts = stage.alerts(), stage.ask("accounts")["rows"]
    assert alerts
    finished(stage.traffic(manifests[2], BATCHES // 40, seed=3))
    stage.proves(*manifests[:3])
    markers, before = stage.markers(), stage.usage_bytes()

    during = stage.traffic(manifests[3], 300, seed=4, rate=2)
    killed_and_ended(stage, "--to", to, "--from-copy", COPY)
    finished(during)
    holds(stage, manifests, markers, month, alerts)
    stage.run("restore", "finish", "--yes")

    markers, before = stage.markers(), stage.usage_bytes()
    killed_and_ended(stage, "--from-nothing")
    assert stage.usage_bytes() == before
    holds(stage, manifests, markers, month, alerts)
    assert accounts


def holds(
    stage: Stage, manifests: list[Path], markers: dict[str, tuple[object, ...]], month: str, alerts: Counter[str]
) -> None:
    """Check that every view has what was sent, and that nothing that people did is undone."""
    stage.proves(*manifests)
    now = stage.markers()
    assert {name: now.get(name) for name in markers} == markers
    stage.run("compact")
    assert stage.ask("reconcile", "--deep")["different"] == 0
    assert stage.prefix_bytes(manifests[0].parent / "lake") == stage.usage_bytes()
    if month:
        stage.run("period", "verify", month)
        stage.run("invoice", "verify", f"{ACCOUNT}-{month}-1")
    stage.run("budget", "update")
    assert stage.alerts() == alerts
    [row] = [each for each in stage.ask("budget", "list")["rows"] if each["budget"] == BUDGET]
    assert row
    assert [each["state"] for each in stage.ask("token", "list")["rows"]] == ["revoked"]

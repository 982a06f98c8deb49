"""The release before this one is deployed with traffic and upgraded, and its totals stay equal.

Within one data format it is also rolled back by its own checkout, and upgraded again. To another format the upgrade is
killed again and again, and there is no way back. A clone without the commit of the release skips the drills; where CI
is set they fail, for nobody would read the reason.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from metering.adapters.emulator import ministack as emulator
from metering.hours import month_bounds_s
from metering.ledger.format_version import FORMAT_VERSION
from metering.units import DAY_S, HOUR_S
from metering.version import package_version
from tests.e2e.releases import (
    ACCOUNT,
    HOME,
    ROOT,
    SIZES,
    STAGE,
    Checkout,
    batch,
    environment_of,
    finished,
    git,
    record,
    release_before,
    send,
    send_own,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.emulator, pytest.mark.drill]

# Seconds after which one upgrade after the other is killed: in its checks, while it deploys, and while it converts.
WIDE = 300
LAST_MONTH = 7_654_321
KILLED_AFTER_S = (4, 9, 15, 22, 30, 38, 46, 55)
# A worker of the old release that dies after the first transaction of a wide commit.
DYING = """
import os, sys
from metering.adapters.aws.session import Access, Clients
from metering.adapters.aws.stacks import stack_outputs
from metering.adapters.no_metrics import NoMetrics
from tests.support.memory.clock import DeadlineAt
from metering.stores.deliveries import Delivery
from metering.wiring.aggregator import build_aggregator
from metering.wiring.connection import RegionConnection

region, stage, endpoint, body = sys.argv[1:]
clients = Clients(Access(region=region, endpoint_url=endpoint, access_key=("test", "test")))
parts = RegionConnection(clients, stack_outputs(clients, stage))
transact, left = parts.items.transact, [1]

def dying(actions):
    if not left[0]:
        print("died", flush=True)
        os._exit(0)
    left[0] -= 1
    transact(actions)

parts.items.transact = dying
now_ms = parts.clock.now_ms()
delivery = Delivery(message_id="m", body=body, sent_at_ms=now_ms, receive_count=1, sender_id="s")
build_aggregator(parts, NoMetrics()).handle([delivery], DeadlineAt(clock=parts.clock, at_ms=now_ms + 60_000))
"""


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    running = emulator.start(emulator.free_port(4670), region=HOME)
    try:
        yield running.endpoint
    finally:
        emulator.stop(running.pid)


@pytest.fixture(scope="module")
def new(endpoint: str) -> Checkout:
    return Checkout(folder=ROOT, python=Path(sys.executable), endpoint=endpoint, data_format=FORMAT_VERSION)


@pytest.fixture(scope="module")
def old(endpoint: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checkout]:
    version, data_format, commit = release_before(package_version(), (ROOT / "docs" / "releasing.md").read_text())
    if git("cat-file", "-e", f"{commit}^{{commit}}").returncode:
        why = f"this clone lacks {commit}, release {version}: git fetch --unshallow"
        if os.environ.get("CI"):
            pytest.fail(why)
        pytest.skip(why)
    folder = tmp_path_factory.mktemp("release") / version
    assert git("worktree", "add", "--detach", str(folder), commit).returncode == 0
    try:
        python = environment_of(folder, version)
        yield Checkout(folder=folder, python=python, endpoint=endpoint, data_format=data_format)
    finally:
        git("worktree", "remove", "--force", str(folder))


def test_totals_stay_equal_through_an_upgrade_a_rollback_and_an_upgrade_beside_traffic(
    old: Checkout, new: Checkout, tmp_path: Path
) -> None:
    if old.data_format != FORMAT_VERSION:
        pytest.skip("there is no rollback across data formats")
    first, second, third, fourth = (tmp_path / f"{number}.ndjson" for number in range(4))
    [row] = old.ask("region", "add", HOME)["rows"]
    assert row["state"] == "ready"
    send_own(old.endpoint)
    finished(old.replay(first, seed=1))
    old.proves(first)
    assert old.total() == sum(SIZES)

    [found] = new.ask("upgrade", "--check", code=1)["rows"]
    assert (found["way"], found["deployed_format"]) == ("upgrade", FORMAT_VERSION)
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


def test_data_of_the_format_before_is_upgraded_under_sigkill_and_every_view_stays_equal(
    old: Checkout, new: Checkout, tmp_path: Path
) -> None:
    if old.data_format == FORMAT_VERSION:
        pytest.skip("the release before has the same data format")
    first, second = tmp_path / "1.ndjson", tmp_path / "2.ndjson"
    [row] = old.ask("region", "add", HOME)["rows"]
    assert row["state"] == "ready"
    send_own(old.endpoint)
    month = send_last_month(old.endpoint)
    finished(old.replay(first, seed=1))
    old.proves(first)
    assert old.total() == sum(SIZES)
    if month:
        old.run("period", "close", month)
    send(old.endpoint, "IngestDeadLetters", "nobody can read this")
    die_in_a_wide_commit(old)
    refused = {row["key"]: row["batch_id"] for row in old.ask("quarantine", "list")["rows"]}

    with pytest.raises(AssertionError, match="run metering upgrade"):
        new.run("report", "usage")
    traffic = old.replay(second, seed=2, rate=3)
    assert upgraded_under_sigkill(new) > 3
    finished(traffic)

    new.proves(first, second)
    # The wide commit has 1 byte in each of its records.
    assert new.total() == sum(SIZES) + WIDE
    new.run("compact")
    assert new.ask("reconcile", "--deep")["different"] == 0
    by_account = "SELECT account_id, sum(bytes)::TEXT AS bytes FROM transfers GROUP BY account_id"
    rows = {row["account_id"]: int(row["bytes"]) for row in new.ask("query", by_account)["rows"]}
    assert rows[ACCOUNT] == sum(SIZES) + WIDE + (LAST_MONTH if month else 0)
    if month:
        new.run("period", "verify", month)
    kept = {row["key"]: row["batch_id"] for row in new.ask("quarantine", "list")["rows"]}
    assert refused.items() <= kept.items()
    assert len(refused) > 3
    assert len(new.ask("dlq", "list")["rows"]) == 1
    with pytest.raises(
        AssertionError, match="format 2, and this version of metering knows formats up to 1: use metering"
    ):
        old.run("report", "usage")
    [found] = new.ask("upgrade", "--check")["rows"]
    assert (found["way"], found["deployed_format"]) == ("same", FORMAT_VERSION)


def send_last_month(endpoint: str) -> str:
    """A batch of the month before, and that month, if it can be closed today and takes batches; else neither."""
    now_s = int(time.time())
    month = datetime.fromtimestamp(month_bounds_s(f"{datetime.fromtimestamp(now_s, UTC):%Y-%m}")[0] - 1, UTC)
    name = f"{month:%Y-%m}"
    end_s = month_bounds_s(name)[1]
    if not 3 * DAY_S < now_s - end_s < 33 * DAY_S:
        return ""
    send(endpoint, "IngestQueue", batch("own-last-month", [record(LAST_MONTH, end_s - HOUR_S)]))
    return name


def die_in_a_wide_commit(old: Checkout) -> None:
    """Leave a commit open, of which one transaction is applied."""
    start_s = int(time.time()) - HOUR_S
    records = [{**record(1, start_s), "service": f"Service{number}"} for number in range(WIDE)]
    process = old.program(DYING, HOME, STAGE, old.endpoint, batch("own-wide", records))
    assert "died" in finished(process)


def upgraded_under_sigkill(new: Checkout) -> int:
    """Upgrade, and kill it again and again; returns how often."""
    killed = 0
    for after_s in KILLED_AFTER_S:
        process = new.start("upgrade")
        try:
            process.wait(after_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            killed += 1
        else:
            finished(process)
            return killed
    new.run("upgrade")
    return killed


def test_the_release_before_is_the_newest_older_one() -> None:
    table = "| version |\n| 0.1.0 | 1 | `aaaaaaa` |\n| 0.10.0 | 1 | `bbbbbbb` |\n| 0.9.0 | 1 | `ccccccc` |"

    assert release_before("0.10.0.dev0", table) == ("0.9.0", 1, "ccccccc")
    assert release_before("0.10.1", table) == ("0.10.0", 1, "bbbbbbb")

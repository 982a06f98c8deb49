"""The previous release is deployed with traffic, upgraded, rolled back by its own checkout, and upgraded again.

Totals, the closed month and its invoice stay equal. A clone without the release's commit skips the drill; where CI is
set it fails, because nobody would read the reason.
"""

from __future__ import annotations

import os
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
from tests import ROOT
from tests.e2e.releases import (
    ACCOUNT,
    HOME,
    SIZES,
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

LAST_MONTH = 7_654_321


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    running = emulator.start(emulator.free_port(4670), region=HOME)
    try:
        yield running.endpoint
    finally:
        emulator.stop(running.pid)


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
        python = environment_of(folder, version)
        yield Checkout(folder=folder, python=python, endpoint=endpoint, version=version)
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
    keeps(new, month)
    [row] = new.ask("region", "status")["rows"]
    assert row["version"] == package_version()


def keeps(checkout: Checkout, month: str) -> None:
    """The closed month and its invoice are unchanged, according to this checkout's own proof."""
    if month:
        checkout.run("period", "verify", month)
        checkout.run("invoice", "verify", f"{ACCOUNT}-{month}-1")


def send_last_month(endpoint: str) -> str:
    """Send a batch of last month and return that month, if it can be closed today; else do neither."""
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

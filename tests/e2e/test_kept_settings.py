"""Given settings outlive every redeployment, even a runbook's, until somebody unsets them."""

from __future__ import annotations

import csv
import io
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

# The gate has one of these redeployments, in test_regions.
pytestmark = [pytest.mark.emulator, pytest.mark.drill]

PAGER = '[{"severity":"page","protocol":"email","endpoint":"oncall@example.com"}]'
# As runbooks have it.
RUNBOOK = ("region", "add", "us-east-1", "--redeploy", "--no-pager")


class Laptop:
    """`metering local` in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def run(self, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        plain = {n: v for n, v in os.environ.items() if not n.startswith(("AWS_", "METERING_", "LOCALST"))}
        done = subprocess.run(
            [str(Path(sys.executable).with_name("metering")), *arguments],
            cwd=self.folder,
            env={**plain, "METERING_LOCAL_DIR": str(self.folder / "local")},
            text=True,
            capture_output=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == code, f"{arguments}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def settings(self) -> dict[str, tuple[str, str]]:
        """Value and source of each deployed setting."""
        rows = csv.DictReader(io.StringIO(self.run("settings", "show", "--all", "--format", "csv").stdout))
        return {row["setting"]: (row["value"], row["by"]) for row in rows}

    def concurrency(self) -> tuple[str, str]:
        return self.settings()["max_concurrency"]

    def file(self, text: str) -> None:
        (self.folder / "metering.toml").write_text(text)


@pytest.fixture
def laptop(tmp_path: Path) -> Iterator[Laptop]:
    made = Laptop(tmp_path)
    yield made
    made.run("local", "down")


def test_settings_and_the_pager_outlive_redeployments_until_they_are_taken_back(laptop: Laptop) -> None:
    laptop.run("local", "up", "--set", f"subscriptions={PAGER}", "--set", "max_concurrency=8")
    assert laptop.concurrency() == ("8", "set")

    refused = laptop.run("local", "up", "--set", "max_concurrency=16", code=1)
    assert "with other settings: max_concurrency 8 -> 16" in refused.stderr
    laptop.run("local", "up", "--set", "max_concurrency=8")
    in_vain = laptop.run("settings", "diff")
    assert "Nothing differs" in in_vain.stderr

    done = laptop.run(*RUNBOOK)
    assert "us-east-1: settings: nothing changes" in done.stderr
    assert laptop.concurrency() == ("8", "set")
    assert "oncall@example.com" in laptop.run("alerts", "test", "--format", "csv").stdout

    # The region is ready by now: without a deployment, no setting would change.
    assert "Add --redeploy" in laptop.run("region", "add", "us-east-1", "--set", "batch_size=5", code=2).stderr

    # The file takes precedence for the settings that it names; the others are kept.
    laptop.file("[stage.local]\nmax_concurrency = 6\n")
    assert "us-east-1,max_concurrency,8,6,file" in laptop.run("settings", "diff", "--format", "csv").stdout
    laptop.run("settings", "diff", "--check", code=1)
    done = laptop.run(*RUNBOOK, "--unset", "subscriptions")
    assert "max_concurrency 8 -> 6; 1 subscription removed (page email oncall@example.com)" in done.stderr
    assert "alarms page no one" in done.stderr
    found = laptop.settings()
    assert found["max_concurrency"] == ("6", "file")
    assert found["subscriptions"] == ("[]", "default")
    laptop.run("alerts", "test", code=1)


def test_a_reset_keeps_the_settings_it_was_started_with(laptop: Laptop) -> None:
    laptop.run("local", "up", "--set", "max_concurrency=8")
    laptop.run("local", "reset")
    assert laptop.concurrency() == ("8", "set")
    assert laptop.run("settings", "show", "--as-set").stdout == "--set max_concurrency=8\n"
    toml = laptop.run("settings", "show", "--toml").stdout
    laptop.file(toml)
    assert "local,local,1" in laptop.run("settings", "validate", "--format", "csv").stdout


def test_a_new_region_of_a_stage_has_the_settings_of_its_home_region(laptop: Laptop) -> None:
    laptop.run("local", "up", "--set", "max_concurrency=8", "--set", f"subscriptions={PAGER}")
    laptop.run("region", "add", "eu-west-1")
    rows = laptop.run("settings", "show", "--region", "all", "--format", "csv").stdout.splitlines()
    assert "eu-west-1,max_concurrency,8,set" in rows
    assert "us-east-1,max_concurrency,8,set" in rows

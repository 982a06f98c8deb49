"""What an uninstall leaves comes with the lines that delete it, and they go where the stage was."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import TYPE_CHECKING

from typer.testing import CliRunner

from metering.cli.app import app
from metering.cli.commands.platform import deploy
from metering.fleet.removal import Remaining
from tests.support.answering import MINISTACK, serving

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

TABLE = Remaining(region="us-east-1", kind="table", name="ledger", orphaned=True)
FLEET = SimpleNamespace(
    uninstall=SimpleNamespace(regions=lambda: ["us-east-1"], would_remain=lambda _region, *, delete_data: [TABLE])
)


def test_a_line_that_deletes_on_an_emulator_names_its_endpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METERING_LOCAL_DIR", str(tmp_path))
    monkeypatch.setattr(deploy, "deploying_fleet", lambda _session: FLEET)
    with serving(MINISTACK) as endpoint:
        words = ("--stage", "prod", "--delete-data", "--dry-run", "--endpoint", endpoint, "--format", "json")
        done = CliRunner().invoke(app, ["uninstall", *words])

    assert done.exit_code == 0, done.stderr
    [row] = json.loads(done.stdout)["rows"]
    first, second = row["delete_with"].split(" && ")
    assert first.startswith(f"aws --endpoint-url {endpoint} dynamodb update-table ")
    assert second.startswith(f"aws --endpoint-url {endpoint} dynamodb delete-table ")

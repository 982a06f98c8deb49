"""Runs the command line thousands of times in one process; slow steps run once, because other tests cover them."""

from __future__ import annotations

import os
from functools import cache
from types import SimpleNamespace
from typing import TYPE_CHECKING

import botocore.endpoint
import pytest
import typer.testing
from typer.main import get_command

# Loaded before a test replaces classes that these modules import by name: otherwise they would keep the replacement.
import metering.adapters.aws.homes
import metering.wiring.connection
import metering.wiring.fleet  # noqa: F401

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def _no_pauses_between_attempts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the SDK retry an unreachable endpoint without pauses."""
    monkeypatch.setattr(botocore.endpoint, "time", SimpleNamespace(sleep=lambda _seconds: None))


@pytest.fixture(autouse=True)
def _region_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set a region, so that no test searches AWS for the stage; tests about the home region undo this."""
    monkeypatch.setenv("AWS_REGION", "us-east-1")


@pytest.fixture
def nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the tester's emulator, account, region, stage and settings."""
    for name in [name for name in os.environ if name.startswith(("AWS_", "METERING_", "LOCALSTACK_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("METERING_LOCAL_DIR", str(tmp_path / "local"))


@pytest.fixture
def nowhere(nobody: None, _region_is_named: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `nobody`, but with a region."""
    monkeypatch.setenv("AWS_REGION", "us-east-1")


@pytest.fixture(scope="session", autouse=True)
def _one_tree() -> Iterator[None]:
    """Build the command tree once, as a program does, because building it takes longer than most command lines."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(typer.testing, "_get_command", cache(get_command))
        yield

"""The local stage for people without an account: its state, and a clickable link to its page."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from metering.adapters.aws.runtime import SystemClock
from metering.adapters.emulator.state import LocalState, process_began, save_state
from metering.api.authentication import LedgerTokens
from metering.cli.app import app
from metering.cli.commands.developer import demo as demo_commands
from metering.cli.commands.developer import local as local_commands
from metering.cli.commands.developer.demo_stage import Demo, Played, show_end
from metering.cli.commands.developer.local import outputs_of, page_link, stands
from metering.errors import SettingsError, UnavailableError
from metering.fleet.ports import RegionStacks
from metering.ledger.notes.access import Role
from metering.stores.writes import Table
from metering.wiring.region import RegionPorts
from tests.support.memory.items import MemoryItemStore

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


ENDPOINT = "http://127.0.0.1:4567"
API = RegionStacks.of("local").api
STATE = LocalState(endpoint=ENDPOINT, region="us-east-1", stage="local", pid=os.getpid(), began="1", deployed=True)


@pytest.fixture
def ledger(monkeypatch: pytest.MonkeyPatch) -> MemoryItemStore:
    """The stage's ledger, and its API's outputs."""
    items = MemoryItemStore()

    def read(_clients: object, name: str) -> dict[str, str]:
        if name == API:
            return {"ApiUrl": "http://98a294bf.execute-api.localhost:4567"}
        raise SettingsError([f"stack {name} is not deployed in us-east-1"])

    monkeypatch.setattr("metering.adapters.aws.stacks.read_outputs", read)
    monkeypatch.setattr("metering.adapters.aws.stacks.stack_outputs", lambda *_: None)
    monkeypatch.setattr(RegionPorts, "items", items)
    return items


def test_the_link_opens_the_page_with_an_operators_token_in_its_fragment(ledger: MemoryItemStore) -> None:
    link = page_link(STATE)

    assert link is not None
    page, _, token = link.partition("#token=")
    # Nothing follows the slash: the page's own links are relative.
    assert page == f"{ENDPOINT}/_aws/execute-api/98a294bf/"
    grant = LedgerTokens(items=ledger, clock=SystemClock()).grant_of(token)
    assert grant is not None
    assert (grant.role, grant.accounts) == (Role.OPERATOR, None)


def test_a_stage_without_an_api_has_no_link_and_gets_no_token(
    ledger: MemoryItemStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nothing(_clients: object, name: str) -> dict[str, str]:
        raise SettingsError([f"stack {name} is not deployed in us-east-1"])

    monkeypatch.setattr("metering.adapters.aws.stacks.read_outputs", nothing)
    assert page_link(STATE) is None
    assert not list(ledger.everything(Table.LEDGER))


def test_what_can_be_opened_is_told_in_one_line_that_nothing_breaks(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    link = f"{ENDPOINT}/_aws/execute-api/98a294bf/#token=mtr_{'0' * 16}_{'1' * 64}"
    monkeypatch.setattr(local_commands, "page_link", lambda _state: link)
    monkeypatch.setenv("COLUMNS", "60")
    local_commands.tell_what_next(STATE)

    told = capsys.readouterr()
    assert f"Explore usage: {link}" in told.err.splitlines()
    # stdout may be saved in a file, so it contains no token.
    assert told.out == ""


@pytest.mark.parametrize("width", [60, 80])
def test_a_demo_that_stays_ends_with_the_link(
    width: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    link = f"{ENDPOINT}/_aws/execute-api/98a294bf/#token=mtr_{'0' * 16}_{'1' * 64}"
    monkeypatch.setenv("COLUMNS", str(width))
    show_end([Played(name="deploy", took_s=1.0, failed=False)], 1.0, link=link)

    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == link
    assert "The emulator is stopped." not in lines
    assert "  metering local down" in lines
    assert "  metering local up" not in lines


def test_a_demo_that_is_to_stay_leaves_a_stage_alone_that_is_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("METERING_LOCAL_DIR", str(tmp_path))
    save_state(replace(STATE, began=process_began(os.getpid()) or ""))
    stopped: list[str] = []
    monkeypatch.setattr(demo_commands, "stop_leftovers", stopped.append)
    monkeypatch.setattr(demo_commands, "perform", lambda *_: pytest.fail("an act was played"))

    result = CliRunner().invoke(app, ["demo", "--keep"])
    assert result.exit_code == 1
    assert "metering local down" in result.stderr
    assert stopped == []


def test_a_demo_that_stays_is_the_local_stage_and_any_other_leaves_that_alone() -> None:
    def named(*, keep: bool) -> str:
        return Demo(region_name="us-east-1", now_s=1, batches=1, records_per_batch=2, seed=1, keep=keep).name

    assert named(keep=True) == "emulator"
    assert named(keep=False) == "demo"


# Nothing listens on port 9 of this machine (discard).
SILENT = LocalState(
    endpoint="http://127.0.0.1:9", region="us-east-1", stage="local", pid=os.getpid(), began="", deployed=True
)


@pytest.mark.parametrize("ask", [stands, outputs_of])
def test_the_emulator_is_asked_without_any_credentials_of_an_account(
    ask: Callable[[LocalState], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, "/nowhere")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(UnavailableError, match="Could not connect"):
        ask(SILENT)

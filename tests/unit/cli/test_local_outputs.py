"""What stands in the local emulator, asked by people who have no account."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from metering.adapters.emulator.state import LocalState
from metering.cli.commands.developer.local import outputs_of, stands
from metering.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable

# Nothing listens on port 9 of this machine (discard).
STATE = LocalState(
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
        ask(STATE)

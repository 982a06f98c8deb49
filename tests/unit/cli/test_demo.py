"""`metering demo`: a step that never ends ends the demo."""

from __future__ import annotations

import threading

import pytest

from metering.cli.commands import demo
from metering.cli.failures import CommandFailedError


def test_a_step_that_never_ends_ends_the_demo_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "_STEP_S", 0.05)
    gate = threading.Event()
    try:
        with pytest.raises(CommandFailedError, match="the lake took longer"):
            demo.limited("the lake", gate.wait)
    finally:
        gate.set()


def test_a_step_gives_its_result_and_its_error() -> None:
    assert demo.limited("sending", lambda: 5) == 5
    nothing: dict[str, int] = {}
    with pytest.raises(KeyError):
        demo.limited("sending", lambda: nothing["x"])

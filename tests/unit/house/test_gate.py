"""The gate itself: it can fail, and it goes on after a failure."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from tests.gate import run

if TYPE_CHECKING:
    import pytest

PASSES = [sys.executable, "-c", "pass"]
FAILS = [sys.executable, "-c", "raise SystemExit(3)"]


def test_a_gate_of_parts_that_pass_is_green(capfd: pytest.CaptureFixture[str]) -> None:
    assert run({"one": (PASSES, 1), "two": (PASSES, 1)}, limit_min=1) == 0
    assert "2 passed, 0 failed" in capfd.readouterr().out


def test_one_failing_part_makes_it_red_and_the_others_still_run(capfd: pytest.CaptureFixture[str]) -> None:
    assert run({"one": (FAILS, 1), "two": (PASSES, 1)}, limit_min=1) == 1
    out = capfd.readouterr().out
    assert "== two" in out
    assert "FAILED" in out
    assert "1 passed, 1 failed" in out


def test_a_gate_that_takes_too_long_is_red() -> None:
    assert run({"one": (PASSES, 1)}, limit_min=0) == 1

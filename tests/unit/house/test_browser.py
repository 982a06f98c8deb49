"""Which browser tests drive, what installs one, and that a run without one cannot pass as a run with one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.browser.program import PACKAGE, commands, ends_without, program

if TYPE_CHECKING:
    from pathlib import Path


def machine(folder: Path, *programs: str) -> dict[str, str]:
    for name in programs:
        (folder / name).write_text("#!/bin/sh\n")
        (folder / name).chmod(0o755)
    return {"PATH": str(folder)}


def test_without_a_browser_tests_are_skipped_with_the_reason_and_red_under_ci() -> None:
    with pytest.raises(pytest.skip.Exception, match="make browser"):
        ends_without({})
    with pytest.raises(pytest.fail.Exception, match="CI is set, and there is no Chromium"):
        ends_without({"CI": "true"})


def test_the_browser_that_is_named_wins_then_the_smallest_on_the_path(tmp_path: Path) -> None:
    environ = machine(tmp_path, "google-chrome", PACKAGE)
    assert program(environ) == str(tmp_path / PACKAGE)
    assert program({**environ, "METERING_BROWSER": "/opt/chrome"}) == "/opt/chrome"
    assert program({"PATH": str(tmp_path / "nowhere")}) is None


def test_one_is_installed_only_where_nobody_must_be_asked(tmp_path: Path) -> None:
    assert commands({"PATH": str(tmp_path)}, root=True) == ()
    environ = machine(tmp_path, "apt-get")
    assert commands(environ, root=False) == ()
    assert commands(environ, root=True)[-1][:2] == ("apt-get", "install")
    assert commands(machine(tmp_path, "sudo"), root=False)[-1][:4] == ("sudo", "-n", "apt-get", "install")
    assert commands(machine(tmp_path, "chromium"), root=True) == ()

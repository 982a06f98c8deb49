"""Selects the browser for the page's tests, and installs one: `python -m tests.browser.program`.

A browser cannot be installed as a Python package. With apt-get, Debian's headless browser is installed (90 MB). Without
a browser, tests are skipped or, under `CI`, fail.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import NoReturn

import pytest

PACKAGE = "chromium-headless-shell"
PROGRAMS = (PACKAGE, "chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
MISSING = "there is no Chromium on this machine: `make browser` installs it where apt-get is there"


def program(environ: Mapping[str, str]) -> str | None:
    """The browser in METERING_BROWSER, or else the first browser on the PATH; None if there is no browser."""
    found = (shutil.which(name, path=environ.get("PATH")) for name in PROGRAMS)
    return environ.get("METERING_BROWSER") or next(filter(None, found), None)


def ends_without(environ: Mapping[str, str]) -> NoReturn:
    """End a test that has no browser: under `CI`, fail the test; otherwise, skip the test with the reason."""
    if environ.get("CI"):
        pytest.fail(f"CI is set, and {MISSING}.", pytrace=False)
    pytest.skip(MISSING)


def commands(environ: Mapping[str, str], *, root: bool) -> Sequence[Sequence[str]]:
    """Commands that install a browser; empty if one exists, or without apt-get, or with neither root nor sudo."""
    path = environ.get("PATH")
    if program(environ) or shutil.which("apt-get", path=path) is None:
        return ()
    sudo = () if root else ("sudo", "-n")
    if sudo and shutil.which("sudo", path=path) is None:
        return ()
    return (
        (*sudo, "apt-get", "update", "-q"),
        (*sudo, "apt-get", "install", "-q", "-y", "--no-install-recommends", PACKAGE),
    )


def main() -> None:
    """Install a browser unless one exists. A failure is only printed, because the tests report the missing browser."""
    for command in commands(os.environ, root=os.geteuid() == 0):
        done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            print(f"{' '.join(command)}: {done.stderr.strip()[-300:]}", file=sys.stderr)
            return


if __name__ == "__main__":
    main()

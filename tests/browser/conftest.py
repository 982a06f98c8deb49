"""A browser for tests of the page. Without one they are skipped and say so; where `CI` is set that is a failure."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import sync_playwright

from tests.browser.world import OPERATOR, busy_api, serving

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser

    from tests.api.world import ApiWorld

PROGRAMS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
MISSING = "there is no Chromium on this machine: `make browser` installs it where apt-get is there"


def browser_program(environ: dict[str, str]) -> str | None:
    """The browser that tests drive: the one that is named, else the first that is on the path."""
    named = environ.get("METERING_BROWSER")
    return named or next((found for name in PROGRAMS if (found := shutil.which(name, path=environ.get("PATH")))), None)


def no_browser(environ: dict[str, str]) -> None:
    """End a test that has no browser: red where everything must run, else skipped with the reason."""
    if environ.get("CI"):
        pytest.fail(f"CI is set, and {MISSING}.", pytrace=False)
    pytest.skip(MISSING)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """A headless browser, for all tests of a process."""
    program = browser_program(dict(os.environ))
    if program is None:
        no_browser(dict(os.environ))
    with sync_playwright() as playwright:
        # As root, as in most containers of CI, there is no sandbox to be had.
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=program, args=arguments)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def api() -> ApiWorld:
    """The API over a week of traffic."""
    return busy_api()


@pytest.fixture(scope="session")
def url(api: ApiWorld) -> Iterator[str]:
    """Address of the page, with the slash at its end."""
    with serving(api.app) as address:
        yield address


@pytest.fixture
def opened(url: str) -> str:
    """Address of the page with an operator's token."""
    return f"{url}#token={OPERATOR}"

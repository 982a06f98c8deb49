"""A browser for tests of the page. Without a browser, the tests are skipped or, if `CI` is set, fail."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import sync_playwright

from tests.browser.program import ends_without, program
from tests.browser.world import OPERATOR, busy_api, serving

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser

    from tests.api.world import ApiWorld


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """A headless browser, shared by all tests of a process."""
    found = program(os.environ)
    if found is None:
        ends_without(os.environ)
    with sync_playwright() as playwright:
        # Chromium has no sandbox when it runs as root, as in most CI containers.
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=found, args=arguments)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def api() -> ApiWorld:
    """The API on a region with a week of traffic."""
    return busy_api()


@pytest.fixture(scope="session")
def url(api: ApiWorld) -> Iterator[str]:
    """Address of the page, with a trailing slash."""
    with serving(api.app) as address:
        yield address


@pytest.fixture
def opened(url: str) -> str:
    """Address of the page with an operator's token."""
    return f"{url}#token={OPERATOR}"

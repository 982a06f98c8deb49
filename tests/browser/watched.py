"""A watched tab: its console messages, requests and violations. Unexpected events make a check fail."""

from __future__ import annotations

import base64
import os
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast
from urllib.parse import urlsplit

from axe_playwright_python.sync_playwright import Axe

from tests.support.lake_world import NOW_S

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, ConsoleMessage, Page, Request

    Scheme = Literal["light", "dark"]

PICTURES = Path(__file__).parents[2] / ".local" / "browser"
# Where pictures of the docs are written, if they are asked for: `make pictures`.
DOCS = os.environ.get("METERING_PICTURES", "")
WIDE, MIDDLE, NARROW = 1400, 800, 400
HEIGHT = 900
TIMEOUT_MS = 20_000
_TELL = """window.refusals = [];
addEventListener('securitypolicyviolation', (event) => window.refusals.push(event.violatedDirective));"""


@dataclass(kw_only=True)
class Watched:
    """A tab and its events. Mutable.

    Attributes:
        page: The tab.
        console: All console messages; a working page logs none.
        hosts: Hosts that were contacted.
        addresses: All requested addresses.
        pictures: Name of the folder for screenshots.
        patience_ms: Timeout for figures.
    """

    page: Page
    pictures: str = ""
    patience_ms: int = TIMEOUT_MS
    console: list[str] = field(default_factory=list)
    hosts: set[str] = field(default_factory=set)
    addresses: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.on("console", self._said)
        self.page.on("pageerror", lambda error: self.console.append(f"error: {error}"))
        self.page.on("request", self._asked)

    def _said(self, message: ConsoleMessage) -> None:
        self.console.append(f"{message.type}: {message.text}")

    def _asked(self, request: Request) -> None:
        parts = urlsplit(request.url)
        if parts.scheme in {"http", "https", "ws", "wss"}:
            self.hosts.add(parts.netloc)
            self.addresses.append(request.url)

    def open(self, address: str) -> None:
        """Open an address, and wait until the page shows figures."""
        self.page.goto(address)
        self.settle()

    def settle(self) -> None:
        """Wait until all requested data is shown."""
        whole = "#results[data-whole], #results[aria-busy=false]:not([data-loads]), .sign-in"
        self.page.wait_for_selector(whole, timeout=self.patience_ms)

    def text(self, selector: str) -> str:
        """Visible text of the first element."""
        return self.page.locator(selector).first.inner_text()

    def attribute(self, selector: str, name: str) -> str:
        """An attribute of the first element; fail if it is absent."""
        found = self.page.locator(selector).first.get_attribute(name)
        assert found is not None, (selector, name)
        return found

    def faults(self) -> list[str]:
        """Violated accessibility rules, each with the first violating element."""
        # The chart is drawn into a canvas, whose text the axe rules do not see; a separate test covers its colours.
        found = cast("Any", Axe().run(self.page).response)["violations"]
        return [f"{each['id']}: {each['nodes'][0]['html'][:200]}" for each in found]

    def check(self, origin: str, *, secrets: tuple[str, ...] = ()) -> None:
        """Check that there was no console message, foreign request, blocked resource or secret in a URL."""
        assert self.console == [], self.console
        assert self.hosts == {urlsplit(origin).netloc}
        assert self.page.evaluate("window.refusals") == []
        for secret in secrets:
            assert not [address for address in self.addresses if secret in address]
            assert secret not in self.page.url
        assert self.page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "wider than its window"

    def elsewhere(self) -> None:
        """Scroll to the panel below the figures, which is loaded by this."""
        self.page.locator(".elsewhere").scroll_into_view_if_needed()
        self.page.wait_for_selector(".twins")

    def picture(self, name: str) -> None:
        """Save a screenshot of the whole page."""
        if self.page.locator(".elsewhere").count():
            self.elsewhere()
            self.page.evaluate("scrollTo(0, 0)")
        folder = PICTURES / self.pictures
        folder.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=folder / f"{name}.png", full_page=True)

    def picture_for_docs(self, name: str) -> None:
        """Save a picture of the whole page, and a small one below the docs if this is asked for."""
        self.picture(name)
        if not DOCS:
            return
        size = self.page.evaluate("[innerWidth, document.documentElement.scrollHeight]")
        clip = {"x": 0, "y": 0, "width": size[0], "height": size[1], "scale": 1}
        options = {"format": "webp", "quality": 50, "captureBeyondViewport": True, "clip": clip}
        taken = self.page.context.new_cdp_session(self.page).send("Page.captureScreenshot", options)
        scheme, width = self.pictures.split("-")
        Path(DOCS, f"{name}-{width}-{scheme}.webp").write_bytes(base64.b64decode(taken["data"]))


@contextmanager
def watched(browser: Browser, *, scheme: Scheme = "light", width: int = WIDE, now_s: int = NOW_S) -> Iterator[Watched]:
    """A new tab in a fresh browser context, with its clock at `now_s`."""
    context = browser.new_context(
        color_scheme=scheme,
        viewport={"width": width, "height": HEIGHT},
        reduced_motion="reduce",
        accept_downloads=True,
        # Emulators use self-signed certificates.
        ignore_https_errors=True,
        timezone_id="Asia/Kolkata",
        locale="de-DE",
    )
    context.set_default_timeout(TIMEOUT_MS)
    page = context.new_page()
    page.clock.set_fixed_time(now_s)
    page.add_init_script(_TELL)
    try:
        yield Watched(page=page, pictures=f"{scheme}-{width}")
    finally:
        context.close()

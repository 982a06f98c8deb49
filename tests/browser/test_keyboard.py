"""The page by keyboard alone: everything can be reached, seen to be focused, and used."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.browser.watched import NARROW, WIDE, watched
from tests.browser.world import OPERATOR

if TYPE_CHECKING:
    from playwright.sync_api import Browser

    from tests.browser.watched import Watched

pytestmark = pytest.mark.browser
_MOST_STEPS = 90
_FOCUSED = """() => {
  const at = document.activeElement;
  const style = getComputedStyle(at);
  const box = at.getBoundingClientRect();
  return {
    name: [at.tagName.toLowerCase() + '#' + at.id, at.getAttribute('aria-label'), at.textContent.trim()].join('|'),
    ring: style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2,
    seen: box.width > 0 && box.height > 0,
    body: at === document.body,
  };
}"""


def tab_to(tab: Watched, part: str, *, key: str = "Tab") -> str:
    """Press Tab until something of that name has the focus; everything on the way shows its focus."""
    for _ in range(_MOST_STEPS):
        tab.page.keyboard.press(key)
        found = tab.page.evaluate(_FOCUSED)
        if found["body"]:
            continue
        assert found["ring"], f"no ring around {found['name']}"
        assert found["seen"], f"not to be seen: {found['name']}"
        if part in found["name"]:
            return str(found["name"])
    raise AssertionError(f"{part} is not reached by Tab")


def test_the_first_step_skips_to_the_figures(browser: Browser, opened: str, url: str) -> None:
    with watched(browser) as tab:
        tab.open(opened)
        assert "Skip to the figures" in tab_to(tab, "Skip")
        tab.page.keyboard.press("Enter")
        assert tab.page.evaluate("document.activeElement.id") == "main"
        tab.check(url)


@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_a_question_is_asked_and_followed_by_keyboard(browser: Browser, url: str, opened: str, width: int) -> None:
    with watched(browser, width=width) as tab:
        tab.open(opened)
        tab_to(tab, "24 hours")
        tab.page.keyboard.press("Enter")
        tab.page.wait_for_url("**range=24h**")
        tab.settle()
        tab_to(tab, "select#by")
        tab.page.keyboard.press("ArrowDown")
        tab.page.wait_for_url("**by=account_id**")
        tab.settle()
        # Whoever chose something is where they were.
        assert tab.page.evaluate("document.activeElement.id") == "by"
        tab_to(tab, "Filters")
        tab.page.keyboard.press("Enter")
        tab_to(tab, "input#service")
        tab.page.keyboard.type("AmazonEC2")
        tab.page.keyboard.press("Enter")
        tab.page.wait_for_url("**service=AmazonEC2**")
        tab.settle()
        tab_to(tab, "Usage by account, the largest first")
        tab_to(tab, "a#|")
        tab.page.keyboard.press("Enter")
        tab.page.wait_for_url("**account=**")
        tab.settle()
        words = parse_qs(urlsplit(tab.page.url).query)
        assert words["service"] == ["AmazonEC2"]
        assert tab.page.evaluate("document.activeElement.id") == "title"
        tab_to(tab, "The figures by hour")
        tab.page.keyboard.press("Enter")
        assert tab.page.locator(".over-time table").is_visible()
        tab_to(tab, "Usage by hour in UTC")
        tab.page.keyboard.press("Escape")
        tab.page.locator("[data-format=csv]").focus()
        with tab.page.expect_download():
            tab.page.keyboard.press("Enter")
        tab.check(url, secrets=(OPERATOR,))


def test_what_changed_is_said(browser: Browser, opened: str, url: str) -> None:
    with watched(browser) as tab:
        tab.open(opened)
        assert tab.attribute("#status", "role") == "status"
        assert tab.text("#status") == "Usage loaded, 15 rows"
        label = tab.attribute(".chart", "aria-label")
        assert "Usage by hour in UTC" in label
        assert "The largest is DataTransfer-Out-Bytes" in label
        tab.check(url)

"""A walk through the page, in light and dark, wide and narrow: what it shows is what the API says, to the byte.

On the whole way nothing is said in the console, nothing is refused by the policy, nobody but the origin is asked, no
token stands in an address, no rule of accessibility is broken, and nothing is wider than the window.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from tests.api.world import FIRST
from tests.browser.watched import NARROW, WIDE, watched
from tests.browser.world import ANALYST, CUSTOMER, OPERATOR
from tests.unit.house.command_lines import parsed

if TYPE_CHECKING:
    from playwright.sync_api import Browser

    from tests.browser.watched import Scheme, Watched

pytestmark = pytest.mark.browser
LINE = f"?account={FIRST}&usage_type=DataTransfer-Out-Bytes&by=service"


def asked(address: str, token: str = OPERATOR) -> Any:
    """What the API itself says."""
    response = httpx.get(address, headers={"Authorization": f"Bearer {token}"}, timeout=20)
    assert response.status_code == 200, response.text
    return response.json()


def total_of(address: str, token: str = OPERATOR) -> int:
    """Bytes of all rows that the API gives."""
    return sum(int(row["bytes"]) for row in asked(address, token)["rows"])


def twin(tab: Watched, form: str = "json") -> str:
    """The address of the data of a view."""
    return str(tab.page.evaluate(f"document.querySelector('[data-format={form}]').href"))


def figures(tab: Watched, column: int) -> list[int]:
    """Whole numbers in a column of the table, the total last."""
    cells = tab.page.locator(f".card:has(#figures) tr > :nth-child({column})").all_inner_texts()
    return [int(text.replace(",", "")) for text in cells[1:]]


@pytest.mark.parametrize("width", [WIDE, NARROW])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_figures_are_those_of_the_api(browser: Browser, opened: str, url: str, scheme: Scheme, width: int) -> None:
    with watched(browser, scheme=scheme, width=width) as tab:
        tab.open(opened)
        assert tab.page.url == url
        total = total_of(twin(tab))
        assert int(tab.attribute("#total", "data-bytes")) == total
        assert f"{total:,} bytes" in tab.text("#total")
        *rows, foot = figures(tab, 2)
        assert (foot, sum(rows)) == (total, total)
        assert rows == sorted(rows, reverse=True)
        assert tab.faults() == []
        tab.picture("usage")
        tab.page.locator("summary h2").click()
        by_hour = tab.page.locator(".over-time tfoot td").first.inner_text()
        assert int(by_hour.replace(",", "")) == total
        assert tab.faults() == []
        tab.check(url, secrets=(OPERATOR,))


@pytest.mark.parametrize("width", [WIDE, NARROW])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_view_is_whole(browser: Browser, opened: str, url: str, scheme: Scheme, width: int) -> None:
    with watched(browser, scheme=scheme, width=width) as tab:
        tab.open(opened)
        views = [
            link.split("view=")[1] for link in tab.page.eval_on_selector_all("#tabs a", "all => all.map((a) => a.href)")
        ]
        assert "usage" in views
        for view in views[1:]:
            tab.page.locator(f"#tabs a[href='?view={view}']").click()
            tab.settle()
            assert tab.page.locator("h1").count() == 1
            assert tab.page.evaluate("document.activeElement.id") == "title"
            assert tab.faults() == [], view
            tab.picture(view)
        tab.check(url, secrets=(OPERATOR,))


def test_a_row_leads_deeper_and_back_and_the_address_is_the_state(browser: Browser, opened: str, url: str) -> None:
    with watched(browser) as tab:
        tab.open(opened)
        first = tab.page.locator(".card:has(#figures) tbody a").first
        kind, size = first.inner_text(), figures(tab, 2)[0]
        first.click()
        tab.settle()
        words = parse_qs(urlsplit(tab.page.url).query)
        assert (words["usage_type"], words["by"]) == ([kind], ["account_id"])
        assert figures(tab, 2)[-1] == size == total_of(twin(tab))
        before, shown = tab.page.url, tab.text("#total")
        tab.page.reload()
        tab.settle()
        assert (tab.page.url, tab.text("#total")) == (before, shown)
        tab.page.go_back()
        tab.settle()
        assert tab.page.url == url
        tab.page.go_forward()
        tab.settle()
        assert tab.text("#total") == shown
        # Somebody else opens the copied address with a token of their own.
        with watched(browser) as other:
            other.open(f"{before}#token={ANALYST}")
            assert other.text("#total") == shown
        tab.check(url, secrets=(OPERATOR,))


def test_a_range_drawn_across_the_picture_is_the_range_that_is_asked(browser: Browser, opened: str, url: str) -> None:
    with watched(browser) as tab:
        tab.open(opened)
        box = tab.page.locator(".u-over").bounding_box()
        assert box is not None
        middle = box["y"] + box["height"] / 2
        tab.page.mouse.move(box["x"] + box["width"] * 0.25, middle)
        tip = tab.text(".tip")
        assert "GB" in tip
        tab.picture("pointer")
        tab.page.mouse.down()
        tab.page.mouse.move(box["x"] + box["width"] * 0.5, middle, steps=4)
        tab.page.mouse.up()
        tab.page.wait_for_url("**from=**")
        tab.settle()
        words = parse_qs(urlsplit(tab.page.url).query)
        assert words["from"][0] < words["to"][0]
        assert int(tab.attribute("#total", "data-bytes")) == total_of(twin(tab))
        tab.check(url)


def test_a_file_has_the_bytes_of_the_api(browser: Browser, opened: str, url: str) -> None:
    with watched(browser) as tab:
        tab.open(opened)
        for form in ("json", "ndjson", "csv", "parquet"):
            address = twin(tab, form)
            with tab.page.expect_download() as started:
                tab.page.locator(f"[data-format={form}]").click()
            told = httpx.get(address, headers={"Authorization": f"Bearer {OPERATOR}"}, timeout=20).content
            assert started.value.path().read_bytes() == told
            assert started.value.suggested_filename == f"usage.{form}"
            # The link itself is real, and says what is missing to who follows it without a token.
            assert httpx.get(address, timeout=20).status_code == 401
        tab.check(url, secrets=(OPERATOR,))


def test_every_view_says_its_command_and_the_command_line_knows_it(browser: Browser, opened: str, url: str) -> None:
    with watched(browser) as tab:
        tab.open(f"{url}{LINE}#token={OPERATOR}")
        seen = set()
        for link in [LINE, *tab.page.eval_on_selector_all("#tabs a", "all => all.map((a) => a.getAttribute('href'))")]:
            tab.open(f"{url}{link}")
            for line in tab.page.locator(".command code").all_inner_texts():
                command = line.replace("\n", " ").replace("\xa0", " ")
                if command.startswith("metering "):
                    seen.add(" ".join(parsed(command)))
                else:
                    assert command.startswith("curl ")
                    assert "$METERING_TOKEN" in command
        assert "report usage" in seen
        tab.check(url, secrets=(OPERATOR,))


def test_a_customer_sees_its_accounts_and_no_views_of_operators(browser: Browser, url: str) -> None:
    with watched(browser) as tab:
        tab.open(f"{url}?by=account_id#token={CUSTOMER}")
        assert tab.page.locator(".card:has(#figures) tbody th").all_inner_texts() == [FIRST]
        assert not {"Sources", "Quarantine"} & set(tab.page.locator("#tabs a").all_inner_texts())
        assert "customer" in tab.text("#who")
        assert tab.faults() == []
        tab.check(url, secrets=(CUSTOMER,))

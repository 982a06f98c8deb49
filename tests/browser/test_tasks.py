"""Ten usual questions. Each is answered in at most four clicks."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.api.world import FIRST, PAYER
from tests.browser.test_page import twin
from tests.browser.watched import watched
from tests.browser.world import OPERATOR

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser

    from tests.browser.watched import Watched

pytestmark = pytest.mark.browser
MOST_CLICKS = 4
ROWS = ".card:has(#figures) tbody:not(.fold)"


@dataclass(kw_only=True)
class Person:
    """Somebody at the page. Mutable: each click counts."""

    tab: Watched
    clicks: int = 0

    def click(self, selector: str, *, clicks: int = 1) -> None:
        self.clicks += clicks
        self.tab.page.locator(selector).first.click()
        self.tab.settle()

    def choose(self, name: str, value: str) -> None:
        """Choose in a list: one click opens it, and one chooses."""
        self.clicks += 2
        self.tab.page.select_option(f"#{name}", value)
        self.tab.page.wait_for_url(f"**{name}={value}**")
        self.tab.settle()

    def view(self, name: str) -> None:
        self.click(f"#tabs a[href^='?view={name}']")

    def answered(self) -> None:
        """The question has its answer."""
        assert self.clicks <= MOST_CLICKS, self.clicks
        self.clicks = 0


@pytest.fixture
def person(browser: Browser, opened: str, url: str) -> Iterator[Person]:
    """A person at the first view."""
    with watched(browser) as tab:
        tab.open(opened)
        yield Person(tab=tab)
        tab.check(url, secrets=(OPERATOR,))


def test_the_dearest_account_why_it_is_and_its_batches(person: Person) -> None:
    person.view("cost")
    person.choose("by", "account_id")
    first = person.tab.text(f"{ROWS} th")
    assert first.split() == [FIRST, "web"], "the dearest account of the last week, by its name"
    person.answered()
    person.click(f"{ROWS} a")
    kind = person.tab.text(f"{ROWS} th a")
    assert kind == "DataTransfer-Out-Bytes"
    person.click(f"{ROWS} a")
    person.choose("by", "to")
    assert person.tab.text(f"{ROWS} th a") == "internet"
    person.answered()
    person.click("text=Trace this line to its batches")
    assert person.tab.attribute("#sums", "data-equal") == "true"
    batch = person.tab.text("section:has(#batches) tbody a")
    person.click("section:has(#batches) tbody a")
    assert batch in person.tab.text(".verdict")
    person.answered()


def test_whether_yesterday_is_complete(person: Person) -> None:
    person.view("freshness")
    assert "complete" in person.tab.text("#yesterday")
    assert "2026-11-23" in person.tab.text("#yesterday")
    person.answered()


def test_which_source_is_silent(person: Person) -> None:
    person.view("sources")
    person.click("text=Silent")
    assert person.tab.page.locator("tbody th").all_inner_texts() == ["edge-old"]
    person.answered()


def test_what_changed_against_the_week_before(person: Person) -> None:
    assert "against the week before" in person.tab.text("#total")
    person.click(".card:has(#figures) .sort:text('change')")
    first = person.tab.page.locator(f"{ROWS} tr").first.inner_text()
    assert "DataTransfer-Out-Bytes" in first
    assert first.rstrip().endswith("%")
    person.answered()


def test_what_one_payer_costs_this_month_in_cents(person: Person) -> None:
    person.view("cost")
    person.click("text=This month")
    person.choose("by", "payer")
    row = person.tab.page.locator(f"{ROWS} tr").filter(has_text=PAYER).inner_text()
    assert "Example" in row
    cost = row.split("\t")[1].split("\n")[0]
    assert len(cost.split(".")[1]) == 2, f"{cost} is in cents"
    person.answered()


def test_which_budget_breaks_first(person: Person) -> None:
    person.view("budgets")
    assert "web-egress" in person.tab.text("#first")
    names = person.tab.page.locator("section:has(#listing) tbody th").all_inner_texts()
    assert names == ["web-egress", "video", "archive"], "over, then expected to break, then neither"
    assert "about 2026-11-" in person.tab.page.locator("section:has(#listing) tbody tr").nth(1).inner_text()
    person.answered()


def test_what_was_refused_today_and_why(person: Person) -> None:
    person.view("quarantine")
    person.click("text=Today")
    assert "invalid_account_id" in person.tab.text("section:has(#why)")
    assert person.tab.page.locator("section:has(#listing) tbody tr").count() == 1
    person.answered()


def test_the_same_answer_as_csv(person: Person) -> None:
    address = twin(person.tab, "csv")
    with person.tab.page.expect_download() as started:
        person.click("[data-format=csv]")
    told = httpx.get(address, headers={"Authorization": f"Bearer {OPERATOR}"}, timeout=20)
    rows = list(csv.DictReader(io.StringIO(told.text)))
    assert started.value.path().read_bytes() == told.content
    apart = {"NatGateway-Bytes", "VpcEndpoint-Bytes"}
    total = sum(int(row["bytes"]) for row in rows if row["usage_type"] not in apart)
    assert str(total) == person.tab.attribute("#total", "data-bytes")
    person.answered()

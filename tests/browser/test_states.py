"""The page's text when figures are missing, pending or incomplete; data is never executed as code."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from metering.api.authentication import Grant
from metering.ledger.notes.access import Role
from tests.api.world import FIRST, ApiWorld, at_rest
from tests.browser.watched import PICTURES, watched
from tests.browser.world import CUSTOMER, OPERATOR, serving
from tests.support.lake_world import World, record

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import Browser, Route

    from tests.browser.watched import Watched

pytestmark = pytest.mark.browser
HOSTILE = '<img src=x onerror="window.broken = 1"><script>window.broken = 1</script>'
# The browser itself writes this message about a failed request.
_TOLD = "error: Failed to load resource"


def answered(tab: Watched, answer: Callable[[Route], None], path: str = "**/v1/**") -> None:
    tab.page.route(path, answer)


def document(**more: object) -> str:
    """An API response as of the tab's clock."""
    plain = {
        "query": {"from": "2026-11-18T00:00:00Z", "to": "2026-11-24T14:00:00Z", "group_by": ["usage_type"]},
        "as_of": "2026-11-24T13:30:00Z",
        "complete_through": "2026-11-24T13:29:00Z",
        "held_back_by": [],
        "periods": {"2026-11": "open"},
        "rows": [],
    }
    return json.dumps({**plain, **more})


def row(usage_type: str, size: int, *, day: str = "2026-11-24") -> dict[str, object]:
    """A row of usage, with a column for each unit of time."""
    return {"usage_type": usage_type, "day": day, "hour": f"{day}T13:00:00Z", "bytes": str(size), "records": 1}


def gives(text: str) -> Callable[[Route], None]:
    def answer(route: Route) -> None:
        route.fulfill(status=200, content_type="application/json", headers={"Metering-Role": "operator"}, body=text)

    return answer


def test_without_a_token_the_page_says_how_to_get_one(browser: Browser, url: str) -> None:
    with watched(browser) as tab:
        tab.open(url)
        assert "metering token create" in tab.text(".sign-in")
        assert "metering serve" in tab.text(".sign-in")
        assert tab.faults() == []
        tab.picture("sign-in")
        tab.page.fill("#token", OPERATOR)
        tab.page.keyboard.press("Enter")
        tab.settle()
        tab.page.wait_for_selector("#total")
        tab.page.get_by_role("button", name="Forget token").click()
        tab.page.wait_for_selector(".sign-in")
        assert tab.page.evaluate("sessionStorage.length + localStorage.length") == 0
        tab.check(url, secrets=(OPERATOR,))


def test_a_token_that_ended_is_asked_for_again(browser: Browser, url: str) -> None:
    with watched(browser) as tab:
        tab.open(f"{url}#token={'x' * 40}")
        tab.page.wait_for_selector(".sign-in")
        assert "revoked" in tab.text(".sign-in")
        assert tab.page.evaluate("sessionStorage.length") == 0
        assert tab.faults() == []
        assert all(line.startswith(_TOLD) and "401" in line for line in tab.console)


def test_another_token_in_the_address_is_taken_at_once(browser: Browser, opened: str, url: str) -> None:
    with watched(browser) as tab:
        tab.open(opened)
        assert "operator" in tab.text("#who")
        tab.page.evaluate(f"location.hash = 'token={CUSTOMER}'")
        tab.page.get_by_text("customer", exact=True).wait_for()
        assert tab.page.url == url
        tab.check(url, secrets=(OPERATOR, CUSTOMER))


def test_no_usage_says_what_to_do(browser: Browser, opened: str, url: str) -> None:
    with watched(browser) as tab:
        tab.open(opened)
        tab.open(f"{url}?service=AmazonNeptune")
        assert "No usage matches these filters" in tab.text(".nothing")
        assert tab.faults() == []
        tab.picture("nothing")
        tab.page.get_by_role("link", name="Clear filters").last.click()
        tab.settle()
        assert tab.page.locator("#total").count() == 1
        tab.check(url)


def test_what_is_wrong_with_a_field_is_said_at_the_field(browser: Browser, opened: str, url: str) -> None:
    with watched(browser) as tab:
        tab.open(opened)
        tab.page.get_by_role("button", name="Filters").click()
        tab.page.fill("#account", "1234")
        tab.page.keyboard.press("Enter")
        assert "12 digits" in tab.text("#account-problem")
        assert tab.attribute("#account", "aria-describedby") == "account-problem"
        tab.page.fill("#account", "")
        tab.page.fill("#from", "yesterday")
        tab.page.keyboard.press("Enter")
        tab.page.wait_for_selector("#from[aria-invalid]")
        assert "yesterday is not a time" in tab.text("#from-problem")
        assert tab.faults() == []
        tab.check(url)


def test_a_refused_question_names_every_problem(browser: Browser, opened: str, url: str) -> None:
    with watched(browser) as tab:
        tab.open(opened)
        tab.open(f"{url}?service=not/a/service&usage_type=*")
        assert {"service", "usage_type"} <= set(tab.page.locator(".problem li code").all_inner_texts())
        assert tab.faults() == []
        tab.picture("problem")
        assert all(line.startswith(_TOLD) for line in tab.console)


def test_costs_that_would_tell_of_others_are_not_shown_and_the_page_says_why(browser: Browser, url: str) -> None:
    # Playwright runs an event loop in this thread.
    with ThreadPoolExecutor(1) as pool:
        refused = {
            who: pool.submit(at_rest().get, f"/v1/cost?month=2026-11&group_by={by}", who).result()
            for who, by in (("portal", "usage_type"), ("first", "tier"))
        }

    def answer(route: Route) -> None:
        told = refused["first" if "tier" in route.request.url else "portal"]
        route.fulfill(status=told.status_code, content_type=told.headers["content-type"], body=told.text)

    with watched(browser) as tab:
        tab.open(f"{url}#token={CUSTOMER}")
        answered(tab, answer, "**/v1/cost**")
        tab.open(f"{url}?view=cost")
        assert "Costs are not granted" in tab.text(".problem")
        assert "metering token create --costs" in tab.text(".problem code")
        assert tab.page.get_by_role("link", name="Back to usage").count() == 1
        assert tab.faults() == []
        tab.picture("no-costs")
        tab.open(f"{url}?view=cost&by=tier")
        assert "Tiers are shared" in tab.text(".problem")
        tab.page.unroute("**/v1/cost**")
        tab.page.get_by_role("link", name="Show costs without tiers").click()
        tab.page.wait_for_selector("#total")
        assert "what you pay tells what the others use" in tab.text("#shared-tiers")
        assert all(line.startswith(_TOLD) and "403" in line for line in tab.console)


def test_an_api_that_is_gone_is_said_and_tried_again(browser: Browser, opened: str, url: str) -> None:
    with watched(browser) as tab:
        tab.open(opened)
        answered(tab, lambda route: route.abort())
        tab.open(f"{url}?range=24h")
        assert "cannot be reached" in tab.text(".problem")
        assert tab.faults() == []
        tab.page.unroute("**/v1/**")
        tab.page.get_by_role("button", name="Try again").click()
        tab.settle()
        assert tab.page.locator("#total").count() == 1
        assert all(line.startswith(_TOLD) for line in tab.console)


def test_who_asks_too_often_is_told_when_to_come_back(browser: Browser, opened: str, url: str) -> None:
    with watched(browser) as tab:
        tab.open(opened)
        problem = json.dumps(
            {"type": "urn:x", "title": "Too many requests", "status": 429, "detail": "Slower, please."}
        )
        answered(tab, lambda route: route.fulfill(status=429, headers={"Retry-After": "7"}, body=problem))
        tab.open(f"{url}?range=24h")
        assert "Slower, please. Try again in 7 seconds." in tab.text(".problem")


def test_while_figures_come_their_places_are_held(browser: Browser, opened: str, url: str) -> None:
    with watched(browser) as tab:
        tab.open(opened)
        held: list[Route] = []
        released: list[bool] = []
        answered(tab, lambda route: route.continue_() if released else held.append(route))
        tab.page.goto(f"{url}?range=24h")
        tab.page.wait_for_selector(".loading")
        assert tab.attribute("#results", "aria-busy") == "true"
        assert tab.faults() == []
        tab.picture("loading")
        released.append(True)
        for route in held:
            route.continue_()
        tab.settle()
        tab.check(url)


def test_a_range_that_is_held_back_says_so_with_the_cure(browser: Browser, opened: str, url: str) -> None:
    with watched(browser) as tab:
        tab.open(opened)
        held = [
            {"what": "1 dead letter", "since": "2026-11-21T13:30:00Z", "cure": "metering dlq redrive --stage local"}
        ]
        rows = [row("A-Bytes", 5)]
        answered(tab, gives(document(held_back_by=held, complete_through="2026-11-21T13:30:00Z", rows=rows)))
        tab.open(f"{url}?range=7d")
        assert "This range is not complete" in tab.text("#banner")
        assert "metering dlq redrive --stage local" in tab.text("#banner")
        assert tab.faults() == []
        tab.picture("held-back")


def test_a_closed_range_has_no_banner(browser: Browser, opened: str, url: str) -> None:
    with watched(browser) as tab:
        tab.open(opened)
        rows = [row("A-Bytes", 5, day="2026-10-05")]
        answered(
            tab, gives(document(periods={"2026-10": "closed"}, complete_through="2026-10-02T00:00:00Z", rows=rows))
        )
        tab.open(f"{url}?range=last-month")
        assert tab.page.locator("#banner").count() == 0
        tab.check(url)


def test_nothing_of_data_becomes_markup_or_code(browser: Browser, opened: str, url: str) -> None:
    with watched(browser) as tab:
        tab.open(opened)
        rows = [row(HOSTILE, 5)]
        held = [{"what": HOSTILE, "since": None, "cure": HOSTILE}]
        answered(tab, gives(document(rows=rows, held_back_by=held, complete_through="2026-11-21T13:30:00Z")))
        for view in ("usage", "sources", "quarantine", "freshness"):
            tab.open(f"{url}?view={view}&range=7d")
            assert tab.page.evaluate("window.broken") is None
            assert tab.page.locator("#main img, #main script").count() == 0
        tab.open(f"{url}?range=7d")
        assert HOSTILE in tab.page.locator("#main").inner_text()
        tab.check(url)


def test_totals_beyond_any_floating_point_number_keep_their_last_digit(browser: Browser, opened: str, url: str) -> None:
    with watched(browser) as tab:
        tab.open(opened)
        sizes = (9007199254740993, 123456789012345678901, 1)
        rows = [row(f"A{number}", size) for number, size in enumerate(sizes)]
        answered(tab, gives(document(rows=rows)))
        tab.open(f"{url}?range=7d")
        assert f"{sum(sizes):,} bytes" in tab.text("#total")
        assert f"{sizes[1]:,}" in tab.text(".card:has(#figures) tbody")
        tab.check(url)


def test_pages_of_an_answer_are_put_together(browser: Browser, opened: str, url: str) -> None:
    with watched(browser) as tab:
        tab.open(opened)

        def page(route: Route) -> None:
            number = 2 if "cursor=two" in route.request.url else 1
            rows = [row(f"A{number}", 7)]
            gives(document(rows=rows, next="two" if number == 1 else None))(route)

        answered(tab, page)
        tab.open(f"{url}?range=7d")
        assert tab.attribute("#total", "data-bytes") == "14"
        tab.check(url)


def test_a_picture_of_too_many_rows_is_left_out_and_the_table_stands(browser: Browser, opened: str, url: str) -> None:
    with watched(browser) as tab:
        tab.open(opened)
        # One question for this range, and one for that before.
        asked = [address for address in tab.addresses if "/v1/usage" in address]
        assert len(asked) == len({address.split("group_by")[0] for address in asked}) == 2
        total = tab.attribute("#total", "data-bytes")

        def refuse(route: Route) -> None:
            problem = {"title": "Too large", "status": 422, "detail": "There are 20,001 rows."}
            route.fulfill(status=422, content_type="application/problem+json", body=json.dumps(problem))

        answered(tab, refuse, "**/v1/usage?*group_by=day,*")
        tab.open(f"{url}?range=7d")
        assert tab.attribute("#total", "data-bytes") == total
        assert "left out: There are 20,001 rows." in tab.text("#main")
        assert tab.page.locator(".chart").count() == 0
        assert tab.faults() == []


def test_before_prices_and_lists_are_there_no_view_is_an_error(browser: Browser) -> None:
    fresh = ApiWorld(World())
    fresh.world.send([record(5)])
    fresh.tokens.grants[OPERATOR] = Grant(token_id="operator", role=Role.OPERATOR)
    with serving(fresh.app) as url, watched(browser) as tab:
        tab.open(f"{url}?view=cost#token={OPERATOR}")
        assert "There is no price book yet" in tab.text(".nothing")
        assert tab.page.locator("[role=alert]").count() == 0
        assert tab.page.locator(".nothing a, .nothing button").count() == 1
        tab.picture("no-prices")
        tab.page.locator(".nothing a").click()
        tab.settle()
        assert tab.page.locator("#cost-total").count() == 1
        tab.open(f"{url}?view=accounts")
        assert tab.attribute("#total", "data-bytes") == "5"
        for view in ("budgets", "reports"):
            tab.open(f"{url}?view={view}")
            assert "metering " in tab.text(".nothing code")
            assert tab.page.locator("[role=alert]").count() == 0
            assert tab.faults() == []
        assert all(line.startswith(_TOLD) and "422" in line for line in tab.console)


def test_words_of_the_address_that_the_page_does_not_know_are_said(browser: Browser, opened: str, url: str) -> None:
    with watched(browser) as tab:
        tab.open(opened)
        tab.open(f"{url}?group_by=account_id&by=tier")
        assert "Write by=account_id." in tab.text("#unknown")
        assert "by=tier is left out" in tab.text("#unknown")
        assert tab.faults() == []
        tab.open(f"{url}?view=sources&silent=true")
        assert tab.page.locator("#unknown").count() == 0
        tab.check(url)


def test_what_has_no_price_is_said_first_and_is_one_row_that_opens(browser: Browser, opened: str, url: str) -> None:
    with watched(browser) as tab:
        tab.open(opened)
        tab.open(f"{url}?view=cost")
        assert "without a price" in tab.text("#unpriced")
        rows = tab.page.locator(".card:has(#figures) tbody tr")
        before = rows.count()
        costs = tab.page.locator(".card:has(#figures) tbody:not(.fold) .cents").all_inner_texts()
        assert all(text.startswith("<") or len(text.split(".")[1]) == 2 for text in costs)
        tab.page.get_by_role("button", name="without a price (4)").click()
        assert rows.count() == before + 4
        assert not tab.page.locator("td .digits").first.is_visible()
        tab.page.get_by_role("button", name="Exact digits").click()
        assert len(tab.page.locator("td .digits").first.inner_text().split(".")[1]) == 10
        assert tab.faults() == []
        tab.check(url)


def test_a_day_can_be_picked_and_a_field_suggests_names(browser: Browser, opened: str, url: str) -> None:
    with watched(browser) as tab:
        tab.open(opened)
        tab.page.locator(".field-from .calendar").evaluate(
            "(field) => { field.value = '2026-11-20'; field.dispatchEvent(new Event('change')); }"
        )
        tab.page.wait_for_url("**from=2026-11-20**")
        tab.settle()
        assert tab.page.input_value("#from") == "2026-11-20"
        tab.page.get_by_role("button", name="Filters").click()
        tab.page.focus("#account")
        tab.page.wait_for_selector("#account-list option", state="attached")
        options = "all => all.map((one) => [one.value, one.label])"
        assert [FIRST, "web"] in tab.page.eval_on_selector_all("#account-list option", options)
        tab.open(f"{url}?view=quarantine")
        tab.page.focus("#reason")
        tab.page.wait_for_selector("#reason-list option", state="attached")
        reasons = tab.page.eval_on_selector_all("#reason-list option", options)
        assert "invalid_account_id" in [value for value, _ in reasons]
        tab.check(url)


def test_on_paper_the_page_is_light(browser: Browser, opened: str, url: str) -> None:
    colours = (
        "[getComputedStyle(document.body).color, getComputedStyle(document.querySelector('.card')).backgroundColor]"
    )
    with watched(browser) as tab:
        tab.open(opened)
        light = tab.page.evaluate(colours)
    with watched(browser, scheme="dark") as tab:
        tab.open(opened)
        assert tab.page.evaluate(colours) != light
        tab.page.emulate_media(media="print")
        assert tab.page.evaluate(colours) == light
        tab.check(url)


def test_on_paper_there_are_figures_and_no_controls(browser: Browser, opened: str, url: str) -> None:
    with watched(browser) as tab:
        tab.open(opened)
        tab.page.emulate_media(media="print")
        assert not tab.page.locator(".question").is_visible()
        assert not tab.page.locator(".twins").is_visible()
        assert tab.page.locator(".card:has(#figures) table").is_visible()
        assert tab.text(".card:has(#figures) thead").split() == [
            "usage",
            "type",
            "bytes",
            "size",
            "records",
            "share",
            "change",
        ]
        tab.page.screenshot(path=PICTURES / "paper.png", full_page=True)
        tab.check(url)

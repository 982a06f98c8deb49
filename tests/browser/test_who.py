"""The view of causes: from the gateways down to owners, workloads, destinations and days, to the byte of the API."""

from __future__ import annotations

import csv
import io
import json
import re
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import pytest

from metering.api.authentication import Grant
from metering.ledger.notes.access import Role
from tests.api.world import FIRST, ApiWorld
from tests.browser.test_page import _CUT, asked, tab_to, twin
from tests.browser.test_states import HOSTILE, answered, gives
from tests.browser.watched import MIDDLE, NARROW, WIDE, watched
from tests.browser.world import ANALYST, CUSTOMER, OPERATOR, serving
from tests.support.kept_causes import NAT, keep_causes
from tests.support.lake_world import World, record
from tests.unit.house.command_lines import parsed

if TYPE_CHECKING:
    from playwright.sync_api import Browser

    from tests.browser.watched import Scheme, Watched

pytestmark = pytest.mark.browser
GATEWAY = f"?view=who&usage_type=NatGateway-Bytes&resource={NAT}"
NAMES = ".bars tbody:not(.fold) th"


def names(tab: Watched) -> list[str]:
    """First lines of the first column."""
    return [text.split("\n")[0] for text in tab.page.locator(NAMES).all_inner_texts()]


def sizes(tab: Watched, column: int = 2) -> list[int]:
    """Exact bytes of the rows, with the total last; a narrow window hides this column."""
    cells = tab.page.locator(f".bars tr > td:nth-child({column})").all_text_contents()
    return [int(text.replace(",", "")) for text in cells]


def follow(tab: Watched, name: str) -> None:
    tab.page.locator(f"{NAMES} a", has_text=re.compile(f"^{re.escape(name)}$")).first.click()
    tab.settle()


def way(tab: Watched) -> list[str]:
    return list(tab.page.locator(".crumbs :is(a, b)").all_inner_texts())


def look(tab: Watched, name: str) -> None:
    """Compare the table with the API, and check that it is accessible and not cut."""
    answer = asked(twin(tab))
    *rows, foot = sizes(tab)
    assert foot == sum(rows) == sum(int(row["bytes"]) for row in answer["rows"])
    assert foot == int(tab.attribute("#total", "data-bytes")) == int(answer["totals"][0]["bytes"])
    assert tab.faults() == [], name
    tab.picture_for_docs(name)
    assert tab.page.evaluate(_CUT) == [], f"{name} is cut without a hint"


@pytest.mark.parametrize("width", [WIDE, MIDDLE, NARROW])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_who_leads_from_a_gateway_to_owners_workloads_destinations_and_days(
    browser: Browser, url: str, scheme: Scheme, width: int
) -> None:
    with watched(browser, scheme=scheme, width=width) as tab:
        tab.open(f"{url}?view=who#token={OPERATOR}")
        assert names(tab) == [NAT, "vpce-0f1e2d3c4b5a69788", "nat-0b2c3d4e5f6a70819"], "the largest first"
        assert tab.page.locator(".fold button").all_inner_texts() == ["free (1)", "from no flow log (15)"]
        assert tab.page.locator(".bars tfoot").count() == 0, "usage types are not added up"
        follow(tab, NAT)
        assert names(tab) == ["unowned no rule fits", "unattributed", "unattributed", "search", "media"]
        assert "changed hands" in tab.text(f"{NAMES} >> nth=2")
        look(tab, "who-owners")
        total = sizes(tab)[-1]
        follow(tab, "unowned")
        assert names(tab) == ["asg:ci-runners"]
        follow(tab, "asg:ci-runners")
        assert names(tab) == ["S3.us-east-1", "internet"]
        assert way(tab) == ["All resources", "NatGateway-Bytes", NAT, "unowned", "asg:ci-runners"]
        look(tab, "who-destinations")
        follow(tab, "internet")
        assert names(tab)[0] == "2026-11-18"
        assert len(names(tab)) == 7
        tab.page.get_by_role("link", name=NAT, exact=True).click()
        tab.settle()
        assert sizes(tab)[-1] == total
        assert tab.page.evaluate("document.activeElement.id") == "title"
        tab.check(url, secrets=(OPERATOR,))


def test_the_csv_is_what_is_seen_and_the_command_is_known(browser: Browser, url: str) -> None:
    with watched(browser) as tab:
        tab.open(f"{url}{GATEWAY}&owner=search&workload=ecs:prod/indexer&path=nat_gateway#token={OPERATOR}")
        tab.elsewhere()
        with tab.page.expect_download() as started:
            tab.page.locator("[data-format=csv]").click()
        rows = list(csv.DictReader(io.StringIO(started.value.path().read_text())))
        assert [(row["destination"], int(row["bytes"])) for row in rows] == list(
            zip(names(tab), sizes(tab)[:-1], strict=True)
        )
        line = tab.text(".command code").replace("\n", " ").replace("\xa0", " ")
        assert line.startswith(f"metering who {NAT} --from ")
        assert "--workload ecs:prod/indexer" in line
        assert " ".join(parsed(line)) == "who"
        tab.page.get_by_role("link", name="dollars").click()
        tab.settle()
        tab.elsewhere()
        assert " --cost " in tab.text(".command code").replace("\n", " ").replace("\xa0", " ")
        tab.check(url, secrets=(OPERATOR,))


def test_dollars_add_up_and_without_prices_bytes_stand(browser: Browser, url: str) -> None:
    with watched(browser) as tab:
        tab.open(f"{url}{GATEWAY}&dollars=true#token={OPERATOR}")
        answer = asked(twin(tab))
        assert tab.attribute("#cost-total", "data-usd") == answer["total_usd"]
        assert names(tab)[0].startswith("unowned")
        tab.page.get_by_role("button", name="Exact digits").click()
        shown = [text.replace(",", "") for text in tab.page.locator(".bars tbody td .digits").all_inner_texts()]
        assert shown == [row["cost_usd"] for row in answer["rows"]]
        assert tab.faults() == []
        tab.picture("who-dollars")
        tab.page.get_by_role("link", name="All resources").click()
        tab.settle()
        assert tab.text("#cost-total").count("USD") == 2
        problem = {"title": "No prices", "status": 422, "detail": "There is no price book for 2026-11."}
        answered(tab, lambda route: route.fulfill(status=422, body=json.dumps(problem)), "**/v1/who?*cost=true")
        tab.open(f"{url}{GATEWAY}&dollars=true")
        assert "Without dollars: There is no price book" in tab.text("#no-dollars")
        assert tab.page.locator("#total").count() == 1
        assert "cost" not in twin(tab)
        assert tab.faults() == []
        assert "prices=sample" in tab.attribute("#no-dollars a", "href")


def test_the_address_is_the_state_and_other_ranges_keep_it(browser: Browser, url: str) -> None:
    with watched(browser) as tab:
        tab.open(f"{url}{GATEWAY}&owner=search&by=destination#token={OPERATOR}")
        before, shown = tab.page.url, tab.text(".bars")
        tab.page.get_by_role("link", name="workloads").click()
        tab.settle()
        assert names(tab) == ["ecs:prod/indexer", "eks:prod/blue"]
        tab.page.go_back()
        tab.settle()
        assert (tab.page.url, tab.text(".bars")) == (before, shown)
        with watched(browser) as other:
            other.open(f"{before}#token={ANALYST}")
            assert other.text(".bars") == shown
        for link in ("30 days", "Earlier, by the length of this range"):
            tab.page.get_by_role("link", name=link).click()
            tab.settle()
            words = parse_qs(urlsplit(tab.page.url).query)
            assert (words["owner"], words["resource"], words["by"]) == (["search"], [NAT], ["destination"])
        tab.page.fill("#resource", "vpce-0f1e2d3c4b5a69788")
        tab.page.keyboard.press("Enter")
        tab.page.wait_for_url("**resource=vpce-**")
        tab.settle()
        tab.open(f"{url}{GATEWAY}&by=service&group_by=owner&from=yesterday")
        assert "by=service is left out: by is one of owner, workload, destination, path, " in tab.text("#unknown")
        assert "Write by=owner." in tab.text("#unknown")
        assert "yesterday is not a time" in tab.text(".problem")
        assert tab.faults() == []
        tab.check(url, secrets=(OPERATOR,))


@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_who_is_asked_by_keyboard(browser: Browser, url: str, width: int) -> None:
    with watched(browser, width=width) as tab:
        tab.open(f"{url}?view=who#token={OPERATOR}")
        tab_to(tab, f"a#||{NAT}")
        tab.page.keyboard.press("Enter")
        tab.page.wait_for_url("**resource=**")
        tab.settle()
        # In the order of reading: the way here, what is shown, and the rows.
        for part in ("a#||NatGateway-Bytes", "a#||workloads", "a#||dollars", "first what has no owner", "a#||unowned"):
            tab_to(tab, part)
        tab.page.keyboard.press("Enter")
        tab.page.wait_for_url("**owner=unowned**")
        tab.settle()
        assert names(tab) == ["asg:ci-runners"]
        tab.check(url)


def test_who_sees_one_account_sees_no_names_of_others(browser: Browser, url: str) -> None:
    with watched(browser) as tab:
        tab.open(f"{url}{GATEWAY}#token={CUSTOMER}")
        assert "another account" in names(tab)
        assert "does not see its name" in tab.text(f"{NAMES}:has-text('another account')")
        assert tab.page.get_by_role("link", name="another account").count() == 0
        assert "transcoders" not in tab.text("main")
        assert tab.faults() == []
        tab.picture("who-another-account")
        tab.check(url, secrets=(CUSTOMER,))


def test_without_causes_the_page_says_where_they_come_from(browser: Browser) -> None:
    fresh = ApiWorld(World())
    fresh.world.send([record(5)])
    fresh.tokens.grants[OPERATOR] = Grant(token_id="operator", role=Role.OPERATOR)
    with serving(fresh.app) as url, watched(browser) as tab:
        tab.open(f"{url}?view=who&range=last-month#token={OPERATOR}")
        assert "No usage matches" in tab.text(".nothing")
        tab.open(f"{url}?view=who")
        assert "Causes are not counted yet" in tab.text(".nothing")
        assert " ".join(parsed(tab.text(".nothing code").replace("\n", " "))) == "logs add"
        assert tab.faults() == []
        tab.picture("who-not-counted")
        keep_causes(fresh.world, [])
        # The browser keeps the answer about the week for a while.
        tab.open(f"{url}?view=who&range=24h")
        assert "No flow log has metered" in tab.text(".nothing")
        tab.open(f"{url}?view=who&usage_type=DataTransfer-Out-Bytes&by=owner")
        assert "No flow log metered them" in tab.text(NAMES)
        tab.check(url)


def test_no_name_of_a_cause_becomes_markup_or_code(browser: Browser, url: str) -> None:
    with watched(browser) as tab:
        tab.open(f"{url}?view=who#token={OPERATOR}")
        answer = asked(twin(tab))
        row = {"usage_type": "NatGateway-Bytes", "owner": HOSTILE, "reason": HOSTILE, "bytes": "5", "share": "1 %"}
        totals = [{"usage_type": "NatGateway-Bytes", "bytes": "5", "unattributed": "5"}]
        answered(tab, gives(json.dumps({**answer, "totals": totals, "rows": [row, {**row, "reason": ""}]})))
        tab.open(f"{url}{GATEWAY}")
        assert tab.page.evaluate("window.broken") is None
        assert tab.page.locator("#main img, #main script").count() == 0
        assert HOSTILE in tab.text("#main")
        tab.check(url)


def test_usage_and_accounts_lead_to_who(browser: Browser, url: str) -> None:
    with watched(browser) as tab:
        tab.open(f"{url}?account={FIRST}&range=30d#token={OPERATOR}")
        tab.page.get_by_role("button", name="processed").click()
        tab.page.locator("tr", has_text="NatGateway-Bytes").get_by_role("link", name="who?").click()
        tab.settle()
        assert parse_qs(urlsplit(tab.page.url).query) == {
            "view": ["who"], "range": ["30d"], "by": ["owner"], "account": [FIRST], "usage_type": ["NatGateway-Bytes"],
        }  # fmt: skip
        assert names(tab)[0].startswith("unowned")
        tab.open(f"{url}?view=cost")
        assert tab.page.get_by_role("link", name="who?").count() == 2, "of each gateway's usage type"
        rows = [{"account_id": FIRST, "bytes": "7", "processed_bytes": "1024", "records": 1}]
        plain = {"month": "2026-11", "as_of": "2026-11-24T13:30:00Z", "periods": {"2026-11": "open"}}
        answered(tab, gives(json.dumps({**plain, "rows": rows})), "**/v1/accounts**")
        tab.open(f"{url}?view=accounts")
        tab.page.get_by_role("link", name="who?").click()
        tab.settle()
        assert parse_qs(urlsplit(tab.page.url).query)["account"] == [FIRST]
        tab.check(url)

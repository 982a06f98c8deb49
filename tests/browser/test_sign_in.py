"""People sign in on the page at a provider of their organisation, with a code, PKCE, state and nonce."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from tests.browser.provider import CLIENT, Provider, serving_people
from tests.browser.test_page import LINE, total_of, twin
from tests.browser.watched import NARROW, WIDE, watched
from tests.browser.world import OPERATOR

if TYPE_CHECKING:
    from playwright.sync_api import Browser

    from tests.api.world import ApiWorld
    from tests.browser.watched import Scheme, Watched

pytestmark = pytest.mark.browser
BUTTON = ".sign-in button[type=button].primary"


def pressed(tab: Watched, url: str, query: str = "") -> None:
    """Open the page, and sign in."""
    tab.open(f"{url}{query}")
    tab.page.locator(BUTTON).click()
    tab.page.wait_for_selector("#results[aria-busy=false], .sign-in [role=alert]")


def kept(tab: Watched) -> list[str]:
    """Names of what the tab keeps."""
    return sorted(tab.page.evaluate("Object.keys(sessionStorage)"))


@pytest.mark.parametrize("audience", [CLIENT, "metering-api"])
def test_a_person_signs_in_and_comes_back_to_what_was_asked(browser: Browser, api: ApiWorld, audience: str) -> None:
    provider = Provider(audience=audience)
    with serving_people(api, provider) as url, watched(browser) as tab:
        pressed(tab, url, LINE)
        assert tab.page.url == f"{url}{LINE}"
        assert int(tab.attribute("#total", "data-bytes")) == total_of(twin(tab))
        assert "analyst" in tab.text("#who")
        token = tab.page.evaluate("sessionStorage.getItem('metering.token')")
        claims = provider.passed(token)
        assert claims is not None
        assert claims["aud"] == audience
        assert kept(tab) == ["metering.role", "metering.token"]
        [exchange] = provider.asked
        assert set(exchange) == {"grant_type", "code", "redirect_uri", "client_id", "code_verifier"}
        assert exchange["redirect_uri"] == url
        assert len(exchange["code_verifier"]) == 43
        tab.page.reload()
        tab.settle()
        assert tab.page.locator("#total").count() == 1
        assert len(provider.asked) == 1
        tab.page.get_by_text("Forget token").click()
        assert kept(tab) == []
        tab.hosts.discard(urlsplit(provider.issuer).netloc)
        tab.check(url, secrets=(token, exchange["code_verifier"]))


@pytest.mark.parametrize(("scheme", "width"), [("light", WIDE), ("dark", NARROW)])
def test_the_button_names_the_provider_and_a_token_of_the_service_opens_the_page_too(
    browser: Browser, api: ApiWorld, scheme: Scheme, width: int
) -> None:
    provider = Provider()
    with serving_people(api, provider) as url, watched(browser, scheme=scheme, width=width) as tab:
        tab.open(url)
        assert tab.text(BUTTON) == f"Sign in at {urlsplit(provider.issuer).netloc}"
        assert tab.faults() == []
        tab.picture("sign-in")
        tab.page.locator("#token").fill(OPERATOR)
        tab.page.locator("#token").press("Enter")
        tab.page.wait_for_selector("#results[aria-busy=false]")
        assert "operator" in tab.text("#who")
        tab.check(url, secrets=(OPERATOR,))


def test_an_answer_that_nobody_asked_for_is_neither_used_nor_shown(browser: Browser, api: ApiWorld) -> None:
    provider = Provider(said={"state": "other"})
    with serving_people(api, provider) as url, watched(browser) as tab:
        pressed(tab, url, LINE)
        assert "belongs to no sign-in" in tab.text(".sign-in")
        assert tab.page.url == f"{url}{LINE}"
        for sent in ("code=x&state=y", "error=access_denied&error_description=Call+us&state=y"):
            tab.open(f"{url}?{sent}")
            assert "belongs to no sign-in" in tab.text(".sign-in")
            assert "Call us" not in tab.text("main")
            assert tab.page.url == url
        assert (kept(tab), provider.asked) == ([], [])
        assert tab.faults() == []


def test_a_sign_in_that_is_over_asks_for_another_one_and_does_not_run_in_circles(
    browser: Browser, api: ApiWorld
) -> None:
    provider = Provider(life_s=-1)
    with serving_people(api, provider) as url, watched(browser) as tab:
        pressed(tab, url, LINE)
        assert "Your sign-in has ended" in tab.text(".sign-in")
        assert (kept(tab), len(provider.asked), tab.page.url) == ([], 1, f"{url}{LINE}")
        tab.picture("sign-in-ended")
        provider.life_s = 60
        pressed(tab, url, LINE)
        assert tab.page.locator("#total").count() == 1


WRONG: tuple[tuple[dict[str, Any], str], ...] = (
    ({"said": {"code": "other"}}, "invalid_grant (No such code.). Sign in again"),
    ({"said": {"code": None, "error": "access_denied"}}, "access_denied. You have no access"),
    ({"said": {"code": None, "error": "invalid_scope"}}, "client explorer, scopes openid groups, redirect address"),
    ({"said": {"code": None, "error": "server_error"}}, "in a minute"),
    ({"said": {"iss": "https://login.example.org"}}, "another provider"),
    ({"claims": {"nonce": "other"}}, "not for this sign-in"),
    ({"claims": {"aud": "other"}}, "not for this sign-in"),
    ({"claims": {"iss": "https://login.example.org"}}, "not for this sign-in"),
    ({"described": {"token_endpoint": "https://login.example.org/token"}}, "sets it as api_token_endpoint"),
    ({"described": {"issuer": "https://login.example.org"}}, "sets it as api_issuer"),
    ({"described": {"authorization_endpoint": "javascript:alert(1)"}}, "no address to sign in at"),
)  # fmt: skip


def test_what_the_provider_refuses_or_gets_wrong_is_told_with_what_to_do(browser: Browser, api: ApiWorld) -> None:
    provider = Provider()
    with serving_people(api, provider) as url, watched(browser) as tab:
        for wrong, words in WRONG:
            right = {name: getattr(provider, name) for name in wrong}
            for name, value in wrong.items():
                setattr(provider, name, value)
            pressed(tab, url)
            assert words in tab.text(".sign-in")
            assert (kept(tab), tab.page.url) == ([], url), words
            for name, value in right.items():
                setattr(provider, name, value)
        assert tab.faults() == []
        pressed(tab, url)
        assert tab.page.locator("#total").count() == 1


def test_an_access_token_that_says_nothing_is_told_with_the_setting_to_change(browser: Browser, api: ApiWorld) -> None:
    provider = Provider(audience="metering-api", opaque=True)
    with serving_people(api, provider) as url, watched(browser) as tab:
        pressed(tab, url)
        assert "sets api_client_id as api_audience" in tab.text(".sign-in")
        assert kept(tab) == []


def test_a_provider_that_cannot_be_asked_is_told_and_the_page_reaches_two_addresses_alone(
    browser: Browser, api: ApiWorld
) -> None:
    provider = Provider()
    with serving_people(api, provider) as url, watched(browser) as tab:
        provider.origin = "https://other.example.com"
        pressed(tab, url)
        assert f"must let pages of {url.rstrip('/')} ask (CORS)" in tab.text(".sign-in")
        assert tab.page.evaluate("window.refusals") == []
        for place in ("/authorize", "/.well-known/other", "/token/more"):
            tab.page.evaluate(f"fetch('{provider.issuer}{place}').catch(() => 0)")
        assert tab.page.evaluate("window.refusals") == ["connect-src"] * 3

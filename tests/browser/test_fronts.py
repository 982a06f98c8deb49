"""The page at every entry point of a deployed service: HTTP API, function URL and `metering serve`.

The service runs on an emulator with IAM and TLS enforced, so the page shows only what the function's role may read.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from metering.adapters.aws.runtime import SystemClock
from metering.adapters.aws.stacks import stack_outputs
from metering.adapters.emulator.ministack import api_address
from metering.ledger.notes.access import Role
from metering.operations.access import TokenBook
from metering.units import DAY_S
from metering.wiring.region import RegionPorts
from tests.browser.watched import NARROW, WIDE, watched
from tests.e2e.conftest import Service, deployed, own_emulator, stack_outputs_of
from tests.e2e.test_main_job import account, message, record

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser

    from tests.browser.watched import Scheme


pytestmark = [pytest.mark.browser, pytest.mark.emulator]
FRONTS = ("http", "url", "serve")
_PATIENCE_MS = 90_000
# The sum of these two transfers exceeds what a floating-point number represents exactly.
SIZES = (41_943_040, 2**63 - 1)


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    """A service on its own emulator."""
    with own_emulator() as running:
        yield deployed(running.endpoint, running.ca_bundle, enforced=True)


@pytest.fixture(scope="module")
def who(service: Service) -> str:
    """An account with usage."""
    found = account()
    body = message(f"page-{found}", [record(found, size=size) for size in SIZES])
    service.send(body)
    service.wait_for_rest()
    return found


@pytest.fixture(scope="module")
def links(service: Service) -> Iterator[dict[str, str]]:
    """For each front, a link with a token."""
    outputs = stack_outputs_of(service.clients, service.stage, "api")
    items = RegionPorts(service.clients, stack_outputs(service.clients, service.stage)).items
    book = TokenBook(items=items, clock=SystemClock())
    token = book.create(role=Role.OPERATOR, accounts=None, life_s=DAY_S, made_by="browser").text
    name = outputs["ApiFunctionName"]
    made = service.clients.lambda_.create_function_url_config(FunctionName=name, AuthType="NONE")["FunctionUrl"]
    program = Path(sys.executable).parent / "metering"
    serve = subprocess.Popen(
        [program, "serve", "--port", "0", "--stage", service.stage, "--region", service.region],
        env={**os.environ, **service.roles["operator"]},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert serve.stdout is not None
    addresses = {
        front: f"{api_address(put_out, service.endpoint).url}#token={token}"
        for front, put_out in (("http", outputs["ApiUrl"]), ("url", made))
    }
    yield {**addresses, "serve": serve.stdout.readline().strip()}
    serve.terminate()
    serve.wait(30)
    serve.stdout.close()
    service.clients.lambda_.delete_function_url_config(FunctionName=name)


@pytest.mark.parametrize("front", FRONTS)
def test_the_page_is_whole_over_every_front(browser: Browser, links: dict[str, str], who: str, front: str) -> None:
    origin, _, token = links[front].partition("#token=")
    looks: tuple[tuple[Scheme, int], ...] = (("light", WIDE), ("dark", NARROW))
    for scheme, width in looks:
        with watched(browser, scheme=scheme, width=width, now_s=int(time.time())) as tab:
            tab.pictures = f"{front}-{tab.pictures}"
            # The function has a cold start, and the machine may be busy.
            tab.patience_ms = _PATIENCE_MS
            tab.page.set_default_timeout(_PATIENCE_MS)
            tab.open(f"{origin}?account={who}&range=24h#token={token}")
            assert tab.attribute("#total", "data-bytes") == str(sum(SIZES))
            tab.elsewhere()
            address = tab.attribute("[data-format=json]", "href")
            answer = tab.page.request.get(address, headers={"Authorization": f"Bearer {token}"}).json()
            assert sum(int(row["bytes"]) for row in answer["rows"]) == sum(SIZES)
            assert tab.faults() == []
            tab.picture("usage")
            for view in tab.page.eval_on_selector_all("#tabs a", "all => all.map((a) => a.getAttribute('href'))"):
                if "view=usage" in view or "view=cost" in view or "view=accounts" in view:
                    # Without prices and before the biller's first run, these views are empty.
                    continue
                tab.page.locator(f"#tabs a[href='{view}']").click()
                tab.settle()
                assert tab.faults() == [], view
                tab.picture(view.removeprefix("?view="))
            line = f"?view=trace&account={who}&usage_type=USW2-DataTransfer-Out-Bytes&range=24h"
            tab.open(f"{origin}{line}")
            assert tab.attribute("#sums", "data-equal") == "true"
            assert tab.attribute("[data-sum=usage]", "data-bytes") == str(sum(SIZES))
            tab.picture("trace-line")
            tab.check(origin, secrets=(token,))

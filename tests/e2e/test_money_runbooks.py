"""Drills of the runbooks about money, in a home region, where budgets are evaluated.

Conditions that take long to arise are simulated: the test stores the biller's figures that the watch reads.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from metering.billing.prices.store import PriceStore, sample_book
from metering.ledger.notes.money import BILLER_KEY, BillerFigures
from metering.stores.writes import Put, Table
from metering.units import HOUR_S
from metering.wiring.region import RegionPorts
from tests.e2e.conftest import Service, deployed, own_emulator
from tests.e2e.oncall import CHECK, MITIGATE, SEE, cured, figures, follow, follows, heard
from tests.e2e.test_budgets import GB, bill, send
from tests.e2e.test_main_job import account
from tests.support.offer_files import every_region

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.ministack(reason="an alarm is looked at as soon as its figure is put"), pytest.mark.drill]

STAGE, HOME = "killtest", "us-east-1"


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    """A stage with a non-default name, in its home region."""
    with own_emulator() as running:
        yield deployed(running.endpoint, running.ca_bundle, enforced=True, stage=STAGE, regions=(HOME,))


@follows("budget-crossed")
def test_a_crossed_budget_raises_budget_crossed_and_its_runbook_shows_what_was_told(
    service: Service, pager: str
) -> None:
    who = account()
    send(service, who, 3 * GB, "crossing")
    name = f"egress-{who}"
    arguments = ("--account", who, "--amount", "2 GB", "--threshold", "actual 100%")
    assert service.run("operator", "budget", "set", name, *arguments).returncode == 0
    bill(service)

    assert cured(service, heard(service, pager, "budget-crossed"), BUDGET=name) == ([0, 0, 0], [0], [0, 0])


@follows("unpriced-usage")
def test_usage_without_a_price_raises_unpriced_usage_and_an_import_cures_it(
    service: Service, pager: str, tmp_path: Path
) -> None:
    book = replace(sample_book(), name="aws-list", products=sample_book().products[:1], allowances=())
    PriceStore(ports(service).objects).put(book)
    send(service, account(), GB, "unpriced")
    bill(service)
    assert figures(service)["UnpricedBytes"] > 0

    page = heard(service, pager, "unpriced-usage")
    assert cured(service, page, OFFER=" ".join(map(str, every_region(tmp_path)))) == ([1, 0], [0, 0], [0, 0])
    assert figures(service)["UnpricedBytes"] == 0


@follows("biller-behind")
def test_a_biller_that_counts_nothing_raises_biller_behind_and_a_run_by_hand_cures_it(
    service: Service, pager: str
) -> None:
    bill(service)
    keep(service, replace(kept(service), counted_s=int(time.time()) - 5 * HOUR_S))

    assert cured(service, heard(service, pager, "biller-behind")) == ([0, 0], [0, 0], [0, 0])
    assert figures(service)["BillerAge"] < HOUR_S


@follows("invoice-blocked")
def test_a_month_that_cannot_be_invoiced_raises_invoice_blocked(service: Service, pager: str) -> None:
    bill(service)
    keep(service, replace(kept(service), blocked_months=("2026-08",), why="2026-08 is not closed"))

    page = heard(service, pager, "invoice-blocked")
    assert follow(service, page, SEE)[:2] == [0, 0]
    assert follow(service, page, MITIGATE, MONTH="2026-08") == [0]
    assert follow(service, page, CHECK) == [0, 0]
    assert figures(service)["InvoicesBlocked"] == 0


def ports(service: Service) -> RegionPorts:
    """The region with root credentials."""
    from metering.adapters.aws.stacks import stack_outputs

    return RegionPorts(service.clients, stack_outputs(service.clients, service.stage))


def kept(service: Service) -> BillerFigures:
    item = ports(service).items.get(Table.LEDGER, BILLER_KEY)
    assert item is not None
    return BillerFigures.from_item(item)


def keep(service: Service, known: BillerFigures) -> None:
    ports(service).items.put(Put(table=Table.LEDGER, item=known.to_item()))

"""What takes payers and accounts takes time that grows as they do: each bound is of CPU, and a quadratic one fails it.

With as many payers as here, each with an account of its own, a loop over all of them for each takes 4 to 10 s.
"""

from __future__ import annotations

import json
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, cast

import pytest

from metering.billing.budgets.summaries import DaySummaries, Group, Grouping, PayerMonth
from metering.billing.organization import Organization, read_organization
from metering.billing.prices.book import Override, PriceBook
from metering.billing.rating.payer_prices import PayerPrices
from metering.billing.usage.months import Sold
from metering.units import DAY_S
from metering.usage.totals import Service, UsageType

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from metering.billing.day_sums.days import SummedMonth
    from metering.stores.objects import ObjectStore

MANY = 16_000
PAYERS = [f"{number:012d}" for number in range(1, MANY + 1)]
SOLD = Sold(Service("AmazonEC2"), UsageType("DataTransfer-Out-Bytes"))


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    begun = time.process_time()
    yield
    assert (took := time.process_time() - begun) < seconds, f"{took:.1f} s of CPU for {MANY:,} payers"


def document() -> bytes:
    return json.dumps(
        {
            "payers": [{"id": each, "name": each, "issuer": "me"} for each in PAYERS],
            "accounts": [{"id": each, "payer": each, "from": "2026-01-01T00:00:00Z"} for each in PAYERS],
        }
    ).encode()


@pytest.fixture(scope="module")
def organization() -> Organization:
    return read_organization(document(), "it")


def test_an_organization_of_many_payers_is_read_in_one_pass() -> None:
    """X6: all members were filtered for each payer."""
    body = document()
    with at_most(1.5):
        read = read_organization(body, "it")
    assert [each.members[0].account_id for each in read.payers] == PAYERS


def test_each_payer_and_its_accounts_are_found_without_a_look_at_the_others(organization: Organization) -> None:
    """X6: drafts, invoices, exports and costs ask so for each of their payers."""
    with at_most(1.5):
        found = [(organization.payer(each).name, organization.accounts_of(each)) for each in PAYERS]
    assert found == [(each, frozenset({each})) for each in PAYERS]


def test_prices_of_each_payer_are_found_without_a_look_at_the_overrides_of_others(organization: Organization) -> None:
    """X6, of 10,000 overrides, the most that there may be."""
    from metering.billing.invoices.inputs import Loaded

    overrides = tuple(Override(payer=each, percent_off=10_000, from_s=0) for each in PAYERS[:5_000]) + tuple(
        Override(account=each, percent_off=5_000, from_s=0) for each in PAYERS[2_500:7_500]
    )
    loaded = Loaded(book=cast("PriceBook", None), overrides=overrides, organization=organization)
    with at_most(1.5):
        own = [loaded.prices(each).overrides for each in PAYERS]
    assert [len(each) for each in own] == [1] * 2_500 + [2] * 2_500 + [1] * 2_500 + [0] * (MANY - 7_500)
    assert own[2_500] == PayerPrices.of(loaded.book, organization, PAYERS[2_500], overrides).overrides
    assert [bool(each.payer) for each in own[2_500]] == [True, False]


class KeptDay(DaySummaries):
    """Sums of a day that were kept before."""

    def of(self, region: SummedMonth, day_s: int) -> Mapping[Group, Mapping[Sold, int]]:
        return SUMS


SUMS = {Group(each, ""): {SOLD: number} for number, each in enumerate(PAYERS)} | {Group("1" * 12, PAYERS[3]): {SOLD: 5}}


def test_the_usage_of_each_payer_for_budgets_is_found_without_a_look_at_that_of_others(
    organization: Organization,
) -> None:
    """X6: a budget about all payers asks so for each of them."""
    grouping = Grouping(organization=organization, payers=None, apart=frozenset())
    summaries = KeptDay(objects=cast("ObjectStore", None), grouping=grouping)
    region = cast("SummedMonth", None)
    with at_most(1.5):
        found = [
            size
            for each in PAYERS
            for *_, size in PayerMonth(
                payer_id=each, month="2026-11", regions=[region], summaries=summaries, organization=organization
            ).parts([DAY_S])
        ]
    assert found == list(range(MANY))

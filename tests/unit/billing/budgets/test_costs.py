"""Costs from day sums are those of the lines, to the last digit, wherever tiers and allowances end."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from metering.billing.budgets.budget import Scope
from metering.billing.budgets.open_months import OpenMonths, Terms, read_regions
from metering.billing.organization import Membership, Organization, Payer
from metering.billing.prices.book import Override
from metering.billing.prices.store import Overrides
from metering.billing.rating.payer_prices import PayerPrices
from metering.billing.rating.rater import rated_month
from metering.billing.usage.months import UsageLine
from metering.units import DAY_S, GIB, HOUR_S
from tests.support.budget_world import REGION, BudgetWorld, OwnSums
from tests.support.lake_world import NOW_S, record
from tests.support.priced import ListedUsage, allowance, book, exact_total, product

if TYPE_CHECKING:
    from metering.billing.budgets.summaries import PayerCosts
    from metering.billing.rating.lines import Cut, SkuPositions

PAYER = "999999999999"
ACCOUNTS = ("111111111111", "222222222222", "333333333333")
TODAY = NOW_S - NOW_S % DAY_S
TIERS = (("10", "0.09"), ("25", "0.07"), (None, "0.03"))


class Priced:
    """A payer of three accounts, with tiers that a few GB cross."""

    def __init__(self, seed: int, *overrides: Override, moves_s: int | None = None, apart: bool = True) -> None:
        draw = random.Random(seed)
        out = product("OUT", "DataTransfer-Out-Bytes", TIERS)
        pair = product("PAIR", "USE1-EU-AWS-Out-Bytes", ((None, "0.02"),))
        self.book = replace(book((out, pair), allowance("3", "OUT")), name="aws-list")
        members = [Membership(account, 0, None) for account in ACCOUNTS[1:]]
        members.append(Membership(ACCOUNTS[0], moves_s or 0, None))
        payer = Payer(payer_id=PAYER, name="Payer", issuer="metering", members=tuple(members))
        self.organization = Organization(version=1, payers=(payer,), sha256="x")
        self.overrides = Overrides(overrides=tuple(overrides))
        world = BudgetWorld()
        for _ in range(12):
            records = [
                record(
                    draw.randrange(1, 2 * GIB),
                    start_s=TODAY - draw.randrange(6) * DAY_S + draw.randrange(13) * HOUR_S,
                    account=draw.choice(ACCOUNTS),
                    to=draw.choice(("internet", "internet", "eu-west-1")),
                )
                for _ in range(4)
            ]
            world.send(records)
        world.compact_all()
        world.keeper().keep(world.deadline())
        self.lines = tuple(
            UsageLine(
                key.hour_s, key.account_id, key.service, key.usage_type, key.from_location, key.to_location, total.bytes
            )
            for key, total in world.visible().items()
            if self.organization.payer_of(key.account_id, key.hour_s) == PAYER
        )
        sums = OwnSums(region=REGION, objects=world.objects, totals=world.make_jobs().totals)
        regions, _ = read_regions([sums])
        terms = Terms(book=self.book, overrides=self.overrides, organization=self.organization)
        budgets = [world.set(f"of-{account}", scope=Scope(account=account)) for account in ACCOUNTS if apart]
        months = OpenMonths(objects=world.objects, regions=regions, terms=terms, budgets=budgets)
        costs = months.costs_of(PAYER, "2026-11")
        assert costs is not None
        self.costs: PayerCosts = costs
        self.prices = PayerPrices.of(self.book, self.organization, PAYER, self.overrides.overrides)


CASES = [
    pytest.param((), None, id="plain"),
    pytest.param(
        (Override(account=ACCOUNTS[1], price=500_000_000, from_s=TODAY - 3 * DAY_S + 5 * HOUR_S),), None, id="override"
    ),
    pytest.param((Override(payer=PAYER, percent_off=10_000, from_s=TODAY - 2 * DAY_S),), None, id="payer"),
    pytest.param((Override(payer=PAYER, percent_off=10_000, from_s=TODAY - 2 * DAY_S + 7 * HOUR_S),), None, id="hour"),
    pytest.param((), TODAY - 2 * DAY_S + 7 * HOUR_S, id="moves"),
]


@pytest.mark.parametrize(("overrides", "moves_s"), CASES)
@pytest.mark.parametrize("seed", range(6))
def test_costs_from_sums_are_those_of_the_lines(
    seed: int, overrides: tuple[Override, ...], moves_s: int | None
) -> None:
    priced = Priced(seed, *overrides, moves_s=moves_s)
    usage = ListedUsage(priced.lines)
    rated = list(rated_month(priced.prices, usage))
    whole = priced.costs.exact_of(Scope(payer=PAYER))

    assert whole == sum(each.exact for each in rated)
    for account in ACCOUNTS:
        of_account = sum(each.exact for each in rated if each.line.account_id == account)
        assert priced.costs.exact_of(Scope(account=account)) == of_account
    by_type = {each.line.usage_type for each in rated}
    assert sum(priced.costs.exact_of(Scope(usage_type=name)) for name in by_type) == whole
    assert priced.costs.exact_of(Scope(region=REGION)) == whole
    days = [TODAY - back * DAY_S for back in range(6)]
    assert sum(priced.costs.exact_of(Scope(payer=PAYER), [day_s]) for day_s in days) == whole


@pytest.mark.parametrize("seed", range(6))
def test_accounts_that_are_summed_together_have_the_prices_of_their_hours(seed: int) -> None:
    own = Override(payer=PAYER, percent_off=10_000, from_s=TODAY - 2 * DAY_S + 7 * HOUR_S)
    priced = Priced(seed, own, apart=False)
    assert priced.costs.exact_of(Scope(payer=PAYER)) == exact_total(priced.prices, ListedUsage(priced.lines))


def test_regions_that_have_one_key_share_the_line_that_a_tier_begins_in() -> None:
    both = (REGION, "eu-west-1")
    organization = Organization(version=1, payers=(Payer(payer_id=PAYER, name="Payer", issuer="metering"),))
    prices = replace(book((product("OUT", "DataTransfer-Out-Bytes", TIERS),)), name="aws-list")
    worlds, regions = [BudgetWorld() for _ in both], list[OwnSums]()
    for name, world in zip(both, worlds, strict=True):
        world.use(8 * GIB, account=PAYER)
        world.keeper().keep(world.deadline())
        regions.append(OwnSums(region=name, objects=world.objects, totals=world.make_jobs().totals))
    read, _ = read_regions(regions)
    budgets = [worlds[0].set(f"of-{name}", scope=Scope(region=name)) for name in both]
    terms = Terms(book=prices, overrides=Overrides(), organization=organization)
    months = OpenMonths(objects=worlds[0].objects, regions=read, terms=terms, budgets=budgets)
    costs = months.costs_of(PAYER, "2026-11")
    assert costs is not None
    parts = [costs.exact_of(Scope(region=name)) for name in both]
    assert sum(parts) == costs.exact_of(Scope()) == (10 * 9 + 6 * 7) * GIB * 10**8


def test_lines_are_read_of_the_hours_in_which_something_begins_and_of_no_others() -> None:
    priced = Priced(1)
    read: list[int] = []
    for region in priced.costs.usage.regions:
        original = region.totals.of
        object.__setattr__(region, "totals", _Counting(original, read))
    priced.costs.exact_of(Scope(payer=PAYER))
    first = len(read)
    cuts = {cut.hour_s for sku in priced.costs.positions.skus.values() for cut in _cuts(sku)}
    assert first > 0
    read.clear()
    priced.costs.exact_of(Scope(payer=PAYER))
    assert set(read) <= cuts


class _Counting:
    def __init__(self, of: object, read: list[int]) -> None:
        self._of = of
        self._read = read

    def of(self, file: object) -> object:
        for key, total in self._of(file):  # type: ignore[operator]  # the method of a totals reader
            self._read.append(key.hour_s)
            yield key, total


def _cuts(sku: SkuPositions) -> list[Cut]:
    cuts = [*(part.cut for part in sku.free), *(tier.cut for tier in sku.tiers)]
    return [cut for cut in cuts if cut is not None]

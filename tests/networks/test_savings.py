"""Planted wastes are found, clean networks are left alone, and each saving is the difference of two costs."""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from metering.billing.money import UNITS_A_USD, rounded
from metering.billing.payers import Organization
from metering.billing.rating.payer_prices import PayerPrices
from metering.billing.usage.months import MonthUsage, UsageLine
from metering.errors import LedgerCorruptError
from metering.reports.costs.rows import CostParameters
from metering.reports.costs.source import BookName, CostPlanner, CostSource
from metering.reports.savings.answer import Finding, Month
from metering.reports.savings.replay import Replay
from metering.reports.savings.rewriting import Case, Networks, Rewriting
from metering.reports.savings.rules import savings_rules
from tests.networks.savings import MONTH, PAYER, WASTES, WEST, Metered, metered, payer, prices
from tests.support.billing_world import BillingWorld, MemoryUsage
from tests.support.priced import MemoryMonth

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from metering.reports.savings.rules import SavingsRule

CENT = UNITS_A_USD // 100
ALL = tuple(WASTES)
ORGANIZATION = Organization(payers=(payer(),))


def replay(network: Metered) -> Replay:
    month = MemoryMonth(region=WEST, month=MONTH, usage=network.usage)
    usage = MonthUsage(regions=(month,), month=MONTH, organization=ORGANIZATION)
    return Replay(prices=PayerPrices(prices(), PAYER), usage=usage.of(PAYER))


def rewritten(network: Metered, rules: Sequence[SavingsRule] = (), *, apart: bool = True) -> Rewriting:
    networks = Networks(network.named)
    for row in network.rows:
        networks.learn(row)
    found = Rewriting(rules or tuple(savings_rules().values()), ORGANIZATION.payer_of, apart=apart)
    usage_types = found.usage_types(networks)
    for row in network.rows:
        if row.usage_type in usage_types:
            found.take(row, networks)
    return found


def cases(network: Metered, rules: Sequence[SavingsRule] = (), *, apart: bool = True) -> list[Case]:
    return list(rewritten(network, rules, apart=apart).cases.values())


def finding(network: Metered, case: Case) -> Finding:
    return Finding(case, replay(network).compared(case.lines()), Month(MONTH, 720, final=True, prices=""))


def saving(network: Metered, case: Case) -> int:
    found = finding(network, case).saving
    assert found is not None
    return found


def cost_run(usage: Iterable[UsageLine]) -> int:
    """Total of `metering cost` for the month, in 1e-10 USD."""
    world = BillingWorld(prices=prices())
    world.usage = MemoryUsage([WEST])
    world.use(*usage, month=MONTH, region=WEST)
    world.organizations.put(ORGANIZATION)
    now_s, book, planner = world.clock.now_ms() // 1000, BookName(name="aws-list"), world.issuer.planner
    query = CostParameters(month=MONTH).cost_query(now_s=now_s)
    plans = CostPlanner(query=query, book=book, planner=planner, now_s=now_s).plans(MONTH)
    total = CostSource(query=query, book=book, planner=planner, now_s=now_s).costs(plans).rows.total
    assert not total.unpriced
    return rounded(total.exact)


def as_it_would_be(network: Metered, case: Case) -> list[UsageLine]:
    sums: Counter[tuple[object, ...]] = Counter()
    for line in (*network.usage, *case.lines()):
        sums[line.key] += line.bytes
    assert min(sums.values()) >= 0
    return [UsageLine(*key, size) for key, size in sums.items() if size]  # type: ignore[arg-type,call-arg]  # its fields


def mended_by(waste: str, style: str, rules: Mapping[str, SavingsRule]) -> tuple[int, int]:
    """The saving by a rule in a network with one waste, and the difference of cost after the waste is mended."""
    planted, mended = metered((waste,), style=style), metered((waste,), (waste,), style=style)
    [case] = cases(planted, [rules[WASTES[waste].rule]], apart=False)
    said = saving(planted, case)
    return said, cost_run(planted.usage) - cost_run(mended.usage)


@pytest.mark.parametrize("style", ["v5", "v11"])
def test_every_planted_waste_is_found_and_a_clean_network_has_none(style: str) -> None:
    found = {case.rule.name for case in cases(metered(ALL, style=style)) if saving(metered(ALL, style=style), case) > 0}
    assert found == {waste.rule for waste in WASTES.values()} == set(savings_rules())
    assert not cases(metered(ALL, ALL, style=style))
    assert not cases(metered((), style=style))


@pytest.mark.parametrize("waste", WASTES)
def test_a_waste_alone_is_found_by_its_rule(waste: str) -> None:
    network = metered((waste,))
    found = {case.rule.name: case for case in cases(network)}
    # Through the NAT gateway of another zone, there is that waste, too.
    assert found.keys() - {"nat-per-zone"} <= {WASTES[waste].rule}
    case = found[WASTES[waste].rule]
    assert saving(network, case) > 100 * CENT
    # Only the ends of the transit gateway's bytes are surely in one zone each.
    assert bool(case.assumed_bytes) is (bool(case.rule.at_most) and case.rule.name != "peering")


@pytest.mark.parametrize("rule", savings_rules())
def test_each_saving_is_the_difference_of_two_cost_runs_to_ten_decimals(rule: str) -> None:
    network = metered(ALL)
    found = [case for case in cases(network) if case.rule.name == rule]
    was = cost_run(network.usage)
    for case in (*found[:2], *cases(network, [savings_rules()[rule]], apart=False)):
        found_one = finding(network, case)
        assert found_one.saving == was - cost_run(as_it_would_be(network, case))
        assert rounded(found_one.totals[0].exact) == was


@pytest.mark.parametrize("style", ["v5", "v11"])
@pytest.mark.parametrize("waste", WASTES)
def test_a_network_changed_as_advised_costs_what_was_said_to_the_cent(waste: str, style: str) -> None:
    said, less = mended_by(waste, style, savings_rules())
    assert said > 100 * CENT or style == "v5"
    assert abs(said - less) < CENT


def test_the_comparison_to_the_cent_notices_each_move_that_a_rule_lacks() -> None:
    lacking = []
    for rule in savings_rules().values():
        for left_out in rule.moves:
            less = replace(rule, moves=tuple(each for each in rule.moves if each is not left_out))
            wastes = [name for name, waste in WASTES.items() if waste.rule == rule.name]
            if not any(_differs(waste, less) for waste in wastes):
                lacking.append((rule.name, left_out))
    assert not lacking


def _differs(waste: str, rule: SavingsRule) -> bool:
    if not cases(metered((waste,)), [rule]):
        return True
    said, less = mended_by(waste, "v11", {rule.name: rule})
    return abs(said - less) >= CENT


def test_more_bytes_of_causes_than_of_usage_are_refused() -> None:
    network = metered(ALL)
    case = next(each for each in cases(network) if each.rule.name == "gateway-endpoint")
    with pytest.raises(LedgerCorruptError, match="have more bytes than its usage"):
        replay(network).compared(line._replace(bytes=9 * line.bytes) for line in case.lines())


def test_bytes_without_a_cause_or_destination_are_not_judged() -> None:
    network = metered(ALL)
    lost = dataclasses.replace(network, rows=tuple(row._replace(cause="", basis="") for row in network.rows))
    found = rewritten(lost)
    assert not found.cases
    assert found.about == found.unknown
    assert found.about.keys() == savings_rules().keys()
    nowhere = dataclasses.replace(network, rows=tuple(row._replace(destination="") for row in network.rows))
    found = rewritten(nowhere)
    assert {case.rule.name for case in found.cases.values()} == {"nat-per-zone"}
    # Of the rule that needs no destination, only the public side is unknown.
    assert {name for name, size in found.unknown.items() if size < found.about[name]} == {"nat-per-zone"}

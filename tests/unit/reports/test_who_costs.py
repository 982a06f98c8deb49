"""Costs of causes: parts of a line cost their share of it, and add up to the report of costs."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metering.api.resources.who import WHO
from metering.billing.organization import OrganizationStore
from metering.billing.prices.store import PriceStore
from metering.errors import LedgerCorruptError
from metering.reports.costs.rows import CostParameters
from metering.reports.who import WhoParameters
from metering.reports.who_costs import LineKey, Lines, shown_units
from metering.units import DAY_S, HOUR_S
from metering.wiring.answers.costs import book_named, costs_of, own_billing
from metering.wiring.answers.who import Prices, who_of
from tests.api.world import FIRST, PAYER, SECOND, ApiWorld, WorldRegion, complete_until
from tests.support.kept_causes import NAT, NAT_BYTES, keep_causes, record_of, row, unnamed
from tests.support.lake_world import HOUR, NOW_S, World, record
from tests.support.priced import US_TIERS, allowance, book, gb, paid_by, product
from tests.unit.client.here import over_stores
from tests.unit.reports.test_who import COMPLETE, NAMES, OUT, SEARCH, lines, totals_of

if TYPE_CHECKING:
    from metering.reports.answer import Answer
    from tests.support.kept_causes import Row

FREE_TYPE = "USW2-C3DataTransfer-Out-Bytes"


def priced_world(rows: list[Row]) -> World:
    """A region with prices: gateways at one price, and egress with 100 GB free, and tiers."""
    world = World()
    world.send([record_of(each) for each in rows])
    world.compact_all()
    keep_causes(world, rows, NAMES)
    out, nat = product("OUTUSE1", OUT, US_TIERS), product("NATUSW2", NAT_BYTES, ((None, "0.045"),))
    made = book((out, nat), allowance("100", "OUTUSE1"))
    PriceStore(world.objects).put(replace(made, name="aws-list"))
    return world


def ask(world: World, **asked: Any) -> Answer:
    filters = {name: [value] for name, value in asked.pop("filters", {}).items()}
    query = WhoParameters(filters=filters, cost=True, **asked).who_query(now_s=NOW_S)
    region, named = WorldRegion(world), book_named(None)
    assert named is not None
    prices = Prices(billing=own_billing(region), book=named, now_s=NOW_S)
    return who_of([region], query, owners=SEARCH, now_s=NOW_S, complete=COMPLETE, prices=prices)


def report(world: World, **asked: Any) -> dict[str, Decimal]:
    """Cost of each usage type by the report of costs."""
    named = book_named(None)
    assert named is not None
    query = CostParameters(group_by="usage_type", **asked).cost_query(now_s=NOW_S)
    found = costs_of(own_billing(WorldRegion(world)), query, book=named, now_s=NOW_S, complete=COMPLETE)
    return {str(each["usage_type"]): each["cost_usd"] for each in found.answer.rows}  # type: ignore[misc]  # decimals


def test_a_part_costs_its_bytes_times_the_price_of_its_line() -> None:
    rows = [row(gb("3")), row(gb("1"), cause="i-0def", destination="S3.us-west-2"), unnamed(gb("0.5"), "many")]
    world = priced_world(rows)
    world.send([record(7)])
    answer = ask(world, filters={"usage_type": NAT_BYTES}, group_by="owner")
    assert lines(answer, "owner", "bytes", "cost_usd") == [
        ("unowned", gb("3"), Decimal("0.1350000000")),
        ("unattributed", gb("0.5"), Decimal("0.0225000000")),
        ("search", gb("1"), Decimal("0.0450000000")),
    ]
    assert answer.meta["total_usd"] == "0.2025000000"
    assert (answer.meta["method"], answer.meta["currency"]) == ("metering:bytes-by-line:1", "USD")
    assert answer.meta["price_book"] == {"name": "aws-list", "version": 1}


def test_parts_of_a_line_that_a_tier_cuts_share_its_exact_cost() -> None:
    """Of 300 GB in one hour, 100 GB are free; parts of other hours of the day have prices of their own."""
    rows = [
        row(gb("60"), usage_type=OUT, hour=HOUR - HOUR_S), row(gb("50"), usage_type=OUT, cause="i-0def"),
        row(gb("250"), usage_type=OUT),
    ]  # fmt: skip
    world = priced_world(rows)
    paid = Fraction(260, 300) * Fraction(9, 100)
    found = ask(world, group_by="workload,hour", filters={"usage_type": OUT})
    assert [(each["workload"], each["cost_usd"]) for each in found.rows] == [
        ("asg:ci", Decimal(str(float(250 * paid)))), ("ecs:prod/indexer", Decimal(str(float(50 * paid)))),
        ("asg:ci", Decimal(0)),
    ]  # fmt: skip
    # By the day, it is the same.
    found = ask(world, group_by="workload", filters={"usage_type": OUT})
    assert [each["cost_usd"] for each in found.rows] == [Decimal("19.5"), Decimal("3.9")]


def test_usage_without_a_price_keeps_its_bytes_and_has_no_cost() -> None:
    world = priced_world([row(5), row(9, usage_type="USW2-VpcEndpoint-Bytes", resource_id="vpce-1")])
    answer = ask(world)
    assert lines(answer, "resource", "cost_usd", "unpriced_bytes") == [
        (NAT, Decimal("0.0000000002"), 0), ("vpce-1", None, 9),
    ]  # fmt: skip
    assert [each["cost_usd"] for each in totals_of(answer)] == ["0.0000000002", None]


def test_a_cause_without_a_line_is_refused() -> None:
    key = LineKey("us-east-1", "1", "AmazonEC2", OUT, "a", "b", late=False, begin_s=0)
    with pytest.raises(LedgerCorruptError, match="without usage"):
        Lines().number(key)


def test_costs_are_the_same_over_http_by_python_and_for_who_may_see_them() -> None:
    rows = [row(gb("3"), account_id=FIRST), row(gb("1"), account_id=SECOND)]
    world = priced_world(rows)
    complete_until(world, HOUR)
    api = ApiWorld(world)
    told = api.json("/v1/who?cost=true&group_by=workload&from=2026-11-24")
    jsonschema.validate(told, WHO.schema)
    assert [(each["bytes"], each["cost_usd"]) for each in told["rows"]] == [(str(gb("4")), "0.1800000000")]
    table = over_stores(world).who(group_by="workload", from_="2026-11-24", cost=True)
    assert table["cost_usd"].to_pylist() == [Decimal("0.1800000000")]
    own = api.json("/v1/who?cost=true&group_by=workload&from=2026-11-24", "first")
    assert own["totals"][0]["cost_usd"] == "0.1350000000"
    assert api.get("/v1/who?cost=true&prices=nobody").status_code == 422
    # Costs tell what others of the payer use.
    OrganizationStore(world.objects).put(paid_by(PAYER, [FIRST, SECOND]))
    assert api.get("/v1/who?cost=true", "portal").status_code == 403


@given(st.lists(st.fractions(min_value=0, max_value=50), min_size=1, max_size=9))
def test_shown_costs_add_up_to_the_shown_sum(exact: list[Fraction]) -> None:
    units = shown_units(exact, 3)
    assert [sum(units)] == shown_units([sum(exact, Fraction())], 3)
    assert all(abs(unit - cost / 3) < 1 for unit, cost in zip(units, exact, strict=True))


@st.composite
def some_rows(draw: st.DrawFn) -> list[Row]:
    sizes = st.one_of(st.integers(0, 2**62), st.sampled_from([gb("1"), gb("99"), gb("5000"), 7]))
    found = []
    for size in draw(st.lists(sizes, min_size=1, max_size=9)):
        hour = HOUR - draw(st.integers(0, 60)) * HOUR_S
        cause = draw(st.sampled_from(["i-0abc", "i-0def", "eni-1"]))
        found.append(row(size, usage_type=draw(st.sampled_from([OUT, OUT, NAT_BYTES])), cause=cause, hour=hour))
    return found


@pytest.mark.examples
@settings(max_examples=40, deadline=None)
@given(some_rows(), st.sampled_from(["cause", "owner,day", "hour,workload", "resource"]), st.integers(1, 4))
def test_costs_of_any_grouping_add_up_to_the_report_of_costs(rows: list[Row], columns: str, top: int) -> None:
    world = priced_world(rows)
    world.send([record(gb("3"))], [record(gb("130"), start_s=NOW_S - DAY_S)])
    for times in ({"start": "2026-11"}, {"start": "2026-11-23T05:00:00Z", "end": "2026-11-24T11:00:00Z"}):
        answer = ask(world, group_by=columns, top=top, **times)
        sums: Counter[str] = Counter()
        for each in answer.rows:
            sums[str(each["usage_type"])] += each["cost_usd"]  # type: ignore[assignment,operator]  # decimals
        expected = {name: cost for name, cost in report(world, **times).items() if cost}
        assert {name: cost for name, cost in sums.items() if cost} == expected

"""Filters by source and destination: exactly the rows with these names, in usage and in costs."""

from __future__ import annotations

import itertools
from functools import partial
from typing import TYPE_CHECKING

import pytest

from metering.billing.organization import Membership, Organization, Payer
from metering.billing.rating.payer_prices import PayerPrices
from metering.billing.usage.months import MonthUsage
from metering.reports.costs.column_costs import ColumnCosts
from metering.reports.costs.rows import CostQuery, CostRows, rows_of
from metering.reports.query import GroupColumn, UsageParameters, UsageQuery
from metering.reports.source import report_rows
from metering.reports.time_range import InvalidParametersError
from metering.reports.usage_answer import missing_names
from metering.reports.usage_rows import Seen
from metering.usage.usage_types import LOCATION, parse_location
from tests.support.lake_world import ACCOUNT, NOW_S, World, record
from tests.support.month_usage import MemoryMonth
from tests.support.priced import BEGIN_S, END_S, MONTH, US_TIERS, allowance, book, gb, product, used

if TYPE_CHECKING:
    from collections.abc import Sequence

PLACES = ("internet", "eu-west-1", "us-east-1/use1-az4")
_BOOK = book([product("US", "DataTransfer-Out-Bytes", US_TIERS)], allowance("100", "US"))


@pytest.fixture(scope="module")
def world() -> World:
    world = World()
    world.send([record(10**number, to=place) for number, place in enumerate(PLACES)])
    world.compact_all()
    world.send([record(5, to="internet", resource="i-2")])
    return world


@pytest.mark.parametrize(("account", "detail"), [((), None), ((ACCOUNT,), None), ((), "resource_id")])
def test_a_report_has_exactly_the_rows_to_that_place_from_table_lake_and_rows(
    world: World, account: tuple[str, ...], detail: str | None
) -> None:
    asked = partial(_query, detail=detail, account=account)
    whole = report_rows([world.source()], asked(group_by="to"), now_s=NOW_S)
    for names in itertools.chain.from_iterable(itertools.combinations(PLACES, n) for n in (1, 2)):
        some = report_rows([world.source()], asked(group_by="to", to_location=names), now_s=NOW_S)
        assert some == [row for row in whole if row.values[0] in names]
    here = asked(from_location=["us-east-1/use1-az2"])
    assert sum(row.total.bytes for row in report_rows([world.source()], here, now_s=NOW_S)) == 116
    there = asked(from_location=["us-east-1"])
    assert report_rows([world.source()], there, now_s=NOW_S) == []


def test_a_place_that_is_not_there_is_told_with_the_nearest(world: World) -> None:
    query = _query(to_location=["eu-west-2"])
    seen = Seen(query)
    report_rows([world.source()], query, now_s=NOW_S, seen=seen)
    [missing] = missing_names([world.source()], query, seen)
    assert (missing.parameter, missing.value, missing.nearest[0]) == ("to_location", "eu-west-2", "eu-west-1")


@pytest.mark.parametrize("text", ["us-east-1a", "US-EAST-1", "Internet", f"{'a' * 61}-b-1", "us-east-1/", "x"])
def test_what_is_no_location_is_refused(text: str) -> None:
    with pytest.raises(InvalidParametersError) as caught:
        _query(to_location=[text], from_location=[text])
    assert {each.parameter for each in caught.value.problems} == {"from_location", "to_location"}


@pytest.mark.parametrize(
    "text", ["internet", "unknown", "us-east-1", "us-gov-west-1", "us-east-1/use1-az2", "us-east-1a", "", "a-b-1/Z"]
)
def test_a_question_knows_the_locations_that_records_may_have(text: str) -> None:
    assert (LOCATION.fullmatch(text) is not None) == (not isinstance(parse_location(text), str))


@pytest.mark.parametrize("group_by", [("usage_type",), ("tier",), ("day",), ("hour", "account_id"), ("to",)])
@pytest.mark.parametrize("together", [True, False])
def test_costs_to_places_add_up_to_the_costs_of_all(group_by: tuple[GroupColumn, ...], together: bool) -> None:
    lines = tuple(
        used(gb(str(70 + 7 * number)), hour, account=f"{number % 3:012}")._replace(to_location=place)
        for number, (place, hour) in enumerate(itertools.product(PLACES, (3, 30, 31)))
    )
    members = tuple(Membership(f"{number:012}", 0, None) for number in range(3)) if together else ()
    payer = Payer(payer_id="999999999999", name="Example", issuer="Metering", members=members)
    organization = Organization(payers=(payer,) if together else ())
    whole = _rated(lines, organization, group_by)
    parts = [_rated(lines, organization, group_by, place) for place in PLACES]
    assert sum(part.total.exact for part in parts) == whole.total.exact > 0
    assert sum(part.total.bytes for part in parts) == whole.total.bytes
    for place, part in zip(PLACES, parts, strict=True):
        by_place = _rated(lines, organization, ("to",))
        [row] = [row for row in by_place.rows if row.values == (place,)]
        assert (row.total.exact, row.total.bytes) == (part.total.exact, part.total.bytes)


def _query(*, group_by: str | None = None, detail: str | None = None, **filters: Sequence[str]) -> UsageQuery:
    asked = UsageParameters(start="2026-11", group_by=group_by, detail=detail, filters=filters)
    return asked.query(now_s=NOW_S)


def _rated(
    lines: tuple[object, ...], organization: Organization, group_by: tuple[GroupColumn, ...], place: str = ""
) -> CostRows:
    usage = UsageQuery(from_s=BEGIN_S, to_s=END_S, group_by=group_by, to_locations=frozenset([place] if place else []))
    month = MonthUsage(regions=(MemoryMonth(usage=lines),), month=MONTH, organization=organization)  # type: ignore[arg-type]  # lines
    costs = ColumnCosts(
        query=CostQuery(usage=usage), usage=month, book=_BOOK, prices_of=lambda payer_id: PayerPrices(_BOOK, payer_id),
        payers=frozenset(), own_prices=frozenset(),
    )  # fmt: skip
    return rows_of(costs.entries())

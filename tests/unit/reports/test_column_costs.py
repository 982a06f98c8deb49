"""Costs by columns read hours only for order-dependent usage. Location filters leave exactly the matching rows."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import pytest

from metering.billing.payers import Organization
from metering.billing.rating.payer_prices import PayerPrices
from metering.billing.usage.months import MonthUsage, Sold, UsageLine
from metering.reports.costs.column_costs import ColumnCosts
from metering.reports.costs.rows import CostQuery, CostRows, rows_of
from metering.reports.query import GroupColumn, UsageParameters, UsageQuery
from metering.reports.source import report_rows
from metering.reports.time_range import InvalidParametersError
from metering.reports.usage_answer import missing_names
from metering.reports.usage_rows import Seen
from metering.units import DAY_S, HOUR_S
from metering.usage.usage_types import LOCATION, parse_location
from tests.support.lake_world import ACCOUNT, NOW_S, World, record
from tests.support.priced import (
    BEGIN_S,
    END_S,
    MONTH,
    US_TIERS,
    MemoryMonth,
    allowance,
    book,
    gb,
    paid_by,
    product,
    used,
)

_FLAT = "USW2-USE1-AWS-Out-Bytes"
_BOOK = book(
    [product("US", "DataTransfer-Out-Bytes", US_TIERS), product("PAIR", _FLAT, [(None, "0.02")])],
    allowance("100", "US"),
)
# One payer more than are processed together.
_CROWD = 401
_TOGETHER = paid_by("999999999999", [f"{number:012}" for number in range(3)])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Watched(MemoryMonth):
    """Records which hours are read."""

    read: list[tuple[int | None, frozenset[Sold] | None]] = field(default_factory=list)

    def hour_lines(
        self, accounts: frozenset[str] | None = None, *, day_s: int | None = None, sold: frozenset[Sold] | None = None
    ) -> Iterator[UsageLine]:
        self.read.append((day_s, sold))
        return MemoryMonth.hour_lines(self, accounts, day_s=day_s, sold=sold)


def _rated(
    month: MemoryMonth,
    *group_by: GroupColumn,
    organization: Organization | None = None,
    to_s: int = END_S,
    places: Sequence[str] = (),
) -> CostRows:
    usage = UsageQuery(from_s=BEGIN_S, to_s=to_s, group_by=group_by, to_locations=frozenset(places))
    query = CostQuery(usage=usage)
    whole = MonthUsage(regions=(month,), month=MONTH, organization=organization or Organization())
    costs = ColumnCosts(
        query=query, usage=whole, book=_BOOK, prices_of=lambda payer_id: PayerPrices(_BOOK, payer_id),
        payers=frozenset(), own_prices=frozenset(),
    )  # fmt: skip
    return rows_of(costs.entries())


def _crowd() -> _Watched:
    """Accounts that pay for themselves, each with usage in two hours, 1 GB above its allowance."""
    lines = [
        used(size, hour, account=f"{number:012}", usage_type=usage_type)
        for number in range(_CROWD)
        for usage_type in ("DataTransfer-Out-Bytes", _FLAT)
        for size, hour in ((gb("60"), 5), (gb("41"), 30))
    ]
    return _Watched(usage=tuple(lines))


@pytest.mark.parametrize("column", ["account_id", "payer", "usage_type", "service", "tier", "from"])
def test_accounts_that_pay_for_themselves_need_no_hours(column: GroupColumn) -> None:
    month = _crowd()
    total = _rated(month, column).total
    assert total.exact == _CROWD * (gb("1") * 900_000_000 + gb("101") * 200_000_000)
    assert month.read == []


def test_days_and_hours_of_many_payers_add_up_to_their_months() -> None:
    month = _rated(_crowd(), "payer").total.exact
    by_day, by_hour = _rated(_crowd(), "day"), _rated(_crowd(), "hour")
    assert (by_day.total.exact, by_hour.total.exact) == (month, month)
    assert [len(by_day.rows), len(by_hour.rows)] == [2, 2]


def test_only_what_the_order_decides_is_read_by_the_hour() -> None:
    month = _Watched(
        usage=tuple(
            used(gb("60"), number, account=f"{number:012}", usage_type=usage_type)
            for number in range(3)
            for usage_type in ("DataTransfer-Out-Bytes", _FLAT)
        )
    )
    rows = _rated(month, "account_id", organization=_TOGETHER).rows
    flat = gb("60") * 200_000_000
    assert [row.total.exact - flat for row in rows] == [0, gb("20") * 900_000_000, gb("60") * 900_000_000]
    assert {each.usage_type for _, sold in month.read for each in sold or ()} == {"DataTransfer-Out-Bytes"}
    month.read.clear()
    assert _rated(month, "usage_type", organization=_TOGETHER).total.exact == sum(row.total.exact for row in rows)
    assert month.read == []


@pytest.mark.parametrize(("to_s", "exact"), [
    (BEGIN_S + 31 * HOUR_S, gb("1") * 900_000_000),
    (BEGIN_S + 30 * HOUR_S, 0),
    (BEGIN_S + DAY_S, 0),
])  # fmt: skip
def test_a_report_ends_before_usage_that_came_later(to_s: int, exact: int) -> None:
    rows = _rated(_crowd(), "account_id", "usage_type", to_s=to_s).rows
    found = {row.total.exact for row in rows if row.values[1] == "DataTransfer-Out-Bytes"}
    assert found == {exact}


PLACES = ("internet", "eu-west-1", "us-east-1/use1-az4")


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
    month, organization = MemoryMonth(usage=lines), _TOGETHER if together else None
    whole = _rated(month, *group_by, organization=organization)
    parts = [_rated(month, *group_by, organization=organization, places=[place]) for place in PLACES]
    assert sum(part.total.exact for part in parts) == whole.total.exact > 0
    assert sum(part.total.bytes for part in parts) == whole.total.bytes
    by_place = _rated(month, "to", organization=organization).rows
    for place, part in zip(PLACES, parts, strict=True):
        [row] = [row for row in by_place if row.values == (place,)]
        assert (row.total.exact, row.total.bytes) == (part.total.exact, part.total.bytes)


def _query(*, group_by: str | None = None, detail: str | None = None, **filters: Sequence[str]) -> UsageQuery:
    asked = UsageParameters(start="2026-11", group_by=group_by, detail=detail, filters=filters)
    return asked.query(now_s=NOW_S)

"""Reports about whole months read hours only where the order of usage matters."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from metering.billing.organization import Membership, Organization, Payer
from metering.billing.rating.payer_prices import PayerPrices
from metering.billing.usage.months import MonthUsage, Sold, UsageLine
from metering.reports.costs.column_costs import ColumnCosts
from metering.reports.costs.rows import CostQuery, CostRows, rows_of
from metering.reports.query import GroupColumn, UsageQuery
from metering.units import DAY_S, HOUR_S
from tests.support.month_usage import MemoryMonth
from tests.support.priced import BEGIN_S, END_S, MONTH, US_TIERS, allowance, book, gb, product, used

if TYPE_CHECKING:
    from collections.abc import Iterator

_FLAT = "USW2-USE1-AWS-Out-Bytes"
_BOOK = book(
    [product("US", "DataTransfer-Out-Bytes", US_TIERS), product("PAIR", _FLAT, [(None, "0.02")])],
    allowance("100", "US"),
)
# More payers than are walked together.
_CROWD = 401


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
    month: _Watched, *group_by: GroupColumn, organization: Organization | None = None, to_s: int = END_S
) -> CostRows:
    query = CostQuery(usage=UsageQuery(from_s=BEGIN_S, to_s=to_s, group_by=group_by))
    usage = MonthUsage(regions=(month,), month=MONTH, organization=organization or Organization())
    costs = ColumnCosts(
        query=query, usage=usage, book=_BOOK, prices_of=lambda payer_id: PayerPrices(_BOOK, payer_id),
        payers=frozenset(), own_prices=frozenset(),
    )  # fmt: skip
    return rows_of(costs.entries())


def _crowd() -> _Watched:
    """Accounts that pay for themselves, each with 1 GB beyond its allowance, in two hours."""
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
    members = tuple(Membership(f"{number:012}", 0, None) for number in range(3))
    payer = Payer(payer_id="999999999999", name="Example", issuer="Metering", members=members)
    month = _Watched(
        usage=tuple(
            used(gb("60"), number, account=f"{number:012}", usage_type=usage_type)
            for number in range(3)
            for usage_type in ("DataTransfer-Out-Bytes", _FLAT)
        )
    )
    organization = Organization(payers=(payer,))
    rows = _rated(month, "account_id", organization=organization).rows
    flat = gb("60") * 200_000_000
    assert [row.total.exact - flat for row in rows] == [0, gb("20") * 900_000_000, gb("60") * 900_000_000]
    assert {each.usage_type for _, sold in month.read for each in sold or ()} == {"DataTransfer-Out-Bytes"}
    month.read.clear()
    assert _rated(month, "usage_type", organization=organization).total.exact == sum(row.total.exact for row in rows)
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

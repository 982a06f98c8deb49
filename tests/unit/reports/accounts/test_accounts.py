"""In every state of a month, the list of its accounts equals a report by account over the lake."""

from __future__ import annotations

from dataclasses import replace

import pytest

from metering.billing.day_sums.days import AccountSum
from metering.billing.day_sums.index import DayIndexes
from metering.errors import LedgerCorruptError, ObjectDamagedError
from metering.lake.parquet.frozen_months import ParquetFrozenFiles
from metering.reports.accounts import (
    COLUMNS,
    AccountsNotKeptError,
    AccountsParameters,
    AccountsQuery,
    AccountsSource,
    listed,
    summed,
)
from metering.reports.query import Order, UsageParameters
from metering.reports.source import report_rows
from metering.reports.time_range import InvalidParametersError
from metering.stores.objects import RATED_PREFIX, rated_index_key
from metering.units import DAY_S, HOUR_S
from metering.usage.totals import Moved
from tests.support.budget_world import REGION, BudgetWorld
from tests.support.lake_world import ACCOUNT, HOUR, NOW_S, record

OTHER, CANARY = "210987654321", "000000000000"
OCTOBER_S = NOW_S - 30 * DAY_S
NOVEMBER = AccountsQuery(month="2026-11")
OCTOBER = AccountsQuery(month="2026-10")


@pytest.fixture
def world() -> BudgetWorld:
    """Two months of usage, which the biller has counted; October is closed."""
    made = BudgetWorld()
    for start_s in (OCTOBER_S, OCTOBER_S + DAY_S, NOW_S - DAY_S, NOW_S):
        made.send([record(2**40 + 1, start_s=start_s), record(5, start_s=start_s, account=OTHER)])
        made.send([{**record(3, start_s=start_s, account=OTHER), "usage_type": "USW2-NatGateway-Bytes"}])
        made.send([record(9, start_s=start_s, account=CANARY)])
    made.compact_all()
    made.keep()
    made.jobs.closer.close("2026-10", made.deadline())
    # Late usage of October is booked in November.
    made.send([record(700, start_s=OCTOBER_S, account="000000000700")])
    made.compact_all()
    made.keep()
    return made


def source(world: BudgetWorld) -> AccountsSource:
    frozen = ParquetFrozenFiles(world.objects)
    return AccountsSource(region=REGION, items=world.items, objects=world.objects, frozen=frozen)


def totals(world: BudgetWorld, query: AccountsQuery) -> dict[str, Moved]:
    found = source(world).month(query).sums
    return {each.account_id: Moved(each.bytes, each.records, each.processed_bytes) for each in found}


def reported(world: BudgetWorld, month: str, account: str = "") -> dict[str, Moved]:
    """Totals by account, as in `report usage --group-by account_id`."""
    given = [account] if account else []
    query = UsageParameters(start=month, group_by="account_id", filters={"account": given}).query(now_s=NOW_S)
    return {row.values[0]: row.total for row in report_rows([world.source()], query, now_s=NOW_S)}


def test_it_is_what_a_report_by_account_says(world: BudgetWorld) -> None:
    for month in ("2026-10", "2026-11"):
        assert totals(world, AccountsQuery(month=month)) == reported(world, month)
        for account in (ACCOUNT, CANARY):
            query = AccountsQuery(month=month, accounts=frozenset([account]))
            assert totals(world, query) == reported(world, month, account)
    assert set(reported(world, "2026-11")) == {ACCOUNT, OTHER, "000000000700"}


def test_a_closed_month_is_final_and_an_open_one_as_of_the_biller(world: BudgetWorld) -> None:
    assert (source(world).month(OCTOBER).state, source(world).month(OCTOBER).as_of_s) == ("closed", None)
    counted_s = DayIndexes(objects=world.objects).newest().counted_s
    assert (source(world).month(NOVEMBER).state, source(world).month(NOVEMBER).as_of_s) == ("open", counted_s)


def test_what_came_since_the_biller_is_not_in_it(world: BudgetWorld) -> None:
    before = totals(world, NOVEMBER)
    world.use(1)

    assert totals(world, NOVEMBER) == before != reported(world, "2026-11")


def test_a_closed_month_of_which_nothing_is_kept_is_read_as_it_was_frozen(world: BudgetWorld) -> None:
    kept = list(source(world).month(OCTOBER).sums)
    one = AccountsQuery(month="2026-10", accounts=frozenset([OTHER]), prefix="21")
    world.objects.delete([info.key for info in world.objects.list(RATED_PREFIX)])

    assert list(source(world).month(OCTOBER).sums) == kept
    assert [each.account_id for each in source(world).month(one).sums] == [OTHER]
    with pytest.raises(AccountsNotKeptError, match="not summed yet"):
        source(world).month(NOVEMBER)


def test_a_list_that_is_not_of_the_whole_closed_month_is_not_believed(world: BudgetWorld) -> None:
    indexes = DayIndexes(objects=world.objects)
    index = indexes.newest()
    accounts = {**index.accounts, "2026-10": index.accounts["2026-11"]}
    before = list(source(world).month(OCTOBER).sums)
    assert indexes.put(index.following({}, accounts))

    assert list(source(world).month(OCTOBER).sums) == before


def test_a_damaged_list_of_an_open_month_is_an_error_and_of_a_closed_one_none(world: BudgetWorld) -> None:
    before = list(source(world).month(OCTOBER).sums)
    for kept in DayIndexes(objects=world.objects).newest().accounts.values():
        world.objects.put(kept.key, b"damaged", if_absent=False)

    assert list(source(world).month(OCTOBER).sums) == before
    with pytest.raises(ObjectDamagedError):
        source(world).month(NOVEMBER)


def test_a_month_that_is_not_summed_whole_is_refused_in_words(world: BudgetWorld) -> None:
    indexes = DayIndexes(objects=world.objects)
    index = indexes.newest()
    november = index.accounts["2026-11"]
    short = replace(november, days=frozenset([max(november.days)]))
    assert indexes.put(index.following({}, {"2026-11": short}))
    with pytest.raises(AccountsNotKeptError, match="Of the 2 days of 2026-11 with usage, 1 are summed"):
        source(world).month(NOVEMBER)
    index = indexes.newest()
    assert indexes.put(replace(index, number=index.number + 1, from_s=NOW_S - NOW_S % DAY_S))
    with pytest.raises(AccountsNotKeptError, match="sums usage from 2026-11-24 on") as refused:
        source(world).month(NOVEMBER)
    assert "metering report usage --from 2026-11" in refused.value.advice


def test_a_month_without_usage_has_no_accounts_and_what_is_no_index_is_an_error(world: BudgetWorld) -> None:
    assert totals(world, AccountsQuery(month="2026-09")) == {}
    world.objects.put(rated_index_key(99), b"{}", if_absent=False)
    with pytest.raises(LedgerCorruptError):
        source(world).month(NOVEMBER)


SUMS = [AccountSum(f"{number:012d}", 10 * (number % 3), number, HOUR, HOUR + number) for number in range(1, 8)]


@pytest.mark.parametrize("column", COLUMNS)
@pytest.mark.parametrize("descending", [False, True])
def test_the_first_of_an_order_and_the_sum_of_all(column: str, descending: bool) -> None:
    order = Order(column=column, descending=descending)
    whole = listed(iter(SUMS), order)
    for most in (1, 3, 100):
        cut = listed(iter(SUMS), order, most=most)
        assert list(cut.rows) == list(whole.rows)[:most]
        assert (cut.total, cut.count) == (whole.total, whole.count) == (Moved(70, 28), 7)


def test_accounts_that_are_equal_in_an_order_are_sorted_by_their_ids() -> None:
    for descending in (False, True):
        rows = listed(iter(SUMS), Order(column="bytes", descending=descending)).rows
        assert [int(each.account_id) for each in rows if each.bytes == 10] == [1, 4, 7]


def test_several_regions_are_one_list() -> None:
    away = [each._replace(first_s=HOUR - HOUR_S) for each in SUMS[2:4]]
    merged = list(summed([iter(SUMS), iter(away)]))

    assert [each.account_id for each in merged] == [each.account_id for each in SUMS]
    assert merged[2] == AccountSum("000000000003", 0, 6, HOUR - HOUR_S, HOUR + 3)
    assert merged[4] == SUMS[4]


@pytest.mark.parametrize(("given", "parameter"), [
    ({"month": "2026-13"}, "month"),
    ({"month": "2026-9"}, "month"),
    ({"month": "0000-01"}, "month"),
    ({"month": "2026-12"}, "month"),
    ({"month": "2019-12"}, "month"),
    ({"accounts": ["12"]}, "account"),
    ({"prefix": "12a"}, "prefix"),
    ({"prefix": "1234567890123"}, "prefix"),
    ({"sort": "hour"}, "sort"),
    ({"sort": "bytes:down"}, "sort"),
    ({"top": 0}, "top"),
])  # fmt: skip
def test_a_question_without_sense_is_refused(given: dict[str, object], parameter: str) -> None:
    with pytest.raises(InvalidParametersError) as refused:
        AccountsParameters(**given).query(now_s=NOW_S)  # type: ignore[arg-type]  # fields of it
    assert [each.parameter for each in refused.value.problems] == [parameter]


def test_by_default_it_is_the_month_that_runs_by_id_and_the_first_are_those_with_most_bytes() -> None:
    assert AccountsParameters().query(now_s=NOW_S) == NOVEMBER
    assert AccountsParameters(top=3).query(now_s=NOW_S).order == Order(column="bytes", descending=True)

"""Each lake file is counted once in the sums of its day, whatever dies in between."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest

from metering.billing.day_sums.days import DayReader, SummedMonth
from metering.billing.day_sums.index import DayIndexes
from metering.errors import LedgerCorruptError, ObjectDamagedError
from metering.stores.objects import RATED_PREFIX, SUMMARIES_PREFIX
from metering.units import DAY_S, HOUR_S
from tests.support.budget_world import REGION, BudgetWorld
from tests.support.lake_world import HOUR, NOW_S, record
from tests.unit.billing.day_sums.test_accounts import kept, of_lake

if TYPE_CHECKING:
    from metering.billing.usage.months import UsageLine

DAY = NOW_S - NOW_S % DAY_S
MONTH = "2026-11"


def month_of(world: BudgetWorld) -> SummedMonth:
    index = DayIndexes(objects=world.objects).newest()
    return SummedMonth(region=REGION, month=MONTH, index=index, objects=world.objects, totals=world.make_jobs().totals)


def by_account(lines: list[UsageLine]) -> Counter[tuple[int, str]]:
    sums: Counter[tuple[int, str]] = Counter()
    for line in lines:
        sums[line.hour_s, line.account_id] += line.bytes
    return sums


def test_sums_of_days_and_hours_are_those_of_the_lake() -> None:
    world = BudgetWorld()
    for number in range(3):
        world.send(
            [record(10**number, start_s=NOW_S - number * DAY_S), record(5, account="210987654321", to="eu-west-1")]
        )
        world.compact_all()
        world.keeper().keep(world.deadline())

    month = month_of(world)
    lake = world.visible()
    assert by_account(list(month.day_lines())) == Counter(
        {
            (DAY, "123456789012"): 1,
            (DAY, "210987654321"): 15,
            (DAY - DAY_S, "123456789012"): 10,
            (DAY - 2 * DAY_S, "123456789012"): 100,
        }
    )
    hours = {(line.hour_s, line.account_id, line.usage_type): line.bytes for line in month.hour_lines()}
    assert hours == {(key.hour_s, key.account_id, key.usage_type): total.bytes for key, total in lake.items()}
    assert list(month.accounts()) == ["123456789012", "210987654321"]
    head = month.head(DAY)
    assert head is not None
    [place] = [place for place, kind in enumerate(head.kinds) if kind.usage_type == "DataTransfer-Out-Bytes"]
    assert (head.bytes_of(place), head.hours[place][13]) == (1, 1)


def test_only_the_hours_of_the_day_that_is_asked_for_are_read() -> None:
    world = BudgetWorld()
    world.use(7)
    world.use(8, start_s=NOW_S - DAY_S)
    world.keeper().keep(world.deadline())
    lines = list(month_of(world).hour_lines(frozenset(["123456789012"]), day_s=DAY))

    assert [(line.hour_s, line.bytes) for line in lines] == [(HOUR, 7)]
    assert not list(month_of(world).hour_lines(frozenset(["000000000001"]), day_s=DAY))
    assert not list(month_of(world).hour_lines(day_s=DAY + DAY_S))


def test_a_second_run_reads_nothing_that_the_first_one_counted() -> None:
    world = BudgetWorld()
    world.use(7)
    assert world.keeper().keep(world.deadline()).files == 1
    read: list[str] = []
    world.objects.on_call = read.append

    kept = world.keeper().keep(world.deadline())

    assert (kept.files, kept.behind_s) == (0, 0)
    assert not [call for call in read if "summaries" in call or "lake/" in call or "runs/" in call]


def test_many_files_are_counted_in_turns_and_time_may_end_between_them() -> None:
    world = BudgetWorld()
    for number in range(4):
        world.use(1, start_s=NOW_S - number * HOUR_S)
        world.clock.sleep_ms(60_000)
    short = world.keeper(most_files=1)
    kept = short.keep(world.deadline(1))

    assert kept.files == 1
    assert kept.behind_s >= 60
    assert short.keep(world.deadline(10_000)).files == 3
    assert sum(line.bytes for line in month_of(world).day_lines()) == 4


def test_corrections_and_the_canary_are_in_no_sum() -> None:
    world = BudgetWorld()
    world.send([record(9, account="000000000000")], [record(4)])
    world.compact_all()
    world.keeper().keep(world.deadline())

    assert [line.bytes for line in month_of(world).day_lines()] == [4]


def test_totals_that_are_missing_are_made_from_the_rows() -> None:
    world = BudgetWorld()
    world.use(7)
    world.objects.delete([info.key for info in world.objects.list(SUMMARIES_PREFIX)])
    world.keeper().keep(world.deadline())

    assert [line.bytes for line in month_of(world).day_lines()] == [7]


def test_wherever_it_dies_each_file_is_counted_once() -> None:
    calls, died = 0, True
    while died:
        world = BudgetWorld()
        world.use(7)
        world.keeper().keep(world.deadline())
        world.use(100)
        world.use(1_000, start_s=NOW_S - DAY_S)
        died = world.dies_after(calls, lambda: world.keeper().keep(world.deadline()))  # noqa: B023  # called at once
        world.keeper().keep(world.deadline())

        assert by_account(list(month_of(world).day_lines())) == Counter(
            {(DAY, "123456789012"): 107, (DAY - DAY_S, "123456789012"): 1_000}
        ), f"after call {calls}"
        assert kept(world) == of_lake(world), f"after call {calls}"
        calls += 1
    assert calls > 15


def test_two_at_once_count_each_file_once() -> None:
    world = BudgetWorld()
    world.use(7)
    once: list[str] = []

    def meanwhile(call: str) -> None:
        # The other process runs from its beginning to its end just before this one puts its index.
        if "put" in call and not once:
            once.append(call)
            world.keeper().keep(world.deadline())

    world.objects.on_call = meanwhile
    world.keeper().keep(world.deadline())
    world.objects.on_call = lambda _call: None

    assert once
    assert [line.bytes for line in month_of(world).day_lines()] == [7]


def test_what_was_replaced_is_deleted_and_nothing_else() -> None:
    world = BudgetWorld()
    for size in range(1, 6):
        world.use(size)
        world.keeper().keep(world.deadline())

    keys = [info.key for info in world.objects.list(RATED_PREFIX)]
    assert len([key for key in keys if "/days/" in key]) == 2
    assert len([key for key in keys if "/index/" in key]) == 2
    assert [line.bytes for line in month_of(world).day_lines()] == [15]


def test_what_is_no_day_is_named() -> None:
    with pytest.raises(ObjectDamagedError, match="rated/x"):
        DayReader(b"nothing", "rated/x")


def test_what_is_no_index_is_named() -> None:
    world = BudgetWorld()
    world.objects.put("rated/index/00000001.json", b"{}", if_absent=True)
    with pytest.raises(LedgerCorruptError, match=r"rated/index/00000001\.json"):
        DayIndexes(objects=world.objects).newest()

"""A month's accounts equal the lake exactly, wherever a process is killed; the reconciler reports differences."""

from __future__ import annotations

import gzip
import json
import random
from collections import Counter
from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING

import pytest

from metering.billing.budgets.open_months import read_regions
from metering.billing.day_sums import keeper as keeping
from metering.billing.day_sums.days import (
    AccountsReader,
    AccountSum,
    DayReader,
    SummedMonth,
    account_sum,
    accounts_body,
    accounts_key,
    merged_accounts,
)
from metering.billing.day_sums.index import (
    DayIndex,
    DayIndexes,
    KeptAccounts,
    Reach,
    Uncounted,
    list_unpublished,
    reach_of,
)
from metering.errors import LedgerCorruptError, ObjectDamagedError
from metering.ledger.format_version import RESTORED_FORMAT, ledger_format
from metering.reports.accounts import AccountsNotKeptError, AccountsParameters, AccountsSource
from metering.stores.objects import RATED_PREFIX, SUMMARIES_PREFIX, rated_index_key
from metering.stores.writes import Put, Table
from metering.units import DAY_S, HOUR_S
from metering.usage.totals import ZERO, Total
from metering.wiring.biller import BucketSums
from tests.support.budget_world import REGION, BudgetWorld, restore_ledger
from tests.support.lake_world import ACCOUNT, HOUR, NOW_S, record

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from metering.billing.usage.months import UsageLine
    from tests.support.lake_world import World

MONTH = "2026-11"
CANARY = "000000000000"


def newest(world: BudgetWorld) -> DayIndex:
    return DayIndexes(objects=world.objects).newest()


def kept(world: BudgetWorld, month: str = MONTH) -> list[AccountSum]:
    found = newest(world).accounts_of(month)
    assert found is not None
    return list(AccountsReader(world.objects.get(found.key), found.key).accounts())


def of_lake(world: BudgetWorld) -> list[AccountSum]:
    sums = [
        account_sum(key.account_id, total, key.hour_s, processing=key.usage_type.endswith("NatGateway-Bytes"))
        for key, total in world.visible().items()
    ]
    return list(merged_accounts(sorted(sums)))


def kept_world(*sizes: int) -> BudgetWorld:
    """A region with one record per day, from today backwards; the biller has counted all of them."""
    world = BudgetWorld()
    for days, size in enumerate(sizes):
        world.use(size, start_s=NOW_S - days * DAY_S)
    world.keep()
    return world


def put_instead(world: BudgetWorld, sums: Sequence[AccountSum], hours: dict[int, Total] | None = None) -> None:
    """Simulate a bug in the keeper: store wrong sums, under the key of their content."""
    indexes = DayIndexes(objects=world.objects)
    index = indexes.newest()
    before = index.accounts[MONTH]
    reader = AccountsReader(world.objects.get(before.key), before.key)
    body = accounts_body(MONTH, reader.hours if hours is None else hours, sums)
    key = accounts_key(MONTH, body)
    world.objects.put(key, body, if_absent=False)
    assert indexes.put(index.following({}, {MONTH: KeptAccounts(key=key, days=before.days)}))


def differences(world: BudgetWorld, *, deep: bool = True) -> list[tuple[str, int]]:
    found = world.make_jobs().account_check.differences(from_s=0, to_s=NOW_S + DAY_S, deep=deep)
    return [(each.account_id or "hour", each.found.bytes - each.expected.bytes) for each in found]


def test_they_are_the_sums_of_the_lake_with_the_canary_and_with_late_usage() -> None:
    world, chance = BudgetWorld(), random.Random(15)
    for _ in range(6):
        for _ in range(3):
            account = chance.choice([ACCOUNT, "210987654321", "000000000007", CANARY])
            start_s = NOW_S - chance.randrange(8) * DAY_S - chance.randrange(3) * HOUR_S
            sent = record(chance.randrange(2**40), start_s=start_s, account=account)
            processing = {"usage_type": "USW2-NatGateway-Bytes"} if chance.randrange(3) == 0 else {}
            world.send([{**sent, **processing}])
        world.compact_all()
        world.keep()

        assert kept(world) == of_lake(world)
    assert differences(world) == []


def test_an_index_of_an_earlier_release_is_filled_in_a_few_days_at_a_time() -> None:
    world = BudgetWorld()
    for day in range(5):
        world.use(10**day, start_s=NOW_S - day * DAY_S)
    world.keep()
    _forget_accounts(world)
    world.use(7)

    short = world.keeper(most_files=2)
    short.keep(world.deadline(1))
    assert newest(world).accounts_of(MONTH) is None
    assert 0 < len(newest(world).accounts[MONTH].days) < 5
    short.keep(world.deadline())

    assert kept(world) == of_lake(world)
    assert differences(world) == []


def test_sums_of_days_that_are_gone_keep_nothing_from_being_filled_in() -> None:
    world = kept_world(7, 8)
    _forget_accounts(world)
    world.objects.delete([min(newest(world).days.values())])
    world.keep()

    assert newest(world).accounts_of(MONTH) is None
    assert len(newest(world).accounts[MONTH].days) == 1


def test_accounts_of_an_earlier_release_are_refused_no_difference_and_made_anew() -> None:
    """Earlier releases counted processing as other usage."""
    world = kept_world(7, 8)
    world.send([record(5) | {"usage_type": "TransitGateway-Bytes"}])
    world.compact_all()
    world.keep()
    number = newest(world).number
    document = json.loads(world.objects.get(rated_index_key(number)))
    del document["accounts"][MONTH]["form"]
    world.objects.put(rated_index_key(number), json.dumps(document).encode(), if_absent=False)

    source = AccountsSource(region=REGION, items=world.items, objects=world.objects, frozen=world.jobs.frozen_files)
    query = AccountsParameters(month=MONTH).query(now_s=NOW_S)
    with pytest.raises(AccountsNotKeptError, match="summed by an earlier release, together with processing"):
        source.month(query)
    assert differences(world) == []
    world.keep()
    assert kept(world) == [*source.month(query).sums] == [AccountSum(ACCOUNT, 15, 2, HOUR - DAY_S, HOUR, 5, 1)]


def _forget_accounts(world: BudgetWorld) -> None:
    number = newest(world).number
    document = json.loads(world.objects.get(rated_index_key(number)))
    del document["accounts"]
    world.objects.put(rated_index_key(number), json.dumps(document).encode(), if_absent=False)


def test_whoever_deletes_them_has_them_made_anew_and_until_then_they_are_a_difference() -> None:
    world = kept_world(7, 8)
    before = kept(world)
    assert before == of_lake(world) == [AccountSum(ACCOUNT, 15, 2, HOUR - DAY_S, HOUR)]
    world.objects.delete([newest(world).accounts[MONTH].key])

    assert differences(world) == [("hour", 8), ("hour", 7)]
    world.keep()
    assert kept(world) == before
    assert differences(world) == []


def test_another_content_than_its_name_says_is_damaged() -> None:
    body = accounts_body(MONTH, {}, [AccountSum(ACCOUNT, 1, 1, HOUR, HOUR)])
    other = accounts_body(MONTH, {}, [AccountSum(ACCOUNT, 2, 1, HOUR, HOUR)])
    for wrong in (other, body[:-9], b"nothing", gzip.compress(b"[]\n"), gzip.compress(b"{}")):
        with pytest.raises(ObjectDamagedError, match="rated/2026-11/accounts-"):
            AccountsReader(wrong, accounts_key(MONTH, body))


def test_only_accounts_that_are_asked_for_are_decoded() -> None:
    sums = [AccountSum(f"{number:012d}", number, 1, HOUR, HOUR) for number in range(5_000)]
    body = accounts_body(MONTH, {HOUR: Total(1, 1)}, sums)
    reader = AccountsReader(body, accounts_key(MONTH, body))

    assert list(reader.accounts()) == sums
    assert list(reader.accounts(prefix="00000000001")) == sums[10:20]
    assert list(reader.accounts(frozenset(["000000000042", "000000004999"]))) == [sums[42], sums[4999]]
    assert list(reader.accounts(frozenset(["000000000042"]), prefix="1")) == []


def test_a_wrong_sum_of_an_account_is_found() -> None:
    world = BudgetWorld()
    world.use(7)
    world.use(8, account="210987654321")
    world.keep()
    one, other = kept(world)
    assert differences(world) == []

    put_instead(world, [one._replace(bytes=one.bytes + 1), other])
    assert differences(world, deep=False) == [("all", -1)]
    # One account has too much usage and another too little, so only the rows show the difference.
    put_instead(world, [one._replace(bytes=one.bytes + 1), other._replace(bytes=other.bytes - 1)])
    assert differences(world, deep=False) == []
    assert differences(world) == [(ACCOUNT, -1), ("210987654321", 1)]
    put_instead(world, [one._replace(last_s=HOUR + HOUR_S), other])
    assert differences(world) == [(ACCOUNT, 0)]


def test_a_file_that_is_counted_and_not_in_them_is_found_and_told_of() -> None:
    world = kept_world(7)
    put_instead(world, [], hours={})
    result = world.make_jobs().reconciler.run(from_s=0, to_s=NOW_S + DAY_S)

    assert [(each.between, each.found.bytes) for each in result.derived] == [("accounts/rows", 7)]
    assert not result.different
    [alert] = world.alerts.sent
    assert (alert.severity, alert.fields["between"], alert.fields["found_bytes"]) == ("ticket", "accounts/rows", "7")


def test_what_is_published_and_not_counted_yet_is_no_difference() -> None:
    world = kept_world(7)
    world.use(8)
    world.send([record(9)])

    assert differences(world) == []


# Each lake file is counted once in the sums of its day, wherever a process dies.
DAY = NOW_S - NOW_S % DAY_S


def month_of(world: BudgetWorld) -> SummedMonth:
    totals = world.make_jobs().totals
    return SummedMonth(region=REGION, month=MONTH, index=newest(world), objects=world.objects, totals=totals)


def by_account(lines: Iterable[UsageLine]) -> Counter[tuple[int, str]]:
    sums: Counter[tuple[int, str]] = Counter()
    for line in lines:
        sums[line.hour_s, line.account_id] += line.bytes
    return sums


def test_sums_of_days_and_hours_are_those_of_the_lake() -> None:
    world = BudgetWorld()
    for number in range(3):
        of_day = record(10**number, start_s=NOW_S - number * DAY_S)
        world.send([of_day, record(5, account="210987654321", to="eu-west-1")])
        world.compact_all()
        world.keep()

    month = month_of(world)
    lake = world.visible()
    of_days = {(DAY - number * DAY_S, ACCOUNT): 10**number for number in range(3)}
    assert by_account(month.day_lines()) == {**of_days, (DAY, "210987654321"): 15}
    hours = {(line.hour_s, line.account_id, line.usage_type): line.bytes for line in month.hour_lines()}
    assert hours == {(key.hour_s, key.account_id, key.usage_type): total.bytes for key, total in lake.items()}
    assert list(month.accounts()) == ["123456789012", "210987654321"]
    head = month.head(DAY)
    assert head is not None
    [place] = [place for place, kind in enumerate(head.kinds) if kind.usage_type == "DataTransfer-Out-Bytes"]
    assert (sum(head.hours[place]), head.hours[place][13]) == (1, 1)


def test_only_the_hours_of_the_day_that_is_asked_for_are_read() -> None:
    month = month_of(kept_world(7, 8))
    lines = list(month.hour_lines(frozenset([ACCOUNT]), day_s=DAY))

    assert [(line.hour_s, line.bytes) for line in lines] == [(HOUR, 7)]
    assert not list(month.hour_lines(frozenset(["000000000001"]), day_s=DAY))
    assert not list(month.hour_lines(day_s=DAY + DAY_S))


def test_a_second_run_reads_nothing_that_the_first_one_counted() -> None:
    world = BudgetWorld()
    world.use(7)
    assert world.keep().files == 1
    read: list[str] = []
    world.objects.on_call = read.append

    kept = world.keep()

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


def test_the_canary_is_in_no_sum_and_totals_that_are_missing_are_made_from_the_rows() -> None:
    world = BudgetWorld()
    world.send([record(9, account=CANARY)], [record(4)])
    world.compact_all()
    world.keep()
    assert [line.bytes for line in month_of(world).day_lines()] == [4]
    world.use(7)
    world.objects.delete([info.key for info in world.objects.list(SUMMARIES_PREFIX)])
    world.keep()
    assert [line.bytes for line in month_of(world).day_lines()] == [11]


def test_wherever_it_dies_each_file_is_counted_once() -> None:
    calls, died = 0, True
    while died:
        world = kept_world(7)
        world.use(100)
        world.use(1_000, start_s=NOW_S - DAY_S)
        died = world.dies_after(calls, world.keep)
        world.keep()

        found = by_account(month_of(world).day_lines())
        assert found == {(DAY, ACCOUNT): 107, (DAY - DAY_S, ACCOUNT): 1_000}, f"after call {calls}"
        assert kept(world) == of_lake(world), f"after call {calls}"
        calls += 1
    assert calls > 15


def test_two_at_once_count_each_file_once() -> None:
    world = BudgetWorld()
    world.use(7)
    once: list[str] = []

    def meanwhile(call: str) -> None:
        # Another process runs completely just before this process puts its index.
        if "put" in call and not once:
            once.append(call)
            world.keep()

    world.objects.on_call = meanwhile
    world.keep()
    world.objects.on_call = lambda _call: None

    assert once
    assert [line.bytes for line in month_of(world).day_lines()] == [7]
    assert kept(world) == of_lake(world)


def test_what_was_replaced_is_deleted_and_nothing_else() -> None:
    world = BudgetWorld()
    for size in range(1, 6):
        world.use(size)
        world.keep()

    keys = [info.key for info in world.objects.list(RATED_PREFIX)]
    assert len([key for key in keys if "/days/" in key]) == 2
    assert len([key for key in keys if "/index/" in key]) == 2
    assert len([key for key in keys if "/accounts-" in key]) == 2
    assert [line.bytes for line in month_of(world).day_lines()] == [15]
    assert kept(world) == of_lake(world)


def test_what_is_no_day_or_no_index_is_named() -> None:
    with pytest.raises(ObjectDamagedError, match="rated/x"):
        DayReader(b"nothing", "rated/x")
    world = BudgetWorld()
    world.objects.put("rated/index/00000001.json", b"{}", if_absent=True)
    with pytest.raises(LedgerCorruptError, match=r"rated/index/00000001\.json"):
        DayIndexes(objects=world.objects).newest()


# Accepted usage is either in the sums or reported as uncounted: once, at any progress of roll-up, compactor and biller.
# Bytes of each batch -> seconds from the first batch's acceptance to its own. The numbers have no bits in common.
BATCHES = {1: 0, 2: 60, 4 + 8: 120, 16: 180}


def waiting_world() -> BudgetWorld:
    """Bytes: 1 counted; 2 published but not counted; 4 and 8, of two days, pending; 16 waiting for the roll-up."""
    world = kept_world(1)
    world.clock.advance_s(60)
    world.use(2)
    world.clock.advance_s(60)
    world.send([record(4), record(8, start_s=NOW_S - 3 * DAY_S)])
    world.clock.advance_s(60)
    world.send([record(16)], rolled_up=False)
    return world


def counted(world: BudgetWorld) -> Total:
    if MONTH not in newest(world).accounts:
        return ZERO
    sums = kept(world)
    return Total(sum(each.bytes for each in sums), sum(each.records for each in sums))


def everything_again(world: BudgetWorld) -> None:
    jobs = world.make_jobs()
    jobs.rollup.run(world.deadline(10_000), only_waiting=True)
    jobs.compactor_of(jobs.policy.everything()).run(world.deadline(10_000))
    world.keep()


def test_published_pending_and_waiting_bytes_are_told_as_not_counted() -> None:
    assert waiting_world().keeper().reach() == Reach(through_s=NOW_S, left=Uncounted(total=Total(2 + 4 + 8 + 16, 4)))


def check(world: BudgetWorld) -> Reach:
    """Check that counted and missing bytes are all accepted ones, and batches before the reported time are counted."""
    reach, have = world.keeper().reach(), counted(world)
    assert reach.left is not None
    told = have.plus(reach.left.total)
    assert told == Total(31, 5) if not reach.left.at_least else told.bytes <= 31
    for size, after_s in BATCHES.items():
        assert have.bytes & size == size or NOW_S + after_s >= reach.through_s
    return reach


def test_counted_and_not_counted_are_all_that_was_accepted_at_every_step() -> None:
    for calls in count():
        world = waiting_world()
        died = world.dies_after(calls, lambda world=world: everything_again(world))  # type: ignore[misc]  # of this turn
        check(world)
        # The biller runs while a run of the compactor may be half done.
        world.keep()
        reach = check(world)
        if not died:
            break
    assert calls > 20
    assert (counted(world), reach) == (Total(31, 5), Reach(through_s=NOW_S + 180, left=Uncounted()))


def test_the_index_says_how_far_it_goes_and_what_it_lacked() -> None:
    world = waiting_world()
    world.keep()
    index = newest(world)
    assert index.reach == Reach(through_s=NOW_S + 120, left=Uncounted(total=Total(4 + 8 + 16, 3)))
    assert DayIndex.from_json(index.to_json(), "key") == index


def test_a_commit_is_listed_once_while_it_moves_from_one_list_to_the_next() -> None:
    for calls in count():
        world = waiting_world()
        died = world.dies_after(calls, lambda world=world: world.make_jobs().rollup.run(world.deadline()))  # type: ignore[misc]  # of this turn
        assert list_unpublished(world.items, world.settings.shards).total == Total(4 + 8 + 16, 3)
        if not died:
            break


def test_beyond_what_a_question_lists_it_says_at_least(monkeypatch: pytest.MonkeyPatch) -> None:
    world = waiting_world()
    monkeypatch.setattr(keeping, "MOST_LISTED", 1)
    left = world.keeper().reach().left
    assert left is not None
    assert left.at_least
    assert left.total.bytes < 30


def test_a_question_lists_no_more_than_it_says_however_many_commits_are_pending(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(keeping, "MOST_LISTED", 4)
    made = []
    for batches in (5, 30):
        world = kept_world(1)
        for _ in range(batches):
            world.send([record(1)])
        # In memory, a list makes a separate call for each entry.
        calls: list[str] = []
        world.items.on_call = world.objects.on_call = calls.append
        world.keeper().reach()
        made.append(len(calls))
    assert made[0] == made[1] < 20


def test_several_regions_go_as_far_as_the_one_that_goes_least_far() -> None:
    one = Reach(through_s=7, left=Uncounted(total=Total(1, 1)))
    other = Reach(through_s=5, left=Uncounted(total=Total(2, 1), at_least=True))
    assert reach_of([one, other]) == Reach(through_s=5, left=Uncounted(total=Total(3, 2), at_least=True))
    assert reach_of([one, Reach(through_s=9)]) == Reach(through_s=7)
    assert reach_of([]) == Reach(through_s=0, left=Uncounted())


# After a restore of the ledger, sums of the lost time count no more (P41).


def test_sums_of_before_a_restore_are_refused_and_then_made_anew() -> None:
    world = kept_world(5, 7)
    before, since_ms = list(world.items.everything(Table.LEDGER)), world.clock.now_ms()
    world.use(11)
    world.keep()
    restore_ledger(world, before, since_ms=since_ms)

    source = AccountsSource(region=REGION, items=world.items, objects=world.objects, frozen=world.jobs.frozen_files)
    query = AccountsParameters(month=MONTH).query(now_s=NOW_S)
    with pytest.raises(AccountsNotKeptError, match="summed before its ledger was restored"):
        source.month(query)
    world.keep()
    assert kept(world) == of_lake(world)
    assert sum(each.bytes for each in kept(world)) == 23
    assert list(source.month(query).sums) == kept(world)
    world.use(11)
    world.keep()
    assert kept(world) == of_lake(world)
    assert sum(each.bytes for each in kept(world)) == 34
    assert differences(world) == []


def next_generation(world: World) -> None:
    """State in the ledger that a restore made it."""
    found = ledger_format(world.items)
    assert found is not None
    restored = replace(found, number=RESTORED_FORMAT, generation=found.generation + 1)
    world.items.put(Put(table=Table.LEDGER, item=restored.to_item()))


def test_sums_of_another_generation_of_the_ledger_are_refused_until_they_are_made_anew() -> None:
    world = kept_world(5, 7)
    before = newest(world)
    assert b"ledger_generation" not in world.objects.get(rated_index_key(before.number))
    source = AccountsSource(region=REGION, items=world.items, objects=world.objects, frozen=world.jobs.frozen_files)
    query = AccountsParameters(month=MONTH).query(now_s=NOW_S)
    sums = [BucketSums(REGION, lambda: world.objects, lambda: world.items)]
    assert len(read_regions(sums)[0]) == 1
    # Another region's ledger cannot be read by a function.
    elsewhere = [BucketSums(REGION, lambda: world.objects)]

    next_generation(world)
    with pytest.raises(AccountsNotKeptError, match="summed before its ledger was restored"):
        source.month(query)
    assert read_regions(sums) == ([], [REGION])
    assert len(read_regions(elsewhere)[0]) == 1
    assert world.keeper().reach() == world.keeper().reach(DayIndex())
    assert world.jobs.account_check.differences(from_s=0, to_s=NOW_S + DAY_S, deep=True) == []

    assert world.keep().files == 2
    assert newest(world).ledger_generation == 2
    assert newest(world).days == before.days
    assert list(source.month(query).sums) == kept(world)
    assert len(read_regions(sums)[0]) == 1
    assert world.keep().files == 0


def test_a_restored_region_without_sums_is_read_as_a_new_one_is() -> None:
    world = BudgetWorld()
    next_generation(world)
    assert len(read_regions([BucketSums(REGION, lambda: world.objects, lambda: world.items)])[0]) == 1


def test_an_index_of_an_earlier_release_goes_with_the_ledger_that_is_there() -> None:
    world = kept_world(5, 7)
    index = newest(world)
    key = rated_index_key(index.number)
    world.objects.upload(key, replace(index, generation=0).to_json().replace(b',"generation":0', b""))
    assert newest(world).generation == 0
    assert world.keep().files == 0
    assert newest(world).days == index.days
    assert newest(world).generation == 2

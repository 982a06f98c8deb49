"""The accounts of a month are those of the lake, to the byte, whatever dies in between; the reconciler says if not."""

from __future__ import annotations

import gzip
import json
import random
from typing import TYPE_CHECKING

import pytest

from metering.billing.day_sums.accounts import AccountsReader, AccountSum, accounts_body, accounts_key, merged
from metering.billing.day_sums.index import DayIndexes, KeptAccounts
from metering.errors import ObjectDamagedError
from metering.stores.objects import RATED_PREFIX, rated_index_key
from metering.units import DAY_S, HOUR_S
from metering.usage.totals import Total
from tests.support.budget_world import BudgetWorld
from tests.support.lake_world import ACCOUNT, HOUR, NOW_S, record

if TYPE_CHECKING:
    from collections.abc import Sequence

MONTH, OCTOBER = "2026-11", "2026-10"
CANARY = "000000000000"


def kept(world: BudgetWorld, month: str = MONTH) -> list[AccountSum]:
    found = DayIndexes(objects=world.objects).newest().accounts_of(month)
    assert found is not None
    return list(AccountsReader(world.objects.get(found.key), found.key).accounts())


def of_lake(world: BudgetWorld) -> list[AccountSum]:
    sums = [
        AccountSum(key.account_id, total.bytes, total.records, key.hour_s, key.hour_s)
        for key, total in world.visible().items()
    ]
    return list(merged(sorted(sums)))


def put_instead(world: BudgetWorld, sums: Sequence[AccountSum], hours: dict[int, Total] | None = None) -> None:
    """What a fault in the keeper might leave: other sums, under their own name."""
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
            world.send([record(chance.randrange(2**40), start_s=start_s, account=account)])
        world.compact_all()
        world.keeper().keep(world.deadline())

        assert kept(world) == of_lake(world)
    assert differences(world) == []


def test_one_account_has_its_first_and_last_hour() -> None:
    world = BudgetWorld()
    world.use(7)
    world.use(8, start_s=NOW_S - DAY_S)
    world.keeper().keep(world.deadline())

    assert kept(world) == [AccountSum(ACCOUNT, 15, 2, HOUR - DAY_S, HOUR)]


def test_two_at_once_count_each_file_once() -> None:
    world = BudgetWorld()
    world.use(7)
    once: list[str] = []

    def meanwhile(call: str) -> None:
        if "put" in call and not once:
            once.append(call)
            world.keeper().keep(world.deadline())

    world.objects.on_call = meanwhile
    world.keeper().keep(world.deadline())
    world.objects.on_call = lambda _call: None

    assert once
    assert kept(world) == of_lake(world)


def test_an_index_of_an_earlier_release_is_filled_in_a_few_days_at_a_time() -> None:
    world = BudgetWorld()
    for day in range(5):
        world.use(10**day, start_s=NOW_S - day * DAY_S)
    world.keeper().keep(world.deadline())
    _forget_accounts(world)
    world.use(7)

    short = world.keeper(most_files=2)
    short.keep(world.deadline(1))
    index = DayIndexes(objects=world.objects).newest()
    assert index.accounts_of(MONTH) is None
    assert 0 < len(index.accounts[MONTH].days) < 5
    short.keep(world.deadline())

    assert kept(world) == of_lake(world)
    assert differences(world) == []


def test_sums_of_days_that_are_gone_keep_nothing_from_being_filled_in() -> None:
    world = BudgetWorld()
    world.use(7)
    world.use(8, start_s=NOW_S - DAY_S)
    world.keeper().keep(world.deadline())
    _forget_accounts(world)
    first, _ = sorted(DayIndexes(objects=world.objects).newest().days.values())
    world.objects.delete([first])
    world.keeper().keep(world.deadline())

    index = DayIndexes(objects=world.objects).newest()
    assert index.accounts_of(MONTH) is None
    assert len(index.accounts[MONTH].days) == 1


def _forget_accounts(world: BudgetWorld) -> None:
    number = DayIndexes(objects=world.objects).newest().number
    document = json.loads(world.objects.get(rated_index_key(number)))
    del document["accounts"]
    world.objects.put(rated_index_key(number), json.dumps(document).encode(), if_absent=False)


def test_whoever_deletes_them_has_them_made_anew() -> None:
    world = BudgetWorld()
    world.use(7)
    world.use(8, start_s=NOW_S - DAY_S)
    world.keeper().keep(world.deadline())
    before = kept(world)
    world.objects.delete([DayIndexes(objects=world.objects).newest().accounts[MONTH].key])
    world.keeper().keep(world.deadline())

    assert kept(world) == before == of_lake(world)


def test_of_each_month_only_one_version_stays_beside_the_one_before() -> None:
    world = BudgetWorld()
    for size in range(1, 6):
        world.use(size)
        world.keeper().keep(world.deadline())

    keys = [info.key for info in world.objects.list(RATED_PREFIX) if "/accounts-" in info.key]
    assert len(keys) == 2
    assert kept(world) == of_lake(world)


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
    world.keeper().keep(world.deadline())
    one, other = kept(world)
    assert differences(world) == []

    put_instead(world, [one._replace(bytes=one.bytes + 1), other])
    assert differences(world, deep=False) == [("all", -1)]
    # What one account has too much, another lacks: only the rows tell.
    put_instead(world, [one._replace(bytes=one.bytes + 1), other._replace(bytes=other.bytes - 1)])
    assert differences(world, deep=False) == []
    assert differences(world) == [(ACCOUNT, -1), ("210987654321", 1)]
    put_instead(world, [one._replace(last_s=HOUR + HOUR_S), other])
    assert differences(world) == [(ACCOUNT, 0)]


def test_a_file_that_is_counted_and_not_in_them_is_found_and_told_of() -> None:
    world = BudgetWorld()
    world.use(7)
    world.keeper().keep(world.deadline())
    put_instead(world, [], hours={})
    jobs = world.make_jobs()
    result = jobs.reconciler.run(from_s=0, to_s=NOW_S + DAY_S)

    assert [(each.between, each.found.bytes) for each in result.derived] == [("accounts/rows", 7)]
    assert not result.different
    [alert] = world.alerts.sent
    assert (alert.severity, alert.fields["between"], alert.fields["found_bytes"]) == ("ticket", "accounts/rows", "7")


def test_what_is_published_and_not_counted_yet_is_no_difference() -> None:
    world = BudgetWorld()
    world.use(7)
    world.keeper().keep(world.deadline())
    world.use(8)
    world.send([record(9)])

    assert differences(world) == []


def test_accounts_that_are_gone_are_a_difference_until_they_are_made_anew() -> None:
    world = BudgetWorld()
    world.use(7)
    world.keeper().keep(world.deadline())
    world.objects.delete([DayIndexes(objects=world.objects).newest().accounts[MONTH].key])

    assert differences(world) == [("hour", 7)]
    world.keeper().keep(world.deadline())
    assert differences(world) == []

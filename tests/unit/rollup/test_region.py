"""The region's totals equal the accounts', whichever release booked a run and wherever a process died (P51, P52)."""

from contextlib import suppress
from itertools import count

import pytest

from metering.hours import month_of
from metering.ledger.notes.checks import CANARY_ACCOUNT_ID
from metering.ledger.runs import run_key
from metering.ledger.usage.kinds import KindNames, all_accounts
from metering.ledger.usage.region import (
    ANY,
    NEVER,
    as_booked,
    begin_region,
    complete_since_s,
    region_start,
    region_sums,
)
from metering.rollup.as_of_now import RegionIncompleteError
from metering.stores.writes import Table
from metering.units import HOUR_S
from metering.usage.totals import REGION, Total, UsageKey, add_totals
from tests.support.earlier import earlier
from tests.support.usage_items import region_of
from tests.unit.rollup.small_region import ACCOUNT, NOW_S, AtCall, KilledError, SmallRegion, die, row

OTHER = "210987654321"


def booked(region: SmallRegion) -> dict[UsageKey, Total]:
    return {entry.key: entry.total for entry in region_of(region.items)}


def expected(region: SmallRegion) -> dict[UsageKey, Total]:
    numbers = {kind: number for number, kind in KindNames(region.items).of(REGION).items()}
    return as_booked(region_sums(region.committed.items()), numbers)


def read_now(region: SmallRegion, *, shards: int = 1) -> dict[UsageKey, Total]:
    months = sorted({month_of(key.hour_s) for key in region.committed})
    return region.now(shards=shards).usage([REGION], months)


def by_hour(totals: dict[UsageKey, Total]) -> dict[int, Total]:
    hours: dict[int, Total] = {}
    for key, total in totals.items():
        add_totals(hours, {key.hour_s: total})
    return hours


def send(region: SmallRegion, number: int, *, shard: int = 0) -> None:
    rows = [row(number + 1), row(10, account=OTHER), row(7, hour_s=NOW_S - HOUR_S, usage_type="DataTransfer-In-Bytes")]
    region.commit(f"c{number}", rows, shard=shard)


def test_the_region_has_the_sum_of_all_accounts_without_the_canary() -> None:
    region = SmallRegion()
    region.commit("c1", [row(1), row(2, account=OTHER), row(4, account=CANARY_ACCOUNT_ID)])
    region.rollup().run(region.deadline())
    [total] = booked(region).values()
    assert total == Total(3, 2)
    assert list(all_accounts(region.items)) == [ACCOUNT, OTHER]
    assert complete_since_s(region.items, 1) == 0
    assert read_now(region) == booked(region) == expected(region)


def test_kinds_beyond_the_cap_count_under_their_usage_type_or_together() -> None:
    region = SmallRegion()
    rows = [row(2**number, usage_type=f"Type-{number}") for number in range(5)]
    region.commit("c1", rows)
    region.rollup(region_cap=4).run(region.deadline())
    found = {(key.usage_type, key.to_location): total.bytes for key, total in booked(region).items()}
    # Four numbers: of all kinds together, and of the first kinds with their substitutes.
    assert found == {("Type-0", "internet"): 1, ("Type-1", ANY): 2, (ANY, ANY): 4 + 8 + 16}
    assert booked(region) == expected(region)


def test_a_full_dictionary_books_a_kind_under_the_same_name_for_ever() -> None:
    region = SmallRegion()
    for number in range(3):
        region.commit(f"c{number}", [row(1, usage_type=f"Type-{each}") for each in range(number, 4)])
        region.rollup(region_cap=3).run(region.deadline())
        assert booked(region) == expected(region)


@pytest.mark.parametrize("runs", [1, 3])
def test_runs_of_an_earlier_release_are_added_before_the_next_one(runs: int) -> None:
    region = SmallRegion()
    send(region, 0)
    region.rollup().run(region.deadline())
    for number in range(1, runs + 1):
        send(region, number)
        earlier(region.rollup()).run(region.deadline())
    assert complete_since_s(region.items, 1) == NEVER
    with pytest.raises(RegionIncompleteError):
        read_now(region)
    # The directory lacks the accounts of these runs, too.
    with pytest.raises(RegionIncompleteError):
        region.now().usage(None, sorted({month_of(key.hour_s) for key in region.committed}))
    send(region, runs + 1)
    region.rollup().run(region.deadline())
    assert booked(region) == expected(region) == read_now(region)
    assert complete_since_s(region.items, 1) == 0


def test_they_are_added_although_nothing_waits() -> None:
    region = SmallRegion()
    region.rollup().run(region.deadline())
    region.commit("c1", [row(1, account=OTHER)])
    earlier(region.rollup()).run(region.deadline())
    region.rollup().run(region.deadline())
    assert booked(region) == expected(region)
    assert list(all_accounts(region.items)) == [OTHER]


def test_a_stage_that_was_in_use_has_no_totals_before_they_are_filled() -> None:
    region = SmallRegion()
    send(region, 0)
    earlier(region.rollup()).run(region.deadline())
    region.rollup().run(region.deadline())
    start = region_start(region.items)
    assert start is not None
    assert start.since_s == NEVER
    with pytest.raises(RegionIncompleteError):
        read_now(region)
    assert not booked(region)
    send(region, 1)
    region.rollup().run(region.deadline())
    assert booked(region)
    start.begin_earlier(region.items, 0)
    assert complete_since_s(region.items, 1) == 0


def test_a_run_that_was_planned_when_the_totals_began_is_added() -> None:
    for number in count():
        region = SmallRegion()
        send(region, 0)
        with AtCall(region, number, die) as at, suppress(KilledError):
            earlier(region.rollup()).run(region.deadline())
        begun = begin_region(region.items, 1)
        earlier(region.rollup()).run(region.deadline())
        region.rollup().run(region.deadline())
        # Either nothing was booked before the totals began, or the hours of then are left out.
        assert booked(region) == expected(region) or begun.since_s > NOW_S
        if not at.done:
            break


@pytest.mark.parametrize("first_is_earlier", [False, True])
def test_a_process_that_dies_at_any_call_leaves_what_the_other_release_and_the_next_run_complete(
    first_is_earlier: bool,
) -> None:
    for number in count():
        region = SmallRegion()
        send(region, 0)
        region.rollup().run(region.deadline())
        send(region, 1)
        first, second = region.rollup(), region.rollup()
        with AtCall(region, number, die) as at, suppress(KilledError):
            (earlier(first) if first_is_earlier else first).run(region.deadline())
        (second if first_is_earlier else earlier(second)).run(region.deadline())
        send(region, 2)
        # As of now is right, or says that the totals lack something.
        with suppress(RegionIncompleteError):
            assert by_hour(read_now(region)) == by_hour(expected(region))
        region.rollup().run(region.deadline())
        assert booked(region) == expected(region) == read_now(region)
        if not at.done:
            break


def test_a_run_that_an_earlier_release_planned_begins_after_the_runs_before_it_were_added() -> None:
    for number in count():
        region = SmallRegion()
        region.rollup().run(region.deadline())
        send(region, 0)
        send(region, 1)
        with AtCall(region, number, die) as at, suppress(KilledError):
            earlier(region.rollup(commits=1)).run(region.deadline())
        region.rollup(commits=1).run(region.deadline())
        assert booked(region) == expected(region)
        if not at.done:
            break


def test_a_run_that_is_gone_lets_the_totals_begin_anew() -> None:
    region = SmallRegion()
    region.rollup().run(region.deadline())
    for number in range(2):
        send(region, number)
        earlier(region.rollup()).run(region.deadline())
    region.items.remove(Table.LEDGER, run_key("U0", 1))
    send(region, 2)
    region.rollup().run(region.deadline())
    start = region_start(region.items)
    assert start is not None
    assert start.since_s > NOW_S


def test_a_plan_that_is_gone_lets_the_totals_begin_anew_and_says_so() -> None:
    region = SmallRegion()
    send(region, 0)
    region.rollup().run(region.deadline())
    send(region, 1)
    earlier(region.rollup()).run(region.deadline())
    region.objects.delete([key for key in region.objects.keys("runs/U0/") if "/000000000002" in key])
    send(region, 2)
    region.rollup().run(region.deadline())
    start = region_start(region.items)
    assert start is not None
    assert start.since_s > NOW_S
    [alert] = region.alerts.sent
    assert alert.severity == "ticket"
    assert alert.fields["cure"] == "metering rebuild usage"
    with pytest.raises(RegionIncompleteError):
        read_now(region)


def test_a_start_that_was_replaced_is_not_replaced_by_a_late_process() -> None:
    region = SmallRegion()
    region.rollup().run(region.deadline())
    first = region_start(region.items)
    assert first is not None
    send(region, 0)
    region.rollup().run(region.deadline())
    begun = begin_region(region.items, 1, instead_of=first)
    assert begun.since_s == NEVER
    begun.begin_earlier(region.items, NOW_S)
    again = begin_region(region.items, 1, instead_of=first)
    assert (again.since_s, again.runs) == (NOW_S, begun.runs)


def test_the_region_as_of_now_is_exact_wherever_two_shards_stopped() -> None:
    for number in count():
        region = SmallRegion()
        for shard in (0, 1):
            send(region, shard, shard=shard)
        with AtCall(region, number, die) as at, suppress(KilledError):
            region.rollup(shards=2).run(region.deadline())
        send(region, 2, shard=1)
        # Before the first run of a shard the start may not be there.
        if region_start(region.items) is not None:
            assert by_hour(read_now(region, shards=2)) == by_hour(expected(region))
        if not at.done:
            break


def test_a_plan_of_an_earlier_release_is_not_read_as_of_now() -> None:
    for number in count():
        region = SmallRegion()
        region.rollup().run(region.deadline())
        # A kind that is new, so that no process of this release has claimed its number.
        region.commit(f"c{number}", [row(1, usage_type=f"Type-{number}")])
        with AtCall(region, number, die) as at, suppress(KilledError):
            earlier(region.rollup()).run(region.deadline())
        with suppress(RegionIncompleteError):
            assert read_now(region) == region_sums(region.committed.items())
        region.rollup().run(region.deadline())
        assert booked(region) == expected(region)
        if not at.done:
            break


def test_an_account_is_listed_only_when_it_is_put_for_sure() -> None:
    region = SmallRegion()
    numbers = region.rollup().numbers
    for number in count():
        with AtCall(region, number, die) as at:
            try:
                numbers.enlist({ACCOUNT, OTHER})
            except KilledError:
                continue
        if not at.done:
            break
    assert list(all_accounts(region.items)) == [ACCOUNT, OTHER]

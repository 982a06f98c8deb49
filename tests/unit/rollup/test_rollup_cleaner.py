"""Leftovers of roll-up runs that ended long ago are deleted."""

from contextlib import suppress
from itertools import count

import pytest

from metering.errors import GenerationError, LedgerCorruptError, UnavailableError
from metering.ledger.commits import waiting_in, waiting_key
from metering.ledger.notes.lake import Cleaning, cleanings
from metering.ledger.runs import Run, newest_first, newest_run, run_key
from metering.ledger.usage.kinds import partition_of_kinds
from metering.rollup import cleaner
from metering.rollup.cleaner import RollupCleaner
from metering.stores.clock import Retrier
from metering.stores.writes import Key, Put, Table, Update, Value
from metering.units import DAY_S, HOUR_S
from tests.unit.rollup.small_region import ACCOUNT, AtCall, KilledError, SmallRegion, die, row

_LIFE_S = 50 * DAY_S


def _cleaner(region: SmallRegion) -> RollupCleaner:
    retrier = Retrier(clock=region.clock, entropy=region.entropy, attempts=4)
    return RollupCleaner(
        items=region.items, objects=region.objects, clock=region.clock, retrier=retrier, shards=1, run_life_s=_LIFE_S
    )


def _run(region: SmallRegion, number: int) -> None:
    region.commit(f"c{number}", [row(number)])
    region.rollup().run(region.deadline())


def _plans(region: SmallRegion) -> list[str]:
    return [info.key for info in region.objects.list("runs/")]


@pytest.fixture
def region() -> SmallRegion:
    return SmallRegion()


def test_plans_of_runs_that_are_over_for_a_day_go_also_those_that_no_run_names(region: SmallRegion) -> None:
    for number in range(1, 4):
        _run(region, number)
    lost_race = "runs/U0/000000000002-lost.json"
    region.objects.put(lost_race, b"{}", if_absent=True)
    region.clock.sleep_ms(DAY_S * 1000)
    _run(region, 4)
    # The number of the plan is still free, and the process that put the plan may still announce it.
    not_taken = "runs/U0/000000000005-early.json"
    region.objects.put(not_taken, b"{}", if_absent=True)
    cleaned = _cleaner(region).run(region.deadline())
    assert (cleaned.plans, cleaned.runs) == (4, 3)
    kept = _plans(region)
    assert [key.partition("-")[0] for key in kept] == ["runs/U0/000000000004", "runs/U0/000000000005"]
    assert not_taken in kept
    again = _cleaner(region).run(region.deadline())
    assert (again.plans, again.runs) == (0, 0)


def test_all_run_items_but_the_newest_expire(region: SmallRegion) -> None:
    for number in range(1, 4):
        _run(region, number)
    region.clock.sleep_ms(DAY_S * 1000)
    now_s = region.clock.now_ms() // 1000
    assert _cleaner(region).run(region.deadline()).plans == 2
    runs = list(newest_first(region.items, "U0"))
    assert [(run.number, run.expires_at_s) for run in runs] == [(3, None), (2, now_s + _LIFE_S), (1, now_s + _LIFE_S)]
    # Once there is a newer run, the plan expires like the other plans.
    _run(region, 4)
    assert _cleaner(region).run(region.deadline()).plans == 1
    assert [run.expires_at_s is None for run in newest_first(region.items, "U0")] == [True, False, False, False]


def test_a_run_that_ended_lately_keeps_its_plan(region: SmallRegion) -> None:
    _run(region, 1)
    region.clock.sleep_ms(23 * HOUR_S * 1000)
    _run(region, 2)
    assert _cleaner(region).run(region.deadline()).plans == 0
    assert len(_plans(region)) == 2


def test_a_run_that_ended_by_a_clock_that_is_days_ahead_does_not_keep_its_plan_and_all_later_ones() -> None:
    region = SmallRegion()
    region.clock.advance_s(30 * DAY_S)
    _run(region, 1)
    region.clock.advance_s(-30 * DAY_S)
    _run(region, 2)
    region.clock.sleep_ms(DAY_S * 1000)
    _run(region, 3)
    _cleaner(region).run(region.deadline())
    assert len(_plans(region)) == 1, "plans are left until the clock is as far"


def test_a_clock_that_is_ahead_makes_no_plan_go_before_its_time(region: SmallRegion) -> None:
    region.clock.advance_s(30 * DAY_S)
    _run(region, 1)
    region.clock.advance_s(-30 * DAY_S)
    _run(region, 2)
    _run(region, 3)
    _cleaner(region).run(region.deadline())
    assert len(_plans(region)) == 3, "nobody knows that run 1 ended a day ago"
    region.clock.sleep_ms(2 * DAY_S * 1000)
    _cleaner(region).run(region.deadline())
    assert len(_plans(region)) == 1, "it ended before run 2"


def test_a_planned_run_below_a_run_that_a_restore_put_on_top_stops_no_deletion(region: SmallRegion) -> None:
    planned = Run(chain="U0", number=1, state="planned", plan_key="runs/U0/000000000001-old.json", planned_at_ms=1_000)
    lifted = Run(chain="U0", number=1_000, state="done", plan_key="", planned_at_ms=1_000, done_at_ms=1_000)
    for run in (planned, lifted):
        region.items.put(Put(table=Table.LEDGER, item=run.to_item()))
    region.objects.put(planned.plan_key, b"{}", if_absent=True)
    region.clock.sleep_ms(DAY_S * 1000)
    assert _cleaner(region).run(region.deadline()).plans == 1
    assert _plans(region) == []


def test_a_planned_run_keeps_its_plan_however_old_it_is(region: SmallRegion) -> None:
    _run(region, 1)
    region.objects.put("runs/U0/000000000002-ours.json", b"{}", if_absent=True)
    planned = Run(chain="U0", number=2, state="planned", plan_key="runs/U0/000000000002-ours.json", planned_at_ms=1_000)
    region.items.put(Put(table=Table.LEDGER, item=planned.to_item()))
    region.clock.sleep_ms(5 * DAY_S * 1000)
    assert _cleaner(region).run(region.deadline()).plans == 1
    assert _plans(region) == [planned.plan_key]
    assert newest_run(region.items, "U0") == planned


def test_a_process_without_time_leaves_it_to_the_next(region: SmallRegion) -> None:
    _run(region, 1)
    _run(region, 2)
    region.clock.sleep_ms(2 * DAY_S * 1000)
    assert _cleaner(region).run(region.deadline(time_s=5)).plans == 0
    assert _cleaner(region).run(region.deadline()).plans == 1


def test_a_cleaner_writes_down_since_when_the_oldest_run_that_it_left_was_due(monkeypatch: pytest.MonkeyPatch) -> None:
    region = SmallRegion()
    for number in range(1, 5):
        _run(region, number)
        region.clock.sleep_ms(HOUR_S * 1000)
    region.clock.sleep_ms(2 * DAY_S * 1000)
    now_ms = region.clock.now_ms()
    second = next(run for run in newest_first(region.items, "U0") if run.number == 2)
    assert _cleaner(region).run(region.deadline(time_s=5)).plans == 0
    assert cleanings(region.items) == {}
    monkeypatch.setattr(cleaner, "_MOST_RUNS", 2)
    due_ms = (second.done_at_ms or 0) + DAY_S * 1000
    for runs, left_ms in ((2, due_ms), (1, None), (0, None)):
        assert _cleaner(region).run(region.deadline()).runs == runs
        assert cleanings(region.items) == {"U0": Cleaning(chain="U0", looked_s=now_ms // 1000, due_ms=left_ms)}


def test_a_process_that_dies_between_items_and_plans_leaves_both_to_the_next() -> None:
    for number in range(8):
        region = SmallRegion()
        for each in range(1, 4):
            _run(region, each)
        region.clock.sleep_ms(2 * DAY_S * 1000)
        with AtCall(region, number, die), suppress(KilledError):
            _cleaner(region).run(region.deadline())
        _cleaner(region).run(region.deadline())
        assert [run.expires_at_s is None for run in newest_first(region.items, "U0")] == [True, False, False]
        assert len(_plans(region)) == 1


# A contradiction of the protocol stops the chain and pages somebody; no step is skipped, and other work continues.


def _planned(region: SmallRegion) -> Run:
    """Leave a roll-up run that is planned, and of which no work is done."""
    for number in count():
        run = newest_run(region.items, "U0")
        if run is not None and run.state == "planned":
            return run
        with AtCall(region, number, die), suppress(KilledError):
            region.rollup().run(region.deadline())
    raise AssertionError


def _stops(region: SmallRegion, match: str, shards: int = 1) -> None:
    with pytest.raises(LedgerCorruptError, match=match):
        region.rollup(shards=shards).run(region.deadline())
    assert [(alert.severity, alert.subject) for alert in region.alerts.sent] == [("page", "Roll-up stopped")]


def test_a_staging_object_that_is_gone_stops_the_chain_and_no_other(region: SmallRegion) -> None:
    waiting = region.commit("c1", [row(1)])
    region.commit("c2", [row(2)], shard=1)
    region.objects.delete([waiting.staging_key])
    _stops(region, r"commit c1 waits, and its staging object .* is gone", shards=2)
    assert newest_run(region.items, "U0") is None
    assert [item["sk"] for item in waiting_in(region.items, 0)] == ["c1"]
    assert list(waiting_in(region.items, 1)) == []
    assert [total.bytes for total in region.usage().values()] == [2]


def test_a_staging_object_whose_commit_does_not_wait_any_more_is_no_contradiction(region: SmallRegion) -> None:
    waiting = region.commit("c1", [row(1)])

    def rolled_up_and_cleaned() -> None:
        region.rollup().run(region.deadline())
        region.objects.delete([waiting.staging_key])

    for number in count():
        region = SmallRegion()
        waiting = region.commit("c1", [row(1)])
        with AtCall(region, number, rolled_up_and_cleaned) as at:
            region.rollup().run(region.deadline())
        assert region.usage() == region.committed
        assert region.alerts.sent == []
        if not at.done:
            break


def test_rows_that_are_not_those_of_their_entry_stop_the_chain(region: SmallRegion) -> None:
    region.commit("c1", [row(1)])
    totals: Value = {"2026-11-26T00": [1, 2]}
    entry = Update(table=Table.LEDGER, key=waiting_key(0, "c1"), set={"totals": totals})
    region.items.update(entry)
    _stops(region, "does not hold the rows of its entry")


def test_an_entry_that_cannot_be_read_waits_on_and_all_others_are_booked(region: SmallRegion) -> None:
    region.commit("c1", [row(1)])
    region.commit("c2", [row(2)])
    region.items.update(Update(table=Table.LEDGER, key=waiting_key(0, "c1"), remove=("staging",)))
    with pytest.raises(LedgerCorruptError, match=r"U#0 / c1: staging is missing"):
        region.rollup().run(region.deadline())
    assert [item["sk"] for item in waiting_in(region.items, 0)] == ["c1"]
    assert [total.bytes for total in region.usage().values()] == [2]


def test_a_plan_that_is_gone_stops_the_chain(region: SmallRegion) -> None:
    region.commit("c1", [row(1)])
    region.objects.delete([_planned(region).plan_key])
    _stops(region, "is planned, and its plan .* is gone")


def test_an_item_with_a_later_run_than_the_newest_stops_the_chain(region: SmallRegion) -> None:
    region.commit("c1", [row(1)])
    region.rollup().run(region.deadline())
    region.commit("c2", [row(2)])
    [item] = region.usage_items()
    region.items.update(Update(table=Table.USAGE, key=Key(str(item["pk"]), str(item["sk"])), set={"n0": 7}))
    _stops(region, "has n0 = 7")
    run = newest_run(region.items, "U0")
    assert run is not None
    assert run.state == "planned"


def test_a_dictionary_that_lost_a_number_of_the_plan_stops_the_chain(region: SmallRegion) -> None:
    region.commit("c1", [row(1)])
    _planned(region)
    for item in list(region.items.everything(Table.LEDGER)):
        if item["pk"] == partition_of_kinds(ACCOUNT):
            region.items.remove(Table.LEDGER, Key(str(item["pk"]), str(item["sk"])))
    _stops(region, "has no number of DataTransfer-Out-Bytes#AmazonEC2")
    assert region.usage() == {}


def test_a_ledger_that_was_restored_to_before_a_run_adds_nothing_to_the_usage_table(region: SmallRegion) -> None:
    for number in (1, 2):
        region.commit(f"c{number}", [row(number)])
        region.rollup().run(region.deadline())
    region.items.remove(Table.LEDGER, run_key("U0", 2))
    region.commit("c3", [row(4)])
    with pytest.raises(GenerationError, match="restored"):
        region.rollup().run(region.deadline())
    assert [total.bytes for total in region.usage().values()] == [3]
    assert [alert.severity for alert in region.alerts.sent] == ["page"]


def test_the_usage_table_of_another_generation_gets_nothing(region: SmallRegion) -> None:
    region.items.put(Put(table=Table.USAGE, item={"pk": "S#generation", "sk": "S", "number": 1}))
    region.commit("c1", [row(1)])
    with pytest.raises(GenerationError):
        region.rollup().run(region.deadline())
    assert region.usage_items() == []


def test_a_store_that_gives_no_answer_ends_the_process_and_the_next_goes_on(region: SmallRegion) -> None:
    region.commit("c1", [row(1)])

    def unavailable(call: str) -> None:
        if call == "items.update":
            raise UnavailableError(call, "test")

    region.items.on_call = unavailable
    with pytest.raises(UnavailableError):
        region.rollup().run(region.deadline())
    region.items.on_call = lambda _: None
    region.clock.sleep_ms(DAY_S * 1000)
    assert region.rollup().run(region.deadline()).finished
    assert region.usage() == region.committed


def test_a_long_list_is_read_in_parts_and_no_commit_is_passed_over_for_ever(region: SmallRegion) -> None:
    # 10 entries are read for each commit that a run is allowed to take.
    for number in range(60):
        region.commit(f"{number:02d}", [row(1, account=f"{number:012d}")])
    result = region.rollup(commits=2).run(region.deadline())
    assert (result.commits, result.finished) == (60, True)
    assert region.usage() == region.committed

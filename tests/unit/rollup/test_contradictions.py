"""What contradicts the protocol stops the chain and pages; nothing is skipped, and nothing else is held up."""

from __future__ import annotations

from contextlib import suppress
from itertools import count

import pytest

from metering.errors import GenerationError, LedgerCorruptError, UnavailableError
from metering.ledger.commits import waiting_in, waiting_key
from metering.ledger.runs import Run, newest_run, run_key
from metering.ledger.usage.kinds import partition_of_kinds
from metering.stores.writes import Key, Put, Table, Update, Value
from metering.units import DAY_S
from tests.unit.rollup.interruptions import AtCall, KilledError, die
from tests.unit.rollup.small_region import ACCOUNT, SmallRegion, row


def _planned(region: SmallRegion) -> Run:
    """Leave the region with a planned run, of which nothing is done yet."""
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


def test_a_staging_object_that_is_gone_stops_the_chain_and_no_other() -> None:
    region = SmallRegion()
    waiting = region.commit("c1", [row(1)])
    region.commit("c2", [row(2)], shard=1)
    region.objects.delete([waiting.staging_key])
    _stops(region, r"commit c1 waits, and its staging object .* is gone", shards=2)
    assert newest_run(region.items, "U0") is None
    assert [item["sk"] for item in waiting_in(region.items, 0)] == ["c1"]
    assert list(waiting_in(region.items, 1)) == []
    assert [total.bytes for total in region.usage().values()] == [2]


def test_a_staging_object_whose_commit_does_not_wait_any_more_is_no_contradiction() -> None:
    region = SmallRegion()
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


def test_rows_that_are_not_those_of_their_entry_stop_the_chain() -> None:
    region = SmallRegion()
    region.commit("c1", [row(1)])
    totals: Value = {"2026-11-26T00": [1, 2]}
    entry = Update(table=Table.LEDGER, key=waiting_key(0, "c1"), set={"totals": totals})
    region.items.update(entry)
    _stops(region, "does not hold the rows of its entry")


def test_an_entry_that_cannot_be_read_waits_on_and_all_others_are_booked() -> None:
    region = SmallRegion()
    region.commit("c1", [row(1)])
    region.commit("c2", [row(2)])
    region.items.update(Update(table=Table.LEDGER, key=waiting_key(0, "c1"), remove=("staging",)))
    with pytest.raises(LedgerCorruptError, match=r"U#0 / c1: staging is missing"):
        region.rollup().run(region.deadline())
    assert [item["sk"] for item in waiting_in(region.items, 0)] == ["c1"]
    assert [total.bytes for total in region.usage().values()] == [2]


def test_a_plan_that_is_gone_stops_the_chain() -> None:
    region = SmallRegion()
    region.commit("c1", [row(1)])
    region.objects.delete([_planned(region).plan_key])
    _stops(region, "is planned, and its plan .* is gone")


def test_an_item_with_a_later_run_than_the_newest_stops_the_chain() -> None:
    region = SmallRegion()
    region.commit("c1", [row(1)])
    region.rollup().run(region.deadline())
    region.commit("c2", [row(2)])
    [item] = region.usage_items()
    region.items.update(Update(table=Table.USAGE, key=Key(str(item["pk"]), str(item["sk"])), set={"n0": 7}))
    _stops(region, "has n0 = 7")
    run = newest_run(region.items, "U0")
    assert run is not None
    assert run.state == "planned"


def test_a_dictionary_that_lost_a_number_of_the_plan_stops_the_chain() -> None:
    region = SmallRegion()
    region.commit("c1", [row(1)])
    _planned(region)
    for item in list(region.items.everything(Table.LEDGER)):
        if item["pk"] == partition_of_kinds(ACCOUNT):
            region.items.remove(Table.LEDGER, Key(str(item["pk"]), str(item["sk"])))
    _stops(region, "has no number of DataTransfer-Out-Bytes#AmazonEC2")
    assert region.usage() == {}


def test_a_ledger_that_was_restored_to_before_a_run_adds_nothing_to_the_usage_table() -> None:
    region = SmallRegion()
    for number in (1, 2):
        region.commit(f"c{number}", [row(number)])
        region.rollup().run(region.deadline())
    region.items.remove(Table.LEDGER, run_key("U0", 2))
    region.commit("c3", [row(4)])
    with pytest.raises(GenerationError, match="restored"):
        region.rollup().run(region.deadline())
    assert [total.bytes for total in region.usage().values()] == [3]
    assert [alert.severity for alert in region.alerts.sent] == ["page"]


def test_the_usage_table_of_another_generation_gets_nothing() -> None:
    region = SmallRegion()
    region.items.put(Put(table=Table.USAGE, item={"pk": "S#generation", "sk": "S", "number": 1}))
    region.commit("c1", [row(1)])
    with pytest.raises(GenerationError):
        region.rollup().run(region.deadline())
    assert region.usage_items() == []


def test_a_store_that_gives_no_answer_ends_the_process_and_the_next_goes_on() -> None:
    region = SmallRegion()
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


def test_a_long_list_is_read_in_parts_and_no_commit_is_passed_over_for_ever() -> None:
    region = SmallRegion()
    # 10 entries are read for each commit that a run may take.
    for number in range(60):
        region.commit(f"{number:02d}", [row(1, account=f"{number:012d}")])
    result = region.rollup(commits=2).run(region.deadline())
    assert (result.commits, result.finished) == (60, True)
    assert region.usage() == region.committed

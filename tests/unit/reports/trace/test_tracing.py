"""A number of a report is traced to the batches that it is the sum of, and three sums say the same."""

from __future__ import annotations

from itertools import count

import pytest

from metering.errors import OperationFailedError
from metering.hours import rfc3339
from metering.ledger.booked_hours import totals_value
from metering.ledger.markers import Marker, marker_key
from metering.reports.query import LINE_FILTERS, TraceParameters, UsageQuery
from metering.reports.trace import Trace, Tracer, Vouching
from metering.stores.writes import Put, Table
from metering.units import DAY_S, HOUR_S
from metering.usage.totals import Total
from tests.support.lake_world import ACCOUNT, HOUR, NOW_S, World, record
from tests.support.usage_items import change, usage_of
from tests.unit.billing.test_months import AFTER_S, FIRST_S, MONTH, world_with_october

OTHER = "210987654321"
OUT = "DataTransfer-Out-Bytes"


def line(*, now_s: int = NOW_S, **texts: str) -> UsageQuery:
    filters = {name: texts.pop(name) for name in LINE_FILTERS if name in texts}
    return TraceParameters(**{"account": ACCOUNT, **texts}, filters=filters).query(now_s=now_s)


def traced(world: World, query: UsageQuery, *, now_s: int = NOW_S, most: int = 1_000) -> Trace:
    tracer = Tracer(source=world.source(), marker_life_s=world.settings.marker_life_s, most=most)
    return tracer.trace(query, now_s=now_s)


def world_with_traffic() -> World:
    """Four batches of two accounts in two hours; some are compacted, and some are in staging."""
    world = World()
    world.send([record(5), record(7, account=OTHER)], [record(11, start_s=NOW_S - HOUR_S)])
    world.compact_all()
    world.send([record(13), record(2**62, account=OTHER), record(17, to="eu-west-1")], [record(19, account=OTHER)])
    return world


def test_every_line_of_an_account_is_traced_to_exactly_the_batches_that_were_sent() -> None:
    world = world_with_traffic()
    trace = traced(world, line())
    assert trace.equal
    assert trace.usage == trace.rows == trace.markers == Total(5 + 11 + 13 + 17, 4)
    assert [(each.batch_id, each.total) for each in trace.batches] == [
        ("batch-0", Total(5, 1)), ("batch-1", Total(11, 1)), ("batch-2", Total(30, 2)),
    ]  # fmt: skip
    assert {each.vouching for each in trace.batches} == {Vouching.AGREES}
    assert [(hour.hour_s, hour.usage) for hour in trace.hours] == [(HOUR - HOUR_S, Total(11, 1)), (HOUR, Total(35, 3))]


def test_filters_and_an_hour_choose_one_line_and_markers_of_the_batch_still_vouch_for_it() -> None:
    world = world_with_traffic()
    trace = traced(world, line(usage_type=OUT, hour=rfc3339(HOUR)))
    assert trace.usage == trace.rows == trace.markers == Total(5 + 13, 2)
    assert [each.batch_id for each in trace.batches] == ["batch-0", "batch-2"]
    assert traced(world, line(service="AmazonS3")).batches == ()
    abroad = traced(world, line(to_location="eu-west-1"))
    assert abroad.usage == abroad.rows == abroad.markers == Total(17, 1)
    assert traced(world, line(from_location="eu-west-1")).hours == ()


def test_files_name_the_objects_that_hold_rows_of_the_line_and_no_others() -> None:
    world = world_with_traffic()
    world.send([record(23, account=OTHER)])
    [hour] = traced(world, line(hour=rfc3339(HOUR))).hours
    assert [(file.staged, file.total) for file in hour.files] == [(False, Total(5, 1)), (True, Total(30, 2))]
    assert hour.files[0].key.startswith("lake/dt=2026-11-24/hour=13/")


def test_one_byte_added_by_hand_is_seen_and_both_figures_are_told() -> None:
    world = world_with_traffic()
    entry = next(each for each in usage_of(world.items) if each.key.account_id == ACCOUNT and each.key.hour_s == HOUR)
    change(world.items, entry, 1)
    trace = traced(world, line())
    assert not trace.equal
    assert (trace.usage.bytes, trace.rows.bytes) == (47, 46)
    [different] = [hour for hour in trace.hours if hour.differences]
    [(values, (usage, rows))] = different.differences.items()
    assert values[0] == entry.key.usage_type
    assert usage == rows.plus(Total(1, 0))
    assert trace.unsettled == ()


def test_two_errors_that_cancel_out_in_the_sum_are_seen() -> None:
    world = world_with_traffic()
    entries = [each for each in usage_of(world.items) if each.key.account_id == ACCOUNT]
    change(world.items, entries[0], 1)
    change(world.items, entries[-1], -1)
    trace = traced(world, line())
    assert trace.usage == trace.rows
    assert not trace.equal


def test_a_marker_with_another_total_is_seen_though_report_and_rows_agree() -> None:
    world = world_with_traffic()
    item = world.items.get(Table.LEDGER, marker_key("batch-2"))
    assert item is not None
    hours = Marker.from_item(item).hours
    wrong = {hour_s: total.plus(Total(1, 0)) for hour_s, total in hours.items()}
    world.items.put(Put(table=Table.LEDGER, item={**item, "hours": totals_value(wrong)}))
    trace = traced(world, line())
    assert not trace.equal
    assert (trace.usage, trace.rows, trace.markers) == (Total(46, 4), Total(46, 4), Total(47, 4))
    assert {each.batch_id for each in trace.batches if each.vouching is Vouching.DIFFERS} == {"batch-2"}


def test_a_marker_that_is_missing_counts_as_nothing() -> None:
    world = world_with_traffic()
    world.items.remove(Table.LEDGER, marker_key("batch-1"))
    trace = traced(world, line())
    assert not trace.equal
    assert trace.markers == Total(46 - 11, 3)
    assert [each.batch_id for each in trace.batches if each.vouching is Vouching.MISSING] == ["batch-1"]


def test_a_marker_that_can_have_expired_is_told_as_expired_and_the_rows_remain() -> None:
    world = world_with_traffic()
    for number in range(3):
        world.items.remove(Table.LEDGER, marker_key(f"batch-{number}"))
    life_s = world.settings.marker_life_s
    last_s = HOUR - HOUR_S + life_s
    range_ = {"start": "2026-11-24", "end": "2026-11-25"}
    trace = traced(world, line(now_s=last_s, **range_), now_s=last_s)
    assert trace.equal
    assert trace.markers is None
    assert {each.vouching for each in trace.batches} == {Vouching.EXPIRED}
    assert trace.usage == trace.rows == Total(46, 4)
    # One second earlier the marker of the later hour cannot have expired yet.
    trace = traced(world, line(now_s=last_s - 1, **range_), now_s=last_s - 1)
    assert not trace.equal


@pytest.mark.parametrize("later", ["copy", "content"])
def test_what_comes_under_an_id_after_its_marker_has_expired_says_nothing_of_the_old_rows(later: str) -> None:
    world = world_with_traffic()
    item = world.items.get(Table.LEDGER, marker_key("batch-1"))
    assert item is not None
    of_later: dict[str, object] = {"verdict": "rejected", "reason": "too_late"}
    if later == "content":
        of_later = {"hours": totals_value({HOUR + 60 * DAY_S: Total(11, 1)})}
    world.items.put(Put(table=Table.LEDGER, item={**item, "hours": totals_value({}), **of_later}))  # type: ignore[dict-item]  # plain values
    expired_s = HOUR - 2 * HOUR_S + world.settings.marker_life_s
    range_ = {"start": "2026-11-24", "end": "2026-11-25"}
    for now_s, vouching in ((expired_s, Vouching.EXPIRED), (expired_s - 1, Vouching.DIFFERS)):
        trace = traced(world, line(now_s=now_s, **range_), now_s=now_s)
        [batch] = [each for each in trace.batches if each.batch_id == "batch-1"]
        assert batch.vouching is vouching
        assert trace.equal is (vouching is Vouching.EXPIRED)


def test_a_marker_lives_as_long_as_that_of_the_newest_hour_of_its_batch() -> None:
    world = World()
    world.send([record(5), record(7, start_s=NOW_S - 2 * HOUR_S)])
    world.items.remove(Table.LEDGER, marker_key("batch-0"))
    now_s = HOUR - 3 * HOUR_S + world.settings.marker_life_s
    trace = traced(world, line(now_s=now_s, start="2026-11-24", end="2026-11-25"), now_s=now_s)
    assert [each.vouching for each in trace.batches] == [Vouching.MISSING]


def test_a_closed_month_is_traced_by_its_frozen_totals_and_files() -> None:
    world = world_with_october()
    world.jobs.closer.close(MONTH, world.deadline())
    world.send([record(17, start_s=FIRST_S + 5)])
    for entry in usage_of(world.items, MONTH):
        change(world.items, entry, 1_000)
    now_s = AFTER_S + 4 * DAY_S
    trace = traced(world, line(start=MONTH, now_s=now_s), now_s=now_s)
    assert trace.equal
    assert trace.usage == trace.rows == trace.markers == Total(5 + 7 + 2**62 + 11, 4)
    assert [each.batch_id for each in trace.batches] == ["batch-0", "batch-1", "batch-2"]
    # What came late is on a line of November, under its correction.
    november = traced(world, line(start="2026-11", now_s=now_s), now_s=now_s)
    assert november.equal
    assert [each.batch_id for each in november.batches] == ["batch-2", "batch-3"]


def test_an_hour_of_a_closed_month_is_read_alone() -> None:
    world = world_with_october()
    world.jobs.closer.close(MONTH, world.deadline())
    now_s = AFTER_S + 4 * DAY_S
    read: list[str] = []
    world.objects.on_call = read.append
    trace = traced(world, line(hour=rfc3339(FIRST_S), now_s=now_s), now_s=now_s)
    world.objects.on_call = lambda _call: None
    assert trace.usage == trace.rows == Total(7 + 2**62, 2)
    files = {file.key for hour in trace.hours for file in hour.files}
    assert all("hour=00" in key for key in files)


def test_what_is_accepted_between_two_readings_is_read_again() -> None:
    world = world_with_traffic()
    sent: list[str] = []

    def deliver(_call: str) -> None:
        # The usage table was read, and the rows are about to be: another batch of the line is accepted.
        if len(sent) < 3:
            world.objects.on_call = lambda _call: None
            sent.extend(world.send([record(100)]))
            world.objects.on_call = deliver

    world.objects.on_call = deliver
    trace = traced(world, line(hour=rfc3339(HOUR)))
    assert len(sent) == 3
    assert trace.equal
    assert trace.usage == trace.rows == Total(35 + 300, 6)


def test_more_batches_than_a_trace_may_have_are_refused_and_never_cut() -> None:
    world = world_with_traffic()
    assert len(traced(world, line(), most=3).batches) == 3
    with pytest.raises(OperationFailedError, match="more than 2 batches"):
        traced(world, line(), most=2)


def test_a_line_is_equal_before_its_usage_is_rolled_up_and_at_every_step_of_the_roll_up() -> None:
    for calls in count():
        world = world_with_traffic()
        world.send([record(100), record(200, to="eu-west-1")], rolled_up=False)
        died = world.dies_after(calls, world.roll_up)
        trace = traced(world, line())
        assert trace.equal
        assert trace.usage == Total(5 + 11 + 13 + 17 + 300, 6)
        if not died:
            break
    assert calls > 5


def test_an_hour_that_never_stands_still_is_told_as_unsettled() -> None:
    world = world_with_traffic()

    def deliver(_call: str) -> None:
        world.objects.on_call = lambda _call: None
        world.send([record(100)], rolled_up=False)
        world.objects.on_call = deliver

    tracer = Tracer(source=world.source(), marker_life_s=world.settings.marker_life_s, attempts=3)
    world.objects.on_call = deliver
    trace = tracer.trace(line(hour=rfc3339(HOUR)), now_s=NOW_S)
    world.objects.on_call = lambda _call: None
    assert not trace.equal
    assert trace.unsettled == (HOUR,)
    assert traced(world, line(hour=rfc3339(HOUR))).equal

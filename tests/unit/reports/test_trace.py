"""A line of a report is traced to its batches; three sums agree, or the answer names the differences."""

from __future__ import annotations

from collections import defaultdict
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest

from metering.errors import OperationFailedError
from metering.hours import rfc3339
from metering.ledger.booked_hours import totals_value
from metering.ledger.markers import Marker, marker_key
from metering.reports.query import LINE_FILTERS, TraceParameters, UsageQuery
from metering.reports.time_range import InvalidParametersError
from metering.reports.trace import Trace, Tracer, Vouching, of_page, trace_answer
from metering.stores.writes import Put, Table
from metering.units import DAY_S, HOUR_S
from metering.usage.totals import Total, add_totals
from tests.support.lake_world import ACCOUNT, HOUR, NOW_S, World, load_batches, record
from tests.support.usage_items import change, usage_of
from tests.unit.billing.test_months import AFTER_S, FIRST_S, MONTH, world_with_october

if TYPE_CHECKING:
    from collections.abc import Mapping

    from metering.reports.answer import Answer


OTHER = "210987654321"
OUT = "DataTransfer-Out-Bytes"
DAY = {"start": "2026-11-24", "end": "2026-11-25"}


def line(*, now_s: int = NOW_S, **texts: str) -> UsageQuery:
    filters = {name: texts.pop(name) for name in LINE_FILTERS if name in texts}
    return TraceParameters(**{"account": ACCOUNT, **texts}, filters=filters).query(now_s=now_s)


def traced(world: World, query: UsageQuery, *, now_s: int = NOW_S, most: int = 1_000) -> Trace:
    life_s = world.settings.marker_life_s
    return Tracer(source=world.source(), marker_life_s=life_s, most=most).trace(query, now_s=now_s)


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
    trace = traced(world, line(now_s=last_s, **DAY), now_s=last_s)
    assert trace.equal
    assert trace.markers is None
    assert {each.vouching for each in trace.batches} == {Vouching.EXPIRED}
    assert trace.usage == trace.rows == Total(46, 4)
    # One second earlier, the marker of the later hour cannot have expired yet.
    assert not traced(world, line(now_s=last_s - 1, **DAY), now_s=last_s - 1).equal


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
    for now_s, vouching in ((expired_s, Vouching.EXPIRED), (expired_s - 1, Vouching.DIFFERS)):
        trace = traced(world, line(now_s=now_s, **DAY), now_s=now_s)
        [batch] = [each for each in trace.batches if each.batch_id == "batch-1"]
        assert batch.vouching is vouching
        assert trace.equal is (vouching is Vouching.EXPIRED)


def test_a_marker_lives_as_long_as_that_of_the_newest_hour_of_its_batch() -> None:
    world = World()
    world.send([record(5), record(7, start_s=NOW_S - 2 * HOUR_S)])
    world.items.remove(Table.LEDGER, marker_key("batch-0"))
    now_s = HOUR - 3 * HOUR_S + world.settings.marker_life_s
    trace = traced(world, line(now_s=now_s, **DAY), now_s=now_s)
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
    # Late usage is on a line of November that is marked as a correction.
    november = traced(world, line(start="2026-11", now_s=now_s), now_s=now_s)
    assert november.equal
    assert [each.batch_id for each in november.batches] == ["batch-2", "batch-3"]


def test_an_hour_of_a_closed_month_is_read_alone() -> None:
    world = world_with_october()
    world.jobs.closer.close(MONTH, world.deadline())
    now_s = AFTER_S + 4 * DAY_S
    trace = traced(world, line(hour=rfc3339(FIRST_S), now_s=now_s), now_s=now_s)
    assert trace.usage == trace.rows == Total(7 + 2**62, 2)
    files = {file.key for hour in trace.hours for file in hour.files}
    assert all("hour=00" in key for key in files)


def test_what_is_accepted_between_two_readings_is_read_again() -> None:
    world = world_with_traffic()
    sent: list[str] = []

    def deliver(_call: str) -> None:
        # The usage table has been read; before the rows are read, another batch of the line is accepted.
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
    assert (trace.equal, trace.unsettled) == (False, (HOUR,))
    assert traced(world, line(hour=rfc3339(HOUR))).equal


def problems(**texts: str) -> list[tuple[str, str]]:
    filters = {name: texts.pop(name) for name in LINE_FILTERS if name in texts}
    with pytest.raises(InvalidParametersError) as raised:
        TraceParameters(**texts, filters=filters).query(now_s=NOW_S)
    return [(each.parameter, each.problem) for each in raised.value.problems]


def test_an_hour_is_one_hour_and_nothing_more_and_without_a_range_the_line_is_of_this_month() -> None:
    query = TraceParameters(account=ACCOUNT, hour="2026-11-24T14:00:00+01:00").query(now_s=NOW_S)
    assert (query.from_s, query.to_s, set(query.accounts)) == (HOUR, HOUR + HOUR_S, {ACCOUNT})
    query = TraceParameters(account=ACCOUNT, filters={"usage_type": "NAT", "service": "AmazonEC2"}).query(now_s=NOW_S)
    assert query.to_s == HOUR + HOUR_S
    assert (set(query.usage_types), set(query.services)) == ({"NAT"}, {"AmazonEC2"})


def test_no_account_and_several_accounts_are_refused() -> None:
    assert problems() == [("account", "names no account.")]
    assert ("account", "names several accounts.") in problems(account=f"{ACCOUNT},210987654321")


_YEARS = "lies outside the years that a report can be about."


@pytest.mark.parametrize(("hour", "problem"), [
    ("2026-11-24", "is not an hour with its time zone."),
    ("soon", "is not an hour."), ("", "is not an hour."),
    ("2026-11-24T13:30:00Z", "is not on the hour."), ("2026-11-24T13:00:00.5Z", "is not on the hour."),
    ("0001-01-01T00:00:00+05:00", _YEARS), ("9999-12-31T23:00:00-05:00", _YEARS),
    ("2026-12-24T13:00:00Z", "lies in the future: nothing is booked there yet."),
])  # fmt: skip
def test_what_is_no_hour_is_refused_under_its_own_name(hour: str, problem: str) -> None:
    assert problems(account=ACCOUNT, hour=hour) == [("hour", problem)]


def test_an_hour_beside_a_range_is_refused_with_all_other_problems() -> None:
    found = problems(hour="2026-11-24T13:00:00Z", start="2026-11-25", end="2026-11", service="not a service")
    assert [parameter for parameter, _ in found] == ["account", "hour", "service", "from"]


_ACCOUNTS = 2


def test_every_line_of_a_replayed_account_comes_down_to_what_was_sent() -> None:
    world, sent = World(), defaultdict[str, dict[str, Total]](dict)
    batches = list(load_batches(3_000))
    half = len(batches) // 2
    ids = world.send(*batches[:half])
    world.compact_all()
    ids += world.send(*batches[half:])
    for batch_id, records in zip(ids, batches, strict=True):
        for each in records:
            add_totals(sent[str(each["account_id"])], {batch_id: Total(int(each["bytes"]), 1)})
    for account in sorted(sent, key=lambda name: -len(sent[name]))[:_ACCOUNTS]:
        found = _batches_of_lines(world, account)
        assert found == sent[account]
        whole = traced(world, line(account=account), most=10_000)
        assert {batch.batch_id: batch.total for batch in whole.batches} == sent[account]


def _batches_of_lines(world: World, account: str) -> Mapping[str, Total]:
    """Check the trace of each report line of an account; return the totals by batch."""
    found: dict[str, Total] = {}
    keys = {(each.key.usage_type, each.key.service, each.key.from_location, each.key.to_location)
            for each in usage_of(world.items) if each.key.account_id == account}  # fmt: skip
    assert keys
    for usage_type, service, from_location, to_location in sorted(keys):
        query = line(account=account, usage_type=usage_type, service=service, from_location=from_location,
                     to_location=to_location)  # fmt: skip
        trace = traced(world, query, most=10_000)
        assert trace.equal
        assert trace.usage == trace.rows == trace.markers
        for batch in trace.batches:
            add_totals(found, {batch.batch_id: batch.total})
    return found


def answer(world: World, *, with_files: bool = True, everywhere: bool = False) -> Answer:
    query = line()
    return trace_answer(
        query, [traced(world, query)], as_of_s=NOW_S, periods={"2026-11": "open"},
        with_files=with_files, everywhere=everywhere,
    )  # fmt: skip


def document(answer: Answer) -> dict[str, Any]:
    assert answer.document is not None
    return dict(answer.document)


def test_the_document_has_the_line_its_hours_its_batches_and_three_sums() -> None:
    found = document(answer(world_with_traffic()))
    assert found["line"] == {
        "account_id": ACCOUNT, "from": "2026-11-01T00:00:00Z", "to": "2026-11-24T14:00:00Z", "bytes": "46",
        "records": 4,
    }  # fmt: skip
    assert found["sums"] == {"usage": "46", "rows": "46", "markers": "46"}
    assert found["sums_records"] == {"usage": 4, "rows": 4, "markers": 4}
    assert (found["equal"], found["next"]) == (True, None)
    assert [each["batch_id"] for each in found["batches"]] == ["batch-0", "batch-1", "batch-2"]
    hours = [(each["hour"], each["bytes"], each["rows_bytes"]) for each in found["hours"]]
    assert hours == [("2026-11-24T12:00:00Z", "11", "11"), (rfc3339(HOUR), "35", "35")]


def test_a_page_has_some_of_the_batches_and_the_sums_of_the_whole_line() -> None:
    whole = answer(world_with_traffic())
    page = of_page(whole, whole.rows[1:2], "more")
    assert [each["batch_id"] for each in document(page)["batches"]] == ["batch-1"]
    assert [row["batch_id"] for row in page.rows] == ["batch-1"]
    assert document(page)["next"] == "more"
    assert document(page)["sums"] == document(whole)["sums"]


def test_without_files_no_key_of_an_object_is_told() -> None:
    world = world_with_traffic()
    assert "lake/" in str(answer(world).document)
    assert not any(word in str(answer(world, with_files=False)) for word in ("lake/", "staging/", "files="))


def test_of_several_regions_each_row_names_its_own() -> None:
    found = answer(world_with_traffic(), everywhere=True)
    assert [row["region"] for row in found.rows] == ["us-east-1"] * 3
    assert document(found)["regions"] == ["us-east-1"]
    assert document(found)["batches"][0]["region"] == "us-east-1"


def test_what_differs_is_told_in_words_with_all_figures_and_the_command_that_looks_deeper() -> None:
    world = world_with_traffic()
    change(world.items, next(each for each in usage_of(world.items) if each.key.account_id == ACCOUNT), 2**70)
    found = answer(world)
    text = "\n".join(found.footer)
    assert all(said in text for said in ("NOT equal", f"{2**70 + 46:,} bytes", "46 bytes"))
    assert "metering reconcile --deep" in found.footer[-1]
    assert document(found)["sums"]["usage"] == str(2**70 + 46)
    [difference] = document(found)["differences"]
    assert int(difference["usage_bytes"]) - int(difference["rows_bytes"]) == 2**70

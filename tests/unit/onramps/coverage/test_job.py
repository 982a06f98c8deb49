"""Coverage: a slot without a file becomes a gap after 30 minutes, and every plan is summed once."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import pytest

from metering.errors import UnavailableError
from metering.ledger.notes.log_sources import LogRuling, LogRulingKind, LogSums, sum_log_sums
from metering.onramps.coverage import looking
from metering.onramps.coverage.job import LOOKS, find_sources
from metering.onramps.coverage.looking import SLOT_S, sums_between
from metering.onramps.ingest.taking import places_prefix
from metering.onramps.plans import PLACES_PREFIX
from metering.stores.writes import Put, Table
from metering.units import DAY_S, HOUR_S, MINUTE_S
from tests.unit.onramps.coverage.world import HOUR, LOG, Setup, listed, plan

NEWEST = HOUR - 15 * MINUTE_S
OTHER = "fl-0ffffffffffffffff"


def summed(setup: Setup, log: str = LOG, kind: str = "vpc-flow") -> LogSums:
    parts = sums_between(setup.items, kind, log, from_s=0, to_s=HOUR + 40 * DAY_S)
    return sum_log_sums(kind, log, "", parts)


def ruled(setup: Setup, ruling: LogRulingKind, *, at_s: int, first_s: int = 0, last_s: int = 0) -> None:
    made = LogRuling(
        kind="vpc-flow", source=LOG, ruling=ruling, at_s=at_s, by="me", expires_at=at_s + DAY_S, first_s=first_s,
        last_s=last_s,
    )  # fmt: skip
    setup.items.put(Put(table=Table.LEDGER, item=made.to_item()))


def test_a_flow_log_with_a_file_for_each_slot_has_no_gap_and_is_complete_up_to_its_newest_file() -> None:
    setup = Setup()
    setup.put_slots(HOUR - 6 * HOUR_S, HOUR - 10 * MINUTE_S)
    figures = setup.run(HOUR)
    state = setup.state()
    assert (state.first_s, state.newest_s, state.missing) == (HOUR - 6 * HOUR_S, NEWEST, ())
    # The newest file has flows that ended before 12:50; flows that began 10 minutes earlier may be in other files.
    assert state.through_s == NEWEST + SLOT_S - 10 * MINUTE_S
    assert (figures.missing_slots, figures.holding, figures.held_s) == (0, 0, state.through_s)


@pytest.mark.parametrize(("age_s", "is_gap"), [(29 * MINUTE_S, False), (30 * MINUTE_S, True)])
def test_a_missing_slot_is_a_gap_once_it_is_30_minutes_old(age_s: int, is_gap: bool) -> None:
    setup = Setup()
    missing_s = HOUR - 3 * HOUR_S
    setup.put_slots(missing_s - HOUR_S, missing_s + 25 * MINUTE_S)
    setup.drop(missing_s)
    setup.run(missing_s + age_s)
    assert setup.state().missing == (((missing_s, missing_s),) if is_gap else ())


def test_a_gap_is_named_and_holds_back_to_the_slot_before_it_and_is_gone_once_the_file_is_ingested() -> None:
    setup = Setup()
    gap_s = HOUR - 2 * HOUR_S
    setup.put_slots(HOUR - 6 * HOUR_S, HOUR - 10 * MINUTE_S)
    setup.drop(gap_s)
    figures = setup.run(HOUR)
    assert setup.state().missing == ((gap_s, gap_s),)
    assert (figures.missing_slots, figures.first, figures.holding) == (1, LOG, 1)
    assert figures.held_s == gap_s - 10 * MINUTE_S
    assert figures.place == "s3://acme-logs/AWSLogs/123456789012/vpcflowlogs/us-west-2/"
    setup.put(plan(gap_s))
    # The file is found within the hour, although each look covers only newer slots.
    setup.run(HOUR + HOUR_S - 1)
    figures = setup.run(HOUR + HOUR_S)
    assert gap_s not in [first_s for first_s, _ in setup.state().missing]
    assert summed(setup).plans == len(setup.plans)


def test_a_plan_that_disappears_from_the_listing_is_named_by_a_whole_look() -> None:
    setup = Setup()
    setup.put_slots(HOUR - 30 * HOUR_S, HOUR - 10 * MINUTE_S)
    setup.run(HOUR)
    setup.drop(HOUR - 29 * HOUR_S)
    setup.run(HOUR + 60, whole=True)
    assert setup.state().missing == ((HOUR - 29 * HOUR_S, HOUR - 29 * HOUR_S),)


def test_every_plan_is_read_once_and_is_in_the_sums_once_in_whatever_order_files_come() -> None:
    setup = Setup()
    setup.put_slots(HOUR - 3 * DAY_S, HOUR - 10 * MINUTE_S)
    late = [plan(HOUR - 2 * DAY_S, number=1), plan(HOUR - HOUR_S, number=2)]
    setup.run(HOUR)
    setup.put(*late)
    for minutes in range(5, 25 * 60, 55):
        setup.run(HOUR + minutes * MINUTE_S)
    assert sorted(setup.reads) == sorted(setup.plans)
    total = summed(setup)
    assert total.plans == len(setup.plans)
    assert total.balance["lines"] == 10 * total.plans
    assert total.balance["metered_bytes"] == 600 * total.plans
    assert total.unclassified == {"on_premises": 60 * total.plans}


@pytest.mark.parametrize("when", ["call", "reply"])
def test_a_run_that_dies_at_any_call_or_loses_any_reply_changes_no_sum_and_no_gap(when: str) -> None:
    """Each call to ledger and bucket fails once; the next run completes the work."""
    calm = Setup()
    calm.put_slots(HOUR - 3 * HOUR_S, HOUR - 10 * MINUTE_S)
    calm.drop(HOUR - 2 * HOUR_S)
    calm.run(HOUR)
    number = 0
    while True:
        number += 1
        setup, left = Setup(plans=dict(calm.plans)), [number]

        def die(_call: str, left: list[int] = left) -> None:
            left[0] -= 1
            if left[0] == 0:
                raise UnavailableError("any.Call", "no answer", may_have_applied=True)

        for each in calm.plans:
            setup.objects.put(each, b"{}", if_absent=True)
        setattr(setup.objects, f"on_{when}", die)
        setattr(setup.items, f"on_{when}", die)
        with suppress(UnavailableError):
            setup.run(HOUR)
        if left[0] > 0:
            break
        setup.run(HOUR)
        assert summed(setup) == summed(calm)
        assert setup.state().missing == calm.state().missing
    assert number > (2 if when == "reply" else 5)


def test_a_source_that_cannot_be_looked_at_does_not_stop_the_others() -> None:
    setup = Setup()
    for log in (LOG, OTHER):
        setup.put_slots(HOUR - HOUR_S, HOUR, log=log)
    read = setup.read

    def failing(key: str) -> object:
        if LOG in key:
            raise UnavailableError("s3.GetObject", "no answer", may_have_applied=False)
        return read(key)

    setup.read = failing  # type: ignore[method-assign, assignment]  # the reader of this test
    setup.run(HOUR)
    assert [state.source for state in setup.job.states()] == [OTHER]


def test_a_flow_log_that_was_made_in_the_middle_misses_nothing_before_its_first_file() -> None:
    setup = Setup(context=listed(LOG, OTHER))
    setup.put_slots(HOUR - 6 * HOUR_S, HOUR, log=LOG)
    setup.put_slots(HOUR - HOUR_S, HOUR, log=OTHER)
    assert setup.run(HOUR).missing_slots == 0
    assert setup.state(OTHER).first_s == HOUR - HOUR_S


def test_a_flow_log_that_the_context_lists_no_more_has_ended_and_holds_nothing_back() -> None:
    setup = Setup(context=listed(LOG))
    setup.put_slots(HOUR - 6 * HOUR_S, HOUR)
    setup.run(HOUR)
    setup.context = listed(effective_s=HOUR + 2 * HOUR_S)
    figures = setup.run(HOUR + 3 * HOUR_S)
    assert setup.state().ended_s == HOUR
    assert (figures.missing_slots, figures.silent, figures.held_s) == (1, 0, HOUR - 10 * MINUTE_S)
    setup.put(plan(HOUR))
    figures = setup.run(HOUR + 4 * HOUR_S)
    assert (figures.missing_slots, figures.silent, figures.held_s) == (0, 0, None)


def test_a_context_that_did_not_look_into_the_account_and_region_ends_nothing() -> None:
    setup = Setup(context=listed(LOG))
    setup.put_slots(HOUR - 6 * HOUR_S, HOUR)
    setup.run(HOUR)
    setup.context = replace(listed(effective_s=HOUR + 2 * HOUR_S), places=())
    assert setup.run(HOUR + 3 * HOUR_S).missing_slots == 31
    assert setup.state().ended_s == 0


def test_a_flow_log_that_never_delivered_is_silent_after_an_hour_and_holds_back() -> None:
    setup = Setup(context=listed(OTHER, status="FAILED: Access error"))
    figures = setup.run(HOUR)
    assert (figures.silent, figures.holding, figures.held_s) == (0, 1, HOUR)
    figures = setup.run(HOUR + HOUR_S)
    state = setup.state(OTHER)
    assert (figures.silent, figures.holding, figures.held_s, figures.first) == (1, 1, HOUR, OTHER)
    assert (state.came, state.status) == (False, "FAILED: Access error")


def test_a_source_that_is_not_of_the_settings_is_not_expected_but_known_and_holds_nothing_back() -> None:
    assert Setup(context=listed(OTHER, bucket="of-somebody-else")).run(HOUR).sources == 0
    setup = Setup(log_sources=())
    setup.put_slots(HOUR - 6 * HOUR_S, HOUR - 3 * HOUR_S)
    figures = setup.run(HOUR)
    assert setup.state().missing
    assert (figures.sources, figures.missing_slots, figures.silent, figures.held_s) == (1, 0, 0, None)


@pytest.mark.parametrize("place", ["/home/me/flowlogs/copy.log.gz", "s3://my-copies/AWSLogs/copy.log.gz"])
def test_a_copy_taken_by_hand_does_not_take_a_flow_log_from_its_log_source(place: str) -> None:
    setup = Setup()
    gap_s = HOUR - 2 * HOUR_S
    setup.put_slots(HOUR - 6 * HOUR_S, HOUR - 15 * MINUTE_S)
    setup.drop(gap_s)
    before = setup.run(HOUR)
    setup.put(plan(HOUR - 15 * MINUTE_S, place=place))
    figures = setup.run(HOUR + 5 * MINUTE_S)
    assert setup.state().named == "network"
    assert (figures.held_s, figures.holding, figures.place) == (before.held_s, 1, before.place)
    # After a source is removed from the settings, it counts like any log that an operator metered with a command.
    setup.log_sources = ()
    setup.put(plan(HOUR - 10 * MINUTE_S, place=place))
    figures = setup.run(HOUR + 10 * MINUTE_S)
    assert (setup.state().named, figures.held_s) == ("", None)


def test_an_accepted_gap_is_none_and_others_stay() -> None:
    setup = Setup()
    setup.put_slots(HOUR - 6 * HOUR_S, HOUR)
    for hours in (2, 3):
        setup.drop(HOUR - hours * HOUR_S)
    ruled(setup, LogRulingKind.ACCEPT_GAP, at_s=HOUR, first_s=HOUR - 2 * HOUR_S, last_s=HOUR - 2 * HOUR_S)
    setup.run(HOUR)
    assert setup.state().missing == ((HOUR - 3 * HOUR_S, HOUR - 3 * HOUR_S),)


def test_a_forgotten_source_has_no_gaps_and_begins_anew_with_its_next_file() -> None:
    setup = Setup()
    setup.put_slots(HOUR - 9 * HOUR_S, HOUR - 6 * HOUR_S)
    assert setup.run(HOUR).missing_slots > 0
    ruled(setup, LogRulingKind.FORGET, at_s=HOUR)
    figures = setup.run(HOUR + MINUTE_S)
    assert (figures.missing_slots, figures.silent, figures.held_s) == (0, 0, None)
    assert setup.state().ended_s == HOUR
    again_s = HOUR + 5 * HOUR_S
    setup.put_slots(again_s, again_s + HOUR_S)
    figures = setup.run(again_s + HOUR_S)
    assert (setup.state().first_s, setup.state().ended_s, figures.missing_slots) == (again_s, 0, 0)
    assert figures.held_s == again_s + HOUR_S - 10 * MINUTE_S


def test_slots_that_can_no_longer_be_metered_are_no_gaps() -> None:
    setup = Setup()
    setup.put_slots(HOUR - 40 * DAY_S, HOUR - 39 * DAY_S)
    setup.put_slots(HOUR - 34 * DAY_S, HOUR - 34 * DAY_S + HOUR_S)
    setup.put_slots(HOUR - 2 * HOUR_S, HOUR)
    setup.run(HOUR)
    assert setup.state().first_s == HOUR - 34 * DAY_S


def test_clocks_that_are_ahead_make_no_gap_and_hide_none() -> None:
    setup = Setup()
    setup.put_slots(HOUR - 2 * HOUR_S, HOUR - HOUR_S)
    setup.put(plan(HOUR + 6 * HOUR_S))
    setup.run(HOUR)
    assert setup.state().missing == ((HOUR - HOUR_S, HOUR - 30 * MINUTE_S),)
    setup.run(HOUR + HOUR_S)
    assert setup.state().missing == ((HOUR - HOUR_S, HOUR + 30 * MINUTE_S),)


def test_a_job_that_stood_still_for_a_day_sees_everything_since() -> None:
    setup = Setup()
    setup.put_slots(HOUR - 2 * HOUR_S, HOUR)
    setup.run(HOUR)
    setup.put_slots(HOUR, HOUR + 20 * HOUR_S)
    setup.drop(HOUR + 2 * HOUR_S)
    setup.run(HOUR + 20 * HOUR_S)
    assert setup.state().missing == ((HOUR + 2 * HOUR_S, HOUR + 2 * HOUR_S),)
    assert summed(setup).plans == len(setup.plans)


def test_a_source_that_was_silent_for_the_whole_window_is_named_as_what_holds_back() -> None:
    setup = Setup()
    setup.put_slots(HOUR - HOUR_S, HOUR)
    for days in (1, 40):
        figures = setup.run(HOUR + days * DAY_S)
        assert (figures.holding, figures.first, figures.silent) == (1, LOG, 1)
    assert figures.held_s == HOUR + 5 * DAY_S


def test_notes_about_files_without_a_name_are_no_sources() -> None:
    setup = Setup()
    setup.put(plan(HOUR), plan(None, log="acme-data", kind="s3-access"))
    for number in range(30):
        setup.objects.put(f"{PLACES_PREFIX}{number:040x}/00000000.json", b"{}", if_absent=True)
    assert setup.run(HOUR + HOUR_S).sources == 2
    assert {each.kind for each in setup.job.states()} == {"vpc-flow", "s3-access"}


def test_a_source_without_slots_has_no_gaps_and_its_kind_settles_after_a_day() -> None:
    setup = Setup()
    place = "s3://acme-logs/AWSLogs/cf/EABC.2026-11-24-12.x.gz"
    setup.put(plan(HOUR - 9 * HOUR_S, log="EABC", kind="cloudfront", place=place))
    figures = setup.run(HOUR)
    state = setup.state("EABC", "cloudfront")
    assert (state.missing, state.named, state.came) == ((), "network", True)
    assert (figures.settles_s, figures.held_s) == (DAY_S, None)
    setup.run(HOUR + 2 * DAY_S)
    assert setup.run(HOUR + 2 * DAY_S).silent == 1


def test_files_without_a_slot_are_summed_by_a_whole_look() -> None:
    setup = Setup()
    setup.put(*(plan(None, log="", number=number, kind="mapped") for number in range(300)))
    setup.run(HOUR)
    parts = [LogSums.from_item(item) for item in setup.items.query(Table.LEDGER, "W#log-sums-mapped#none")]
    assert sum(part.plans for part in parts) == 300
    setup.run(HOUR + 2 * DAY_S)
    assert len(setup.reads) == 300


def test_refused_lines_and_unclassified_bytes_above_what_is_allowed_are_counted_by_source() -> None:
    setup = Setup()
    bad = plan(HOUR - HOUR_S)
    bad = replace(bad, balance=replace(bad.balance, lines=11, refused=1), refusals=(("field_count", 1, 0),))
    unknown = bad.shares[1]._replace(bytes=300)
    setup.put(replace(bad, shares=(bad.shares[0]._replace(bytes=300), unknown), shadowed=((OTHER, 3, 900),)))
    figures = setup.run(HOUR)
    assert (figures.refusing, figures.unclassified, figures.unclassified_permille) == (1, 1, 500)
    # Logs that shadow others are also named by source.
    assert (setup.state().shadowed_by, summed(setup).shadowed) == ((OTHER,), {OTHER: 900})
    assert summed(setup).refusals == {"field_count": 1}


@pytest.mark.long
def test_ten_thousand_sources_are_looked_at_within_half_an_hour_in_a_bounded_number_of_calls() -> None:
    setup = Setup()
    setup.put(*(plan(HOUR - SLOT_S, log=f"fl-{number:017x}") for number in range(10_000)))
    setup.run(HOUR, whole=True)
    assert setup.run(HOUR).sources == 10_000
    setup.calls.clear()
    reads = len(setup.reads)
    for run in range(1, 7):
        setup.run(HOUR + run * 5 * MINUTE_S)
    assert min(state.looked_s for state in setup.job.states()) >= HOUR + 5 * MINUTE_S
    assert setup.calls.count("objects.list") <= 6 * (1_667 + LOOKS + 1)
    assert len(setup.reads) == reads


def test_a_few_sources_are_found_within_the_hour_and_each_is_looked_at_at_each_run() -> None:
    setup = Setup()
    setup.put(plan(HOUR - SLOT_S))
    setup.run(HOUR)
    setup.put(plan(HOUR, log=OTHER))
    setup.run(HOUR + HOUR_S)
    assert [state.source for state in setup.job.states()] == sorted([LOG, OTHER])
    assert {state.looked_s for state in setup.job.states()} == {HOUR + HOUR_S}


def test_more_plans_than_an_item_can_name_are_in_no_sum_and_break_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looking, "MOST_PLANS", 5)
    setup = Setup()
    setup.put(*(plan(HOUR - HOUR_S, number=number) for number in range(9)))
    setup.run(HOUR)
    setup.run(HOUR + DAY_S, whole=True)
    assert summed(setup).plans == 5
    assert setup.state().first_s == HOUR - HOUR_S


def test_logs_with_authority_that_are_too_many_to_name_keep_their_bytes() -> None:
    shadowed = {f"fl-{number:03}": number for number in range(50)}
    kept = looking.few(shadowed)
    assert (len(kept), sum(kept.values())) == (20, sum(shadowed.values()))
    more = {**kept, "fl-x": 1}
    least = min(size for log, size in more.items() if log != looking.OTHERS)
    assert looking.few(more)[looking.OTHERS] == kept[looking.OTHERS] + least


def test_notes_on_files_that_grow_are_no_source() -> None:
    objects = Setup().objects
    keys = ("plans/mapped/acme/none/a.json", "plans/vpc-flow/fl-1/2026/a.json", "plans/vpc-flow/fl-2/2026/a.json")
    for key in (*keys, f"{places_prefix('/logs/a.ndjson')}0.json", f"{places_prefix('/logs/b.ndjson')}0.json"):
        objects.put(key, b"{}", if_absent=True)
    found = find_sources(objects, after="", most=10)
    assert (found.sources, found.after) == ((("mapped", "acme"), ("vpc-flow", "fl-1"), ("vpc-flow", "fl-2")), "")
    first = find_sources(objects, after="", most=1)
    assert find_sources(objects, after=first.after, most=1).sources == (("vpc-flow", "fl-1"),)

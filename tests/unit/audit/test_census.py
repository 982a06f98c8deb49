"""Full scans in parts are exact despite concurrent writes, are saved and resumed, and use bounded memory."""

import gzip
import json
import random
from dataclasses import replace
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.audit.census import RecentCommits
from metering.audit.census_state import Cells, CensusState, keep_census, kept_census, parts_in
from metering.audit.reconciler import Findings
from metering.audit.settling import Fingerprint, ScanTooLongError, fingerprint
from metering.ledger.booked_hours import pointer_key
from metering.ledger.format_version import RESTORED_FORMAT, ledger_format
from metering.ledger.markers import Marker, is_marker, marker_key, named_batch
from metering.stores.objects import SCAN_KEY
from metering.stores.writes import Put, Table, Update, key_of
from metering.units import DAY_S, HOUR_S
from metering.usage.totals import Total
from tests.support.lake_world import HOUR, NOW_S, World, record
from tests.support.usage_items import change, elsewhere, lose, usage_of
from tests.support.verdicts import conflict_of

HOURS = [HOUR, HOUR - HOUR_S, HOUR - 3 * DAY_S]
MIB = 1 << 20

entries = st.dictionaries(
    st.text(max_size=3), st.builds(Total, st.integers(-(2**70), 2**70), st.integers(-9, 2**40)), max_size=6
)


def world_with_traffic() -> World:
    """Lake files of two runs, and rows in staging."""
    world = World()
    for round_ in range(3):
        world.send(*[[record(5 + n, start_s=h, account=f"{n:012d}") for n in range(6)] for h in HOURS], source="edge")
        if round_ < 2:
            world.compact_all()
    world.clock.advance_s(60)
    return world


def everything(world: World, *, deep: bool) -> CensusState:
    return world.jobs.reconciler.begin(from_s=0, to_s=NOW_S + DAY_S, deep=deep)


@pytest.mark.long
@pytest.mark.parametrize("deep", [False, True])
def test_what_comes_between_any_two_calls_of_a_scan_makes_no_hour_differ(deep: bool) -> None:
    for number in count(0, 17):
        world = world_with_traffic()
        calls = 0

        def at(_call: str) -> None:
            nonlocal calls
            calls += 1
            if calls == number + 1:  # noqa: B023 - called at once
                world.items.on_call = lambda _call: None  # noqa: B023
                world.clock.advance_s(1)  # noqa: B023
                world.send([record(3, start_s=HOUR), record(4, start_s=HOURS[2], account="000000000003")])  # noqa: B023
                world.compact_all()  # noqa: B023

        world.items.on_call = at
        result = world.jobs.reconciler.check(from_s=0, to_s=NOW_S + DAY_S, deep=deep)
        assert result.different == (), number
        assert result.unstable == (), number
        if calls <= number:
            break
    assert number > 100


def doubtful(world: World, state: CensusState) -> list[int]:
    """Finish the count; return the hours that differ in the count, before a second look confirms it."""
    world.jobs.reconciler.census.go_on(state)
    checks = Findings(state, world.jobs.figures.may_lack_markers).checks()
    return [hour_s for hour_s, (_, doubt) in checks.items() if doubt]


@pytest.fixture
def world() -> World:
    return world_with_traffic()


@pytest.mark.parametrize("rolled_up", [False, True])
def test_what_was_decided_since_a_scan_of_totals_began_is_in_neither_of_its_sums(world: World, rolled_up: bool) -> None:
    state = everything(world, deep=False)
    world.clock.advance_s(1)
    world.send([record(3, start_s=HOUR), record(4, start_s=HOURS[2])])
    if rolled_up:
        world.compact_all()
    assert doubtful(world, state) == []
    assert sum(total.bytes for total in state.marked.values()) == 9 * sum(5 + n for n in range(6))


@pytest.mark.parametrize("deep", [False, True])
def test_a_byte_that_moved_from_one_key_to_another_is_doubted_although_the_hour_has_its_total(deep: bool) -> None:
    world = world_with_traffic()
    one, other, *_ = (entry for entry in usage_of(world.items) if entry.key.hour_s == HOUR)
    change(world.items, one, 1)
    change(world.items, other, -1)
    assert doubtful(world, everything(world, deep=deep)) == [HOUR]


def test_a_byte_that_moved_from_one_batch_to_another_is_doubted_by_a_scan_that_counts_rows(world: World) -> None:
    for batch_id, more in (("batch-0", 1), ("batch-3", -1)):
        item = world.items.peek(Table.LEDGER, marker_key(batch_id))
        assert item is not None
        marker = Marker.from_item(item)
        total = marker.hours[HOUR]
        hours = {HOUR: Total(total.bytes + more, total.records)}
        fields = {name: getattr(marker, name) for name in Marker.__slots__}
        world.items.put(Put(table=Table.LEDGER, item=Marker(**{**fields, "hours": hours}).to_item()))
    assert doubtful(world, everything(world, deep=True)) == [HOUR]


@pytest.mark.parametrize("deep", [False, True])
def test_items_that_cancel_out_are_no_hour_of_their_own(world: World, deep: bool) -> None:
    other = elsewhere(usage_of(world.items)[0], hour_s=HOUR - 9 * DAY_S)
    change(world.items, other, 3, 1)
    change(world.items, other, -3, -1)
    assert doubtful(world, everything(world, deep=deep)) == []


@pytest.mark.parametrize("deep", [False, True])
def test_an_hour_in_which_a_run_books_while_it_is_read_is_doubted(world: World, deep: bool) -> None:
    """The run is unfinished: no list has the run's rows yet (P37)."""
    entry = next(entry for entry in usage_of(world.items) if entry.key.hour_s == HOUR)
    run = Update(table=Table.USAGE, key=entry.item_key, add={"v": 1}, set={"n0": max(entry.runs.values()) + 1})
    world.items.update(run)
    assert doubtful(world, everything(world, deep=deep)) == [HOUR]


def test_an_hour_whose_first_batches_come_while_markers_are_read_has_its_rows_counted(world: World) -> None:
    state = everything(world, deep=True)
    new_s = HOUR - 5 * HOUR_S

    def come() -> None:
        if not world.usage() or not any(key.hour_s == new_s for key in world.usage()):
            # So many items that most parts of the table are still unread.
            world.send(*[[record(3, start_s=new_s)] for _ in range(20)])
            world.compact_all()

    world.jobs.reconciler.census.go_on(state, limit=come)
    assert state.marked[new_s].bytes > 0
    assert new_s in state.rows


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_a_scan_finds_the_hours_that_were_damaged_and_no_others(seed: int, deep: bool) -> None:
    rng = random.Random(seed)
    world = world_with_traffic()
    entries = usage_of(world.items)
    damaged: set[int] = set()
    for _ in range(rng.randrange(4)):
        entry = rng.choice(entries)
        what = rng.choice(["more", "lost", "elsewhere", "marker"])
        if what == "more":
            change(world.items, entry, rng.choice([-1, 1]))
        elif what == "lost":
            lose(world.items, entry)
        elif what == "elsewhere":
            entry = elsewhere(entry, hour_s=HOUR - 9 * DAY_S)
            change(world.items, entry, 2, 1)
        else:
            # Batches are numbered in the order of their hours.
            number = rng.randrange(9)
            world.items.remove(Table.LEDGER, marker_key(f"batch-{number}"))
            damaged.add(HOURS[number % 3])
            continue
        damaged.add(entry.key.hour_s)
    result = world.jobs.reconciler.check(from_s=0, to_s=NOW_S + DAY_S, deep=deep)
    assert {check.hour_s for check in result.different} == damaged
    assert result.unstable == ()


def test_rows_that_are_lost_are_found_by_their_markers_and_their_usage(world: World) -> None:
    ledger = [item for item in world.items.everything(Table.LEDGER) if "run" not in item]
    pointers = sorted(key for key in map(key_of, ledger) if key.pk.startswith("H#") and key.sk.startswith("2#"))
    world.items.remove(Table.LEDGER, pointers[0])
    assert pointers[0] == pointer_key(HOURS[2], pointers[0].sk[2:])
    for deep in (False, True):
        [check] = world.jobs.reconciler.check(from_s=0, to_s=NOW_S + DAY_S, deep=deep).different
        assert {each.between for each in check.differences} == {"usage/rows", "markers/rows"}


@pytest.mark.parametrize("deep", [False, True])
def test_a_scan_that_was_saved_after_any_part_goes_on_to_the_same_figures(world: World, deep: bool) -> None:
    whole = everything(world, deep=deep)
    world.jobs.reconciler.census.go_on(whole)
    state, steps, left = everything(world, deep=deep), 0, 0

    def stop() -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise ScanTooLongError

    while state.phase != "done":
        left = 3
        try:
            world.jobs.reconciler.census.go_on(state, limit=stop)
        except ScanTooLongError:
            steps += 1
        keep_census(world.objects, state)
        kept = kept_census(world.objects, world.items)
        assert kept is not None
        state = kept
    assert steps > 5
    checks = [Findings(each, world.jobs.figures.may_lack_markers).checks() for each in (whole, state)]
    assert checks[0] == checks[1]
    assert not any(doubt for _, doubt in checks[0].values())
    assert {source_id: dict(seen.in_order()) for source_id, seen in whole.survey.sources.items()} == {
        source_id: dict(seen.in_order()) for source_id, seen in state.survey.sources.items()
    }


@pytest.mark.parametrize(
    "body",
    [b"", b"no gzip", gzip.compress(b"no json"), gzip.compress(b"{}"), gzip.compress(b'{"form":0}')],
    ids=["empty", "no gzip", "no json", "no form", "another form"],
)
def test_what_another_version_saved_is_counted_anew(body: bytes) -> None:
    world = World()
    assert kept_census(world.objects, world.items) is None
    world.objects.put(SCAN_KEY, body, if_absent=False)
    assert kept_census(world.objects, world.items) is None


def test_a_census_of_before_a_restore_is_counted_anew() -> None:
    world = World()
    keep_census(world.objects, everything(world, deep=True))
    saved = json.loads(gzip.decompress(world.objects.get(SCAN_KEY)))
    # An earlier release saved no generation, and its ledger is of the first one.
    assert saved.pop("generation") == 1
    world.objects.put(SCAN_KEY, gzip.compress(json.dumps(saved).encode()), if_absent=False)
    assert kept_census(world.objects, world.items) is not None
    found = ledger_format(world.items)
    assert found is not None
    restored = replace(found, number=RESTORED_FORMAT, generation=2)
    world.items.put(Put(table=Table.LEDGER, item=restored.to_item()))
    assert kept_census(world.objects, world.items) is None
    keep_census(world.objects, everything(world, deep=True))
    assert kept_census(world.objects, world.items) is not None


def test_a_census_with_a_number_of_records_that_is_none_is_counted_anew() -> None:
    world = World()
    keep_census(world.objects, everything(world, deep=True))
    saved = json.loads(gzip.decompress(world.objects.get(SCAN_KEY)))
    saved["marked"] = {str(HOUR): ["4096", "many"]}
    world.objects.put(SCAN_KEY, gzip.compress(json.dumps(saved).encode()), if_absent=False)
    assert kept_census(world.objects, world.items) is None


def test_what_is_saved_says_sums_of_any_size_exactly() -> None:
    world = World()
    state = everything(world, deep=True)
    state.marked[HOUR] = Total(2**80 + 1, 3)
    state.usage.add(HOUR, "a", "key", Total(2**90 + 1, 1))
    keep_census(world.objects, state)
    assert json.loads(gzip.decompress(world.objects.get(SCAN_KEY)))["marked"] == {str(HOUR): [str(2**80 + 1), 3]}
    kept = kept_census(world.objects, world.items)
    assert kept is not None
    assert kept.marked == state.marked
    assert kept.usage.of(HOUR) == state.usage.of(HOUR)


def test_cells_that_were_added_in_parts_are_those_that_were_added_at_once() -> None:
    rng = random.Random(3)
    keys = [(HOUR + HOUR_S * rng.randrange(3), f"{rng.randrange(40)}", Total(rng.randrange(99), 1)) for _ in range(300)]
    whole, parts = Cells(16), [Cells(16) for _ in range(4)]
    for number, (hour_s, name, total) in enumerate(keys):
        whole.add(hour_s, name, (hour_s, name), total)
        parts[number % 4].add(hour_s, name, (hour_s, name), total)
    merged = Cells(16)
    for part in parts:
        merged.merge(part)
    assert all(whole.differing(merged, hour_s) == frozenset() for hour_s in whole)
    parts[0].add(HOUR, "1", (HOUR, "1"), Total(1, 0))
    merged.merge(parts[0])
    assert any(whole.differing(merged, hour_s) for hour_s in whole)


def test_a_smaller_memory_divides_hours_into_fewer_parts() -> None:
    assert parts_in(4096 * MIB, 900) > parts_in(1024 * MIB, 900) > parts_in(256 * MIB, 900) == 16
    assert parts_in(1024 * MIB, 24) == 1_024


def broken(world: World, attribute: str) -> str:
    item = next(item for item in world.items.everything(Table.LEDGER) if is_marker(item))
    world.items.put(Put(table=Table.LEDGER, item={**item, attribute: "spoilt"}))
    return named_batch(item)


def test_a_scan_goes_on_past_a_conflict_of_a_batch_whose_marker_cannot_be_read(world: World) -> None:
    conflict = conflict_of(broken(world, "decided_at_ms"))
    world.items.put(Put(table=Table.LEDGER, item=conflict.to_item()))
    state = everything(world, deep=False)
    world.jobs.reconciler.census.go_on(state)
    assert state.phase == "done"
    assert len(state.survey.contradictions.texts()) == 1


@pytest.mark.parametrize("deep", [False, True])
def test_only_a_scan_that_counts_rows_reads_markers_whole(world: World, deep: bool) -> None:
    broken(world, "metered")
    state = everything(world, deep=deep)
    world.jobs.reconciler.census.go_on(state)
    assert len(state.survey.contradictions.texts()) == deep


@given(entries, st.randoms(use_true_random=False))
def test_a_fingerprint_depends_on_neither_order_nor_parts(totals: dict[str, Total], chance: object) -> None:
    parts = [(key, Total(total.bytes, 0)) for key, total in totals.items()]
    parts += [(key, Total(0, total.records)) for key, total in totals.items()]
    chance.shuffle(parts)  # type: ignore[attr-defined]  # a Random
    assert fingerprint(parts) == fingerprint(totals.items())


@given(entries, entries)
def test_different_totals_have_different_fingerprints(one: dict[str, Total], other: dict[str, Total]) -> None:
    def counted(totals: dict[str, Total]) -> dict[str, Total]:
        return {key: total for key, total in totals.items() if total != Total(0, 0)}

    assert (fingerprint(one.items()) == fingerprint(other.items())) is (counted(one) == counted(other))
    assert (fingerprint(one.items()) == Fingerprint()) is not bool(counted(one))


def test_a_byte_that_moved_to_another_key_changes_a_fingerprint_although_the_sum_stays() -> None:
    one = fingerprint([("a", Total(2, 1)), ("b", Total(1, 1))])
    other = fingerprint([("a", Total(1, 1)), ("b", Total(2, 1))])
    assert one.total == other.total
    assert one != other
    assert fingerprint([("a", Total(2, 1))]) != fingerprint([("a", Total(1, 2))])


OLD_HOUR = HOUR - 20 * DAY_S


def recent_of(world: World) -> RecentCommits:
    return RecentCommits(world.items, world.objects, shards=1, after_ms=world.clock.now_ms())


def send(world: World) -> None:
    world.clock.advance_s(1)
    world.send([record(5, start_s=HOUR)], [record(7, start_s=OLD_HOUR)], rolled_up=False)


def test_each_commit_is_told_once_wherever_the_roll_up_stands() -> None:
    for number in count():
        world = World()
        world.send([record(100, start_s=HOUR)])
        recent = recent_of(world)
        assert recent.now() == {}, "what was there before is not recent"
        send(world)
        expected = {HOUR: Total(5, 1), OLD_HOUR: Total(7, 1)}
        assert recent.now() == expected
        died = world.dies_after(number, world.roll_up)
        assert recent.now() == recent.now() == expected
        world.roll_up()
        assert recent.now() == recent.now() == expected
        send(world)
        twice = {HOUR: Total(10, 2), OLD_HOUR: Total(14, 2)}
        anew = RecentCommits(world.items, world.objects, shards=1, after_ms=recent.after_ms)
        assert recent.now() == anew.now() == twice
        if not died:
            break
    assert number > 5


def test_a_run_that_ends_between_the_two_lists_is_told_once() -> None:
    for number in count():
        world = World()
        recent = recent_of(world)
        send(world)
        world.dies_after(6, world.roll_up)
        recent.now()
        calls = 0

        def meanwhile(_call: str, world: World = world, number: int = number) -> None:
            nonlocal calls
            if calls == number:
                world.items.on_call = world.objects.on_call = lambda _call: None
                world.roll_up()
            calls += 1

        world.items.on_call = world.objects.on_call = meanwhile
        assert recent.now() == {HOUR: Total(5, 1), OLD_HOUR: Total(7, 1)}
        world.items.on_call = world.objects.on_call = lambda _call: None
        assert recent.now() == {HOUR: Total(5, 1), OLD_HOUR: Total(7, 1)}
        if calls <= number:
            break
    assert number > 2


def test_a_plan_that_is_gone_leaves_nobody_to_tell() -> None:
    world = World()
    recent = recent_of(world)
    send(world)
    world.roll_up()
    for key in world.objects.keys("runs/"):
        world.objects.remove(key)
    assert recent.now() is None

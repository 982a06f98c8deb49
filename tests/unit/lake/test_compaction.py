"""Compaction changes no total; staging objects are deleted as soon as allowed, and not before."""

from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.errors import LedgerCorruptError, ObjectDamagedError, UnavailableError
from metering.lake.plan import Backlog, Plan, make_plan
from metering.lake.ports import LakeWriter, MergedFile
from metering.ledger.booked_hours import Pending, pointer_key
from metering.ledger.commits import CommitRecord, commit_key
from metering.ledger.notes.lake import ORPHANS_KEY, Cleaning, OrphanPasses, cleanings
from metering.ledger.runs import lake_chain, newest_run
from metering.stores.objects import lake_file_key
from metering.stores.writes import Put, Table, Update
from metering.units import DAY_S, HOUR_S, MINUTE_S
from metering.usage.totals import Total
from tests.support.lake_world import HOUR, NOW_S, World, dying, record
from tests.support.stage import compaction

LATE = NOW_S - 20 * DAY_S


def world_with_traffic() -> World:
    world = World()
    world.send([record(5), record(7, account="210987654321")], [record(11, start_s=LATE)])
    world.send([record(13, resource="i-1"), record(17, start_s=LATE)], [record(2**62), record(2**62)])
    return world


@pytest.fixture
def world() -> World:
    return world_with_traffic()


def test_compaction_changes_no_total(world: World) -> None:
    before = world.usage()
    assert world.visible() == before
    assert world.compact_all() == 1
    assert world.visible() == before == world.usage()
    assert all(
        not s.staged for hour_s in world.jobs.view.hours() for s in world.jobs.view.hour_snapshot(hour_s).sources
    )
    assert sum(file.bytes for file in world.files(HOUR)) == 5 + 7 + 13 + 2**63


def test_nothing_is_compacted_twice(world: World) -> None:
    world.compact_all()
    assert world.compact_all() == 0
    assert len(world.objects.keys("lake/")) == 2


def test_the_policy_leaves_late_hours_to_wait_and_the_commit_is_in_both_places(world: World) -> None:
    before = world.usage()
    world.clock.advance_s(HOUR_S)
    world.jobs.compactor.run(world.deadline())
    assert world.files(HOUR)
    assert not world.files(LATE - LATE % HOUR_S)
    assert world.visible() == before
    world.clock.advance_s(DAY_S)
    world.jobs.compactor.run(world.deadline())
    assert world.files(LATE - LATE % HOUR_S)
    assert world.visible() == before


def test_staging_goes_an_hour_after_the_run_that_took_a_commits_last_hours(world: World) -> None:
    before = world.usage()
    staged = world.objects.keys("staging/")
    world.clock.advance_s(HOUR_S)
    world.jobs.compactor.run(world.deadline())
    world.clock.advance_s(DAY_S)
    world.jobs.cleaner.run(world.deadline())
    assert world.objects.keys("staging/") == staged
    assert world.visible() == before
    world.jobs.compactor.run(world.deadline())
    world.clock.advance_s(HOUR_S - 1)
    world.jobs.cleaner.run(world.deadline())
    assert world.objects.keys("staging/") == staged
    world.clock.advance_s(1)
    assert world.jobs.cleaner.run(world.deadline()).commits == 2
    assert world.objects.keys("staging/") == ()
    assert not [item for item in world.items.everything(Table.LEDGER) if str(item["sk"]).startswith("2#")]
    assert world.visible() == before
    assert world.jobs.cleaner.run(world.deadline()).runs == 0


def test_a_cleaner_writes_down_since_when_the_oldest_run_that_it_left_was_due() -> None:
    world = World()
    done_s = []
    for _ in range(3):
        world.send([record(5)])
        world.clock.advance_s(HOUR_S)
        world.jobs.compactor.run(world.deadline())
        done_s.append(world.clock.now_ms() // 1000)
    world.clock.advance_s(HOUR_S)
    now_s = world.clock.now_ms() // 1000
    # The first run has no time for anything, the second has time for everything.
    for seconds, due_ms in ((10, (done_s[0] + HOUR_S) * 1000), (900, None)):
        world.jobs.cleaner.run(world.deadline(seconds))
        assert cleanings(world.items) == {"L0": Cleaning(chain="L0", looked_s=now_s, due_ms=due_ms)}


def test_a_run_that_cannot_be_cleaned_is_overdue() -> None:
    world = World()
    for _ in range(2):
        world.send([record(5)])
        world.clock.advance_s(HOUR_S)
        world.jobs.compactor.run(world.deadline())
    second = newest_run(world.items, lake_chain(0))
    assert second is not None
    world.objects.upload(second.plan_key, b"{}")
    world.clock.advance_s(2 * HOUR_S)
    with pytest.raises(LedgerCorruptError, match=second.plan_key):
        world.jobs.cleaner.run(world.deadline())
    assert cleanings(world.items)["L0"].due_ms == (second.done_at_ms or 0) + HOUR_S * 1000


def test_a_compactor_that_dies_at_any_call_leaves_what_the_next_one_finishes() -> None:
    before = world_with_traffic().usage()
    for world in dying(world_with_traffic, World.compact_all, least=15):
        assert world.visible() == before
        world.compact_all()
        assert world.visible() == before
        assert all(s.staged is False for h in world.jobs.view.hours() for s in world.jobs.view.hour_snapshot(h).sources)


def test_a_lost_reply_of_any_write_changes_nothing() -> None:
    for lost in range(12):
        world = world_with_traffic()
        before = world.usage()
        left = lost

        def lose(_call: str) -> None:
            nonlocal left
            left -= 1
            if left == -1:
                raise UnavailableError("store", "no reply")

        world.items.on_reply = world.objects.on_reply = lose
        world.compact_all()
        world.items.on_reply = world.objects.on_reply = lambda _call: None
        assert world.visible() == before
        assert world.compact_all() == 0


def test_a_missing_staging_object_stops_the_run_and_pages(world: World) -> None:
    world.objects.remove(world.objects.keys("staging/")[0])
    with pytest.raises(LedgerCorruptError):
        world.compact_all()
    assert world.alerts.sent[-1].severity == "page"
    assert not world.objects.keys("lake/dt=2026-11-24")


def test_a_damaged_staging_object_stops_the_run_and_pages_with_its_name(world: World) -> None:
    key = world.objects.keys("staging/")[0]
    world.objects.put(key, world.objects.get(key)[:-1], if_absent=False)
    with pytest.raises(LedgerCorruptError, match=f"{key} is damaged"):
        world.compact_all()
    assert f"{key} is damaged" in str(world.alerts.sent[-1].fields["what"])
    with pytest.raises(ObjectDamagedError):
        world.visible()
    assert not world.objects.keys("lake/dt=2026-11-24")


def test_a_reader_never_skips_a_missing_staging_object(world: World) -> None:
    world.objects.remove(world.objects.keys("staging/")[0])
    with pytest.raises(LedgerCorruptError):
        world.visible()


def test_a_commit_that_is_still_pending_is_never_cleaned(world: World) -> None:
    world.compact_all()
    [run] = world.items.query(Table.LEDGER, "R#L0")
    commit_id = Plan.from_json(world.objects.get(str(run["plan"])), str(run["plan"])).last[0]
    world.items.put(Put(table=Table.LEDGER, item={"pk": "P#0", "sk": commit_id, "hours": frozenset(["2026-11-24T13"])}))
    world.clock.advance_s(DAY_S)
    staged = world.objects.keys("staging/")
    with pytest.raises(LedgerCorruptError):
        world.jobs.cleaner.run(world.deadline())
    assert world.objects.keys("staging/") == staged


def test_a_pointer_that_another_run_has_marked_stops_the_compactor(world: World) -> None:
    [commit_id, *_] = [str(i["sk"])[2:] for i in world.items.query(Table.LEDGER, "H#2026-11-24T13", sk_from="2#")]
    world.items.update(Update(table=Table.LEDGER, key=pointer_key(HOUR, commit_id), set={"run": "0#000000000099"}))
    with pytest.raises(LedgerCorruptError):
        world.compact_all()
    assert not world.objects.keys("lake/dt=2026-11-24")


@pytest.mark.parametrize("key", ["lake/dt=2026-11-24/", "lake/_SUCCESS", "lake/dt=2026-11-24/hour=all/a/b.parquet"])
def test_what_is_no_file_of_the_lake_hinders_nobody(world: World, key: str) -> None:
    world.objects.put(key, b"", if_absent=True)
    before = world.usage()
    world.compact_all()
    assert world.visible() == before


@pytest.mark.parametrize("from_s", [-(10**10), 0, LATE - LATE % HOUR_S, LATE, HOUR, HOUR + 1])
@pytest.mark.parametrize("to_s", [None, LATE, HOUR, HOUR + 1, HOUR + HOUR_S, NOW_S + DAY_S])
def test_hours_of_a_range_are_those_that_begin_in_it(world: World, from_s: int, to_s: int | None) -> None:
    world.compact_all()
    both = [LATE - LATE % HOUR_S, HOUR]
    expected = [hour_s for hour_s in both if from_s <= hour_s and (to_s is None or hour_s < to_s)]
    assert world.jobs.view.hours(from_s=from_s, to_s=to_s) == expected


def test_hours_of_a_range_are_found_without_listing_the_whole_lake() -> None:
    world = World()
    world.send([record(1, start_s=NOW_S - day * DAY_S) for day in range(30)])
    world.compact_all()
    calls: list[str] = []
    world.objects.on_call = calls.append
    assert world.jobs.view.hours(from_s=HOUR - 10 * DAY_S, to_s=HOUR - 8 * DAY_S) == [
        HOUR - 10 * DAY_S, HOUR - 9 * DAY_S
    ]  # fmt: skip
    assert calls.count("objects.list.next") <= 3


def test_nothing_is_left_pending_after_compaction(world: World) -> None:
    world.compact_all()
    assert list(world.items.query(Table.LEDGER, "P#0")) == []


def test_a_day_with_late_data_stays_exact_through_compaction_and_cleaning() -> None:
    start_s = NOW_S - NOW_S % DAY_S
    world = World(now_s=start_s)
    for hour in range(30):
        now_s = start_s + hour * HOUR_S
        late = [record(1, start_s=now_s - world.entropy.below(35 * DAY_S)) for _ in range(2)]
        world.send([record(1, start_s=now_s - 60 * (n % 3)) for n in range(98)] + late)
        world.clock.advance_s(HOUR_S)
        world.jobs.compactor.run(world.deadline())
        world.jobs.cleaner.run(world.deadline())
    assert world.visible() == world.usage()
    assert sum(total.records for total in world.usage().values()) == 3_000


def test_a_roll_up_that_dies_at_any_call_never_makes_the_compactor_take_what_still_waits() -> None:
    def waiting_world() -> World:
        world = World()
        world.send([record(5), record(7, start_s=LATE)], [record(11)], rolled_up=False)
        return world

    before = waiting_world().visible()
    for world in dying(waiting_world, World.roll_up, least=10):
        world.compact_all()
        assert world.visible() == before
        assert not {str(item["sk"]) for item in world.items.query(Table.LEDGER, "U#0")} & planned(world)
        world.roll_up()
        world.compact_all()
        assert world.visible() == before == world.usage()


def planned(world: World) -> set[str]:
    """Commits that are in the compactor's plans."""
    plans = [Plan.from_json(world.objects.get(key), key) for key in world.objects.keys("runs/L0/")]
    return {commit_id for plan in plans for commit_id in plan.commits()}


class SlowWriter:
    def __init__(self, world: World, writer: LakeWriter) -> None:
        self._world = world
        self._writer = writer
        self.merges = 0

    def merge(
        self,
        hour_s: int,
        staging_keys: Sequence[str],
        *,
        plan_key: str,
        in_part: Collection[str] = frozenset(),
        markers_of: Collection[str] = frozenset(),
    ) -> AbstractContextManager[MergedFile]:
        self.merges += 1
        self._world.clock.advance_s(1_800)
        return self._writer.merge(hour_s, staging_keys, plan_key=plan_key, in_part=in_part, markers_of=markers_of)


def test_the_clock_is_looked_at_before_each_file_of_an_hour() -> None:
    world = World()
    for number in range(3):
        world.send([record(number + 1)])
    eager = replace(world.jobs.policy.everything(), file_rows=1)
    compactor = world.jobs.compactor_of(eager)
    slow = SlowWriter(world, compactor.writer)
    compactor = replace(compactor, writer=slow)
    for merges in (1, 2):
        assert not compactor.run(world.deadline(900)).finished
        assert slow.merges == merges
        assert not world.files(HOUR)
    assert compactor.run(world.deadline(9_000)).finished
    assert slow.merges == 3
    assert sorted(file.bytes for file in world.files(HOUR)) == [1, 2, 3]


# Orphans are fenced first, judged once when they are old enough, and judged again once a day.


def leave(world: World, number: int, date: str = "2026-11-24") -> str:
    """Put a staging object whose commit was never made."""
    key = f"staging/{date}/{number:032x}.parquet"
    world.objects.put(key, b"left behind", if_absent=True)
    return key


def passes(world: World) -> OrphanPasses:
    item = world.items.peek(Table.LEDGER, ORPHANS_KEY)
    return OrphanPasses() if item is None else OrphanPasses.from_item(item)


def judged(world: World, *, whole: bool = False, seconds: int = 900) -> int:
    """Number of commits that one run of the orphan cleaner reads."""
    calls: list[str] = []
    world.items.on_call = calls.append
    world.jobs.orphans.run(world.deadline(seconds), whole=whole)
    world.items.on_call = lambda _call: None
    return calls.count("items.get_many") + calls.count("items.get_many.next")


def test_orphans_are_fenced_before_they_are_deleted(world: World) -> None:
    orphan = "f" * 32
    for key in (
        f"staging/2026-11-24/{orphan}.parquet",
        f"staging/2026-11-24/{orphan}.wal",
        f"quarantine/2026-11-24/{orphan}.ndjson",
    ):
        world.objects.put(key, b"left behind", if_absent=True)
    kept = {key for key in world.objects.keys("") if orphan not in key}
    assert world.jobs.orphans.run(world.deadline()) == 0
    world.clock.advance_s(HOUR_S)
    assert world.jobs.orphans.run(world.deadline()) == 3
    assert set(world.objects.keys()) == kept
    fence = world.items.peek(Table.LEDGER, commit_key(orphan))
    assert fence is not None
    assert CommitRecord.from_item(fence).state == "aborted"


def test_an_orphan_whose_fence_has_no_sure_outcome_is_kept() -> None:
    world = World()
    key = f"staging/2026-11-24/{'e' * 32}.parquet"
    world.objects.put(key, b"left behind", if_absent=True)
    world.clock.advance_s(HOUR_S)
    lost = 0

    def lose(call: str) -> None:
        nonlocal lost
        lost += call == "items.put"
        if lost == 1:
            raise UnavailableError("items.put", "no reply")

    world.items.on_reply = lose
    assert world.jobs.orphans.run(world.deadline()) == 0
    assert world.objects.keys("staging/") == (key,)
    # The next call judges the orphan again, without waiting a day: by then, the fence is certain.
    assert world.jobs.orphans.run(world.deadline()) == 1


def test_quarantine_older_than_forty_days_is_kept_although_its_commit_has_expired() -> None:
    world = World()
    young, old = "a" * 32, "b" * 32
    world.objects.put(f"quarantine/2026-11-24/{old}.ndjson", b"{}", if_absent=True)
    world.clock.advance_s(41 * DAY_S)
    world.objects.put(f"quarantine/2027-01-04/{young}.ndjson", b"{}", if_absent=True)
    world.clock.advance_s(2 * HOUR_S)
    assert world.jobs.orphans.run(world.deadline()) == 1
    assert world.objects.keys("quarantine/") == (f"quarantine/2026-11-24/{old}.ndjson",)


def test_staging_that_landed_again_after_its_cleaning_goes(world: World) -> None:
    keys = world.objects.keys("staging/")
    bodies = {key: world.objects.get(key) for key in keys}
    world.compact_all()
    world.clock.advance_s(DAY_S)
    world.jobs.cleaner.run(world.deadline())
    for key, body in bodies.items():
        world.objects.put(key, body, if_absent=True)
    world.clock.advance_s(HOUR_S)
    assert world.jobs.orphans.run(world.deadline()) == len(bodies)


def test_an_object_is_judged_once_when_it_is_old_enough(world: World) -> None:
    assert judged(world) == 0
    world.clock.advance_s(HOUR_S + 1)
    assert judged(world) == 2
    world.send([record(19)])
    world.clock.advance_s(HOUR_S - 1)
    assert judged(world) == 0
    world.clock.advance_s(1)
    assert judged(world) == 1
    assert judged(world) == 0


def test_an_orphan_is_gone_two_hours_after_it_was_left() -> None:
    world = World()
    world.jobs.orphans.run(world.deadline())
    for number in range(40):
        world.clock.advance_s(7 * MINUTE_S)
        leave(world, number)
        world.jobs.orphans.run(world.deadline())
        oldest_s = min(world.objects.head(key).modified_s for key in world.objects.keys("staging/"))  # type: ignore[union-attr]  # it is there
        assert world.clock.now_ms() // 1000 - oldest_s <= 2 * HOUR_S + 7 * MINUTE_S


def test_what_landed_behind_the_cursor_goes_within_a_day() -> None:
    world = World()
    key = leave(world, 1)
    now_s = world.clock.now_ms() // 1000
    world.items.put(Put(table=Table.LEDGER, item=OrphanPasses(seen_to_s=now_s + 1, whole_s=now_s).to_item()))
    for _ in range(23):
        world.clock.advance_s(HOUR_S)
        assert world.jobs.orphans.run(world.deadline()) == 0
    assert world.objects.keys("staging/") == (key,)
    world.clock.advance_s(HOUR_S)
    assert world.jobs.orphans.run(world.deadline()) == 1


def test_a_whole_pass_can_be_asked_for(world: World) -> None:
    world.clock.advance_s(HOUR_S)
    assert judged(world) == 2
    assert judged(world) == 0
    assert judged(world, whole=True) == 2


def test_a_pass_that_is_cut_short_goes_on_where_it_stopped() -> None:
    world = World()
    for number in range(250):
        leave(world, number)
    world.clock.advance_s(HOUR_S)
    began_s = world.clock.now_ms() // 1000
    # Each call has time for one block of 100 commits.
    slow = replace(world.jobs.orphans, reserve_ms=10_000_000)
    for left in (150, 50):
        assert slow.run(world.deadline()) == 100
        assert len(world.objects.keys("staging/")) == left
        assert passes(world).began_s == began_s
        world.clock.advance_s(MINUTE_S)
    assert slow.run(world.deadline()) == 50
    assert passes(world) == OrphanPasses(seen_to_s=began_s - HOUR_S, whole_s=began_s)


def test_a_commit_that_cannot_be_read_is_told_at_each_call_and_hinders_no_other(world: World) -> None:
    broken = world.objects.keys("staging/")[0].split("/")[2].removesuffix(".parquet")
    world.items.put(Put(table=Table.LEDGER, item={**commit_key(broken)._asdict(), "state": "lost"}))
    orphan = leave(world, 1)
    world.clock.advance_s(HOUR_S)
    for _ in range(2):
        with pytest.raises(LedgerCorruptError, match=broken):
            world.jobs.orphans.run(world.deadline())
    assert orphan not in world.objects.keys("staging/")
    assert len(world.objects.keys("staging/")) == 2


# Plans: rows that are due, how they are divided into files, and commits that are taken for the last time.


TODAY = NOW_S - NOW_S % HOUR_S
OLDER = TODAY - 3 * DAY_S
POLICY = compaction(file_rows=100, run_rows=300, run_pairs=50)


def entry(name: str, rows: dict[int, int], *, age_s: int = 0, taken: frozenset[int] = frozenset()) -> Pending:
    return Pending(
        shard=0,
        commit_id=name,
        hours=frozenset(rows) - taken,
        totals={hour: Total(count * 10, count) for hour, count in rows.items()},
        created_at_ms=(NOW_S - age_s) * 1000,
    )


def plan(*entries: Pending, closing: frozenset[str] = frozenset()) -> Plan | None:
    return make_plan(0, Backlog(entries), now_s=NOW_S, policy=POLICY, closing=closing)


def test_little_and_young_data_waits() -> None:
    assert plan(entry("a", {TODAY: 99})) is None


def test_a_full_file_is_taken_at_once_and_the_rest_waits() -> None:
    made = plan(entry("a", {TODAY: 60}, age_s=3), entry("b", {TODAY: 60}, age_s=2), entry("c", {TODAY: 1}, age_s=1))
    assert made is not None
    [hour] = made.hours
    assert [file.commits for file in hour.files] == [("a", "b")]
    assert hour.files[0].rows == 120
    assert made.last == ("a", "b")


def test_an_hour_of_today_waits_one_hour_and_an_older_one_a_day() -> None:
    assert plan(entry("a", {TODAY: 1}, age_s=HOUR_S)) is not None
    assert plan(entry("a", {OLDER: 1}, age_s=23 * HOUR_S)) is None
    assert plan(entry("a", {OLDER: 1}, age_s=DAY_S)) is not None


def test_a_closing_month_does_not_wait() -> None:
    assert plan(entry("a", {OLDER: 1}), closing=frozenset(["2026-11"])) is not None
    assert plan(entry("a", {OLDER: 1}), closing=frozenset(["2026-10"])) is None


def test_only_a_commit_whose_every_hour_is_taken_is_taken_for_the_last_time() -> None:
    made = plan(entry("a", {TODAY: 100, OLDER: 1}), entry("b", {TODAY: 100, OLDER: 1}, taken=frozenset([OLDER])))
    assert made is not None
    assert made.commits() == {"a": [TODAY], "b": [TODAY]}
    assert made.last == ("b",)


def test_hours_that_are_not_pending_any_more_are_never_planned() -> None:
    assert plan(entry("a", {TODAY: 500}, taken=frozenset([TODAY]), age_s=DAY_S)) is None


def test_a_run_takes_no_more_than_it_may_but_always_something() -> None:
    made = plan(*(entry(f"c{number}", {TODAY - number * HOUR_S: 200}, age_s=DAY_S) for number in range(4)))
    assert made is not None
    assert len(made.hours) == 1
    huge = plan(entry("a", {TODAY: 10_000}))
    assert huge is not None
    assert huge.hours[0].files[0].rows == 10_000


def test_the_file_names_follow_from_the_run_alone() -> None:
    assert lake_file_key(TODAY, 3, 17, 2) == "lake/dt=2026-11-24/hour=13/3-000000000017-002.parquet"


def test_a_commit_that_still_waits_is_left_out_whole_and_the_wait_is_asked_after_the_list() -> None:
    asked: list[str] = []

    def listed() -> Iterator[Pending]:
        yield entry("a", {TODAY: 1, OLDER: 2}, age_s=90)
        yield entry("b", {TODAY: 3}, age_s=60)
        asked.append("listed")

    def waiting() -> set[str]:
        assert asked == ["listed"]
        return {"a", "of another shard"}

    backlog = Backlog(listed(), waiting)
    assert backlog.commits == {"b": 1}
    assert list(backlog.hours) == [TODAY]
    assert backlog.oldest_ms == (NOW_S - 60) * 1_000
    assert Backlog([]).oldest_ms is None


entries = st.lists(
    st.builds(
        lambda number, rows, age_s: entry(f"c{number}", rows, age_s=age_s),
        st.integers(0, 10_000),
        st.dictionaries(st.sampled_from([TODAY, TODAY - HOUR_S, OLDER]), st.integers(1, 250), min_size=1),
        st.integers(0, 2 * DAY_S),
    ),
    max_size=12,
    unique_by=lambda each: each.commit_id,
)


@given(entries)
def test_every_pair_is_in_one_file_at_most_and_files_hold_what_pending_says(pending: list[Pending]) -> None:
    made = make_plan(0, Backlog(pending), now_s=NOW_S, policy=POLICY)
    if made is None:
        return
    assert Plan.from_json(made.to_json(), "runs/0/a.json") == made
    totals = {(each.commit_id, hour_s): each.totals[hour_s] for each in pending for hour_s in each.hours}
    for hour in made.hours:
        commits = list(hour.commits)
        assert len(commits) == len(set(commits))
        for file in hour.files:
            assert file.rows == sum(totals[commit, hour.hour_s].records for commit in file.commits)
            assert file.bytes == sum(totals[commit, hour.hour_s].bytes for commit in file.commits)


@given(entries)
def test_planning_again_and_again_takes_everything_once(pending: list[Pending]) -> None:
    left = {each.commit_id: each for each in pending}
    taken: set[tuple[str, int]] = set()
    last: list[str] = []
    later_s = NOW_S + 3 * DAY_S
    while made := make_plan(0, Backlog(left.values()), now_s=later_s, policy=POLICY):
        last += made.last
        for commit_id, hours in made.commits().items():
            assert not taken & {(commit_id, hour_s) for hour_s in hours}
            taken |= {(commit_id, hour_s) for hour_s in hours}
            each = left[commit_id]
            rest = each.hours - set(hours)
            if rest:
                left[commit_id] = Pending(shard=0, commit_id=commit_id, hours=rest, totals=each.totals, created_at_ms=0)
            else:
                del left[commit_id]
    assert taken == {(each.commit_id, hour_s) for each in pending for hour_s in each.hours}
    assert sorted(last) == sorted(each.commit_id for each in pending)

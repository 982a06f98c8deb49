"""Plans: what is due, how it is cut into files, and which commits are taken for the last time."""

from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from metering.lake.plan import Backlog, Plan, make_plan
from metering.ledger.booked_hours import Pending
from metering.stores.objects import lake_file_key
from metering.units import DAY_S, HOUR_S
from metering.usage.totals import Total
from tests.support.stage import compaction

NOW_S = 1_795_527_000
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

"""Packing is pure: every batch in one commit, every commit in one transaction."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from metering.commit.packing import Budget, CommitPlan, Shape, plan_commits
from metering.hours import month_bounds_s, month_of, parse_hour
from metering.stores.writes import MAX_TRANSACTION_ACTIONS
from metering.units import HOUR_S
from metering.usage.totals import UsageKey

NOW_S = parse_hour("2026-11-03T10")
ROOMY = Budget(records=10**9, bytes=10**12, keys=10**6)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Batch:
    name: int
    usage_items: frozenset[UsageKey]
    records: int = 1
    decoded_bytes: int = 1
    hours: frozenset[int] = field(default=frozenset())
    original: str = ""

    @property
    def actions(self) -> int:
        return 3 if self.original else 1

    @property
    def markers(self) -> tuple[str, ...]:
        return (f"b{self.name}", self.original) if self.original else (f"b{self.name}",)


def _batch(
    name: int,
    keys: int,
    *,
    hours: int = 1,
    accounts: int = 10**6,
    records: int = 1,
    original: str = "",
    marker: int | None = None,
) -> _Batch:
    spread = [NOW_S - (index % hours) * HOUR_S for index in range(max(keys, hours))]
    usage = frozenset(
        UsageKey(hour_s, str((name * 7 + index) % accounts), f"t{index}", "s", "f", "t").of_day()
        for index, hour_s in enumerate(spread)
    )
    return _Batch(
        name=name if marker is None else marker,
        usage_items=usage,
        hours=frozenset(spread),
        records=records,
        original=original,
    )


def _original(name: int, originals: int) -> str:
    return f"b{name % originals + 30}" if originals and name % originals + 30 != name else ""


def _actions(plan: CommitPlan[_Batch]) -> int:
    hours = {hour_s for batch in plan.batches for hour_s in batch.hours}
    keys = {key for batch in plan.batches for key in batch.usage_items}
    ended = {month_of(hour_s) for hour_s in hours if month_bounds_s(month_of(hour_s))[1] <= NOW_S}
    pointers = 0 if plan.shape is Shape.WIDE_POINTERS else len(hours)
    own = sum(batch.actions for batch in plan.batches)
    return 2 + len(ended) + pointers + own + (len(keys) if plan.shape is Shape.NARROW else 0)


_SIZES = st.lists(
    st.tuples(st.integers(1, 40), st.integers(1, 5), st.integers(1, 30))
    | st.tuples(st.integers(1, 400), st.integers(1, 300), st.integers(1, 1000)),
    max_size=120,
)
_BUDGETS = st.builds(
    Budget, records=st.integers(1, 2000), bytes=st.integers(1, 200), keys=st.integers(1, 2000)
) | st.just(ROOMY)


@given(
    sizes=_SIZES,
    budget=_BUDGETS,
    accounts=st.sampled_from([3, 500, 10**6]),
    originals=st.sampled_from((0, 0, 1, 2, 90)),
)
def test_every_batch_is_in_exactly_one_commit_of_at_most_a_hundred_actions(
    sizes: list[tuple[int, int, int]], budget: Budget, accounts: int, originals: int
) -> None:
    batches = [
        # Of some the other retries are retries, too; of some the other batches are the originals.
        _batch(name, keys, hours=hours, accounts=accounts, records=records, original=_original(name, originals))
        for name, (keys, hours, records) in enumerate(sizes)
    ]
    plans = plan_commits(batches, budget=budget, now_ms=NOW_S * 1000)
    assert [batch.name for plan in plans for batch in plan.batches] == list(range(len(sizes)))
    for plan in plans:
        assert _actions(plan) <= MAX_TRANSACTION_ACTIONS
        markers = [marker for batch in plan.batches for marker in batch.markers]
        assert len(markers) == len(set(markers))
        if len(plan.batches) > 1:
            assert plan.shape is not Shape.WIDE_POINTERS
            assert sum(batch.records for batch in plan.batches) <= budget.records
            assert sum(batch.decoded_bytes for batch in plan.batches) <= budget.bytes
            assert len({key for batch in plan.batches for key in batch.usage_items}) <= budget.keys


def test_nothing_needs_no_commit() -> None:
    assert plan_commits([], budget=ROOMY, now_ms=NOW_S * 1000) == []


def test_few_keys_are_one_narrow_commit() -> None:
    (plan,) = plan_commits([_batch(name, 1) for name in range(48)], budget=ROOMY, now_ms=NOW_S * 1000)
    assert plan.shape is Shape.NARROW
    assert _actions(plan) == 2 + 1 + 48 + 48


def test_shared_keys_count_once() -> None:
    (plan,) = plan_commits([_batch(0, 16, marker=number) for number in range(81)], budget=ROOMY, now_ms=NOW_S * 1000)
    assert plan.shape is Shape.NARROW


def test_two_narrow_commits_are_taken_instead_of_a_wide_one() -> None:
    plans = plan_commits([_batch(name, 16) for name in range(10)], budget=ROOMY, now_ms=NOW_S * 1000)
    assert [(plan.shape, len(plan.batches)) for plan in plans] == [(Shape.NARROW, 5), (Shape.NARROW, 5)]


def test_many_keys_are_a_wide_commit() -> None:
    plans = plan_commits([_batch(name, 16) for name in range(97)], budget=ROOMY, now_ms=NOW_S * 1000)
    assert [(plan.shape, len(plan.batches)) for plan in plans] == [(Shape.WIDE, 97)]


def test_a_wide_commit_never_has_a_hundred_markers() -> None:
    plans = plan_commits([_batch(name, 16) for name in range(100)], budget=ROOMY, now_ms=NOW_S * 1000)
    assert [len(plan.batches) for plan in plans] == [97, 3]


def test_one_batch_with_more_keys_than_fit_is_wide() -> None:
    (plan,) = plan_commits([_batch(0, 500)], budget=ROOMY, now_ms=NOW_S * 1000)
    assert plan.shape is Shape.WIDE


def test_one_batch_with_more_hours_than_fit_writes_its_pointers_ahead_and_is_alone() -> None:
    plans = plan_commits([_batch(0, 1), _batch(1, 1, hours=840), _batch(2, 1)], budget=ROOMY, now_ms=NOW_S * 1000)
    assert [plan.shape for plan in plans] == [Shape.NARROW, Shape.WIDE_POINTERS, Shape.NARROW]


def test_a_batch_over_budget_is_a_commit_of_its_own() -> None:
    small = Budget(records=10, bytes=10, keys=10)
    plans = plan_commits([_batch(0, 1), _batch(1, 1, records=99), _batch(2, 1)], budget=small, now_ms=NOW_S * 1000)
    assert [len(plan.batches) for plan in plans] == [1, 1, 1]


@given(sizes=_SIZES, actions=st.integers(20, 99))
def test_a_smaller_limit_of_actions_holds_for_every_commit(sizes: list[tuple[int, int, int]], actions: int) -> None:
    batches = [_batch(name, keys, hours=hours) for name, (keys, hours, _) in enumerate(sizes)]
    budget = Budget(records=10**9, bytes=10**12, keys=10**6, actions=actions)
    plans = plan_commits(batches, budget=budget, now_ms=NOW_S * 1000)
    assert [batch.name for plan in plans for batch in plan.batches] == list(range(len(sizes)))
    assert all(_actions(plan) <= actions for plan in plans)

"""Packing is a pure function: each batch fits into one commit, and each commit into one transaction (P14)."""

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from metering.commit.deduplication import Candidate, Content, Copy
from metering.commit.transaction import Budget, CommitPlan, book, build_commit, plan_commits
from metering.hours import month_bounds_s, month_of, parse_hour
from metering.stores.writes import MAX_TRANSACTION_ACTIONS, Put, item_bytes
from metering.units import HOUR_S, MIB
from metering.usage.totals import Service, Total, UsageKey, UsageType
from tests.support.small_world import delivery
from tests.support.stage import settings
from tests.support.verdicts import decoded_batch

NOW_S = parse_hour("2026-11-03T10")
ROOMY = Budget(records=10**9, bytes=10**12)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Batch:
    name: int
    records: int = 1
    decoded_bytes: int = 1
    fixed_bytes: int = 1
    hours: frozenset[int] = field(default=frozenset())
    original: str = ""

    @property
    def actions(self) -> int:
        return 3 if self.original else 1

    @property
    def markers(self) -> tuple[str, ...]:
        return (f"b{self.name}", self.original) if self.original else (f"b{self.name}",)


def _batch(name: int, *, hours: int = 1, records: int = 1, original: str = "") -> _Batch:
    spread = frozenset(NOW_S - index * HOUR_S for index in range(hours))
    return _Batch(name=name, hours=spread, records=records, original=original)


def _original(name: int, originals: int) -> str:
    return f"b{name % originals + 30}" if originals and name % originals + 30 != name else ""


def _actions(plan: CommitPlan[_Batch]) -> int:
    months = {month_of(hour_s) for batch in plan.batches for hour_s in batch.hours}
    ended = [month for month in months if month_bounds_s(month)[1] <= NOW_S]
    return 2 + len(ended) + sum(batch.actions for batch in plan.batches)


_SIZES = st.lists(st.tuples(st.integers(1, 900), st.integers(1, 1_000)), max_size=220)
_BUDGETS = st.builds(
    Budget, records=st.integers(1, 2_000), bytes=st.integers(1, 200), items_bytes=st.integers(1, 3 * MIB)
) | st.just(ROOMY)


@given(sizes=_SIZES, budget=_BUDGETS, originals=st.sampled_from((0, 0, 1, 2, 90)))
def test_every_batch_is_in_exactly_one_commit_of_at_most_a_hundred_actions(
    sizes: list[tuple[int, int]], budget: Budget, originals: int
) -> None:
    batches = [
        # Some retries have other retries as their originals, and some have the other batches.
        _batch(name, hours=hours, records=records, original=_original(name, originals))
        for name, (hours, records) in enumerate(sizes)
    ]
    plans = plan_commits(batches, budget=budget, now_ms=NOW_S * 1000)
    assert [batch.name for plan in plans for batch in plan.batches] == list(range(len(sizes)))
    for plan in plans:
        assert _actions(plan) <= MAX_TRANSACTION_ACTIONS
        markers = [marker for batch in plan.batches for marker in batch.markers]
        assert len(markers) == len(set(markers))
        if len(plan.batches) > 1:
            assert sum(batch.records for batch in plan.batches) <= budget.records
            assert sum(batch.decoded_bytes for batch in plan.batches) <= budget.bytes


@given(sizes=_SIZES, actions=st.integers(5, 99))
def test_a_smaller_limit_of_actions_holds_for_every_commit(sizes: list[tuple[int, int]], actions: int) -> None:
    batches = [_batch(name, hours=hours) for name, (hours, _) in enumerate(sizes)]
    budget = Budget(records=10**9, bytes=10**12, actions=actions)
    plans = plan_commits(batches, budget=budget, now_ms=NOW_S * 1000)
    assert [batch.name for plan in plans for batch in plan.batches] == list(range(len(sizes)))
    assert all(_actions(plan) <= actions for plan in plans)


def test_nothing_needs_no_commit() -> None:
    assert plan_commits([], budget=ROOMY, now_ms=NOW_S * 1000) == []


def test_ninety_eight_batches_of_this_month_are_one_commit_whatever_their_hours() -> None:
    plans = plan_commits([_batch(name, hours=50) for name in range(100)], budget=ROOMY, now_ms=NOW_S * 1000)
    assert [len(plan.batches) for plan in plans] == [98, 2]


def test_each_ended_month_takes_the_place_of_a_batch() -> None:
    plans = plan_commits([_batch(name, hours=840) for name in range(100)], budget=ROOMY, now_ms=NOW_S * 1000)
    # 840 hours before 3 November extend into September.
    assert {_actions(plan) - len(plan.batches) for plan in plans} == {2 + 2}


def test_a_batch_over_budget_is_a_commit_of_its_own() -> None:
    small = Budget(records=10, bytes=10)
    plans = plan_commits([_batch(0), _batch(1, records=99), _batch(2)], budget=small, now_ms=NOW_S * 1000)
    assert [len(plan.batches) for plan in plans] == [1, 1, 1]


def _long_batch(number: int) -> Candidate:
    """A batch with all hours of the window, the largest record totals, and the longest names."""
    usage = {
        UsageKey(NOW_S - hour * HOUR_S, "a", UsageType("t"), Service("s"), "f", "t"): Total(10**18, 10**6)
        for hour in range(840)
    }
    text = f"{number:03d}" + "\N{SNOWMAN}" * 125
    made = decoded_batch(text, source_id=text, sequence=10**18, sender_id=text, records=10**6, usage=usage)
    copy = Copy(delivery=delivery(message=str(number)), batch=made, ticket=number)
    return Candidate(content=Content(copies=[copy]), batch=made)


def test_items_of_the_longest_batches_are_less_than_a_transaction_takes() -> None:
    booked = [book(_long_batch(number), closed=(), now_s=NOW_S) for number in range(200)]
    plans = plan_commits(booked, budget=ROOMY, now_ms=NOW_S * 1000)
    assert len(plans) > 3
    sizes = []
    for plan in plans:
        body = build_commit(plan, "c" * 32, settings=settings())
        sizes.append(sum(item_bytes(action.item) for action in body.actions if isinstance(action, Put)))
    assert max(sizes) < 4 * MIB
    # The estimate is an upper bound, and close to the actual size.
    assert min(sizes[:-1]) > MIB

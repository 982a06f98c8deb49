"""A token asks in bursts and at a steady rate, and no more often; other tokens are not concerned."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from metering.api import authentication as module
from metering.api.authentication import Limiter
from tests.support.memory.clock import ManualClock

NOW_MS = 1_800_000_000_000


def limiter(clock: ManualClock, *, rate_per_s: float = 5.0, burst: int = 20) -> Limiter:
    return Limiter(rate_per_s=rate_per_s, burst=burst, clock=clock)


def let_in(door: Limiter, token_id: str, asked: int) -> int:
    return sum(door.wait_s(token_id) == 0 for _ in range(asked))


def test_a_burst_is_let_in_and_no_more() -> None:
    door = limiter(ManualClock(NOW_MS))
    assert let_in(door, "a", 100) == 20
    assert let_in(door, "b", 100) == 20


def test_the_bucket_fills_at_the_rate() -> None:
    clock = ManualClock(NOW_MS)
    door = limiter(clock)
    let_in(door, "a", 20)
    clock.advance_s(1)
    assert let_in(door, "a", 100) == 5
    clock.advance_s(3600)
    assert let_in(door, "a", 100) == 20


def test_whoever_waits_as_long_as_was_said_is_let_in() -> None:
    for rate_per_s in (5.0, 0.3, 1000.0):
        clock = ManualClock(NOW_MS)
        door = limiter(clock, rate_per_s=rate_per_s, burst=2)
        let_in(door, "a", 3)
        wait_s = door.wait_s("a")
        assert wait_s >= 1
        clock.advance_s(wait_s)
        assert door.wait_s("a") == 0


def test_a_refused_request_counts_nothing() -> None:
    clock = ManualClock(NOW_MS)
    door = limiter(clock)
    let_in(door, "a", 1000)
    clock.sleep_ms(200)
    assert let_in(door, "a", 10) == 1


def test_a_clock_that_is_set_back_shuts_nobody_out() -> None:
    clock = ManualClock(NOW_MS)
    door = limiter(clock)
    let_in(door, "a", 20)
    clock.advance_s(-86_400)
    assert door.wait_s("a") == 1
    clock.advance_s(4)
    assert let_in(door, "a", 100) == 20


def test_memory_is_bounded() -> None:
    door = limiter(ManualClock(NOW_MS))
    for number in range(module.MOST_TOKENS + 10):
        door.wait_s(str(number))
    assert len(door._full_at_ms) == module.MOST_TOKENS


@settings(max_examples=100, deadline=None)
@given(
    pauses_ms=st.lists(st.integers(0, 3000), min_size=1, max_size=80),
    rate_per_s=st.sampled_from([0.5, 1.0, 3.0, 5.0, 7.0]),
    burst=st.integers(1, 20),
)
def test_no_span_of_time_lets_in_more_than_burst_and_rate(pauses_ms: list[int], rate_per_s: float, burst: int) -> None:
    clock = ManualClock(NOW_MS)
    door = limiter(clock, rate_per_s=rate_per_s, burst=burst)
    moments = []
    for pause_ms in pauses_ms:
        clock.sleep_ms(pause_ms)
        if door.wait_s("a") == 0:
            moments.append(clock.now_ms())
    for first, from_ms in enumerate(moments):
        for last in range(first, len(moments)):
            span_s = (moments[last] - from_ms) / 1000
            assert last - first + 1 <= burst + rate_per_s * span_s + 1e-6

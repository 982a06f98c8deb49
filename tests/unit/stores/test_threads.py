"""Parallel calls: results are in order, no call starts after an error, and no call is left running."""

import threading
import time
from collections.abc import Iterator

import pytest

from metering.errors import LedgerCorruptError, UnavailableError
from metering.stores.clock import Retrier, do_all, side_by_side
from metering.stores.writes import Value, item_bytes, value_bytes
from tests.support.memory.clock import ManualClock, SeededEntropy


@pytest.mark.parametrize("threads", [1, 2, 7])
def test_results_come_in_the_order_of_the_things(threads: int) -> None:
    def slower_first(number: int) -> int:
        time.sleep(0.002 * (5 - number % 5))
        return number * 10

    assert list(side_by_side(slower_first, range(40), threads=threads)) == [10 * number for number in range(40)]


def test_with_one_thread_each_call_is_made_in_the_callers_thread_when_it_is_asked_for() -> None:
    made: list[tuple[int, int]] = []
    results = side_by_side(lambda number: made.append((number, threading.get_ident())), range(3), threads=1)
    next(results)
    assert made == [(0, threading.get_ident())]


def test_at_most_so_many_calls_are_made_at_the_same_time() -> None:
    lock, now, most = threading.Lock(), 0, 0

    def call(_: int) -> None:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.005)
        with lock:
            now -= 1

    assert do_all(call, range(30), threads=3) == 30
    assert most == 3


@pytest.mark.parametrize("threads", [1, 3])
def test_after_an_error_nothing_begins_and_it_is_raised_when_what_had_begun_has_ended(threads: int) -> None:
    begun: list[int] = []
    ended: list[int] = []

    def call(number: int) -> None:
        begun.append(number)
        if number == 4:
            raise LookupError
        time.sleep(0.005)
        ended.append(number)

    with pytest.raises(LookupError):
        do_all(call, range(1_000), threads=threads)
    assert len(begun) < 4 + 4 * threads
    assert sorted([*ended, 4]) == sorted(begun)
    time.sleep(0.02)
    assert len(begun) == len(ended) + 1


def test_things_are_taken_no_further_ahead_than_results_wait_in_memory() -> None:
    taken = 0

    def things() -> Iterator[int]:
        nonlocal taken
        for number in range(1_000):
            taken += 1
            yield number

    results = side_by_side(lambda number: number, things(), threads=4)
    next(results)
    assert taken <= 2 * 4


# The retry policy: only unavailable calls are repeated, a limited number of times, and only while this is allowed.


class Operation:
    """An operation that raises UnavailableError `failures` times, then returns."""

    def __init__(self, failures: int) -> None:
        self.calls = 0
        self._failures = failures

    def __call__(self) -> int:
        self.calls += 1
        if self.calls <= self._failures:
            raise UnavailableError("Operation", f"failure {self.calls}")
        return self.calls


def _retrier(clock: ManualClock) -> Retrier:
    return Retrier(clock=clock, entropy=SeededEntropy(1), attempts=4)


def test_an_operation_is_called_until_it_answers_with_a_pause_after_each_failure() -> None:
    clock = ManualClock(0)
    assert _retrier(clock).call(Operation(3)) == 4
    assert 3 <= clock.now_ms() <= 50 + 100 + 200


def test_the_last_failure_is_raised_at_once() -> None:
    clock = ManualClock(0)
    operation = Operation(9)
    with pytest.raises(UnavailableError, match="failure 4"):
        _retrier(clock).call(operation)
    assert operation.calls == 4
    assert clock.now_ms() <= 50 + 100 + 200


def test_a_caller_that_has_no_time_left_gets_the_failure_without_a_pause() -> None:
    clock = ManualClock(0)
    answers = iter([True, False])
    operation = Operation(9)
    with pytest.raises(UnavailableError, match="failure 2"):
        _retrier(clock).call(operation, go_on=lambda: next(answers))
    assert operation.calls == 2
    assert 1 <= clock.now_ms() <= 50


def test_the_caller_is_not_asked_after_the_last_failure() -> None:
    asked: list[bool] = []

    def go_on() -> bool:
        asked.append(True)
        return True

    with pytest.raises(UnavailableError):
        _retrier(ManualClock(0)).call(Operation(9), go_on=go_on)
    assert len(asked) == 3


def test_any_other_error_is_raised_at_once() -> None:
    calls: list[bool] = []

    def corrupt() -> None:
        calls.append(True)
        raise LedgerCorruptError("two verdicts")

    with pytest.raises(LedgerCorruptError):
        _retrier(ManualClock(0)).call(corrupt)
    assert calls == [True]


# Item sizes by the rules of DynamoDB's developer guide.


@pytest.mark.parametrize(
    ("value", "size"),
    [
        ("", 0),
        ("abc", 3),
        ("\u20ac", 3),
        (True, 1),
        (0, 1),
        (7, 2),
        (1_000_000, 2),
        (12_345, 4),
        (-12_345, 5),
        (10**38 - 1, 20),
        (frozenset({"ab", "c"}), 3),
        ([], 3),
        (["a", "bc"], 8),
        ({}, 3),
        ({"k": "v", "n": [1]}, 3 + 3 + 2 + 3 + 1 + 2),
    ],
    # Cases are named by position: the text of a set has no fixed order, and the workers of one run must agree on names.
    ids=[f"value{number}" for number in range(15)],
)
def test_a_value_weighs_what_the_guide_says(value: Value, size: int) -> None:
    assert value_bytes(value) == size


def test_names_count() -> None:
    assert item_bytes({"pk": "B#1", "sk": "M", "\u20ac": 7}) == (2 + 3) + (2 + 1) + (3 + 2)

"""Calls side by side: results in order, no call after an error, and nothing behind the caller's back."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest

from metering.stores.clock import do_all, side_by_side

if TYPE_CHECKING:
    from collections.abc import Iterator


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

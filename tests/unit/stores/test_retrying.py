"""The retry policy: only what is unavailable is called again, a bounded number of times, and only while it may."""

from __future__ import annotations

import pytest

from metering.errors import LedgerCorruptError, UnavailableError
from metering.stores.clock import Retrier
from tests.support.memory.clock import ManualClock
from tests.support.memory.entropy import SeededEntropy


class Operation:
    """Unavailable a number of times, then answers."""

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

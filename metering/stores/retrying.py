"""Doing the same thing again, with jitter, a bounded number of times."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from metering.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable

    from metering.stores.clock import Clock, Entropy

T = TypeVar("T")

_FIRST_PAUSE_MS = 50
_LONGEST_PAUSE_MS = 1_000


class Retrier:
    """How often and how long to wait for something that is unavailable."""

    def __init__(self, *, clock: Clock, entropy: Entropy, attempts: int) -> None:
        self.attempts = attempts
        self._clock = clock
        self._entropy = entropy

    def pause(self, failures: int) -> None:
        """Wait after failure number `failures` (from 1): full jitter, the limit doubling from 50 ms to 1 s."""
        limit_ms = min(_FIRST_PAUSE_MS << (failures - 1), _LONGEST_PAUSE_MS)
        self._clock.sleep_ms(1 + self._entropy.below(limit_ms))

    def call(self, operation: Callable[[], T]) -> T:
        """Do something that may safely be done again.

        Raises:
            UnavailableError: It was unavailable `attempts` times.
        """
        failures = 0
        while True:
            try:
                return operation()
            except UnavailableError:
                failures += 1
                if failures >= self.attempts:
                    raise
            self.pause(failures)

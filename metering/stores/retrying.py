"""Retries of an unavailable dependency, with jitter and a bounded number of attempts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from metering.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable

    from metering.stores.clock import Clock, Entropy

T = TypeVar("T")

_FIRST_PAUSE_MS = 50
_LONGEST_PAUSE_MS = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Retrier:
    """The one retry policy: how often an unavailable dependency is called again, and how long to wait before that.

    Attributes:
        attempts: Most calls of one operation, the first one included.
    """

    clock: Clock
    entropy: Entropy
    attempts: int

    def pause(self, failures: int) -> None:
        """Wait after failure number `failures` (from 1): full jitter, the limit doubling from 50 ms to 1 s."""
        limit_ms = min(_FIRST_PAUSE_MS << (failures - 1), _LONGEST_PAUSE_MS)
        self.clock.sleep_ms(1 + self.entropy.below(limit_ms))

    def call(self, operation: Callable[[], T], *, go_on: Callable[[], bool] = lambda: True) -> T:
        """Call an operation that may safely be called again, until it has an answer.

        Args:
            operation: Operation to call.
            go_on: Asked after each failure but the last one; if it says no, the failure is raised.

        Raises:
            UnavailableError: It was unavailable `attempts` times, or `go_on` said no.
        """
        failures = 0
        while True:
            try:
                return operation()
            except UnavailableError:
                failures += 1
                if failures >= self.attempts or not go_on():
                    raise
            self.pause(failures)

"""A clock that moves only when it is told to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from metering.intake.ports import Allowance

if TYPE_CHECKING:
    from metering.stores.clock import Clock


class ManualClock:
    """A `Clock` at `now_ms` epoch milliseconds; sleeping moves it."""

    def __init__(self, now_ms: int) -> None:
        self._now_ms = now_ms

    def now_ms(self) -> int:
        return self._now_ms

    def sleep_ms(self, duration_ms: int) -> None:
        self._now_ms += duration_ms

    def advance_s(self, duration_s: int) -> None:
        """Let time pass."""
        self._now_ms += duration_s * 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadlineAt:
    """A `Deadline` at a moment of a clock."""

    clock: Clock
    at_ms: int

    def remaining_ms(self) -> int:
        return self.at_ms - self.clock.now_ms()


class EndlessTime:
    """A `Deadline` that never comes."""

    def remaining_ms(self) -> int:
        return 1_000_000_000


UNHURRIED = Allowance(until=EndlessTime(), final=False)
"""Reads a delivery however long it takes."""

"""Clock and deadlines of simulated time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from metering.intake.batches import Allowance

if TYPE_CHECKING:
    from metering.stores.clock import Clock


class ManualClock:
    """`Clock` that starts at `now_ms` epoch milliseconds. Only `sleep_ms` and `advance_s` advance it."""

    def __init__(self, now_ms: int) -> None:
        self._now_ms = now_ms

    def now_ms(self) -> int:
        return self._now_ms

    def sleep_ms(self, duration_ms: int) -> None:
        self._now_ms += duration_ms

    def advance_s(self, duration_s: int) -> None:
        """Move the clock on."""
        self._now_ms += duration_s * 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadlineAt:
    """`Deadline` at the epoch millisecond `at_ms` of a clock."""

    clock: Clock
    at_ms: int

    def remaining_ms(self) -> int:
        return self.at_ms - self.clock.now_ms()


class EndlessTime:
    """`Deadline` that never comes."""

    def remaining_ms(self) -> int:
        return 1_000_000_000


UNHURRIED = Allowance(until=EndlessTime(), final=False)
"""Allowance without a limit of time."""

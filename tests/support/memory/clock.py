"""Clock, deadlines, random names, counters and alerts of an in-memory region."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from metering.intake.batches import Allowance

if TYPE_CHECKING:
    from collections.abc import Mapping

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


class SeededEntropy:
    """`Entropy` that returns the same names in the same order for the same seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def token(self) -> str:
        return f"{self._random.getrandbits(128):032x}"

    def below(self, limit: int) -> int:
        return self._random.randrange(limit)


class MemoryMetrics:
    """`Metrics` that stores its counters: `counts` by name, `by_dimensions` by name and sorted dimensions."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.by_dimensions: Counter[tuple[str, tuple[tuple[str, str], ...]]] = Counter()

    def count(self, name: str, value: int = 1, **dimensions: str) -> None:
        self.counts[name] += value
        if dimensions:
            self.by_dimensions[name, tuple(sorted(dimensions.items()))] += value


@dataclass(frozen=True, slots=True, kw_only=True)
class SentAlert:
    severity: str
    subject: str
    fields: Mapping[str, str | int]


class MemoryAlerts:
    """`Alerts` that stores each alert, in the order of sending."""

    def __init__(self) -> None:
        self.sent: list[SentAlert] = []

    def send(self, severity: str, subject: str, fields: Mapping[str, str | int]) -> None:
        self.sent.append(SentAlert(severity=severity, subject=subject, fields=dict(fields)))

"""Ports of time and chance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


class Clock(Protocol):
    """Wall clock. Safety rests on it only where docs/protocol.md says so (marker life, 72 h before a period closes)."""

    def now_ms(self) -> int:
        """The time now, in epoch milliseconds."""
        ...

    def sleep_ms(self, duration_ms: int) -> None:
        """Wait."""
        ...


class Entropy(Protocol):
    """Source of fresh names and jitter."""

    def token(self) -> str:
        """A name never used before: 32 lower-case hex digits."""
        ...

    def below(self, limit: int) -> int:
        """A uniform integer, 0 <= n < `limit`."""
        ...


class Deadline(Protocol):
    """Time that is left to an invocation."""

    def remaining_ms(self) -> int:
        """Milliseconds until the process is stopped; 0 or less after that."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlierDeadline:
    """A `Deadline` that is `before_ms` earlier than another one."""

    deadline: Deadline
    before_ms: int

    def remaining_ms(self) -> int:
        return self.deadline.remaining_ms() - self.before_ms

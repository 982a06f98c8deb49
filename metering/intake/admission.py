"""The admission window: the times of records that are admitted (docs/decisions/0003-identity-and-window.md)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from metering.units import DAY_S

if TYPE_CHECKING:
    from metering.settings import Policy

# A clock may be wrong by a day before a marker is gone too early.
_MARKER_MARGIN_S = DAY_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """The admission window in force at processing.

    Attributes:
        window_s: Longest time by which a record's `start` may precede the message's SentTimestamp.
        ahead_s: Longest time by which `start` may follow it.
        floor_s: Records that start before this epoch second are too late even inside the window; 0 in a new stage. It
            is set when the window is widened, and never moved back, because markers of older batches may be gone.
    """

    window_s: int
    ahead_s: int
    floor_s: int

    @classmethod
    def of(cls, policy: Policy) -> Admission:
        """Window of a stage's policy."""
        return cls(window_s=policy.window_s, ahead_s=policy.ahead_s, floor_s=policy.admission_floor_s)

    def refusal(self, start_s: int, sent_at_ms: int) -> str | None:
        """Reason to refuse a record that starts at `start_s` (`too_late`, `in_the_future`); None if it is admitted."""
        sent_at_s = sent_at_ms // 1000
        if start_s < max(sent_at_s - self.window_s, self.floor_s):
            return "too_late"
        if start_s > sent_at_s + self.ahead_s:
            return "in_the_future"
        return None


def shortest_marker_life_s(window_s: int, retention_s: int) -> int:
    """How long a marker must live at least, so that it outlives the last copy of its batch by a margin.

    Args:
        window_s: Admission window: a copy that is sent later is too late.
        retention_s: How long a copy can stay in a queue. A redrive starts another full retention of the queue.
    """
    return window_s + retention_s + _MARKER_MARGIN_S

"""Which records are admitted, by time (docs/decisions/0003-identity-and-window.md)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from metering.settings import Policy


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """The admission window in force at processing.

    Attributes:
        window_s: How old a record's `start` may be, against the message's SentTimestamp.
        ahead_s: How far ahead of it `start` may be.
        floor_s: Records that start before this are too late whatever the window says; 0 in a new stage. Set when the
            window is widened, and never moved back: markers of older batches may be gone.
    """

    window_s: int
    ahead_s: int
    floor_s: int

    @classmethod
    def of(cls, policy: Policy) -> Admission:
        """The window that a stage's policy says."""
        return cls(window_s=policy.window_s, ahead_s=policy.ahead_s, floor_s=policy.admission_floor_s)

    def refusal(self, start_s: int, sent_at_ms: int) -> str | None:
        """`too_late`, `in_the_future`, or None if a record that starts at `start_s` is admitted."""
        sent_at_s = sent_at_ms // 1000
        if start_s < max(sent_at_s - self.window_s, self.floor_s):
            return "too_late"
        if start_s > sent_at_s + self.ahead_s:
            return "in_the_future"
        return None

"""Throttles (P17): what a worker does while the tables are short of writes.

A throttled transaction is sent again a few times, then its batches go back to the queue, whole. Halving it would ask
for more writes just then, and each half would leave another object behind. After such a throttle the worker writes
nothing for some seconds. Then it sends that very transaction once more, whose objects are there already: if it lands,
its batches are accepted, and their messages are duplicates when they come back. Until one gets through, messages go
back to the queue without an object and without a write.

Every receive counts against a message, and a long throttle must not make dead letters. So a message that goes back for
a throttle is hidden for minutes, and for longer if it was received before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from metering.commit.transaction import CommitBody
    from metering.stores.clock import Clock, Entropy

# First and longest pause of a worker.
_FIRST_MS = 10_000
_LONGEST_MS = 20_000
# Least and longest time that a message is hidden after its first, second … receive. The first is longer than a minute
# and a pause, so a throttle of a minute costs a message one receive. Six (a stage's dead letters have seven) last
# longer than half an hour. None is longer than the queue hides a message by itself (420 s): whoever looks for the
# oldest message relies on that (metering.audit.undecided).
_HIDDEN_S = ((90, 180), (300, 420), (390, 420))


class ThrottleMemory:
    """Remembers a throttle from one transaction, and one invocation, to the next.

    A plain class: that memory is all it is.
    """

    def __init__(self, *, clock: Clock, entropy: Entropy) -> None:
        self._clock = clock
        self._entropy = entropy
        self._body: CommitBody | None = None
        self._pause_ms = 0
        self._until_ms = 0

    @property
    def body(self) -> CommitBody | None:
        """The commit that was throttled to its end; None if what was sent last got through."""
        return self._body

    @property
    def pausing(self) -> bool:
        """Whether nothing should be tried now."""
        return self._clock.now_ms() < self._until_ms

    def throttled(self, body: CommitBody) -> None:
        """A commit was throttled each time it was tried."""
        # The first one is kept: while it waits, no other has its objects written.
        self._body = self._body or body
        self._pause_ms = min(2 * self._pause_ms or _FIRST_MS, _LONGEST_MS)
        # Half of it is jitter, so that workers do not try together.
        half_ms = self._pause_ms // 2
        self._until_ms = self._clock.now_ms() + half_ms + self._entropy.below(half_ms)

    def got_through(self) -> None:
        """The table judged a transaction."""
        self._body = None
        self._pause_ms = self._until_ms = 0


def hidden_s(receive_count: int, entropy: Entropy) -> int:
    """Seconds for which a message is hidden that a throttle sends back; `receive_count` is 1 or more."""
    least_s, longest_s = _HIDDEN_S[min(receive_count, len(_HIDDEN_S)) - 1]
    return least_s + entropy.below(longest_s - least_s)

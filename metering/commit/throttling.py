"""Throttling (P17): how a worker reacts if tables lack write capacity.

A throttled transaction is retried a few times; after that, all its batches return to the queue. Halving the transaction
would request more writes at the worst time, and each half would leave another object behind. After such a throttle, the
worker writes nothing for some seconds. Then it sends the same transaction again, because the objects of this
transaction already exist. If the transaction succeeds, its batches are accepted, and their redelivered messages are
duplicates. Until a transaction gets through, messages return to the queue, and no object or item is written for them.

Every receive counts against a message, but a long throttle must not turn messages into dead letters. A message that
returns because of a throttle is therefore hidden for minutes, and for longer if it was received before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from metering.intake.batches import Allowance
from metering.stores.clock import Clock, Deadline, EarlierDeadline, Entropy

if TYPE_CHECKING:
    from metering.commit.transaction import CommitBody
    from metering.stores.queues import Delivery


# A worker's first and longest pause after a throttle.
_FIRST_MS = 10_000
_LONGEST_MS = 20_000
# Minimum and maximum time for which a message stays hidden after its first, second and later receives. The first time
# exceeds a minute plus a pause, so a throttle that lasts a minute costs a message one receive. Six receives take longer
# than half an hour (a stage's messages become dead letters after seven). No time exceeds the queue's visibility timeout
# (450 s), which the search for the oldest message assumes (metering.audit.freshness).
_HIDDEN_S = ((90, 180), (300, 420), (390, 420))


class ThrottleMemory:
    """Remembers a throttle across transactions and across invocations.

    This class is not a dataclass, because this memory is its only purpose.
    """

    def __init__(self, *, clock: Clock, entropy: Entropy) -> None:
        self._clock = clock
        self._entropy = entropy
        self._body: CommitBody | None = None
        self._pause_ms = 0
        self._until_ms = 0

    @property
    def body(self) -> CommitBody | None:
        """The commit whose last attempt was throttled; None if the last transaction was not throttled."""
        return self._body

    @property
    def pausing(self) -> bool:
        """Whether the worker pauses: no transaction should be attempted now."""
        return self._clock.now_ms() < self._until_ms

    def throttled(self, body: CommitBody) -> None:
        """Record that a commit was throttled at every attempt."""
        # Only the first transaction is kept: no other staging objects are written until this transaction gets through.
        self._body = self._body or body
        self._pause_ms = min(2 * self._pause_ms or _FIRST_MS, _LONGEST_MS)
        # Half of the pause is jitter, so that workers do not retry together.
        half_ms = self._pause_ms // 2
        self._until_ms = self._clock.now_ms() + half_ms + self._entropy.below(half_ms)

    def got_through(self) -> None:
        """Record that a transaction was not throttled, but applied or refused."""
        self._body = None
        self._pause_ms = self._until_ms = 0


def hidden_s(receive_count: int, entropy: Entropy) -> int:
    """Seconds for which a message that a throttle returns is hidden; `receive_count` is 1 or more."""
    least_s, longest_s = _HIDDEN_S[min(receive_count, len(_HIDDEN_S)) - 1]
    return least_s + entropy.below(longest_s - least_s)


# Shares of an invocation's time, so that no delivery uses up the time of the other deliveries.
#
# A delivery that is read together with others gets a quarter of the remaining time, and a suspect gets half. So the
# first slow delivery leaves most of the time to the others, the tenth still leaves some, and quick deliveries are not
# affected. A slow delivery returns to the queue and soon becomes a suspect, which is read last, with more time.


ALONE_FROM_RECEIVE = 3
"""From this receive on, a message is handled alone and last. If it kills its worker, it takes no others with it."""
REFUSED_FROM_RECEIVE = 4
"""From this receive on, a message that takes longer than a fair share is refused. It had its second chance alone."""

_TOGETHER_PARTS = 4
_ALONE_PARTS = 2


class Shares:
    """Divides the time of an invocation among its deliveries.

    This class is not a dataclass, because time is measured from its creation.

    Args:
        deadline: Of the invocation.
        reserve_ms: Time reserved for the commits. If less time is left, no further delivery is read.
    """

    def __init__(self, deadline: Deadline, reserve_ms: int) -> None:
        self._deadline = deadline
        self._reserve_ms = reserve_ms
        # Time that the first suspect gets on any machine. If a delivery's share of the remaining time is smaller, slow
        # reading is no reason to refuse the message.
        self._fair_ms = self._usable_ms() // _TOGETHER_PARTS

    def of(self, delivery: Delivery) -> Allowance | None:
        """Time in which a delivery may be read now; None if too little time is left to begin."""
        usable_ms = self._usable_ms()
        if usable_ms < 0:
            return None
        suspect = delivery.receive_count >= ALONE_FROM_RECEIVE
        share_ms = usable_ms // (_ALONE_PARTS if suspect else _TOGETHER_PARTS)
        return Allowance(
            until=EarlierDeadline(deadline=self._deadline, before_ms=self._reserve_ms + usable_ms - share_ms),
            final=delivery.receive_count >= REFUSED_FROM_RECEIVE and share_ms >= self._fair_ms,
        )

    def of_notes(self) -> Deadline:
        """Deadline for writing notes of messages before any message is read: the time share of one delivery."""
        usable_ms = self._usable_ms()
        return EarlierDeadline(
            deadline=self._deadline, before_ms=self._reserve_ms + usable_ms - usable_ms // _TOGETHER_PARTS
        )

    def _usable_ms(self) -> int:
        return self._deadline.remaining_ms() - self._reserve_ms

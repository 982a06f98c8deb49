"""Shares of an invocation's time, so that one delivery never takes the time of its neighbours.

A delivery that is read with others gets a quarter of the time that is left then, a suspect gets half of it. So the
first slow delivery leaves most of the time to the others, the tenth still leaves some, and quick deliveries notice
nothing. A slow delivery goes back to the queue, and soon is a suspect: it is read after all others, with more time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from metering.intake.ports import Allowance
from metering.stores.clock import EarlierDeadline

if TYPE_CHECKING:
    from metering.stores.clock import Deadline
    from metering.stores.deliveries import Delivery

ALONE_FROM_RECEIVE = 3
"""From this receive on, a message is handled alone and last. If it kills its worker, it takes no others with it."""
REFUSED_FROM_RECEIVE = 4
"""From this receive on, a message that takes longer than a fair share is refused. It had its second chance alone."""

_TOGETHER_PARTS = 4
_ALONE_PARTS = 2


class Shares:
    """Shares the time of one invocation.

    A plain class, because it measures that time when it is made.

    Args:
        deadline: Of the invocation.
        reserve_ms: Time kept for the commits. No delivery is read when less is left.
    """

    def __init__(self, deadline: Deadline, reserve_ms: int) -> None:
        self._deadline = deadline
        self._reserve_ms = reserve_ms
        # The share that the first suspect can count on, on any machine. A smaller share is no reason to refuse a
        # message.
        self._fair_ms = self._usable_ms() // _TOGETHER_PARTS

    def of(self, delivery: Delivery) -> Allowance | None:
        """Time that a delivery may take now; None if there is no time left to begin."""
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
        """Deadline for notes of messages, which are written before any message is read: one delivery's share."""
        usable_ms = self._usable_ms()
        return EarlierDeadline(
            deadline=self._deadline, before_ms=self._reserve_ms + usable_ms - usable_ms // _TOGETHER_PARTS
        )

    def _usable_ms(self) -> int:
        return self._deadline.remaining_ms() - self._reserve_ms

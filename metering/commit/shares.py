"""How an invocation's time is shared, so that one delivery never takes that of its neighbours.

Deliveries that are read together get a quarter each of what is then left, suspects a half. So the first one that is
too slow leaves most of the time to the others, the tenth one still leaves some, and whoever is quick never notices.
What was too slow goes back, and is a suspect soon: it is read again behind all others, with more time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from metering.intake.ports import Allowance

if TYPE_CHECKING:
    from metering.stores.clock import Deadline
    from metering.stores.deliveries import Delivery

ALONE_FROM_RECEIVE = 3
"""From this receive on a message is handled alone and last: one that kills its worker takes no others with it."""
REFUSED_FROM_RECEIVE = 4
"""From this receive on a message is refused that takes longer than a fair share: it had its second chance alone."""

_TOGETHER_PARTS = 4
_ALONE_PARTS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class _Until:
    """A `Deadline` so long before another one."""

    deadline: Deadline
    before_ms: int

    def remaining_ms(self) -> int:
        return self.deadline.remaining_ms() - self.before_ms


class Shares:
    """Shares the time of one invocation.

    Args:
        deadline: Of the invocation.
        reserve_ms: What it keeps for its commits: no delivery is read with less left.
    """

    def __init__(self, deadline: Deadline, reserve_ms: int) -> None:
        self._deadline = deadline
        self._reserve_ms = reserve_ms
        # What the first of a few suspects can count on, on any machine: less is no reason to refuse anything.
        self._fair_ms = self._usable_ms() // _TOGETHER_PARTS

    def of(self, delivery: Delivery) -> Allowance | None:
        """What a delivery may take now; None if there is no time left to begin with it."""
        usable_ms = self._usable_ms()
        if usable_ms < 0:
            return None
        suspect = delivery.receive_count >= ALONE_FROM_RECEIVE
        share_ms = usable_ms // (_ALONE_PARTS if suspect else _TOGETHER_PARTS)
        return Allowance(
            until=_Until(deadline=self._deadline, before_ms=self._reserve_ms + usable_ms - share_ms),
            final=delivery.receive_count >= REFUSED_FROM_RECEIVE and share_ms >= self._fair_ms,
        )

    def of_notes(self) -> Deadline:
        """Until when notes of messages may be written, before any is read: as long as one delivery may take."""
        usable_ms = self._usable_ms()
        return _Until(deadline=self._deadline, before_ms=self._reserve_ms + usable_ms - usable_ms // _TOGETHER_PARTS)

    def _usable_ms(self) -> int:
        return self._deadline.remaining_ms() - self._reserve_ms

"""One message as the queue handed it over."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

ORIGINAL_SENDER: Final = "metering-original-sender"
"""Message attribute by which an operator who sends a message again says who sent it first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One message as the queue handed it over.

    Attributes:
        message_id: Only to answer the queue with; never an identity (a redrive changes it).
        sent_at_ms: SentTimestamp; admission is tested against it. A redrive renews it.
        receive_count: 1 on the first delivery.
        sender_id: Who sent it, as the queue knows it.
        stated_sender: Who sent it first, as its sender states it (`metering.intake.senders.judging.statement`); empty
            if it states nobody. Only an operator's word counts, because anybody can write it.
    """

    message_id: str
    body: str
    sent_at_ms: int
    receive_count: int
    sender_id: str
    stated_sender: str = ""

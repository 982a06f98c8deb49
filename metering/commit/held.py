"""Notes of messages that were received three times or more. They are written before the messages are handled.

The queue's age leaves such a message out, so without a note its age would be unknown. Healthy traffic writes no notes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from metering import metric_names
from metering.errors import UnavailableError
from metering.ledger.notes.queue_memory import HELD_FROM_RECEIVE, HeldMessage
from metering.stores.writes import Put, Table

if TYPE_CHECKING:
    from collections.abc import Iterable

    from metering.stores.clock import Clock, Deadline
    from metering.stores.deliveries import Delivery
    from metering.stores.items import ItemStore
    from metering.stores.telemetry import Metrics


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldNotes:
    """Writes the notes. Nothing deletes them: the watch knows which ones still count, and the table expires them."""

    items: ItemStore
    clock: Clock
    metrics: Metrics

    def note(self, deliveries: Iterable[Delivery], *, until: Deadline) -> None:
        """Note the messages of an invocation that the queue's age leaves out, the oldest first.

        A message that cannot be noted is handled all the same, because the watch also remembers earlier ages. So a slow
        ledger never takes the time for verdicts.
        """
        held = [delivery for delivery in deliveries if delivery.receive_count >= HELD_FROM_RECEIVE]
        for delivery in sorted(held, key=lambda each: each.sent_at_ms):
            if until.remaining_ms() > 0:
                self._note(delivery)
            else:
                self.metrics.count(metric_names.HELD_NOTES_LOST)

    def _note(self, delivery: Delivery) -> None:
        held = HeldMessage(
            message_id=delivery.message_id,
            sent_s=delivery.sent_at_ms // 1000,
            noted_s=self.clock.now_ms() // 1000,
        )
        try:
            self.items.put(Put(table=Table.LEDGER, item=held.to_item()))
        except UnavailableError:
            self.metrics.count(metric_names.HELD_NOTES_LOST)

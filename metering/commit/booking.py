"""Booking: chooses the hour that records count in. It is their own hour, unless its month is closing or closed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from metering.hours import hour_of, month_of
from metering.usage.totals import add_totals, by_hour

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from metering.commit.deduplication import Content
    from metering.commit.originals import Candidate, Original
    from metering.intake.batches import DecodedBatch
    from metering.usage.totals import Total


# Names, numbers, hashes and the overhead of a marker or an alias, from above.
_FIXED_ITEM_BYTES = 1_024


@dataclass(frozen=True, slots=True, kw_only=True)
class BookedBatch:
    """A batch with the hours that it counts in.

    Attributes:
        candidate: The batch, and where it came from.
        hours: Totals by booked hour.
        rebooked: Own hour -> booked hour, where they differ: late records of closed months (P43).
    """

    candidate: Candidate
    hours: Mapping[int, Total]
    rebooked: Mapping[int, int]

    @property
    def content(self) -> Content:
        return self.candidate.content

    @property
    def batch(self) -> DecodedBatch:
        return self.candidate.batch

    @property
    def original(self) -> Original | None:
        return self.candidate.original

    @property
    def actions(self) -> int:
        # The marker. A retry also writes its alias, and prolongs the life of its original's marker.
        return 1 if self.original is None else 3

    @property
    def markers(self) -> tuple[str, ...]:
        own = self.batch.batch_id
        return (own,) if self.original is None else (own, self.original.batch_id)

    @property
    def fixed_bytes(self) -> int:
        # UTF-8 has at most 4 bytes a character (the id is in its key and in the refused batch's). Everything else in
        # these items has a fixed length; a source and a sender are as long as the contract lets them be.
        texts = (*self.markers, self.batch.source_id, self.batch.sender_id)
        return _FIXED_ITEM_BYTES * self.actions + 4 * sum(map(len, texts)) * 2

    @property
    def sent_at_ms(self) -> int:
        """When the first of its messages was sent, as far as this invocation knows them."""
        return min(copy.delivery.sent_at_ms for copy in self.content.copies)

    @property
    def records(self) -> int:
        return self.batch.records

    @property
    def decoded_bytes(self) -> int:
        return self.batch.decoded_bytes


def book(candidate: Candidate, *, closed: Collection[str], now_s: int) -> BookedBatch:
    """Book a batch.

    Args:
        candidate: The batch, its usage by own hours.
        closed: Months that are known to be closing or closed.
        now_s: The worker's clock. Late records of a closed month are booked in its hour.
    """
    own = by_hour(candidate.batch.usage)
    now_hour_s = hour_of(now_s)
    rebooked = {hour_s: now_hour_s for hour_s in own if month_of(hour_s) in closed} if closed else {}
    hours: dict[int, Total] = {}
    for hour_s, total in own.items():
        add_totals(hours, {rebooked.get(hour_s, hour_s): total})
    return BookedBatch(candidate=candidate, hours=hours, rebooked=rebooked)

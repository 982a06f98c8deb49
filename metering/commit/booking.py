"""Booking: chooses the hour that records count in. It is their own hour, unless its month is closing or closed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from metering.hours import hour_of, month_of
from metering.usage.totals import by_hour, merge

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from metering.commit.deduplication import Content
    from metering.commit.originals import Candidate, Original
    from metering.intake.batches import DecodedBatch
    from metering.usage.totals import Total, UsageKey


@dataclass(frozen=True, slots=True, kw_only=True)
class BookedBatch:
    """A batch with the hours that it counts in.

    Attributes:
        candidate: The batch, and where it came from.
        usage: Totals by booked hour; keys of late records of closed months name their own hour in `corrects_s`.
        hours: The same totals by booked hour alone.
        usage_items: Keys of the usage items that it counts in, by day.
        rebooked: Own hour -> booked hour, where they differ.
    """

    candidate: Candidate
    usage: Mapping[UsageKey, Total]
    hours: Mapping[int, Total]
    usage_items: frozenset[UsageKey]
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
    usage = candidate.batch.usage
    hours = by_hour(usage)
    now_hour_s = hour_of(now_s)
    rebooked = {hour_s: now_hour_s for hour_s in hours if month_of(hour_s) in closed} if closed else {}
    if rebooked:
        usage = merge(
            {_rebooked(key, now_hour_s) if key.hour_s in rebooked else key: total} for key, total in usage.items()
        )
        hours = by_hour(usage)
    return BookedBatch(
        candidate=candidate,
        usage=usage,
        hours=hours,
        usage_items=frozenset([key.of_day() for key in usage]),
        rebooked=rebooked,
    )


def _rebooked(key: UsageKey, now_hour_s: int) -> UsageKey:
    return key._replace(hour_s=now_hour_s, corrects_s=key.hour_s)

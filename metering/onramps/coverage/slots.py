"""Slots: the files that a flow log should have delivered, and those that it did not.

A flow log writes a file for each slot of 5 minutes. Where nothing moved, its lines say NODATA, so a slot without a file
is a gap. Records are put into slots by their end, and an aggregation interval has up to 10 minutes: a record of a slot
may have begun before it (AWS, "Flow log files": every 5 minutes, aggregation 1 or 10 minutes).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from metering.units import MINUTE_S

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

SLOT_S = 5 * MINUTE_S
# Delivery to S3 takes about 10 minutes, best effort. A slot that is missing for this long is a gap.
GRACE_S = 30 * MINUTE_S
# Longest time from the start of a record to its end.
AGGREGATION_S = 10 * MINUTE_S
# Gaps that are listed of one source, the oldest: they hold completeness back. Slots of all others are counted.
LISTED = 300

Interval = tuple[int, int]
"""First and last slot of a run of slots, both included, in epoch seconds."""


def slot_of(epoch_s: int) -> int:
    """Start of the slot that contains a time."""
    return epoch_s - epoch_s % SLOT_S


def due_until(now_s: int) -> int:
    """The newest slot that should have a file by now."""
    return slot_of(now_s - GRACE_S)


@dataclass(frozen=True, slots=True, kw_only=True)
class Slots:
    """What is known of the slots of one flow log.

    Attributes:
        first_s: First slot with a file; None if none ever came.
        newest_s: Newest slot with a file.
        missing: Runs of slots without a file, in order: the oldest `LISTED`.
        unlisted: Number of slots of later runs.
    """

    first_s: int | None = None
    newest_s: int | None = None
    missing: tuple[Interval, ...] = ()
    unlisted: int = 0

    @property
    def missing_slots(self) -> int:
        """Number of slots without a file."""
        return count(self.missing) + self.unlisted

    @property
    def complete_s(self) -> int | None:
        """The newest slot before the first missing one; None if no file ever came."""
        return self.missing[0][0] - SLOT_S if self.missing else self.newest_s

    @property
    def through_s(self) -> int | None:
        """Time up to which every record has come, by its start; None if no file ever came."""
        complete_s = self.complete_s
        return None if complete_s is None else complete_s + SLOT_S - AGGREGATION_S

    def looked(
        self, seen: Iterable[int], *, from_s: int, until_s: int, horizon_s: int, accepted: Iterable[Interval] = ()
    ) -> Slots:
        """After a look at all slots from `from_s` on.

        Args:
            seen: Slots with a file, from `from_s` on, in order.
            from_s: First slot that was looked at. What is known of earlier slots stays.
            until_s: Newest slot that should have a file.
            horizon_s: Slots before this are not expected any more.
            accepted: Runs that are no gaps, because a person accepted them.
        """
        found = sorted(set(seen))
        first_s = min((each for each in (self.first_s, *found[:1]) if each is not None), default=None)
        if first_s is None:
            return self
        begins_s = max(from_s, first_s, slot_of(horizon_s))
        earlier = [(a, min(b, begins_s - SLOT_S)) for a, b in self.missing if a < begins_s]
        runs = [*without(earlier, [(0, horizon_s)]), *gaps(found, first_s=begins_s, until_s=until_s)]
        missing = joined(without(runs, accepted))
        return Slots(
            first_s=first_s,
            newest_s=max((each for each in (self.newest_s, *found[-1:]) if each is not None), default=None),
            missing=tuple(missing[:LISTED]),
            unlisted=count(missing[LISTED:]),
        )


def gaps(seen: Iterable[int], *, first_s: int, until_s: int) -> Iterator[Interval]:
    """Runs of slots from `first_s` to `until_s`, both included, that are not among `seen`, which is in order."""
    expected_s = first_s
    for slot_s in seen:
        if slot_s > until_s:
            break
        if slot_s > expected_s:
            yield expected_s, slot_s - SLOT_S
        expected_s = max(expected_s, slot_s + SLOT_S)
    if expected_s <= until_s:
        yield expected_s, until_s


def without(runs: Iterable[Interval], cut: Iterable[Interval]) -> list[Interval]:
    """Runs of slots without those of other runs."""
    left = list(runs)
    for first_s, last_s in cut:
        kept: list[Interval] = []
        for a, b in left:
            if b < first_s or a > last_s:
                kept.append((a, b))
                continue
            if a < first_s:
                kept.append((a, slot_of(first_s - 1)))
            if b > last_s:
                kept.append((slot_of(last_s) + SLOT_S, b))
        left = kept
    return left


def joined(runs: Iterable[Interval]) -> list[Interval]:
    """The same slots in as few runs as possible, in order."""
    result: list[Interval] = []
    for a, b in sorted(runs):
        if result and a <= result[-1][1] + SLOT_S:
            result[-1] = (result[-1][0], max(b, result[-1][1]))
        else:
            result.append((a, b))
    return result


def count(runs: Iterable[Interval]) -> int:
    """Number of slots in runs that do not overlap."""
    return sum((b - a) // SLOT_S + 1 for a, b in runs)

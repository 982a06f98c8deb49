"""Which numbers of a producer's sequence were seen: the last one, and the gaps below it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable


class Gap(NamedTuple):
    """Numbers `first` to `last`, both included, that no batch with a verdict has.

    `noticed_ms` is when that was first seen: a batch on its way looks like a gap for a moment.
    """

    first: int
    last: int
    noticed_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenSequences:
    """Numbers seen so far; they count up by 1 from 0. It outlives the markers that it was made from.

    Attributes:
        last: Highest number seen, -1 before the first.
        gaps: In order; none overlap.
    """

    last: int = -1
    gaps: tuple[Gap, ...] = ()

    def plus(self, sequences: Iterable[int], *, now_ms: int) -> SeenSequences:
        """With more numbers, in any order; those seen before change nothing. A new gap is noticed at `now_ms`."""
        last = self.last
        new_gaps: list[Gap] = []
        late: list[int] = []
        for sequence in sorted(set(sequences)):
            if sequence <= last:
                late.append(sequence)
                continue
            if sequence > last + 1:
                new_gaps.append(Gap(last + 1, sequence - 1, now_ms))
            last = sequence
        filled = tuple(part for gap in self.gaps for part in _without(gap, late))
        return SeenSequences(last=last, gaps=(*filled, *new_gaps))

    def confirmed(self, *, before_ms: int) -> tuple[tuple[int, int], ...]:
        """Gaps noticed before a moment, as intervals."""
        return tuple((gap.first, gap.last) for gap in self.gaps if gap.noticed_ms <= before_ms)


def _without(gap: Gap, late: list[int]) -> list[Gap]:
    """What is left of a gap after numbers (in order) have come late."""
    left: list[Gap] = []
    first = gap.first
    for sequence in late:
        if first <= sequence <= gap.last:
            if sequence > first:
                left.append(Gap(first, sequence - 1, gap.noticed_ms))
            first = sequence + 1
    if first <= gap.last:
        left.append(Gap(first, gap.last, gap.noticed_ms))
    return left


@dataclass(slots=True)
class SourceSightings:
    """Batches of one source as a scan of the markers found them, in any order."""

    sequences: list[int] = field(default_factory=list)
    newest_ms: int = 0

    def add(self, sequence: int, decided_at_ms: int) -> None:
        """Note one batch."""
        self.sequences.append(sequence)
        self.newest_ms = max(self.newest_ms, decided_at_ms)

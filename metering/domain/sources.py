"""Which numbers of a producer's sequence were seen: the last one, and the gaps below it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping


class Gap(NamedTuple):
    """Numbers `first` to `last`, both included, that no batch with a verdict has.

    `noticed_ms` is when that was first seen: a batch on its way looks like a gap for a moment. `since_ms` is when the
    number before it was decided, 0 if there is none: the missing batches were made after it.
    """

    first: int
    last: int
    noticed_ms: int
    since_ms: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenSequences:
    """Numbers seen so far; they count up by 1 from 0. It outlives the markers that it was made from.

    Attributes:
        last: Highest number seen, -1 before the first.
        last_ms: When it was decided; 0 before the first.
        gaps: In order; none overlap.
    """

    last: int = -1
    last_ms: int = 0
    gaps: tuple[Gap, ...] = ()

    def plus(self, sequences: Mapping[int, int], *, now_ms: int) -> SeenSequences:
        """With more numbers, each with the moment it was decided at; a new gap is noticed at `now_ms`.

        They may come in any order, and those seen before change nothing.
        """
        last, last_ms = self.last, self.last_ms
        new_gaps: list[Gap] = []
        late: list[int] = []
        for sequence, decided_ms in sorted(sequences.items()):
            if sequence <= last:
                late.append(sequence)
                continue
            if sequence > last + 1:
                new_gaps.append(Gap(last + 1, sequence - 1, now_ms, last_ms))
            last, last_ms = sequence, decided_ms
        filled = tuple(part for gap in self.gaps for part in _without(gap, late))
        return SeenSequences(last=last, last_ms=last_ms, gaps=(*filled, *new_gaps))

    def confirmed(self, *, before_ms: int) -> tuple[Gap, ...]:
        """Gaps noticed before a moment."""
        return tuple(gap for gap in self.gaps if gap.noticed_ms <= before_ms)


def _without(gap: Gap, late: list[int]) -> list[Gap]:
    """What is left of a gap after numbers (in order) have come late."""
    left: list[Gap] = []
    first = gap.first
    for sequence in late:
        if first <= sequence <= gap.last:
            if sequence > first:
                left.append(gap._replace(first=first, last=sequence - 1))
            first = sequence + 1
    if first <= gap.last:
        left.append(gap._replace(first=first))
    return left


@dataclass(slots=True)
class SourceSightings:
    """Batches of one source as a scan of the markers found them, in any order: each number with when it was decided."""

    sequences: dict[int, int] = field(default_factory=dict)
    newest_ms: int = 0

    def add(self, sequence: int, decided_at_ms: int) -> None:
        """Note one batch."""
        self.sequences[sequence] = decided_at_ms
        self.newest_ms = max(self.newest_ms, decided_at_ms)

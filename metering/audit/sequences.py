"""Which numbers of a producer's sequence were seen: the last one, and the gaps below it. All of it is bounded."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

# Gaps of a source that are kept one by one, the newest: about 90 bytes each, so that its item is a tenth of the 400 KB
# that DynamoDB takes.
GAPS_KEPT = 300
# Sources whose numbers are followed. Any sender may invent more.
SOURCES_KEPT = 20_000


class Gap(NamedTuple):
    """Numbers `first` to `last`, both included, that no batch with a verdict has.

    `noticed_ms` is when that was first seen: a batch on its way looks like a gap for a moment. `since_ms` is when the
    number before it was decided, 0 if there is none: the missing batches were made after it.
    """

    first: int
    last: int
    noticed_ms: int
    since_ms: int = 0

    @property
    def numbers(self) -> int:
        """How many numbers are missing."""
        return self.last - self.first + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenSequences:
    """Numbers seen so far; they count up by 1 from 0. It outlives the markers that it was made from.

    Attributes:
        last: Highest credible number seen, -1 before the first.
        last_ms: When it was decided; 0 before the first.
        gaps: In order; none overlap; the newest `GAPS_KEPT`.
        unlisted_gaps, unlisted_numbers: Gaps that are not kept any more, and how many numbers were missing in them.
        incredible: How many numbers were further beyond the last one than is credible; they fill and make no gap.
        incredible_first: The least of them.
    """

    last: int = -1
    last_ms: int = 0
    gaps: tuple[Gap, ...] = ()
    unlisted_gaps: int = 0
    unlisted_numbers: int = 0
    incredible: int = 0
    incredible_first: int | None = None

    def plus(
        self, sequences: Mapping[int, int], *, now_ms: int, largest_jump: int, accepted_ms: int = 0
    ) -> SeenSequences:
        """With all numbers that a whole pass saw, each with the moment it was decided at.

        They may come in any order, and those seen before change nothing. A new gap is noticed at `now_ms`.

        Args:
            sequences: Number -> moment.
            now_ms: Now.
            largest_jump: A gap of more numbers than this is not credible.
            accepted_ms: Incredible numbers that were decided by then are accepted: they are not counted.
        """
        last, last_ms = self.last, self.last_ms
        new_gaps: list[Gap] = []
        late: list[int] = []
        incredible: list[int] = []
        for sequence, decided_ms in sorted(sequences.items()):
            if sequence <= last:
                late.append(sequence)
                continue
            if sequence - last - 1 > largest_jump:
                if decided_ms > accepted_ms:
                    incredible.append(sequence)
                continue
            if sequence > last + 1:
                new_gaps.append(Gap(last + 1, sequence - 1, now_ms, last_ms))
            last, last_ms = sequence, decided_ms
        filled = [part for gap in self.gaps for part in _without(gap, late)]
        return replace(
            self,
            last=last,
            last_ms=last_ms,
            gaps=(*filled, *new_gaps),
            incredible=len(incredible),
            incredible_first=incredible[0] if incredible else None,
        )._bounded()

    def begun_anew(self, sequences: Mapping[int, int]) -> SeenSequences:
        """As if the least of the numbers were the first; itself if there is none, or it has begun."""
        return replace(self, last=min(sequences) - 1) if sequences and self.last == -1 else self

    def accepting(self, first: int, last: int) -> SeenSequences:
        """Without what is missing from `first` to `last`, both included."""
        kept = [part for gap in self.gaps for part in _outside(gap, first, last)]
        return replace(self, gaps=tuple(kept))._bounded()

    def accepting_all(self, *, noticed_by_ms: int) -> SeenSequences:
        """Without anything that was noticed by a moment, and without what is not listed."""
        kept = tuple(gap for gap in self.gaps if gap.noticed_ms > noticed_by_ms)
        return replace(self, gaps=kept, unlisted_gaps=0, unlisted_numbers=0, incredible=0, incredible_first=None)

    def confirmed(self, *, before_ms: int) -> tuple[Gap, ...]:
        """Gaps noticed before a moment."""
        return tuple(gap for gap in self.gaps if gap.noticed_ms <= before_ms)

    def _bounded(self) -> SeenSequences:
        dropped = self.gaps[:-GAPS_KEPT]
        return replace(
            self,
            gaps=self.gaps[-GAPS_KEPT:],
            unlisted_gaps=self.unlisted_gaps + len(dropped),
            unlisted_numbers=self.unlisted_numbers + sum(gap.numbers for gap in dropped),
        )


def _without(gap: Gap, late: list[int]) -> list[Gap]:
    """What is left of a gap after numbers (in order) have come late."""
    left: list[Gap] = []
    first = gap.first
    for sequence in late[bisect_left(late, gap.first) : bisect_right(late, gap.last)]:
        if sequence > first:
            left.append(gap._replace(first=first, last=sequence - 1))
        first = sequence + 1
    if first <= gap.last:
        left.append(gap._replace(first=first))
    return left


def _outside(gap: Gap, first: int, last: int) -> list[Gap]:
    parts = (gap._replace(last=min(gap.last, first - 1)), gap._replace(first=max(gap.first, last + 1)))
    return [part for part in parts if part.first <= part.last]


@dataclass(slots=True)
class SourceSightings:
    """Batches of one source as a scan of the markers found them, in any order: each number with when it was decided."""

    sequences: dict[int, int] = field(default_factory=dict)
    newest_ms: int = 0

    def add(self, sequence: int, decided_at_ms: int) -> None:
        """Note one batch."""
        self.sequences[sequence] = decided_at_ms
        self.newest_ms = max(self.newest_ms, decided_at_ms)

    def after(self, moment_ms: int) -> SourceSightings:
        """Those that were decided after a moment."""
        if not moment_ms:
            return self
        left = SourceSightings()
        for sequence, decided_ms in self.sequences.items():
            if decided_ms > moment_ms:
                left.add(sequence, decided_ms)
        return left

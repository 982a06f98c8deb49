"""Sequence numbers of a source: the last number seen, and the gaps below it, in bounded memory."""

from __future__ import annotations

from array import array
from base64 import b64decode, b64encode
from bisect import bisect_left, bisect_right
from collections import Counter
from dataclasses import dataclass, field, replace
from heapq import merge
from typing import TYPE_CHECKING, NamedTuple

from metering.ledger import runs
from metering.units import DAY_S

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from metering.ledger.markers import Marker, MarkerGlance


# A number that is missing for this long after its successor is no batch in flight. So the first whole pass reports it.
SURE_MS = DAY_S * 1_000
# The newest gaps of a source are stored individually; at about 90 bytes per gap, they take a tenth of an item's 400 KB.
GAPS_KEPT = 300
# Sequence numbers are tracked for at most this many sources, because any sender may invent sources.
SOURCES_KEPT = 20_000


class Gap(NamedTuple):
    """Sequence numbers from `first` to `last` (inclusive) without a batch that has a verdict.

    `noticed_ms` is the time at which the gap was first seen, but at most a day after the verdict on the number that
    follows it: a batch in flight briefly looks like a gap. `since_ms` is the time of the verdict on the previous number
    (0 without one), before which no missing batch was produced.
    """

    first: int
    last: int
    noticed_ms: int
    since_ms: int = 0

    @property
    def numbers(self) -> int:
        return self.last - self.first + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenSequences:
    """Sequence numbers of one source seen so far; a source counts up by 1 from 0. This record outlives the markers.

    Attributes:
        last: Highest credible number seen, -1 before the first.
        last_ms: Time of the verdict on number `last`; 0 before the first.
        gaps: The newest `GAPS_KEPT` gaps, in order and without overlap.
        unlisted_gaps, unlisted_numbers: Number of dropped gaps, and of sequence numbers missing in them.
        incredible: Count of numbers too far above `last` to be credible; such numbers neither fill nor create gaps.
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
        """Add all numbers that a whole pass found. The order does not matter, and known numbers change nothing.

        Args:
            sequences: Time of the verdict on each number, epoch milliseconds.
            now_ms: Time at which new gaps are noticed, but at most `SURE_MS` after the number that follows them.
            largest_jump: Largest credible gap, in numbers.
            accepted_ms: Incredible numbers whose verdict is not later than this time are accepted and not counted.
        """
        return self.plus_ordered(
            sorted(sequences.items()), now_ms=now_ms, largest_jump=largest_jump, accepted_ms=accepted_ms
        )

    def plus_ordered(
        self, sequences: Iterable[tuple[int, int]], *, now_ms: int, largest_jump: int, accepted_ms: int = 0
    ) -> SeenSequences:
        """As `plus`, with the numbers in ascending order, which are read one by one."""
        last, last_ms = self.last, self.last_ms
        new_gaps: list[Gap] = []
        late: list[int] = []
        incredible: list[int] = []
        for sequence, decided_ms in sequences:
            if sequence <= last:
                late.append(sequence)
                continue
            if sequence - last - 1 > largest_jump:
                if decided_ms > accepted_ms:
                    incredible.append(sequence)
                continue
            if sequence > last + 1:
                new_gaps.append(Gap(last + 1, sequence - 1, min(now_ms, decided_ms + SURE_MS), last_ms))
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

    def filled(self, sequences: Iterable[int]) -> SeenSequences:
        """Add numbers that only fill gaps. Others, and those that make too many gaps, are left to a whole pass."""
        late = sorted(sequences)
        gaps = tuple(part for gap in self.gaps for part in _without(gap, late))
        return self if len(gaps) > GAPS_KEPT else replace(self, gaps=gaps)

    def begun_anew(self, first: int | None) -> SeenSequences:
        """Start at the smallest number, unless it is None or a number was already seen."""
        return replace(self, last=first - 1) if first is not None and self.last == -1 else self

    def accepting(self, first: int, last: int) -> SeenSequences:
        """No longer treat the numbers from `first` to `last`, inclusive, as missing."""
        kept = [part for gap in self.gaps for part in _outside(gap, first, last)]
        return replace(self, gaps=tuple(kept))._bounded()

    def accepting_all(self, *, noticed_by_ms: int) -> SeenSequences:
        """Drop all gaps that were noticed by a given time, and the counts of gaps that are no longer kept."""
        kept = tuple(gap for gap in self.gaps if gap.noticed_ms > noticed_by_ms)
        return replace(self, gaps=kept, unlisted_gaps=0, unlisted_numbers=0, incredible=0, incredible_first=None)

    def has(self, sequence: int) -> bool:
        """Whether a number was seen: it is at most `last`, and not in a kept gap."""
        place = bisect_right(self.gaps, sequence, key=lambda gap: gap.first) - 1
        missing = place >= 0 and sequence <= self.gaps[place].last
        return sequence <= self.last and not missing

    def confirmed(self, *, before_ms: int) -> tuple[Gap, ...]:
        """Gaps that were noticed by a given time."""
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
    """Parts of a gap that remain after late numbers arrived; `late` is sorted."""
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


# Type code of an integer array -> the next wider one: 2, 4 and 8 bytes.
_WIDER = {"h": "i", "i": "q"}


class _Integers:
    """A list of 64-bit integers, stored as small offsets from the first, often in 2 or 4 bytes. A plain class."""

    def __init__(self) -> None:
        self._first = 0
        self._offsets = array("h")

    def __len__(self) -> int:
        return len(self._offsets)

    def __iter__(self) -> Iterator[int]:
        first = self._first
        return (first + offset for offset in self._offsets)

    def append(self, value: int) -> None:
        if not self._offsets:
            self._first = value
        while True:
            try:
                return self._offsets.append(value - self._first)
            except OverflowError:
                if self._offsets.typecode not in _WIDER:
                    raise
                self._offsets = array(_WIDER[self._offsets.typecode], self._offsets)

    def saved(self) -> str:
        """Form for JSON."""
        return b64encode(array("q", self).tobytes()).decode()

    def add_saved(self, text: str) -> None:
        for value in array("q", b64decode(text)):
            self.append(value)


# Numbers of a source that are listed one by one. Beyond them, a page of numbers becomes a bit for each, once it has as
# many as `_DENSE`: a week's numbers of the target then take 0.6 bytes each, not 6.
_LISTED = 1_024
_PAGE_BITS = 9
_DENSE = 64


@dataclass(slots=True)
class _Page:
    """Numbers that differ only in their last `_PAGE_BITS` bits: a bit for each, and the range of their verdicts."""

    bits: int
    first_ms: int
    last_ms: int

    def merge(self, other: _Page) -> None:
        self.bits |= other.bits
        self.first_ms, self.last_ms = min(self.first_ms, other.first_ms), max(self.last_ms, other.last_ms)

    def numbers(self, page: int) -> Iterator[int]:
        left = self.bits
        while left:
            lowest = left & -left
            yield (page << _PAGE_BITS) + lowest.bit_length() - 1
            left ^= lowest


class SourceSightings:
    """Sequence numbers of one source in a scan of the markers, each with the time of its verdict. A plain class.

    Numbers that earlier scans saw are excluded, unless they fill a gap. Of a source with many numbers, the time of a
    number may be that of an earlier one of its page.

    Args:
        known: Numbers seen by earlier scans.
        since_ms: Time (epoch milliseconds) up to which earlier scans have seen all verdicts.
        forgotten_ms: Numbers are left out up to this verdict time.
    """

    def __init__(self, known: SeenSequences | None = None, since_ms: int = 0, forgotten_ms: int = 0) -> None:
        self._known = known
        self._since_ms = since_ms
        self._forgotten_ms = forgotten_ms
        self._numbers = _Integers()
        self._moments = _Integers()
        self._pages: dict[int, _Page] = {}
        self._room = _LISTED
        self.newest_ms = 0

    def __len__(self) -> int:
        return len(self._numbers) + sum(page.bits.bit_count() for page in self._pages.values())

    def in_order(self) -> Iterator[tuple[int, int]]:
        """Each number, in ascending order, with the time of its verdict, epoch milliseconds."""
        listed = sorted(zip(self._numbers, self._moments, strict=True))
        paged = ((each, page.first_ms) for at, page in sorted(self._pages.items()) for each in page.numbers(at))
        return merge(listed, paged)

    def add(self, sequence: int, decided_at_ms: int) -> None:
        """Note a batch."""
        if decided_at_ms <= self._forgotten_ms:
            return
        self.newest_ms = max(self.newest_ms, decided_at_ms)
        if self._known is None or decided_at_ms >= self._since_ms or not self._known.has(sequence):
            self._take(sequence, decided_at_ms)

    def _take(self, sequence: int, decided_at_ms: int) -> None:
        if sequence >> _PAGE_BITS in self._pages:
            self._mark(sequence, decided_at_ms)
            return
        self._numbers.append(sequence)
        self._moments.append(decided_at_ms)
        if len(self._numbers) >= self._room:
            self._make_pages()

    def _mark(self, sequence: int, decided_at_ms: int) -> None:
        page, bit = divmod(sequence, 1 << _PAGE_BITS)
        self._add_page(page, _Page(1 << bit, decided_at_ms, decided_at_ms))

    def _add_page(self, number: int, page: _Page) -> None:
        known = self._pages.setdefault(number, page)
        if known is not page:
            known.merge(page)

    def _make_pages(self) -> None:
        """Move the listed numbers of dense pages to these pages. Numbers far apart, as of a bad sender, stay listed."""
        listed = list(zip(self._numbers, self._moments, strict=True))
        counts = Counter(sequence >> _PAGE_BITS for sequence, _ in listed)
        self._numbers, self._moments = _Integers(), _Integers()
        for sequence, decided_at_ms in listed:
            if counts[sequence >> _PAGE_BITS] >= _DENSE:
                self._mark(sequence, decided_at_ms)
            else:
                self._numbers.append(sequence)
                self._moments.append(decided_at_ms)
        self._room = max(_LISTED, 2 * len(self._numbers))

    def anew(self) -> SourceSightings:
        """Return empty sightings that exclude the same numbers of earlier scans."""
        return SourceSightings(self._known, self._since_ms, self._forgotten_ms)

    def merge(self, other: SourceSightings) -> None:
        """Add the numbers of another scan."""
        for number, page in other._pages.items():
            self._add_page(number, replace(page))
        for sequence, decided_ms in zip(other._numbers, other._moments, strict=True):
            self.add(sequence, decided_ms)
        self.newest_ms = max(self.newest_ms, other.newest_ms)

    def after(self, moment_ms: int) -> SourceSightings:
        """Sightings of numbers whose verdicts came after a given time.

        A page with earlier ones, too, is left out. People can accept a false gap; a hidden one is lost.
        """
        if not moment_ms:
            return self
        left = SourceSightings()
        left.newest_ms = max((page.last_ms for page in self._pages.values() if page.last_ms > moment_ms), default=0)
        left._pages = {number: replace(page) for number, page in self._pages.items() if page.first_ms > moment_ms}
        for sequence, decided_ms in zip(self._numbers, self._moments, strict=True):
            if decided_ms > moment_ms:
                left.add(sequence, decided_ms)
        return left

    def saved(self) -> tuple[str, str, int, list[tuple[int, str, int, int]]]:
        """Form for JSON."""
        pages = [(number, f"{page.bits:x}", page.first_ms, page.last_ms) for number, page in self._pages.items()]
        return self._numbers.saved(), self._moments.saved(), self.newest_ms, pages

    def add_saved(
        self, numbers: str, moments: str, newest_ms: int, pages: Iterable[tuple[int, str, int, int]] = ()
    ) -> None:
        """Note saved numbers; earlier releases saved no pages."""
        for number, bits, first_ms, last_ms in pages:
            self._add_page(number, _Page(int(bits, 16), first_ms, last_ms))
        self._numbers.add_saved(numbers)
        self._moments.add_saved(moments)
        self.newest_ms = max(self.newest_ms, newest_ms)


@dataclass(slots=True)
class MarkerSurvey:
    """Sources of all markers, and unreadable markers.

    Attributes:
        contradictions: Markers that cannot be read. No total includes such markers, so their hours differ.
        sources: At most `SOURCES_KEPT` sources; known sources come first.
        unkept, unkept_source: Number of batches of sources beyond the limit, and the name of one such source.
        began_ms: Time when the first marker was read, epoch milliseconds; 0 for the current time.
        with_sources: Whether to record sources: `SourceKeeper` needs them, but a proof of totals does not.
        known: Sources of the whole survey, if this survey covers only a part.
    """

    sources: dict[str, SourceSightings] = field(default_factory=dict)
    contradictions: runs.Contradictions = field(default_factory=runs.Contradictions)
    unkept: int = 0
    unkept_source: str = ""
    began_ms: int = 0
    with_sources: bool = True
    known: Mapping[str, SourceSightings] = field(default_factory=dict)

    def part(self) -> MarkerSurvey:
        """Survey of some of the markers, to be merged into this survey. The part excludes the same numbers."""
        return MarkerSurvey(known=self.sources, with_sources=self.with_sources)

    def add(self, marker: Marker | MarkerGlance) -> None:
        """Count one marker."""
        if marker.source_id and marker.sequence is not None and self.with_sources:
            sightings = self._of(marker.source_id, 1)
            if sightings is not None:
                sightings.add(marker.sequence, marker.decided_at_ms)

    def merge(self, other: MarkerSurvey) -> None:
        """Add a survey of other markers."""
        for source_id, seen in other.sources.items():
            sightings = self._of(source_id, len(seen))
            if sightings is not None:
                sightings.merge(seen)
        self.contradictions.merge(other.contradictions)
        self.unkept += other.unkept
        self.unkept_source = self.unkept_source or other.unkept_source

    def _of(self, source_id: str, batches: int) -> SourceSightings | None:
        sightings = self.sources.get(source_id)
        if sightings is None:
            known = self.known.get(source_id)
            if known is None and len(self.sources) >= SOURCES_KEPT:
                self.unkept += batches
                self.unkept_source = source_id
                return None
            sightings = self.sources[source_id] = SourceSightings() if known is None else known.anew()
        return sightings

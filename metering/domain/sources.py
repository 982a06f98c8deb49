"""What is known of numbered producers: the last sequence, the gaps, when they were last heard.

One item a source, written by the reconciler alone: `S#sources` / `<source>`. It outlives the markers it was made from.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from metering.domain.items import Key

if TYPE_CHECKING:
    from collections.abc import Iterable

    from metering.domain.items import Item, Value

SOURCES_PK = "S#sources"


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """Sequences `first` to `last`, both included, that no batch with a verdict has.

    Attributes:
        noticed_ms: When it was first seen. A batch on its way looks like a gap for a moment.
    """

    first: int
    last: int
    noticed_ms: int

    @property
    def missing(self) -> int:
        return self.last - self.first + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceState:
    """One producer.

    Attributes:
        last: Highest sequence seen; sequences count up by 1 from 0.
        gaps: In order; none overlap.
        last_seen_ms: When its newest batch got its verdict.
    """

    source_id: str
    last: int = -1
    gaps: tuple[Gap, ...] = ()
    last_seen_ms: int = 0
    first_seen_ms: int = 0

    @property
    def key(self) -> Key:
        return Key(SOURCES_PK, self.source_id)

    @property
    def missing(self) -> int:
        return sum(gap.missing for gap in self.gaps)

    def seen(self, sequences: Iterable[int], *, at_ms: int, first_ms: int, now_ms: int) -> SourceState:
        """The state after batches of these numbers, in any order; those seen before change nothing.

        Args:
            sequences: Numbers of the batches.
            at_ms: When the newest of them got its verdict.
            first_ms: When the oldest did.
            now_ms: Now; a new gap is noticed then.
        """
        last, gaps = self.last, list(self.gaps)
        for sequence in sorted(set(sequences)):
            if sequence > last:
                if sequence > last + 1:
                    gaps.append(Gap(first=last + 1, last=sequence - 1, noticed_ms=now_ms))
                last = sequence
            else:
                gaps = [part for gap in gaps for part in _without(gap, sequence)]
        return SourceState(
            source_id=self.source_id,
            last=last,
            gaps=tuple(gaps),
            last_seen_ms=max(self.last_seen_ms, at_ms),
            first_seen_ms=min(self.first_seen_ms or first_ms, first_ms),
        )

    def to_item(self) -> dict[str, Value]:
        return {
            **self.key._asdict(),
            "last": self.last,
            "gaps": [[gap.first, gap.last, gap.noticed_ms] for gap in self.gaps],
            "last_seen_ms": self.last_seen_ms,
            "first_seen_ms": self.first_seen_ms,
        }

    @classmethod
    def from_item(cls, item: Item) -> SourceState:
        gaps = cast("list[list[int]]", item["gaps"])
        return cls(
            source_id=str(item["sk"]),
            last=cast("int", item["last"]),
            gaps=tuple(Gap(first=first, last=last, noticed_ms=noticed) for first, last, noticed in gaps),
            last_seen_ms=cast("int", item["last_seen_ms"]),
            first_seen_ms=cast("int", item["first_seen_ms"]),
        )


def _without(gap: Gap, sequence: int) -> list[Gap]:
    if not gap.first <= sequence <= gap.last:
        return [gap]
    halves = ((gap.first, sequence - 1), (sequence + 1, gap.last))
    return [Gap(first=first, last=last, noticed_ms=gap.noticed_ms) for first, last in halves if first <= last]


@dataclass(slots=True)
class SourceSightings:
    """Batches of one source as a scan of the markers found them, in any order."""

    sequences: list[int] = field(default_factory=list)
    newest_ms: int = 0
    oldest_ms: int = 0

    def add(self, sequence: int, decided_at_ms: int) -> None:
        """Note one batch."""
        self.sequences.append(sequence)
        self.newest_ms = max(self.newest_ms, decided_at_ms)
        self.oldest_ms = min(self.oldest_ms or decided_at_ms, decided_at_ms)

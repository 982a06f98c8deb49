"""What a scan of all markers finds beside their totals: sources with their numbers, and markers that cannot be read."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from metering.audit.sequences import SOURCES_KEPT, SourceSightings
from metering.ledger.contradictions import Contradictions

if TYPE_CHECKING:
    from collections.abc import Mapping

    from metering.ledger.markers import Marker, MarkerGlance


@dataclass(slots=True)
class MarkerSurvey:
    """Sources of all markers, and markers that cannot be read.

    Attributes:
        contradictions: Markers that cannot be read. They are in no total, so their hours differ.
        sources: At most `SOURCES_KEPT` sources; known ones come first.
        unkept: Number of batches of further sources.
        unkept_source: Name of one of those sources.
        began_ms: When the first marker was read, epoch milliseconds; 0: just now.
        with_sources: Whether sources are noted: their keeper needs them, a proof of totals does not.
        known: Of a survey of a part: what the whole survey leaves out.
    """

    sources: dict[str, SourceSightings] = field(default_factory=dict)
    contradictions: Contradictions = field(default_factory=Contradictions)
    unkept: int = 0
    unkept_source: str = ""
    began_ms: int = 0
    with_sources: bool = True
    known: Mapping[str, SourceSightings] = field(default_factory=dict)

    def part(self) -> MarkerSurvey:
        """A survey of some of the markers, to be merged into this one. It leaves out the same numbers."""
        return MarkerSurvey(known=self.sources, with_sources=self.with_sources)

    def add(self, marker: Marker | MarkerGlance) -> None:
        """Count one marker."""
        if marker.source_id and marker.sequence is not None and self.with_sources:
            sightings = self._of(marker.source_id, 1)
            if sightings is not None:
                sightings.add(marker.sequence, marker.decided_at_ms)

    def merge(self, other: MarkerSurvey) -> None:
        """Add all that the survey of other markers found."""
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

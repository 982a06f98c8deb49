"""What a scan of all markers finds beside their totals: sources with their numbers, and markers that cannot be read."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from metering.audit.sequences import SOURCES_KEPT, SourceSightings
from metering.ledger.contradictions import Contradictions

if TYPE_CHECKING:
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
    """

    sources: dict[str, SourceSightings] = field(default_factory=dict)
    contradictions: Contradictions = field(default_factory=Contradictions)
    unkept: int = 0
    unkept_source: str = ""
    began_ms: int = 0

    def add(self, marker: Marker | MarkerGlance) -> None:
        """Count one marker."""
        if marker.source_id and marker.sequence is not None:
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
            if len(self.sources) >= SOURCES_KEPT:
                self.unkept += batches
                self.unkept_source = source_id
                return None
            sightings = self.sources[source_id] = SourceSightings()
        return sightings

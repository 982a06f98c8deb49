"""Contents of a manifest by batch id, and a fingerprint of what no reader has found yet of each.

So memory follows from the number of batches, however many usage keys each of them has.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from metering.audit.reconcile.fingerprints import Fingerprint, fingerprint

if TYPE_CHECKING:
    from collections.abc import Iterable

    from metering.audit.verify.manifest import SentBatch
    from metering.ledger.markers import Marker


@dataclass(slots=True, kw_only=True)
class SentContent:
    """One content of one batch id. It may have been sent several times.

    Attributes:
        bytes: Sum over its metered records.
        unaccounted: Totals of its metered records by usage key that no reader has found yet; that of nothing once all
            was found once.
    """

    batch_id: str
    rejected: bool
    records: int
    metered: int
    bytes: int
    unaccounted: Fingerprint

    def matches(self, marker: Marker) -> bool:
        """Whether the marker accepted this content: no two contents of an id have equal sums."""
        return (marker.records, marker.metered) == (self.records, self.metered) and self.bytes == sum(
            total.bytes for total in marker.hours.values()
        )


@dataclass(slots=True, kw_only=True)
class SentBatches:
    """All contents of a manifest.

    Attributes:
        contents: By batch id, in the order of their numbers.
        nameless: Digests of bodies from which no id can be read.
        copies: Further copies of a content, by batch id.
    """

    contents: dict[str, list[SentContent]] = field(default_factory=dict)
    nameless: set[str] = field(default_factory=set)
    copies: dict[str, int] = field(default_factory=dict)

    @classmethod
    def collect(cls, lines: Iterable[SentBatch]) -> SentBatches:
        """Sort the lines of a manifest by batch. A content that a manifest has twice is one content and a copy."""
        sent = cls()
        seen: set[tuple[str, int]] = set()
        for line in lines:
            if not line.batch_id:
                sent.nameless.add(line.body_sha256)
            elif line.expect == "duplicate" or (line.batch_id, line.content) in seen:
                sent.copies[line.batch_id] = sent.copies.get(line.batch_id, 0) + 1
            else:
                seen.add((line.batch_id, line.content))
                sent.contents.setdefault(line.batch_id, []).append(_content(line))
        return sent

    def add(self, other: SentBatches) -> None:
        """Add another manifest. A content in both is one content and further copies."""
        self.nameless |= other.nameless
        for batch_id, contents in other.contents.items():
            known = self.contents.setdefault(batch_id, [])
            for content in contents:
                if any(content.unaccounted == each.unaccounted and content.rejected == each.rejected for each in known):
                    self.copies[batch_id] = self.copies.get(batch_id, 0) + 1
                else:
                    known.append(content)
        for batch_id, copies in other.copies.items():
            self.copies[batch_id] = self.copies.get(batch_id, 0) + copies

    @property
    def distinct(self) -> int:
        """Number of different contents."""
        return len(self.nameless) + sum(len(contents) for contents in self.contents.values())

    @property
    def expected(self) -> dict[str, int]:
        """Expected number of contents for each verdict, and of further copies (`duplicate`)."""
        rejected = sum(contents[0].rejected for contents in self.contents.values())
        return {
            "accepted": len(self.contents) - rejected,
            "duplicate": sum(self.copies.values()),
            "conflict": sum(len(contents) - 1 for contents in self.contents.values()),
            "rejected": rejected + len(self.nameless),
        }

    def accepted_content(self, marker: Marker) -> SentContent | None:
        """Content that a marker accepted, or None if no such content was sent."""
        contents = self.contents.get(marker.batch_id, [])
        return next((content for content in contents if content.matches(marker)), None)


def _content(line: SentBatch) -> SentContent:
    sent = fingerprint(line.totals.items())
    return SentContent(
        batch_id=line.batch_id,
        rejected=line.expect == "rejected",
        records=line.records,
        metered=line.metered,
        bytes=sent.total.bytes,
        unaccounted=sent,
    )

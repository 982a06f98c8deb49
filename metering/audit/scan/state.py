"""State of a census: what was counted so far. It can be saved, and another process goes on with it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from metering.audit.marker_survey import MarkerSurvey
from metering.audit.scan.cells import Cells

if TYPE_CHECKING:
    from metering.ledger.snapshot import VerdictCounts
    from metering.usage.totals import Total

Phase = Literal["markers", "rows", "usage", "done"]
# Parts that a table is read in. A part is counted whole, or again.
SEGMENTS = 16
_MOST_SEGMENTS = 65_536


@dataclass(frozen=True, slots=True, kw_only=True)
class HourRows:
    """Rows of one hour.

    Attributes:
        booked: Total of the placed rows, as the ledger says.
        placed: The same, summed by key.
        all_rows: Total of the rows that are compared with markers; None where markers may have expired, or commits kept
            coming.
        keys: Number of usage keys, of a deep census.
        digest: Digest of the placed rows by usage key, if it was asked for.
    """

    booked: Total
    placed: Total
    all_rows: Total | None
    keys: int
    digest: str = ""


@dataclass(slots=True, kw_only=True)
class Names:
    """Names in the parts that are looked at: what was found so far (`names`). Mutable.

    Attributes:
        accounts: By hour, accounts that have usage.
        batches: By hour, what the markers say of each batch.
        too_many: Whether there are more batches than may be held: none is.
        usage_done: Parts of the usage table that were read.
        markers_done: Parts of the ledger that were read.
    """

    accounts: dict[int, set[str]] = field(default_factory=dict)
    batches: dict[int, dict[str, Total]] = field(default_factory=dict)
    too_many: bool = False
    usage_done: int = 0
    markers_done: int = 0

    @property
    def done(self) -> int:
        """Parts that were read."""
        return self.usage_done + self.markers_done


@dataclass(slots=True, kw_only=True)
class CensusState:
    """What was counted so far. Mutable.

    Attributes:
        deep: Whether rows are counted, also by batch; else their totals are those beside the files, and markers are
            compared by the hour.
        began_ms: When the first marker was read, epoch milliseconds.
        done: Parts or hours of the phase that are counted.
        with_markers: Whether markers are compared, too.
        digests: Whether each hour's rows get a digest.
        judged: How often somebody ran out of time while he looked at what differs.
        runs: Newest done run of each shard's roll-up, before the rows.
        verdicts: Verdicts of batches that have records in the range, or were decided in it; None: nobody asks for them.
        marked: Markers by hour; unless deep, without those of commits that were made after `began_ms`.
        marks, batches: Markers and rows by batch, if deep.
        placed, usage: Rows and settled usage items by key.
        used: Settled and unsettled usage by hour.
        latest: By shard, the newest run that had booked where something was not settled.
        names: Names in the parts that are looked at, once all is counted.
        unsettled: Parts of an hour in which a later run had booked, a bit for each part.
    """

    from_s: int
    to_s: int
    deep: bool
    parts: int
    began_ms: int
    segments: int = SEGMENTS
    phase: Phase = "markers"
    done: int = 0
    judged: int = 0
    with_markers: bool = True
    digests: bool = False
    hours: list[int] = field(default_factory=list)
    runs: dict[int, int] = field(default_factory=dict)
    survey: MarkerSurvey = field(default_factory=MarkerSurvey)
    verdicts: VerdictCounts | None = None
    marked: dict[int, Total] = field(default_factory=dict)
    rows: dict[int, HourRows] = field(default_factory=dict)
    used: dict[int, Total] = field(default_factory=dict)
    unsettled: dict[int, int] = field(default_factory=dict)
    latest: dict[int, int] = field(default_factory=dict)
    names: Names = field(default_factory=Names)
    marks: Cells = field(init=False)
    batches: Cells = field(init=False)
    placed: Cells = field(init=False)
    usage: Cells = field(init=False)

    def __post_init__(self) -> None:
        self.marks, self.batches, self.placed, self.usage = (Cells(self.parts) for _ in range(4))

    def unsettled_parts(self, hour_s: int) -> frozenset[int]:
        """Parts of an hour in which a later run had booked."""
        bits = self.unsettled.get(hour_s, 0)
        return frozenset(part for part in range(self.parts) if bits >> part & 1) if bits else frozenset()

    @property
    def of(self) -> int:
        """Parts or hours of the phase."""
        return len(self.hours) if self.phase == "rows" else self.segments

    def in_smaller_parts(self) -> None:
        """Divide a table of which not even the first part was counted in the time there was."""
        if self.phase in ("markers", "usage") and not self.done:
            self.segments = min(self.segments * 8, _MOST_SEGMENTS)

    def begin(self, phase: Phase) -> None:
        """Go on to the next phase."""
        self.phase, self.done = phase, 0

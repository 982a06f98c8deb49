"""Notes about sources (producers that number their batches): rulings, figures, and the state of each source.

| item                | pk            | sk                              | written by   |
|---------------------|---------------|---------------------------------|--------------|
| ruling              | `W#ruling`    | source id, kind, numbers        | operators    |
| figures of sources  | `W#sources`   | `W`                             | reconciler   |
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from metering.ledger.partitions import NOTE
from metering.stores.fields import Fields
from metering.stores.writes import Key
from metering.units import DAY_S

if TYPE_CHECKING:
    from metering.stores.writes import Item, Value

RULING_PK = f"{NOTE}ruling"
SOURCES_KEY = Key(f"{NOTE}sources", "W")
# Number of sources that are named if some could not be followed; all of them are counted.
NAMED = 20


class RulingKind(StrEnum):
    """Kinds of rulings."""

    ACCEPT_GAP = "accept-gap"
    FORGET = "forget"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruling:
    """Operator's ruling on a source, which the reconciler honours. A repeated ruling only gets a new time.

    Attributes:
        numbers: First and last number of the gap that is accepted; None for everything up to `at_ms`.
        by: AWS identity of the operator.
        expires_at: Epoch seconds. No marker from before the ruling may outlive it.
    """

    source_id: str
    kind: RulingKind
    at_ms: int
    by: str
    expires_at: int
    numbers: tuple[int, int] | None = None

    @property
    def key(self) -> Key:
        which = "all" if self.numbers is None else f"{self.numbers[0]}-{self.numbers[1]}"
        return Key(RULING_PK, f"{self.source_id}#{self.kind}#{which}")

    def to_item(self) -> dict[str, Value]:
        numbers: list[Value] = [] if self.numbers is None else list(self.numbers)
        return {
            **self.key._asdict(),
            "source_id": self.source_id,
            "kind": self.kind.value,
            "numbers": numbers,
            "at_ms": self.at_ms,
            "by": self.by,
            "expires_at": self.expires_at,
        }

    @classmethod
    def from_item(cls, item: Item) -> Ruling:
        fields = Fields.of_item(item)
        numbers = fields.wholes("numbers")
        if len(numbers) not in {0, 2}:
            fields.fail("numbers", "a first and a last number, or none")
        made = cls(
            source_id=fields.text("source_id"),
            kind=fields.one_of("kind", tuple(RulingKind)),
            at_ms=fields.whole("at_ms"),
            by=fields.text("by"),
            expires_at=fields.whole("expires_at"),
            numbers=(numbers[0], numbers[1]) if numbers else None,
        )
        fields.check_key(made.key)
        return made


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFigures:
    """Figures of all sources, as of the last whole pass and the rulings that were honoured since.

    Attributes:
        scanned_ms: Time when the last whole pass read the markers. Silence and gaps are as of then.
        ruled_ms: Time of the newest ruling that is honoured.
        sources: Number of sources that are followed.
        silent: Number of them that had sent nothing for `SILENCE_S`.
        gaps: Number of gaps of all of them, unlisted gaps included.
        incredible: Number of sources with numbers that do not credibly continue their sequence.
        unkept: Number of sources that could not be read or written, and of batches of sources beyond those that are
            followed.
        names: The first of those sources.
    """

    scanned_ms: int = 0
    ruled_ms: int = 0
    sources: int = 0
    silent: int = 0
    gaps: int = 0
    incredible: int = 0
    unkept: int = 0
    names: tuple[str, ...] = ()

    def to_item(self) -> dict[str, Value]:
        return {
            **SOURCES_KEY._asdict(),
            "scanned_ms": self.scanned_ms,
            "ruled_ms": self.ruled_ms,
            "sources": self.sources,
            "silent": self.silent,
            "gaps": self.gaps,
            "incredible": self.incredible,
            "unkept": self.unkept,
            "names": list(self.names),
        }

    @classmethod
    def from_item(cls, item: Item) -> SourceFigures:
        fields = Fields.of_item(item)
        return cls(
            scanned_ms=fields.whole("scanned_ms"),
            ruled_ms=fields.whole("ruled_ms"),
            sources=fields.whole("sources"),
            silent=fields.whole("silent"),
            gaps=fields.whole("gaps"),
            incredible=fields.whole("incredible"),
            unkept=fields.whole("unkept"),
            names=fields.texts("names"),
        )


SOURCE_PK = f"{NOTE}source"


def source_id_of(item: Item) -> str:
    """The source id of a source's item, even if the item cannot be read otherwise."""
    return str(item["sk"])


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceState:
    """State of a source, as derived from markers.

    Attributes:
        last_sequence: Highest credible number seen.
        last_seen_s: Time when its last batch was decided, epoch seconds; 0 after it was forgotten, until it sends
            again.
        gaps: Missing numbers, as intervals with both ends, in order: the newest few hundred.
        unlisted_gaps, unlisted_numbers: Numbers of older gaps, and of the missing numbers in them.
        incredible, incredible_first: Count of numbers that do not credibly continue the sequence, and the least of
            them.
    """

    source_id: str
    last_sequence: int
    last_seen_s: int
    gaps: tuple[tuple[int, int], ...] = ()
    unlisted_gaps: int = 0
    unlisted_numbers: int = 0
    incredible: int = 0
    incredible_first: int | None = None

    @property
    def missing(self) -> int:
        """Count of missing numbers."""
        return sum(last - first + 1 for first, last in self.gaps) + self.unlisted_numbers

    def is_live(self, now_s: int, life_s: int) -> bool:
        """Whether it has sent anything within `life_s`. Otherwise it does not count as a source any more."""
        return self.last_seen_s > now_s - life_s

    def to_item(self) -> dict[str, Value]:
        gaps: list[Value] = [[first, last] for first, last in self.gaps]
        incredible: dict[str, Value] = {}
        if self.incredible_first is not None:
            incredible = {"incredible": self.incredible, "incredible_first": self.incredible_first}
        return {
            **Key(SOURCE_PK, self.source_id)._asdict(),
            "last_sequence": self.last_sequence,
            "last_seen_s": self.last_seen_s,
            "gaps": gaps,
            "unlisted_gaps": self.unlisted_gaps,
            "unlisted_numbers": self.unlisted_numbers,
            **incredible,
        }

    @classmethod
    def from_item(cls, item: Item) -> SourceState:
        fields = Fields.of_item(item)
        return cls(
            source_id=fields.text("sk"),
            last_sequence=fields.whole("last_sequence", least=-1),
            last_seen_s=fields.whole("last_seen_s"),
            gaps=tuple((gap.whole("first"), gap.whole("last")) for gap in fields.rows("gaps", ("first", "last"))),
            # Items written before gaps were bounded list all of them.
            unlisted_gaps=fields.whole("unlisted_gaps", absent=0),
            unlisted_numbers=fields.whole("unlisted_numbers", absent=0),
            incredible=fields.whole("incredible", absent=0),
            incredible_first=fields.whole("incredible_first", absent=None),
        )


# Time without a batch after which a source counts as silent, as of the whole pass that looked for it.
SILENCE_S = DAY_S

"""What people rule about sources, and what the reconciler sums up of all of them.

| item                | pk            | sk                              | written by   |
|---------------------|---------------|---------------------------------|--------------|
| ruling              | `W#ruling`    | source id, kind, numbers        | operators    |
| figures of sources  | `W#sources`   | `W`                             | reconciler   |
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from metering.domain.fields import Fields
from metering.domain.items import Key

if TYPE_CHECKING:
    from metering.domain.items import Item, Value

RULING_PK = "W#ruling"
SOURCES_KEY = Key("W#sources", "W")
# Sources that are named where some could not be followed; all of them are counted.
NAMED = 20


class RulingKind(StrEnum):
    """What an operator rules."""

    ACCEPT_GAP = "accept-gap"
    FORGET = "forget"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruling:
    """An operator's word on a source, which the reconciler honours. Given again it only gets a new moment.

    Attributes:
        numbers: First and last number of the gap that is accepted; None for everything up to `at_ms`.
        by: Who gave it, as AWS knows them.
        expires_at: Epoch seconds. No marker of before the ruling may outlive it.
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
    """All sources, as of the last whole pass and the rulings that were honoured since.

    Attributes:
        scanned_ms: When the last whole pass read the markers: what it says of silence and gaps is as of then.
        ruled_ms: The newest ruling that is honoured.
        sources: How many are followed.
        silent: How many of them had sent nothing for as long as it takes.
        gaps: Gaps of all of them, those that are not listed included.
        incredible: Sources with numbers that are no credible continuation.
        unkept: Sources that could not be read or written, and batches of sources beyond those that are followed.
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

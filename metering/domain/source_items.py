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

from metering.domain.item_values import whole
from metering.domain.items import Key
from metering.errors import LedgerCorruptError

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
        numbers, kind = item.get("numbers"), item.get("kind")
        if kind not in set(RulingKind) or not isinstance(numbers, list) or len(numbers) not in {0, 2}:
            raise LedgerCorruptError(f"{item['pk']} / {item['sk']} is no ruling")
        return cls(
            source_id=str(item["source_id"]),
            kind=RulingKind(str(kind)),
            at_ms=whole(item, "at_ms"),
            by=str(item["by"]),
            expires_at=whole(item, "expires_at"),
            numbers=(int(str(numbers[0])), int(str(numbers[1]))) if numbers else None,
        )


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
        names = item.get("names")
        if not isinstance(names, list):
            raise LedgerCorruptError(f"{item['pk']} / {item['sk']}: names is no list")
        return cls(
            scanned_ms=whole(item, "scanned_ms"),
            ruled_ms=whole(item, "ruled_ms"),
            sources=whole(item, "sources"),
            silent=whole(item, "silent"),
            gaps=whole(item, "gaps"),
            incredible=whole(item, "incredible"),
            unkept=whole(item, "unkept"),
            names=tuple(map(str, names)),
        )

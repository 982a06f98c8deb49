"""Requests of one load to the services."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from load_tests.wire.counts import total

if TYPE_CHECKING:
    from collections.abc import Mapping

    from load_tests.wire.region import Kinds, Load, Stored

# Write operations of each part, by operation and kind of the first item.
PARTS = {
    "accept": ("TransactWriteItems C#", "PutItem S#"),
    "roll up": ("TransactWriteItems U#", "TransactWriteItems D#", "UpdateItem A#", "UpdateItem S#", "DeleteItem U#"),
    "compact": ("UpdateItem H#", "PutItem H#", "UpdateItem P#", "DeleteItem P#", "PutItem R#", "UpdateItem R#"),
    "clean": ("DeleteItem H#", "UpdateItem C#", "PutItem W#"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class WireRun:
    """Counts of one load.

    Attributes:
        counts: Units from the first message to the last cleaning, without the claims of kind numbers.
        body_bytes: Size of all messages.
        claims: Units of the claims of kind numbers. An account's kind is claimed once in its life.
        cpu_s: CPU time of our code by part.
        stored: Content of the tables before their cleaning.
        dictionaries: Units of reading each account's dictionary once; empty in a region of few kinds.
        equal: Whether usage, rows and markers were equal at the end.
    """

    load: Load
    batches: int
    body_bytes: int
    counts: Mapping[str, float]
    claims: Mapping[str, float]
    cpu_s: Mapping[str, float]
    kinds: Kinds
    stored: Stored
    equal: bool
    dictionaries: Mapping[str, float] = field(default_factory=dict)

    @property
    def units(self) -> dict[str, float]:
        """Write units per batch by part."""
        return {
            part: sum(self.counts.get(f"write {name}", 0) for name in names) / self.batches
            for part, names in PARTS.items()
        }

    @property
    def units_a_batch(self) -> float:
        """All write units per batch."""
        return total(self.counts, "write ") / self.batches

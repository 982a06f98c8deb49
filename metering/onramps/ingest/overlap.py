"""Overlap of flow logs: interfaces that two of them see in one hour. Without a context it can only be reported."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from metering.onramps.observations import FlowHop

if TYPE_CHECKING:
    from metering.onramps.names import FileName
    from metering.onramps.observations import Block

# Interface-hours that are remembered, about 50 MB. A larger run may have overlap that is not seen.
_MOST = 200_000


class Twice(NamedTuple):
    """An interface that two flow logs see in one hour."""

    interface_id: str
    hour_s: int
    first: str
    other: str


class Overlap:
    """Looks for interfaces that two flow logs see. Several threads may share it: each step is one of a dictionary."""

    def __init__(self) -> None:
        self._sources: dict[tuple[str, int], str] = {}
        self._twice: dict[tuple[str, int], Twice] = {}

    @property
    def interface_hours(self) -> int:
        """How many there are."""
        return len(self._twice)

    @property
    def example(self) -> Twice | None:
        """The least of them, so that two runs over the same files name the same; None if there is none."""
        return min(self._twice.values(), default=None)

    def look(self, name: FileName, block: Block[object]) -> None:
        """Look at a block of a file."""
        seen = {(s.interface_id, each.hour_s) for each in block.observations if isinstance(s := each.subject, FlowHop)}
        for key in seen:
            if not key[0] or not name.source or len(self._sources) >= _MOST:
                continue
            first = self._sources.setdefault(key, name.source)
            if first != name.source:
                self._twice.setdefault(key, Twice(*key, *sorted((first, name.source))))

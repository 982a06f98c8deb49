"""The truth of a network's traffic: summed while traffic is made, and never read from lines."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from tests.support.networks.files import Tally

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.support.networks.billing import Movement


class Sum(NamedTuple):
    bytes: int
    lines: int


class Hour(NamedTuple):
    """A movement in an hour, as visible to logs with certain fields.

    Attributes:
        knows: Version of the fields of the log with authority.
    """

    hour_s: int
    knows: str
    movement: Movement


@dataclass(slots=True)
class Truth:
    """Exact sums of everything that a network's logs say once, and of their repetitions."""

    tally: Tally = field(default_factory=Tally)
    shadowed: dict[str, Sum] = field(default_factory=dict)
    _sums: dict[Hour, list[int]] = field(default_factory=dict)

    def move(self, hour: Hour, size_bytes: int, lines: int = 1) -> None:
        """Count a side of a hop once. A line that moves both ways is counted with its first move."""
        entry = self._sums.setdefault(hour, [0, 0])
        entry[0] += size_bytes
        entry[1] += lines

    def shadow(self, log_id: str, size_bytes: int) -> None:
        before = self.shadowed.get(log_id, Sum(0, 0))
        self.shadowed[log_id] = Sum(before.bytes + size_bytes, before.lines + 1)

    @property
    def sums(self) -> Mapping[Hour, Sum]:
        return {hour: Sum(size_bytes, lines) for hour, (size_bytes, lines) in self._sums.items()}

    @property
    def metered_bytes(self) -> int:
        return sum(size_bytes for size_bytes, _ in self._sums.values())

    def hidden_bytes(self) -> int:
        """Bytes that their log's fields cannot classify, even with the whole inventory."""
        return sum(entry[0] for hour, entry in self._sums.items() if hour.movement.hides(hour.knows))

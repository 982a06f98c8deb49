"""Totals of millions of keys in bounded memory: a fingerprint for each hour and part, by hash of the key.

Two sets of totals are compared cell by cell. Where two cells differ, only the keys of that hour and part are looked at
one by one. So memory follows from hours and parts, not from accounts or batches.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

from metering.audit.reconcile.fingerprints import Fingerprint
from metering.units import HOUR_S
from metering.usage.totals import Total, sum_totals

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Mapping

# Bytes of a cell with its place in two dictionaries, measured with Python 3.13.
_CELL_BYTES = 400
# Kinds of cells that a scan holds: usage and its rows, markers and their rows.
_KINDS = 4
# Part of a scan's memory that its cells take. Most of it is for an hour's keys while they are summed; and with 25 parts
# of an hour, what differs in one of them is 60,000 batches at three times the target.
SHARE_OF_CELLS = 16
_FEWEST_PARTS, _MOST_PARTS = 16, 1_024

Saved = dict[str, list[list[int | str]]]


def parts_in(memory_bytes: int, hours: int) -> int:
    """Number of parts of an hour, so that the cells of a scan take their share of the memory at most."""
    most = memory_bytes // SHARE_OF_CELLS // (_CELL_BYTES * _KINDS * max(hours, 1))
    return max(_FEWEST_PARTS, min(most, _MOST_PARTS))


def span_hours(from_s: int, to_s: int) -> int:
    """Hours of a range, at most those of which there are rows and markers at any time."""
    return min(max((to_s - from_s) // HOUR_S, 1), 24 * 70)


def part_of(name: str, parts: int) -> int:
    """Part of an account or a batch."""
    return zlib.crc32(name.encode()) % parts


class Cells:
    """Fingerprints by hour and part. A plain class: it is added to.

    Args:
        parts: Number of parts of an hour.
    """

    def __init__(self, parts: int) -> None:
        self.parts = parts
        self._hours: dict[int, dict[int, Fingerprint]] = {}

    def __iter__(self) -> Iterator[int]:
        """Hours with a cell, in no order."""
        return iter(self._hours)

    def add(self, hour_s: int, name: str, key: Hashable, total: Total) -> None:
        """Add the total of a key to the cell of an hour and of the part of `name`."""
        self._cell(hour_s, part_of(name, self.parts)).add(key, total)

    def merge(self, other: Cells) -> None:
        """Add all cells of another set with as many parts."""
        for hour_s, cells in other._hours.items():
            for part, cell in cells.items():
                self._cell(hour_s, part).merge(cell)

    def of(self, hour_s: int) -> Mapping[int, Fingerprint]:
        """Cells of an hour, by part."""
        return self._hours.get(hour_s, {})

    def total(self, hour_s: int) -> Total:
        """Sum of an hour."""
        return sum_totals(cell.total for cell in self.of(hour_s).values())

    def counts(self, hour_s: int) -> bool:
        """Whether the totals of an hour do not cancel out in every part."""
        return any(cell != Fingerprint() for cell in self.of(hour_s).values())

    def differing(self, other: Cells, hour_s: int) -> frozenset[int]:
        """Parts of an hour in which two sets differ."""
        mine, theirs, empty = self.of(hour_s), other.of(hour_s), Fingerprint()
        return frozenset(part for part in {*mine, *theirs} if mine.get(part, empty) != theirs.get(part, empty))

    def saved(self) -> Saved:
        """Form for JSON, exact."""
        return {
            str(hour_s): [
                [part, str(cell.total.bytes), cell.total.records, str(cell.value)] for part, cell in cells.items()
            ]
            for hour_s, cells in self._hours.items()
        }

    @classmethod
    def of_saved(cls, parts: int, saved: Saved) -> Cells:
        """Inverse of `saved`."""
        made = cls(parts)
        for hour, cells in saved.items():
            made._hours[int(hour)] = {
                int(part): Fingerprint(total=Total(int(size), int(records)), value=int(value))
                for part, size, records, value in cells
            }
        return made

    def _cell(self, hour_s: int, part: int) -> Fingerprint:
        return self._hours.setdefault(hour_s, {}).setdefault(part, Fingerprint())

"""Own addresses of interfaces by the lines of a flow log, and lines of interfaces that forward bytes for others."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from metering.onramps.reading import Shown
from metering.units import HOUR_S

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from metering.onramps.reading import Detail

_EGRESS = "egress"
# Bits of a key for interface, address and hour, in this order. A block has fewer of each.
_ADDRESS_BITS, _HOUR_BITS = 26, 12


class ShownAddresses:
    """Collects own addresses of the interfaces of one file, block by block."""

    def __init__(self, detail: Detail) -> None:
        self._detail = detail
        self._told: set[tuple[int, str, str]] = set()
        self._counted: dict[tuple[int, str, str], int] = defaultdict(int)

    def add(self, table: pa.Table, texts: Mapping[str, Sequence[str]]) -> None:
        """Add the rows of a block, whose texts are indices of `texts`."""
        if not {"interface_id", "source", "destination"}.issubset(texts):
            return
        ends = [*texts["source"], *texts["destination"]]
        keys = _Keys(table, texts["interface_id"], ends, len(texts["source"]))
        direction = table.column("flow_direction") if "flow_direction" in texts else None
        if direction is None or direction.null_count:
            self._count(keys, table, texts["interface_id"], direction)
        if direction is not None:
            outward = pc.equal(direction, _place(texts["flow_direction"], _EGRESS))
            self._told.update(keys.distinct(pc.if_else(outward, keys.source, keys.destination)))

    def take(self) -> list[Shown]:
        """Addresses since the last call, sorted."""
        found = [Shown(*each) for each in sorted(self._told)]
        found += [Shown(*each, lines) for each, lines in sorted(self._counted.items())]
        self._told.clear()
        self._counted.clear()
        return found

    def _count(
        self, keys: _Keys, table: pa.Table, interface_ids: Sequence[str], direction: pa.ChunkedArray | None
    ) -> None:
        """Count lines without a direction, of interfaces whose addresses are not known otherwise."""
        known = self._detail.is_known(interface_ids, keys.hours())
        rows = pc.is_in(table.column("interface_id"), _places([not each for each in known]))
        if direction is not None:
            rows = pc.and_(rows, direction.is_null())
        if not pc.any(rows).as_py():
            return
        for column in (keys.source, keys.destination, None):
            for key, lines in keys.counts(column, rows):
                self._counted[key] += lines


class _Keys:
    """Interface, address and hour of each row as one number, which Arrow finds distinct values of fast."""

    def __init__(self, table: pa.Table, interface_ids: Sequence[str], ends: Sequence[str], sources: int) -> None:
        self._interface_ids = interface_ids
        self._ends = (*ends, "")
        hour = pc.divide(table.column("start"), HOUR_S)
        self._first = pc.min(hour).as_py()
        self._hour = pc.bit_wise_and(pc.subtract(hour, self._first), 2**_HOUR_BITS - 1)
        interface = table.column("interface_id").cast(pa.int64())
        self._base = pc.add(pc.shift_left(interface, _ADDRESS_BITS + _HOUR_BITS), self._hour)
        self.source = table.column("source").cast(pa.int64())
        self.destination = pc.add(table.column("destination").cast(pa.int64()), sources)

    def hours(self) -> list[int]:
        """Hours of the rows, in epoch seconds."""
        return [(self._first + each) * HOUR_S for each in pc.unique(self._hour).to_pylist()]

    def distinct(self, address: pa.ChunkedArray) -> list[tuple[int, str, str]]:
        """Distinct hours, interfaces and addresses."""
        return [self._told(key) for key in pc.unique(self._key(address)).to_pylist() if key is not None]

    def counts(self, address: pa.ChunkedArray | None, rows: pa.ChunkedArray) -> list[tuple[tuple[int, str, str], int]]:
        """Hours, interfaces and addresses of some rows, each with its number of rows; None is the empty address."""
        key = self._key(pa.scalar(len(self._ends) - 1, pa.int64()) if address is None else address)
        counted = pc.value_counts(key.filter(rows)).to_pylist()
        return [(self._told(each["values"]), each["counts"]) for each in counted if each["values"] is not None]

    def _key(self, address: pa.ChunkedArray | pa.Scalar) -> pa.ChunkedArray:
        return pc.add(self._base, pc.shift_left(address, _HOUR_BITS))

    def _told(self, key: int) -> tuple[int, str, str]:
        hour, rest = key % 2**_HOUR_BITS, key >> _HOUR_BITS
        interface, address = rest >> _ADDRESS_BITS, rest % 2**_ADDRESS_BITS
        return (self._first + hour) * HOUR_S, self._interface_ids[interface], self._ends[address]


def _place(texts: Sequence[str], text: str) -> int:
    return texts.index(text) if text in texts else -1


def forwarding(
    table: pa.Table, texts: Mapping[str, Sequence[str]], detail: Detail, hours: Sequence[int]
) -> pa.ChunkedArray | None:
    """Mask of rows of interfaces that forward, or of gateways without an interface; None if all rows are of such."""
    if "interface_id" not in texts:
        return None
    column = table.column("interface_id")
    rows = pc.or_(pc.is_in(column, _places(detail.forwarding(texts["interface_id"], hours))), column.is_null())
    if "interface_type" not in texts:
        return rows
    types = table.column("interface_type")
    return pc.or_(rows, pc.is_in(types, _places(detail.forwards(texts["interface_type"]))))


def _places(chosen: Sequence[bool]) -> pa.Int32Array:
    return pa.array([place for place, each in enumerate(chosen) if each], pa.int32())

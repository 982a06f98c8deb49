"""Column arithmetic: plain Python for a message's hundred rows, Arrow for an object's thousands of rows.

Calling an Arrow kernel costs some microseconds for any number of rows; plain Python costs 25 to 100 ns per row.
"""

from __future__ import annotations

from array import array
from collections import defaultdict
from dataclasses import dataclass
from itertools import repeat
from operator import sub
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from metering.intake.admission import HOUR_US
from metering.units import INT64_MAX

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from metering.intake.records import Head, Traffic

_LOW_BITS = 32


def halves(numbers: pa.Array | pa.ChunkedArray) -> tuple[pa.Array | pa.ChunkedArray, pa.Array | pa.ChunkedArray]:
    """The low and the high 32 bits of non-negative numbers. The sum of fewer than 2^31 halves cannot overflow."""
    return pc.bit_wise_and(numbers, 2**_LOW_BITS - 1), pc.shift_right(numbers, _LOW_BITS)


def joined(low_sum: int, high_sum: int) -> int:
    """The exact sum of numbers, from the sums of their low and high halves."""
    return (high_sum << _LOW_BITS) + low_sum


def exact_sum(numbers: pa.Array | pa.ChunkedArray) -> int:
    """Sum of fewer than 2^31 non-negative int64 values."""
    low_sum, high_sum = (pc.sum(half).as_py() or 0 for half in halves(numbers))
    return joined(low_sum, high_sum)


@dataclass(frozen=True, slots=True, kw_only=True)
class RowBlock:
    """Some rows, in order.

    Attributes:
        head_index: Index of each row's head in `BatchRows.heads`, u32.
        resource_ids: Python strings from JSON, an Arrow array from Parquet.
        sizes: Bytes, i64.
        starts: Epoch microseconds, i64.
        ends: Epoch microseconds, i64.
    """

    head_index: array[int]
    resource_ids: list[str] | pa.Array
    sizes: array[int]
    starts: array[int]
    ends: array[int]

    def __len__(self) -> int:
        return len(self.head_index)


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchRows:
    """The accepted rows of one batch (`RecordRows`).

    Attributes:
        traffic: Result of the record rules for each head; rows refer only to heads without problems.
    """

    heads: Sequence[Head]
    traffic: Sequence[Traffic]
    blocks: Sequence[RowBlock]

    def __len__(self) -> int:
        return sum(map(len, self.blocks))


ARROW_FROM_ROWS = 500
"""Fewest rows for which an Arrow kernel is faster."""

_PRINTABLE = bytes(range(0x20, 0x7F))
_TYPES = {"I": pa.uint32(), "q": pa.int64()}


def arrow(values: array[int]) -> pa.Array:
    """Arrow array that shares the memory of `values`, without a copy."""
    return pa.Array.from_buffers(_TYPES[values.typecode], len(values), [None, pa.py_buffer(values)])


def strings(lengths: array[int], data: bytes) -> pa.Array:
    """Arrow array of the strings concatenated in `data`; `lengths` has the UTF-8 bytes of each."""
    offsets = array("i", [0])
    offsets.frombytes(memoryview(pc.cumulative_sum(arrow(lengths).cast(pa.int32())).buffers()[1])[: 4 * len(lengths)])
    return pa.Array.from_buffers(pa.string(), len(lengths), [None, pa.py_buffer(offsets), pa.py_buffer(data)])


def is_plain(text: bytes | memoryview) -> bool:
    """Whether a string has only printable ASCII. This is ten times as fast as `isprintable`."""
    return not bytes(text).translate(None, _PRINTABLE)


def bounds(values: array[int]) -> tuple[int, int]:
    """Minimum and maximum of a column."""
    return (min(values), max(values)) if len(values) < ARROW_FROM_ROWS else _bounds(arrow(values))


def span_bounds(starts: array[int], ends: array[int]) -> tuple[int, int]:
    """Minimum and maximum difference of two columns of times; no difference can overflow."""
    if len(starts) >= ARROW_FROM_ROWS:
        return _bounds(pc.subtract(arrow(ends), arrow(starts)))
    spans = list(map(sub, ends, starts))
    return min(spans), max(spans)


def sums(blocks: Sequence[RowBlock]) -> Iterable[tuple[int, int, int, int]]:
    """Sums by head and hour: head number, hour in microseconds, exact sum of bytes, number of rows."""
    return _few_sums(blocks) if sum(map(len, blocks)) < ARROW_FROM_ROWS else _many_sums(blocks)


def _bounds(values: pa.Array) -> tuple[int, int]:
    found = pc.min_max(values)
    return found["min"].as_py(), found["max"].as_py()


def _few_sums(blocks: Sequence[RowBlock]) -> Iterator[tuple[int, int, int, int]]:
    groups: defaultdict[tuple[int, int], list[int]] = defaultdict(list)
    for block in blocks:
        for key, size in zip(zip(block.head_index, _hours(block.starts)), block.sizes):  # noqa: B905  # endless hours
            groups[key].append(size)
    for key, sizes in groups.items():
        yield *key, sum(sizes), len(sizes)


def _hours(starts: array[int]) -> Iterable[int]:
    first_us = min(starts)
    hour_us = first_us - first_us % HOUR_US
    if max(starts) < hour_us + HOUR_US:
        return repeat(hour_us)
    return [start_us - start_us % HOUR_US for start_us in starts]


def _many_sums(blocks: Sequence[RowBlock]) -> Iterator[tuple[int, int, int, int]]:
    sizes = pa.chunked_array([arrow(block.sizes) for block in blocks])
    columns = {
        "head": pa.chunked_array([arrow(block.head_index) for block in blocks]),
        # Admitted rows start after 1970, so truncating division gives the hour.
        "hour": pc.divide(pa.chunked_array([arrow(block.starts) for block in blocks]), HOUR_US),
    }
    # Arrow's sums wrap silently at 2^63; sums of 32-bit halves cannot reach this number.
    if pc.max(sizes).as_py() <= INT64_MAX // len(sizes):
        columns |= {"low": sizes}
    else:
        columns["low"], columns["high"] = halves(sizes)
    wanted = [("low", "sum"), ("low", "count"), *((name, "sum") for name in columns if name == "high")]
    grouped = pa.table(columns).group_by(["head", "hour"], use_threads=False).aggregate(wanted)
    for row in grouped.to_pylist():
        size = joined(row["low_sum"], row.get("high_sum", 0))
        yield row["head"], row["hour"] * HOUR_US, size, row["low_count"]

"""Exact sums of int64 columns. Arrow's own sum wraps at 2^63, so the two halves of each number are summed."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

_LOW_BITS = 32


def halves(numbers: pa.Array | pa.ChunkedArray) -> tuple[pa.Array | pa.ChunkedArray, pa.Array | pa.ChunkedArray]:
    """The low and the high 32 bits of non-negative numbers. Sums of fewer than 2^31 halves don't overflow."""
    return pc.bit_wise_and(numbers, 2**_LOW_BITS - 1), pc.shift_right(numbers, _LOW_BITS)


def joined(low_sum: int, high_sum: int) -> int:
    """The exact sum of numbers whose halves have these sums."""
    return (high_sum << _LOW_BITS) + low_sum


def exact_sum(numbers: pa.Array | pa.ChunkedArray) -> int:
    """Sum of non-negative int64, fewer than 2^31 of them."""
    low_sum, high_sum = (pc.sum(half).as_py() or 0 for half in halves(numbers))
    return joined(low_sum, high_sum)

"""Quantities and costs of many lines at once, in whole numbers, equal to `billing.money` line by line.

Arrow has no division of decimals with a rest, so the line rule is done in 64 bits where all numbers of a batch fit, and
by `billing.money` where they do not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from metering.billing.money import DECIMALS, UNITS_A_USD, line_cost, quantity_of
from metering.units import GIB, INT64_MAX

if TYPE_CHECKING:
    from collections.abc import Sequence

MONEY = pa.decimal128(38, DECIMALS)
WHOLE = pa.decimal128(38, 0)

_GIB_BITS = 30
# A GB's rest times 10^10, with the half that rounds, stays below 2^64; and the whole quantity below 2^63.
_MOST_BYTES = 2**58
# The part of a quantity below a GB is under 10^10. At a price below this, its product with the half fits into 64 bits.
_MOST_PRICE = 1_800_000_000
_MOST_COST = INT64_MAX
# A double holds each whole number below this.
_MOST_IN_DOUBLE = 2**53
_MOST_SCALED = 2**50 / UNITS_A_USD


def whole_numbers(numbers: Sequence[int | None]) -> pa.Array:
    """Whole numbers (or null) as int64 if they fit, else as decimal128(38, 0)."""
    try:
        return pa.array(numbers, pa.int64())
    except (OverflowError, pa.ArrowInvalid):
        # Arrow reads digits faster than it makes a Decimal.
        return pa.array([None if number is None else str(number) for number in numbers], pa.string()).cast(WHOLE)


def quantities(total_bytes: pa.Array) -> pa.Array:
    """Quantity of each line in 1e-10 GB, as `quantity_of`: int64, or decimal128(38, 0)."""
    if not _small(total_bytes, _MOST_BYTES):
        return whole_numbers([quantity_of(int(each)) for each in total_bytes.to_pylist()])
    size = pc.abs(total_bytes)
    rest = pc.bit_wise_and(size, GIB - 1).cast(pa.uint64())
    scaled = pc.add(pc.multiply(rest, _unsigned(UNITS_A_USD)), _unsigned(GIB // 2))
    part = pc.shift_right(scaled, _unsigned(_GIB_BITS)).cast(pa.int64())
    return _signed(total_bytes, pc.add(pc.multiply(pc.shift_right(size, _GIB_BITS), UNITS_A_USD), part))


def costs(total_bytes: pa.Array, quantity: pa.Array, prices: pa.Array) -> pa.Array:
    """Cost of each line in 1e-10 USD, as `line_cost`: int64, or decimal128(38, 0).

    Args:
        total_bytes: Bytes of the lines.
        quantity: Their quantities.
        prices: Their prices, 1e-10 USD a GB.
    """
    if not _fits(quantity, prices):
        pairs = zip(total_bytes.to_pylist(), prices.to_pylist(), strict=True)
        return whole_numbers([line_cost(int(each), int(price)) for each, price in pairs])
    size = pc.abs(quantity)
    whole = pc.divide(size, UNITS_A_USD)
    rest = pc.subtract(size, pc.multiply(whole, UNITS_A_USD)).cast(pa.uint64())
    product = pc.add(pc.multiply(rest, prices.cast(pa.uint64())), _unsigned(UNITS_A_USD // 2))
    part = pc.divide(product, _unsigned(UNITS_A_USD)).cast(pa.int64())
    return _signed(quantity, pc.add(pc.multiply(whole, prices), part))


def as_money(units: pa.Array) -> pa.Array:
    """Whole numbers of 1e-10 as decimal128(38, 10): the same digits, read with another scale."""
    whole = units.cast(WHOLE)
    return pa.Array.from_buffers(MONEY, len(whole), whole.buffers(), offset=whole.offset)


def as_doubles(units: pa.Array) -> pa.Array:
    """Whole numbers of 1e-10 as the doubles nearest to them. Arrow's cast of a decimal is up to one unit off."""
    if _small(units, _MOST_IN_DOUBLE):
        # Both are exact, so the quotient is rounded once.
        return pc.divide(units.cast(pa.float64()), float(UNITS_A_USD))
    return as_money(units).cast(pa.string()).cast(pa.float64())


def of_doubles(amounts: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """The decimals of ten places that doubles are nearest to; the other way of `as_doubles`, below 524,288."""
    most = pc.max(pc.abs(amounts)).as_py()
    if most is None or most < _MOST_SCALED:
        # Twice rounded, and still nearer to its whole number than to any other.
        units = pc.round(pc.multiply(amounts, float(UNITS_A_USD))).cast(pa.int64())
        if isinstance(units, pa.ChunkedArray):
            return pa.chunked_array([as_money(chunk) for chunk in units.chunks], MONEY)
        return as_money(units)
    return amounts.cast(pa.string()).cast(MONEY)


def _fits(quantity: pa.Array, prices: pa.Array) -> bool:
    if not len(prices):
        return True
    if not (_small(quantity, INT64_MAX) and pa.types.is_int64(prices.type)):
        return False
    bounds = pc.min_max(prices)
    low, high = bounds["min"].as_py(), bounds["max"].as_py()
    if low < 0 or high >= _MOST_PRICE:
        return False
    most = pc.max(pc.abs(quantity)).as_py()
    return bool((most // UNITS_A_USD + 1) * (high + 1) < _MOST_COST)


def _small(numbers: pa.Array, most: int) -> bool:
    """Whether all numbers are int64, and below `most` in size."""
    if not pa.types.is_int64(numbers.type):
        return False
    if len(numbers) == numbers.null_count:
        return True
    bounds = pc.min_max(numbers)
    return bool(bounds["min"].as_py() > -most and bounds["max"].as_py() < most)


def _signed(like: pa.Array, size: pa.Array) -> pa.Array:
    negative = pc.less(like, 0)
    return pc.if_else(negative, pc.negate(size), size) if pc.any(negative).as_py() else size


def _unsigned(number: int) -> pa.Scalar:
    return pa.scalar(number, pa.uint64())

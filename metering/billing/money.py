"""Money as integers: exact totals, AWS's rounding rule for lines, and cents.

| name       | unit                          | where it is used                                               |
|------------|-------------------------------|----------------------------------------------------------------|
| price      | 1e-10 USD a GB                | price books; AWS's offer files have ten decimals               |
| exact (L0) | 1e-10 USD / 2^30              | totals, tie-outs, budgets: `bytes * price`, nothing is rounded |
| line (L1)  | 1e-10 USD                     | a line of an export: quantity and cost rounded half up         |
| cents (L2) | 0.01 USD                      | a line of an invoice: the exact cost rounded half up           |

One GB is 2^30 bytes. The rule for lines is AWS's: all 536 lines of the sample data follow it, but from exact bytes only
531 would match. AWS's bill of May 2025 shows that an invoice amount is the sum of rounded lines. Half up means away
from zero, also for negative numbers, so that a line and its reversal cancel out.
"""

import re
from decimal import ROUND_HALF_UP, Decimal

from metering.units import GIB

DECIMALS = 10
"""Decimals of prices, quantities and costs of lines."""
UNITS_A_USD = 10_000_000_000
EXACT_A_USD = UNITS_A_USD * GIB
_EXACT_A_CENT = EXACT_A_USD // 100
_GB_BITS = GIB.bit_length() - 1
_HALF_GB = GIB // 2
_HALF_UNITS = UNITS_A_USD // 2
_CENT = Decimal("0.01")
_PRICE = re.compile(r"[0-9]{1,12}(\.[0-9]{1,10})?")


def price_of(text: str) -> int:
    """Parse a price from a decimal text such as `0.0900000000`.

    Raises:
        ValueError: The text is negative, or not a decimal number with at most ten decimals.
    """
    if _PRICE.fullmatch(text) is None:
        raise ValueError(f"{text!r} is not a price: digits, and at most {DECIMALS} decimals after a point")
    whole, _, part = text.partition(".")
    return int(whole) * UNITS_A_USD + int(part.ljust(DECIMALS, "0"))


def quantity_of(total_bytes: int) -> int:
    """Quantity of a line in 1e-10 GB, rounded half up."""
    return half_up(total_bytes * UNITS_A_USD, GIB)


def line_cost(total_bytes: int, price: int) -> int:
    """Cost of a line in 1e-10 USD (L1): rounded quantity times price, and the product rounded half up.

    The price is 0 or more. Bytes may be negative: a line and its reversal cancel out.
    """
    if total_bytes < 0:
        return -line_cost(-total_bytes, price)
    # Inlined, because exports have millions of lines, and two calls of `half_up` increase the time by half.
    quantity = (total_bytes * UNITS_A_USD + _HALF_GB) >> _GB_BITS
    return (quantity * price + _HALF_UNITS) // UNITS_A_USD


def cents_of(exact: int) -> int:
    """Exact cost in cents (L2), rounded half up."""
    return half_up(exact, _EXACT_A_CENT)


def rounded(exact: int) -> int:
    """An exact cost in 1e-10 USD, rounded half up: only to print a sum; never add rounded costs."""
    return half_up(exact, GIB)


def usd_text(units: int, *, decimals: int = DECIMALS) -> str:
    """A whole number of 10^-`decimals` as a decimal text: `usd_text(9, decimals=2)` is `0.09`."""
    sign, size = ("-", -units) if units < 0 else ("", units)
    whole, part = divmod(size, 10**decimals)
    return f"{sign}{whole}.{part:0{decimals}d}" if decimals else f"{sign}{whole}"


def cents_text(usd: Decimal) -> str:
    """An amount for people in cents, rounded half up; `<0.01` is more than nothing."""
    cents = usd.quantize(_CENT, ROUND_HALF_UP)
    if usd and not cents:
        return f"<{_CENT}" if usd > 0 else f">-{_CENT}"
    return f"{cents:,f}"


def exact_text(exact: int) -> str:
    """An exact cost as a decimal text with all its digits, and at least two decimals."""
    # 1 / 2^30 has 30 decimal places, so this scale represents every exact cost as a whole number.
    text = usd_text(exact * 5**30, decimals=DECIMALS + 30).rstrip("0")
    whole, _, part = text.partition(".")
    return f"{whole}.{part:<02}"


def half_up(number: int, unit: int) -> int:
    """Number of units in a number; halves are rounded away from zero. `unit` is positive."""
    if number < 0:
        return -half_up(-number, unit)
    return (2 * number + unit) // (2 * unit)

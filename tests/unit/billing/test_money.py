"""Money in whole numbers: what is rounded, where, and which way."""

from __future__ import annotations

from decimal import Decimal

import pytest

from metering.billing.money import (
    EXACT_A_USD,
    cents_of,
    exact_text,
    line_cost,
    price_of,
    quantity_of,
    rounded,
    usd_text,
)
from metering.units import GIB


@pytest.mark.parametrize(("text", "price"), [("0.09", 900_000_000), ("1", 10**10), ("0.0000000001", 1), ("0", 0)])
def test_a_price_is_a_decimal_text_of_at_most_ten_decimals(text: str, price: int) -> None:
    assert price_of(text) == price


@pytest.mark.parametrize(
    "text", ["", ".5", "1.", "-1", "+1", "1e3", "NaN", "1e400", "0.00000000001", "٣", "1_0", " 1", "1\n"]
)
def test_what_is_no_price_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a price"):
        price_of(text)


@pytest.mark.parametrize(
    ("size", "price", "cost"),
    [
        # Half of the last decimal goes up, whether the digit before it is even or odd.
        (GIB // 2, 1, 1),
        (GIB // 2, 3, 2),
        (GIB // 2, 5, 3),
        (GIB // 4, 1, 0),
        (3 * GIB // 4, 1, 1),
        # The quantity is rounded first: 1 byte is 9.3 units of it.
        (1, 900_000_000, 1),
        (1, 10**10, 9),
        (0, 10**10, 0),
    ],
)
def test_a_line_is_rounded_half_up_and_its_reversal_cancels_it_out(size: int, price: int, cost: int) -> None:
    assert line_cost(size, price) == cost
    assert line_cost(-size, price) == -cost


def test_a_quantity_is_rounded_half_up() -> None:
    assert [quantity_of(size) for size in (1, GIB // 2, GIB, -1)] == [9, 5 * 10**9, 10**10, -9]
    # Odd multiples of 2^19 bytes lie in the middle: 4,882,812.5 units.
    assert [quantity_of(size) for size in (2**19, -(2**19))] == [4_882_813, -4_882_813]
    assert line_cost(2**19, 10**10) == 4_882_813


@pytest.mark.parametrize(
    ("cost", "cents"), [("0.005", 1), ("0.015", 2), ("0.025", 3), ("0.0249999999", 2), ("-0.005", -1)]
)
def test_cents_are_rounded_half_up_of_the_exact_cost(cost: str, cents: int) -> None:
    assert cents_of(int(Decimal(cost) * EXACT_A_USD)) == cents


def test_exact_costs_are_told_with_all_their_digits() -> None:
    assert exact_text(900_000_000) == "0.00000000008381903171539306640625"
    assert exact_text(-9 * EXACT_A_USD) == "-9.00"
    assert exact_text(10**40 * EXACT_A_USD + 1).startswith("1" + 40 * "0" + ".")


def test_a_sum_is_rounded_half_up_for_printing() -> None:
    assert [rounded(exact) for exact in (GIB // 2, GIB // 2 - 1, -GIB // 2)] == [1, 0, -1]
    assert usd_text(-9, decimals=2) == "-0.09"
    assert usd_text(7, decimals=0) == "7"

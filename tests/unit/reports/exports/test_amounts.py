"""Amounts of many lines at once are those of the line rule, line by line."""

from __future__ import annotations

from decimal import Context, Decimal

import pyarrow as pa
from hypothesis import example, given
from hypothesis import strategies as st

from metering.billing.money import line_cost, quantity_of
from metering.reports.exports.batches import as_money, costs, quantities, whole_numbers
from metering.reports.exports.datasets.columns import array_of, money

_SIZES = st.one_of(st.integers(-(2**20), 2**40), st.integers(-(2**70), 2**70), st.integers(2**57, 2**59))
_EXACT = Context(prec=100)
_PRICES = st.one_of(st.integers(0, 2_000_000_000), st.integers(0, 10**22))


@given(st.lists(st.tuples(_SIZES, _PRICES), max_size=30))
@example([(2**58 - 1, 1_799_999_999), (-(2**58) + 1, 0)])
@example([(2**58, 1_800_000_000)])
@example([(1, 1_799_999_999), (0, 0), (-1, 900_000_000)])
def test_quantities_and_costs_are_those_of_each_line(lines: list[tuple[int, int]]) -> None:
    sizes, prices = [size for size, _ in lines], [price for _, price in lines]
    of_bytes = whole_numbers(sizes)
    quantity = quantities(of_bytes)
    assert [int(each) for each in quantity.to_pylist()] == [quantity_of(size) for size in sizes]
    cost = costs(of_bytes, quantity, whole_numbers(prices))
    assert [int(each) for each in cost.to_pylist()] == [line_cost(size, price) for size, price in lines]


def test_bytes_of_real_lines_that_are_rounded_twice_cost_what_aws_billed() -> None:
    sizes = whole_numbers([7_220_399, 12_561, 103_287])
    prices = whole_numbers([850_000_000, 900_000_000, 1_093_000_000])
    assert costs(sizes, quantities(sizes), prices).to_pylist() == [5_715_843, 10_528, 105_139]


def test_units_become_decimals_with_the_same_digits_also_in_a_slice() -> None:
    units = pa.array([1, None, -900_000_000, 10**17], pa.int64())[1:]
    assert as_money(units).to_pylist() == [None, Decimal("-0.0900000000"), Decimal("10000000.0000000000")]


@given(st.lists(st.one_of(st.none(), st.integers(-(2**60), 2**60), st.integers(-(10**30), 10**30)), max_size=30))
@example([206_201_626])
@example([2**53 - 1, 2**53, 2**53 + 1])
def test_units_become_the_doubles_nearest_to_them(units: list[int | None]) -> None:
    from metering.reports.exports.batches import as_doubles

    wanted = [None if each is None else float(Decimal(each).scaleb(-10, _EXACT)) for each in units]
    assert as_doubles(whole_numbers(units)).to_pylist() == wanted


def test_a_double_of_a_cur_reads_as_the_digits_that_were_billed() -> None:
    assert money(pa.array([206_201_626], pa.int64()), "parquet", double=True).to_pylist() == [0.0206201626]
    assert array_of([206_201_626], pa.float64()).to_pylist() == [0.0206201626]

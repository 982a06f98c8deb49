"""Human-readable sizes."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.hours import month_bounds_s, month_of
from metering.units import exact_and_size, size_text


@pytest.mark.parametrize(("total_bytes", "text"), [
    (0, "0 bytes"),
    (1, "1 byte"),
    (1_023, "1,023 bytes"),
    (1_024, "1.00 KB"),
    (10_239, "10.0 KB"),
    (1_048_575, "1.00 MB"),
    (1_072_693_248, "1,023 MB"),
    (12_100_908_856_574, "11.0 TB"),
    (22_902_239_261_848_779_312_635, "19.4 ZB"),
    (2**90, "1,024 YB"),
    (-5, "-5 bytes"),
    (-2_048, "-2.00 KB"),
])  # fmt: skip
def test_a_size_has_the_largest_unit_of_which_it_is_at_least_one(total_bytes: int, text: str) -> None:
    assert size_text(total_bytes) == text


@given(st.integers(1, 2**89))
def test_a_size_never_reads_as_nothing_nor_has_more_than_four_digits_before_its_point(total_bytes: int) -> None:
    number, _ = size_text(total_bytes).split()
    whole = number.replace(",", "").split(".")[0]
    assert 1 <= int(whole) <= 1_023


def test_an_exact_number_has_its_size_beside_it_only_if_that_says_more() -> None:
    assert exact_and_size(0) == "0 bytes"
    assert exact_and_size(12_100_908_856_574) == "12,100,908,856,574 bytes = 11.0 TB"


def test_a_month_ends_where_the_next_one_begins() -> None:
    first_s, after_s = month_bounds_s("2026-12")
    assert first_s == int(datetime(2026, 12, 1, tzinfo=UTC).timestamp())
    assert (month_of(after_s - 1), month_of(after_s)) == ("2026-12", "2027-01")


@pytest.mark.parametrize("text", ["2026-9", "2026-013", "2026-13", "2026", "26-09", " 2026-09", "2026-09 ", "2O26-09"])
def test_a_month_has_one_name(text: str) -> None:
    """Another spelling would result in another ledger key, so a close of the month would have no effect."""
    with pytest.raises(ValueError, match=r"is not a month|does not match|unconverted data"):
        month_bounds_s(text)

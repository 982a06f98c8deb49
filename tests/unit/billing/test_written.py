"""Hours, sizes and percentages as documents of money write them: read back, and refused if they are something else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.billing.documents import (
    MOST_PERCENT,
    bytes_of_gb,
    gb_text,
    hour_of_text,
    hour_text,
    percent_of,
    percent_text,
)
from metering.units import GIB, HOUR_S


@given(hours=st.integers(0, 70_000_000))
def test_an_hour_is_read_as_it_was_written(hours: int) -> None:
    assert hour_of_text(hour_text(hours * HOUR_S)) == hours * HOUR_S


@given(total=st.integers(0, 10**30))
def test_bytes_are_read_as_they_were_written_in_gb(total: int) -> None:
    if total < 10**15 * GIB:
        assert bytes_of_gb(gb_text(total)) == total


@given(units=st.integers(0, MOST_PERCENT))
def test_a_percentage_is_read_as_it_was_written(units: int) -> None:
    assert percent_of(percent_text(units)) == units


@pytest.mark.parametrize("text", [
    "2026-08-01T00:30:00Z", "2026-08-01T00:00:00+02:00", "2026-08-01", "2026-13-01T00:00:00Z", "1969-12-31T00:00:00Z",
    "2026-8-1T00:00:00Z", "", "\uff12026-08-01T00:00:00Z", "99999-01-01T00:00:00Z",
])  # fmt: skip
def test_what_is_no_full_hour_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"full hour|before 1970"):
        hour_of_text(text)


@pytest.mark.parametrize("text", ["", "-1", "1e3", "Inf", "0.0000000001", "1.", ".5", "1" * 16, "\u0661"])
def test_what_is_no_whole_number_of_bytes_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="GB"):
        bytes_of_gb(text)


def test_gb_are_of_two_to_the_thirty() -> None:
    assert (bytes_of_gb("10240"), gb_text(1), bytes_of_gb("0.5")) == (
        10240 * GIB, "0.000000000931322574615478515625", GIB // 2,
    )  # fmt: skip


@pytest.mark.parametrize("text", ["100.001", "-1", "12.5000", "", "half"])
def test_what_is_no_percentage_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="percentage"):
        percent_of(text)

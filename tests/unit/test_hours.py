from datetime import UTC, datetime

import pytest

from metering.hours import month_bounds_s, month_of


def test_a_month_ends_where_the_next_one_begins() -> None:
    first_s, after_s = month_bounds_s("2026-12")
    assert first_s == int(datetime(2026, 12, 1, tzinfo=UTC).timestamp())
    assert (month_of(after_s - 1), month_of(after_s)) == ("2026-12", "2027-01")


@pytest.mark.parametrize("text", ["2026-9", "2026-013", "2026-13", "2026", "26-09", " 2026-09", "2026-09 ", "2O26-09"])
def test_a_month_has_one_name(text: str) -> None:
    """Another spelling would be another ledger key: closing it would fence off nothing."""
    with pytest.raises(ValueError, match=r"is not a month|does not match|unconverted data"):
        month_bounds_s(text)

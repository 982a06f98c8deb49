import pytest

from metering.intake.admission import MAX_EPOCH_S, MIN_EPOCH_S, epoch_us, rfc3339_us

_ONE_US = 1_795_525_200_000_000


@pytest.mark.parametrize("text", [
    "2026-11-24T13:00:00Z", "2026-11-24t13:00:00z", "2026-11-24 13:00:00+00:00", "2026-11-24T15:30:00+02:30",
    "2026-11-24T13:00:00.000000999Z", "2026-11-24T08:00:00.0-05:00",
])  # fmt: skip
def test_one_instant_can_be_written_in_many_ways(text: str) -> None:
    assert rfc3339_us(text) == _ONE_US


def test_times_are_kept_to_the_microsecond() -> None:
    assert rfc3339_us("2026-11-24T13:00:00.1234567Z") == _ONE_US + 123_456
    assert rfc3339_us("1969-12-31T23:59:59.5Z") == -500_000


@pytest.mark.parametrize("text", [
    "",
    "2026-11-24",
    "2026-11-24T13:00Z",
    "2026-11-24T13:00:00",
    "2026-02-30T00:00:00Z",
    "2026-11-24T24:00:00Z",
    "2026-11-24T13:00:60Z",
    "2026-11-24T13:00:00+0000",
    "2026-11-24T13:00:00+25:00",
    "2026-11-24T13:00:00+24:00",
    "2026-11-24T13:00:00+00:60",
    "2026-11-24T13:00:00-01:99",
    "2026-11-24T13:00:00-00:75",
    "2026-11-24T24:00:00+00:00",
    "2026-11-24T24:00:00.0Z",
    "2026-11-24T29:00:00Z",
    "2026-11-24T13:60:00Z",
    "2026-11-24T13:00:99Z",
    "20261124T130000Z",
    "2026-11-24T13:00:00.Z",
    "2026-11-24T13:00:00Z\n",
    "٢٠٢٦-11-24T13:00:00Z",
    "2026-11-24T13:00:00." + "1" * 99 + "Z",
    "0001-01-01T00:00:00+01:00",
])  # fmt: skip
def test_what_is_no_rfc_3339_time_is_none(text: str) -> None:
    assert rfc3339_us(text) is None


def test_epoch_seconds_reach_over_the_years_that_can_be_written() -> None:
    assert epoch_us(MIN_EPOCH_S) == rfc3339_us("0001-01-01T00:00:00Z")
    assert epoch_us(MAX_EPOCH_S) == rfc3339_us("9999-12-31T23:59:59Z")
    assert epoch_us(MIN_EPOCH_S - 1) is None
    assert epoch_us(MAX_EPOCH_S + 1) is None

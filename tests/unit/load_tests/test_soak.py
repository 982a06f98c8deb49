"""The conditions on a whole soak: it has ended, and neither its rate nor its memory has a trend."""

from __future__ import annotations

from dataclasses import replace

import pytest

from load_tests.soak import Leg, trends

LEG = Leg(first=0, batches=20_000, sending_s=30.0, settling_s=18.0, kills=15, overlaps=190, redriven=0, memory_mib=147)
# Measured.
NOISY = (741, 627, 635, 602, 733, 719, 604, 707, 680, 593)


def legs(rates: tuple[float, ...]) -> list[Leg]:
    return [replace(LEG, sending_s=LEG.batches / rate) for rate in rates]


def test_tenths_that_differ_without_a_trend_are_flat() -> None:
    assert trends(legs(NOISY)) == []


@pytest.mark.parametrize(
    ("rates", "said"),
    [
        (tuple(700.0 - 15 * tenth for tenth in range(10)), "rate fell from 700 to 565"),
        (tuple(rate * 0.97**tenth for tenth, rate in enumerate(NOISY)), "rate fell"),
        ((700.0,) * 5 + (500.0,) * 5, "rate fell"),
        ((700.0,) * 9, "not finished"),
    ],
)
def test_a_rate_that_falls_is_told(rates: tuple[float, ...], said: str) -> None:
    [problem] = trends(legs(rates))
    assert problem.startswith(said)


def test_memory_that_grows_is_told() -> None:
    grown = [replace(LEG, memory_mib=147 + 4 * tenth) for tenth in range(10)]
    assert trends(grown) == ["memory grew from 151 to 183 MiB"]


def test_a_run_without_a_batch_in_two_processes_proves_nothing() -> None:
    [problem] = trends([replace(LEG, overlaps=0)] * 10)
    assert "proves nothing" in problem

"""The model of a mapping's pollers: it conserves messages, keeps its limits, and shows what the window is for."""

from statistics import median

import pytest

from load_tests.costs import MESSAGES
from load_tests.mapping import POLLERS, RATES, Filled, filled, main
from metering.fleet.stage import StageConfig


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("pollers", POLLERS)
def test_messages_are_handed_over_once_in_batches_within_their_limits(seed: int, pollers: int) -> None:
    run = filled(rate_per_s=50, pollers=pollers, window_s=4, seconds=60, seed=seed)
    assert min(run.messages) >= 1
    assert max(run.messages) <= MESSAGES
    # What still waits at the end is at most the last window's.
    assert 50 * (60 - 4) * 0.9 <= sum(run.messages) <= 50 * 60 * 1.1
    assert 0 < run.waited_s <= 4


def test_the_same_seed_gives_the_same_run() -> None:
    assert filled(rate_per_s=20, pollers=5, window_s=2, seconds=20) == filled(
        rate_per_s=20, pollers=5, window_s=2, seconds=20
    )


def test_the_window_of_prod_fills_an_invocation_with_few_pollers_and_with_many_and_a_shorter_one_does_not() -> None:
    prod = StageConfig.load("prod").batch_window_s
    for rate in RATES:
        for pollers in POLLERS:
            run = filled(rate_per_s=rate, pollers=pollers, window_s=prod, seconds=90)
            assert median(run.messages) == MESSAGES, (rate, pollers)
    assert median(filled(rate_per_s=RATES[0], pollers=20, window_s=5, seconds=90).messages) < 45


def test_fewer_messages_an_invocation_cost_more() -> None:
    few, full = Filled(messages=(35,), waited_s=1), Filled(messages=(95,), waited_s=1)
    assert few.usd_a_day - full.usd_a_day == pytest.approx(3.1, abs=0.1)


def test_the_table_has_a_line_for_each_case(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2 + 2 * len(POLLERS) * len(RATES)

"""SQL over 60 lake files with 1 ms a read, 300 times: Arrow's scanner over a Python file system hung in 3 of 200."""

from __future__ import annotations

import pytest

from tests.support.slow_lake import ask_again_and_again, slow_lake


@pytest.mark.drill
def test_three_hundred_queries_over_slow_reads_all_end() -> None:
    ask_again_and_again(slow_lake(hours=30, files=2), times=300, read_s=0.001)

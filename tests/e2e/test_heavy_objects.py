"""The most expensive allowed objects, each read in a separate process; also SQL over slow reads. Needs no emulator."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.heavy import HEAVY, assert_bounded
from tests.support.lake_world import ask_again_and_again, slow_lake

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.drill


@pytest.mark.parametrize("name", HEAVY)
def test_the_hardest_objects_are_read_in_bounded_memory_and_time(name: str, tmp_path: Path) -> None:
    assert_bounded(name, tmp_path)


def test_three_hundred_queries_over_slow_reads_all_end() -> None:
    ask_again_and_again(slow_lake(hours=30, files=2), times=300, read_s=0.001)

"""All maximally difficult objects, each in a process of its own. Needs no emulator."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.heavy import HEAVY, assert_bounded

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.drill


@pytest.mark.parametrize("name", HEAVY)
def test_the_hardest_objects_are_read_in_bounded_memory_and_time(name: str, tmp_path: Path) -> None:
    assert_bounded(name, tmp_path)

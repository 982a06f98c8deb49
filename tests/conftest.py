"""Settings of all tests."""

from __future__ import annotations

import gc
import os
from typing import TYPE_CHECKING
from zlib import crc32

from hypothesis import settings

if TYPE_CHECKING:
    import pytest

# Ten thousand collected tests are not garbage: traversing them repeatedly costs a tenth of a run.
gc.set_threshold(200_000, 50, 100)

# Machines differ in speed and are shared, so if an example is slow, this is not a failure. In the gate, examples are
# the same each time, so that only the change determines whether tests pass; elsewhere they are random.
settings.register_profile("default", deadline=None, print_blob=True)
settings.register_profile("gate", deadline=None, derandomize=True)
settings.load_profile("gate" if os.environ.get("CI") else "default")

# On GitHub's machines, typer mistakes a pipe for a terminal and prints its help in colours.
os.environ["_TYPER_FORCE_DISABLE_TERMINAL"] = "1"

# Of this many cases in a list, the gate runs one, and always the same one.
CASES_EACH = 10
ALL_CASES = "METERING_ALL_CASES"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect 90% of the tests marked `cases`, unless all tests are requested or a test is named."""
    if os.environ.get(ALL_CASES) or any("::" in argument for argument in config.args):
        return
    config.hook.pytest_deselected(items=[item for item in items if _is_left_out(item)])
    items[:] = [item for item in items if not _is_left_out(item)]


def _is_left_out(item: pytest.Item) -> bool:
    return bool(item.get_closest_marker("cases")) and crc32(item.nodeid.encode()) % CASES_EACH != 0

"""Seeded bugs of repairs and of what must need none: clocks that differ, saved scans, dictionaries, odd items."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

_CLOCKS = ("tests/unit/rollup/test_tick.py",)
_SCAN_FILE = ("tests/unit/cli/test_scan_file.py", "tests/unit/cli/test_everywhere.py")

REPAIRS = (
    Mutant(
        name="P44 a roll-up waits until its clock is as far as that of the last run's planner",
        path="metering/stores/clock.py",
        old="return left if 0 < left <= 2 * wait_ms else 0",
        new="return max(left, 0)",
        suites=_CLOCKS,
    ),
    Mutant(
        name="a saved scan of another region or stage is gone on with",
        path="metering/cli/printing/scan_file.py",
        old="if (of := _named(head)) not in (None, self._of):",
        new="if (of := _named(head)) in ():",
        suites=_SCAN_FILE,
    ),
    Mutant(
        name="a saved scan that does not say whose it is, is taken for one's own",
        path="metering/cli/printing/scan_file.py",
        old="        if found.startswith(_NAMELESS):\n",
        new="        if found.startswith(_NAMELESS):\n            return census_of(found, items)\n",
        suites=_SCAN_FILE,
    ),
)

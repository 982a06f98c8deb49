"""Seeded bugs of what is read of log files."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

_BAD_LINES = ("tests/unit/onramps/test_bad_lines.py",)

ONRAMPS = (
    Mutant(
        name="X4 every empty line of a log is looked at by itself",
        path="metering/onramps/formats/lines.py",
        old="for run in _RUNS.finditer(data):",
        new="for run in list(_RUNS.finditer(data))[:0]:",
        suites=_BAD_LINES,
    ),
    Mutant(
        name="X4 a log may have any number of bad lines",
        path="metering/onramps/formats/lines.py",
        old="if self._lines > self._limit:",
        new="if not self._limit:",
        suites=_BAD_LINES,
    ),
    Mutant(
        name="X4 lines behind empty ones are shown under the numbers of others",
        path="metering/onramps/formats/lines.py",
        old="return self.first + place + self._dropped_before(place)",
        new="return self.first + place",
        suites=_BAD_LINES,
    ),
)

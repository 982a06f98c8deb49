"""Seeded bugs of what is read of log files."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

_BILLS = ("tests/unit/onramps/ingest/test_bills.py",)
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
    Mutant(
        name="X2 the name of a log file may contradict its folder",
        path="metering/onramps/sources.py",
        old="if account_id != name.account_id:",
        new="if not account_id:",
        suites=_BILLS,
    ),
    Mutant(
        name="X2 only the innermost folder is held against the name",
        path="metering/onramps/sources.py",
        old="for account_id in _FOLDER.findall(key) if name.account_id else ():",
        new="for account_id in _FOLDER.findall(key)[-1:] if name.account_id else ():",
        suites=_BILLS,
    ),
    Mutant(
        name="X2 the lines of a log bill any account",
        path="metering/onramps/sources.py",
        old="if bills.billed_as in (BilledAs.LISTED, BilledAs.ANY) or not self.is_other(account_id):",
        new="if bills.billed_as != BilledAs.SHARED_SUBNETS or not self.is_other(account_id):",
        suites=_BILLS,
    ),
    Mutant(
        name="X2 all accounts of the context are taken for sharers of subnets",
        path="metering/onramps/sources.py",
        old="inside = frozenset(each.account_id for each in context.interfaces if each.subnet_id in subnets)",
        new="inside = frozenset(each.account_id for each in context.interfaces if subnets)",
        suites=_BILLS,
    ),
    Mutant(
        name="X2 a file that comes again is judged by the setting of now",
        path="metering/onramps/ingest/planning.py",
        old="_measured(replace(file, bills=file.bills.as_planned(plan.billed_as)), timeline)",
        new="_measured(file, timeline)",
        suites=_BILLS,
    ),
    Mutant(
        name="X2 lines of other accounts that are refused are not counted as such",
        path="metering/onramps/ingest/totals.py",
        old="            if other:\n",
        new="            if other and isinstance(outcome, Classified):\n",
        suites=_BILLS,
    ),
)

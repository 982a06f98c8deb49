"""Seeded bugs in the reading of log files."""

from __future__ import annotations

from tests.mutants.mutant import seeded

_BILLS = ("tests/unit/onramps/ingest/test_bills.py",)
_BAD_LINES = ("tests/unit/onramps/test_bad_lines.py",)

ONRAMPS = (
    *seeded("metering/onramps/formats/lines.py", _BAD_LINES,
        ("X4 every empty line of a log is looked at by itself", "for run in _RUNS.finditer(data):",
         "for run in list(_RUNS.finditer(data))[:0]:"),
        ("X4 a log may have any number of bad lines", "if self._lines > self._limit:", "if not self._limit:"),
        ("X4 lines behind empty ones are shown under the numbers of others",
         "return self.first + place + self._dropped_before(place)", "return self.first + place"),
    ),
    *seeded("metering/onramps/sources.py", _BILLS,
        ("X2 the name of a log file may contradict its folder", "if account_id != name.account_id:",
         "if not account_id:"),
        ("X2 only the innermost folder is held against the name",
         "for account_id in _FOLDER.findall(key) if name.account_id else ():",
         "for account_id in _FOLDER.findall(key)[-1:] if name.account_id else ():"),
        ("X2 the lines of a log bill any account",
         "if bills.billed_as in (BilledAs.LISTED, BilledAs.ANY) or not self.is_other(account_id):",
         "if bills.billed_as != BilledAs.SHARED_SUBNETS or not self.is_other(account_id):"),
        ("X2 all accounts of the context are taken for sharers of subnets",
         "inside = frozenset(each.account_id for each in context.interfaces if each.subnet_id in subnets)",
         "inside = frozenset(each.account_id for each in context.interfaces if subnets)"),
    ),
    *seeded("metering/onramps/ingest/planning.py", _BILLS,
        ("X2 a file that comes again is judged by the setting of now",
         "_measured(replace(file, bills=file.bills.as_planned(plan.billed_as)), timeline)",
         "_measured(file, timeline)"),
    ),
    *seeded("metering/onramps/ingest/totals.py", _BILLS,
        ("X2 lines of other accounts that are refused are not counted as such", "            if other:\n",
         "            if other and isinstance(outcome, Classified):\n"),
    ),
)  # fmt: skip

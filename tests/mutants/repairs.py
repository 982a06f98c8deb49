"""Seeded bugs of repairs and of what must need none: clocks that differ, saved scans, dictionaries, odd items."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

_CLOCKS = ("tests/unit/rollup/test_tick.py",)
_SCAN_FILE = ("tests/unit/cli/test_scan_file.py", "tests/unit/cli/test_everywhere.py")
_KINDS = ("tests/unit/ledger/usage/test_kinds.py",)
_ODD = ("tests/unit/audit/test_odd_items.py",)

REPAIRS = (
    Mutant(
        name="P44 a roll-up waits until its clock is as far as that of the last run's planner",
        path="metering/rollup/rollup.py",
        old="return left_ms if 0 < left_ms <= 2 * turn.every_ms else 0",
        new="return max(left_ms, 0)",
        suites=_CLOCKS,
    ),
    Mutant(
        name="P44 what ended in the future by another clock is deleted at once",
        path="metering/ledger/runs.py",
        old="if done_at_ms > now_ms:",
        new="if done_at_ms < 0:",
        suites=("tests/unit/rollup/test_rollup_cleaner.py",),
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
    Mutant(
        name="P49 an odd item ends the scan of all",
        path="metering/ledger/usage/reading.py",
        old="            yield UsageItem.as_found(item)",
        new="            yield UsageItem.from_item(item)",
        suites=_ODD,
    ),
    Mutant(
        name="P49 an item whose figures are right is not looked at, whatever else is in it",
        path="metering/audit/census.py",
        old="            made.usage.add(item.hour_s, item.account_id, item.key, Total(1, 1))",
        new="            made.usage.add(item.hour_s, item.account_id, item.key, Total(0, 0))",
        suites=_ODD,
    ),
    Mutant(
        name="P49 what no release writes is corrected and stays",
        path="metering/audit/repair.py",
        old="            remove=tuple(name for name in odd if name not in update.set),",
        new="            remove=(),",
        suites=_ODD,
    ),
    Mutant(
        name="P49 what is odd waits for the run that it stops",
        path="metering/audit/repair.py",
        old="in odd.get(place, {}).items() for each in _taken_away(key, seen)]",
        new="in () for each in _taken_away(key, seen)]",
        suites=_ODD,
    ),
    Mutant(
        name="P49 an odd item gets the numbers of runs while a later run is planned",
        path="metering/audit/repair.py",
        old="            if planned is None or place in planned or account_id in unsettled:",
        new="            if planned is None or (place in planned and place not in odd) or account_id in unsettled:",
        suites=_ODD,
    ),
    Mutant(
        name="P49 a report sums an item without its revision",
        path="metering/ledger/usage/reading.py",
        old="            check_revised(item)\n",
        new="",
        suites=_ODD,
    ),
    Mutant(
        name="P45 a lost number is held for a claim that is landing",
        path="metering/ledger/usage/kinds.py",
        old="            if lost and not fills:",
        new="            if lost and not fills and number_key is None:",
        suites=_KINDS,
    ),
    Mutant(
        name="P45 a claim that is landing is taken for a loss",
        path="metering/ledger/usage/kinds.py",
        old="""            self._items.transact([check])
        except (TransactionCanceledError, UnavailableError):
            return False
""",
        new="""            self._items.transact([check])
        except (TransactionCanceledError, UnavailableError):
            return True
""",
        suites=_KINDS,
    ),
    Mutant(
        name="P45 the names are not read before a claim",
        path="metering/ledger/usage/kinds.py",
        old="by_name=dict(map(_numbered, names))",
        new="by_name=_by_kind(dict(_numbers(self._items, account_id)))",
        suites=_KINDS,
    ),
    Mutant(
        name="P45 what is lost of a dictionary is not put back",
        path="metering/ledger/usage/kinds.py",
        old="            self._put_back(halves)\n            return False",
        new="            pass",
        suites=_KINDS,
    ),
)

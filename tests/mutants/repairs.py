"""Seeded bugs of repairs and of clock differences, saved scans, dictionaries, odd items."""

from __future__ import annotations

from tests.mutants.mutant import seeded

_CLOCKS = ("tests/unit/rollup/test_rollup.py",)
_SCAN_FILE = ("tests/unit/cli/test_scan_file.py", "tests/unit/cli/test_everywhere.py")
_KINDS = ("tests/unit/ledger/usage/test_kinds.py",)
_ODD = ("tests/unit/audit/test_odd_items.py",)

REPAIRS = (
    *seeded("metering/rollup/rollup.py", _CLOCKS,
        ("P44 a roll-up waits until its clock is as far as that of the last run's planner",
         "return left_ms if 0 < left_ms <= 2 * turn.every_ms else 0", "return max(left_ms, 0)"),
    ),
    *seeded("metering/ledger/runs.py", ("tests/unit/rollup/test_rollup_cleaner.py",),
        ("P44 what ended in the future by another clock is deleted at once", "if done_at_ms > now_ms:",
         "if done_at_ms < 0:"),
    ),
    *seeded("metering/cli/printing/scan_file.py", _SCAN_FILE,
        ("a saved scan of another region or stage is gone on with", "if (of := _named(head)) not in (None, self._of):",
         "if (of := _named(head)) in ():"),
        ("a saved scan that does not say whose it is, is taken for one's own",
         "        if found.startswith(_NAMELESS):\n",
         "        if found.startswith(_NAMELESS):\n            return census_of(found, items)\n"),
    ),
    *seeded("metering/ledger/usage/reading.py", _ODD,
        ("P49 an odd item ends the scan of all", "            yield UsageItem.as_found(item)",
         "            yield UsageItem.from_item(item)"),
        ("P49 a report sums an item without its revision", "            check_revised(item)\n", ""),
    ),
    *seeded("metering/audit/census.py", _ODD,
        ("P49 an item whose figures are right is not looked at, whatever else is in it",
         "            made.usage.add(item.hour_s, item.account_id, item.key, Total(1, 1))",
         "            made.usage.add(item.hour_s, item.account_id, item.key, Total(0, 0))"),
    ),
    *seeded("metering/audit/repair.py", _ODD,
        ("P49 what no release writes is corrected and stays",
         "            remove=tuple(name for name in odd if name not in update.set),", "            remove=(),"),
        ("P49 what is odd waits for the run that it stops",
         "in odd.get(place, {}).items() for each in _taken_away(key, seen)]",
         "in () for each in _taken_away(key, seen)]"),
        ("P49 an odd item gets the numbers of runs while a later run is planned",
         "            if planned is None or place in planned or account_id in unsettled:",
         "            if planned is None or (place in planned and place not in odd) or account_id in unsettled:"),
    ),
    *seeded("metering/ledger/usage/kinds.py", _KINDS,
        ("P45 a lost number is held for a claim that is landing", "            if lost and not fills:",
         "            if lost and not fills and number_key is None:"),
        ("P45 a claim that is landing is taken for a loss",
         """            self._items.transact([check])
        except (TransactionCanceledError, UnavailableError):
            return False
""",
         """            self._items.transact([check])
        except (TransactionCanceledError, UnavailableError):
            return True
"""),
        ("P45 the names are not read before a claim", "by_name=dict(map(_numbered, names))",
         "by_name=_by_kind(dict(_numbers(self._items, account_id)))"),
        ("P45 what is lost of a dictionary is not put back",
         "            self._put_back(halves)\n            return False", "            pass"),
    ),
)  # fmt: skip

"""Seeded bugs of usage readers: packed items, reports as of now, and other sums of usage."""

from __future__ import annotations

from tests.mutants.mutant import seeded

_ITEMS = ("tests/unit/ledger/usage/test_items.py",)
_TABLE = ("tests/unit/reports/test_usage_table.py",)
_SUMS = ("tests/unit/billing/day_sums/test_day_sums.py",)
_NOW = ("tests/unit/reports/test_now.py",)
_AS_OF_NOW = ("tests/unit/rollup/test_as_of_now.py",)
_FAST = ("tests/unit/adapters/aws/test_items.py",)
_VIEW = ("tests/unit/lake/test_view.py",)
_TRACE = ("tests/unit/reports/test_trace.py",)

READERS = (
    *seeded("metering/reports/source.py", _NOW,
        ("H-D1 a report on accounts does not say what waits for the roll-up", "            lacks.add(apart)\n", ""),
        ("P28 a report as of now has what was rolled up alone", "if query.now:", "if query.now and query.top:"),
    ),
    *seeded("metering/reports/usage_rows.py", _NOW,
        ("H-D1 what waits is told without the filters of the question",
         """            if not self._query.matches(key):
                self._seen.note_beside(key)
                continue
            found = True""", "            found = True"),
    ),
    *seeded("metering/billing/day_sums/keeper.py", _SUMS,
        ("H-F2 sums are said to go as far as now while commits are pending",
         "through_s = max(index.reach.through_s, min(now_s, oldest_s))",
         "through_s = max(index.reach.through_s, now_s)"),
        ("H-F2 what a run of the compactor has taken just now is said to be counted",
         "if before != newest_runs(self.items, self.shards) or not all_done(before, work.runs):",
         "if before != newest_runs(self.items, self.shards):"),
    ),
    *seeded("metering/billing/day_sums/index.py", _SUMS,
        ("H-F2 what waits for the roll-up is not among what sums lack",
         "        yield entry.created_at_ms, sum_totals(entry.totals.values())\n", ""),
    ),
    *seeded("metering/ledger/usage/reading.py", _ITEMS,
        ("usage: a truth value in an item counts", "if type(value) is int:", "if isinstance(value, int):"),
        ("usage: what corrects one hour is summed with what corrects another, or none",
         'key = (str(item.get("pk")), hour[: self._chars], rest)',
         'key = (str(item.get("pk")), hour[: self._chars], rest.rpartition("#")[2])'),
    ),
    *seeded("metering/reports/query.py", _TABLE,
        ("usage: days of a report by the day are summed to months",
         'return Grain.DAY if "day" in self.group_by else Grain.MONTH', "return Grain.MONTH"),
    ),
    *seeded("metering/ledger/usage/items.py", _ITEMS,
        ("usage: a figure of another bucket is taken", "number is not None and number // BUCKET_KINDS == place",
         "number is not None"),
    ),
    *seeded("metering/ledger/usage/reading.py", _TABLE,
        ("P45 a number that stands for nothing is left out",
         "                kind = kind or self._kind(item.account_id, number, contradictions)\n", ""),
    ),
    *seeded("metering/ledger/usage/kinds.py", ("tests/unit/ledger/usage", *_NOW),
        ("P45 kinds that came since a dictionary was read are unknown for ever",
         "kind = self.of(account_id).get(number) or self.read_whole(account_id).get(number)",
         "kind = self.of(account_id).get(number)"),
    ),
    *seeded("metering/adapters/aws/item_attributes.py", _FAST,
        ("usage: numbers of a page are read as floats", "values[name] = int(number)",
         "values[name] = int(float(number))"),
        ("usage: what a page's decoder does not know is left out",
         "class _Attribute(msgspec.Struct, gc=False, forbid_unknown_fields=True):",
         "class _Attribute(msgspec.Struct, gc=False):"),
    ),
    *seeded("metering/lake/view.py", _VIEW,
        ("P26 a reader of an hour skips a staging object that is gone", "                missing = error.key\n",
         "                there = tuple(source for source in state.sources if source.key != error.key)\n"
        "                return work(replace(state, sources=there))\n"),
    ),
    *seeded("metering/rollup/as_of_now.py", _AS_OF_NOW,
        ("P28 usage of other accounts that waits is counted",
         "yield from ((key, total) for key, total in usage.items() if asked.takes(key.account_id, key.hour_s))",
         "yield from ((key, total) for key, total in usage.items() if asked.takes_hour(key.hour_s))"),
        ("P28 a staging object that is gone is skipped", "            if gone:\n", '            if gone == "no":\n'),
    ),
    *seeded("metering/reports/trace.py", _TRACE,
        ("P28 a trace compares rows as of now with usage of before",
         "self.source.entries(replace(query, now=True), now_s=now_s)", "self.source.entries(query, now_s=now_s)"),
    ),
    *seeded("metering/api/paging.py", ("tests/api/test_usage.py",),
        ("an answer as of now is kept by caches", 'if given.flag("now"):', 'if given.flag("noon"):'),
    ),
    *seeded("metering/billing/usage/months.py", ("tests/unit/billing/usage/test_months.py",),
        ("an open month of few accounts has corrections in its own usage",
         "            own = (item for item in items if item.corrects_s is None)\n            yield from",
         "            own = iter(items)\n            yield from"),
    ),
    *seeded("metering/billing/day_sums/keeper.py", ("tests/unit/billing/day_sums/test_day_sums.py",),
        ("the biller follows the chain of the roll-up, which has no files",
         "key = run_key(lake_chain(shard), after + 1)",
         'key = run_key(lake_chain(shard).replace("L", "U"), after + 1)'),
    ),
)  # fmt: skip

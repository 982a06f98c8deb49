"""Seeded bugs of what reads usage: packed items, reports as of now, and what else adds usage up."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

_ITEMS = ("tests/unit/ledger/usage/test_items.py", "tests/unit/ledger/usage/test_folding.py")
_TABLE = ("tests/unit/reports/test_usage_table.py",)
_SUMS = ("tests/unit/billing/day_sums/test_uncounted.py",)
_NOW = ("tests/unit/reports/test_now.py",)
_AS_OF_NOW = ("tests/unit/rollup/test_as_of_now.py",)
_FAST = ("tests/unit/adapters/aws/test_fast_items.py",)
_VIEW = ("tests/unit/lake/test_view.py",)
_TRACE = ("tests/unit/reports/trace/test_tracing.py",)

READERS = (
    Mutant(
        name="H-D1 a report on accounts does not say what waits for the roll-up",
        path="metering/reports/source.py",
        old="            lacks.add(apart)\n",
        new="",
        suites=_NOW,
    ),
    Mutant(
        name="H-D1 what waits is told without the filters of the question",
        path="metering/reports/usage_rows.py",
        old="""            if not self._query.matches(key):
                self._seen.note_beside(key)
                continue
            found = True""",
        new="            found = True",
        suites=_NOW,
    ),
    Mutant(
        name="H-F2 sums are said to go as far as now while commits are pending",
        path="metering/billing/day_sums/keeper.py",
        old="through_s = max(index.reach.through_s, min(now_s, oldest_s))",
        new="through_s = max(index.reach.through_s, now_s)",
        suites=_SUMS,
    ),
    Mutant(
        name="H-F2 what a run of the compactor has taken just now is said to be counted",
        path="metering/billing/day_sums/keeper.py",
        old="if before != newest_runs(self.items, self.shards) or not all_done(before, work.runs):",
        new="if before != newest_runs(self.items, self.shards):",
        suites=_SUMS,
    ),
    Mutant(
        name="H-F2 what waits for the roll-up is not among what sums lack",
        path="metering/billing/day_sums/index.py",
        old="        yield entry.created_at_ms, sum_totals(entry.totals.values())\n",
        new="",
        suites=_SUMS,
    ),
    Mutant(
        name="usage: a truth value in an item counts",
        path="metering/ledger/usage/reading.py",
        old="if type(value) is int:",
        new="if isinstance(value, int):",
        suites=_ITEMS,
    ),
    Mutant(
        name="usage: what corrects one hour is summed with what corrects another, or none",
        path="metering/ledger/usage/reading.py",
        old='key = (str(item.get("pk")), hour[: self._chars], rest)',
        new='key = (str(item.get("pk")), hour[: self._chars], rest.rpartition("#")[2])',
        suites=_ITEMS,
    ),
    Mutant(
        name="usage: days of a report by the day are summed to months",
        path="metering/reports/query.py",
        old='return Grain.DAY if "day" in self.group_by else Grain.MONTH',
        new="return Grain.MONTH",
        suites=_TABLE,
    ),
    Mutant(
        name="usage: a figure of another bucket is taken",
        path="metering/ledger/usage/items.py",
        old="number is not None and number // BUCKET_KINDS == place",
        new="number is not None",
        suites=_ITEMS,
    ),
    Mutant(
        name="P45 a number that stands for nothing is left out",
        path="metering/ledger/usage/reading.py",
        old="                kind = kind or self._kind(item.account_id, number, contradictions)\n",
        new="",
        suites=_TABLE,
    ),
    Mutant(
        name="P45 kinds that came since a dictionary was read are unknown for ever",
        path="metering/ledger/usage/kinds.py",
        old="kind = self.of(account_id).get(number) or self.read_whole(account_id).get(number)",
        new="kind = self.of(account_id).get(number)",
        suites=("tests/unit/ledger/usage", *_NOW),
    ),
    Mutant(
        name="usage: numbers of a page are read as floats",
        path="metering/adapters/aws/item_attributes.py",
        old="values[name] = int(number)",
        new="values[name] = int(float(number))",
        suites=_FAST,
    ),
    Mutant(
        name="usage: what a page's decoder does not know is left out",
        path="metering/adapters/aws/item_attributes.py",
        old="class _Attribute(msgspec.Struct, gc=False, forbid_unknown_fields=True):",
        new="class _Attribute(msgspec.Struct, gc=False):",
        suites=_FAST,
    ),
    Mutant(
        name="P26 a reader of an hour skips a staging object that is gone",
        path="metering/lake/view.py",
        old="                missing = error.key\n",
        new="                there = tuple(source for source in state.sources if source.key != error.key)\n"
        "                return work(replace(state, sources=there))\n",
        suites=_VIEW,
    ),
    Mutant(
        name="P28 usage of other accounts that waits is counted",
        path="metering/rollup/as_of_now.py",
        old="yield from ((key, total) for key, total in usage.items() if asked.takes(key.account_id, key.hour_s))",
        new="yield from ((key, total) for key, total in usage.items() if asked.takes_hour(key.hour_s))",
        suites=_AS_OF_NOW,
    ),
    Mutant(
        name="P28 a staging object that is gone is skipped",
        path="metering/rollup/as_of_now.py",
        old="            if gone:\n",
        new='            if gone == "no":\n',
        suites=_AS_OF_NOW,
    ),
    Mutant(
        name="P28 a report as of now has what was rolled up alone",
        path="metering/reports/source.py",
        old="if query.now:",
        new="if query.now and query.top:",
        suites=_NOW,
    ),
    Mutant(
        name="P28 a trace compares rows as of now with usage of before",
        path="metering/reports/trace.py",
        old="self.source.entries(replace(query, now=True), now_s=now_s)",
        new="self.source.entries(query, now_s=now_s)",
        suites=_TRACE,
    ),
    Mutant(
        name="an answer as of now is kept by caches",
        path="metering/api/paging.py",
        old='if given.flag("now"):',
        new='if given.flag("noon"):',
        suites=("tests/api/test_usage.py",),
    ),
    Mutant(
        name="an open month of few accounts has corrections in its own usage",
        path="metering/billing/usage/months.py",
        old="            own = (item for item in items if item.corrects_s is None)\n            yield from",
        new="            own = iter(items)\n            yield from",
        suites=("tests/unit/billing/usage/test_months.py",),
    ),
    Mutant(
        name="the biller follows the chain of the roll-up, which has no files",
        path="metering/billing/day_sums/keeper.py",
        old="key = run_key(lake_chain(shard), after + 1)",
        new='key = run_key(lake_chain(shard).replace("L", "U"), after + 1)',
        suites=("tests/unit/billing/day_sums/test_keeper.py",),
    ),
)

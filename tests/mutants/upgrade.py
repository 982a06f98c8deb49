"""Seeded bugs of the upgrade from the format before, and of a restore."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

_UPGRADE = ("tests/unit/upgrade/test_upgrade.py",)
_REGIONS = ("tests/unit/fleet/test_data_upgrade.py",)
_RESTORE = ("tests/unit/audit/test_restoring.py",)
_GENERATION = ("tests/unit/ledger/usage/test_generation.py",)
_FORMAT = ("tests/unit/ledger/test_format_version.py",)

UPGRADE = (
    Mutant(
        name="upgrade: a chain is closed over a run that a late compactor has announced",
        path="metering/upgrade/runs.py",
        old="self.items.put(Put(table=Table.LEDGER, item=end, condition=Absent()))",
        new="self.items.put(Put(table=Table.LEDGER, item=end))",
        suites=_UPGRADE,
    ),
    Mutant(
        name="upgrade: runs are copied before their chain is closed",
        path="metering/upgrade/runs.py",
        old="""            while not self._close(shard):
                pass
            there = {run.number for run in newest_first(self.items, lake_chain(shard))}
            runs = [_run_of(shard, item) for item in self._runs(shard) if not _is_end(item)]
""",
        new="""            there = {run.number for run in newest_first(self.items, lake_chain(shard))}
            runs = [_run_of(shard, item) for item in self._runs(shard) if not _is_end(item)]
            while not self._close(shard):
                pass
""",
        suites=_UPGRADE,
    ),
    Mutant(
        name="upgrade: what closed a chain is deleted with its runs",
        path="metering/upgrade/runs.py",
        old="gone = [key_of(item) for item in self._runs(shard) if not _is_end(item)]",
        new="gone = [key_of(item) for item in self._runs(shard)]",
        suites=_UPGRADE,
    ),
    Mutant(
        name="upgrade: a straggler puts an item that the roll-up has written to",
        path="metering/upgrade/filling.py",
        old="AllOf((LessThan(attribute=REVISION, value=_revision(item)), *untouched))",
        new="AllOf((LessThan(attribute=REVISION, value=_revision(item)), *untouched[:0]))",
        suites=_UPGRADE,
    ),
    Mutant(
        name="upgrade: one suffix of a usage key stands for all",
        path="metering/upgrade/usage_items.py",
        old="else OldUsage(before.total.plus(counted.total), before.revisions + counted.revisions)",
        new="else OldUsage(counted.total, before.revisions + counted.revisions)",
        suites=_UPGRADE,
    ),
    Mutant(
        name="upgrade: the usage types of the old canary take numbers",
        path="metering/upgrade/filling.py",
        old="named = {key.kind for key in old if of_canary(key.usage_type)}",
        new="named = {key.kind for key in old if not key.usage_type}",
        suites=_UPGRADE,
    ),
    Mutant(
        name="upgrade: usage is not compared with rows",
        path="metering/upgrade/comparing.py",
        old="            if found != rows:",
        new="            if found != rows and not rows:",
        suites=_UPGRADE,
    ),
    Mutant(
        name="upgrade: it switches over before the runs are moved",
        path="metering/upgrade/upgrade.py",
        old="        runs = self._old_runs().move()\n",
        new="        self._switch()\n        runs = self._old_runs().move()\n",
        suites=_UPGRADE,
    ),
    Mutant(
        name="upgrade: whoever continues waits for the workers from then on",
        path="metering/upgrade/note.py",
        old="    if noted is not None:\n        return noted\n",
        new="    if noted is not None:\n"
        "        _change(items, {'out_at_ms': out_at_ms}, Exists())\n        return noted\n",
        suites=_UPGRADE,
    ),
    Mutant(
        name="upgrade: nobody asks whether a worker wrote late",
        path="metering/upgrade/upgrade.py",
        old="if not late and revisions == note.revisions:",
        new="if not late:",
        suites=_UPGRADE,
    ),
    Mutant(
        name="upgrade: a chunk of a wide commit lands twice",
        path="metering/upgrade/wide_commits.py",
        old='condition=AllOf((Equals(attribute="state", value="open"), Equals(attribute="next", value=number))),',
        new='condition=AllOf((Equals(attribute="state", value="open"),)),',
        suites=_UPGRADE,
    ),
    Mutant(
        name="upgrade: the intake that the deployment switched on is not stopped again",
        path="metering/fleet/steps.py",
        old="    # A resource whose template changed is as its template says.\n    _stop(ports, region)\n",
        new="",
        suites=_REGIONS,
    ),
    Mutant(
        name="upgrade: the note of an upgrade that was given up is kept",
        path="metering/fleet/steps.py",
        old="    if was_on:\n        ports.data.begin(region)\n",
        new="",
        suites=_REGIONS,
    ),
    Mutant(
        name="upgrade: a deployment that failed leaves the version before stopped",
        path="metering/fleet/steps.py",
        old="        if was_on:\n            ports.deployed.start(region)\n        raise\n",
        new="        raise\n",
        suites=_REGIONS,
    ),
    Mutant(
        name="upgrade: an older format is worked on",
        path="metering/ledger/format_version.py",
        old="    if found.number < FORMAT_VERSION:\n        raise FormatTooOldError",
        new="    if found.number < FIRST_FORMAT:\n        raise FormatTooOldError",
        suites=_FORMAT,
    ),
    Mutant(
        name="P41 ledger and usage table need not agree",
        path="metering/ledger/format_version.py",
        old="    if usage_generation not in (None, found.usage_generation):",
        new="    if usage_generation is not None and usage_generation > found.usage_generation + 1:",
        suites=_FORMAT,
    ),
    Mutant(
        name="P41 a chain is read before what its runs wrote into the usage table",
        path="metering/ledger/usage/generation.py",
        old="""    marked = usage_generation(items).runs
    for shard in shards:
        newest = newest_run(items, rollup_chain(shard))
""",
        new="""    for shard in shards:
        newest = newest_run(items, rollup_chain(shard))
        marked = usage_generation(items).runs
""",
        suites=_GENERATION,
    ),
    Mutant(
        name="P41 a restored ledger is not noticed",
        path="metering/rollup/rollup.py",
        old="            self.retrier.call(lambda: check_chains(self.items, shards))\n",
        new="",
        suites=_RESTORE,
    ),
    Mutant(
        name="P41 a run marks the usage table when it has written to it",
        path="metering/rollup/rollup.py",
        old="        self.retrier.call(lambda: mark_run(self.items, run.shard, run.number))\n",
        new="",
        suites=_RESTORE,
    ),
    Mutant(
        name="P41 the chain of the lake is not lifted after a restore",
        path="metering/audit/restoring.py",
        old="for chain in (rollup_chain(shard), lake_chain(shard)):",
        new="for chain in (rollup_chain(shard),):",
        suites=_RESTORE,
    ),
    Mutant(
        name="P41 a run that was planned is buried under the lifted chain",
        path="metering/audit/restoring.py",
        old="        self.resume()\n",
        new="",
        suites=_RESTORE,
    ),
    Mutant(
        name="P41 a restore goes on with the usage table that is there",
        path="metering/audit/restoring.py",
        old="if found is None or found.usage_generation >= self.generation:",
        new="if found is None:",
        suites=_RESTORE,
    ),
    Mutant(
        name="P41 what a planned run had placed and still waits is filled and booked again",
        path="metering/audit/restoring.py",
        old="            self._take_back(shard)\n",
        new="",
        suites=_RESTORE,
    ),
    Mutant(
        name="P41 a usage table that another restore has begun to fill is filled on",
        path="metering/ledger/usage/generation.py",
        old="    if found != own:\n",
        new="    if not found:\n",
        suites=_RESTORE,
    ),
)

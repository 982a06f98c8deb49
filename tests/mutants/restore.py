"""Seeded bugs of a restore, and of the format of the data."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

_RESTORE = ("tests/unit/audit/test_restoring.py",)
_GENERATION = ("tests/unit/ledger/usage/test_generation.py",)
_FORMAT = ("tests/unit/ledger/test_format_version.py",)

RESTORE = (
    Mutant(
        name="an older format is worked on",
        path="metering/ledger/format_version.py",
        old="    if found.number < FORMAT_VERSION:\n        raise FormatTooOldError",
        new="    if found.number < 1:\n        raise FormatTooOldError",
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

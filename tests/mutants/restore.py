"""Seeded bugs of a restore, and of the data format."""

from __future__ import annotations

from tests.mutants.mutant import seeded

_RESTORE = ("tests/unit/audit/test_restoring.py",)
_GENERATION = ("tests/unit/ledger/test_format_version.py",)
_FORMAT = ("tests/unit/ledger/test_format_version.py",)

RESTORE = (
    *seeded("metering/ledger/format_version.py", _FORMAT,
        ("an older format is worked on", "    if found.number < FORMAT_VERSION:\n        raise FormatTooOldError",
         "    if found.number < 1:\n        raise FormatTooOldError"),
        ("P41 ledger and usage table need not agree", "    if usage_generation not in (None, found.usage_generation):",
         "    if usage_generation is not None and usage_generation > found.usage_generation + 1:"),
    ),
    *seeded("metering/ledger/usage/generation.py", _GENERATION,
        ("P41 a chain is read before what its runs wrote into the usage table",
         """    marked = usage_generation(items).runs
    for shard in shards:
        newest = newest_run(items, rollup_chain(shard))
""",
         """    for shard in shards:
        newest = newest_run(items, rollup_chain(shard))
        marked = usage_generation(items).runs
"""),
    ),
    *seeded("metering/rollup/rollup.py", _RESTORE,
        ("P41 a restored ledger is not noticed",
         "            self.retrier.call(lambda: check_chains(self.items, shards))\n", ""),
        ("P41 a run marks the usage table when it has written to it",
         "        self.retrier.call(lambda: mark_run(self.items, run.shard, run.number))\n", ""),
    ),
    *seeded("metering/audit/restoring.py", _RESTORE,
        ("P41 the chain of the lake is not lifted after a restore",
         "for chain in (rollup_chain(shard), lake_chain(shard)):", "for chain in (rollup_chain(shard),):"),
        ("P41 a run that was planned is buried under the lifted chain", "        self.resume()\n", ""),
        ("P41 a restore goes on with the usage table that is there",
         "if found is None or found.usage_generation >= self.generation:", "if found is None:"),
        ("P41 what a planned run had placed and still waits is filled and booked again",
         "            self._take_back(shard)\n", ""),
    ),
    *seeded("metering/ledger/usage/generation.py", _RESTORE,
        ("P41 a usage table that another restore has begun to fill is filled on", "    if found != own:\n",
         "    if not found:\n"),
    ),
)  # fmt: skip

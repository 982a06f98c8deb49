"""Costs of a day with 12 million batches at list prices, including jobs and storage.

Calls, units, bytes and CPU time come from a counted run. A run of a few minutes cannot show everything, so some costs
are estimated, and marked as such: the time that functions wait for calls, the storage after months, and jobs that scan
the stored data. The times of these jobs are from docs/scale.md, for 10,000 accounts; fewer accounts need less time.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from load_tests.costs import MESSAGES, TARGET_BATCHES_PER_DAY
from load_tests.stage import POLICY
from load_tests.wire.counts import WireRun, total
from metering.fleet.stage import StageConfig
from metering.ledger import partitions
from metering.ledger.usage.items import ACCOUNT_PREFIX
from metering.operations.own_costs import PROCESSING_USD, S3_GET_USD, STORED_ITEMS_USD_GB_MONTH, month_usd
from metering.units import DAY_S, GIB, KIB, MINUTE_S

if TYPE_CHECKING:
    from metering.settings import Policy

_PROD = StageConfig.load("prod")
_MONTH_DAYS = 30
_YEAR_DAYS = 365
_WRITE = float(PROCESSING_USD["DynamoDB write request unit (on demand)"])
_READ = float(PROCESSING_USD["DynamoDB read request unit (on demand)"])
_SQS = float(PROCESSING_USD["SQS request (standard, 64 KiB)"])
_LAMBDA_S = float(PROCESSING_USD["Lambda GB-second (arm64)"])
_PUT = float(PROCESSING_USD["S3 PUT"])
_GET = float(S3_GET_USD)
_STORED_GB_MONTH = float(sum(STORED_ITEMS_USD_GB_MONTH.values()))
# DynamoDB bills 100 extra bytes per item (developer guide, item sizes).
_BESIDE_ITEM_BYTES = 100
# Time for which a function waits (design/scale.py) for a transaction of a hundred actions, an item, and an object.
_TRANSACTION_S, _ITEM_S, _OBJECT_S = 0.080, 0.005, 0.025
_CALLS_AT_ONCE = 16
_READ_UNIT_BYTES = 4 * KIB
# First looks of the quick pass are eventually consistent reads (P37).
_EVENTUAL_UNITS = 0.5
# In some batches, records are one day to five weeks late, so each pass of the reconciler examines all these days.
_DAYS_LOOKED_AT = 36
_HOURS = 24
_SQS_BATCH, _SQS_CHUNK_BYTES = 10, 64 * KIB
# Seconds at the target (docs/scale.md): per day for quick passes and an orphan pass; per run for other jobs.
SECONDS_AT_TARGET = {
    "quick-pass": 11_524.0,
    "scan": 9_906.0,
    "orphans": 25.2,
    "watch": 0.21,
    "canary": 12.9,
    "rollup-60": 12.9,
}
# Duration of a biller run, and its requests per day (docs/decisions/0033-budgets.md).
_BILLER_RUN_S, _BILLER_OBJECTS, _BILLER_ITEMS = 5.5, 2_900, 700
# Writes, reads and objects of one run (`Step.calls` of `load_tests.scale.jobs`, at a tenth and a hundredth of the
# target). A get counts as one read unit, and a query as two read units.
_WATCH_CALLS, _CANARY_CALLS = (3, 20 + 2 * 5), (2, 155 + 2 * 132)
_CANARY_OBJECTS = 34
# Costs of CloudWatch, KMS and the ticks of idle functions (design/scale.md, B4).
_STANDING_USD = 1.4

ESTIMATED = " (e)"


def day_costs(run: WireRun, policy: Policy = POLICY) -> dict[str, float]:
    """USD a day by line; the names of estimated lines end with `ESTIMATED`.

    Of `policy`, this uses `scan_every_s`, and whether the roll-up function ends between runs (`rollup_every_s` of 60 s
    or more). How much a roll-up writes at another interval is counted, by a run with `RUN_BATCHES` of that interval.
    """
    days = TARGET_BATCHES_PER_DAY / run.batches
    writes = {f"DynamoDB writes: {part}": units * TARGET_BATCHES_PER_DAY * _WRITE for part, units in run.units.items()}
    return {
        **writes,
        "DynamoDB reads: roll-up, compaction, cleaning": total(run.counts, "read ") * days * _READ,
        "SQS": _requests(run) * TARGET_BATCHES_PER_DAY * _SQS,
        "S3 PUT, LIST": sum(run.counts.get(f"s3 calls {name}", 0) for name in ("PUT", "LIST", "POST")) * days * _PUT,
        "S3 GET, HEAD": sum(run.counts.get(f"s3 calls {name}", 0) for name in ("GET", "HEAD")) * days * _GET,
        f"Lambda: aggregator{ESTIMATED}": _aggregator(run),
        f"Lambda: roll-up{ESTIMATED}": _rollup_usd(policy),
        f"Lambda: compactor and cleaner{ESTIMATED}": _jobs_usd(run),
        f"DynamoDB storage and restore points{ESTIMATED}": _stored_gb(run) * _STORED_GB_MONTH / _MONTH_DAYS,
        f"DynamoDB reads: scans of everything{ESTIMATED}": _scan_usd(run, policy),
        f"DynamoDB reads: reconciler{ESTIMATED}": _reconciler_usd(run),
        f"DynamoDB reads: quick pass, markers of each new file{ESTIMATED}": _quick_pass_markers_usd(run),
        f"Lambda: reconciler, and the pass over orphans{ESTIMATED}": _reconciler_busy_usd(policy),
        f"Watch: Lambda, reads and writes{ESTIMATED}": _watch_usd(),
        f"Canary: Lambda, reads, writes and objects{ESTIMATED}": _canary_usd(),
        f"Biller: Lambda, reads and objects{ESTIMATED}": _biller_usd(),
        f"S3 storage of a year of the lake{ESTIMATED}": _lake_usd(run),
        f"S3 storage of markers beside the lake{ESTIMATED}": _markers_usd(run),
        f"S3 storage of deleted staging objects{ESTIMATED}": _versions_usd(run),
        f"CloudWatch, KMS, idle ticks{ESTIMATED}": _STANDING_USD,
    }


def _requests(run: WireRun) -> float:
    """SQS requests per batch: messages are sent, received and deleted in tens, and billed for each 64 KiB."""
    by_ten = 1 / _SQS_BATCH
    return 2 * max(run.body_bytes / run.batches / _SQS_CHUNK_BYTES, by_ten) + by_ten


def _aggregator(run: WireRun) -> float:
    invocations = TARGET_BATCHES_PER_DAY / MESSAGES
    commits = run.counts.get("calls TransactWriteItems C#", 0) / run.batches * TARGET_BATCHES_PER_DAY
    busy_s = (run.cpu_s["aggregator"] / run.batches * TARGET_BATCHES_PER_DAY) + commits * (_TRANSACTION_S + _OBJECT_S)
    return busy_s * _PROD.aggregator_memory_mb / KIB * _LAMBDA_S + invocations * float(PROCESSING_USD["Lambda request"])


def _rollup_usd(policy: Policy) -> float:
    """A tick a minute. Below an interval of a minute, the function waits in it; otherwise it ends after its run."""
    ticks = DAY_S / MINUTE_S
    busy_s = SECONDS_AT_TARGET["rollup-60"] if policy.rollup_every_s >= MINUTE_S else MINUTE_S
    return ticks * (_lambda_usd(busy_s, _PROD.rollup_memory_mb) + float(PROCESSING_USD["Lambda request"]))


def _jobs_usd(run: WireRun) -> float:
    days = TARGET_BATCHES_PER_DAY / run.batches
    kinds = (partitions.HOUR, partitions.PENDING)
    calls = sum(n for name, n in run.counts.items() if name.startswith("calls ") and name[-2:] in kinds)
    objects = run.counts.get("s3 calls GET", 0)
    busy_s = (run.cpu_s["jobs"] + calls * _ITEM_S / _CALLS_AT_ONCE + objects * _OBJECT_S) * days
    return busy_s * _PROD.job_memory_mb / KIB * _LAMBDA_S


def _stored_gb(run: WireRun) -> float:
    """Both tables at their steady size: markers and commits of one marker lifetime, and a year of usage."""
    days = TARGET_BATCHES_PER_DAY / run.batches
    life_days = POLICY.marker_life_s / DAY_S
    lasting = sum(_billed_bytes(run, kind) * days * life_days for kind in (partitions.BATCH, partitions.COMMIT))
    # The traffic of a run falls into one hour, and an account's usage of an hour is one item, whatever its amount.
    usage = _billed_bytes(run, ACCOUNT_PREFIX) * _HOURS * _YEAR_DAYS
    return (lasting + usage + _billed_bytes(run, partitions.KINDS)) / GIB


def _billed_bytes(run: WireRun, kind: str) -> float:
    return run.stored.bytes.get(kind, 0) + run.stored.items.get(kind, 0) * _BESIDE_ITEM_BYTES


def _scan_usd(run: WireRun, policy: Policy) -> float:
    return _stored_gb(run) * GIB / _READ_UNIT_BYTES * _READ / _scan_days(policy)


def _scan_days(policy: Policy) -> float:
    """Days from one whole scan to the next. At most one a day ends, and one more follows each month's end."""
    every_days = policy.scan_every_s / DAY_S
    return 1 if every_days <= 1 else _MONTH_DAYS / math.ceil(_MONTH_DAYS / every_days)


def _reconciler_usd(run: WireRun) -> float:
    ticks = _runs_a_day(_PROD.reconciler_every_min)
    item_bytes = run.stored.bytes.get(ACCOUNT_PREFIX, 0) / max(run.stored.items.get(ACCOUNT_PREFIX, 1), 1)
    units = math.ceil(item_bytes * _HOURS / _READ_UNIT_BYTES) * _EVENTUAL_UNITS
    return ticks * run.kinds.accounts * _DAYS_LOOKED_AT * units * _READ


def _quick_pass_markers_usd(run: WireRun) -> float:
    """Each published file is compared once with its batches' markers: one read per marker."""
    item_bytes = run.stored.bytes.get(partitions.BATCH, 0) / max(run.stored.items.get(partitions.BATCH, 1), 1)
    return TARGET_BATCHES_PER_DAY * math.ceil(item_bytes / _READ_UNIT_BYTES) * _EVENTUAL_UNITS * _READ


def _reconciler_busy_usd(policy: Policy) -> float:
    took_s = SECONDS_AT_TARGET
    busy_s = took_s["quick-pass"] + took_s["scan"] / _scan_days(policy) + took_s["orphans"]
    return _lambda_usd(busy_s, _PROD.job_memory_mb)


def _watch_usd() -> float:
    return _runs_usd(_PROD.watch_every_min, SECONDS_AT_TARGET["watch"], _WATCH_CALLS)


def _canary_usd() -> float:
    runs = _runs_a_day(_PROD.canary_every_min)
    return _runs_usd(_PROD.canary_every_min, SECONDS_AT_TARGET["canary"], _CANARY_CALLS) + runs * _CANARY_OBJECTS * _GET


def _biller_usd() -> float:
    busy_s = _runs_a_day(_PROD.biller_every_min) * _BILLER_RUN_S
    return _lambda_usd(busy_s, _PROD.biller_memory_mb) + _BILLER_OBJECTS * _GET + _BILLER_ITEMS * _READ


def _runs_usd(every_min: int, run_s: float, calls: tuple[int, int]) -> float:
    """Daily cost of a small job; `calls` are the writes and the reads of one run."""
    writes, reads = calls
    return _runs_a_day(every_min) * (_lambda_usd(run_s, _PROD.small_job_memory_mb) + writes * _WRITE + reads * _READ)


def _runs_a_day(every_min: int) -> float:
    return DAY_S / (every_min * MINUTE_S)


def _lambda_usd(busy_s: float, memory_mb: int) -> float:
    """Charges per request are excluded; the request charges of idle ticks are in `_STANDING_USD`."""
    return busy_s * memory_mb / KIB * _LAMBDA_S


def _lake_usd(run: WireRun) -> float:
    per_day = (run.counts.get("s3 bytes lake/", 0) + run.counts.get("s3 bytes summaries/", 0)) / run.batches
    month = int(per_day * TARGET_BATCHES_PER_DAY * _MONTH_DAYS)
    older = month_usd("STANDARD_IA", month * (_YEAR_DAYS // _MONTH_DAYS - 1))
    return float(month_usd("STANDARD", month) + older) / _MONTH_DAYS


def _markers_usd(run: WireRun) -> float:
    """Storage of markers, which live a day longer than those of the ledger (docs/protocol.md, P50)."""
    per_day = run.counts.get("s3 bytes markers/", 0) / run.batches * TARGET_BATCHES_PER_DAY
    return float(month_usd("STANDARD", int(per_day * (POLICY.marker_life_s / DAY_S + 1)))) / _MONTH_DAYS


def _versions_usd(run: WireRun) -> float:
    """Storage of the versions that the bucket keeps of staging objects and plans after they were cleaned."""
    per_day = sum(run.counts.get(f"s3 bytes {prefix}", 0) for prefix in ("staging/", "runs/")) / run.batches
    return float(month_usd("STANDARD", int(per_day * TARGET_BATCHES_PER_DAY * _PROD.noncurrent_days))) / _MONTH_DAYS


def print_day(runs: Sequence[WireRun]) -> None:
    """Print the daily USD of each cost, with one column per load."""
    tables: list[Mapping[str, float]] = [day_costs(run) for run in runs]
    print("\nUSD a day of everything at 12 million batches a day, list prices of us-east-1; (e): estimated")
    print(f"{'':<62}" + "".join(f"{run.load.short:>22}" for run in runs))
    for name in tables[0]:
        print(f"{name:<62}" + "".join(f"{table[name]:>22.2f}" for table in tables))
    print(f"{'all':<62}" + "".join(f"{sum(table.values()):>22.2f}" for table in tables))
    print(f"{'counted alone':<62}" + "".join(f"{_counted(table):>22.2f}" for table in tables))


def _counted(table: Mapping[str, float]) -> float:
    return sum(usd for name, usd in table.items() if not name.endswith(ESTIMATED))

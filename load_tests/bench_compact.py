"""Benchmark of compaction on one core: rows per second, peak memory, and the ratio to plain pyarrow.

Each measurement runs in its own process, pinned to one core, because peak memory is measured per process. The baseline
reads the same staging objects into one table, sorts it and writes it. The baseline takes three lines of code, but holds
the whole hour in memory.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from metering.intake.formats.columns import exact_sum
from metering.lake.parquet.hour_rows import STAGING_SCHEMA
from metering.lake.parquet.writer import ParquetLakeWriter
from metering.units import HOUR_S, MIB

if TYPE_CHECKING:
    from metering.stores.objects import ObjectStore

HOUR = 1_795_521_600
OBJECT_ROWS = 10_000
BATCH_ROWS = 100
SMALL_ROWS = 1_000_000
LARGE_ROWS = 10_000_000
# Number of objects that are made row by row. The other objects are variations of these objects.
MADE = 100

LEAST_ROWS_S = 700_000
MOST_MEMORY_MIB = 600
# With ten times as many rows, peak memory may be this many percent higher, because more runs are merged.
MOST_GROWTH_PERCENT = 60

_ACCOUNTS = 500
_RESOURCES = 40
_ACCOUNTS_A_BATCH = 8


class Folder:
    """A folder with the `ObjectStore` method that compaction uses."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def get(self, key: str) -> bytes:
        return (self._root / key).read_bytes()


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Result of one measurement."""

    what: str
    rows: int
    bytes: int
    wall_s: float
    cpu_s: float
    memory_mib: int
    file_bytes: int

    @property
    def rows_s(self) -> int:
        """Rows per second of CPU time on one core; CPU time excludes other load on the machine."""
        return int(self.rows / self.cpu_s)


def write_staging(root: str, number: int) -> None:
    """Write a staging object: a hundred batches of a hundred records, each batch with up to 8 of 500 accounts."""
    chance = random.Random(number)
    accounts = [f"{n * 1_234_567 % 10**12:012d}" for n in range(1, _ACCOUNTS + 1)]
    columns: dict[str, list[object]] = {name: [] for name in STAGING_SCHEMA.names}
    for batch in range(OBJECT_ROWS // BATCH_ROWS):
        chosen = [chance.randrange(_ACCOUNTS) for _ in range(_ACCOUNTS_A_BATCH)]
        batch_id = f"edge-{number % 50:04x}-{number * 100 + batch:08d}"
        for _ in range(BATCH_ROWS):
            account = chance.choice(chosen)
            start_s = HOUR + chance.randrange(HOUR_S - 300)
            row = (
                accounts[account],
                chance.choice(("AmazonEC2", "AmazonS3", "AmazonRDS")),
                f"i-{(account * _RESOURCES + chance.randrange(_RESOURCES)) * 2_654_435_761 % 2**68:017x}",
                chance.choice(("out", "in")),
                chance.choice(("us-east-1/use1-az1", "us-east-1/use1-az2", "us-west-2")),
                chance.choice(("internet", "eu-west-1", "us-east-1/use1-az3")),
                chance.choice(("DataTransfer-Out-Bytes", "USE1-EU-AWS-Out-Bytes", "DataTransfer-Regional-Bytes")),
                int(chance.lognormvariate(14, 3)),
                start_s * 1_000_000,
                (start_s + 300) * 1_000_000,
                batch_id,
                HOUR,
            )
            for name, value in zip(STAGING_SCHEMA.names, row, strict=True):
                columns[name].append(value)
    arrays = []
    for field in STAGING_SCHEMA:
        plain = pa.int64() if pa.types.is_timestamp(field.type) else field.type
        plain = pa.string() if pa.types.is_dictionary(plain) else plain
        arrays.append(pa.array(columns[field.name], plain).cast(field.type))
    _write(pa.table(arrays, schema=STAGING_SCHEMA), root, number)


def vary_staging(root: str, number: int) -> None:
    """Write a variant of one of the first hundred objects, with new batches, bytes and times, without Python loops."""
    table = pq.read_table(f"{root}/{number % MADE}.parquet", schema=STAGING_SCHEMA)
    ids = table.column("batch_id").combine_chunks()
    others = pa.array([f"edge-{number % 50:04x}-{number * 100 + n:08d}" for n in range(len(ids.dictionary))])
    columns = {name: table.column(name) for name in STAGING_SCHEMA.names}
    columns["batch_id"] = pa.DictionaryArray.from_arrays(ids.indices, others)
    columns["bytes"] = pc.add(pc.multiply(columns["bytes"], 3), number)
    turned = number * 7 % table.num_rows
    for name in ("start_time", "end_time"):
        columns[name] = pa.concat_arrays(
            [part for half in (table.slice(turned), table.slice(0, turned)) for part in half.column(name).chunks]
        )
    _write(pa.table(list(columns.values()), schema=STAGING_SCHEMA), root, number)


def make_staging(root: Path, rows: int) -> list[str]:
    """Write the staging objects of an hour with `rows` rows, at least a million, and return their names."""
    objects = max(rows // OBJECT_ROWS, MADE)
    with ProcessPoolExecutor() as pool:
        list(pool.map(write_staging, [str(root)] * MADE, range(MADE)))
        list(pool.map(vary_staging, [str(root)] * objects, range(MADE, objects)))
    return [f"{number}.parquet" for number in range(objects)]


def _write(table: pa.Table, root: str, number: int) -> None:
    pq.write_table(table, f"{root}/{number}.parquet", compression="zstd", store_schema=False)


def compact(root: Path, rows: int) -> tuple[int, int, int]:
    """Merge the objects with the production writer. Returns rows, bytes, and the size of the file."""
    keys = [f"{number}.parquet" for number in range(rows // OBJECT_ROWS)]
    with ParquetLakeWriter(cast("ObjectStore", Folder(root)), readers=1, scratch=root).merge(
        HOUR, keys, plan_key="runs/L0/1-a.json"
    ) as merged:
        size = merged.content.stat().st_size if isinstance(merged.content, Path) else len(merged.content)
        return merged.rows, merged.bytes, size


def plain(root: Path, rows: int) -> tuple[int, int, int]:
    """Read, sort and write the objects with pyarrow alone: the baseline."""
    names = [field.name for field in STAGING_SCHEMA if field.name != "booked_hour"]
    paths = [root / f"{number}.parquet" for number in range(rows // OBJECT_ROWS)]
    table = pa.concat_tables(pq.read_table(path, columns=names, use_threads=False) for path in paths)
    order = [("account_id", "ascending"), ("resource_id", "ascending"), ("start_time", "ascending")]
    target = root / "plain.out"
    table = table.sort_by(order)
    pq.write_table(table, target, compression="zstd")
    return table.num_rows, exact_sum(table.column("bytes")), target.stat().st_size


def measure(what: str, root: Path, rows: int) -> Measured:
    """Measure once in this process, on one core."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    wall, cpu = time.perf_counter(), time.process_time()
    counted, total, size = (compact if what == "compact" else plain)(root, rows)
    return Measured(
        what=what,
        rows=counted,
        bytes=total,
        wall_s=time.perf_counter() - wall,
        cpu_s=time.process_time() - cpu,
        memory_mib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 // MIB,
        file_bytes=size,
    )


def in_own_process(what: str, root: Path, rows: int) -> Measured:
    """Measure once in a new process."""
    command = [
        sys.executable,
        "-m",
        "load_tests.bench_compact",
        "--one",
        what,
        "--root",
        str(root),
        "--rows",
        str(rows),
    ]
    return Measured(**json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))


def best(what: str, root: Path, rows: int, times: int) -> Measured:
    """Return the fastest of several runs, but with the largest memory: other load can only slow a run down."""
    runs = [in_own_process(what, root, rows) for _ in range(times)]
    fastest = max(runs, key=lambda run: run.rows_s)
    return Measured(**{**asdict(fastest), "memory_mib": max(run.memory_mib for run in runs)})


def main() -> int:
    """Print the table. Returns 1 if a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--one", choices=("compact", "plain"))
    parser.add_argument("--root", type=Path)
    parser.add_argument("--rows", type=int, default=LARGE_ROWS)
    options = parser.parse_args()
    if options.one:
        sys.stdout.write(json.dumps(asdict(measure(options.one, options.root, options.rows))))
        return 0
    with tempfile.TemporaryDirectory(prefix="metering-bench-") as name:
        return report(Path(name), options.rows)


def report(root: Path, large_rows: int) -> int:
    """Measure everything, print the table, and compare it with the targets."""
    make_staging(root, max(large_rows, SMALL_ROWS))
    small = best("compact", root, SMALL_ROWS, 3)
    baseline = best("plain", root, SMALL_ROWS, 2)
    large = best("compact", root, large_rows, 1)
    say(f"{'':28}{'rows':>12}{'rows/s per core':>17}{'peak MiB':>10}{'B per record':>14}")
    for title, run in (("compaction", small), ("compaction", large), ("pyarrow read, sort, write", baseline)):
        record = run.file_bytes / run.rows
        say(f"{title:28}{run.rows:12,}{run.rows_s:17,}{run.memory_mib:10,}{record:14.2f}")
    rates = statistics.harmonic_mean([small.rows_s, large.rows_s])
    ratio = small.rows_s / baseline.rows_s
    say(f"{ratio:.2f} times the baseline at {SMALL_ROWS:,} rows; mean rate {rates:,.0f} rows/s")
    problems = []
    if (small.rows, small.bytes) != (baseline.rows, baseline.bytes):
        problems.append("rows or bytes differ from those of the baseline")
    if min(small.rows_s, large.rows_s) < LEAST_ROWS_S:
        problems.append(f"less than {LEAST_ROWS_S:,} rows/s per core")
    if max(small.memory_mib, large.memory_mib) > MOST_MEMORY_MIB:
        problems.append(f"more than {MOST_MEMORY_MIB} MiB")
    if large.memory_mib * 100 > small.memory_mib * (100 + MOST_GROWTH_PERCENT):
        problems.append(f"memory grew by more than {MOST_GROWTH_PERCENT} %")
    for problem in problems:
        say(f"FAILED: {problem}")
    return 1 if problems else 0


def say(line: str) -> None:
    """Print one line of the report."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())

"""Benchmark of SQL over the lake: `metering query` for top talkers in ten million rows, without its start-up.

The compactor's writer makes an hour's file, and `LakeQuery` reads it through the ledger, like the command. The baseline
is DuckDB's native reader of the same file on disk. The baseline reads neither staging nor the ledger, and does not
restrict what the query may do.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple, cast

import duckdb

from load_tests.bench_compact import HOUR, LARGE_ROWS, Folder, make_staging, say
from metering.lake.parquet.reader import ParquetLakeReader
from metering.lake.parquet.writer import ParquetLakeWriter
from metering.lake.view import LakeView
from metering.ledger.booked_hours import LakeFile, Published
from metering.reports.sql.query import LakeQuery, RegionLake
from metering.stores.objects import ObjectStore, lake_file_key, summary_key
from metering.stores.writes import Put, Table
from tests.support.memory.clock import ManualClock
from tests.support.memory.items import MemoryItemStore
from tests.support.memory.objects import MemoryObjectStore

MOST_S = 2.0
# Limit as a multiple of the CPU time of DuckDB's own reader. Wall-clock time is only printed: it includes other load.
MOST_TIMES = 3.0
_TIMES = 3
_THREADS = 2
_TOP = "SELECT account_id, sum(bytes) AS bytes FROM {source} GROUP BY account_id ORDER BY bytes DESC LIMIT 10"


def publish(root: Path, rows: int) -> tuple[LakeQuery, Path]:
    """Publish an hour with `rows` rows. Returns the query over that hour, and the hour's file on disk."""
    names = make_staging(root, rows)
    objects, items = MemoryObjectStore(ManualClock(HOUR * 1000)), MemoryItemStore()
    target, key = root / "hour.parquet", lake_file_key(HOUR, 0, 1, 0)
    with ParquetLakeWriter(cast("ObjectStore", Folder(root)), readers=1, scratch=root).merge(
        HOUR, names, plan_key="runs/L0/1-a.json"
    ) as merged:
        content = merged.content.read_bytes() if isinstance(merged.content, Path) else merged.content
        file = LakeFile(key=key, rows=merged.rows, bytes=merged.bytes)
        objects.put(summary_key(key), merged.summary, if_absent=True)
    target.write_bytes(content)
    objects.put(key, content, if_absent=True)
    items.put(Put(table=Table.LEDGER, item=Published(hour_s=HOUR, shard=0, run=1, files=(file,)).to_item()))
    view = LakeView(items=items, objects=objects, reader=ParquetLakeReader(objects), shards=1)
    return LakeQuery(lakes=[RegionLake(region="us-east-1", view=view, objects=objects)], threads=_THREADS), target


def top_talkers(query: LakeQuery, view: str) -> object:
    """Run the query as the command does."""
    return list(query.run(_TOP.format(source=view)).rows)


class Taken(NamedTuple):
    """Minimum of several runs in seconds (wall clock, and this process's CPU time on all cores), and the answer.

    Other load on the machine can only slow a run down.
    """

    wall_s: float
    cpu_s: float
    answer: object


def fastest(ask: Callable[[], object]) -> Taken:
    """Measure a question."""
    walls, cpus, answer = [], [], None
    for _ in range(_TIMES):
        began, cpu_began = time.perf_counter(), time.process_time()
        answer = ask()
        walls.append(time.perf_counter() - began)
        cpus.append(time.process_time() - cpu_began)
    return Taken(min(walls), min(cpus), answer)


def main(arguments: Sequence[str]) -> int:
    """Print the table. Returns 1 if a target is missed or the two answers differ."""
    parser = argparse.ArgumentParser(prog="python -m load_tests.bench_query", description=__doc__)
    parser.add_argument("--rows", type=int, default=LARGE_ROWS)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="metering-bench-") as name:
        query, file = publish(Path(name), options.rows)
        with duckdb.connect(config={"threads": _THREADS}) as plain:
            sql = _TOP.format(source=f"read_parquet('{file}')")
            own = fastest(lambda: plain.execute(sql).fetchall())
        taken = {view: fastest(partial(top_talkers, query, view)) for view in ("transfers", "usage")}
    say(f"top talkers of {options.rows:,} rows, {_THREADS} threads, fastest of {_TIMES}:")
    problems = []
    say(f"  DuckDB's own reader: {own.wall_s:.2f} s, {own.cpu_s:.2f} s of CPU")
    for view, (wall_s, cpu_s, answer) in taken.items():
        times = cpu_s / own.cpu_s
        say(f"  over `{view}`: {wall_s:.2f} s ({wall_s / own.wall_s:.1f} x), {cpu_s:.2f} s of CPU ({times:.1f} x)")
        if answer != own.answer:
            problems.append(f"`{view}` gives another answer than the file")
        if wall_s >= MOST_S:
            problems.append(f"`{view}` takes {wall_s:.2f} s, not under {MOST_S:.0f} s")
        if times > MOST_TIMES:
            problems.append(f"`{view}` takes {times:.1f} times the CPU of DuckDB's own reader, not {MOST_TIMES:.0f}")
    for problem in problems:
        say(f"FAILED: {problem}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""`LakeWriter` in production: merges staging objects of one hour into one sorted Parquet file.

A few threads read ahead. Rows that do not fit in memory are written to disk as sorted runs, which are then merged.
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING

import pyarrow.parquet as pq

from metering.intake.formats.exact_sums import exact_sum
from metering.lake.parquet.hour_rows import HOUR_SCHEMA, STAGED_END_BYTES, TEXT_COLUMNS, decoding, staged_hour
from metering.lake.parquet.ordering import by_account, by_resource, one_chunk
from metering.lake.parquet.scratch import scratch_folder
from metering.lake.parquet.sorted_runs import merged, write_run
from metering.lake.parquet.summaries import summary_of
from metering.lake.parquet.sums import Sums, halves_of
from metering.lake.ports import MergedFile
from metering.lake.rows import USAGE_QUERY
from metering.units import MIB

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence
    from concurrent.futures import Future
    from pathlib import Path

    import pyarrow as pa

    from metering.stores.objects import ObjectStore

# Rows that are sorted at once, and rows of a row group: 57 bytes each in memory, in several copies during the sort.
_GROUP_ROWS = 512 * 1024
_DICTIONARY_PAGE_BYTES = 8 * MIB


class ParquetLakeWriter:
    """Writes lake files: zstd, sorted by account, strings as dictionaries, statistics for accounts and times.

    Args:
        objects: Store of the staging objects.
        readers: Threads that fetch and decode ahead.
        group_rows: Rows of a row group, and of a sorted run on disk.
        scratch: Directory for runs and for the file until it is put; by default the system's.
    """

    def __init__(
        self, objects: ObjectStore, *, readers: int = 4, group_rows: int = _GROUP_ROWS, scratch: Path | None = None
    ) -> None:
        self._objects = objects
        self._readers = readers
        self._group_rows = group_rows
        self._scratch = scratch

    @contextmanager
    def merge(
        self, hour_s: int, staging_keys: Sequence[str], *, in_part: Collection[str] = frozenset()
    ) -> Iterator[MergedFile]:
        """See `LakeWriter.merge`; the content is a file below the scratch directory."""
        with scratch_folder(self._scratch) as directory:
            path = directory / "merged.parquet"
            with _Sink(path) as sink:
                for group in self._row_groups(self._tables(hour_s, staging_keys, in_part), hour_s, directory):
                    sink.write(by_resource(one_chunk(group), hour_s))
            yield MergedFile(content=path, rows=sink.rows, bytes=sink.bytes, summary=summary_of(sink.sums, hour_s))

    def _row_groups(self, tables: Iterable[pa.Table], hour_s: int, directory: Path) -> Iterator[list[pa.Table]]:
        runs: list[Path] = []
        buffer: list[pa.Table] = []
        rows = 0
        for table in tables:
            if buffer and rows + table.num_rows > self._group_rows:
                runs.append(_spill(buffer, hour_s, directory / f"{len(runs)}.arrows"))
                buffer, rows = [], 0
            buffer.append(table)
            rows += table.num_rows
        if not runs:
            if buffer:
                yield buffer
            return
        runs.append(_spill(buffer, hour_s, directory / f"{len(runs)}.arrows"))
        buffer = []
        yield from merged(runs, hour_s, self._group_rows)

    def _tables(self, hour_s: int, staging_keys: Sequence[str], in_part: Collection[str]) -> Iterator[pa.Table]:
        """One table for each staging object, in order. A few objects are read ahead."""
        with ThreadPoolExecutor(self._readers) as pool:
            keys = iter(staging_keys)

            def submit(some: Iterable[str]) -> None:
                ahead.extend(pool.submit(self._hour, key, hour_s, in_part=key in in_part) for key in some)

            ahead: deque[Future[pa.Table]] = deque()
            submit(islice(keys, 2 * self._readers))
            try:
                while ahead:
                    table = ahead.popleft().result()
                    submit(islice(keys, 1))
                    if table.num_rows:
                        yield table
            finally:
                for future in ahead:
                    future.cancel()

    def _hour(self, key: str, hour_s: int, *, in_part: bool) -> pa.Table:
        if not in_part:
            body = self._objects.get(key)
            with decoding(key):
                return staged_hour(body, hour_s)
        with self._objects.open_end(key, last_bytes=STAGED_END_BYTES) as stream, decoding(key):
            return staged_hour(stream, hour_s)


def _spill(buffer: list[pa.Table], hour_s: int, path: Path) -> Path:
    write_run(by_account(one_chunk(buffer), hour_s), path)
    return path


class _Sink:
    """A lake file while it is written. It counts rows and bytes, and sums them by usage key."""

    def __init__(self, path: Path) -> None:
        self._writer = pq.ParquetWriter(
            path,
            HOUR_SCHEMA,
            compression="zstd",
            use_dictionary=[*TEXT_COLUMNS, "start_time", "end_time"],
            write_statistics=["account_id", "start_time"],
            sorting_columns=[pq.SortingColumn(HOUR_SCHEMA.get_field_index("account_id"))],
            dictionary_pagesize_limit=_DICTIONARY_PAGE_BYTES,
            # Every reader sees plain strings, not Arrow's dictionaries.
            store_schema=False,
        )
        self.rows = 0
        self.bytes = 0
        self.sums = Sums(USAGE_QUERY)

    def __enter__(self) -> _Sink:
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.close()

    def write(self, group: pa.Table) -> None:
        """Write one row group."""
        self._writer.write_table(group, row_group_size=group.num_rows)
        self.rows += group.num_rows
        self.bytes += exact_sum(group.column("bytes"))
        part = Sums(USAGE_QUERY)
        part.add(halves_of(group, USAGE_QUERY))
        self.sums.add(part.table())

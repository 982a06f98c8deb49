"""Production `LakeWriter`: merges staging objects of one hour into one sorted Parquet file.

A few threads read objects ahead. Rows that exceed memory are written to disk as sorted runs, which are then merged.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from metering.intake.formats.columns import exact_sum
from metering.lake.parquet import hour_rows
from metering.lake.parquet.reader import Sums, halves_of, summary_of
from metering.lake.ports import USAGE_QUERY, MergedFile
from metering.units import HOUR_S, MIB

if TYPE_CHECKING:
    from metering.stores.objects import ObjectStore

# External sort: sorted runs on disk, and a merge of them. Memory use is independent of the number of rows.

# Number of rows per run in memory during the merge: 24 runs with 57 bytes per row take 45 MB.
_BATCH_ROWS = 32 * 1024

# Sort key of a row.
Place = tuple[str | int, ...]
# Takes a batch; returns a function from a row's number within the batch to the row's sort key.
Places = Callable[[pa.RecordBatch], Callable[[int], Place]]


def write_run(table: pa.Table, path: Path, *, compression: str | None = None, batch_rows: int = _BATCH_ROWS) -> Path:
    """Write one run: a sorted table."""
    options = pa.ipc.IpcWriteOptions(unify_dictionaries=False, compression=compression)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema, options=options) as writer:
        writer.write_table(table, max_chunksize=batch_rows)
    return path


def sorted_runs(
    tables: Iterable[pa.Table], run_rows: int, spill: Callable[[list[pa.Table], int], Path]
) -> tuple[list[Path], list[pa.Table]]:
    """Write runs of one table, or of at most `run_rows` rows. Tables that fit into a single run are returned."""
    runs: list[Path] = []
    buffer: list[pa.Table] = []
    rows = 0
    for table in tables:
        if buffer and rows + table.num_rows > run_rows:
            runs.append(spill(buffer, len(runs)))
            buffer, rows = [], 0
        buffer.append(table)
        rows += table.num_rows
    return ([*runs, spill(buffer, len(runs))], []) if runs else ([], buffer)


def merged_steps(runs: Sequence[Path], places: Places) -> Iterator[list[tuple[int, pa.Table]]]:
    """Merge runs in ordered steps; each step has a (possibly empty) part of some runs, by run number."""
    with ExitStack() as stack:
        opened = [stack.enter_context(pa.OSFile(str(path), "rb")) for path in runs]
        cursors = [_Cursor(number, source, places) for number, source in enumerate(opened)]
        while cursors := [cursor for cursor in cursors if cursor.forward()]:
            bound = min(cursor.last for cursor in cursors)
            yield [(cursor.number, cursor.take(bound)) for cursor in cursors]


class _Cursor:
    """Reads a run batch by batch. `last` is the position of the current batch's last row."""

    def __init__(self, number: int, source: pa.NativeFile, places: Places) -> None:
        self.number = number
        self.last: Place = ()
        self._reader = pa.ipc.open_stream(source)
        self._places = places
        self._batch = pa.RecordBatch.from_pylist([], schema=self._reader.schema)
        self._first = 0

    def forward(self) -> bool:
        """Load the next batch if the current batch is exhausted. Returns False at the end of the run."""
        while self._first >= self._batch.num_rows:
            try:
                self._batch = self._reader.read_next_batch()
            except StopIteration:
                return False
            self._first = 0
            self._place = self._places(self._batch)
            if self._batch.num_rows:
                self.last = self._place(self._batch.num_rows - 1)
        return True

    def take(self, bound: Place) -> pa.Table:
        """Rows of the current batch up to and including `bound`; possibly none."""
        end = bisect_right(range(self._batch.num_rows), bound, lo=self._first, key=self._place)
        part = self._batch.slice(self._first, end - self._first)
        self._first = end
        return pa.Table.from_batches([part])


def _merged(runs: Sequence[Path], hour_s: int, piece_rows: int) -> Iterator[list[pa.Table]]:
    """Pieces in order, of at least `piece_rows` rows, except the last. Rows within a piece are not sorted."""
    piece: dict[int, list[pa.Table]] = {}
    rows = 0
    for step in merged_steps(runs, partial(_places, hour_s)):
        for number, part in step:
            if part.num_rows:
                piece.setdefault(number, []).append(part)
                rows += part.num_rows
        if rows >= piece_rows:
            yield _joined_by_run(piece)
            piece, rows = {}, 0
    if piece:
        yield _joined_by_run(piece)


def _places(hour_s: int, batch: pa.RecordBatch) -> Callable[[int], Place]:
    accounts, starts = batch.column("account_id"), hour_rows.start_offsets(batch.column("start_time"), hour_s)
    return lambda row: (accounts[row].as_py(), starts[row].as_py())


def _joined_by_run(piece: dict[int, list[pa.Table]]) -> list[pa.Table]:
    """Join the parts of each run. Parts of one run share dictionaries, so that the caller has fewer to unify."""
    return [pa.concat_tables(parts).combine_chunks() for parts in piece.values()]


# Scratch folders, which are removed soon after their process ends, even if it is killed.
#
# A killed function leaves its folder on the disk of a warm execution environment. The owner of a folder holds a file
# lock in it, and the kernel releases the locks of a dead process. So the next process can distinguish a leftover folder
# from a folder in use. Another lock covers the creation of folders and the search for leftovers, so that no process
# sees a folder before its owner has locked it.


_PREFIX = "metering-lake-"
_OWNER = "owner.lock"
# A folder without a lock file was made by an earlier release, which used a folder for at most a quarter of an hour.
_UNLOCKED_S = HOUR_S


@contextmanager
def scratch_folder(parent: Path | None = None) -> Iterator[Path]:
    """Yield a new folder below `parent` (default: the system's) and remove it afterwards; first remove leftovers."""
    place = Path(tempfile.gettempdir()) if parent is None else parent
    with _locked(place / f"metering-lake.{os.getuid()}.lock"):
        _remove_leftovers(place)
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=place))
        owner = _open(folder / _OWNER)
        fcntl.flock(owner, fcntl.LOCK_EX)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(owner)


def _remove_leftovers(place: Path) -> None:
    for folder in place.glob(f"{_PREFIX}*"):
        # The folder belongs to another user, or has just been removed.
        with suppress(OSError):
            if folder.is_dir() and not folder.is_symlink() and _is_left(folder):
                shutil.rmtree(folder, ignore_errors=True)


def _is_left(folder: Path) -> bool:
    if not (folder / _OWNER).exists():
        return folder.stat().st_mtime < time.time() - _UNLOCKED_S
    owner = _open(folder / _OWNER)
    try:
        fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(owner)
    return True


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    lock = _open(path)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


# Rows that are sorted at once, and rows of a row group: 57 bytes each in memory, in several copies during the sort.
_GROUP_ROWS = 512 * 1024
_DICTIONARY_PAGE_BYTES = 8 * MIB


class ParquetLakeWriter:
    """Writes lake files: zstd, sorted by account, strings as dictionaries, statistics for accounts and times.

    Args:
        readers: Number of threads that fetch and decode objects ahead.
        group_rows: Rows of a row group, and of a sorted run on disk.
        scratch: Directory for sorted runs and for the file before its upload; by default the system's.
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
        self,
        hour_s: int,
        staging_keys: Sequence[str],
        *,
        plan_key: str,
        in_part: Collection[str] = frozenset(),
        markers_of: Collection[str] = frozenset(),
    ) -> Iterator[MergedFile]:
        """See `LakeWriter.merge`; the contents are files below the scratch directory."""
        with scratch_folder(self._scratch) as directory:
            path, markers = directory / "merged.parquet", directory / "markers.gz"
            with _Sink(path, plan_key) as sink, markers.open("wb") as found:
                tables = self._tables(hour_s, staging_keys, in_part, markers_of, found)
                for group in self._row_groups(tables, hour_s, directory):
                    sink.write(hour_rows.by_resource(hour_rows.one_chunk(group), hour_s))
            yield MergedFile(
                content=path,
                rows=sink.rows,
                bytes=sink.bytes,
                summary=summary_of(sink.sums, hour_s),
                markers=markers if markers.stat().st_size else b"",
            )

    def _row_groups(self, tables: Iterable[pa.Table], hour_s: int, directory: Path) -> Iterator[list[pa.Table]]:
        def spill(buffer: list[pa.Table], number: int) -> Path:
            return write_run(hour_rows.by_account(hour_rows.one_chunk(buffer), hour_s), directory / f"{number}.arrows")

        runs, few = sorted_runs(tables, self._group_rows, spill)
        if few:
            yield few
        yield from _merged(runs, hour_s, self._group_rows)

    def _tables(
        self,
        hour_s: int,
        staging_keys: Sequence[str],
        in_part: Collection[str],
        markers_of: Collection[str],
        markers: BinaryIO,
    ) -> Iterator[pa.Table]:
        """One table for each staging object, in order. A few objects are read ahead. Markers are written on the way."""
        with ThreadPoolExecutor(self._readers) as pool:
            keys = iter(staging_keys)

            def submit(some: Iterable[str]) -> None:
                for key in some:
                    read = pool.submit(self._hour, key, hour_s, in_part=key in in_part, marked=key in markers_of)
                    ahead.append(read)

            ahead: deque[Future[tuple[pa.Table, bytes]]] = deque()
            submit(islice(keys, 2 * self._readers))
            try:
                while ahead:
                    table, lines = ahead.popleft().result()
                    submit(islice(keys, 1))
                    markers.write(lines)
                    if table.num_rows:
                        yield table
            finally:
                for future in ahead:
                    future.cancel()

    def _hour(self, key: str, hour_s: int, *, in_part: bool, marked: bool) -> tuple[pa.Table, bytes]:
        """An object's rows of the hour, and its markers if they are needed."""
        with ExitStack() as stack:
            source: BinaryIO | bytes
            if in_part:
                source = stack.enter_context(self._objects.open_end(key, last_bytes=hour_rows.STAGED_END_BYTES))
            else:
                source = self._objects.get(key)
            with hour_rows.decoding(key):
                file = hour_rows.RowGroups(source, hour_rows.TEXT_COLUMNS)
                table = hour_rows.staged_hour(file, hour_s, whole=not in_part)
                return table, hour_rows.staged_markers(file) if marked else b""


class _Sink:
    """A lake file that is being written. Rows and bytes are counted in total and by usage key."""

    def __init__(self, path: Path, plan_key: str) -> None:
        self._writer = pq.ParquetWriter(
            path,
            hour_rows.HOUR_SCHEMA,
            compression="zstd",
            use_dictionary=[*hour_rows.TEXT_COLUMNS, "start_time", "end_time"],
            write_statistics=["account_id", "start_time"],
            sorting_columns=[pq.SortingColumn(hour_rows.HOUR_SCHEMA.get_field_index("account_id"))],
            dictionary_pagesize_limit=_DICTIONARY_PAGE_BYTES,
            # Every reader sees plain strings, not Arrow's dictionaries.
            store_schema=False,
        )
        self._writer.add_key_value_metadata(hour_rows.plan_metadata(plan_key))
        self.rows = 0
        self.bytes = 0
        self.sums = Sums(USAGE_QUERY)

    def __enter__(self) -> _Sink:
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.close()

    def write(self, group: pa.Table) -> None:
        self._writer.write_table(group, row_group_size=group.num_rows)
        self.rows += group.num_rows
        self.bytes += exact_sum(group.column("bytes"))
        part = Sums(USAGE_QUERY)
        part.add(halves_of(group, USAGE_QUERY))
        self.sums.add(part.table())

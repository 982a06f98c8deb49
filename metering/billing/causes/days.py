"""Rows of causes of a day, in pieces: Parquet files sorted by resource, each with all rows of its resources.

A row adds up the bytes of one cause, destination and path in one booked hour. The hour is the last column of the order,
because a cause mostly moves bytes in many hours: so a row takes half of the space.
"""

from __future__ import annotations

import hashlib
import io
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from metering.billing.causes.index import Piece
from metering.errors import ObjectDamagedError
from metering.intake.formats.columns import halves
from metering.lake.parquet.reader import Sums
from metering.lake.ports import RowQuery
from metering.stores.objects import cause_day_key
from metering.units import INT64_MAX

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from metering.billing.causes.index import CauseIndex, Reused
    from metering.stores.objects import ObjectStore

TEXTS = (
    "resource_id",
    "usage_type",
    "cause",
    "destination",
    "path",
    "direction",
    "account_id",
    "service",
    "from",
    "to",
    "basis",
    "reason",
)
HOURS = ("hour", "own_hour")
KEYS = (*TEXTS, *HOURS)
"""Columns of a row's key, in the order of the rows. `own_hour` differs from `hour` for late usage of a closed month."""
COLUMNS = (*KEYS, "bytes")
SCHEMA = pa.schema([*((name, pa.string()) for name in TEXTS), *((name, pa.int64()) for name in (*HOURS, "bytes"))])
GROUP_ROWS = 64 * 1024
MOST_ROWS = 1_000_000
"""A piece with more rows is cut in two between resources. The causes of one resource are always in one piece."""
_HALF = 2**32
REUSED = "address_reused"
"""Reason of bytes whose name a later capture took back."""


def sums_by(tables: Iterable[pa.Table], columns: tuple[str, ...]) -> Sums:
    """Exact sums of bytes by some columns."""
    sums = Sums(RowQuery(columns=columns))
    for table in tables:
        low, high = halves(table.column("bytes"))
        rows = pa.repeat(pa.scalar(1, pa.int64()), table.num_rows)
        keys = {f"c{place}": table.column(name) for place, name in enumerate(columns)}
        sums.add(pa.table({**keys, "low": low, "high": high, "records": rows}))
    return sums


def summed(tables: Iterable[pa.Table]) -> pa.Table:
    """Rows of several tables, sorted, with one row a key; a sum beyond int64 is several rows."""
    found = sums_by(tables, KEYS).table()
    if not found.num_rows:
        return SCHEMA.empty_table()
    # The low halves may add up to more than 32 bits.
    high = pc.add(found.column("high"), pc.shift_right(found.column("low"), 32))
    low = pc.bit_wise_and(found.column("low"), _HALF - 1)
    large = pc.greater_equal(high, _HALF // 2)
    arrays = [found.column(f"c{place}") for place in range(len(KEYS))]
    if pc.any(large).as_py():
        return _large(arrays, high, low)
    size = pc.add(pc.shift_left(high, 32), low)
    return _in_order(pa.table([*arrays, size], names=COLUMNS).cast(SCHEMA))


def _large(arrays: Sequence[pa.ChunkedArray], high: pa.Array, low: pa.Array) -> pa.Table:
    rows: list[tuple[str | int, ...]] = []
    texts = (each.to_pylist() for each in arrays)
    for *key, upper, lower in zip(*texts, high.to_pylist(), low.to_pylist(), strict=True):
        rows += within_int64(tuple(key), upper * _HALF + lower)
    return _in_order(table_of(rows))


def within_int64(key: tuple[str | int, ...], size_bytes: int) -> Iterator[tuple[str | int, ...]]:
    """Rows of a key that add up to these bytes, each with at most 2^63 - 1."""
    while size_bytes > INT64_MAX:
        yield (*key, INT64_MAX)
        size_bytes -= INT64_MAX
    yield (*key, size_bytes)


def table_of(rows: Sequence[Sequence[str | int]]) -> pa.Table:
    """A table of rows, with values in the order of `COLUMNS`."""
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(COLUMNS)
    return pa.table([pa.array(values, each.type) for values, each in zip(columns, SCHEMA, strict=True)], schema=SCHEMA)


def _in_order(table: pa.Table) -> pa.Table:
    return table.sort_by([(name, "ascending") for name in KEYS])


def piece_body(table: pa.Table) -> bytes:
    """Content of a piece: sorted rows."""
    file = io.BytesIO()
    pq.write_table(
        table, file, compression="zstd", row_group_size=GROUP_ROWS, use_dictionary=list(TEXTS),
        column_encoding=dict.fromkeys((*HOURS, "bytes"), "DELTA_BINARY_PACKED"),
    )  # fmt: skip
    return file.getvalue()


def put_pieces(objects: ObjectStore, day_s: int, table: pa.Table, *, most_rows: int = MOST_ROWS) -> Iterator[Piece]:
    """Store sorted rows of a day as one piece, or as several of at most `most_rows` rows between resources."""
    if not table.num_rows:
        return
    resources = table.column("resource_id")
    first, last = resources[0].as_py(), resources[-1].as_py()
    if table.num_rows > most_rows and first != last:
        cut = _cut(resources)
        yield from put_pieces(objects, day_s, table.slice(0, cut), most_rows=most_rows)
        yield from put_pieces(objects, day_s, table.slice(cut), most_rows=most_rows)
        return
    body = piece_body(table)
    key = cause_day_key(day_s, hashlib.sha256(body).hexdigest())
    objects.put(key, body, if_absent=False)
    yield Piece(key, first, last, table.num_rows)


def _cut(resources: pa.ChunkedArray) -> int:
    """Place of the resource whose first row is nearest to the middle; the resources are sorted, and several."""
    middle = resources[len(resources) // 2]
    before = int(pc.sum(pc.less(resources, middle)).as_py())
    after = int(pc.sum(pc.less_equal(resources, middle)).as_py())
    half = len(resources) // 2
    return after if before == 0 or (after < len(resources) and after - half < half - before) else before


def read_piece(objects: ObjectStore, piece: Piece) -> pa.Table:
    """All rows of a piece.

    Raises:
        ObjectMissingError: It is gone.
        ObjectDamagedError: It is something else.
    """
    with decoding(piece.key), _opened(objects, piece) as file:
        table: pa.Table = file.read().select(COLUMNS).cast(SCHEMA)
    _check_rows(piece, table.num_rows)
    return table


def _check_rows(piece: Piece, rows: int) -> None:
    if rows != piece.rows:
        raise ObjectDamagedError(piece.key, f"it has {rows:,} rows, and the index says {piece.rows:,}")


def _opened(objects: ObjectStore, piece: Piece) -> pq.ParquetFile:
    body = objects.get(piece.key)
    if not is_of(body, piece.key):
        raise ObjectDamagedError(piece.key, "it has other bytes than its name says")
    return pq.ParquetFile(io.BytesIO(body), read_dictionary=list(TEXTS))


def is_of(body: bytes, key: str) -> bool:
    """Whether the name of a key ends with the beginning of the body's SHA-256."""
    digest = key.rpartition("/")[2].partition(".")[0].rpartition("-")[2]
    return bool(digest) and hashlib.sha256(body).hexdigest().startswith(digest)


@contextmanager
def decoding(key: str) -> Iterator[None]:
    """Turn what Arrow raises for damaged files, whose schema may be any, into an error that names the object.

    Raises:
        ObjectDamagedError: The object cannot be decoded.
    """
    try:
        yield
    except (pa.ArrowException, KeyError, TypeError, ValueError, OSError, EOFError) as error:
        raise ObjectDamagedError(key, str(error)) from error


class CauseDays:
    """Reads the rows of days.

    Args:
        reused: For each day, the causes whose names were taken back (`CauseNames.reused`).
    """

    def __init__(self, objects: ObjectStore, index: CauseIndex, reused: Mapping[int, Reused] | None = None) -> None:
        self._objects = objects
        self._days = index.days
        self._reused = reused or {}

    def tables(
        self, day_s: int, columns: Sequence[str], *, where: Mapping[str, frozenset[str]] | None = None
    ) -> Iterator[pa.Table]:
        """Rows of a day, with the given columns: a table a row group, strings as dictionaries.

        Args:
            day_s: First second of the day.
            columns: Columns of `COLUMNS`.
            where: Column of text -> values that a row may have in it.

        Raises:
            ObjectMissingError: A piece is gone.
            ObjectDamagedError: A piece is something else.
        """
        where = where or {}
        reused = self._reused.get(day_s)
        needed = {*columns, *where, *(("cause", "basis", "reason", "destination", "hour") if reused else ())}
        for table in self._read(day_s, [name for name in COLUMNS if name in needed], where.get("resource_id")):
            found = taken_back(table, reused) if reused else table
            for name, values in where.items():
                found = found.filter(pc.is_in(found.column(name).cast(pa.string()), pa.array(sorted(values))))
            yield found.select(columns)

    def _read(self, day_s: int, columns: Sequence[str], resources: frozenset[str] | None) -> Iterator[pa.Table]:
        for piece in self._days.get(day_s, ()):
            if resources is not None and not any(piece.first <= each <= piece.last for each in resources):
                continue
            with decoding(piece.key), _opened(self._objects, piece) as file:
                _check_rows(piece, file.metadata.num_rows)
                for number in range(file.num_row_groups):
                    if resources is None or _has(file, number, resources):
                        yield file.read_row_group(number, columns=columns, use_threads=False)


def _has(file: pq.ParquetFile, number: int, wanted: frozenset[str]) -> bool:
    """Whether a row group may have rows of any of these resources."""
    statistics = file.metadata.row_group(number).column(0).statistics
    if statistics is None or not statistics.has_min_max:
        return True
    return any(statistics.min <= each <= statistics.max for each in wanted)


def taken_back(table: pa.Table, reused: Reused) -> pa.Table:
    """Rows without names that later captures take back, unless the line itself told the cause.

    The name of a destination is taken back, too: it may be the workload of the other holder of the address.
    """
    at = pc.binary_join_element_wise(table.column("cause").cast(pa.string()),
                                     table.column("hour").cast(pa.string()), "@")  # fmt: skip
    to = pc.binary_join_element_wise(table.column("destination").cast(pa.string()),
                                     table.column("hour").cast(pa.string()), "@")  # fmt: skip
    told = pc.equal(table.column("basis").cast(pa.string()), "told")
    lost = pc.and_(pc.is_in(at, pa.array(sorted(reused.causes))), pc.invert(told))
    nobody = pc.is_in(to, pa.array(sorted(reused.destinations)))
    for name, mask, value in (
        ("cause", lost, ""), ("basis", lost, ""), ("reason", lost, REUSED), ("destination", nobody, ""),
    ):  # fmt: skip
        column = pc.if_else(mask, value, table.column(name).cast(pa.string()))
        table = table.set_column(table.schema.get_field_index(name), name, column.combine_chunks().dictionary_encode())
    return table

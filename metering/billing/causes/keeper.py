"""Keeps the causes of a region by day.

Each round takes the compactor's runs that the day sums have counted. A batch is in one commit, and an hour of a commit
is in one lake file. So a cause part counts once for each batch and hour that a new lake file has. Rows, names and
cursor change together, with the index.
"""

from __future__ import annotations

import io
import re
from collections import defaultdict
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from metering.billing.causes.days import (
    COLUMNS,
    MOST_ROWS,
    SCHEMA,
    decoding,
    put_pieces,
    read_piece,
    summed,
    table_of,
    within_int64,
)
from metering.billing.causes.index import CauseIndex, CauseIndexes, CausePin
from metering.billing.causes.names import Captures
from metering.billing.causes.splitting import split
from metering.errors import ObjectDamagedError, ObjectMissingError
from metering.hours import month_bounds_s
from metering.lake.ports import OWN_HOUR, RowQuery
from metering.ledger.format_version import generations_of
from metering.onramps.ingest.causes import MAX_ROWS, causes_key
from metering.onramps.reading import CONTENT_SCHEME
from metering.stores.clock import side_by_side
from metering.stores.objects import PLANS_PREFIX
from metering.units import DAY_S, MIB

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from metering.billing.causes.index import Piece
    from metering.billing.day_sums.index import DayIndex
    from metering.billing.day_sums.keeper import DaySumKeeper, Kept
    from metering.lake.ports import LakeReader
    from metering.ledger.booked_hours import LakeFile, RowSource
    from metering.onramps.context.store import ContextStore
    from metering.stores.clock import Deadline
    from metering.stores.objects import ObjectStore

NO_DETAIL = "no_detail"
"""Reason of bytes of a batch whose cause part is missing, or is not of this batch."""
LOOKS_BACK_S = 40 * DAY_S
"""The first run reads this period, which has the open month. Cause parts are kept for 15 days of it."""
# Logs that have causes, and the names of their batches.
_LOGS_PREFIX = f"{PLANS_PREFIX}vpc-flow/"
_BATCH = re.compile(rf"((?:flow:|{re.escape(CONTENT_SCHEME)}).+)/[0-9]+")
_MOST_FILES = 64
_MOST_CONTEXTS = 48
_READERS = 16
_KEPT_BYTES = 128 * MIB
_MOST_PART_BYTES = 64 * MIB
# Columns of a lake file by which rows without detail are added up.
_LAKE = ("resource_id", "usage_type", "direction", "account_id", "service", "from_location", "to_location", OWN_HOUR)
_OWN = RowQuery(columns=("batch_id", OWN_HOUR))
_OWN_SCHEMA = SCHEMA.remove(SCHEMA.get_field_index("hour"))
_Batch = tuple[str, int]


class Part(NamedTuple):
    """Rows of a batch in an hour, and their bytes."""

    rows: pa.Table
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptCauses:
    """Result of a call: the index, the number of counted files, and how far it is behind the day sums, in seconds."""

    index: CauseIndex
    files: int
    behind_s: int


class CauseParts:
    """Reads cause parts. Remembers what was read, because batches of a log file are in several lake files."""

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects
        self._known: dict[str, dict[_Batch, Part]] = {}
        self._bytes = 0

    def of(self, identities: frozenset[str]) -> dict[_Batch, Part]:
        """Rows of each batch and hour of some log files, of parts that exist and can be read."""
        if self._bytes > _KEPT_BYTES:
            self._known.clear()
            self._bytes = 0
        new = sorted(identities - self._known.keys())
        for identity, part in zip(new, side_by_side(self._read, new, threads=_READERS), strict=True):
            self._known[identity] = part
            self._bytes += sum(each.rows.nbytes for each in part.values())
        return {batch: part for identity in identities for batch, part in self._known[identity].items()}

    def _read(self, identity: str) -> dict[_Batch, Part]:
        key = causes_key(identity)
        try:
            return part_of(self._objects.get(key), key)
        except (ObjectMissingError, ObjectDamagedError):
            return {}


def part_of(body: bytes, key: str) -> dict[_Batch, Part]:
    """Decode a cause part: the rows of each batch and hour.

    Raises:
        ObjectDamagedError: It is something else, or is too large.
    """
    with decoding(key):
        with pq.ParquetFile(io.BytesIO(body), page_checksum_verification=True) as file:
            size = sum(file.metadata.row_group(number).total_byte_size for number in range(file.num_row_groups))
            if file.metadata.num_rows > MAX_ROWS or size > _MOST_PART_BYTES:
                raise ObjectDamagedError(key, f"it has {file.metadata.num_rows:,} rows and {size:,} bytes")
            table = file.read()
        batches, hours = table.column("batch").to_pylist(), table.column("own_hour").to_pylist()
        rows = table.select(_OWN_SCHEMA.names).cast(_OWN_SCHEMA)
        sizes = rows.column("bytes").to_pylist()
        if rows.num_rows and (min(sizes) < 0 or sum(column.null_count for column in rows.columns)):
            raise ObjectDamagedError(key, "it has negative bytes, or lacks values")
    found: dict[_Batch, Part] = {}
    first = 0
    for batch, group in groupby(zip(batches, hours, strict=True)):
        count = sum(1 for _ in group)
        if batch in found:
            raise ObjectDamagedError(key, f"the rows of {batch} do not stand together")
        found[batch] = Part(rows.slice(first, count), sum(sizes[first : first + count]))
        first += count
    return found


@dataclass
class _Round:
    """New rows by day, and what was lost. Mutable."""

    runs: dict[int, int]
    rows: dict[int, list[pa.Table]] = field(default_factory=lambda: defaultdict(list))
    lost: list[str] = field(default_factory=list)
    files: int = 0
    oldest_left_ms: int | None = None

    def add(self, hour_s: int, rows: pa.Table) -> None:
        hours = pa.array([hour_s] * rows.num_rows, pa.int64())
        self.rows[hour_s - hour_s % DAY_S].append(rows.append_column("hour", hours).select(COLUMNS))


@dataclass(frozen=True, slots=True, kw_only=True)
class CauseKeeper:
    """Adds the causes of new lake files to their days.

    Attributes:
        sums: Keeper of the region's day sums, which lists runs and their files.
        owners: Version of the newest book of owners in this bucket; closed months pin it.
        reserve_ms: Time needed for one more round.
    """

    sums: DaySumKeeper
    objects: ObjectStore
    lake: LakeReader
    contexts: ContextStore
    owners: Callable[[], int] = lambda: 0
    reserve_ms: int = 300_000
    most_files: int = _MOST_FILES
    most_rows: int = MOST_ROWS

    def keep(self, deadline: Deadline, kept: Kept) -> KeptCauses:
        """Count the causes of all files that the day sums have counted, until the deadline.

        Raises:
            UnavailableError: A call failed. Earlier rounds stay counted.
            LedgerCorruptError: A run, a plan, a published item, or the index cannot be read.
        """
        indexes = CauseIndexes(objects=self.objects)
        parts, files = CauseParts(self.objects), 0
        while True:
            index = self._begun(indexes.newest())
            found = self._round(index, kept.index, parts)
            captures = Captures(self.contexts, index.names, self.objects)
            named_s = captures.add(index.named_s, from_s=index.from_s, most=_MOST_CONTEXTS)
            days = {
                day_s: self._day(day_s, index.days.get(day_s, ()), rows, found) for day_s, rows in found.rows.items()
            }
            now_s = kept.index.counted_s
            behind_s = 0 if found.oldest_left_ms is None else max(now_s - found.oldest_left_ms // 1000, 1)
            whole = behind_s == 0 and kept.behind_s == 0
            counted = replace(
                index,
                runs=found.runs,
                counted_s=now_s - behind_s,
                named_s=named_s,
            )
            made = counted.following(days, captures.put(), (*found.lost, *captures.skipped))
            if whole:
                made = self._pinned(made, kept.index.closed)
            if indexes.put(made):
                files += found.files
                self.objects.delete(index.replaced)
                if behind_s == 0 or deadline.remaining_ms() < self.reserve_ms:
                    return KeptCauses(index=made, files=files, behind_s=behind_s)

    def _begun(self, index: CauseIndex) -> CauseIndex:
        """The index; in a new region, and after a restore of the ledger, one without rows.

        Objects of before a restore stay, because new rows with the same content have the same key.
        """
        found = generations_of(self.sums.items)
        if index.number and index.is_of(found):
            return index
        runs, from_s = self.sums.runs_before(LOOKS_BACK_S)
        return CauseIndex(
            number=index.number, runs=runs, from_s=from_s, generation=found.usage, ledger_generation=found.ledger,
            pinned=index.pinned,
        )  # fmt: skip

    def _round(self, index: CauseIndex, sums: DayIndex, parts: CauseParts) -> _Round:
        """Rows of the next runs, with at most `most_files` lake files in all, unless one run has more."""
        found = _Round(dict(index.runs))
        logs: bool | None = None
        for shard, last in sums.runs.items():
            for run in self.sums.done(shard, found.runs.get(shard, 0)):
                if run.number > last:
                    break
                if found.files >= self.most_files:
                    found.oldest_left_ms = min(run.planned_at_ms, found.oldest_left_ms or run.planned_at_ms)
                    break
                if logs is None:
                    # A plan is put before the messages of its batches, so it is there before any of them is published.
                    logs = next(iter(self.objects.list(_LOGS_PREFIX)), None) is not None
                for hour_s, file in self.sums.published(run) if logs else ():
                    self._count(found, hour_s, file, parts)
                    found.files += 1
                found.runs[shard] = run.number
        return found

    def _count(self, found: _Round, hour_s: int, file: LakeFile, parts: CauseParts) -> None:
        source = file.source(hour_s)
        totals: dict[_Batch, int] = {}
        identities: set[str] = set()
        for (batch, own_hour), total in self.lake.groups([source], _OWN):
            name = _BATCH.fullmatch(str(batch))
            if name is not None:
                totals[str(batch), int(own_hour)] = total.bytes
                identities.add(name[1])
        if not totals:
            return
        kept = parts.of(frozenset(identities))
        without: set[_Batch] = set()
        for key, size in totals.items():
            part = kept.get(key)
            if part is not None and part.bytes == size:
                found.add(hour_s, part.rows)
                continue
            without.add(key)
            if part is not None:
                found.lost.append(f"causes of {key[0]}: {part.bytes:,} bytes, and the lake has {size:,}")
        if without:
            found.add(hour_s, self._without_detail(source, without))

    def _without_detail(self, source: RowSource, batches: set[_Batch]) -> pa.Table:
        """Rows of batches by resource, from the lake file."""
        names = frozenset(batch for batch, _ in batches)
        query = RowQuery(columns=("batch_id", *_LAKE), where=(("batch_id", names),))
        rows: list[tuple[str | int, ...]] = []
        for (batch, resource, usage_type, direction, *others, own_hour), total in self.lake.groups([source], query):
            if (batch, own_hour) in batches:
                key = (resource, usage_type, "", "", "", direction, *others, "", NO_DETAIL, 0, own_hour)
                rows += within_int64(key, total.bytes)
        return table_of(rows).select(_OWN_SCHEMA.names)

    def _day(self, day_s: int, pieces: Sequence[Piece], rows: Sequence[pa.Table], found: _Round) -> tuple[Piece, ...]:
        """Pieces of a day with new rows; only those with resources of new rows are made anew."""
        new = summed(rows)
        if not pieces:
            return tuple(put_pieces(self.objects, day_s, split(new), most_rows=self.most_rows))
        resources = new.column("resource_id")
        made: list[Piece] = []
        for place, piece in enumerate(pieces):
            within = pa.array([True] * new.num_rows)
            if place:
                within = pc.greater_equal(resources, piece.first)
            if place + 1 < len(pieces):
                within = pc.and_(within, pc.less(resources, pieces[place + 1].first))
            some = new.filter(within)
            if not some.num_rows:
                made.append(piece)
                continue
            before = self._before(piece, found)
            made += put_pieces(self.objects, day_s, split(summed([before, some])), most_rows=self.most_rows)
        return tuple(made)

    def _before(self, piece: Piece, found: _Round) -> pa.Table:
        try:
            return read_piece(self.objects, piece)
        except (ObjectMissingError, ObjectDamagedError) as error:
            found.lost.append(f"{piece.rows:,} rows of {piece.key}: {error}")
            return SCHEMA.empty_table()

    def _pinned(self, index: CauseIndex, closed: Iterable[str]) -> CauseIndex:
        """Pin the days of closed months, and note it in the index. Nothing is added to a closed month."""
        new = sorted(set(closed) - set(index.pinned))
        for month in new:
            first_s, after_s = month_bounds_s(month)
            pin = CausePin(
                month=month,
                days={day_s: pieces for day_s, pieces in index.days.items() if first_s <= day_s < after_s},
                names={day_s: key for day_s, key in index.names.items() if first_s <= day_s < after_s},
                owners=self.owners(),
            )
            if pin.days:
                self.objects.put(pin.key, pin.to_json(), if_absent=True)
        return replace(index, pinned=(*index.pinned, *new))

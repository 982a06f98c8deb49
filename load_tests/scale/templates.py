"""Files of a region: one hour's files are written once; for every other hour, a few bytes are patched.

A file contains its hour only in its times and batch ids. These columns are uncompressed, so the bytes of one hour can
be replaced with as many bytes of another hour.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from load_tests.scale.region import (
    COMMIT_BATCHES,
    KINDS,
    LATE_DAYS,
    RECORDS_OF_A_KIND,
    ROUNDS,
    Region,
    account_id,
    kind,
)
from metering.intake.admission import SECOND_US
from metering.intake.formats.columns import arrow
from metering.lake.parquet.hour_rows import (
    BOOKED_HOUR,
    HOUR_SCHEMA,
    INSTANT,
    STAGING_SCHEMA,
    TEXT_COLUMNS,
    markers_metadata,
)
from metering.lake.parquet.usage_files import NAMES, USAGE_SCHEMA, usage_table
from metering.ledger.booked_hours import Pending, Pointer
from metering.ledger.commits import CommitRecord, Waiting
from metering.stores.objects import Ranges, staging_key
from metering.units import DAY_S, HOUR_S
from metering.usage.totals import Total, UsageKey, sum_totals

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from _typeshed import WriteableBuffer

# A prime, so that consecutive commits have different accounts.
_SPREAD = 7_919
_GROUP_DIGITS = 8
# Id prefix of commits that a run has taken and the cleaner has not cleaned yet.
KEPT = "z"


def batch_id(hour_s: int, round_: int, block: int) -> str:
    """Id of a batch. All ids have the same length, so that an hour's file can be patched into that of another hour."""
    return f"s-{hour_s // HOUR_S:08d}-{round_:02d}-{block:08d}"


@dataclass(frozen=True)
class Staging:
    """Commits of the hour after a region's last one, each with a late batch of an older hour.

    Attributes:
        commits: Number of commits, at most as many as an hour has.
        waiting: Whether the commits wait for the roll-up; if not, they are placed and pending.
        undue: Number of further pending commits that are not due, each of which has only its late hour left.
    """

    region: Region
    commits: int
    waiting: bool
    undue: int = 0

    @property
    def hour_s(self) -> int:
        return self.region.end_s

    @property
    def groups(self) -> int:
        """Commits of a round. Objects of different rounds have the same accounts."""
        return self.region.blocks // COMMIT_BATCHES

    @cached_property
    def ids(self) -> list[str]:
        """Ids of the commits, in ascending order."""
        return sorted(map(self.commit_id, range(self.commits)))

    @cached_property
    def _known(self) -> frozenset[str]:
        return frozenset(self.ids)

    def has(self, commit_id: str) -> bool:
        return commit_id in self._known

    def waits(self, commit_id: str) -> bool:
        return self.waiting and self.has(commit_id)

    def pends(self, commit_id: str) -> bool:
        return not self.waiting and self.has(commit_id)

    def commit_id(self, number: int) -> str:
        group = number * _SPREAD % self.groups
        return f"{number // self.groups % ROUNDS:02d}{group:0{_GROUP_DIGITS}d}{self.hour_s // HOUR_S:08d}"

    @staticmethod
    def group_of(commit_id: str) -> int:
        return 0 if commit_id.startswith(KEPT) else int(commit_id[2 : 2 + _GROUP_DIGITS])

    def blocks(self, group: int) -> list[int]:
        return [group + place * self.groups for place in range(COMMIT_BATCHES)]

    def late_hour_s(self, group: int) -> int:
        return self.hour_s - (1 + group % LATE_DAYS) * DAY_S

    def late_block(self, group: int) -> int:
        return group * 4 % self.region.blocks

    @cached_property
    def _totals(self) -> dict[int, dict[int, Total]]:
        return {}

    def totals(self, group: int) -> dict[int, Total]:
        """Rows and bytes of a commit by hour."""
        found = self._totals.get(group)
        if found is None:
            region = self.region
            found = self._totals[group] = {
                self.hour_s: sum_totals(map(region.batch_total, self.blocks(group))),
                self.late_hour_s(group): region.batch_total(self.late_block(group)),
            }
        return found

    def key(self, commit_id: str) -> str:
        return staging_key(commit_id, self.hour_s)

    def hours(self) -> set[int]:
        return {self.hour_s, *(self.hour_s - days * DAY_S for days in range(1, LATE_DAYS + 1))}

    def waiting_items(self) -> Iterator[Waiting]:
        yield from map(self.waiting_item, self.ids if self.waiting else ())

    def waiting_item(self, commit_id: str) -> Waiting:
        return Waiting(
            shard=0,
            commit_id=commit_id,
            totals=self.totals(self.group_of(commit_id)),
            staging_key=self.key(commit_id),
            created_at_ms=self.hour_s * 1_000,
            sent_at_ms=self.hour_s * 1_000,
        )

    def pending_item(self, commit_id: str) -> Pending:
        totals = self.totals(self.group_of(commit_id))
        return Pending(
            shard=0, commit_id=commit_id, hours=frozenset(totals), totals=totals, created_at_ms=self.hour_s * 1_000
        )

    def pending_items(self) -> Iterator[Pending]:
        yield from map(self.pending_item, self.ids if not self.waiting else ())
        total = self.region.batch_total(0)
        hours = [self.hour_s - days * DAY_S - HOUR_S for days in range(1, LATE_DAYS + 1)]
        for number in range(self.undue):
            totals = {self.hour_s - HOUR_S: total, hours[number % LATE_DAYS]: total}
            yield Pending(
                shard=0,
                commit_id=f"u{number:031d}",
                hours=frozenset([hours[number % LATE_DAYS]]),
                totals=totals,
                # Later than the clock of any process, so that the commit is not due.
                created_at_ms=(self.hour_s + DAY_S) * 1_000,
            )

    def pointers(self, hour_s: int) -> Iterator[Pointer]:
        for commit_id in self.ids if not self.waiting else ():
            pointer = self.pointer(commit_id, hour_s)
            if pointer is not None:
                yield pointer

    def pointer(self, commit_id: str, hour_s: int) -> Pointer | None:
        total = self.totals(self.group_of(commit_id)).get(hour_s)
        if total is None:
            return None
        return Pointer(
            hour_s=hour_s,
            commit_id=commit_id,
            shard=0,
            rows=total.records,
            bytes=total.bytes,
            staging_key=self.key(commit_id),
        )

    def commit(self, commit_id: str) -> CommitRecord:
        totals = self.totals(self.group_of(commit_id))
        total = sum_totals(totals.values())
        return CommitRecord(
            commit_id=commit_id,
            state="committed",
            hours=tuple(sorted(totals)),
            staging_key=self.key(commit_id),
            rows=total.records,
            bytes=total.bytes,
            created_at_ms=self.hour_s * 1_000,
        )


_GROUP_ROWS = 512 * 1024
_RESOURCES = 40
# Files that list where an hour is stored in a template: in times, and in batch ids.
_SUFFIXES = (".times", ".batches")
# Templates are written for this hour. No other number in a file consists of the same bytes.
_TEMPLATE_HOUR_S = 480_001 * HOUR_S
# Deviations of single records from the mean.
_DELTAS = [sign * 3_571 * (place + 1) for place in range(RECORDS_OF_A_KIND // 2) for sign in (1, -1)]

# Account, kind number, round and block of a batch, which identify the batch's records of that kind.
_Part = tuple[int, int, int, int]
# Rounds and blocks of batches, by booked hour.
Batches = Mapping[int, Sequence[tuple[int, int]]]


class Templates:
    """Templates of a region in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        # Cache for the file that was last opened; the cache's memory does not count for a job.
        self._found: tuple[tuple[int, int], list[array[int]]] | None = None

    def write(self, region: Region, *, rows: bool, totals: bool) -> None:
        """Write the requested files of an hour: `rows`, `totals` or both."""
        for days in range(LATE_DAYS + 1):
            for number in range(region.files_of(days)):
                parts = list(_parts(region, days, number))
                if rows and parts:
                    self._write_rows(region, parts, self._name("rows", days, number))
                if totals and parts:
                    self._write_totals(region, parts, self._name("totals", days, number))

    def _name(self, what: str, days: int, number: int) -> Path:
        return self._folder / f"{what}-{days}-{number}"

    def write_staging(self, staging: Staging, markers: Callable[[Batches], bytes] | None = None) -> None:
        """Write the staging objects of commits; commits of the same group of accounts share one object.

        Args:
            staging: The commits.
            markers: Marker lines of an object's batches; without it, objects lack markers.
        """
        for group in sorted({staging.group_of(commit_id) for commit_id in staging.ids}):
            late = [(0, staging.late_block(group))]
            batches = {
                staging.late_hour_s(group): late,
                staging.hour_s: [(0, block) for block in staging.blocks(group)],
            }
            lines = b"" if markers is None else markers(batches)
            write_staged(self._folder / f"staging-{group}.parquet", staging.region, batches, lines)

    def staging(self, group: int) -> bytes:
        return (self._folder / f"staging-{group}.parquet").read_bytes()

    def rows(self, hour_s: int, days: int, number: int) -> bytes:
        """Lake file of an hour with rows that are `days` days late."""
        return _of_hour(self._name("rows", days, number).read_bytes(), hour_s)

    def totals(self, hour_s: int, days: int, number: int) -> bytes:
        """The totals of a lake file of an hour with rows that are `days` days late."""
        return _of_hour(self._name("totals", days, number).read_bytes(), hour_s)

    def open_rows(self, hour_s: int, days: int, number: int, *, read: Callable[[int, int], None]) -> Ranges:
        """Stream a lake file without keeping its content; `read` is called with each range's first byte and size."""
        return _Patched(self._name("rows", days, number), self._places(days, number), _marks(hour_s), read)

    def size_bytes(self, days: int, number: int) -> int:
        return self._name("rows", days, number).stat().st_size

    def _places(self, days: int, number: int) -> list[array[int]]:
        """Positions in a template that identify its hour."""
        known = self._found
        if known is not None and known[0] == (days, number):
            return known[1]
        found = [array("q"), array("q")]
        for places, suffix in zip(found, _SUFFIXES, strict=True):
            places.frombytes(self._name("rows", days, number).with_suffix(suffix).read_bytes())
        self._found = (days, number), found
        return found

    def _write_rows(self, region: Region, parts: list[_Part], path: Path) -> None:
        columns = _columns(region, parts, _TEMPLATE_HOUR_S)
        table = pa.table([columns[name] for name in HOUR_SCHEMA.names], schema=HOUR_SCHEMA)
        plain = ("start_time", "end_time", "batch_id")
        with pq.ParquetWriter(
            path,
            HOUR_SCHEMA,
            compression=_compression(HOUR_SCHEMA, plain),
            use_dictionary=[*TEXT_COLUMNS, "start_time", "end_time"],
            write_statistics=["account_id", "start_time"],
            dictionary_pagesize_limit=1 << 30,
            store_schema=False,
        ) as writer:
            for first in range(0, table.num_rows, _GROUP_ROWS):
                writer.write_table(table.slice(first, _GROUP_ROWS), row_group_size=_GROUP_ROWS)
        body = path.read_bytes()
        for mark, suffix in zip(_marks(_TEMPLATE_HOUR_S), _SUFFIXES, strict=True):
            path.with_suffix(suffix).write_bytes(_places_of(mark, body).tobytes())

    def _write_totals(self, region: Region, parts: list[_Part], path: Path) -> None:
        found: dict[tuple[int, int], int] = {}
        for account, number, _, _ in parts:
            found[account, number] = found.get((account, number), 0) + RECORDS_OF_A_KIND
        rows = [
            (
                UsageKey(_TEMPLATE_HOUR_S, account_id(account), *kind(number)),
                Total(records * region.record_bytes(account, number), records),
            )
            for (account, number), records in sorted(found.items())
        ]
        with pq.ParquetWriter(
            path,
            USAGE_SCHEMA,
            compression=_compression(USAGE_SCHEMA, ("hour",)),
            use_dictionary=[*NAMES, "hour", "corrects"],
            write_statistics=["account_id", "usage_type", "hour"],
            store_schema=False,
        ) as writer:
            writer.write_table(usage_table(rows), row_group_size=64 * 1024)


def write_staged(path: Path, region: Region, batches: Batches, markers: bytes) -> None:
    """Write a staging object."""
    with pq.ParquetWriter(
        path,
        STAGING_SCHEMA,
        compression="zstd",
        use_dictionary=[field.name for field in STAGING_SCHEMA if pa.types.is_dictionary(field.type)],
        write_statistics=[BOOKED_HOUR],
        store_schema=False,
    ) as writer:
        for hour_s, some in batches.items():
            parts = [(*key, round_, block) for round_, block in some for key in region.keys(block)]
            columns = _columns(region, parts, hour_s)
            columns["resource_id"] = columns["resource_id"].cast(pa.string())
            columns[BOOKED_HOUR] = pa.repeat(pa.scalar(hour_s, pa.int64()), len(columns["bytes"]))
            writer.write_table(pa.table([columns[n] for n in STAGING_SCHEMA.names], schema=STAGING_SCHEMA))
        if markers:
            writer.add_key_value_metadata(markers_metadata(markers))


def _compression(schema: pa.Schema, plain: Iterable[str]) -> Mapping[str, str]:
    return {name: "none" if name in plain else "zstd" for name in schema.names}


def _of_hour(body: bytes, hour_s: int) -> bytes:
    for old, new in zip(_marks(_TEMPLATE_HOUR_S), _marks(hour_s), strict=True):
        body = body.replace(old, new)
    return body


def _marks(hour_s: int) -> tuple[bytes, bytes]:
    """Bytes of a file that identify its hour."""
    return (hour_s * SECOND_US).to_bytes(8, "little"), batch_id(hour_s, 0, 0)[:11].encode()


def _places_of(mark: bytes, body: bytes) -> array[int]:
    places = array("q")
    place = body.find(mark)
    while place >= 0:
        places.append(place)
        place = body.find(mark, place + len(mark))
    return places


class FileRanges(Ranges):
    """A file whose content is not kept; `read` is called with each range's first byte and size."""

    def __init__(self, path: Path, *, read: Callable[[int, int], None]) -> None:
        super().__init__(path.stat().st_size)
        self._path = path
        self._tell = read

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        view = memoryview(buffer).cast("B")
        first = self._position
        with self._path.open("rb", buffering=0) as file:
            file.seek(first)
            size = file.readinto(view) or 0
        self._patch(view, first, size)
        if size:
            self._tell(first, size)
        self._position += size
        return size

    def _patch(self, view: memoryview, first: int, size: int) -> None:
        """Change nothing."""


class _Patched(FileRanges):
    """A template that is read as another hour's file."""

    def __init__(
        self, path: Path, places: list[array[int]], marks: tuple[bytes, bytes], read: Callable[[int, int], None]
    ) -> None:
        super().__init__(path, read=read)
        self._places = places
        self._marks = marks

    def _patch(self, view: memoryview, first: int, size: int) -> None:
        for places, mark in zip(self._places, self._marks, strict=True):
            for number in range(bisect_left(places, first - len(mark) + 1), bisect_left(places, first + size)):
                place = places[number] - first
                low, high = max(0, place), min(size, place + len(mark))
                view[low:high] = mark[low - place : high - place]


def _parts(region: Region, days: int, file: int) -> Iterator[_Part]:
    """The parts, by account and kind, of the batches in a file with rows that are `days` days late."""
    for account in range(region.accounts):
        for number in range(KINDS):
            block = (account * KINDS + number) % region.blocks
            for round_ in region.rounds_in(days, file):
                if region.late_days(round_, block) == days:
                    yield account, number, round_, block


def _columns(region: Region, parts: list[_Part], hour_s: int) -> dict[str, pa.Array]:
    """Rows of some parts of batches as columns of the lake's schema."""
    accounts, kinds, resources, batches = array("i"), array("i"), array("i"), array("i")
    sizes = array("q")
    names: dict[tuple[int, int], int] = {}
    for account, number, round_, block in parts:
        accounts.extend([account] * RECORDS_OF_A_KIND)
        kinds.extend([number] * RECORDS_OF_A_KIND)
        first = (round_ * RECORDS_OF_A_KIND) % _RESOURCES
        resources.extend(range(account * _RESOURCES + first, account * _RESOURCES + first + RECORDS_OF_A_KIND))
        batches.extend([names.setdefault((round_, block), len(names))] * RECORDS_OF_A_KIND)
        size = region.record_bytes(account, number)
        sizes.extend([size + delta for delta in _DELTAS])
    every_kind = [kind(number) for number in range(KINDS)]
    moments = pa.repeat(pa.scalar(hour_s * SECOND_US, pa.int64()), len(sizes)).cast(INSTANT)
    kind_index = pa.array(kinds, pa.int32())
    return {
        "account_id": _dictionary(accounts, [account_id(account) for account in range(region.accounts)]),
        "service": _texts(kind_index, [each.service for each in every_kind]),
        "resource_id": _dictionary(
            resources, [f"i-{n * 2_654_435_761 % 2**68:017x}" for n in range(region.accounts * _RESOURCES)]
        ),
        "direction": _texts(kind_index, ["out"] * KINDS),
        "from_location": _texts(kind_index, [each.from_location for each in every_kind]),
        "to_location": _texts(kind_index, [each.to_location for each in every_kind]),
        "usage_type": _texts(kind_index, [each.usage_type for each in every_kind]),
        "bytes": arrow(sizes),
        "start_time": moments,
        "end_time": moments,
        "batch_id": _dictionary(batches, [batch_id(hour_s, *name) for name in names]),
    }


def _dictionary(index: array[int], values: list[str]) -> pa.Array:
    """A dictionary array with only the used values, like a file's dictionaries."""
    used = sorted(set(index))
    places = dict(zip(used, range(len(used)), strict=True))
    indices = pa.array([places[value] for value in index], pa.int32())
    return pa.DictionaryArray.from_arrays(indices, pa.array([values[value] for value in used], pa.string()))


def _texts(index: pa.Array, values: list[str]) -> pa.Array:
    distinct = list(dict.fromkeys(values))
    places = pa.array([distinct.index(value) for value in values], pa.int32())
    return pa.DictionaryArray.from_arrays(places.take(index), pa.array(distinct, pa.string()))

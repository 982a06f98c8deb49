"""Ports of the lake: encode rows for staging, write lake files, read rows back; totals of lake files, frozen months."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, cast

from metering.stores.objects import hour_of_lake_key
from metering.units import HOUR_S
from metering.usage.totals import Service, Total, UsageKey, UsageKind, UsageType

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from metering.intake.batches import RecordRows
    from metering.ledger.booked_hours import LakeFile, RowSource
    from metering.ledger.periods import FrozenHour, FrozenMonth


# Columns of a lake file, in order (docs/contract.md). Staging objects also have `booked_hour`.
LAKE_COLUMNS = (
    "account_id",
    "service",
    "resource_id",
    "direction",
    "from_location",
    "to_location",
    "usage_type",
    "bytes",
    "start_time",
    "end_time",
    "batch_id",
)
# The hour of a record's own start, in epoch seconds. Readers can group by this column although no file contains it.
OWN_HOUR = "own_hour"
# Columns of a usage key, without its booked hour.
USAGE_COLUMNS = ("account_id", "usage_type", "service", "from_location", "to_location", OWN_HOUR)

# A commit with at most this many rows in an hour has most rows in other hours, or is small: it is read in part.
FEW_ROWS = 5_000

# Values of a group, in the order of the query's columns: strings, and an int for `own_hour`.
Group = tuple[str | int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeSlice:
    """A slice of time: the rows whose time lies in `[from_s, to_s)`, epoch seconds.

    The time of a row is the start of its transfer. The time of a correction (a row not booked in the hour of its start)
    is the start of its booked hour, so adjacent slices contain each row exactly once.
    """

    from_s: int
    to_s: int

    def parts(self, hour_s: int) -> bool:
        """Whether the slice begins or ends inside a booked hour, so it may take only some of the hour's rows."""
        return hour_s < self.from_s < hour_s + HOUR_S or hour_s < self.to_s < hour_s + HOUR_S

    def takes_corrections(self, hour_s: int) -> bool:
        """Whether the slice contains the corrections that are booked in an hour."""
        return self.from_s <= hour_s < self.to_s

    def takes(self, start_s: int, hour_s: int) -> bool:
        """Whether the slice contains a row that starts at `start_s` and is booked in `hour_s`."""
        own = hour_s <= start_s < hour_s + HOUR_S
        return self.from_s <= start_s < self.to_s if own else self.takes_corrections(hour_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class RowQuery:
    """A query for sums over rows, by groups.

    Attributes:
        columns: Lake columns or `own_hour` to group by, in order; if empty, all rows form one group.
        where: Column -> values that a row may have in this column. Row groups that cannot match are skipped.
        times: Slice of time to which rows of partly covered hours are limited; None for all rows of the sources.
    """

    columns: tuple[str, ...] = ()
    where: tuple[tuple[str, frozenset[str]], ...] = ()
    times: TimeSlice | None = None


USAGE_QUERY = RowQuery(columns=USAGE_COLUMNS)
BATCH_QUERY = RowQuery(columns=("batch_id",))


def usage_of(hour_s: int, groups: Mapping[Group, Total]) -> dict[UsageKey, Total]:
    """Usage of a booked hour from the groups of `USAGE_QUERY`. Rows whose own hour differs are corrections."""
    return dict(usage_in(hour_s, groups.items()))


def usage_in(hour_s: int, groups: Iterable[tuple[Group, Total]]) -> Iterator[tuple[UsageKey, Total]]:
    """Like `usage_of`, but yields one usage key after the other."""
    rows = cast("Iterable[tuple[tuple[str, UsageType, Service, str, str, int], Total]]", groups)  # its columns
    for (account_id, usage_type, service, from_location, to_location, own_hour_s), total in rows:
        corrects_s = None if own_hour_s == hour_s else own_hour_s
        yield UsageKey(hour_s, account_id, usage_type, service, from_location, to_location, corrects_s), total


def batches_of(groups: Mapping[Group, Total]) -> dict[str, Total]:
    """Totals by batch id from the groups of `BATCH_QUERY`."""
    return {str(batch_id): total for (batch_id,), total in groups.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class StagedBatch:
    """A batch's rows to be written into a staging object.

    Attributes:
        rebooked: Own hour -> booked hour, for records of closed months. All other records are booked in their own hour.
    """

    batch_id: str
    rows: RecordRows
    rebooked: Mapping[int, int]


class RowCodec(Protocol):
    """Turns rows into staging objects. Implemented with Parquet in production, with plain rows in the simulation."""

    def encode(self, batches: Sequence[StagedBatch], markers: bytes = b"") -> bytes:
        """Content of one staging object: all rows with `batch_id` and booked hour, sorted by booked hour.

        Args:
            batches: The rows of each batch.
            markers: The batches' markers (`encode_lines`), which the object contains beside its rows (P50).
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class MergedFile:
    """A lake file that is ready for upload. `rows`, `bytes` and `summary` were counted while the file was written.

    Attributes:
        summary: Content of the object with the file's totals, one row per usage key.
        markers: Content of the object with the markers of batches, as found in the staging objects; possibly empty.
    """

    content: bytes | Path
    summary: bytes
    markers: bytes | Path
    rows: int
    bytes: int


class LakeWriter(Protocol):
    """Writes lake files from staging objects. Parquet in production, plain rows in the simulation."""

    def merge(
        self,
        hour_s: int,
        staging_keys: Sequence[str],
        *,
        plan_key: str,
        in_part: Collection[str] = frozenset(),
        markers_of: Collection[str] = frozenset(),
    ) -> AbstractContextManager[MergedFile]:
        """Write one lake file with all rows of the staging objects that are booked in `hour_s`, sorted.

        The content exists until the `with` block ends. Memory use is independent of the number of rows.

        Args:
            hour_s: Start of the hour.
            staging_keys: Keys of the objects.
            plan_key: Key of the plan by which the file is made, which the file names.
            in_part: Keys of objects with few rows of the hour; these objects need not be read completely.
            markers_of: Keys of the objects whose markers are also needed.

        Raises:
            ObjectMissingError: An object is gone.
            ObjectDamagedError: An object cannot be decoded.
        """


class StagedUsage(Protocol):
    """Sums the rows of staging objects. Implemented with Parquet in production, with plain rows in the simulation."""

    def usage(self, staging_key: str) -> dict[UsageKey, Total]:
        """Usage of a whole staging object, by booked hour, key and `corrects` (P7).

        Raises:
            ObjectMissingError: It is gone.
            ObjectDamagedError: It cannot be decoded.
        """


class StagedMarkers(Protocol):
    """Reads the markers of staging objects. Implemented like `StagedUsage`."""

    def markers(self, staging_key: str) -> bytes:
        """Markers of the object's batches (`encode_lines`); empty if an earlier release wrote the object (P50).

        Raises:
            ObjectMissingError: It is gone.
            ObjectDamagedError: It cannot be decoded.
        """


class UsageRows(Protocol):
    """Usage of an hour: each usage key once, in the order used in files and digests (`usage_digest.row_place`).

    Rows become Python objects a few at a time, so an hour of millions of keys needs little memory beyond its columns.
    """

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[tuple[UsageKey, Total]]: ...


class LakeReader(Protocol):
    """Reads rows of lake files and staging objects."""

    def totals(self, sources: Sequence[RowSource], query: RowQuery) -> dict[Group, Total]:
        """Exact totals of the sources' rows by the query's columns. The totals are counted from rows.

        Raises:
            ObjectMissingError: An object is gone.
            ObjectDamagedError: An object cannot be decoded.
        """

    def groups(self, sources: Sequence[RowSource], query: RowQuery) -> Iterator[tuple[Group, Total]]:
        """Like `totals`, but yields each group once, in any order, for callers that do not keep the groups.

        Raises:
            ObjectMissingError, ObjectDamagedError: As for `totals`, but raised before the first group is yielded.
        """

    def parts(self, sources: Sequence[RowSource], query: RowQuery) -> Iterator[tuple[Group, Total]]:
        """Like `totals`, but for parts of the rows, so memory holds few groups. A group may occur many times.

        Raises:
            ObjectMissingError, ObjectDamagedError: As for `totals`; groups yielded before the error are then invalid.
        """

    def hour_usage(
        self,
        hour_s: int,
        sources: Sequence[RowSource],
        *,
        batches: Callable[[Iterator[tuple[Group, Total]]], None] | None = None,
    ) -> UsageRows:
        """Usage of an hour, counted from its rows.

        Args:
            hour_s: Start of the hour.
            sources: All of this hour.
            batches: Receives the groups of `BATCH_QUERY`, source by source, during the same read, so that each source
                is read only once. A batch with rows in several sources is passed several times. After an error, the
                groups passed so far are invalid.

        Raises:
            ObjectMissingError, ObjectDamagedError: As `totals`.
        """


class TotalsReader(Protocol):
    """Reads the totals of a lake file, one line per usage key, without reading its rows."""

    def of(self, file: LakeFile) -> Iterator[tuple[UsageKey, Total]]:
        """Totals of a file, by account and key.

        The totals come from the object stored beside the file. If that object is missing, damaged, or does not match
        the file's rows and bytes, the totals are counted from the rows.

        Raises:
            ObjectMissingError: The file itself is missing.
            ObjectDamagedError: The file itself cannot be decoded.
        """

    def summed(self, files: Sequence[LakeFile]) -> UsageRows:
        """Sum of the totals of some files of one hour.

        Raises:
            ObjectMissingError, ObjectDamagedError: As `of`.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageFile:
    """An object of a frozen month that is ready for upload.

    Attributes:
        rows: Number of rows; each row is a usage key of an hour or of a day.
        digest: Digest of the object's ordered rows (`usage_digest`), not of its bytes.
    """

    content: bytes | Path
    rows: int
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MonthFiles:
    """The two objects of a whole month.

    Attributes:
        accounts: All rows of the month's hours, sorted by account, key, `corrects` and hour.
        days: The same rows, summed by day: a row's hour is the first hour of its day.
    """

    accounts: UsageFile
    days: UsageFile


@dataclass(frozen=True, slots=True, kw_only=True)
class DayBatch:
    """Some day totals of a closed month, in columns, sorted by account, key, `corrects` and day.

    Attributes:
        key: Each row's index in `keys`.
        corrects_s: Hour that each row corrects, epoch seconds; None if the row is not a correction.
        day_s: Start of the day in which each row is booked, epoch seconds.
    """

    keys: Sequence[UsageKind]
    account_id: Sequence[str]
    key: Sequence[int]
    corrects_s: Sequence[int | None]
    day_s: Sequence[int]
    bytes: Sequence[int]
    records: Sequence[int]


def rows_of_days(batches: Iterable[DayBatch]) -> Iterator[tuple[UsageKey, Total]]:
    """The rows of batches one by one; a key's hour is the first hour of its day."""
    for batch in batches:
        columns = (batch.account_id, batch.key, batch.corrects_s, batch.day_s, batch.bytes, batch.records)
        for account_id, place, corrects_s, day_s, size, records in zip(*columns, strict=True):
            kind: UsageKind = batch.keys[place]
            yield UsageKey(day_s, account_id, *kind, corrects_s), Total(size, records)


class FrozenReader(Protocol):
    """Reads the totals of a closed month. Nothing holds the month.

    All methods raise ObjectMissingError if an object is missing, and ObjectDamagedError if it cannot be decoded.
    """

    def hour(
        self, frozen: FrozenMonth, hour_s: int, accounts: Collection[str] | None = None
    ) -> Iterator[tuple[UsageKey, Total]]:
        """Totals of some accounts (None: all) in a booked hour, by account, key and `corrects`."""

    def account_rows(self, frozen: FrozenMonth, account_ids: Collection[str]) -> Iterator[tuple[UsageKey, Total]]:
        """Totals of some accounts in all hours, by account, key, `corrects` and hour.

        Of the month's object, only row groups that may have rows of the accounts are read.
        """

    def days(self, frozen: FrozenMonth, accounts: Collection[str] | None = None) -> Iterator[DayBatch]:
        """Daily totals of some accounts (None: all), by account, key, `corrects` and day, in batches."""


class FrozenFiles(FrozenReader, Protocol):
    """Makes and measures the objects of a closed month."""

    def hour_file(self, rows: UsageRows) -> UsageFile:
        """The object of one hour: one row per usage key, sorted by account, key and `corrects`."""

    def month_files(self, hours: Iterable[FrozenHour]) -> AbstractContextManager[MonthFiles]:
        """The objects of a whole month, made from the objects of its hours by an external sort.

        The contents exist until the `with` block ends. Memory use does not grow with the month's size.

        Raises:
            ObjectMissingError: The object of an hour is missing.
            ObjectDamagedError: An object cannot be decoded, or its rows do not match its digest.
        """

    def measured(self, key: str) -> UsageMeasure:
        """Digest, number of rows and total of an object of a closed month, as measured now.

        Raises:
            ObjectMissingError: The object is gone.
            ObjectDamagedError: It cannot be decoded.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageMeasure:
    """Measured content of an object of a closed month."""

    rows: int
    digest: str
    total: Total


class CountedTotals:
    """`TotalsReader` that counts rows."""

    def __init__(self, lake: LakeReader) -> None:
        self._lake = lake

    def of(self, file: LakeFile) -> Iterator[tuple[UsageKey, Total]]:
        yield from self.summed([file])

    def summed(self, files: Sequence[LakeFile]) -> UsageRows:
        hour_s = (hour_of_lake_key(files[0].key) if files else 0) or 0
        return self._lake.hour_usage(hour_s, [file.source(hour_s) for file in files])


# Digest of usage rows: SHA-256 of a text that any program can produce from the rows, whatever the file format.
#
# Each row is one tab-separated line: hour, account, usage type, service, from, to, `corrects`, bytes, records. Times
# are epoch seconds, and `corrects` is empty in a row that is not a correction. Names have no control characters
# (record_rules), so different rows always give different lines. The lines of an hour are sorted by `row_place`.


SEPARATOR = "\t"

Place = tuple[str, UsageType, Service, str, str, int, int]


def row_place(key: UsageKey) -> Place:
    """Sort key of a row among the rows of a month: account, usage type, service, from, to, `corrects`, hour.

    Rows that are not corrections come before corrections. Strings sort by code point, as in UTF-8.
    """
    corrects_s = -1 if key.corrects_s is None else key.corrects_s
    return key.account_id, key.usage_type, key.service, key.from_location, key.to_location, corrects_s, key.hour_s


def in_order(usage: Mapping[UsageKey, Total]) -> list[tuple[UsageKey, Total]]:
    """Usage as rows, in the order used in files and digests."""
    return sorted(usage.items(), key=lambda entry: row_place(entry[0]))


def usage_digest(rows: Iterable[tuple[UsageKey, Total]]) -> str:
    """Hex SHA-256 of rows in the given order."""
    digest = hashlib.sha256()
    for (hour_s, account_id, usage_type, service, from_location, to_location, corrects_s), total in rows:
        corrects = "" if corrects_s is None else corrects_s
        digest.update(
            f"{hour_s}\t{account_id}\t{usage_type}\t{service}\t{from_location}\t{to_location}\t{corrects}"
            f"\t{total.bytes}\t{total.records}\n".encode()
        )
    return digest.hexdigest()

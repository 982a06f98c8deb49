"""The sums of one day: bytes of each account and kind of usage, and by the hour of each kind over all accounts.

A gzip file of lines of JSON. The first line is the head: the lake files that are counted, the kinds of usage, and their
bytes by the hour. Each line after it is an account, in order: `["123456789012", [[0, "4096"], …]]`, with the number of
a kind and its bytes. Bytes are text, because numbers of JSON end at 2^53. Nothing holds the accounts of a day.
"""

from __future__ import annotations

import gzip
import hashlib
import heapq
import io
import json
import zlib
from dataclasses import dataclass
from itertools import chain, groupby
from operator import attrgetter
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from metering.billing.usage.months import Accounts, Late, Sold, Solds, UsageLine, line_of, merged
from metering.errors import ObjectDamagedError
from metering.hours import date_of, hour_label
from metering.ledger.booked_hours import LakeFile
from metering.ledger.notes.checks import CANARY_ACCOUNT_ID
from metering.stores.fields import Fields
from metering.units import DAY_S, HOUR_S
from metering.usage.totals import Service, Total, UsageKey, UsageKind, UsageType

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from metering.billing.day_sums.index import DayIndex
    from metering.lake.ports import TotalsReader
    from metering.stores.objects import ObjectStore


_SCHEMA = "metering.rated-day/1"
# Level 6 compresses in a third of the time of level 9, into files that are a few percent larger.
_LEVEL = 6
ACCOUNT_ID = slice(2, 14)
HOURS = 24
# Columns of a usage kind in a stored file. The stored order is not that of the class's fields.
_KIND = ("service", "usage_type", "from_location", "to_location")


@dataclass(frozen=True, slots=True, kw_only=True)
class DayHead:
    """The head of a day's sums.

    Attributes:
        files: Lake files whose rows are in the sums, by their hour.
        kinds: Kinds of usage; accounts name them by their place.
        hours: Bytes of each kind in each hour of the day, over all accounts.
    """

    day_s: int
    files: Mapping[int, tuple[LakeFile, ...]]
    kinds: tuple[UsageKind, ...]
    hours: tuple[tuple[int, ...], ...]

    @property
    def counted(self) -> frozenset[str]:
        return frozenset(file.key for files in self.files.values() for file in files)


class AccountDay(NamedTuple):
    """Bytes of one account by the place of their kind."""

    account_id: str
    sums: Mapping[int, int]


def empty_day(day_s: int) -> DayHead:
    """The head of a day without usage."""
    return DayHead(day_s=day_s, files={}, kinds=(), hours=())


def day_body(head: DayHead, accounts: Iterable[AccountDay]) -> bytes:
    """Content of the object. `accounts` are in order. Equal sums give equal bytes."""
    lines = ([each.account_id, [[place, str(size)] for place, size in sorted(each.sums.items())]] for each in accounts)
    return lines_body(chain([_head_value(head)], lines))


def lines_body(lines: Iterable[object]) -> bytes:
    """A gzip file with a line of JSON for each value. No more than a line is held."""
    sink = io.BytesIO()
    with gzip.GzipFile(fileobj=sink, mode="wb", compresslevel=_LEVEL, mtime=0) as file:
        for line in lines:
            file.write(json.dumps(line, separators=(",", ":")).encode() + b"\n")
    return sink.getvalue()


def account_lines(body: bytes) -> Iterator[bytes]:
    """Lines of such a file after the first. The id of an account is at `ACCOUNT_ID` of its line."""
    with gzip.GzipFile(fileobj=io.BytesIO(body), mode="rb") as file:
        file.readline()
        yield from file


def head_fields(body: BinaryIO, key: str, schema: str) -> Fields:
    """The first line of such a file; no more of the stream is read.

    Raises:
        ObjectDamagedError: It cannot be decompressed.
        LedgerCorruptError: It is something else.
    """
    try:
        with gzip.GzipFile(fileobj=body, mode="rb") as file:
            fields = Fields.of_json(file.readline(), key)
    except (OSError, EOFError, zlib.error) as error:
        raise ObjectDamagedError(key, str(error)) from error
    fields.one_of("schema", (schema,))
    return fields


def digest_of(body: bytes) -> str:
    """Hex SHA-256, which names the object."""
    return hashlib.sha256(body).hexdigest()


class DayReader:
    """Reads a day's sums; accounts are decoded while the caller iterates."""

    def __init__(self, body: bytes, key: str) -> None:
        self._body = body
        self.head = head_of(io.BytesIO(body), key)

    def accounts(self, wanted: frozenset[str] | None = None) -> Iterator[AccountDay]:
        for line in account_lines(self._body):
            if wanted is None or line[ACCOUNT_ID].decode() in wanted:
                account_id, sums = json.loads(line)
                yield AccountDay(account_id, {place: int(size) for place, size in sums})


def head_of(body: BinaryIO, key: str) -> DayHead:
    """The head of a day's sums. Raises as `head_fields`."""
    fields = head_fields(body, key, _SCHEMA)
    files: dict[int, tuple[LakeFile, ...]] = {}
    for row in fields.rows("files", ("hour", "key", "rows", "bytes")):
        file = LakeFile(key=row.text("key"), rows=row.whole("rows"), bytes=row.decimal("bytes"))
        hour_s = row.hour("hour")
        files[hour_s] = (*files.get(hour_s, ()), file)
    names = [f"{hour:02d}" for hour in range(HOURS)]
    return DayHead(
        day_s=fields.hour_named(f"{fields.text('day')}T00"),
        files=files,
        kinds=tuple(map(_kind_of, fields.rows("kinds", _KIND))),
        hours=tuple(tuple(row.decimal(name) for name in names) for row in fields.rows("hours", names)),
    )


def _head_value(head: DayHead) -> dict[str, object]:
    files = [
        [hour_label(hour_s), file.key, file.rows, str(file.bytes)]
        for hour_s, files in sorted(head.files.items())
        for file in files
    ]
    return {
        "schema": _SCHEMA,
        "day": date_of(head.day_s),
        "files": files,
        "kinds": [[getattr(kind, name) for name in _KIND] for kind in head.kinds],
        "hours": [[str(size) for size in sizes] for sizes in head.hours],
    }


def _kind_of(row: Fields) -> UsageKind:
    service, usage_type, from_location, to_location = map(row.text, _KIND)
    return UsageKind(UsageType(usage_type), Service(service), from_location, to_location)


class DayAddition:
    """Adds to one day. Mutable: fill it, then ask for the day's new sums.

    Corrections of closed months are left out, because they count in the month of their use. So is the canary.
    """

    def __init__(self, head: DayHead) -> None:
        self._head = head
        self._files: dict[int, tuple[LakeFile, ...]] = dict(head.files)
        self._places: dict[UsageKind, int] = {kind: place for place, kind in enumerate(head.kinds)}
        self._hours: list[list[int]] = [list(sizes) for sizes in head.hours]
        self._accounts: dict[str, dict[int, int]] = {}

    def add(self, hour_s: int, file: LakeFile, totals: Iterable[tuple[UsageKey, Total]]) -> None:
        """Add the totals of a lake file of an hour of this day."""
        hour = (hour_s - self._head.day_s) // HOUR_S
        self._files[hour_s] = (*self._files.get(hour_s, ()), file)
        for key, total in totals:
            if key.corrects_s is not None or key.account_id == CANARY_ACCOUNT_ID:
                continue
            place = self._place(key.kind)
            sums = self._accounts.setdefault(key.account_id, {})
            sums[place] = sums.get(place, 0) + total.bytes
            self._hours[place][hour] += total.bytes

    def head(self) -> DayHead:
        hours = tuple(map(tuple, self._hours))
        return DayHead(day_s=self._head.day_s, files=self._files, kinds=tuple(self._places), hours=hours)

    def accounts(self, before: Iterable[AccountDay]) -> Iterator[AccountDay]:
        """Accounts of the new sums, in order."""
        added = (AccountDay(account_id, sums) for account_id, sums in sorted(self._accounts.items()))
        both = heapq.merge(before, added, key=attrgetter("account_id"))
        for account_id, parts in groupby(both, key=attrgetter("account_id")):
            yield AccountDay(account_id, _sum(part.sums for part in parts))

    def _place(self, kind: UsageKind) -> int:
        place = self._places.setdefault(kind, len(self._places))
        if place == len(self._hours):
            self._hours.append([0] * HOURS)
        return place


def _sum(parts: Iterable[Mapping[int, int]]) -> Mapping[int, int]:
    first, *others = parts
    if not others:
        return first
    summed = dict(first)
    for part in others:
        for place, size in part.items():
            summed[place] = summed.get(place, 0) + size
    return summed


@dataclass(frozen=True, slots=True, kw_only=True)
class SummedMonth:
    """A `RegionMonth` of published usage, without staging. Corrections of earlier months are not kept here.

    Attributes:
        index: The version of the sums that every call sees.
    """

    region: str
    month: str
    index: DayIndex
    objects: ObjectStore
    totals: TotalsReader
    digest: str = ""

    @property
    def days(self) -> Mapping[int, str]:
        return self.index.of_month(self.month)

    def day(self, day_s: int) -> DayReader | None:
        """The sums of a day, of this month or another; None if there are none."""
        key = self.index.days.get(day_s)
        return None if key is None else DayReader(self.objects.get(key), key)

    def head(self, day_s: int) -> DayHead | None:
        """Head of a day, of this month or another; None without sums. Only the beginning of its object is read."""
        key = self.index.days.get(day_s)
        if key is None:
            return None
        with self.objects.open(key) as body:
            return head_of(body, key)

    def accounts(self) -> Iterator[str]:
        return iter(sorted({account.account_id for day_s in self.days for account in self._read(day_s).accounts()}))

    def day_lines(self, accounts: Accounts = None) -> Iterator[UsageLine]:
        for day_s in self.days:
            day = self._read(day_s)
            kinds = day.head.kinds
            for account_id, sums in day.accounts(accounts):
                for place, size in sums.items():
                    usage_type, service, from_location, to_location = kinds[place]
                    yield UsageLine(day_s, account_id, service, usage_type, from_location, to_location, size)

    def hour_lines(
        self, accounts: Accounts = None, *, day_s: int | None = None, sold: Solds = None
    ) -> Iterator[UsageLine]:
        for each in self.days if day_s is None else [day_s]:
            for hour_s in sorted(self._files(each)):
                yield from self.lines_of_hour(hour_s, accounts, sold)

    def lines_of_hour(self, hour_s: int, accounts: Accounts = None, sold: Solds = None) -> Iterator[UsageLine]:
        """Lines of one hour, in the order of rating. Only its files are read."""
        files = self._files(hour_s - hour_s % DAY_S).get(hour_s, ())
        return merged(heapq.merge(*(sorted(self._lines(file, accounts, sold)) for file in files)))

    def parts_of_day(self, day_s: int, accounts: Accounts = None) -> Iterator[UsageLine]:
        """Lines of a day by the hour, unordered, a key and hour once for each file."""
        for files in self._files(day_s).values():
            for file in files:
                yield from self._lines(file, accounts, None)

    def late(self, accounts: Accounts = None) -> Iterator[Late]:
        del accounts
        return iter(())

    def _files(self, day_s: int) -> Mapping[int, tuple[LakeFile, ...]]:
        head = self.head(day_s)
        return {} if head is None else head.files

    def _read(self, day_s: int) -> DayReader:
        key = self.index.days[day_s]
        return DayReader(self.objects.get(key), key)

    def _lines(self, file: LakeFile, accounts: Accounts, sold: Solds) -> Iterator[UsageLine]:
        for key, total in self.totals.of(file):
            if key.corrects_s is not None or key.account_id == CANARY_ACCOUNT_ID:
                continue
            if accounts is not None and key.account_id not in accounts:
                continue
            if sold is None or Sold(key.service, key.usage_type) in sold:
                yield line_of(key, total)

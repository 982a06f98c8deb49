"""The usage of one day, summed by account and kind, and the accounts of a month, which one read lists.

Day sums and account lists are gzip files of JSON lines. The head of a day lists the counted lake files, the kinds of
usage, and their bytes by hour over all accounts. Each further line describes one account: `["123456789012", [[0,
"4096"], …]]`, with the number of each kind of usage and its bytes. Bytes are stored as strings, because JSON numbers
are exact only up to 2^53. The accounts of a day are never all in memory at once.

The head of a list of accounts has the month and, for each counted hour, the total. Each further line describes one
account: `["123456789012", "4096", 12, 1764000000, 1764003600]`: its id, its bytes, its records, and the first and the
last hour of its usage, in epoch seconds; then, if there are any, bytes and records of processing, which are not in the
others. Unlike the day sums, the list includes the canary, and books corrections in
the month of their booking: the sum over all accounts equals that of the lake files, to the byte.
"""

from __future__ import annotations

import gzip
import hashlib
import heapq
import io
import json
import zlib
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from functools import reduce
from itertools import chain, groupby
from operator import attrgetter
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from metering.audit.verification import EVERY_ACCOUNT, Difference
from metering.billing.day_sums.index import FORM, DayIndex, DayIndexes, KeptAccounts
from metering.billing.usage.months import Accounts, Late, Sold, Solds, UsageLine, line_of, merged
from metering.errors import LedgerCorruptError, ObjectDamagedError, ObjectMissingError
from metering.hours import date_of, hour_label, month_bounds_s, month_of
from metering.lake.ports import LakeReader, RowQuery, TotalsReader
from metering.ledger.booked_hours import LakeFile, Published, RowSource, published_in
from metering.ledger.format_version import generations_of
from metering.ledger.notes.checks import CANARY_ACCOUNT_ID
from metering.stores import codec
from metering.stores.objects import ObjectStore, rated_accounts_key
from metering.units import DAY_S, HOUR_S
from metering.usage.totals import ZERO, Service, Total, UsageKey, UsageKind, UsageType, add_totals, sum_totals
from metering.usage.usage_types import is_processing

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from metering.stores import writes

_SCHEMA = "metering.rated-day/1"
# Level 6 compresses in a third of the time of level 9, into files that are a few percent larger.
_LEVEL = 6
ACCOUNT_ID = slice(2, 14)
HOURS = 24
# Columns of a usage kind in a stored file. The file's column order differs from that of the class's fields.
_KIND = ("service", "usage_type", "from_location", "to_location")


@dataclass(frozen=True, slots=True, kw_only=True)
class DayHead:
    """The head of a day's sums.

    Attributes:
        files: Lake files whose rows are included in the sums, by hour.
        kinds: Kinds of usage; accounts refer to a kind by its index.
        hours: Bytes of each kind in each hour of the day, summed over all accounts.
    """

    day_s: int
    files: Mapping[int, tuple[LakeFile, ...]]
    kinds: tuple[UsageKind, ...]
    hours: tuple[tuple[int, ...], ...]

    @property
    def counted(self) -> frozenset[str]:
        return frozenset(file.key for files in self.files.values() for file in files)


class AccountDay(NamedTuple):
    """Bytes of one account, by the index of the usage kind."""

    account_id: str
    sums: Mapping[int, int]


def empty_day(day_s: int) -> DayHead:
    """The head of a day without usage."""
    return DayHead(day_s=day_s, files={}, kinds=(), hours=())


def day_body(head: DayHead, accounts: Iterable[AccountDay]) -> bytes:
    """Content of the object. `accounts` are in order. Equal sums give an equal body."""
    lines = ([each.account_id, [[place, str(size)] for place, size in sorted(each.sums.items())]] for each in accounts)
    return lines_body(chain([_head_value(head)], lines))


def lines_body(lines: Iterable[object]) -> bytes:
    """Make a gzip file of JSON lines, one line per value. Only one line is held in memory."""
    sink = io.BytesIO()
    with gzip.GzipFile(fileobj=sink, mode="wb", compresslevel=_LEVEL, mtime=0) as file:
        for line in lines:
            file.write(json.dumps(line, separators=(",", ":")).encode() + b"\n")
    return sink.getvalue()


def account_lines(body: bytes) -> Iterator[bytes]:
    """Lines of a sums file that follow the head. In each line, the slice `ACCOUNT_ID` is the account id."""
    with gzip.GzipFile(fileobj=io.BytesIO(body), mode="rb") as file:
        file.readline()
        yield from file


def head_fields(body: BinaryIO, key: str, schema: str) -> codec.Fields:
    """Read the head of a sums file; of the stream, only the first line is read.

    Raises:
        ObjectDamagedError: It cannot be decompressed.
        LedgerCorruptError: It is something else.
    """
    try:
        with gzip.GzipFile(fileobj=body, mode="rb") as file:
            fields = codec.Fields.of_json(file.readline(), key)
    except (OSError, EOFError, zlib.error) as error:
        raise ObjectDamagedError(key, str(error)) from error
    fields.one_of("schema", (schema,))
    return fields


def digest_of(body: bytes) -> str:
    """Hex SHA-256 of a body, used in the object's key."""
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


def _kind_of(row: codec.Fields) -> UsageKind:
    service, usage_type, from_location, to_location = map(row.text, _KIND)
    return UsageKind(UsageType(usage_type), Service(service), from_location, to_location)


class DayAddition:
    """Adds to one day. Mutable: add files, then read the new sums of the day.

    Corrections of closed months are omitted, because day sums count corrections in their month of use. So is the
    canary.
    """

    def __init__(self, head: DayHead) -> None:
        self._head = head
        self._files: dict[int, tuple[LakeFile, ...]] = dict(head.files)
        self._places: dict[UsageKind, int] = {kind: place for place, kind in enumerate(head.kinds)}
        self._hours: list[list[int]] = [list(sizes) for sizes in head.hours]
        self._accounts: dict[str, dict[int, int]] = {}

    def add(self, hour_s: int, file: LakeFile, totals: Iterable[tuple[UsageKey, Total]]) -> None:
        """Add the totals of a lake file to an hour of this day."""
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
    """Published usage as a `RegionMonth`, without rows in staging. Corrections of earlier months are not included.

    Attributes:
        index: Version of the index that all calls read.
        bodies: Day sums that the index names and no bucket has (`SumsNow`), by key.
    """

    region: str
    month: str
    index: DayIndex
    objects: ObjectStore
    totals: TotalsReader
    digest: str = ""
    bodies: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def days(self) -> Mapping[int, str]:
        return self.index.of_month(self.month)

    def day(self, day_s: int) -> DayReader | None:
        """The sums of a day in any month; None if the day has no sums."""
        return self._read(day_s) if day_s in self.index.days else None

    def head(self, day_s: int) -> DayHead | None:
        """Head of a day in any month; None if the day has no sums. Only the object's first line is read."""
        key = self.index.days.get(day_s)
        if key is None:
            return None
        made = self.bodies.get(key)
        with self.objects.open(key) if made is None else io.BytesIO(made) as body:
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
        """Lines of one hour, in the order of rating. Only the hour's lake files are read."""
        files = self._files(hour_s - hour_s % DAY_S).get(hour_s, ())
        return merged(heapq.merge(*(sorted(self._lines(file, accounts, sold)) for file in files)))

    def parts_of_day(self, day_s: int, accounts: Accounts = None) -> Iterator[UsageLine]:
        """Hourly lines of a day, unordered: one line per key, hour and lake file."""
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
        made = self.bodies.get(key)
        return DayReader(self.objects.get(key) if made is None else made, key)

    def _lines(self, file: LakeFile, accounts: Accounts, sold: Solds) -> Iterator[UsageLine]:
        for key, total in self.totals.of(file):
            if key.corrects_s is not None or key.account_id == CANARY_ACCOUNT_ID:
                continue
            if accounts is not None and key.account_id not in accounts:
                continue
            if sold is None or Sold(key.service, key.usage_type) in sold:
                yield line_of(key, total)


_ACCOUNTS_SCHEMA = "metering.month-accounts/2"
# Number of lines that are decoded together. Decoding them individually takes three times as long.
_LINES = 4_096


class AccountSum(NamedTuple):
    """Usage of an account in a month.

    Attributes:
        bytes, records: Usage without processing.
        first_s, last_s: The first and the last hour with usage, epoch seconds.
        processed_bytes, processed_records: Processing, a second count of bytes.
    """

    account_id: str
    bytes: int
    records: int
    first_s: int
    last_s: int
    processed_bytes: int = 0
    processed_records: int = 0

    @property
    def whole(self) -> Total:
        """All usage, as rows of the lake have it."""
        return Total(self.bytes + self.processed_bytes, self.records + self.processed_records)

    def plus(self, other: AccountSum) -> AccountSum:
        return AccountSum(
            self.account_id,
            self.bytes + other.bytes,
            self.records + other.records,
            min(self.first_s, other.first_s),
            max(self.last_s, other.last_s),
            self.processed_bytes + other.processed_bytes,
            self.processed_records + other.processed_records,
        )


def account_sum(account_id: str, total: Total, hour_s: int, *, processing: bool) -> AccountSum:
    """Usage of an account in an hour, which is processing or not."""
    if processing:
        return AccountSum(account_id, 0, 0, hour_s, hour_s, total.bytes, total.records)
    return AccountSum(account_id, total.bytes, total.records, hour_s, hour_s)


def merged_accounts(sums: Iterable[AccountSum]) -> Iterator[AccountSum]:
    """Merge sums that are sorted by account into one sum per account."""
    return (reduce(AccountSum.plus, same) for _, same in groupby(sums, key=attrgetter("account_id")))


def _add(sums: dict[str, AccountSum], added: AccountSum) -> None:
    known = sums.get(added.account_id)
    sums[added.account_id] = added if known is None else known.plus(added)


def accounts_body(month: str, hours: Mapping[int, Total], sums: Iterable[AccountSum]) -> bytes:
    """Content of the object. `sums` are in order. Equal sums give an equal body."""
    head = [[hour_label(hour_s), str(total.bytes), total.records] for hour_s, total in sorted(hours.items())]
    return lines_body(chain([{"schema": _ACCOUNTS_SCHEMA, "month": month, "hours": head}], map(_account_line, sums)))


def _account_line(each: AccountSum) -> list[object]:
    line: list[object] = [each.account_id, str(each.bytes), each.records, each.first_s, each.last_s]
    return [*line, str(each.processed_bytes), each.processed_records] if each.processed_records else line


def accounts_key(month: str, body: bytes) -> str:
    """Key of the object; different sums have different keys."""
    return rated_accounts_key(month, hashlib.sha256(body).hexdigest())


class AccountsReader:
    """Reads the accounts of a month; they are decoded while the caller iterates.

    Raises:
        ObjectDamagedError: The content does not match the key's hash, or is not a list of accounts.
    """

    def __init__(self, body: bytes, key: str) -> None:
        self._body = body
        self._key = key
        try:
            fields = head_fields(io.BytesIO(body), key, _ACCOUNTS_SCHEMA)
            self.month = fields.text("month")
            self.hours: Mapping[int, Total] = {
                row.hour("hour"): Total(row.decimal("bytes"), row.whole("records"))
                for row in fields.rows("hours", ("hour", "bytes", "records"))
            }
        except LedgerCorruptError as error:
            raise ObjectDamagedError(key, str(error)) from error
        if accounts_key(self.month, body) != key:
            raise ObjectDamagedError(key, "its content is another one than its name says")

    def accounts(self, wanted: frozenset[str] | None = None, *, prefix: str = "") -> Iterator[AccountSum]:
        """Accounts in order; None selects all accounts. Only accounts are read whose ids begin with `prefix`."""
        lines: list[bytes] = []
        begins = prefix.encode()
        for line in account_lines(self._body):
            account_id = line[ACCOUNT_ID]
            if account_id.startswith(begins) and (wanted is None or account_id.decode() in wanted):
                lines.append(line)
                if len(lines) == _LINES:
                    yield from _sums(lines)
                    lines.clear()
        yield from _sums(lines)


def _sums(lines: list[bytes]) -> Iterator[AccountSum]:
    for account_id, size, records, first_s, last_s, *processed in json.loads(b"[%b]" % b",".join(lines)):
        yield AccountSum(account_id, int(size), records, first_s, last_s, *map(int, processed))


# A month's list of accounts covers whole days, named in the index beside the key. A day may be missing because an
# earlier release summed it or the object was lost. The day is filled in from the lake files that its day sums name.


if TYPE_CHECKING:
    Entries = Iterable[tuple[UsageKey, Total]]


# A deleted list of accounts is rebuilt if its month is one of this many newest months.
_LOOKED_AFTER = 3


class MonthAddition:
    """Adds lake files to the accounts of one month; `days` are the first hours of the covered days. Mutable."""

    def __init__(self, before: AccountsReader | None, days: frozenset[int]) -> None:
        self.days = set(days)
        self.changed = False
        self._before = before
        self._hours: dict[int, Total] = {} if before is None else dict(before.hours)
        self._sums: dict[str, AccountSum] = {}

    def add(self, hour_s: int, totals: Mapping[tuple[str, bool], Total]) -> None:
        """Add the accounts of one lake file of an hour: processing and other usage, by account and whether it is that.

        The accounts must cover the hour's day.
        """
        self.changed = True
        for (account_id, processing), total in totals.items():
            _add(self._sums, account_sum(account_id, total, hour_s, processing=processing))
        self._hours[hour_s] = self._hours.get(hour_s, ZERO).plus(sum_totals(totals.values()))

    def cover(self, day_s: int, day: MonthAddition) -> None:
        self.changed = True
        self.days.add(day_s)
        add_totals(self._hours, day._hours)
        for added in day._sums.values():
            _add(self._sums, added)

    def body(self, month: str) -> bytes:
        before = () if self._before is None else self._before.accounts()
        both = heapq.merge(before, (self._sums[account_id] for account_id in sorted(self._sums)))
        return accounts_body(month, self._hours, merged_accounts(both))


class AccountTurn:
    """Adds lake files to months' accounts, as `DaySumKeeper` does to days' sums. Mutable: call `fill`, then `put`."""

    def __init__(self, index: DayIndex, objects: ObjectStore, totals: TotalsReader) -> None:
        self._index = index
        self._objects = objects
        self._totals = totals
        self._months: dict[str, MonthAddition] = {}
        newest = sorted(index.accounts.items())[-_LOOKED_AFTER:]
        self._lost = {kept.key for _, kept in newest if objects.head(kept.key) is None}

    def counting(self, hour_s: int, totals: Entries) -> Entries:
        """Yields the totals of a lake file. If the month's accounts cover the file's day, they add the totals."""
        day_s = hour_s - hour_s % DAY_S
        month = self._month(day_s)
        if day_s not in self._index.days:
            # This is the day's first file, because nothing of the day was counted before.
            month.days.add(day_s)
        return _told(month, hour_s, totals) if day_s in month.days else totals

    def fill(self, days: Mapping[int, str], *, most_files: int) -> bool:
        """Add days that are not covered yet; returns whether all days are covered.

        Args:
            days: First hour of each day of the region -> key of the day's sums, including the days of this round.
            most_files: Number of lake files; once so many are added, no further day is added.
        """
        for day_s, key in sorted(days.items(), reverse=True):
            if self._covers(day_s):
                continue
            if most_files <= 0:
                return False
            with suppress(ObjectMissingError, ObjectDamagedError):
                # Day sums expire after a retention period. An expired day stays empty; its month has no list.
                most_files -= self._add_day(key)
        return True

    def put(self) -> dict[str, KeptAccounts]:
        """Store the accounts of changed months; returns the accounts of every month, for the index."""
        made: dict[str, KeptAccounts] = dict(self._index.accounts)
        for month, addition in self._months.items():
            before = made.get(month)
            if not addition.changed and before is not None and before.days == addition.days:
                continue
            body = addition.body(month)
            key = accounts_key(month, body)
            self._objects.put(key, body, if_absent=False)
            made[month] = KeptAccounts(key=key, days=frozenset(addition.days))
        return made

    def _covers(self, day_s: int) -> bool:
        month = month_of(day_s)
        if month in self._months:
            return day_s in self._months[month].days
        kept = self._index.accounts.get(month)
        return kept is not None and kept.form == FORM and day_s in kept.days and kept.key not in self._lost

    def _add_day(self, key: str) -> int:
        """Add all of the day whose sums are at `key`, or nothing; returns the number of the day's lake files."""
        with self._objects.open(key) as body:
            head = head_of(body, key)
        day = MonthAddition(None, frozenset())
        for hour_s, files in head.files.items():
            for file in files:
                deque(_told(day, hour_s, self._totals.of(file)), maxlen=0)
        self._month(head.day_s).cover(head.day_s, day)
        return sum(map(len, head.files.values()))

    def _month(self, day_s: int) -> MonthAddition:
        month = month_of(day_s)
        if month not in self._months:
            self._months[month] = self._begun(month)
        return self._months[month]

    def _begun(self, month: str) -> MonthAddition:
        kept = self._index.accounts.get(month)
        if kept is not None and kept.form == FORM:
            try:
                return MonthAddition(AccountsReader(self._objects.get(kept.key), kept.key), kept.days)
            except (ObjectMissingError, ObjectDamagedError):
                # The list is derived data: all its days are filled in again.
                pass
        return MonthAddition(None, frozenset())


def _told(month: MonthAddition, hour_s: int, totals: Entries) -> Iterator[tuple[UsageKey, Total]]:
    """Yield the totals; after the last total, add all of them to the month."""
    sums: dict[tuple[str, bool], Total] = {}
    for entry in totals:
        key, total = entry
        place = key.account_id, is_processing(key.usage_type)
        known = sums.get(place)
        sums[place] = total if known is None else known.plus(total)
        yield entry
    month.add(hour_s, sums)


_BY_ACCOUNT = RowQuery(columns=("account_id", "usage_type"))


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountCheck:
    """Compares the accounts of months with published rows; this is the reconciler's fourth figure.

    Published rows never change, and the index records which of them are counted. One pass is therefore enough.
    """

    items: writes.ItemStore
    objects: ObjectStore
    reader: LakeReader

    def differences(self, *, from_s: int, to_s: int, deep: bool = False) -> list[Difference]:
        """Differences in hours of `[from_s, to_s)`, and between the accounts' sum and the hours' sum of each month.

        Args:
            from_s: First second of the hours that are compared.
            to_s: The second after them.
            deep: Whether to compare each account, too, for months that lie wholly in the range.

        Raises:
            UnavailableError: A read failed.
            LedgerCorruptError: A published item cannot be read.
        """
        try:
            index = DayIndexes(objects=self.objects).newest()
        except (LedgerCorruptError, ObjectMissingError):
            # Either the biller fails on the same error, with its own alarm, or it has just replaced the index.
            return []
        if not index.is_of(generations_of(self.items)):
            # The biller makes sums of before a restore anew (P41).
            return []
        found: list[Difference] = []
        for month, kept in sorted(index.accounts.items()):
            first_s, after_s = month_bounds_s(month)
            # The biller makes accounts of an older form anew.
            if kept.form == FORM and first_s < to_s and from_s < after_s:
                whole = deep and from_s <= first_s and (after_s <= to_s or after_s > max(kept.days) + DAY_S)
                found += self._month(month, kept, index, (from_s, to_s), deep=whole)
        return found

    def _month(
        self, month: str, kept: KeptAccounts, index: DayIndex, times: tuple[int, int], *, deep: bool
    ) -> Iterator[Difference]:
        days = sorted(day_s for day_s in kept.days if _is_whole(day_s, index))
        hours = [h for day_s in days for h in range(day_s, day_s + DAY_S, HOUR_S) if times[0] <= h < times[1]]
        published = {hour_s: self._published(hour_s, index) for hour_s in hours}
        reader = self._reader(kept)
        shown: Mapping[int, Total] = {} if reader is None else reader.hours
        for hour_s, sources in published.items():
            rows = Total(sum(source.bytes for source in sources), sum(source.rows for source in sources))
            if shown.get(hour_s, ZERO) != rows:
                yield _difference(hour_s, shown.get(hour_s, ZERO), rows)
        if reader is None:
            return
        of_accounts = sum_totals(each.whole for each in reader.accounts())
        of_hours = sum_totals(shown.values())
        if of_accounts != of_hours:
            yield _difference(month_bounds_s(month)[0], of_accounts, of_hours, account_id=EVERY_ACCOUNT)
        if deep and len(days) == len(kept.days):
            yield from self._by_account(month, reader, published)

    def _by_account(
        self, month: str, reader: AccountsReader, published: Mapping[int, list[RowSource]]
    ) -> Iterator[Difference]:
        counted: dict[str, AccountSum] = {}
        for hour_s, sources in published.items():
            for (account_id, name), total in self.reader.totals(sources, _BY_ACCOUNT).items():
                _add(counted, account_sum(str(account_id), total, hour_s, processing=is_processing(str(name))))
        kept = {each.account_id: each for each in reader.accounts()}
        for account_id in sorted(counted.keys() | kept.keys()):
            nothing = AccountSum(account_id, 0, 0, 0, 0)
            one, other = kept.get(account_id, nothing), counted.get(account_id, nothing)
            if one != other:
                yield _difference(month_bounds_s(month)[0], one.whole, other.whole, account_id=account_id)

    def _published(self, hour_s: int, index: DayIndex) -> list[RowSource]:
        """Lake files of an hour that were published by counted runs."""
        items = map(Published.from_item, published_in(self.items, hour_s))
        return [source for each in items if each.run <= index.runs.get(each.shard, 0) for source in each.sources]

    def _reader(self, kept: KeptAccounts) -> AccountsReader | None:
        try:
            return AccountsReader(self.objects.get(kept.key), kept.key)
        except (ObjectMissingError, ObjectDamagedError):
            return None


def _is_whole(day_s: int, index: DayIndex) -> bool:
    # Clocks differ, so an earlier run may have published rows of the first minutes of the first day.
    return not index.from_s or day_s > index.from_s


def _difference(hour_s: int, accounts: Total, rows: Total, *, account_id: str = "") -> Difference:
    return Difference(between="accounts/rows", hour_s=hour_s, account_id=account_id, expected=accounts, found=rows)

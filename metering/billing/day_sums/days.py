"""The sums of one day: bytes of each account and kind of usage, and by the hour of each kind over all accounts.

A gzip file of lines of JSON. The first line is the head: which lake files it has counted, the kinds of usage, and
their bytes by the hour. Each line after it is an account, in order: `["123456789012", [[0, "4096"], …]]`, with the
number of a kind and its bytes. Numbers of bytes are text, because those of JSON end at 2^53.
The line of an account is made and read alone, so that nothing holds the accounts of a day.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from metering.errors import ObjectDamagedError
from metering.hours import date_of, hour_label
from metering.ledger.booked_hours import LakeFile
from metering.stores.fields import Fields
from metering.usage.totals import Service, UsageKind, UsageType

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

_SCHEMA = "metering.rated-day/1"
# Level 6 takes a third of the time of level 9, for files that are a few percent larger.
_LEVEL = 6
HOURS = 24
# A kind as it is stored. The order is not that of its fields.
_KIND = ("service", "usage_type", "from_location", "to_location")


@dataclass(frozen=True, slots=True, kw_only=True)
class DayHead:
    """What a day's sums say of themselves.

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
        """Keys of the lake files that are in the sums."""
        return frozenset(file.key for files in self.files.values() for file in files)

    def bytes_of(self, place: int) -> int:
        """Bytes of a kind over the day and all accounts."""
        return sum(self.hours[place])


class AccountDay(NamedTuple):
    """Bytes of one account by the place of their kind."""

    account_id: str
    sums: Mapping[int, int]


EMPTY_HOURS = (0,) * HOURS


def empty_day(day_s: int) -> DayHead:
    """A day of which nothing is known."""
    return DayHead(day_s=day_s, files={}, kinds=(), hours=())


def day_body(head: DayHead, accounts: Iterable[AccountDay]) -> bytes:
    """Content of the object. `accounts` are in order. Equal sums give equal bytes."""
    sink = io.BytesIO()
    with gzip.GzipFile(fileobj=sink, mode="wb", compresslevel=_LEVEL, mtime=0) as file:
        file.write(_line(_head_value(head)))
        for account_id, sums in accounts:
            file.write(_line([account_id, [[place, str(size)] for place, size in sorted(sums.items())]]))
    return sink.getvalue()


def digest_of(body: bytes) -> str:
    """Hex SHA-256, which names the object."""
    return hashlib.sha256(body).hexdigest()


class DayReader:
    """Reads the sums of a day from the body of their object; the accounts are read while the caller iterates."""

    def __init__(self, body: bytes, key: str) -> None:
        self._body = body
        self.head = head_of(io.BytesIO(body), key)

    def accounts(self, wanted: frozenset[str] | None = None) -> Iterator[AccountDay]:
        """Accounts in order; only some of them, unless None."""
        with self._opened() as file:
            file.readline()
            for line in file:
                # The id of an account stands at the same place of every line.
                if wanted is None or line[2:14].decode() in wanted:
                    account_id, sums = json.loads(line)
                    yield AccountDay(account_id, {place: int(size) for place, size in sums})

    def _opened(self) -> gzip.GzipFile:
        return gzip.GzipFile(fileobj=io.BytesIO(self._body), mode="rb")


def head_of(body: BinaryIO, key: str) -> DayHead:
    """The head of a day's sums, from a stream of which no more than that is read.

    Raises:
        ObjectDamagedError: It cannot be decompressed.
        LedgerCorruptError: It is something else.
    """
    try:
        with gzip.GzipFile(fileobj=body, mode="rb") as file:
            line = file.readline()
    except (OSError, EOFError, zlib.error) as error:
        raise ObjectDamagedError(key, str(error)) from error
    return _head_of(Fields.of_json(line, key))


def _line(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"


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


def _head_of(fields: Fields) -> DayHead:
    fields.one_of("schema", (_SCHEMA,))
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


def _kind_of(row: Fields) -> UsageKind:
    return UsageKind(
        UsageType(row.text("usage_type")),
        Service(row.text("service")),
        row.text("from_location"),
        row.text("to_location"),
    )
